"""What a running job says of itself, on its way to the ledger: its progress and its log.

It is coalesced: at most ten times a second something is written. Of the progress that is always
the newest, of the log every line for which there is room. Nothing may live here that decides how
a job ends; statuses are the runner's outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from quart_app.core.drafts import Drafts, Log, lines_of
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Job, Progress
from quart_app.domain.secrets import redact

if TYPE_CHECKING:  # A job's process imports this module too, and none of the service.
    from quart_app.core.ledger import Ledger

logger = logging.getLogger("quart_app.jobs")

INTERVAL = 0.1
"""Seconds between two writes of what one job says."""
MESSAGE_CHARS = 200
"""Characters of a progress message that are kept."""


class Reporter(Log):
    """What one attempt says. Made for every job: it costs nothing until something is said.

    Args:
        ledger: who writes it.
        job: the claimed job.
        loop: on which it writes.
    """

    _newest: Progress | None = None
    _noted: Progress | None = None
    _drafts: Drafts | None = None
    _waiting = False
    _writing: asyncio.Task[None] | None = None
    _timer: asyncio.TimerHandle | None = None
    _last = -INTERVAL

    def __init__(self, ledger: Ledger, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        self._ledger = ledger
        self.job = job
        self._loop = loop

    def report(self, progress: Progress) -> None:
        """Take progress, from any thread."""
        # First what there is to write, then whether somebody will look. `_write` does the reverse,
        # so that nothing which a thread reports meanwhile is left lying.
        self._newest = progress
        if not self._waiting:
            self._wake()

    def log(self, level: str, text: str, at: float | None = None) -> None:
        if self.closed:
            return
        drafts = self._drafts
        if drafts is None:  # One step: several threads may be the first.
            drafts = self.__dict__.setdefault("_drafts", Drafts())
        moment = self._ledger.clock() if at is None else at
        drafts.add(level, lines_of(text, self.secrets), moment)
        if not self._waiting:
            self._wake()

    async def close(self) -> None:
        """Write what is still to be written. Nothing that is said later is taken."""
        self.end_lines()
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        await self._write()
        self._waiting = True  # Nobody need be woken any more.

    def _wake(self) -> None:
        self.used = True
        if self.closed:
            return
        self._waiting = True
        # The loop may have closed under a thread: nobody looks any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._schedule)

    def _schedule(self) -> None:
        if self.closed or self._timer is not None or self._writing is not None:
            return
        wait = self._last + INTERVAL - self._loop.time()
        if wait <= 0:
            self._begin()
        else:
            self._timer = self._loop.call_later(wait, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._last = self._loop.time()
        # Not in the job's context: what is logged by those who are told would be told again.
        context = contextvars.Context()
        self._writing = self._loop.create_task(self._write(), context=context)
        self._writing.add_done_callback(self._done, context=context)

    def _done(self, _: asyncio.Task[None]) -> None:
        self._writing = None
        if self._waiting:
            self._schedule()

    async def _write(self) -> None:
        self._waiting = False
        progress = self._newest
        drafts = None if self._drafts is None else self._drafts.take()
        if progress is not None and progress is not self._noted:
            self._noted = progress
            await self._try(self._note(progress))
        if drafts:
            await self._try(self._ledger.log(self.job, drafts))

    async def _try(self, write: Awaitable[object]) -> None:
        """What a job says never loses its end: at most a picture of its middle is missing."""
        try:
            await write
        except StoreUnavailable:
            pass
        except Exception:
            logger.exception("job %s: what it said could not be written", self.job.id)

    async def _note(self, progress: Progress) -> None:
        message = progress.message
        if message is not None and (self.secrets or len(message) > MESSAGE_CHARS):
            message = redact(message, self.secrets)[:MESSAGE_CHARS]
            progress = Progress(progress.current, progress.total, message)
        await self._ledger.note(self.job.id, attempt=self.job.attempt, progress=progress)


REPORTER: contextvars.ContextVar[Reporter | None] = contextvars.ContextVar("REPORTER", default=None)
"""That of the job in whose context we are."""
