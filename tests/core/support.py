"""The core put together for tests: everything but the web, and what was told of every job."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter, defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Any

from quart_app.checks.making import everything
from quart_app.core.backlog import Backlog
from quart_app.core.drain import Drain
from quart_app.core.durations import Durations
from quart_app.core.hub import Hub
from quart_app.core.invoke import Invoker
from quart_app.core.ledger import Ledger
from quart_app.core.ports import Store
from quart_app.core.processes import Processes
from quart_app.core.registry import Registry
from quart_app.core.runner import Runner
from quart_app.core.service import SERVICE, Service
from quart_app.core.start import serve, unserve
from quart_app.core.threads import Threads
from quart_app.core.upkeep import Upkeep
from quart_app.domain.jobs import Job, JobEvent, Retention
from quart_app.domain.status import TERMINAL
from quart_app.domain.tasks import Catalog, Lane, Task
from quart_app.engines.local import LocalEngine
from quart_app.stores.memory import MemoryStore

FOREVER = everything(1_000_000, 1e9, 2**40)


class Core:
    """A service on one event loop, from ``async with`` to its end, and its story in `events`.

    At the end it checks that nothing is left: no handle, no delivery, no asyncio task.

    Args:
        tasks: functions or tasks on offer.
        room: how many jobs of each lane run at once.
        grace: seconds from the request to stop until a job is overdue, or is left behind.
        drain: seconds that jobs have at the shutdown.
        processes: a pool that others have made, or None for one of its own.
        window: jobs of a lane that wait in the engine; None for all.
    """

    def __init__(
        self,
        *tasks: Task | Callable[..., Any],
        room: int = 1_000,
        grace: float = 2.0,
        drain: float = 5.0,
        store: Store | None = None,
        max_waiting: int = 10_000,
        max_result: int = 2**20,
        debug: bool = False,
        retention: Retention = FOREVER,
        processes: Processes | None = None,
        window: int | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()  # Threads ask for the time, too.
        self.catalog = Catalog(t if isinstance(t, Task) else Task(t) for t in tasks)
        self.store = MemoryStore() if store is None else store
        self.hub = Hub()
        self.events: list[JobEvent] = []
        self.hub.subscribe(self.events.append)
        self.ledger = Ledger(self.store, self.hub, max_waiting=max_waiting, clock=self.now)
        self.registry = Registry(grace)
        self.durations = Durations()
        self.hub.subscribe_ends(self.durations.on_ends)
        context = contextvars.Context()
        rooms: dict[Lane, int] = {"loop": room, "thread": room, "process": min(room, 2)}
        self.engine = LocalEngine(rooms, context)
        self.backlog = Backlog(self.store, self.engine, self.catalog, window, self.now)
        self.hub.subscribe_ends(self.backlog.on_ends)
        self.service = Service(
            catalog=self.catalog,
            store=self.store,
            ledger=self.ledger,
            hub=self.hub,
            registry=self.registry,
            engine=self.engine,
            backlog=self.backlog,
            durations=self.durations,
        )
        context.run(SERVICE.set, self.service)
        self.threads = Threads()
        self._own = processes is None
        self.processes = Processes(min(room, 2), self.threads) if processes is None else processes
        invoker = Invoker(self.threads, self.processes, max_result=max_result, debug=debug)
        self.runner = Runner(self.catalog, self.ledger, self.store, self.registry, invoker)
        self.upkeep = Upkeep(
            self.ledger,
            self.store,
            self.backlog,
            self.registry,
            self.catalog,
            retention,
            self.durations,
        )
        self.drain = Drain(self.service, drain=drain, grace=grace)

    def now(self) -> float:
        """The loop's time, so that virtual time is what the records show."""
        return self._loop.time()

    async def __aenter__(self) -> Core:
        await self.store.open()
        await self.engine.work(self.runner.run)
        self.backlog.start()
        serve(self.service)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        unserve(self.service)
        try:
            await asyncio.sleep(0)  # What was just canceled has a turn to end.
            assert kind is not None or self.is_clean()
        finally:
            await self.backlog.stop()
            if self._own:
                self.processes.close()
                await self.threads.call(self.processes.join)
            self.threads.close()
            await self.store.close()

    async def crash(self) -> None:
        """End as by a kill: what runs is cut off, and nothing of it reaches the store any more."""
        await self.upkeep.stop()
        await self.backlog.stop()
        await self.store.close()
        await self.engine.close()
        for handle in self.registry:
            handle.task.cancel()
        await self.engine.idle()

    def is_clean(self) -> bool:
        """Whether no handle and no asyncio task of ours is left, but for the backlog's own two."""
        left = {task for task in asyncio.all_tasks() if not task.get_name().startswith("backlog-")}
        return len(self.registry) == 0 and left == {asyncio.current_task()}

    async def start(self, task: str | Callable[..., Any], /, **values: Any) -> str:
        """Start a job; its id."""
        named = self.catalog[task if isinstance(task, str) else task.__name__]
        job, _ = await self.service.start(named, named.arguments.write(values))
        return job.id

    async def job(self, job_id: str) -> Job:
        """The newest version of a job."""
        return await self.service.get(job_id)

    async def ended(self, job_id: str) -> Job:
        """The job when it is over and its runner has gone."""
        job = await self.service.wait(job_id, None)
        await self.backlog.idle()
        return job

    async def run(self, task: str | Callable[..., Any], /, **values: Any) -> Job:
        """Start a job and wait for its end."""
        return await self.ended(await self.start(task, **values))

    def story(self, job_id: str) -> list[str]:
        """The kinds of a job's events, in order."""
        return [event.kind for event in self.events if event.job.id == job_id]

    def check_stories(self) -> None:
        """Every job has exactly one ending, it is the last thing told, and order is kept."""
        told: dict[str, list[JobEvent]] = defaultdict(list)
        for event in self.events:
            told[event.job.id].append(event)
        assert [event.seq for event in self.events] == sorted({e.seq for e in self.events})
        for events in told.values():
            endings = Counter(event.job.status in TERMINAL for event in events)
            assert endings[True] == 1, [event.kind for event in events]
            assert events[-1].job.over


async def results(store: Store, job_id: str) -> dict[str, bytes]:
    """The results of a job's finished steps."""
    return {name: step.result for name, step in (await store.steps(job_id)).items()}


class Tended(Core):
    """A core as it runs in the app: with backlog and upkeep, and its store's jobs taken over."""

    async def __aenter__(self) -> Core:
        await self.store.open()
        if not self.store.volatile:
            await self.upkeep.recover()
            await self.backlog.catch_up()
        await self.engine.work(self.runner.run)
        self.backlog.start()
        self.upkeep.start()
        serve(self.service)
        return self

    async def __aexit__(self, *args: Any) -> None:
        await self.upkeep.stop()
        await self.backlog.stop()
        await super().__aexit__(*args)


class Durable(MemoryStore):
    """A store that outlives its service, and works in virtual time: close it and open it again."""

    volatile = False
