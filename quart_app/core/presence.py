"""That this process is alive, said from a thread: a loop that a job blocks is not a dead process.

Nothing may live here that acts on what others say.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from quart_app.core.ports import SharedStore
from quart_app.domain.errors import StoreRefused, StoreUnavailable
from quart_app.domain.ids import new_id
from quart_app.domain.workers import Kind, Worker

logger = logging.getLogger("quart_app.upkeep")

BEATS = 4
"""How often a lease is renewed while it lasts: three of them may fail."""
AGAIN = 0.5
"""Seconds until a beat that failed is tried again; no more than the time between two."""
LEAVE = 1.0
"""Seconds that saying goodbye may take."""
SETTLED = 3.0
"""Seconds after which whoever lives has said so once the store is back, at least: a beat that was
under way has failed, and the next one has been kept."""


def this_process(kind: Kind = "web", only: tuple[str, ...] = ()) -> Worker:
    """A new `Worker` for the process that calls.

    >>> this_process().pid == os.getpid()
    True
    """
    return Worker(
        id=new_id(),
        host=socket.gethostname(),
        pid=os.getpid(),
        kind=kind,
        started_at=time.time(),
        only=only,
    )


class Presence:
    """Says that this process is alive.

    Args:
        make_store: a store of the thread's own, on the loop of the thread.
        describe: what the process says of itself; called in the thread.
        lease: seconds for which one beat holds.
    """

    def __init__(
        self, make_store: Callable[[], SharedStore], describe: Callable[[], Worker], lease: float
    ) -> None:
        self._make_store = make_store
        self._describe = describe
        self._lease = lease
        self._thread: threading.Thread | None = None
        self._stop: Callable[[bool], None] | None = None
        self._begun = threading.Event()
        self._until = 0.0
        self._since: float | None = None

    @property
    def doubt(self) -> float:
        """Seconds until this process may say of others that they are dead: it has to have reached
        the store for so long itself. Where it could not, perhaps nobody could; and who lived
        through that has to have the time to say so. Who was frozen has not reached it either, and
        perhaps all were."""
        since = self._since if self.alive else None
        now = time.monotonic()
        sure = (now if since is None else since) + max(self._lease, SETTLED)
        return max(0.0, sure - now)

    @property
    def alive(self) -> bool:
        """Whether others take this process for alive, as far as it can know."""
        return time.monotonic() < self._until

    async def start(self) -> None:
        """Begin; returns when the first beat has been kept, or after a lease without."""
        self._thread = threading.Thread(target=self._run, name="quart-app-presence", daemon=True)
        self._thread.start()
        await asyncio.to_thread(self._begun.wait, self._lease)

    async def stop(self, leave: bool) -> None:
        """End. Who does not ``leave`` counts as alive until the lease is over: its jobs may still
        run."""
        thread = self._thread
        if thread is not None and self._stop is not None:
            self._stop(leave)
            await asyncio.to_thread(thread.join, LEAVE + AGAIN)

    def abandon(self) -> None:
        """End, from whichever thread, without waiting."""
        if self._stop is not None:
            self._stop(False)

    def _run(self) -> None:
        asyncio.run(self._beat())

    async def _beat(self) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        leaves = False

        def stop(leave: bool) -> None:
            nonlocal leaves
            leaves = leave
            with contextlib.suppress(RuntimeError):  # The loop has ended by itself.
                loop.call_soon_threadsafe(ended.set)

        self._stop = stop
        store = self._make_store()
        try:
            await self._beat_until(ended, store)
            if leaves:
                with contextlib.suppress(StoreUnavailable, TimeoutError):
                    async with asyncio.timeout(LEAVE):
                        await store.leave(self._describe().id)
        finally:
            self._until = 0.0
            await store.close()

    async def _beat_until(self, ended: asyncio.Event, store: SharedStore) -> None:
        opened = False
        while not ended.is_set():
            wait = self._lease / BEATS
            since = time.monotonic()
            try:
                if not opened:
                    await store.open()
                    opened = True
                async with asyncio.timeout(max(AGAIN, wait)):  # Not as long as a dead server takes.
                    await store.beat(self._describe(), self._lease)
                if self._since is None or time.monotonic() > self._until:
                    self._since = time.monotonic()  # First: others ask meanwhile.
                self._until = since + self._lease
                self._begun.set()
            except (StoreUnavailable, StoreRefused, TimeoutError):
                self._since = None
                wait = min(AGAIN, wait)
            except Exception:
                # Whatever it is: a process that works must not fall silent for good.
                self._since = None
                logger.exception("it could not be said that this process is alive; once more")
                wait = min(AGAIN, wait)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await ended.wait()
