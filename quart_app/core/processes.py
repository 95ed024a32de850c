"""Processes for ``run="process"`` functions: killable, spawned, ended with their parent.

pebble keeps the pool; this module maps one job to one slot of it. Canceling is in two steps: the
slot is marked and the process gets SIGTERM, upon which the function sees one CancelledError and can
clean up; what goes on past the grace is killed. Nothing may live here that knows of the store.

Spawn only: a forked child hides its parent's death and keeps its locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pebble import CONSTS, ProcessExpired, ProcessPool

from quart_app.core import child
from quart_app.core.child import Answer, Call
from quart_app.core.registry import Handle
from quart_app.core.slots import ASKED, KILLED, Slots
from quart_app.core.threads import Threads
from quart_app.domain.jobs import Progress

POLL = 0.1
"""Seconds between two looks at a process's progress, or at whether it is gone."""
GONE = 3
"""Looks at which a process is gone before we say so: pebble knows its exit status by then."""

# Ours end themselves at SIGTERM; one that cannot stands in C code, and there is no use in waiting.
CONSTS.term_timeout = 0.2


class ProcessDied(Exception):
    """The process of a job ended by itself: a crash, ``os._exit``, or the kernel's OOM killer."""


class Processes:
    """A pool that is made when the first job needs it.

    Args:
        count: processes, and so jobs at once.
        threads: where the pool is started, since spawning takes milliseconds.
    """

    def __init__(self, count: int, threads: Threads) -> None:
        self._count = count
        self._threads = threads
        self._free = list(range(count))
        self._pool: ProcessPool | None = None
        self._slots: Slots | None = None
        self._ending: threading.Thread | None = None
        self._lock = asyncio.Lock()

    async def _ready(self) -> tuple[ProcessPool, Slots]:
        async with self._lock:
            if self._pool is None or self._slots is None or not self._pool.active:
                self.close()
                slots, pool = await self._threads.call(self._make)
                self._slots, self._pool = slots, pool
            return self._pool, self._slots

    def _make(self) -> tuple[Slots, ProcessPool]:
        context = multiprocessing.get_context("spawn")
        slots = Slots(context, self._count)
        pool = ProcessPool(
            max_workers=self._count, initializer=child.start, initargs=(slots,), context=context
        )
        _ = pool.active  # Starts it.
        return slots, pool

    async def call(self, handle: Handle, call: Call, report: Callable[[Progress], None]) -> Answer:
        """Run a job's function in a process until it has really ended there.

        Args:
            handle: asked by others to stop; the process is then interrupted, later killed.
            call: what to run; its ``slot`` is filled in here.
            report: takes the progress that the process shows.

        Raises:
            ProcessDied: where the process ended by itself.
        """
        pool, slots = await self._ready()
        index = self._free.pop()
        try:
            slots.clear(index)
            slot = slots.array[index]
            future = pool.schedule(child.run, args=(call._replace(slot=index),))

            def kill() -> None:
                _signal(slot, KILLED)
                future.cancel()  # type: ignore[no-untyped-call]

            handle.enter(lambda: _signal(slot, ASKED), kill)
            return await _follow(pool, future, slots, index, report)
        finally:
            handle.leave()
            self._free.append(index)

    def close(self) -> None:
        """End every process, at once and without waiting for any."""
        pool, self._pool = self._pool, None
        if pool is None or self._slots is None:
            return
        self._slots.closing.value = 1
        pool.stop()  # type: ignore[no-untyped-call]
        self._ending = threading.Thread(
            target=pool.join, name="quart-app-processes-end", daemon=True
        )
        self._ending.start()

    def join(self) -> None:
        """Wait until closed processes are gone (blocking; for a thread, or the very end)."""
        if self._ending is not None:
            self._ending.join()


def _signal(slot: Any, stop: int) -> None:
    """Say to the process of a slot that its function is to stop, or itself to go."""
    slot.stop = stop
    # Read once: the process sets it to 0 when the function ends, and 0 would be all of us.
    pid = slot.pid
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


async def _follow(
    pool: ProcessPool,
    future: Future[Answer],
    slots: Slots,
    index: int,
    report: Callable[[Progress], None],
) -> Answer:
    """Pass progress on until the process has answered or is gone."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    future.add_done_callback(lambda _: _tell(loop, ended))
    slot, seen, pid, gone = slots.array[index], 0, 0, 0
    while not _is_over(future) and gone < GONE:
        try:
            async with asyncio.timeout(POLL):
                await (asyncio.sleep(POLL) if future.cancelled() else ended.wait())
        except TimeoutError:
            # A pool that broke or was closed says nothing of what it has not begun.
            gone = gone + 1 if (pid or not pool.active) and not _alive(pid) else 0
        pid = slot.pid or pid
        if (news := slots.read_progress(index, seen)) is not None:
            seen, progress = news
            report(progress)
    if future.cancelled():
        return Answer("canceled", message="the process was killed")
    if not future.done():
        future.cancel()
        message = "ended by itself, with status 0" if pid else "never began: the pool broke"
        raise ProcessDied(f"the process of the job {message}")
    try:
        return future.result()
    except ProcessExpired as error:
        message = f"the process of the job ended by itself, with status {error.exitcode}"
        raise ProcessDied(message) from None
    except BrokenProcessPool as error:
        raise ProcessDied(f"the process of the job was lost: the pool broke: {error}") from None


def _is_over(future: Future[Answer]) -> bool:
    """Whether the process has answered, or was stopped, or will never begin with this.

    A canceled future is done at once, but pebble takes note of it (and `wait` of that) only when
    the process has gone. Until then its slot must not be another job's.
    """
    return bool(wait([future], timeout=0).done)


def _tell(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(ended.set)
    except RuntimeError:  # The loop has closed: nobody waits any more.
        return


def _alive(pid: int) -> bool:
    if pid == 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
