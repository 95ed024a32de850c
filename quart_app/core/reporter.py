"""The progress and the log of a running job, on their way to the ledger.

Both are coalesced: at most ten times a second something is written, the newest progress always is,
and so is every line as long as there are not too many. Nothing may live here that is a status;
those are the runner's outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections import deque

from quart_app.core.ledger import Ledger
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Draft, Job, Progress
from quart_app.domain.secrets import redact

INTERVAL = 0.1
"""Seconds between two writes of one job."""
LINES = 1_000
BYTES = 256 * 2**10
"""What waits between two writes: lines, and their characters."""
LINE_CHARS = 4_096
CUT = " ... (cut)"

REPORTER: contextvars.ContextVar[Reporter | None] = contextvars.ContextVar("reporter", default=None)
"""The reporter of the job that the current code works for."""


class Reporter:
    """The progress and the log of one attempt.

    Args:
        ledger: who writes them.
        job: the claimed job.
    """

    # Made for every job, also for those that report nothing: so all of this is made when needed.
    _newest: Progress | None = None
    _told: Progress | None = None
    _lines: deque[Draft] | None = None
    _size = 0
    _dropped = 0
    _scheduled = False
    _writing: asyncio.Task[None] | None = None
    _timer: asyncio.TimerHandle | None = None
    _last = -INTERVAL
    _closed = False
    _lock = threading.Lock()
    secrets: tuple[str, ...] = ()
    """What must not be shown, longest first."""
    used = False
    """Whether `close` has anything to wait for."""

    def __init__(self, ledger: Ledger, job: Job) -> None:
        self._ledger = ledger
        self.job = job
        self._loop = asyncio.get_running_loop()

    def report(self, progress: Progress) -> None:
        """Take progress, from any thread."""
        self._newest = progress
        if not self._scheduled:
            self._wake()

    def log(self, level: str, text: str, at: float | None = None) -> None:
        """Take lines of the log, from any thread.

        Args:
            level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
            text: one line or more; what is too long is cut.
            at: the moment, seconds since the epoch; now unless given.
        """
        moment = time.time() if at is None else at
        if self.secrets:
            text = redact(text, self.secrets)
        with self._lock:
            if self._lines is None:
                self._lines = deque()
            for line in text.splitlines() or [""]:
                shown = clean(line)
                self._lines.append((moment, level, shown))
                self._size += len(shown)
            while len(self._lines) > LINES or self._size > BYTES:
                self._size -= len(self._lines.popleft()[2])
                self._dropped += 1
        if not self._scheduled:
            self._wake()

    def _wake(self) -> None:
        self._scheduled = self.used = True
        with contextlib.suppress(RuntimeError):  # The loop has closed under a thread.
            self._loop.call_soon_threadsafe(self._schedule)

    async def close(self) -> None:
        """Write what is still to be written."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait({self._writing})
        await self._write()

    def _schedule(self) -> None:
        if self._closed or self._timer is not None:
            return
        wait = self._last + INTERVAL - self._loop.time()
        if wait <= 0 and (self._writing is None or self._writing.done()):
            self._begin()
        else:
            self._timer = self._loop.call_later(wait if wait > 0 else INTERVAL / 10, self._again)

    def _again(self) -> None:
        self._timer = None
        self._schedule()

    def _begin(self) -> None:
        self._last = self._loop.time()
        self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        """What has come since the last time. A store in trouble loses no job's end, but it may
        lose a picture of its middle."""
        self._scheduled = False  # What comes from here on asks for another write.
        progress = self._newest
        drafts = self._take_lines()
        with contextlib.suppress(StoreUnavailable):
            if drafts:
                await self._ledger.log(self.job, drafts)
        with contextlib.suppress(StoreUnavailable):
            if progress is not None and progress is not self._told:
                self._told = progress
                if self.secrets and progress.message:
                    message = redact(progress.message, self.secrets)
                    progress = Progress(progress.current, progress.total, message)
                attempt = self.job.attempt
                await self._ledger.note(self.job.id, attempt=attempt, progress=progress)

    def _take_lines(self) -> list[Draft]:
        if not self._lines:
            return []
        with self._lock:
            drafts, dropped = list(self._lines), self._dropped
            self._lines.clear()
            self._size = self._dropped = 0
        if dropped:
            said = f"{dropped} lines were dropped: more than can be kept"
            drafts.insert(0, (drafts[0][0], "warning", said))
        return drafts


def clean(line: str) -> str:
    """A line as it is kept: no control characters, no half characters, not too long.

    >>> clean("a\\x1b[31mb")
    'a?[31mb'
    """
    if not line.isprintable():
        line = "".join(each if each.isprintable() or each == "\t" else "?" for each in line)
    return line if len(line) <= LINE_CHARS else line[: LINE_CHARS - len(CUT)] + CUT
