"""The running parts of an app under test: the real ones, but for time, crashes and holding back.

Whatever decides about a job is inherited; nothing may live here that does.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal, TypeVar

from quart_app.core.children import aside
from quart_app.core.lag import Lag
from quart_app.core.processes import Processes
from quart_app.core.service import SERVICE
from quart_app.core.threads import Threads
from quart_app.core.upkeep import Upkeep
from quart_app.domain.jobs import Job, JobEvent
from quart_app.domain.tasks import Catalog
from quart_app.parts import Parts
from quart_app.settings import Settings
from quart_app.testing.crashes import Crashes, CrashingInvoker, CrashingRunner, real_time
from quart_app.testing.virtual import VirtualTimeLoop

T = TypeVar("T")
Mode = Literal["live", "inline", "hold"]
Clock = Callable[[], float]

SELDOM = 3_600.0
"""How many times longer upkeep waits between two looks where time is virtual."""


def make_clock(now: float, loop: asyncio.AbstractEventLoop) -> Clock:
    """A clock that shows this moment now, and goes with the loop's."""
    began = loop.time()
    return lambda: now + loop.time() - began


class RealThreads(Threads):
    """Threads for whose work virtual time does not jump."""

    async def call(self, function: Callable[[], T]) -> T:
        with real_time():
            return await super().call(function)


class NoLag(Lag):
    """A loop whose clock jumps is never late."""

    def start(self) -> None:
        """Look at nothing."""


class ExactUpkeep(Upkeep):
    """Looks at the moments at which there is something to do, and else very seldom: a loop whose
    clock jumps would otherwise look seven thousand times in two hours."""

    def start(self) -> None:
        """Begin the loops, on this event loop."""
        self._expires = asyncio.Event()
        super().start()

    async def _forever(
        self,
        interval: float,
        work: Callable[[], Awaitable[int]],
        nudge: asyncio.Event | None = None,
    ) -> None:
        if work == self.expire:
            nudge = self._expires
        await super()._forever(SELDOM * interval, work, nudge)

    async def _look_ahead(self) -> None:
        now = self._ledger.clock()
        for job in await self._store.due(math.inf, 1):
            self._alarm.at(max(job.run_at or 0.0, now + 0.001))

    def on_event(self, event: JobEvent) -> None:
        """A subscriber of every event: be there when the job expires."""
        expires_at = event.job.expires_at
        if event.kind == "open" and expires_at is not None:
            wait = max(0.0, expires_at - self._ledger.clock()) + 0.001
            asyncio.get_running_loop().call_later(wait, self._expires.set)


class WatchedParts(Parts):
    """Everything that runs, as the test has asked for.

    Args:
        settings, catalog: as of every app.
        mode: whether jobs run as in production, before their start returns, or when they are told.
        crashes: what is planned.
        clock: what the jobs' clock shows, or None for the real one.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        mode: Mode,
        crashes: Crashes,
        clock: Clock | None,
    ) -> None:
        self.mode = mode
        self.crashes = crashes
        super().__init__(settings, catalog, clock=clock)
        if mode == "inline":
            self._start_inline()

    def _look_after(self, settings: Settings, catalog: Catalog) -> None:
        super()._look_after(settings, catalog)
        self.threads = RealThreads()
        self.processes = Processes(settings.processes, self.threads)
        invoker = CrashingInvoker(
            self.crashes,
            self.threads,
            self.processes,
            max_result=settings.max_result,
            debug=settings.debug,
        )
        self.runner = CrashingRunner(
            self.crashes, self.backlog, catalog, self.ledger, self.store, self.registry, invoker
        )
        if isinstance(self.loop, VirtualTimeLoop):
            self.lag = NoLag(self.backlog, settings.max_lag)
            self.upkeep = upkeep = ExactUpkeep(
                self.ledger,
                self.store,
                self.backlog,
                self.registry,
                catalog,
                settings.retention,
                self.durations,
            )
            self.hub.subscribe(upkeep.on_event)

    async def open(self) -> None:
        await super().open()
        if self.mode == "hold":
            self.hold()

    def hold(self) -> None:
        """Let nothing begin: an engine that does not work has no room, and jobs wait before it."""
        engine: Any = self.engine
        engine._run = None

    @contextlib.asynccontextmanager
    async def released(self) -> AsyncIterator[None]:
        """While the ``async with`` lasts, jobs run as in production."""
        if self.mode != "hold":
            yield
            return
        await self.engine.work(self.runner.run)
        self.backlog.look()
        try:
            yield
        finally:
            self.hold()

    async def run_held(self, job: Job) -> None:
        """Run one attempt of a job that waits, whoever waits before it."""
        await self.backlog.forget(job.id)
        context = contextvars.Context()
        context.run(SERVICE.set, self.service)
        await asyncio.shield(self.loop.create_task(self.runner.run(job.id), context=context))

    def _start_inline(self) -> None:
        """Let both ways to start come back when the jobs are over."""
        service = self.service
        start, start_many = service.start, service.start_many

        async def start_and_wait(*args: Any, **kwargs: Any) -> tuple[Job, bool]:
            job, new = await start(*args, **kwargs)
            return await self._over(job), new

        async def start_many_and_wait(*args: Any, **kwargs: Any) -> tuple[list[Job], bool]:
            jobs, new = await start_many(*args, **kwargs)
            return [await self._over(job) for job in jobs], new

        service.start_now = lambda *_: None  # type: ignore[method-assign]
        service.start = start_and_wait  # type: ignore[method-assign]
        service.start_many = start_many_and_wait  # type: ignore[method-assign]

    async def _over(self, job: Job) -> Job:
        """The job when it is over; as it is, where its start says that it begins later."""
        task = self.catalog.get(job.task)
        if job.status == "scheduled" or task is None or self.backlog.paused(task):
            return job
        async with aside(self.service):  # A job that starts others does not hold their place.
            return await self.service.wait(job.id, None)

    @property
    def catalog(self) -> Catalog:
        """The tasks on offer."""
        return self.service.catalog
