"""Jobs that a job starts: linked to it, and waited for without holding a place that they need.

Nothing may live here that runs a job: a child is a job like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

from quart_app.core.registry import Handle
from quart_app.core.reporter import REPORTER
from quart_app.core.service import Service
from quart_app.domain.errors import Draining, NoSuchJob, QueueFull, TaskFull
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

    async def gather(self, children: Sequence[Any | Awaitable[Any]]) -> list[Any]:
        """What each child has returned; see `Context.gather`."""
        ends = _Ends(self._job.id)
        with self._service.hub.ends(ends.on_end, ends.left):  # First: no ending is missed.
            handles = await resolve(children)
            ends.expect([handle.id for handle in handles])
            await self._find(ends)
            await self._wait(ends)
        jobs = [ends.ended[handle.id] for handle in handles]
        for job in jobs:  # Not one that was only canceled because of another.
            if job.status == "failed":
                self._service.result(job)
        return [
            handle.read(self._service.result(job))
            for handle, job in zip(handles, jobs, strict=True)
        ]

    async def _find(self, ends: _Ends) -> None:
        """Those that had ended before anybody listened."""
        for job_id in list(ends.left):
            if job_id in ends.left:
                job = await self._service.store.get(job_id)
                if job is None and job_id in ends.left:
                    raise NoSuchJob(f"The record of job {job_id} expired before it was waited for")
                if job is not None and job.over:
                    ends.on_end(job)

    async def _wait(self, ends: _Ends) -> None:
        """Wait until all are over, or until one has not succeeded: then those that are not over
        are canceled, and waited for."""
        service = self._service
        async with aside(service):
            while ends.left:
                await ends.nudge.wait()
                ends.nudge.clear()
                if any(job.status != "succeeded" for job in ends.ended.values()):
                    for job_id in list(ends.left):
                        await service.cancel(job_id)


class _Ends:
    """How the jobs end that are waited for together.

    Args:
        parent: whose children most of them are. Of those each end is kept from the first moment on:
            one may be over, and forgotten, before its start has returned its id.
    """

    def __init__(self, parent: str) -> None:
        self._parent: str | None = parent
        self._early: dict[str, Job] = {}
        self.left: set[str] = set()
        self.ended: dict[str, Job] = {}
        self.nudge = asyncio.Event()
        """Set when all have ended, or one has not succeeded."""

    def on_end(self, job: Job) -> None:
        """A subscriber of the endings."""
        if job.id in self.left:
            self.ended[job.id] = job
            self.left.discard(job.id)
            if not self.left or job.status != "succeeded":
                self.nudge.set()
        elif self._parent is not None and job.parent == self._parent:
            self._early[job.id] = job

    def expect(self, ids: Sequence[str]) -> None:
        """All have been started: it is these."""
        self.left.update(ids)
        early, self._early, self._parent = self._early, {}, None
        for job in early.values():
            self.on_end(job)


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
        handle.on_close = functools.partial(service.backlog.leave, handle.job_id, task.run)
        service.backlog.step_aside(handle.job_id, task.run)
    try:
        yield handle
    finally:
        handle.waits -= 1
        # A task that the job has left behind has no place to take back: that went with its end.
        if handle.waits == 0 and service.registry.get(handle.job_id) is handle:
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
