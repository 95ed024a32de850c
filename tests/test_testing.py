"""What we give to those who test: virtual time, waiting without sleeping, conformance suites."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from quart_app import testing
from quart_app.checks import engine as engine_rules
from quart_app.checks import making
from quart_app.checks import store as store_rules
from quart_app.core.ports import Run
from quart_app.domain.jobs import (
    Change,
    Draft,
    Job,
    JobEvent,
    Keep,
    KeptStep,
    LogLine,
    Note,
    RequestKey,
    Retention,
    apply,
)
from quart_app.domain.queries import Page, Query
from quart_app.domain.queues import Waiting
from quart_app.domain.status import Status
from quart_app.domain.tasks import Lane
from quart_app.engines.local import LocalEngine
from quart_app.stores.memory import MemoryStore
from quart_app.testing import check_engine, check_store, virtual, virtual_run, wait_until


def test_a_day_passes_in_no_time() -> None:
    """Timers fire in their order, each at its moment."""

    async def main() -> list[tuple[float, str]]:
        loop = asyncio.get_running_loop()
        seen: list[tuple[float, str]] = []

        async def note(after: float, name: str) -> None:
            await asyncio.sleep(after)
            seen.append((loop.time(), name))

        await asyncio.gather(note(86_400, "day"), note(0.5, "half"), note(3_600, "hour"))
        return seen

    began = time.monotonic()
    assert virtual_run(main()) == [(0.5, "half"), (3_600.0, "hour"), (86_400.0, "day")]
    assert time.monotonic() - began < 5


@pytest.mark.virtual
async def test_the_mark_gives_a_test_virtual_time() -> None:
    """As the conftest wires it."""
    began = time.monotonic()
    await asyncio.sleep(1_000)
    assert asyncio.get_running_loop().time() == 1_000
    assert time.monotonic() - began < 5


@pytest.mark.virtual
async def test_a_thread_is_waited_for_in_real_time() -> None:
    """Where nobody else can go on and no timer is set."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    thread = threading.Timer(0.05, lambda: loop.call_soon_threadsafe(woken.set))
    thread.start()
    await woken.wait()
    assert loop.time() == 0
    thread.join()


def test_a_deadlock_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that waits for nothing fails soon instead of standing still."""
    monkeypatch.setattr(virtual, "REAL_WAIT", 0.01)

    async def main() -> None:
        await asyncio.Event().wait()

    loop = testing.VirtualTimeLoop()
    task = loop.create_task(main())
    with pytest.raises(RuntimeError, match="a deadlock"):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def test_a_wait_without_end_is_said_also_where_timers_go_on() -> None:
    """As those of a running app do: no test goes on for ever at full speed."""

    async def ticking() -> None:
        for _ in range(1_000_000):
            await asyncio.sleep(86_400)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ticking())
            await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="ten years"):
        virtual_run(main())


@pytest.mark.virtual
async def test_a_thread_that_is_awaited_is_not_jumped_over() -> None:
    """While it works time goes as it really does; afterwards it jumps again."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        await asyncio.to_thread(time.sleep, 0.05)
    assert 0.04 < loop.time() < 10
    await asyncio.sleep(3_600)
    assert 3_600 < loop.time() < 3_610


@pytest.mark.virtual
async def test_timers_fire_in_real_time_while_a_thread_works() -> None:
    """Each at its moment, so that what looks at the thread every now and then does."""
    loop = asyncio.get_running_loop()
    done = threading.Event()
    work = loop.run_in_executor(None, done.wait, 10)
    began = time.monotonic()
    await asyncio.sleep(0.02)
    assert time.monotonic() - began >= 0.015
    assert loop.time() == pytest.approx(0.02, abs=0.01)
    done.set()
    assert await work is True


@pytest.mark.virtual
async def test_time_is_real_where_that_is_asked_for() -> None:
    """For work of other kinds: without a timer it is waited for however long it takes."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, testing.VirtualTimeLoop)
    woken = asyncio.Event()
    thread = threading.Timer(0.2, lambda: loop.call_soon_threadsafe(woken.set))
    with loop.real_time():
        thread.start()
        await woken.wait()
    thread.join()
    assert loop.time() == pytest.approx(0.2, abs=1)
    assert loop.time() > 0.01


async def test_waiting_ends_when_it_holds() -> None:
    """At once where it does already; a coroutine may be asked, too."""
    asked = 0

    def holds_later() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    async def holds() -> str:
        return "yes"

    await wait_until(holds_later, "it holds")
    assert asked == 4
    await wait_until(holds, "it holds")


async def test_waiting_in_vain_says_for_what() -> None:
    """After the timeout, not for ever."""
    with pytest.raises(TimeoutError, match=r"within 0\.02 s: the moon is blue"):
        await wait_until(lambda: False, "the moon is blue", timeout=0.02)


class Forgets(MemoryStore):
    """Loses what it was given."""

    async def get(self, job_id: str) -> Job | None:
        job = await super().get(job_id)
        return None if job is None else replace(job, tags=())


class MovesFromAnywhere(MemoryStore):
    """Has no fence."""

    async def move(self, job_id: str, change: Change) -> Job | None:
        before = self._jobs[job_id]
        source = next(iter(change.move.sources))
        job = apply(replace(before, status=source), change, self._seq + 1)
        assert job is not None
        self._jobs[job_id] = job
        return job


class MovesNowhere(MemoryStore):
    """Refuses everything."""

    async def move(self, job_id: str, change: Change) -> Job | None:
        return None


class IgnoresAttempts(MemoryStore):
    """Lets a late writer write."""

    async def move(self, job_id: str, change: Change) -> Job | None:
        return await super().move(job_id, replace(change, attempt=None))


class ReadsThenWrites(MemoryStore):
    """Lets others in between its look and its write."""

    async def move(self, job_id: str, change: Change) -> Job | None:
        before = self._jobs[job_id]
        await asyncio.sleep(0)
        job = self._jobs[job_id] = apply(before, change, self._seq + 1) or before
        return job

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        known = key is not None and (jobs[0].task, key.key) in self._keys
        await asyncio.sleep(0)
        assert not known
        return await super().add(jobs, max_waiting)


class NotesTwice(MemoryStore):
    """Tells the same again."""

    async def note(self, job_id: str, note: Note) -> Job | None:
        job = await super().note(job_id, note)
        return self._jobs[job_id] if job is None else job


class NotesLate(MemoryStore):
    """Takes another attempt's word."""

    async def note(self, job_id: str, note: Note) -> Job | None:
        return await super().note(job_id, replace(note, attempt=None))


class Boundless(MemoryStore):
    """Takes as many as come."""

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        return await super().add(jobs, 10**9, key, max_of_task)


class IgnoresKeys(MemoryStore):
    """Starts everything twice."""

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        return await super().add(jobs, max_waiting)


class IgnoresFingerprints(MemoryStore):
    """Gives a job that nobody asked for."""

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        return await super().add(jobs, max_waiting, key and RequestKey(key.key, b""))


class RemembersTheFirst(MemoryStore):
    """Keeps one job for each key, however many it opened."""

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        kept, new = await super().add(jobs, max_waiting, key, max_of_task)
        return (kept, True) if new else (kept[:1], False)


class QueuesByAge(MemoryStore):
    """Lets what comes back pass those that wait longer."""

    async def queued(self, task: str, limit: int, fair: bool) -> list[Waiting]:
        found = await super().queued(task, 10**9, fair)
        return sorted(found, key=lambda each: self._jobs[each.id].order)[:limit]


class ExpiresNothing(MemoryStore):
    """Lets everything wait for ever."""

    async def expired(self, now: float, limit: int) -> list[Job]:
        return []


class BeginsTooLate(MemoryStore):
    """Lets a job begin whose moment is over."""

    async def move(self, job_id: str, change: Change) -> Job | None:
        return await super().move(job_id, replace(change, at=min(change.at, 4.0)))


class TakesLateSteps(MemoryStore):
    """Keeps what an attempt says that is not the job's any more."""

    async def keep_step(self, job_id: str, name: str, step: KeptStep) -> bool:
        job = self._jobs.get(job_id)
        return await super().keep_step(
            job_id, name, replace(step, attempt=job.attempt if job else 0)
        )


class TakesTheLastResult(MemoryStore):
    """Lets a step that is done again change what was returned."""

    async def keep_step(self, job_id: str, name: str, step: KeptStep) -> bool:
        self._steps.get(job_id, {}).pop(name, None)
        return await super().keep_step(job_id, name, step)


class OldestFirst(MemoryStore):
    """Lists in the wrong order."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        return Page(page.jobs[::-1], page.next)


class FiltersNothing(MemoryStore):
    """Lists too much."""

    async def page(self, query: Query) -> Page:
        return await super().page(Query(limit=query.limit, before=query.before))


class TellsInAnyOrder(MemoryStore):
    """Tells the newest first."""

    async def events(self, after: int, limit: int) -> list[JobEvent]:
        return (await super().events(after, limit))[::-1]


class Impatient(MemoryStore):
    """Finds everything due."""

    async def due(self, now: float, limit: int) -> list[Job]:
        return await super().due(now + 1_000, limit)


class FollowsTheQueue(MemoryStore):
    """Lets the many jobs of one turn hide another's."""

    async def queued(self, task: str, limit: int, fair: bool) -> list[Waiting]:
        return await super().queued(task, limit, False)


class IgnoresUnique(MemoryStore):
    """Opens a second job of one key."""

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        self._unique.clear()
        return await super().add(jobs, max_waiting, key, max_of_task)


class BoundsNoTask(MemoryStore):
    """Keeps more of a task than may wait."""

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        return await super().add(jobs, max_waiting, key)


class PostponesNothing(MemoryStore):
    """Says that a job is later, and keeps its first moment."""

    async def note(self, job_id: str, note: Note) -> Job | None:
        before = self._jobs.get(job_id)
        noted = await super().note(job_id, note)
        if before is not None and note.postponed is not None:
            self._jobs[job_id] = before
        return noted


class LogsWithoutEnd(MemoryStore):
    """Keeps every line."""

    async def log(
        self, job_id: str, drafts: Sequence[Draft], keep_lines: int, keep_bytes: int
    ) -> list[LogLine]:
        return await super().log(job_id, drafts, 10**9, 10**9)


class FactsForEver(MemoryStore):
    """Forgets no fact."""

    async def keep_fact(self, name: str, value: bytes | None) -> None:
        if value is not None:
            await super().keep_fact(name, value)


class BeganNever(MemoryStore):
    """Knows of no attempt."""

    async def began(self, task: str, since: float) -> list[tuple[str | None, float]]:
        return []


class PrunesAll(MemoryStore):
    """Forgets too much."""

    async def prune(self, retention: Retention, now: float, limit: int) -> int:
        return await super().prune(making.everything(0, 0.0, 0), now, limit)


class PrunesOnce(MemoryStore):
    """Takes few at once, and says that these were all."""

    pruned = 0

    async def prune(self, retention: Retention, now: float, limit: int) -> int:
        if self.pruned and limit == 4:
            return 0
        self.pruned = await super().prune(retention, now, limit)
        return self.pruned


class PrunesTogether(MemoryStore):
    """Forgets the oldest failure for a flood of successes."""

    async def prune(self, retention: Retention, now: float, limit: int) -> int:
        if len(self._finished["succeeded"]) <= retention["succeeded"].count:
            return 0
        return await super().prune({**retention, "failed": Keep(0, 0.0, 0)}, now, limit)


class Miscounts(MemoryStore):
    """Counts what is no more."""

    async def counts(self) -> dict[Status, int]:
        return {status: count + 1 for status, count in (await super().counts()).items()}


class Quiet(MemoryStore):
    """Goes on when it is closed."""

    async def close(self) -> None:
        return None


class Hangs(MemoryStore):
    """Never answers."""

    async def get(self, job_id: str) -> Job | None:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


BROKEN_STORES: list[tuple[type[MemoryStore], str]] = [
    (Forgets, "keeps_what_it_is_given"),
    (Hangs, "keeps_what_it_is_given"),
    (MovesFromAnywhere, "makes_every_move_of_the_table"),
    (MovesNowhere, "makes_every_move_of_the_table"),
    (IgnoresAttempts, "fences_a_late_writer"),
    (ReadsThenWrites, "lets_one_of_many_win"),
    (NotesTwice, "notes_facts_of_unfinished_jobs"),
    (NotesLate, "notes_facts_of_unfinished_jobs"),
    (Boundless, "bounds_what_waits"),
    (IgnoresKeys, "knows_a_key_again"),
    (IgnoresFingerprints, "knows_a_key_again"),
    (RemembersTheFirst, "knows_the_key_of_many"),
    (ReadsThenWrites, "makes_one_of_many_with_one_key"),
    (OldestFirst, "pages_newest_first"),
    (FiltersNothing, "filters_a_list"),
    (TellsInAnyOrder, "tells_events_in_order"),
    (Impatient, "finds_what_is_due"),
    (QueuesByAge, "finds_what_is_queued"),
    (ExpiresNothing, "finds_what_expires"),
    (BeginsTooLate, "finds_what_expires"),
    (TakesLateSteps, "keeps_steps"),
    (TakesTheLastResult, "keeps_steps"),
    (FollowsTheQueue, "finds_the_queue_of_each_turn"),
    (IgnoresUnique, "keeps_one_of_a_unique_key"),
    (BoundsNoTask, "bounds_what_waits_of_a_task"),
    (PostponesNothing, "postpones_what_is_scheduled"),
    (LogsWithoutEnd, "keeps_a_bounded_log"),
    (FactsForEver, "keeps_facts"),
    (BeganNever, "tells_when_attempts_began"),
    (PrunesOnce, "prunes_large_jobs_too"),
    (PrunesAll, "prunes_the_oldest_endings"),
    (PrunesTogether, "prunes_each_status_by_itself"),
    (Miscounts, "counts_by_status"),
    (Quiet, "is_loud_when_closed"),
]


@pytest.mark.virtual
@pytest.mark.parametrize(("broken", "name"), BROKEN_STORES)
async def test_a_store_that_breaks_a_rule_is_told_which(
    broken: type[MemoryStore], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name and its sentence; each rule notices what it is there for."""
    one = next(rule for rule in store_rules.RULES if rule.__name__ == name)
    monkeypatch.setattr(store_rules, "RULES", [one])
    with pytest.raises(AssertionError) as caught:
        await check_store(broken)
    assert str(caught.value) == f"{name}: {one.__doc__}"
    assert caught.value.__cause__ is not None


def test_every_rule_of_a_store_is_broken_by_one_above() -> None:
    """No rule is there that cannot fail."""
    assert {name for _, name in BROKEN_STORES} == names(store_rules.RULES)


def names(rules: Sequence[Callable[[Any], Awaitable[None]]]) -> set[str]:
    """The rules by name."""
    return {getattr(rule, "__name__", "") for rule in rules}


class Twice(LocalEngine):
    """Delivers again what it has delivered."""

    async def work(self, run: Run) -> None:
        async def twice(job_id: str) -> None:
            await run(job_id)
            await run(job_id)

        await super().work(twice)


class Unbounded(LocalEngine):
    """Has room for all."""

    async def submit(self, job_id: str, lane: Lane) -> None:
        self._rooms[lane].limit = 100
        await super().submit(job_id, lane)


class TakesAgain(LocalEngine):
    """Does not look whether it has an id already."""

    async def submit(self, job_id: str, lane: Lane) -> None:
        await super().submit(job_id if not self.holds(job_id) else job_id + "x", lane)


class Remembers(LocalEngine):
    """Takes an id once and never again."""

    async def submit(self, job_id: str, lane: Lane) -> None:
        seen = self.__dict__.setdefault("seen", set())
        if job_id not in seen:
            seen.add(job_id)
            await super().submit(job_id, lane)


class NeverForgets(LocalEngine):
    """Delivers what nobody wants any more."""

    async def forget(self, job_id: str) -> None:
        return None


class LosesRoom(LocalEngine):
    """A run that fails keeps its room."""

    async def work(self, run: Run) -> None:
        async def stuck(job_id: str) -> None:
            try:
                await run(job_id)
            except OSError:
                await asyncio.Event().wait()

        await super().work(stuck)

    async def close(self) -> list[str]:
        for task in self._tasks.values():
            task.cancel()
        return await super().close()


class Drops(LocalEngine):
    """Keeps nothing."""

    async def submit(self, job_id: str, lane: Lane) -> None:
        await super().submit(job_id, lane)
        await self.forget(job_id)


class NeverStops(LocalEngine):
    """Goes on when it is closed."""

    async def close(self) -> list[str]:
        return []


class TellsTwice(LocalEngine):
    """Says of each job twice that it is done."""

    async def work(self, run: Run) -> None:
        on_done = self.on_done

        def twice(job_id: str, lane: Lane) -> None:
            on_done(job_id, lane)
            on_done(job_id, lane)

        self.on_done = twice
        await super().work(run)


class HoldsItsPlace(LocalEngine):
    """Lets nobody have the place of a job that waits for others."""

    def step_aside(self, lane: Lane) -> None:
        return None


class KeepsWhatIsGivenBack(LocalEngine):
    """Says that others may take it, and gives it to nobody again."""

    shared = True


BROKEN_ENGINES: list[tuple[type[LocalEngine], str]] = [
    (Twice, "delivers_in_order"),
    (Unbounded, "holds_back_beyond_its_room"),
    (TakesAgain, "takes_an_id_once"),
    (Remembers, "delivers_again_when_asked_again"),
    (NeverForgets, "forgets_what_waits"),
    (LosesRoom, "survives_a_failing_run"),
    (KeepsWhatIsGivenBack, "delivers_again_what_is_given_back"),
    (Drops, "keeps_until_work_begins"),
    (NeverStops, "stops_when_closed"),
    (TellsTwice, "tells_of_its_room"),
    (HoldsItsPlace, "lets_others_have_the_place_of_who_waits"),
]


@pytest.mark.virtual
@pytest.mark.parametrize(("broken", "name"), BROKEN_ENGINES)
async def test_an_engine_that_breaks_a_rule_is_told_which(
    broken: type[LocalEngine], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name and its sentence; each rule notices what it is there for."""
    one = next(rule for rule in engine_rules.RULES if rule.__name__ == name)
    monkeypatch.setattr(engine_rules, "RULES", [one])
    with pytest.raises(AssertionError) as caught:
        await check_engine(lambda: broken({"loop": 2, "thread": 1, "process": 1}))
    assert str(caught.value) == f"{name}: {one.__doc__}"
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def test_every_rule_of_an_engine_is_broken_by_one_above() -> None:
    """No rule is there that cannot fail."""
    assert {name for _, name in BROKEN_ENGINES} == names(engine_rules.RULES)


async def test_a_suite_gives_each_rule_a_fresh_one_and_closes_it() -> None:
    """So that no rule depends on another."""
    made: list[MemoryStore] = []

    def make() -> MemoryStore:
        made.append(MemoryStore())
        return made[-1]

    await check_store(make)
    assert len(made) == len(store_rules.RULES)
    assert not any(store._open for store in made)
