"""The live handles of this process: how a running job is found, and how it is asked to stop.

Only what is running here, now, may live here; a job's record is the store's. A handle is opened
before the claim and closed after the outcome is written, so that there is no moment at which a
cancel finds nobody. It interrupts the job's asyncio task only while that is inside the user's
function: bookkeeping is never canceled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

logger = logging.getLogger("quart_app.jobs")

Stop = Literal["cancel", "timeout", "shutdown"]

STRENGTH: dict[Stop, int] = {"shutdown": 0, "timeout": 1, "cancel": 2}
"""Which of two reasons to stop counts: a person's cancel wins over a timeout or a shutdown."""


class Handle(msgspec.Struct, eq=False):
    """One running job. Every method runs on the event loop's thread.

    Args:
        job_id: whose handle this is.
        task: the asyncio task in which the runner works for the job.
        registry: knows the grace, and whom to tell when it is over.
    """

    # A struct: one is made for each job, and this way at the least cost.
    job_id: str
    task: asyncio.Task[None]
    _registry: Registry
    stop: Stop | None = None
    thread: int | None = None
    """In which thread the function runs, where it is one of its own."""
    seq: int = 0
    """That of the job's version with which its attempt has begun here; 0 before."""
    waits: int = 0
    on_close: Callable[[], None] | None = None
    """What is to be done at the end, where the function has waited for others."""
    timers: list[asyncio.TimerHandle] | None = None
    _interrupt: Callable[[], object] | None = None
    _escalate: Callable[[], object] | None = None

    @property
    def stopping(self) -> bool:
        """Whether the function has been asked to stop; safe to read from any thread."""
        return self.stop is not None

    @property
    def inside(self) -> bool:
        """Whether the function is running: it has begun, and has not ended."""
        return self._interrupt is not None

    def ask(self, reason: Stop) -> None:
        """Ask the function to stop. It is interrupted once, however often this is called."""
        first = self.stop is None
        if self.stop is None or STRENGTH[reason] > STRENGTH[self.stop]:
            self.stop = reason
        if first and self._interrupt is not None:
            self._begin_stop(self._interrupt)

    def enter(
        self, interrupt: Callable[[], object], escalate: Callable[[], object] | None = None
    ) -> None:
        """The function is about to run: how to interrupt it.

        Args:
            interrupt: asks it to stop.
            escalate: ends it by force when it goes on past the grace; None where nothing can.
        """
        self._interrupt = interrupt
        self._escalate = escalate
        if self.stop is not None:
            self._begin_stop(interrupt)

    def leave(self) -> None:
        """The function has ended: nothing may interrupt the bookkeeping that follows."""
        self._interrupt = None
        if self.timers is not None:
            for timer in self.timers:
                timer.cancel()
            self.timers = None

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call a function later, unless the job's function has ended by then."""
        if self.timers is None:
            self.timers = []
        self.timers.append(asyncio.get_running_loop().call_later(seconds, callback))

    def _begin_stop(self, interrupt: Callable[[], object]) -> None:
        interrupt()
        self.after(self._registry.grace, self._overdue)

    def _overdue(self) -> None:
        if self._escalate is not None:
            self._escalate()
        else:
            self._registry.on_overdue(self)


class Registry:
    """All handles by job id.

    Args:
        grace: seconds after which a job that was asked to stop counts as unresponsive.
    """

    def __init__(self, grace: float = 5.0) -> None:
        self._handles: dict[str, Handle] = {}
        self.on_overdue: Callable[[Handle], None] = lambda handle: None
        """Told of each job that goes on past the grace and cannot be ended by force."""
        self.grace = grace

    def open(self, job_id: str, task: asyncio.Task[None]) -> Handle | None:
        """A new handle, or None where the job is already running here."""
        if job_id in self._handles:
            return None
        handle = self._handles[job_id] = Handle(job_id, task, self)
        return handle

    def close(self, handle: Handle) -> None:
        """Forget a handle whose job is settled, and its timers."""
        if handle.timers is not None:
            handle.leave()
        if handle.on_close is not None:
            handle.on_close()
        del self._handles[handle.job_id]

    def get(self, job_id: str) -> Handle | None:
        """The handle of a job, if it runs here."""
        return self._handles.get(job_id)

    def find(self, task: object) -> Handle | None:
        """The handle whose asyncio task this is; for the watchdog, from another thread."""
        for handle in self.snapshot():
            if handle.task is task:
                return handle
        return None

    def snapshot(self) -> list[Handle]:
        """All handles at this moment, from whichever thread."""
        while True:
            try:
                return list(self._handles.values())
            except RuntimeError:  # pragma: no cover - only if the loop adds one meanwhile
                continue

    def __iter__(self) -> Iterator[Handle]:
        return iter(list(self._handles.values()))

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._handles

    def __len__(self) -> int:
        return len(self._handles)
