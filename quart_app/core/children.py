"""Jobs that a job starts: linked to it, and waited for without holding a place that they need.

Nothing may live here that runs a job: a child is a job like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

from quart_app.core.registry import Handle
from quart_app.core.reporter import REPORTER
from quart_app.core.service import Service
from quart_app.domain.errors import Draining, QueueFull, TaskFull
from quart_app.domain.jobs import Job
from quart_app.domain.options import NO_OPTIONS, Options
from quart_app.domain.tasks import Task

TOGETHER = 200
"""Children that are started at once: they share the store's writes."""
FULL, LONGEST = 0.05, 1.0
"""Seconds until a full queue is asked again: the first time, and at most."""


class Children:
    """The children of one attempt.

    Args:
        service: starts them.
        job: the parent.
    """

    __slots__ = ("_asked", "_job", "_service")

    def __init__(self, service: Service, job: Job) -> None:
        self._service = service
        self._job = job
        self._asked: Counter[str] = Counter()

    async def start(self, task: Task, args: bytes) -> str:
        """Start a child; its id comes back.

        Where the parent may have another attempt, that one gets the same child for the same
        arguments, and does not start it again. A full queue is waited for.
        """
        options = self._options(task, args)
        wait = FULL
        while True:
            try:
                job, _ = await self._service.start(task, args, options, parent=self._job.id)
                return job.id
            except Draining:
                await until_stopped(self._service)
                raise
            except (QueueFull, TaskFull):
                async with aside(self._service):
                    await asyncio.sleep(wait)
                wait = min(LONGEST, 2 * wait)

    def _options(self, task: Task, args: bytes) -> Options:
        if self._job.max_attempts == 1:
            return NO_OPTIONS
        asked = hashlib.blake2b(task.name.encode() + b"\0" + args, digest_size=12).hexdigest()
        self._asked[asked] += 1
        return Options(key=f"child/{self._job.id}/{asked}/{self._asked[asked]}")

    async def wait(self, ids: Sequence[str]) -> list[Job]:
        """Wait until all of these are over, or until one has not succeeded: then those that are
        not over are canceled, and waited for."""
        ended: dict[str, Job] = {}
        left = set(ids)
        nudge = asyncio.Event()

        def on_end(job: Job) -> None:
            if job.id in left:
                ended[job.id] = job
                left.discard(job.id)
                if not left or job.status != "succeeded":
                    nudge.set()

        service = self._service
        with service.hub.ends(on_end, left):  # Subscribe first: no ending is missed.
            for job_id in list(left):
                job = await service.get(job_id)
                if job.over:
                    on_end(job)
            async with aside(service):
                while left:
                    await nudge.wait()
                    nudge.clear()
                    if any(job.status != "succeeded" for job in ended.values()):
                        for job_id in list(left):
                            await service.cancel(job_id)
        return [ended[job_id] for job_id in ids]

    async def gather(self, children: Sequence[Any | Awaitable[Any]]) -> list[Any]:
        """What each child has returned; see `Context.gather`."""
        handles = await resolve(children)
        jobs = await self.wait([handle.id for handle in handles])
        for job in jobs:  # Not one that was only canceled because of another.
            if job.status == "failed":
                self._service.result(job)
        return [
            handle.read(self._service.result(job))
            for handle, job in zip(handles, jobs, strict=True)
        ]


@contextlib.asynccontextmanager
async def aside(service: Service) -> AsyncIterator[Handle | None]:
    """The job in which this is used waits: others may have its place meanwhile. Gives its handle.

    Outside a job it does nothing. Several waits at once in one job count as one.
    """
    reporter = REPORTER.get()
    handle = None if reporter is None else service.registry.get(reporter.job.id)
    task = None if reporter is None else service.catalog.get(reporter.job.task)
    if handle is None or task is None or not handle.inside:
        yield None
        return
    handle.waits += 1
    if handle.waits == 1:
        service.backlog.step_aside(handle.job_id, task.run)
    try:
        yield handle
    finally:
        handle.waits -= 1
        if handle.waits == 0:
            await service.backlog.step_back(handle.job_id, task.run)


async def until_stopped(service: Service) -> None:
    """A shutdown refuses what the job in which this is used needs to go on: it waits until it is
    asked to stop, and so ends as every other job that does not end in time.

    Outside a job it does nothing.
    """
    async with aside(service) as handle:
        if handle is not None:
            await service.wait(handle.job_id, None, lasts=True)


async def resolve(children: Sequence[Any | Awaitable[Any]]) -> list[Any]:
    """Handles of children, some of which are still being started: so many at once."""
    handles: list[Any] = []
    for first in range(0, len(children), TOGETHER):
        part = children[first : first + TOGETHER]
        started = iter(
            await asyncio.gather(*(each for each in part if isinstance(each, Awaitable)))
        )
        handles += [next(started) if isinstance(each, Awaitable) else each for each in part]
    return handles
