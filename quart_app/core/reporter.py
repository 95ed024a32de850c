"""The progress of a running job, on its way to the ledger.

It is coalesced: at most ten notes a second are written, and the newest always is. Nothing may live
here that is not progress; statuses are the runner's outcome.
"""

from __future__ import annotations

import asyncio
import contextlib

from quart_app.core.ledger import Ledger
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Job, Progress

INTERVAL = 0.1
"""Seconds between two notes of progress of one job."""


class Reporter:
    """The progress of one attempt.

    Args:
        ledger: who writes them.
        job: the claimed job.
    """

    _newest: Progress | None = None
    _notes: set[asyncio.Task[None]] | None = None
    _timer: asyncio.TimerHandle | None = None
    _last = -INTERVAL
    _closed = False
    used = False
    """Whether `close` has anything to wait for."""

    def __init__(self, ledger: Ledger, job: Job) -> None:
        self._ledger = ledger
        self._job = job
        self._loop = asyncio.get_running_loop()

    def report(self, progress: Progress) -> None:
        """Take progress, from any thread."""
        waiting = self._newest is not None
        self._newest = progress
        self.used = True
        if not waiting:
            try:
                self._loop.call_soon_threadsafe(self._schedule)
            except RuntimeError:  # The loop has closed under a thread: nobody looks any more.
                return

    async def close(self) -> None:
        """Write what is still to be written."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._newest is not None:
            self._write()
        if self._notes:
            await asyncio.wait(self._notes)

    def _schedule(self) -> None:
        if self._closed or self._timer is not None:
            return
        wait = self._last + INTERVAL - self._loop.time()
        if wait <= 0:
            self._write()
        else:
            self._timer = self._loop.call_later(wait, self._write)

    def _write(self) -> None:
        self._timer = None
        self._last = self._loop.time()
        progress, self._newest = self._newest, None
        if self._notes is None:
            self._notes = set()
        self._notes.add(task := self._loop.create_task(self._note(progress)))
        task.add_done_callback(self._notes.discard)

    async def _note(self, progress: Progress | None) -> None:
        # A store in trouble loses no job's end, but it may lose a picture of its middle.
        with contextlib.suppress(StoreUnavailable):
            await self._ledger.note(self._job.id, attempt=self._job.attempt, progress=progress)
