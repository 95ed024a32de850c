"""Doubles of what many processes share: one place with several stores, and one broker's queue.

Both go by the time of the event loop, so that a day of many processes is tested in no time. Only
what stands for a server may live here; `tests.core.fleet` has the processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from random import Random
from typing import Any, TypeVar

from quart_app.core.ports import OnAdd, Run
from quart_app.domain.errors import InvalidRequest, StoreClosed, StoreUnavailable
from quart_app.domain.jobs import (
    Change,
    Draft,
    Heard,
    Job,
    JobEvent,
    JobLine,
    KeptStep,
    LogLine,
    Note,
    RequestKey,
    Retention,
)
from quart_app.domain.queries import Page, Query
from quart_app.domain.queues import Waiting
from quart_app.domain.status import Status
from quart_app.domain.tasks import LANES, Lane
from quart_app.domain.workers import Worker
from quart_app.stores.memory import MemoryStore

T = TypeVar("T")


def loop_time() -> float:
    """The running loop's time."""
    return asyncio.get_running_loop().time()


class Place:
    """Where jobs are kept, with any number of stores.

    Args:
        clock: its own clock, by which processes are alive and lead.
        dice: makes every call take a moment, before it is done and until it is answered.
    """

    def __init__(self, clock: Callable[[], float] = loop_time, dice: Random | None = None) -> None:
        self.kept = MemoryStore()
        self.kept._open = True
        self.clock = clock
        self.dice = dice
        self.log: list[Heard] = []
        self.alive: dict[str, tuple[Worker, float]] = {}
        self.leader: tuple[str, float] | None = None
        self.brought: list[Job] = []
        """Jobs that came in with somebody else's transaction and have no place yet."""
        self.lost = 0
        """The ``seq`` up to which nobody can be told any more."""
        self.ears: dict[asyncio.Event, None] = {}

    def store(self) -> Twin:
        """One more store for this place."""
        return Twin(self)

    def tell(self, heard: Sequence[Heard]) -> None:
        """Write down what has happened, and wake all who listen."""
        self.log += heard
        self.wake()

    def wake(self) -> None:
        """Let all who listen look."""
        for ear in self.ears:
            ear.set()

    def forget(self) -> None:
        """Nobody can be told of what has happened so far any more."""
        self.lost = self.kept._seq
        self.wake()

    def led_by(self) -> str | None:
        """Who leads by the place's own clock."""
        return None if self.leader is None or self.leader[1] <= self.clock() else self.leader[0]


class Twin:
    """One store of a `Place`, as a process has it."""

    volatile = False
    shared = True
    trouble = None
    on_add: OnAdd | None = None

    def __init__(self, place: Place) -> None:
        self.place = place
        self.on_commit: Callable[[float], object] = lambda seconds: None
        self._open = False
        self._cut = False
        self.hangs = False
        """Whether no call is answered any more, nor refused."""
        self.deaf = set[str]()
        """The calls whose answers are lost: what they write is kept."""
        self.calls: Counter[str] = Counter()

    @property
    def cut(self) -> bool:
        """Whether every call raises `StoreUnavailable`, as if the server could not be reached."""
        return self._cut

    @cut.setter
    def cut(self, cut: bool) -> None:
        self._cut = cut
        self.place.wake()

    async def open(self) -> None:
        if self._cut:
            raise StoreUnavailable("it cannot be reached")
        self._open = True

    async def close(self) -> None:
        self.abandon()

    def reserve(self) -> None:
        return

    def abandon(self) -> None:
        self._open = False
        self.place.wake()

    def _require(self) -> None:
        if not self._open:
            raise StoreClosed("the store is closed")
        if self._cut:
            raise StoreUnavailable("it cannot be reached", retry_after=1.0)

    async def _reach(self) -> None:
        """The way to the place, or back."""
        self._require()
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.place.dice is not None:
            await asyncio.sleep(self.place.dice.random() * 0.02)
            self._require()

    async def _ask(self, name: str, answer: Awaitable[T], tell: Any = None) -> T:
        """Ask the place; what is written is told in the same step."""
        self.calls[name] += 1
        try:
            await self._reach()
        except BaseException:
            getattr(answer, "close", lambda: None)()
            raise
        found = await answer
        if tell is not None:
            self.place.tell(tell(found))
        if self.place.dice is not None:
            await self._reach()  # Cut off now, nobody knows that it was written.
        if name in self.deaf:
            raise StoreUnavailable("the answer was lost; whether it has kept this is unknown")
        return found

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        ids = {job.id for job in jobs}

        def told(found: tuple[list[Job], bool]) -> list[JobEvent]:
            kept, new = found
            fresh = {job.id: job for job in kept if new and job.id in ids}
            return [JobEvent(job.seq, "open", job) for job in fresh.values()]

        answer = self.place.kept.add(jobs, max_waiting, key, max_of_task)
        return await self._ask("add", answer, told)

    async def move(self, job_id: str, change: Change) -> Job | None:
        def told(job: Job | None) -> list[JobEvent]:
            return [] if job is None else [JobEvent(job.seq, change.move.label, job)]

        return await self._ask("move", self.place.kept.move(job_id, change), told)

    async def note(self, job_id: str, note: Note) -> Job | None:
        def told(job: Job | None) -> list[JobEvent]:
            return [] if job is None else [JobEvent(job.seq, "note", job)]

        return await self._ask("note", self.place.kept.note(job_id, note), told)

    async def log(
        self, job_id: str, drafts: Sequence[Draft], keep_lines: int, keep_bytes: int
    ) -> list[LogLine]:
        def told(lines: list[LogLine]) -> list[JobLine]:
            return [JobLine(job_id, line) for line in lines]

        answer = self.place.kept.log(job_id, drafts, keep_lines, keep_bytes)
        return await self._ask("log", answer, told)

    async def get(self, job_id: str) -> Job | None:
        return await self._ask("get", self.place.kept.get(job_id))

    async def page(self, query: Query) -> Page:
        return await self._ask("page", self.place.kept.page(query))

    async def events(self, after: int, limit: int) -> list[JobEvent]:
        return await self._ask("events", self.place.kept.events(after, limit))

    async def head(self) -> int:
        return await self._ask("head", self.place.kept.head())

    async def due(self, now: float, limit: int) -> list[Job]:
        return await self._ask("due", self.place.kept.due(now, limit))

    async def queued(self, task: str, limit: int, fair: bool) -> list[Waiting]:
        return await self._ask("queued", self.place.kept.queued(task, limit, fair))

    async def expired(self, now: float, limit: int) -> list[Job]:
        return await self._ask("expired", self.place.kept.expired(now, limit))

    async def active(self, task: str, unique: str) -> Job | None:
        return await self._ask("active", self.place.kept.active(task, unique))

    async def began(self, task: str, since: float) -> list[tuple[str | None, float]]:
        return await self._ask("began", self.place.kept.began(task, since))

    async def steps(self, job_id: str) -> dict[str, KeptStep]:
        return await self._ask("steps", self.place.kept.steps(job_id))

    async def keep_step(self, job_id: str, name: str, step: KeptStep) -> bool:
        return await self._ask("keep_step", self.place.kept.keep_step(job_id, name, step))

    async def logs(self, job_id: str, after: int, limit: int) -> list[LogLine]:
        return await self._ask("logs", self.place.kept.logs(job_id, after, limit))

    async def keep_fact(self, name: str, value: bytes | None) -> None:
        await self._ask("keep_fact", self.place.kept.keep_fact(name, value))

    async def facts(self, prefix: str) -> dict[str, bytes]:
        return await self._ask("facts", self.place.kept.facts(prefix))

    async def prune(self, retention: Retention, now: float, limit: int) -> int:
        return await self._ask("prune", self.place.kept.prune(retention, now, limit))

    async def oldest_queued(self) -> Job | None:
        return await self._ask("oldest_queued", self.place.kept.oldest_queued())

    async def counts(self) -> dict[Status, int]:
        return await self._ask("counts", self.place.kept.counts())

    async def counts_by_task(self) -> dict[str, dict[Status, int]]:
        return await self._ask("counts_by_task", self.place.kept.counts_by_task())

    # What a shared one does besides.

    async def beat(self, worker: Worker, seconds: float) -> None:
        async def beat() -> None:
            self.place.alive[worker.id] = (worker, self.place.clock() + seconds)

        await self._ask("beat", beat())

    async def leave(self, worker_id: str) -> None:
        async def leave() -> None:
            self.place.alive.pop(worker_id, None)
            if self.place.leader is not None and self.place.leader[0] == worker_id:
                self.place.leader = None

        await self._ask("leave", leave())

    async def workers(self) -> list[Worker]:
        async def workers() -> list[Worker]:
            now, alive = self.place.clock(), self.place.alive
            return [alive[each][0] for each in sorted(alive) if alive[each][1] > now]

        return await self._ask("workers", workers())

    async def lead(self, worker_id: str, seconds: float) -> bool:
        async def lead() -> bool:
            won = self.place.led_by() in (None, worker_id)
            if won:
                self.place.leader = (worker_id, self.place.clock() + seconds)
            return won

        return await self._ask("lead", lead())

    async def add_within(
        self,
        connection: Any,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        raise InvalidRequest("nobody else begins a transaction here")

    async def publish(self) -> list[Job]:
        async def publish() -> list[Job]:
            brought, self.place.brought = self.place.brought, []
            kept = [(await self.place.kept.add([job], 10**9))[0][0] for job in brought]
            return [job for job in kept if job.status == "queued"]

        def told(jobs: list[Job]) -> list[JobEvent]:
            return [JobEvent(job.seq, "open", job) for job in jobs]

        return await self._ask("publish", publish(), told)

    async def listen(self, after: int | None) -> AsyncGenerator[list[Heard] | None]:
        self.calls["listen"] += 1
        await self._reach()
        ear = asyncio.Event()
        self.place.ears[ear] = None
        seen = self.place.kept._seq if after is None else after
        try:
            yield []
            while True:
                self._require()
                ear.clear()
                if seen < self.place.lost:
                    seen = self.place.lost
                    yield None
                if batch := [each for each in self.place.log if each.seq > seen]:
                    seen = batch[-1].seq
                    yield batch
                else:
                    await ear.wait()
                if self.place.dice is not None:
                    await asyncio.sleep(self.place.dice.random() * 0.02)
        finally:
            self.place.ears.pop(ear, None)


class Broker:
    """A queue of ids that several engines take from.

    Args:
        lease: seconds after which what a dead process had taken is delivered again.
        dice: who takes the next one; the first with room where there are none.
    """

    def __init__(self, lease: float = 10.0, dice: Random | None = None) -> None:
        self.lease = lease
        self.dice = dice
        self.waiting: OrderedDict[str, Lane] = OrderedDict()
        self.taken: set[str] = set()
        self.desks: list[Desk] = []
        self.delivered: list[str] = []
        """Every id in the order in which it was delivered."""
        self.later: set[asyncio.TimerHandle] = set()

    def desk(self, room: int = 1_000, context: contextvars.Context | None = None) -> Desk:
        """One more engine that takes from this queue."""
        return Desk(self, room, context)

    def put(self, job_id: str, lane: Lane) -> None:
        """An id that is here already is not taken again."""
        if job_id not in self.taken and job_id not in self.waiting:
            self.waiting[job_id] = lane
            self.look()

    def put_later(self, job_id: str, lane: Lane, seconds: float) -> None:
        """An id comes again; until then it is here."""
        loop = asyncio.get_running_loop()

        def again() -> None:
            self.later.discard(timer)
            self.taken.discard(job_id)
            self.put(job_id, lane)

        timer = loop.call_later(seconds, again)
        self.later.add(timer)

    def look(self) -> None:
        """Deliver what somebody has room for."""
        for job_id, lane in list(self.waiting.items()):
            free = [desk for desk in self.desks if desk.places[lane] > desk.count[lane]]
            if free:
                del self.waiting[job_id]
                self.taken.add(job_id)
                self.delivered.append(job_id)
                (free[0] if self.dice is None else self.dice.choice(free)).deliver(job_id, lane)

    def close(self) -> None:
        """Nothing comes later."""
        for timer in self.later:
            timer.cancel()


class Desk:
    """One engine of a `Broker`, as a process has it."""

    shared = True

    def __init__(self, broker: Broker, room: int, context: contextvars.Context | None) -> None:
        self.broker = broker
        self.context = contextvars.Context() if context is None else context
        self.places = dict.fromkeys(LANES, room)
        self.count = dict.fromkeys(LANES, 0)
        self.tasks: dict[str, tuple[asyncio.Task[None], Lane]] = {}
        self.cut = False
        """Whether the broker cannot be reached."""
        self.on_done: Callable[[str, Lane], None] = lambda job_id, lane: None
        self._run: Run | None = None
        self._quiet = asyncio.Event()

    async def work(self, run: Run) -> None:
        self._run = run
        self.broker.desks.append(self)
        self.broker.look()

    async def submit(self, job_id: str, lane: Lane) -> None:
        await asyncio.sleep(0)
        if self.cut:
            raise StoreUnavailable("the broker cannot be reached", retry_after=1.0)
        self.broker.put(job_id, lane)

    def deliver(self, job_id: str, lane: Lane) -> None:
        """A turn has come."""
        assert self._run is not None
        self.count[lane] += 1
        context = self.context.copy()
        work = asyncio.get_running_loop().create_task(
            self._deliver(self._run, job_id, lane), name=job_id, context=context
        )
        self.tasks[job_id] = (work, lane)

    async def _deliver(self, run: Run, job_id: str, lane: Lane) -> None:
        again: float | None = 1.0
        try:
            with contextlib.suppress(StoreUnavailable, OSError):
                again = await run(job_id)
        finally:
            if self.tasks.pop(job_id, None) is not None:
                self.count[lane] -= 1
                if again is None:
                    self.broker.taken.discard(job_id)
                else:
                    self.broker.put_later(job_id, lane, again)
                self.on_done(job_id, lane)
            if not self.tasks:
                self._quiet.set()
            self.broker.look()

    async def forget(self, job_id: str) -> None:
        return

    def waiting(self, lane: Lane) -> int:
        return 0

    def running(self, lane: Lane) -> int:
        return self.count[lane]

    def room(self, lane: Lane) -> int:
        return 1_000_000

    def step_aside(self, lane: Lane) -> None:
        self.count[lane] -= 1
        self.broker.look()

    def step_back(self, lane: Lane) -> None:
        self.count[lane] += 1

    def holds(self, job_id: str) -> bool:
        return job_id in self.tasks

    async def idle(self) -> None:
        while self.tasks:
            self._quiet.clear()
            await self._quiet.wait()

    async def close(self) -> list[str]:
        if self in self.broker.desks:
            self.broker.desks.remove(self)
        return []

    async def disconnect(self) -> None:
        await self.close()

    async def die(self) -> None:
        """The process was killed: what it had taken is delivered again when the lease is over."""
        await self.close()
        dead, self.tasks = self.tasks, {}
        for job_id, (_, lane) in dead.items():
            self.broker.put_later(job_id, lane, self.broker.lease)
        for work, _ in dead.values():
            work.cancel()
        await asyncio.gather(*(work for work, _ in dead.values()), return_exceptions=True)
