"""The memory store keeps the rules of every store, and agrees with a naive one, step by step."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from quart_app.checks.making import everything
from quart_app.domain.errors import KeyReused, QueueFull, StoreUnavailable, TaskFull
from quart_app.domain.jobs import (
    DEBOUNCED,
    Change,
    Draft,
    Failure,
    Job,
    Keep,
    KeptStep,
    LogLine,
    Note,
    Postponed,
    Progress,
    RequestKey,
    Retention,
    annotate,
    apply,
)
from quart_app.domain.queries import Query, matches
from quart_app.domain.queues import Waiting
from quart_app.domain.status import STATUSES, TERMINAL, WAITING, Move, Status
from quart_app.stores import memory_places
from quart_app.stores.memory import MemoryStore
from quart_app.testing import check_store
from tests.stores.queues import unfair

T = TypeVar("T")

MAX_WAITING = 8


async def test_memory_keeps_every_rule_of_a_store() -> None:
    """`check_store` holds."""
    await check_store(MemoryStore)


class Naive:
    """A store as one would write it on a napkin: a list, and every answer looked for in it."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.ended: list[str] = []
        self.keys: list[tuple[str, RequestKey, list[str]]] = []
        self.steps: list[tuple[str, str, KeptStep]] = []
        self.lines: list[tuple[str, LogLine]] = []
        self.numbers: list[str] = []
        self.facts: list[tuple[str, bytes]] = []
        self.tasks: list[str] = []
        self.order = 0
        self.seq = 0

    def find(self, job_id: str) -> Job | None:
        return next((job for job in self.jobs if job.id == job_id), None)

    def put(self, job: Job) -> None:
        self.seq = job.seq
        self.jobs = [job if job.id == each.id else each for each in self.jobs]
        if job.over:
            self.ended.append(job.id)

    def active(self, task: str, unique: str | None) -> Job | None:
        same = (job for job in self.jobs if (job.task, job.unique) == (task, unique))
        return next((job for job in same if unique is not None and not job.over), None)

    def add(
        self, jobs: list[Job], key: RequestKey | None, most: int | None
    ) -> tuple[list[Job], bool] | type[Exception]:
        for task, known, ids in self.keys:
            if key is not None and (task, known.key) == (jobs[0].task, key.key):
                opened = [job for job in self.jobs if job.id in ids]
                return KeyReused if known != key else (opened, False)
        before = (list(self.jobs), self.order, self.seq)
        added = []
        for job in jobs:
            kept = self.active(job.task, job.unique)
            if kept is None:
                self.order += 1
                self.seq += 1
                self.jobs.append(kept := replace(job, order=self.order, seq=self.seq))
            added.append(kept)
        new = self.order - before[1]
        waiting = [job.task for job in self.jobs if job.status in WAITING]
        full: type[Exception] | None = QueueFull if len(waiting) > MAX_WAITING else None
        if full is None and most is not None and waiting.count(jobs[0].task) > most:
            full = TaskFull
        if new and full is not None:
            self.jobs, self.order, self.seq = before
            return full
        if key is not None and new == len(jobs):
            self.keys.append((jobs[0].task, key, [job.id for job in jobs]))
        if new and jobs[0].task not in self.tasks:
            self.tasks.append(jobs[0].task)
        return added, new > 0

    def page(self, query: Query) -> tuple[list[Job], int | None]:
        found = [
            job
            for job in reversed(self.jobs)
            if matches(job, query) and (query.before is None or job.order < query.before)
        ]
        more = len(found) > query.limit
        found = found[: query.limit]
        return found, found[-1].order if more else None

    def due(self, now: float, limit: int) -> list[str]:
        due = [j for j in self.jobs if j.status == "scheduled" and (j.run_at or 0.0) <= now]
        return [job.id for job in sorted(due, key=lambda j: (j.run_at or 0.0, j.order))][:limit]

    def queue(self, task: str) -> list[Waiting]:
        queued = [job for job in self.jobs if job.status == "queued" and job.task == task]
        queued.sort(key=lambda job: (-job.priority, job.seq))
        return [Waiting(job.seq, job.id, job.task, job.turn, job.priority) for job in queued]

    def began(self, task: str, since: float) -> list[tuple[str | None, float]]:
        jobs = [job for job in self.jobs if job.task == task]
        began = [(job.turn, each.started_at) for job in jobs for each in job.history]
        began += [(job.turn, job.started_at) for job in jobs if job.started_at is not None]
        return [(turn, at) for turn, at in began if at > since]

    def expired(self, now: float, limit: int) -> list[str]:
        waiting = [j for j in self.jobs if j.status in WAITING and not j.history]
        expired = [(j.expires_at, j.order, j.id) for j in waiting if j.expires_at is not None]
        return [job_id for moment, _, job_id in sorted(expired) if moment <= now][:limit]

    def keep_step(self, job_id: str, name: str, step: KeptStep) -> bool:
        job = self.find(job_id)
        if job is None or (job.status, job.attempt) != ("running", step.attempt):
            return False
        if name not in self.steps_of(job_id):
            self.steps.append((job_id, name, step))
        return True

    def steps_of(self, job_id: str) -> dict[str, KeptStep]:
        return {name: step for job, name, step in self.steps if job == job_id}

    def log(self, job_id: str, drafts: list[Draft], most: int, size: int) -> list[LogLine]:
        if self.find(job_id) is None:
            return []
        added = []
        for at, level, text in drafts:
            self.seq += 1
            self.numbers.append(job_id)
            added.append(LogLine(self.seq, self.numbers.count(job_id), at, level, text))
            self.lines.append((job_id, added[-1]))
        while len(lines := self.lines_of(job_id)) > 1 and (
            len(lines) > most or sum(16 + len(line.text) for line in lines) > size
        ):
            self.lines.remove((job_id, lines[0]))
        return added

    def lines_of(self, job_id: str) -> list[LogLine]:
        return [line for job, line in self.lines if job == job_id]

    def keep_fact(self, name: str, value: bytes | None) -> None:
        self.facts = [fact for fact in self.facts if fact[0] != name]
        if value is not None:
            self.facts.append((name, value))

    def size(self, job: Job) -> int:
        size = job.size + sum(len(step.result) for step in self.steps_of(job.id).values())
        return size + sum(16 + len(line.text) for line in self.lines_of(job.id))

    def prune(self, retention: Retention, now: float, limit: int) -> int:
        pruned = 0
        for status, keep in retention.items():
            while pruned < limit and (oldest := self.one_too_many(status, keep, now)) is not None:
                self.forget(oldest)
                pruned += 1
        return pruned

    def one_too_many(self, status: Status, keep: Keep, now: float) -> Job | None:
        ended = [job for job in map(self.find, self.ended) if job and job.status == status]
        if not ended:
            return None
        fits = len(ended) <= keep.count and sum(map(self.size, ended)) <= keep.size
        fits = fits and now - (ended[0].finished_at or 0.0) <= keep.age
        return None if fits else ended[0]

    def forget(self, job: Job) -> None:
        self.ended.remove(job.id)
        self.jobs.remove(job)
        self.steps = [step for step in self.steps if step[0] != job.id]
        self.lines = [line for line in self.lines if line[0] != job.id]
        self.keys = [known for known in self.keys if job.id not in known[2]]


IDS = Bundle("ids")
KEYS = st.none() | st.sampled_from(["k", "l"])
ARGS = st.sampled_from([b"{}", b'{"n":1}'])
ASKED = st.sampled_from([b"1", b"2"])
PARENTS = ("1", "2", "nobody")
TURNS = (None, "a", "b")
UNIQUE = ("u", "v", f"{DEBOUNCED}u")
MOST = st.none() | st.integers(0, 5)


class Machine(RuleBasedStateMachine):
    """Does the same to both, and compares every answer."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.naive = Naive()
        self.made = 0
        self.now = 0.0
        self.run(self.store.open())

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Step a coroutine to its end; this store waits for nobody."""
        while True:
            try:
                call.send(None)
            except StopIteration as end:
                result: T = end.value
                return result

    def make(self, **fields: Any) -> Job:
        self.made += 1
        return Job(id=str(self.made), created_at=self.now, **fields)

    def add(self, jobs: list[Job], asked: bytes, most: int | None = None) -> None:
        key = None if jobs[0].key is None else RequestKey(jobs[0].key, asked)
        expected = self.naive.add(jobs, key, most)
        try:
            added: object = self.run(self.store.add(jobs, MAX_WAITING, key, most))
        except (KeyReused, QueueFull, TaskFull) as error:
            added = type(error)
        assert added == expected

    @rule(
        target=IDS,
        task=st.sampled_from("tu"),
        key=KEYS,
        args=ARGS,
        run_at=st.none() | st.floats(0, 20),
        expires_at=st.none() | st.floats(0, 40),
        tags=st.sampled_from([(), ("x",)]),
        priority=st.integers(-1, 1),
        turn=st.sampled_from(TURNS),
        unique=st.none() | st.sampled_from(UNIQUE),
        parent=st.none() | st.sampled_from(PARENTS),
        asked=ASKED,
        most=MOST,
    )
    def add_one(
        self,
        asked: bytes = b"1",
        run_at: float | None = None,
        most: int | None = None,
        **fields: Any,
    ) -> str:
        status: Status = "queued" if run_at is None else "scheduled"
        job = self.make(status=status, run_at=run_at, **fields)
        self.add([job], asked, most)
        return job.id

    @rule(
        target=IDS,
        key=KEYS,
        asked=ASKED,
        kinds=st.lists(
            st.tuples(st.sampled_from(TURNS), st.none() | st.sampled_from(UNIQUE)),
            min_size=1,
            max_size=4,
        ),
        most=MOST,
    )
    def add_batch(
        self,
        key: str | None,
        asked: bytes,
        kinds: list[tuple[str | None, str | None]],
        most: int | None,
    ) -> str:
        jobs = [self.make(task="t", key=key, turn=turn, unique=name) for turn, name in kinds]
        self.add(jobs, asked, most)
        return jobs[-1].id

    @rule(target=IDS, task=st.sampled_from("tu"), turns=st.sampled_from(["aaaab", "bbba", "aaa"]))
    def add_a_crowd(self, task: str, turns: str) -> str:
        """Of which one turn has the most, and its order is not that of the alphabet."""
        jobs = [self.make(task=task, turn=turn) for turn in turns]
        self.add(jobs, b"1")
        return jobs[-1].id

    @rule(
        job_id=IDS,
        move=st.sampled_from(list(Move)),
        attempt=st.none() | st.integers(0, 2),
        run_at=st.none() | st.floats(0, 40),
        size=st.integers(0, 9),
    )
    def move(
        self, job_id: str, move: Move, attempt: int | None, run_at: float | None, size: int
    ) -> None:
        self.now += 1
        error = Failure("E", "x" * size) if move is Move.FAIL else None
        result = b"x" * size if move is Move.SUCCEED else None
        change = Change(move, self.now, attempt, None, result, error, run_at)
        before = self.naive.find(job_id)
        after = None if before is None else apply(before, change, self.naive.seq + 1)
        if after is not None:
            self.naive.put(after)
        assert self.run(self.store.move(job_id, change)) == after

    @rule(job_id=IDS, size=st.integers(0, 9))
    def end(self, job_id: str, size: int) -> None:
        for move in (Move.DUE, Move.CLAIM, Move.SUCCEED):
            self.move(job_id, move, None, None, size)

    @rule(job_id=IDS, cancel=st.booleans(), current=st.none() | st.integers(0, 2))
    def note(self, job_id: str, cancel: bool, current: int | None) -> None:
        self.now += 1
        progress = None if current is None else Progress(current, 2)
        note = Note(at=self.now, cancel_requested=cancel, progress=progress)
        before = self.naive.find(job_id)
        after = None if before is None else annotate(before, note, self.naive.seq + 1)
        if after is not None:
            self.naive.put(after)
        assert self.run(self.store.note(job_id, note)) == after

    @rule(job_id=IDS, later=st.floats(0, 20), args=ARGS)
    def postpone(self, job_id: str, later: float, args: bytes) -> None:
        self.now += 1
        note = Note(at=self.now, postponed=Postponed(args, self.now + later))
        before = self.naive.find(job_id)
        after = None if before is None else annotate(before, note, self.naive.seq + 1)
        assert (after is None) == (before is None or before.status != "scheduled")
        if after is not None:
            assert (after.args, after.run_at) == (args, self.now + later)
            self.naive.put(after)
        assert self.run(self.store.note(job_id, note)) == after

    @rule(job_id=IDS, attempt=st.integers(0, 2), name=st.sampled_from("ab"), size=st.integers(1, 9))
    def keep_step(self, job_id: str, attempt: int, name: str, size: int) -> None:
        self.now += 1
        step = KeptStep(b"x" * size, attempt, self.now)
        kept = self.run(self.store.keep_step(job_id, name, step))
        assert kept == self.naive.keep_step(job_id, name, step)

    @rule(
        job_id=IDS,
        texts=st.lists(st.text(max_size=9), max_size=4),
        level=st.sampled_from(["info", "error"]),
        most=st.integers(0, 5),
        size=st.integers(0, 120),
    )
    def log(self, job_id: str, texts: list[str], level: str, most: int, size: int) -> None:
        drafts = [(self.now, level, text) for text in texts]
        lines = self.run(self.store.log(job_id, drafts, most, size))
        assert lines == self.naive.log(job_id, drafts, most, size)

    @rule(job_id=IDS, after=st.integers(0, 60), limit=st.integers(1, 5))
    def logs(self, job_id: str, after: int, limit: int) -> None:
        lines = [line for line in self.naive.lines_of(job_id) if line.seq > after]
        assert self.run(self.store.logs(job_id, after, limit)) == lines[:limit]

    @rule(name=st.sampled_from(["a/1", "a/2", "b"]), value=st.none() | st.binary(max_size=3))
    def keep_fact(self, name: str, value: bytes | None) -> None:
        self.run(self.store.keep_fact(name, value))
        self.naive.keep_fact(name, value)

    @rule(prefix=st.sampled_from(["", "a", "a/", "a/1", "c"]))
    def facts(self, prefix: str) -> None:
        found = {name: value for name, value in self.naive.facts if name.startswith(prefix)}
        assert self.run(self.store.facts(prefix)) == found

    @rule(
        count=st.integers(0, 6),
        age=st.floats(0, 30),
        size=st.integers(0, 60),
        limit=st.integers(1, 4),
        failures=st.integers(0, 3),
    )
    def prune(self, count: int, age: float, size: int, limit: int, failures: int = 0) -> None:
        retention = {**everything(count, age, size), "failed": Keep(failures, age, size)}
        expected = self.naive.prune(retention, self.now, limit)
        assert self.run(self.store.prune(retention, self.now, limit)) == expected

    @rule(now=st.floats(0, 50), limit=st.integers(1, 5))
    def due(self, now: float, limit: int) -> None:
        found = self.run(self.store.due(now, limit))
        assert [job.id for job in found] == self.naive.due(now, limit)
        assert found == [self.naive.find(job.id) for job in found]

    @rule(task=st.sampled_from("tux"), limit=st.integers(1, 6))
    def queued(self, task: str, limit: int) -> None:
        assert self.run(self.store.queued(task, limit, False)) == self.naive.queue(task)[:limit]

    @rule(task=st.sampled_from("tux"), limit=st.integers(1, 6))
    def queued_fairly(self, task: str, limit: int) -> None:
        found = self.run(self.store.queued(task, limit, True))
        assert unfair(found, self.naive.queue(task), limit) == []

    @rule(task=st.sampled_from("tu"), since=st.floats(0, 50))
    def began(self, task: str, since: float) -> None:
        found = self.run(self.store.began(task, since))
        assert Counter(found) == Counter(self.naive.began(task, since))

    @rule(now=st.floats(0, 50), limit=st.integers(1, 5))
    def expired(self, now: float, limit: int) -> None:
        found = self.run(self.store.expired(now, limit))
        assert [job.id for job in found] == self.naive.expired(now, limit)
        assert found == [self.naive.find(job.id) for job in found]

    @rule(
        statuses=st.frozensets(st.sampled_from(STATUSES)),
        task=st.none() | st.sampled_from("tu"),
        tag=st.none() | st.just("x"),
        parent=st.none() | st.sampled_from(PARENTS),
        text=st.none() | st.sampled_from(["n", "1"]),
        limit=st.integers(1, 4),
        before=st.none() | st.integers(0, 30),
    )
    def page(self, **filters: Any) -> None:
        query = Query(**filters)
        page = self.run(self.store.page(query))
        assert (page.jobs, page.next) == self.naive.page(query)

    @precondition(lambda self: self.naive.jobs)
    @rule(after=st.integers(0, 60), limit=st.integers(1, 5))
    def events(self, after: int, limit: int) -> None:
        events = self.run(self.store.events(after, limit))
        newer = sorted((j for j in self.naive.jobs if j.seq > after), key=lambda job: job.seq)
        assert [event.job for event in events] == newer[:limit]

    @invariant()
    def agree(self) -> None:
        assert self.run(self.store.counts()) == {
            status: sum(job.status == status for job in self.naive.jobs) for status in STATUSES
        }
        for job_id in range(self.made + 1):
            assert self.run(self.store.get(str(job_id))) == self.naive.find(str(job_id))
            steps = self.run(self.store.steps(str(job_id)))
            assert list(steps.items()) == list(self.naive.steps_of(str(job_id)).items())
        assert {job.id for job in self.naive.jobs if job.status in TERMINAL} == {*self.naive.ended}

    @invariant()
    def agree_on_tasks(self) -> None:
        jobs = self.naive.jobs
        assert self.run(self.store.counts_by_task()) == {
            task: {
                status: sum((job.task, job.status) == (task, status) for job in jobs)
                for status in STATUSES
            }
            for task in self.naive.tasks
        }
        for task, unique in itertools.product("tu", UNIQUE):
            found = self.run(self.store.active(task, unique))
            assert found == self.naive.active(task, unique)
        oldest = next((job for job in jobs if job.status == "queued"), None)
        assert self.run(self.store.oldest_queued()) == oldest

    def teardown(self) -> None:
        self.run(self.store.close())


Machine.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
TestMachine = pytest.mark.slow(Machine.TestCase)


def test_a_walk_by_hand() -> None:
    """Endings are forgotten oldest first, until what is left is within the bounds."""
    machine = Machine()
    ids = [machine.add_one(task="t") for _ in range(4)]
    for job_id in ids:
        machine.end(job_id, 3)
    machine.prune(count=3, age=99.0, size=99, limit=9)
    machine.prune(count=9, age=99.0, size=10, limit=9)
    machine.prune(count=0, age=0.0, size=0, limit=1)
    machine.agree()
    assert machine.naive.ended == ids[3:]
    machine.teardown()


async def test_a_long_list_gives_way_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that finds little looks at many rows, and others run meanwhile; the list is right
    although jobs come and go."""
    monkeypatch.setattr(memory_places, "SCAN", 10)
    store = MemoryStore()
    await store.open()
    jobs = [Job(id=str(n), task="a" if n % 30 == 0 else "b") for n in range(600)]
    await store.add(jobs, 10_000)
    turns = 0

    async def others() -> None:
        nonlocal turns
        for number in range(0, 590):
            turns += 1
            await store.move(str(number), Change(Move.WITHDRAW, at=1.0))
            await store.prune(everything(0, 0.0, 0), 2.0, 10)
            await store.add([Job(id=f"new-{number}", task="a")], 10_000)
            await asyncio.sleep(0)

    meanwhile = asyncio.create_task(others())
    page = await store.page(Query(task="a", limit=100))
    found = [int(job.id) for job in page.jobs]
    assert turns > 20
    assert found == sorted(found, reverse=True)
    assert set(found) >= {n for n in range(0, 600, 30) if n > 2 * turns}
    assert page.next is None
    await meanwhile
    page = await store.page(Query(limit=100))
    assert len(page.jobs) == 100
    await store.close()


async def test_a_list_that_is_being_made_ends_when_the_store_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the error that every call then has."""
    monkeypatch.setattr(memory_places, "SCAN", 10)
    store = MemoryStore()
    await store.open()
    await store.add([Job(id=str(n), task="b") for n in range(100)], 10_000)
    listing = asyncio.create_task(store.page(Query(task="a")))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await listing


async def test_forgotten_jobs_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list's order forgets them, too."""
    monkeypatch.setattr(memory_places, "SCAN", 10)
    store = MemoryStore()
    await store.open()
    for number in range(500):
        await store.add([Job(id=str(number), task="t")], 10)
        await store.move(str(number), Change(Move.WITHDRAW, at=1.0))
        await store.prune(everything(3, 99.0, 10**9), 1.0, 10)
        assert len(store._places.orders) == len(store._places.ids) <= 20
    assert [job.id for job in (await store.page(Query())).jobs] == ["499", "498", "497"]
    await store.close()


async def test_moments_of_forgotten_jobs_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they are days away; those of the others stay."""
    monkeypatch.setattr("quart_app.stores.memory_moments.SLACK", 10)
    store = MemoryStore()
    await store.open()
    later = Job(id="later", task="t", status="scheduled", run_at=50.0, expires_at=90.0)
    await store.add([later], 10)
    for number in range(200):
        job_id = str(number)
        job = Job(id=job_id, task="t", status="scheduled", run_at=60.0, expires_at=99.0)
        await store.add([job], 10)
        await store.note("later", Note(at=1.0, postponed=Postponed(b"{}", 50.0)))
        await store.move(job_id, Change(Move.WITHDRAW, at=1.0))
        await store.prune(everything(3, 99.0, 10**9), 1.0, 10)
        assert max(len(store._scheduled._heap), len(store._expiring._heap)) <= 20
    assert [job.id for job in await store.due(70.0, 10)] == ["later"]
    assert [job.id for job in await store.expired(99.0, 10)] == ["later"]
    await store.close()


async def test_a_job_that_is_scheduled_anew_is_due_at_its_new_moment() -> None:
    """The old moment is stale, even where it comes first."""
    store = MemoryStore()
    await store.open()
    await store.add([Job(id="a", task="t", status="scheduled", run_at=1.0)], 10)
    for move, run_at in [(Move.DUE, None), (Move.CLAIM, None), (Move.RETRY, 50.0)]:
        await store.move("a", Change(move, at=2.0, run_at=run_at))
    assert await store.due(49.0, 10) == []
    assert [job.id for job in await store.due(50.0, 10)] == ["a"]
    await store.close()
