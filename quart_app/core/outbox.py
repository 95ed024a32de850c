"""Jobs that were opened while a request is being answered, and wait until the answer has left.

A task whose first line blocks must not delay the answer that announces it. So a start inside a
request is durable at once, but handed to the engine when the response is out, or as soon as
somebody waits for the job, or after `HOLD`. Nothing may live here that knows of HTTP.
"""

from __future__ import annotations

import asyncio
import contextvars

from quart_app.core.backlog import Backlog
from quart_app.domain.jobs import Job
from quart_app.domain.tasks import Task

HOLD = 0.25
"""Seconds after which a job that a view started runs although the view has not answered yet."""

OUTBOX: contextvars.ContextVar[Outbox | None] = contextvars.ContextVar("outbox", default=None)


class Outbox:
    """The jobs of one request, in order.

    Args:
        backlog: to which they go.
    """

    __slots__ = ("_backlog", "_held", "_timer", "closed")

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._held: list[tuple[Job, Task]] = []
        self._timer: asyncio.Task[None] | None = None
        self.closed = False

    def hold(self, job: Job, task: Task) -> None:
        """Keep a job back until `flush`."""
        self._held.append((job, task))
        self._backlog.held.add(job.id)

    def hold_briefly(self) -> None:
        """Flush after `HOLD` at the latest: the view may itself wait for what the job does."""
        if self._timer is None:
            self._timer = asyncio.create_task(self._later(), context=contextvars.Context())

    async def _later(self) -> None:
        await asyncio.sleep(HOLD)
        self._timer = None  # A long request (a stream, a WebSocket) may start another job.
        await self.flush()

    async def flush(self) -> None:
        """Hand over what is held."""
        held, self._held = self._held, []
        for job, task in held:
            await self._backlog.submit(job, task)

    async def close(self) -> None:
        """The answer has left: hand over what is held, and hold nothing any more."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self.flush()
