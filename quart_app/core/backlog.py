"""Which of the queued jobs may begin, and when: what stands between the queue and the engine.

A job that may begin goes to the engine at once. One that may not (no room, a limit, a rate, a
pause, a loop that lags) waits here for its turn (`quart_app.core.turns`). A durable store may hold
a million queued jobs: the next ones wait here, and more are read as they go. Tasks that nothing
holds back share a window for each lane, in the order of the queue; one that is paused, or has
limits, has a window of its own, so that it fills nobody else's. Nothing may live here that changes
a status.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from quart_app.core.alarm import Alarm
from quart_app.core.ports import Engine, Store
from quart_app.core.turns import Turns
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Job
from quart_app.domain.queues import Waiting
from quart_app.domain.tasks import LANES, Catalog, Lane, Task

logger = logging.getLogger("quart_app.jobs")

WINDOW = 1_000
"""Jobs that wait in memory in each window, where the store holds more."""
SHARED = {lane: f"the {lane}" for lane in LANES}
"""The windows of tasks that nothing holds back; no task has such a name."""
EVERYTHING = 1_000_000_000
PAUSE = 0.25
"""Seconds between two looks for room, if no job ends meanwhile."""


class Queued(Protocol):
    """What is known of a job that waits; a `Job` or a `Waiting` of `quart_app.domain.jobs`."""

    @property
    def id(self) -> str: ...
    @property
    def turn(self) -> str | None: ...
    @property
    def priority(self) -> int: ...


class Backlog:
    """Hands jobs to the engine, each in its turn.

    Args:
        store, engine, catalog: from where, to where, and which tasks run in which lane.
        window: jobs that wait in memory at once, for each window; None for any number.
        clock: seconds since the epoch, by which rates are counted.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        catalog: Catalog,
        window: int | None = WINDOW,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._engine = engine
        self._catalog = catalog
        self._window = EVERYTHING if window is None else window
        self._clock = clock
        self._turns = {lane: Turns() for lane in LANES}
        self._behind: set[str] = set()
        self._paused: set[str] = set()
        self._news: set[str] = set()
        self._urgent: set[str] = set()
        self._room = asyncio.Event()
        self._read = asyncio.Event()
        self._filling = asyncio.Lock()
        self._returning: dict[Lane, dict[str, asyncio.Future[None]]] = {lane: {} for lane in LANES}
        self._away: set[str] = set()  # Running jobs whose place others may have.
        self._alarm = Alarm(clock, self._room.set)
        self._loops: list[asyncio.Task[None]] = []
        self.lagging = False
        """Whether the loop is late for its timers: then nothing more begins on it meanwhile."""
        self.held: set[str] = set()
        """Ids of jobs that are open and must not begin yet: their answer has not left."""
        engine.on_done = self._on_done

    def start(self) -> None:
        """Begin to look for room and for tasks that are behind, on this event loop."""
        self._room.set()  # What was taken over waits for the engine to work.
        self._loops = [
            asyncio.create_task(self._pump_forever(), name="backlog-pump"),
            asyncio.create_task(self._read_forever(), name="backlog-read"),
        ]

    async def stop(self) -> None:
        """Hand over nothing more."""
        self._alarm.stop()
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()
        for waiting in self._returning.values():
            for future in waiting.values():  # They are to end, and need no room for that.
                if not future.done():
                    future.set_result(None)

    @property
    def cut_off(self) -> bool:
        """Whether what looks for room was canceled, as nobody but `stop` does."""
        return any(loop.done() or loop.cancelling() for loop in self._loops)

    # Jobs come in.

    def clear(self, task: Task) -> bool:
        """Whether a new job of this task may go to the engine without coming here: nothing waits
        before it, and nothing holds it back."""
        if not task.unlimited or self.lagging or (self._paused and task.name in self._paused):
            return False
        lane = task.run
        if self._turns[lane].waits or (self._behind and SHARED[lane] in self._behind):
            return False
        return self._engine.room(lane) > 0

    def _window_of(self, task: Task) -> str:
        """The name of the window in which the jobs of a task wait."""
        shared = task.unlimited and task.name not in self._paused
        return SHARED[task.run] if shared else task.name

    def _tasks_of(self, window: str) -> list[Task]:
        return [task for task in self._catalog.values() if self._window_of(task) == window]

    def _room_in(self, tasks: list[Task]) -> int:
        return self._window - sum(self._turns[each.run].waiting(each.name) for each in tasks)

    async def submit(self, job: Queued, task: Task) -> None:
        """A job is queued and may begin: to the engine, or later in its turn."""
        self.held.discard(job.id)
        if job.priority == task.limits.priority and self.clear(task):
            await self._engine.submit(job.id, task.run)
            return
        if self._wait(job, task):
            await self._pump(task.run)

    def _wait(self, job: Queued, task: Task) -> bool:
        """A job waits for its turn: here, or where there is no room for it in the store alone."""
        window = self._window_of(task)
        if window in self._behind:
            self._news.add(window)
            names = (each.name for each in self._tasks_of(window))
            if job.turn is not None or self._turns[task.run].passes(names, job.priority):
                # It may be its turn before that of many who came before it.
                self._urgent.add(window)
                self._read.set()
        elif len(self._turns[task.run]) >= self._window and (
            self._room_in(self._tasks_of(window)) <= 0
        ):
            self._behind.add(window)
        elif not self.holds(job.id):
            self._put(job, task)
            return True
        return False

    def _put(self, job: Queued, task: Task) -> None:
        self._turns[task.run].put(job.id, task.name, task.limits, job.turn, job.priority)

    async def forget(self, job_id: str) -> None:
        """A job that waits need not be handed over any more."""
        if not any(turns.remove(job_id) for turns in self._turns.values()):
            await self._engine.forget(job_id)

    def holds(self, job_id: str) -> bool:
        """Whether the job waits here or is with the engine."""
        return self._engine.holds(job_id) or any(t.holds(job_id) for t in self._turns.values())

    @property
    def known(self) -> int:
        """How many queued jobs are on their way: here, with the engine, or held back."""
        here = sum(len(turns) for turns in self._turns.values())
        return here + len(self.held) + sum(self._engine.waiting(lane) for lane in LANES)

    def waiting(self, lane: Lane) -> int:
        """How many jobs of a lane wait here."""
        return len(self._turns[lane])

    def position(self, job_id: str, lane: Lane) -> int | None:
        """The place of a waiting job among those of its lane, from 1; None where it has none yet.
        May be a second old."""
        return self._turns[lane].position(job_id, self._clock())

    # Jobs go out.

    def _on_done(self, job_id: str, lane: Lane) -> None:
        """The engine has room again."""
        turns = self._turns[lane]
        if turns.runs:
            turns.done(job_id)
        if turns.waits or self._returning[lane]:
            self._room.set()

    def on_ends(self, jobs: Sequence[Job]) -> None:
        """A subscriber of the endings: there is room in a window again. What was only delivered in
        vain is no reason to look: it would be found again at once."""
        if self._behind:
            self._read.set()

    async def _pump(self, lane: Lane) -> None:
        """Hand over what may begin now."""
        turns, engine = self._turns[lane], self._engine
        self._let_return(lane)
        while engine.room(lane) > 0:
            if self.lagging and lane == "loop" and engine.running(lane) > 0:
                break  # One at least goes on, or nothing ever would.
            job_id = turns.next(self._clock())
            if job_id is None:
                break
            await engine.submit(job_id, lane)
        if len(turns):
            at = turns.wake_at(self._clock())
            if at is not None:  # A rate lets something go on later.
                self._alarm.at(at)

    def _let_return(self, lane: Lane) -> None:
        """Who has waited for its children goes on before anybody new begins."""
        returning = self._returning[lane]
        for job_id, future in list(returning.items()):
            if self._engine.room(lane) <= 0:
                return
            if self._turns[lane].may_resume(job_id) and not future.done():
                del returning[job_id]
                self._take_back(job_id, lane)
                future.set_result(None)

    def _let_go(self, job_id: str, lane: Lane) -> None:
        """Who waits to go on goes on without a place."""
        future = self._returning[lane].pop(job_id, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _take_back(self, job_id: str, lane: Lane) -> None:
        self._turns[lane].resume(job_id)
        self._back(job_id, lane)

    def _aside(self, job_id: str, lane: Lane) -> None:
        self._away.add(job_id)
        self._engine.step_aside(lane)

    def _back(self, job_id: str, lane: Lane) -> None:
        self._away.discard(job_id)
        self._engine.step_back(lane)

    def leave(self, job_id: str, lane: Lane) -> None:
        """A job ends and gives its place away. If it has done so for an asyncio task of its own
        that still waits, it takes it back before that."""
        if job_id in self._away:
            self._let_go(job_id, lane)
            self._back(job_id, lane)

    def step_aside(self, job_id: str, lane: Lane) -> None:
        """A running job waits for others: they may have its place meanwhile."""
        if job_id in self._away:  # It was about to come back.
            self._let_go(job_id, lane)
            self._turns[lane].resume(job_id)
        else:
            self._aside(job_id, lane)
        self._turns[lane].suspend(job_id)
        self._room.set()

    async def step_back(self, job_id: str, lane: Lane) -> None:
        """It goes on when there is a place again. A cancel does not wait for one."""
        turns = self._turns[lane]
        if not self._loops or (self._engine.room(lane) > 0 and turns.may_resume(job_id)):
            self._take_back(job_id, lane)
            return
        turns.want_back(job_id)
        future = self._returning[lane][job_id] = asyncio.get_running_loop().create_future()
        self._room.set()
        try:
            await future
        finally:
            if self._returning[lane].get(job_id) is future:
                del self._returning[lane][job_id]
                self._take_back(job_id, lane)

    async def _pump_forever(self) -> None:
        while True:
            await self._room.wait()
            self._room.clear()
            for lane in LANES:
                await self._pump(lane)

    def look(self) -> None:
        """Something has changed: perhaps somebody may begin."""
        self._room.set()

    async def idle(self) -> None:
        """Wait until nothing runs, and nothing that waits here could begin."""
        while True:
            await self._engine.idle()
            for lane in LANES:
                await self._pump(lane)
            if not any(self._engine.running(lane) for lane in LANES):
                return

    # Operators.

    def pause(self, task: Task) -> None:
        """No job of this task begins until `resume`."""
        self._moves(task)
        self._paused.add(task.name)
        self._turns[task.run].pause(task.name)
        self._moves(task)

    def resume(self, task: Task) -> None:
        """They begin again."""
        self._moves(task)
        self._paused.discard(task.name)
        self._turns[task.run].resume_task(task.name)
        self._moves(task)
        self._room.set()

    def _moves(self, task: Task) -> None:
        """A task leaves a window or comes into one: what the store holds of it may be either's."""
        if not self._store.volatile:
            self._behind.add(self._window_of(task))
            self._read.set()

    def paused(self, task: Task) -> bool:
        """Whether no job of this task begins."""
        return task.name in self._paused

    async def remember_rates(self) -> None:
        """Count what has begun before a restart: a rate holds over it. As far as it is kept."""
        for task in self._catalog.values():
            rates = [each for each in (task.limits.rate, task.limits.total_rate) if each]
            if rates:
                since = self._clock() - max(rate.period for rate in rates)
                for turn, at in sorted(await self._store.began(task.name, since), key=_moment):
                    self._turns[task.run].grant(task.name, task.limits, turn, at)

    # What the store holds besides.

    async def catch_up(self) -> None:
        """Look in the store for queued jobs that nobody has: after a start, or where one was lost
        on its way."""
        self._behind.update(self._window_of(task) for task in self._catalog.values())
        for window in list(self._behind):
            await self._fill_in_turn(window)
        for lane in LANES:
            await self._pump(lane)

    async def _read_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(PAUSE if self._behind else None):
                    await self._read.wait()
            except TimeoutError:
                pass
            self._read.clear()
            for name in list(self._behind):
                try:
                    await self._fill_in_turn(name)
                except StoreUnavailable as error:
                    logger.warning("the queue cannot be read, and will be again: %s", error)

    async def _fill_in_turn(self, window: str) -> None:
        """One at a time: two that read at once could hand over jobs out of their order."""
        async with self._filling:
            await self._fill(window)

    async def _fill(self, window: str) -> None:
        """Take in what comes next, as far as there is room."""
        urgent = window in self._urgent
        self._urgent.discard(window)
        tasks = self._tasks_of(window)
        room = self._room_in(tasks)
        if room < self._window / 2 and not urgent:
            return
        limit = min(EVERYTHING, 2 * self._window)
        self._news.discard(window)
        found: list[Waiting] = []
        for task in tasks:
            found += await self._store.queued(task.name, limit, fair=task.limits.key is not None)
        if window in SHARED.values():
            found.sort(key=lambda each: (-each.priority, each.seq))
        fresh = [each for each in found if each.id not in self.held and not self.holds(each.id)]
        for each in fresh[: max(room, self._window // 10)]:
            self._put(each, self._catalog[each.task])
        for lane in LANES:
            await self._pump(lane)
        # A task may have been paused meanwhile: then its jobs are in a window of its own.
        seen = len(found) < limit and len(fresh) <= room and window not in self._news
        if seen and [task.name for task in tasks] == [each.name for each in self._tasks_of(window)]:
            self._behind.discard(window)


def _moment(began: tuple[str | None, float]) -> float:
    return began[1]
