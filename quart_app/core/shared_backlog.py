"""The backlog where several processes work with the same jobs: one of them leads, and lets jobs go
on that limits, rates or pauses hold back; all others go to the engine at once.

Whoever leads knows what it needs from the event log, whichever process wrote it, and begins anew
from the store when it takes the lead. A job that was let go on is with the engine for a while
before it begins, and counts meanwhile: that is a fact in the store, so that the next leader knows.
Nothing may live here that changes a status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from quart_app.core.backlog import PAUSE, WINDOW, Backlog, Queued
from quart_app.core.ledger import Clock
from quart_app.core.ports import Engine, SharedStore
from quart_app.core.turns import Turns
from quart_app.domain.errors import StoreClosed, StoreUnavailable
from quart_app.domain.jobs import Job, JobEvent
from quart_app.domain.queries import Query
from quart_app.domain.queues import Waiting
from quart_app.domain.tasks import LANES, Catalog, Lane, Task

logger = logging.getLogger("quart_app.jobs")

AT_ONCE = 500
"""Jobs that are handed over together where many are."""
SENT = "sent/"
"""How the names of the facts begin that say which jobs were let go on and have not begun; each has
the ``seq`` with which its job was queued, and says nothing of one that was put back since."""
AGAIN = 1.0
"""Seconds until it is tried again what the store or the engine did not take."""
MOST = 100_000
"""Jobs of a task that are handed over when it is resumed; upkeep finds the others."""


class SharedBacklog(Backlog):
    """A `Backlog` of which only the leader's holds anything."""

    def __init__(self, store: SharedStore, engine: Engine, catalog: Catalog, clock: Clock) -> None:
        super().__init__(store, engine, catalog, WINDOW, clock)
        self._turns = {lane: Turns(begin=False) for lane in LANES}
        # The newest version that was acted upon: what is heard or read later may be older.
        self._seqs: dict[str, int] = {}
        self._late: dict[Lane, dict[str, None]] = {lane: {} for lane in LANES}
        self._begun: set[str] = set()  # Their facts are to be forgotten.
        self._said: dict[str, bool] = {}
        self._errands: set[asyncio.Task[None]] = set()
        self.with_add = False
        """Whether the engine has new jobs already when the store has them: in one transaction."""
        self.leading = False
        """Whether this process lets jobs go on that something holds back."""
        self.say: Callable[[str, bool], Awaitable[object]] = _nothing
        """Notes that a running job waits for others, or does not any more."""
        self.keep: Callable[[str, bytes | None], Awaitable[object]] = _nothing
        """Keeps a fact, or forgets it (None); of the ledger."""

    def clear(self, task: Task) -> bool:
        """Whether nothing but room may hold a job of this task back, and that is the engine's."""
        return task.unlimited and task.name not in self._paused

    async def submit(self, job: Queued, task: Task) -> None:
        """As `Backlog.submit`. What is held back is heard of by whoever leads; what cannot be
        handed over now is kept, and upkeep does it."""
        self.held.discard(job.id)
        if self.clear(task) and not (self.with_add and _is_new(job)):
            with contextlib.suppress(StoreUnavailable):
                await self._engine.submit(job.id, task.run)

    def position(self, job_id: str, lane: Lane) -> int | None:
        """None: only the engine knows, and every process is to tell the same."""
        return None

    async def submit_all(self, jobs: Iterable[tuple[str, Lane]]) -> None:
        """Hand over many; those that the engine has already are not taken twice."""
        waiting = list(jobs)
        for first in range(0, len(waiting), AT_ONCE):
            part = waiting[first : first + AT_ONCE]
            await asyncio.gather(*(self._engine.submit(job_id, lane) for job_id, lane in part))

    def _on_done(self, job_id: str, lane: Lane) -> None:
        """The end of a delivery here says nothing: what has ended is heard of."""

    def on_ends(self, jobs: Sequence[Job]) -> None:
        """There is room in a window again; see `Backlog.on_ends`."""
        if self._behind and self.leading:
            self._read.set()

    def holds(self, job_id: str) -> bool:
        """Whether the job waits here or counts: where it is delivered says nothing of that."""
        return any(t.holds(job_id) or job_id in t.runs for t in self._turns.values())

    # The leader.

    async def lead(self) -> None:
        """Take over what runs, was let go on, or waits, of the tasks that something may hold back.

        Raises:
            StoreUnavailable: it could not be read; then `follow`.
        """
        self._forget_all()
        for lane in LANES:
            for name in self._paused:
                self._turns[lane].pause(name)
        self.leading = True  # What is heard from now on counts.
        for task in self._catalog.values():
            if not task.unlimited:
                await self._adopt(task)
        await self._adopt_sent()
        await self.remember_rates()  # Last: a begin may be counted twice, and is not left out.
        await self.catch_up()
        self.start()

    def _forget_all(self) -> None:
        self._behind.clear()
        self._seqs.clear()
        for lane in LANES:
            self._turns[lane] = Turns(begin=False)
            self._late[lane].clear()

    async def _adopt(self, task: Task) -> None:
        """What runs of a task, whoever let it go on."""
        query = Query(statuses=frozenset({"running"}), task=task.name, limit=100)
        while True:
            page = await self._store.page(query)
            for job in page.jobs:
                if self._is_news(job):
                    self._runs(job, task, None)
            if page.next is None:
                return
            query = replace(query, before=page.next)

    async def _adopt_sent(self) -> None:
        """What an earlier leader has let go on, and has not begun: it is handed over again."""
        for name, seq in (await self._store.facts(SENT)).items():
            job = await self._store.get(name.removeprefix(SENT))
            task = None if job is None else self._catalog.get(job.task)
            if job is None or task is None or task.unlimited or not _let_go(job, seq):
                await self.keep(name, None)
            elif job.seq >= self._seqs.get(job.id, -1):  # It may have been heard that it waits.
                self._seqs[job.id] = job.seq
                self._turns[task.run].send(job.id, task.name, task.limits, job.turn)
                self._late[task.run][job.id] = None

    def _is_news(self, job: Job) -> bool:
        """Whether nothing newer, nor this, has been acted upon; now it is."""
        if job.seq <= self._seqs.get(job.id, -1):
            return False
        self._seqs[job.id] = job.seq
        return True

    def _put(self, job: Queued, task: Task) -> None:
        if isinstance(job, Job | Waiting):
            if job.seq < self._seqs.get(job.id, -1):
                return  # It is not queued any more.
            self._seqs[job.id] = job.seq
        super()._put(job, task)

    def _runs(self, job: Job, task: Task, at: float | None) -> None:
        turns = self._turns[task.run]
        turns.adopt(job.id, task.name, task.limits, job.turn, at)
        if job.waits:
            turns.suspend(job.id)
        else:
            turns.resume(job.id)

    async def follow(self) -> None:
        """Hand nothing over any more that something holds back: another process leads."""
        self.leading = False
        await self.stop()
        self._forget_all()

    async def check(self) -> None:
        """Compare what counts with the store: what was missed would hold others back for ever. What
        has not begun may have been lost on its way, and is handed over again."""
        self._seqs = {each: seq for each, seq in self._seqs.items() if self.holds(each)}
        for lane, turns in list(self._turns.items()):
            for job_id in list(turns.runs):
                job = await self._store.get(job_id)
                if turns is not self._turns[lane]:
                    return  # It leads no more, or anew.
                if job is None:
                    self._over(job_id, turns)
                elif job.seq >= self._seqs.get(job_id, -1):
                    self._compare(job, turns)
        self._forget_begun()
        self._room.set()

    def _compare(self, job: Job, turns: Turns) -> None:
        """A job counts, and is now as the store says."""
        task = self._catalog.get(job.task)
        if task is not None and job.status == "running" and not turns.sent(job.id):
            # Not acted upon as a whole: another attempt, of which is yet to be heard, is a begin.
            self._runs(job, task, None)
            return
        newer = job.seq > self._seqs.get(job.id, -1)
        self._seqs[job.id] = job.seq
        if task is not None and newer and (job.history or job.started_at is not None):
            self._begun.add(job.id)
            self._runs(job, task, self._clock())  # It has begun, whatever followed.
        if task is None or job.status not in ("queued", "running"):
            self._over(job.id, turns)
        elif job.status == "queued" and not turns.sent(job.id):
            turns.done(job.id)  # It was put back.
            self._wait(job, task)
        elif job.status == "queued" and task.name not in self._paused:
            self._late[task.run][job.id] = None

    def _over(self, job_id: str, turns: Turns) -> None:
        """It counts no more, nor waits."""
        if turns.sent(job_id):
            self._begun.add(job_id)
        turns.remove(job_id)
        turns.done(job_id)

    def missed(self) -> None:
        """Some of what others did was not heard: what matters is read."""
        if self.leading:
            self._behind.update(task.name for task in self._window_tasks())
            self._read.set()
            self._run(self._check_now())

    async def _check_now(self) -> None:
        with contextlib.suppress(StoreUnavailable):  # Upkeep will.
            await self.check()

    def _window_tasks(self) -> list[Task]:
        return [task for task in self._catalog.values() if not self.clear(task)]

    async def catch_up(self) -> None:
        """As `Backlog.catch_up`, of the tasks that something may hold back."""
        self._behind.update(task.name for task in self._window_tasks())
        for window in list(self._behind):
            await self._fill_in_turn(window)
        for lane in LANES:
            await self._pump(lane)

    def heard(self, event: JobEvent) -> None:
        """A subscriber of what any process does."""
        job = event.job
        task = self._catalog.get(job.task) if self.leading else None
        if task is None or self.clear(task) or not self._is_news(job):
            return
        turns = self._turns[task.run]
        if job.status == "running":
            if turns.sent(job.id):
                self._begun.add(job.id)
            self._runs(job, task, self._clock())
        elif job.status != "queued":
            self._over(job.id, turns)
        elif event.kind != "note":
            turns.done(job.id)  # It was put back.
            self._wait(job, task)
        self._forget_begun()
        self._room.set()

    async def _pump(self, lane: Lane) -> None:
        """Hand over what may begin now, and what could not be handed over before."""
        turns = self._turns[lane]
        while self.leading and turns is self._turns[lane]:
            some, self._late[lane] = list(self._late[lane]), {}
            while len(some) < AT_ONCE and (job_id := turns.next(self._clock())) is not None:
                some.append(job_id)
            if not some or not await self._hand_over(some, lane, turns):
                break
        # A rate lets something go on later.
        if turns is self._turns[lane] and (at := turns.wake_at(self._clock())) is not None:
            self._alarm.at(at)

    async def _hand_over(self, ids: list[str], lane: Lane, turns: Turns) -> bool:
        """Whether they are with the engine; otherwise they will be."""
        try:
            # Kept first: whoever leads next counts whatever may be with the engine.
            sent = {each: b"%d" % self._seqs[each] for each in ids if turns.sent(each)}
            await asyncio.gather(*(self.keep(SENT + each, sent[each]) for each in sent))
            if self.leading and turns is self._turns[lane]:
                await asyncio.gather(*(self._engine.submit(each, lane) for each in ids))
                return True
        except StoreUnavailable as error:
            logger.debug("jobs cannot be handed over, and will be: %s", error)
            if turns is self._turns[lane]:
                self._late[lane].update(dict.fromkeys(ids))
                self._alarm.at(self._clock() + AGAIN)
        return False

    async def let_go(self, job: Job) -> bool:
        """Whether who leads has let a job go on since it was queued."""
        name = SENT + job.id
        return _let_go(job, (await self._store.facts(name)).get(name))

    def _forget_begun(self) -> None:
        """The facts of those that have begun."""
        if self._begun:
            all_turns, begun = self._turns.values(), self._begun
            self._begun = {each for each in begun if any(turns.sent(each) for turns in all_turns)}
            self._run(self._forget_facts(begun - self._begun))

    async def _forget_facts(self, ids: set[str]) -> None:
        try:
            await asyncio.gather(*(self.keep(SENT + each, None) for each in ids))
        except StoreUnavailable:  # With the next ones. Until then they do no harm.
            self._begun.update(ids)

    # Who waits for others, and what operators do.

    def step_aside(self, job_id: str, lane: Lane) -> None:
        """A running job waits for others: they may have its place meanwhile, here and elsewhere."""
        self._aside(job_id, lane)
        self._tell(job_id, True)

    async def step_back(self, job_id: str, lane: Lane) -> None:
        """It goes on at once and counts again, also beyond a limit: its slot may be anywhere."""
        self._back(job_id, lane)
        self._tell(job_id, False)

    def _tell(self, job_id: str, waits: bool) -> None:
        told = job_id in self._said
        self._said[job_id] = waits
        if not told:
            self._run(self._tell_newest(job_id))

    async def _tell_newest(self, job_id: str) -> None:
        """One at a time, and until the store has it: who waits needs the slot that is free."""
        said: bool | None = None
        try:
            while (waits := self._said[job_id]) is not said:
                try:
                    await self.say(job_id, waits)
                    said = waits
                except StoreClosed:
                    return
                except StoreUnavailable:
                    await asyncio.sleep(AGAIN)
        finally:
            del self._said[job_id]

    def _run(self, errand: Coroutine[Any, Any, None]) -> None:
        self._errands.add(task := asyncio.create_task(errand, name="backlog-errand"))
        task.add_done_callback(self._errands.discard)

    def pause(self, task: Task) -> None:
        """No job of this task begins here from now on; elsewhere when it is heard of."""
        if self.leading:
            super().pause(task)
        else:
            self._paused.add(task.name)

    def resume(self, task: Task) -> None:
        """They begin again."""
        if self.leading:
            super().resume(task)
            self._run(self._deliver(task))
        else:
            self._paused.discard(task.name)

    def _moves(self, task: Task) -> None:
        """What was handed over before a pause is refused when it is delivered: it is read again."""
        if not self.clear(task):
            self._behind.add(task.name)
            self._read.set()

    async def _deliver(self, task: Task) -> None:
        """What waits of a task that is not paused any more, or what of it was refused meanwhile."""
        with contextlib.suppress(StoreUnavailable):
            if not self.clear(task):
                sent = self._turns[task.run].sent_of(task.name)
                self._late[task.run].update(dict.fromkeys(sent))
                self._room.set()
            else:
                waiting = await self._store.queued(task.name, MOST, fair=False)
                await self.submit_all((each.id, task.run) for each in waiting)

    async def idle(self) -> None:
        """Wait until nothing runs here."""
        while True:
            await self._engine.idle()
            if not any(self._engine.running(lane) for lane in LANES):
                return
            await asyncio.sleep(PAUSE)


def _is_new(job: Queued) -> bool:
    """Whether nothing has happened to the job since it was opened, so that it was queued then."""
    return isinstance(job, Job) and job.status == "queued" and job.created_at == job.updated_at


def _let_go(job: Job, seq: bytes | None) -> bool:
    return job.status == "queued" and seq == b"%d" % job.seq


async def _nothing(*_: object) -> None:
    """Says nothing, and keeps nothing."""
