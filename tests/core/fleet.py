"""Processes that work with one place and one broker, all on one loop: the core of each, put
together as in `quart_app.shared_parts`, with what says that it is alive as an asyncio task.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from typing import Any

from quart_app.core.durations import Durations
from quart_app.core.hub import Hub
from quart_app.core.invoke import Invoker
from quart_app.core.lead import Lead
from quart_app.core.ledger import Ledger
from quart_app.core.listener import Listener
from quart_app.core.operate import PAUSED
from quart_app.core.orphans import Orphans
from quart_app.core.processes import Processes
from quart_app.core.registry import Registry
from quart_app.core.service import SERVICE, Service
from quart_app.core.shared_backlog import SharedBacklog
from quart_app.core.shared_runner import SharedRunner
from quart_app.core.shared_upkeep import SharedUpkeep
from quart_app.core.threads import Threads
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Job, JobEvent
from quart_app.domain.tasks import Catalog, Task
from quart_app.domain.workers import Worker
from tests.core.support import FOREVER
from tests.core.twin import Broker, Place

LOOK = 1.0
"""Seconds between two looks at what is paused."""


class Machine:
    """One process.

    Args:
        place, broker: what it shares with others.
        tasks: on offer.
        name: its id.
        lease: seconds for which it is alive, and leads unless ``term`` says otherwise.
        room: how many jobs run here at once.
        only: the names of the tasks that run here.
    """

    def __init__(
        self,
        place: Place,
        broker: Broker,
        *tasks: Task | Callable[..., Any],
        name: str = "one",
        lease: float = 10.0,
        term: float | None = None,
        room: int = 1_000,
        only: tuple[str, ...] = (),
    ) -> None:
        self.name, self.lease = name, lease
        self._loop = asyncio.get_running_loop()
        catalog = Catalog(each if isinstance(each, Task) else Task(each) for each in tasks)
        self.catalog = catalog
        self.store = place.store()
        self.hub = Hub()
        self.ledger = Ledger(self.store, self.hub, max_waiting=100_000, clock=self.now)
        self.ledger.worker = name
        self.registry = Registry(2.0)
        context = contextvars.Context()
        self.engine = broker.desk(room, context)
        self.backlog = SharedBacklog(self.store, self.engine, catalog, self.now)
        self.backlog.say = lambda job_id, waits: self.ledger.note(job_id, waits=waits)
        self.backlog.keep = self.ledger.keep_fact
        durations = Durations()
        self.service = Service(
            catalog=catalog,
            store=self.store,
            ledger=self.ledger,
            hub=self.hub,
            registry=self.registry,
            engine=self.engine,
            backlog=self.backlog,
            durations=durations,
        )
        context.run(SERVICE.set, self.service)
        self.threads = Threads()
        self.processes = Processes(1, self.threads)
        invoker = Invoker(self.threads, self.processes, max_result=2**20, debug=False)
        self.runner = SharedRunner(catalog, self.ledger, self.store, self.registry, invoker)
        self.orphans = Orphans(
            self.store, self.ledger, self.registry, lambda job: self.upkeep.hand_over(job)
        )
        self.runner.follow(
            self.store,
            self.ledger,
            self.backlog.held,
            lambda task: self.backlog.paused(catalog[task]),
            self.orphans,
            only,
        )
        self.runner.let_go = self.backlog.let_go
        self.upkeep = SharedUpkeep(
            self.ledger,
            self.store,
            self.backlog,
            self.registry,
            catalog,
            FOREVER,
            durations,
        )
        self.upkeep.share(self.store, self.backlog)
        self.listener = Listener(self.store, self.hub, self.registry, name)
        self.listener.on_event = self._heard
        self.listener.on_gap = self.backlog.missed
        self.listener.on_return = self.orphans.forgot
        self.lead = Lead(self.store, name, term or lease, self._begin, self._end)
        self._tasks: list[asyncio.Task[None]] = []
        self.dead = False

    def now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    async def __aenter__(self) -> Machine:
        for subscriber in (self.upkeep.on_ends, self.backlog.on_ends):
            self.hub.subscribe_ends(subscriber)
        await self.store.open()
        await self._look()
        await self.listener.start()
        await self.store.beat(Worker(id=self.name), self.lease)
        await self.engine.work(self.runner.run)
        self._tasks = [
            asyncio.create_task(self._forever(self.lease / 4, self._beat)),
            asyncio.create_task(self._forever(LOOK, self._look)),
        ]
        self.lead.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.dead:
            await self.stop()

    async def _begin(self) -> None:
        await self.backlog.lead()
        await self.upkeep.recover()
        self.upkeep.start()

    async def _end(self) -> None:
        await self.upkeep.stop()
        await self.backlog.follow()

    def _heard(self, event: JobEvent) -> None:
        self.backlog.heard(event)
        job = event.job
        if self.lead.leading and job.status == "scheduled" and job.run_at is not None:
            self.upkeep.due_at(job.run_at)

    async def _beat(self) -> None:
        await self.store.beat(Worker(id=self.name), self.lease)

    async def _look(self) -> None:
        names = {name.removeprefix(PAUSED) for name in await self.store.facts(PAUSED)}
        for task in self.catalog.values():
            if task.name in names and not self.backlog.paused(task):
                self.backlog.pause(task)
            elif task.name not in names and self.backlog.paused(task):
                self.backlog.resume(task)
        await self.orphans.look()

    async def _forever(self, seconds: float, work: Callable[[], Any]) -> None:
        wait = seconds
        while True:
            await asyncio.sleep(wait)
            try:
                await work()
                wait = seconds
            except StoreUnavailable:
                wait = 0.5

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.listener.stop()
        self.processes.close()
        self.threads.close()
        await self.store.close()

    async def stop(self, drain: float = 60.0) -> None:
        """End as by SIGTERM: what runs has so long, then it is asked once."""
        self.dead = True
        self.service.draining = True
        await self.lead.stop()
        await self.engine.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain):
                await self.engine.idle()
        for handle in self.registry:
            handle.ask("shutdown")
        await self.engine.idle()
        with contextlib.suppress(StoreUnavailable):
            await self.store.leave(self.name)
        await self._close()

    async def kill(self) -> None:
        """End as by kill -9: nothing more reaches the store, and the broker hears nothing."""
        self.dead = True
        await self.store.close()
        await self.engine.die()
        await self.lead.stop()
        await self._close()

    async def start(self, task: str, /, **values: Any) -> str:
        """Start a job; its id."""
        named = self.catalog[task]
        job, _ = await self.service.start(named, named.arguments.write(values))
        return job.id

    async def job(self, job_id: str) -> Job:
        """The newest version of a job."""
        return await self.service.get(job_id)

    async def ended(self, job_id: str) -> Job:
        """The job when it is over."""
        return await self.service.wait(job_id, None)
