"""An app under test: what its code has started, and how far its jobs go.

Only what a test asks for may live here; how a job runs is the business of the parts.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time
from collections.abc import Iterable
from types import ModuleType, TracebackType
from typing import Any, TypeVar, cast, overload

from quart import Quart

from quart_app.app import EXTENSION, create_app, get_jobs
from quart_app.core.handles import JobHandle
from quart_app.core.service import Service
from quart_app.domain.jobs import Job, JobEvent
from quart_app.domain.queries import Query
from quart_app.domain.status import Move, Status
from quart_app.domain.tasks import Catalog, Task
from quart_app.settings import PREFIX, SETTINGS, Settings
from quart_app.testing.crashes import Crash, Crashes, When
from quart_app.testing.parts import Mode, WatchedParts, make_clock
from quart_app.testing.shown import SHOWN, call_of, lines_of, told
from quart_app.testing.virtual import VirtualTimeLoop

R = TypeVar("R")
Which = str | Job | JobHandle[Any] | Task
"""How a test names a job: by its id, as it was at some time, or as the only one of its task."""

PATIENCE = 10.0
"""Seconds that a test waits unless it says how long, where time is real."""
LONG = 30 * 86_400.0
"""The same where it is virtual."""
SPARE = 5.0
"""Seconds that the app's own shutdown may take beside that of its jobs."""


class TestJobs:
    """An app that serves without a server, on a store of its own in memory, and its jobs.

    Args:
        app: an app with `Jobs`; or a task, a module of tasks, or several.
        mode: ``live``: as in production. ``inline``: a start comes back when its job is over.
            ``hold``: nothing runs before `run` or `drain`.
        now: what the jobs' clock shows at the beginning; the wall's time unless given.
        settings: as ``QUART_APP_...``, in small letters: ``max_running=1``. They win over the
            environment and the app's configuration. ``drain`` is 0 unless given.

    Raises:
        ValueError: the app has no `Jobs`, or is under test already.
        TypeError: there is no such setting.

    >>> from quart_app import task
    >>> @task
    ... async def double(number: int) -> int:
    ...     await asyncio.sleep(7200)
    ...     return 2 * number
    >>> async def test():
    ...     async with TestJobs(double) as jobs:
    ...         await double.start(number=4)
    ...         job = jobs.assert_started(double, number=4)
    ...         return await jobs.result(job)
    >>> from quart_app.testing import virtual_run
    >>> virtual_run(test())
    8
    """

    __test__ = False  # For pytest, which would take its name for that of a class of tests.

    def __init__(
        self,
        app: Quart | Task | ModuleType | Iterable[Task | ModuleType],
        *,
        mode: Mode = "live",
        now: dt.datetime | None = None,
        **settings: Any,
    ) -> None:
        if isinstance(app, (Task, ModuleType)):
            app = [app]
        self.app: Quart = app if isinstance(app, Quart) else create_app(app)
        if EXTENSION not in self.app.extensions:
            raise ValueError("this app has no background jobs: give it Jobs(app)")
        for name in settings:
            if name not in SETTINGS:
                raise TypeError(f"there is no setting {name!r}; they are: {', '.join(SETTINGS)}")
        self.started: list[Job] = []
        """Every job as it was opened, in order: by views, tasks, schedules and the test."""
        self._extension = get_jobs(self.app)
        self._mode = mode
        self._now = now
        self._settings = {"store": "memory", "drain": 0, **settings}
        self._crashes = Crashes()
        self._news = asyncio.Event()
        self._serving: Any = None
        self._before = (self._extension.make_parts, self._extension.environ)

    async def __aenter__(self) -> TestJobs:
        jobs = self._extension
        if isinstance(getattr(jobs.make_parts, "__self__", None), TestJobs):
            raise ValueError("this app is under test already")
        self._before = (jobs.make_parts, jobs.environ)
        given = {PREFIX + name.upper(): value for name, value in self._settings.items()}
        jobs.environ = {**os.environ, **given}
        jobs.make_parts = self._make_parts
        self._serving = serving = cast(Any, self.app.test_app())
        try:
            settings = jobs.settings()
            serving.shutdown_timeout = settings.drain + settings.grace + SPARE
            await serving.__aenter__()
        except BaseException:
            self._restore()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._serving.__aexit__(kind, error, traceback)
        finally:
            self._restore()
            self._crashes.close()
        if kind is None:
            self._crashes.check()

    def _restore(self) -> None:
        self._extension.make_parts, self._extension.environ = self._before

    def _make_parts(self, settings: Settings, catalog: Catalog) -> WatchedParts:
        loop = asyncio.get_running_loop()
        virtual = isinstance(loop, VirtualTimeLoop)
        clock = None
        if virtual or self._now is not None:
            clock = make_clock(time.time() if self._now is None else self._now.timestamp(), loop)
        parts = WatchedParts(settings, catalog, self._mode, self._crashes, clock)
        parts.hub.subscribe(self._on_event)
        self._patience = LONG if virtual else PATIENCE
        return parts

    def _on_event(self, event: JobEvent) -> None:
        if event.kind == "open":
            self.started.append(event.job)
        self._news.set()

    @property
    def parts(self) -> WatchedParts:
        """The parts that run."""
        parts = self._extension.parts
        if not isinstance(parts, WatchedParts):
            raise RuntimeError("it does not serve: use it as async with TestJobs(app) as jobs")
        return parts

    @property
    def service(self) -> Service:
        """The service that runs: what HTTP does, it can do."""
        return self.parts.service

    def now(self) -> float:
        """What the jobs' clock shows: seconds since the epoch."""
        return self.parts.ledger.clock()

    # What was started.

    def started_of(self, task: Task | str, /, **args: Any) -> list[Job]:
        """The jobs of a task that were started with these arguments, and whatever others.

        Raises:
            ValueError: the app does not offer the task.
            TypeError: the task has no such parameter.
        """
        offered = self._find(task)
        for name in args:
            if name not in offered.arguments.parameters:
                raise TypeError(f"{offered.name!r} has no parameter {name!r}")
        found = []
        for job in self.started:
            if job.task == offered.name:
                values = offered.arguments.read(job.args)
                if all(values[name] == value for name, value in args.items()):
                    found.append(job)
        return found

    def assert_started(self, task: Task | str, /, **args: Any) -> Job:
        """Hold the code under test to having started a job.

        Args:
            task: the task, or its name.
            args: arguments that the job must have; it may have others.

        Returns:
            the newest such job, as it was opened.

        Raises:
            AssertionError: there is none; says what was started.
            ValueError, TypeError: there cannot be one; see `started_of`.
        """
        __tracebackhide__ = True
        found = self.started_of(task, **args)
        if not found:
            wanted = call_of(self._find(task).name, args)
            raise AssertionError(f"{wanted} was not started; {self._what_was_started()}")
        return found[-1]

    def assert_not_started(self, task: Task | str, /, **args: Any) -> None:
        """The opposite of `assert_started`."""
        __tracebackhide__ = True
        found = self.started_of(task, **args)
        if found:
            wanted = call_of(self._find(task).name, args)
            raise AssertionError(f"{wanted} was started:{lines_of(found)}")

    def _what_was_started(self) -> str:
        if not self.started:
            return "nothing was"
        return f"what was:{lines_of(self.started)}"

    def _find(self, task: Task | str) -> Task:
        catalog = self.service.catalog
        name = task if isinstance(task, str) else task.name
        found: Task | None = catalog.get(name)
        if found is None or not (isinstance(task, str) or task is found):
            raise ValueError(f"the app offers no task {name!r}; its tasks: {', '.join(catalog)}")
        return found

    # How far jobs go.

    async def drain(self, timeout: float | None = None, *, scheduled: bool = False) -> None:
        """Let jobs run until none is queued or running.

        Args:
            timeout: seconds; 10 unless given, or 30 days where time is virtual.
            scheduled: until none waits for its moment either: one that was started with a delay,
                or is to be tried again.

        Raises:
            TimeoutError: saying which jobs are left.
        """
        seconds = self._patience if timeout is None else timeout
        statuses: tuple[Status, ...] = ("queued", "running")
        statuses = (*statuses, "scheduled") if scheduled else statuses
        async with self.parts.released():
            try:
                async with asyncio.timeout(seconds):
                    await self._until_none(statuses)
            except TimeoutError:
                query = Query(statuses=frozenset(statuses), limit=SHOWN)
                left = lines_of((await self.service.page(query)).jobs, with_status=True)
                raise TimeoutError(f"after {seconds:g} s there were still:{left}") from None

    async def _until_none(self, statuses: tuple[Status, ...]) -> None:
        while True:
            self._news.clear()
            counts = await self.service.store.counts()
            if not any(counts[status] for status in statuses):
                await self.parts.engine.idle()
                return
            await self._news.wait()

    async def run(self, which: Which, timeout: float | None = None) -> Job:
        """Run a job that waits, now: one that is held, or whose moment has not come.

        Args:
            which: the job, its handle or id, or the task of which one job was started.
            timeout: seconds that its attempt may take; as of `drain`.

        Returns:
            the job after the attempt.

        Raises:
            TimeoutError: the attempt goes on.
        """
        seconds = self._patience if timeout is None else timeout
        job = await self.job(which)
        if job.status == "scheduled":
            job = await self.parts.ledger.move(job.id, Move.DUE) or await self.job(job.id)
        try:
            async with asyncio.timeout(seconds):
                if self._mode == "hold":
                    await self.parts.run_held(job)
                else:
                    await self._run_live(job)
        except TimeoutError:
            job = await self.job(job.id)
            hint = "; if it waits for jobs that are held, use drain()" * (self._mode == "hold")
            raise TimeoutError(f"after {seconds:g} s {told(job)} is {job.status}{hint}") from None
        return await self.job(job.id)

    async def _run_live(self, job: Job) -> None:
        await self.parts.backlog.submit(job, self.service.catalog[job.task])
        while (await self.job(job.id)).status in ("queued", "running"):
            self._news.clear()
            await self._news.wait()

    @overload
    async def result(self, which: JobHandle[R], timeout: float | None = None) -> R: ...
    @overload
    async def result(self, which: str | Job | Task, timeout: float | None = None) -> Any: ...

    async def result(self, which: Which, timeout: float | None = None) -> Any:
        """Wait for a job and return what its function returned.

        Args:
            which: the job, its handle or id, or the task of which one job was started.
            timeout: seconds; as of `drain`.

        Raises:
            TimeoutError: it is not over.
            JobFailed, JobCanceled: it did not succeed, and why.
        """
        seconds = self._patience if timeout is None else timeout
        job = await self.service.wait(self._id(which), seconds)
        if not job.over:
            hint = '; with mode="hold" nothing runs before run() or drain()'
            hint = hint if self._mode == "hold" else ""
            raise TimeoutError(f"after {seconds:g} s {told(job)} is {job.status}{hint}")
        return self.service.catalog.find(job.task).read_result(self.service.result(job))

    async def job(self, which: Which) -> Job:
        """The newest version of a job.

        Args:
            which: the job, its handle or id, or the task of which one job was started.

        Raises:
            NoSuchJob: also when its record has expired.
        """
        return await self.service.get(self._id(which))

    def _id(self, which: Which) -> str:
        if isinstance(which, str):
            return which
        if isinstance(which, (Job, JobHandle)):
            return which.id
        jobs = self.started_of(which)
        if len(jobs) != 1:
            message = f"{len(jobs)} jobs of {which.name!r} were started: say which"
            raise AssertionError(message + lines_of(jobs))
        return jobs[0].id

    # Crashes.

    def crash_at(self, task: Task, step: str, *, when: When = "ends", times: int = 1) -> None:
        """Let the next attempt that comes to a step end there, as if its process had been killed.

        What follows is what follows a real crash: another attempt where the task has
        ``max_attempts`` of more than 1, which finds the steps before this one on record; otherwise
        the job fails, reason ``lost``. Nothing of the function runs any more, its ``finally``
        blocks neither; only a thread, and asyncio tasks that the function made, see an exception.

        Args:
            task: whose jobs.
            step: the step's name, as in ``await job.step("page 3", ...)``.
            when: ``ends``: its function has run, and the result is not on record: it will run
                again. ``begins``: it has not been called.
            times: in how many attempts; the third crash in a row ends the job, reason ``poison``.

        Raises:
            ValueError: the task can have no steps.
            AssertionError: at the end of the ``async with``, where the crash never came.
        """
        found = self._find(task)
        if found.context_parameter is None or found.run == "process":
            message = "it takes no Context" if found.run != "process" else 'it is run="process"'
            raise ValueError(f"{found.name!r} has no steps: {message}")
        self._crashes.planned.append(Crash(found, step, when, times))
