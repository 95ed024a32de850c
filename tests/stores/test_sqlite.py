"""The SQLite store keeps the rules of every store, agrees with the one in memory, and is cheap."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from quart_app.checks.making import add, bring, change, everything, request
from quart_app.core.ports import Store
from quart_app.domain.errors import KeyReused, QueueFull, TaskFull
from quart_app.domain.ids import new_id
from quart_app.domain.jobs import (
    DEBOUNCED,
    Attempt,
    Change,
    Failure,
    Job,
    Keep,
    KeptStep,
    Note,
    Postponed,
    Progress,
    RequestKey,
)
from quart_app.domain.queries import Query
from quart_app.domain.status import STATUSES, TERMINAL, Move, Status
from quart_app.stores.memory import MemoryStore
from quart_app.stores.sqlite import changes, transaction
from quart_app.stores.sqlite.file import connect, statements
from quart_app.stores.sqlite.rows import job_of
from quart_app.stores.sqlite.store import SQLiteStore
from quart_app.stores.sqlite.verbs import sql
from quart_app.testing import check_store, wait_until
from tests.stores.faults import Gate, hooked, unsound
from tests.stores.queues import unfair

T = TypeVar("T")

MAX_WAITING = 8
LIVE = transaction.LIVE


@pytest.mark.slow
async def test_sqlite_keeps_every_rule_of_a_store(tmp_path: Path) -> None:
    """`check_store` holds."""
    numbers = itertools.count()
    await check_store(lambda: SQLiteStore(tmp_path / f"{next(numbers)}.db"))


# ---------------------------------------------------------------- against memory

IDS = Bundle("ids")
TASKS = st.sampled_from("tu")
TURNS = st.sampled_from([None, "a", "b", "ü"])
UNIQUE = ("u", "v", f"{DEBOUNCED}u")
PARENTS = st.sampled_from(["1", "2", "nobody"])
MOST = st.none() | st.integers(0, 5)
LINE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=9)
"""What a reporter lets through: no control characters, no halves of characters."""


async def all_of(found: Awaitable[Sequence[Any]]) -> list[str]:
    """What was found, in whatever order."""
    return sorted(map(repr, await found))


async def counted(found: Awaitable[dict[str, dict[Status, int]]]) -> dict[str, dict[Status, int]]:
    """The counts of the tasks that have any job."""
    return {task: counts for task, counts in (await found).items() if any(counts.values())}


class Pair(RuleBasedStateMachine):
    """Does the same to both, and compares every answer."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "jobs.db"
        self.memory = MemoryStore()
        self.sqlite = SQLiteStore(self.path)
        self.made = 0
        self.now = 0.0
        self.runner.run(self.memory.open())
        self.runner.run(self.sqlite.open())

    @initialize(live=st.sampled_from([1, 3, 20_000]))
    def remember(self, live: int) -> None:
        """However many jobs are remembered beside their rows."""
        transaction.LIVE = live

    def answer(self, call: Coroutine[Any, Any, T]) -> T | type[Exception]:
        try:
            return self.runner.run(call)
        except (KeyReused, QueueFull, TaskFull) as error:
            return type(error)

    def both(self, call: Callable[[Any], Coroutine[Any, Any, T]]) -> T | type[Exception]:
        """The answer of both, which is the same."""
        expected = self.answer(call(self.memory))
        assert self.answer(call(self.sqlite)) == expected
        return expected

    def add(self, jobs: list[Job], key: RequestKey | None, most: int | None = None) -> None:
        # Each store sets the order and seq of jobs of its own.
        self.both(lambda store: store.add([replace(job) for job in jobs], MAX_WAITING, key, most))

    def make(self, **fields: Any) -> Job:
        self.made += 1
        return Job(id=str(self.made), created_at=self.now, updated_at=self.now, **fields)

    @rule(
        target=IDS,
        task=TASKS,
        key=st.none() | st.sampled_from("kl"),
        asked=st.sampled_from([b"", b"1"]),
        run_at=st.none() | st.floats(0, 20),
        status=st.sampled_from(["queued", "scheduled"]),
        expires_at=st.none() | st.floats(0, 40),
        tags=st.sampled_from([(), ("x",), ("y", "x")]),
        priority=st.integers(-1, 1),
        turn=TURNS,
        unique=st.none() | st.sampled_from(UNIQUE),
        parent=st.none() | PARENTS,
        most=MOST,
    )
    def add_one(self, key: str | None, asked: bytes, most: int | None, **fields: Any) -> str:
        job = self.make(key=key, args=b'{"n":' + (asked or b"2") + b"}", **fields)
        self.add([job], None if key is None else RequestKey(key, asked), most)
        return job.id

    @rule(
        target=IDS,
        task=TASKS,
        kinds=st.lists(
            st.tuples(TURNS, st.none() | st.sampled_from(UNIQUE)), min_size=1, max_size=4
        ),
        keyed=st.booleans(),
        most=MOST,
    )
    def add_many(
        self,
        task: str,
        kinds: list[tuple[str | None, str | None]],
        keyed: bool,
        most: int | None,
    ) -> str:
        key = f"many-{self.made}" if keyed else None
        jobs = [self.make(task=task, key=key, turn=turn, unique=name) for turn, name in kinds]
        self.add(jobs, None if key is None else RequestKey(key, b""), most)
        if key is not None:
            jobs = [self.make(task=task, key=key) for _ in kinds]
            self.add(jobs, RequestKey(key, b""))
        return jobs[-1].id

    @rule(target=IDS, task=TASKS, turns=st.sampled_from(["aaaab", "bbba", "aaaaab"]))
    def add_a_crowd(self, task: str, turns: str) -> str:
        """Of which one turn has the most."""
        jobs = [self.make(task=task, turn=turn) for turn in turns]
        self.add(jobs, None)
        return jobs[-1].id

    @rule(
        job_id=IDS,
        move=st.sampled_from(list(Move)),
        attempt=st.none() | st.integers(0, 2),
        run_at=st.none() | st.floats(0, 40),
        text=st.text(max_size=9),
        later=st.floats(-5, 5),
    )
    def move(
        self,
        job_id: str,
        move: Move,
        attempt: int | None,
        run_at: float | None,
        text: str,
        later: float,
    ) -> None:
        self.now = max(0.0, self.now + later)  # A clock may be set back.
        error = Failure("E", text) if move in (Move.FAIL, Move.RETRY) else None
        result = b'"' + b"x" * len(text) + b'"' if move is Move.SUCCEED else None
        made = Change(move, self.now, attempt, None, result, error, run_at)
        self.both(lambda store: store.move(job_id, made))

    @rule(job_id=IDS, last=st.sampled_from([Move.SUCCEED, Move.FAIL, Move.CANCEL, Move.INTERRUPT]))
    def end(self, job_id: str, last: Move) -> None:
        for move in (Move.DUE, Move.CLAIM, last):
            self.move(job_id, move, None, None, "abc", 1.0)

    @rule(job_id=IDS, cancel=st.booleans(), stuck=st.booleans(), done=st.none() | st.floats(0, 2))
    def note(self, job_id: str, cancel: bool, stuck: bool, done: float | None) -> None:
        progress = None if done is None else Progress(done, 2, "half")
        note = Note(at=self.now, cancel_requested=cancel, unresponsive=stuck, progress=progress)
        self.both(lambda store: store.note(job_id, note))

    @rule(job_id=IDS, later=st.floats(-5, 20), n=st.integers(0, 9))
    def postpone(self, job_id: str, later: float, n: int) -> None:
        postponed = Postponed(b'{"n":%d}' % n, self.now + later)
        self.both(lambda store: store.note(job_id, Note(at=self.now, postponed=postponed)))

    @rule(job_id=IDS, attempt=st.integers(0, 2), name=st.sampled_from(["a", "ü"]))
    def keep_step(self, job_id: str, attempt: int, name: str) -> None:
        kept = KeptStep(f'"{name}{self.made}"'.encode(), attempt, self.now)
        self.both(lambda store: store.keep_step(job_id, name, kept))

    @rule(
        statuses=st.frozensets(st.sampled_from(sorted(TERMINAL)), min_size=1),
        count=st.integers(0, 6),
        age=st.floats(0, 30),
        size=st.integers(0, 60),
        limit=st.integers(1, 4),
    )
    def prune(
        self, statuses: frozenset[Status], count: int, age: float, size: int, limit: int
    ) -> None:
        retention = dict.fromkeys(sorted(statuses), Keep(count, age, size))
        self.both(lambda store: store.prune(retention, self.now, limit))

    @rule(
        statuses=st.frozensets(st.sampled_from(STATUSES)),
        task=st.none() | TASKS,
        tag=st.none() | st.just("x"),
        parent=st.none() | PARENTS,
        text=st.none() | st.sampled_from(["n", "1", "E"]),
        limit=st.integers(1, 4),
        before=st.none() | st.integers(0, 30),
    )
    def page(self, **filters: Any) -> None:
        self.both(lambda store: store.page(Query(**filters)))

    @rule(now=st.floats(0, 50), limit=st.integers(1, 5))
    def due(self, now: float, limit: int) -> None:
        self.both(lambda store: store.due(now, limit))

    @rule(now=st.floats(0, 50), limit=st.integers(1, 5))
    def expired(self, now: float, limit: int) -> None:
        self.both(lambda store: store.expired(now, limit))

    @rule(task=TASKS, limit=st.integers(1, 5))
    def queued(self, task: str, limit: int) -> None:
        self.both(lambda store: store.queued(task, limit, False))

    @rule(task=TASKS, limit=st.integers(1, 6))
    def queued_fairly(self, task: str, limit: int) -> None:
        """Whose turn comes first may be each store's own; that all have their share is not."""
        queue = self.runner.run(self.memory.queued(task, 1_000, False))
        for store in (self.memory, self.sqlite):
            assert unfair(self.runner.run(store.queued(task, limit, True)), queue, limit) == []

    @rule(
        job_id=IDS,
        texts=st.lists(LINE, max_size=4),
        keep=st.integers(0, 6),
        size=st.integers(0, 120),
    )
    def log(self, job_id: str, texts: list[str], keep: int, size: int) -> None:
        drafts = [(self.now, "info", text) for text in texts]
        self.both(lambda store: store.log(job_id, drafts, keep, size))

    @rule(job_id=IDS, after=st.integers(0, 60))
    def logs(self, job_id: str, after: int) -> None:
        self.both(lambda store: store.logs(job_id, after, 3))

    @rule(name=st.sampled_from(["a/1", "a/2", "b", "ü%"]), value=st.none() | st.binary(max_size=3))
    def keep_fact(self, name: str, value: bytes | None) -> None:
        self.both(lambda store: store.keep_fact(name, value))

    @rule(prefix=st.sampled_from(["", "a", "a/", "a/1", "ü%", "_", "A"]))
    def facts(self, prefix: str) -> None:
        self.both(lambda store: store.facts(prefix))

    @rule(task=TASKS, since=st.floats(0, 50))
    def began(self, task: str, since: float) -> None:
        self.both(lambda store: all_of(store.began(task, since)))

    @rule(task=TASKS, unique=st.sampled_from(UNIQUE))
    def active(self, task: str, unique: str) -> None:
        self.both(lambda store: store.active(task, unique))

    @invariant()
    def the_same_counts_by_task(self) -> None:
        self.both(lambda store: counted(store.counts_by_task()))
        self.both(lambda store: store.oldest_queued())

    @rule(after=st.integers(0, 60), limit=st.integers(1, 5))
    def events(self, after: int, limit: int) -> None:
        self.both(lambda store: store.events(after, limit))

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.sqlite.close())
        assert unsound(self.path) == []
        self.sqlite = SQLiteStore(self.path)
        self.runner.run(self.sqlite.open())

    @invariant()
    def agree(self) -> None:
        self.both(lambda store: store.counts())
        self.both(lambda store: store.page(Query(limit=100)))

    def teardown(self) -> None:
        for job_id in map(str, range(self.made + 2)):
            self.both(lambda store, job_id=job_id: store.get(job_id))  # type: ignore[misc]
            self.both(lambda store, job_id=job_id: store.steps(job_id))  # type: ignore[misc]
            self.both(lambda store, job_id=job_id: store.logs(job_id, 0, 99))  # type: ignore[misc]
        self.runner.run(self.sqlite.close())
        transaction.LIVE = LIVE
        assert unsound(self.path) == []
        self.runner.close()
        self.folder.cleanup()


Pair.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=40)
TestPair = pytest.mark.slow(Pair.TestCase)


# ---------------------------------------------------------------- rows

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
MOMENT = st.floats(allow_nan=False, allow_infinity=False)
FAILURES = st.builds(Failure, TEXT, TEXT, st.none() | TEXT)
JSON = st.recursive(st.none() | st.booleans() | MOMENT | TEXT, st.lists, max_leaves=5)
BYTES = TEXT.map(str.encode)
JOBS = st.builds(
    Job,
    id=TEXT,
    task=TEXT,
    args=BYTES,
    status=st.sampled_from(STATUSES),
    reason=st.none() | st.sampled_from(["error", "retry", "poison"]),
    tags=st.lists(TEXT, max_size=3).map(tuple),
    attempt=st.integers(0, 2**62),
    max_attempts=st.integers(0, 2**62),
    created_at=MOMENT,
    updated_at=MOMENT,
    run_at=st.none() | MOMENT,
    expires_at=st.none() | MOMENT,
    started_at=st.none() | MOMENT,
    finished_at=st.none() | MOMENT,
    progress=st.none() | st.builds(Progress, MOMENT, MOMENT, st.none() | TEXT),
    cancel_requested_at=st.none() | MOMENT,
    unresponsive=st.booleans(),
    retry_of=st.none() | TEXT,
    parent=st.none() | TEXT,
    key=st.none() | TEXT,
    priority=st.integers(-(2**63), 2**63 - 1),
    turn=st.none() | TEXT,
    unique=st.none() | TEXT,
    result=st.none() | BYTES,
    error=st.none() | FAILURES,
    history=st.lists(
        st.builds(
            Attempt,
            attempt=st.integers(0, 99),
            started_at=MOMENT,
            ended_at=MOMENT,
            reason=st.sampled_from(["error", "lost"]),
            error=st.none() | FAILURES,
        ),
        max_size=3,
    ).map(tuple),
    order=st.integers(1, 2**62),
    seq=st.integers(0, 2**62),
)


@pytest.mark.slow
@given(job=JOBS)
@example(job=Job(id="", task="", args=b"", key="", result=b"", tags=("",), order=1))
@example(job=Job(id="a", task="t", args=b'"' + b"x" * 5_000_000 + b'"', order=1))
@example(job=Job(id="0", task="0", args=b"0", key="0", parent="0", result=b"0", order=1))
@example(job=Job(id="0", task="0", retry_of="0", turn="0", unique="0", run_at=0.0, order=1))
@example(job=Job(id="\x00", task="'; DROP TABLE jobs; --", tags=("\x00", "🜁"), order=1))
@settings(deadline=None)
def test_whatever_a_job_holds_comes_back_from_its_row(job: Job) -> None:
    """Any text, any number, any size: byte for byte."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in [*statements(sql("0001_jobs")), *statements(sql("0002_control"))]:
            connection.execute(statement)
        rows = changes.Changes(connection)
        rows.add(replace(job, status="queued", attempt=0, updated_at=0.0))
        rows.change(job, 0)
        rows.write()
        kept = connection.execute(sql("get"), (job.id,)).fetchone()
    assert job_of(kept) == job


async def test_words_that_are_no_text_and_numbers_that_are_none_keep_no_job_from_its_end(
    tmp_path: Path,
) -> None:
    """A file's name with stray bytes in an error, or NaN as progress, is kept as near as can be."""
    stray = b"caf\xe9".decode(errors="surrogateescape")
    store = SQLiteStore(tmp_path / "jobs.db")
    await store.open()
    job = await bring(store, "running")
    await store.note(job.id, Note(at=2.0, progress=Progress(math.nan, math.inf, stray)))
    await store.move(job.id, Change(Move.RETRY, at=3.0, error=Failure("E", stray), run_at=4.0))
    await store.close()
    await store.open()
    await store.move(job.id, change(Move.DUE))
    await store.move(job.id, change(Move.CLAIM))
    await store.move(job.id, Change(Move.FAIL, at=3.0, error=Failure("E", stray)))
    kept = await store.get(job.id)
    assert kept is not None
    assert (kept.status, kept.error) == ("failed", Failure("E", "caf?"))
    assert kept.history[0].error == Failure("E", "caf?")
    assert (await store.page(Query())).jobs == [kept]
    await store.close()


async def test_progress_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    """Files have it from a time when nobody looked at it: such a job is shown, moved and listed."""
    store = SQLiteStore(tmp_path / "jobs.db")
    await store.open()
    job = await bring(store, "running")
    await store.note(job.id, Note(at=2.0, progress=Progress(1, 2)))
    await store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as file, file:
        file.execute("UPDATE jobs SET progress = ?", ('{"current":true,"total":"2"}',))
    await store.open()
    kept = await store.get(job.id)
    assert kept is not None
    assert kept.progress is None
    assert (await store.page(Query())).jobs == [kept]
    await store.move(job.id, Change(Move.FAIL, at=3.0, error=Failure("E", "lost")))
    await store.close()


# ---------------------------------------------------------------- heads, counts, keys


async def test_counts_are_right_after_a_restart(tmp_path: Path) -> None:
    """What is counted before is counted after, and is what a scan finds."""
    path = tmp_path / "jobs.db"
    store = SQLiteStore(path)
    await store.open()
    for status in STATUSES:
        for _ in range(3):
            await bring(store, status)
    await store.prune(everything(2, 99.0, 10**6), 3.0, 9)
    before = await store.counts()
    await store.close()
    assert unsound(path) == []
    await store.open()
    assert (
        await store.counts()
        == before
        == {**dict.fromkeys(STATUSES, 3)} | dict.fromkeys(TERMINAL, 2)
    )
    await store.close()


async def test_places_and_seqs_are_never_used_again(tmp_path: Path) -> None:
    """Not after the newest jobs are forgotten, and not after a restart: a cursor stays right."""
    store = SQLiteStore(tmp_path / "jobs.db")
    orders, seqs = [], []
    for _ in range(3):
        await store.open()
        for _ in range(2):
            job = await bring(store, "succeeded")
            orders.append(job.order)
            seqs += [job.seq - 2, job.seq - 1, job.seq]
            assert await store.prune(everything(0, 0.0, 0), 9.0, 9) == 1
        await store.close()
    assert orders == [1, 2, 3, 4, 5, 6]
    assert seqs == list(range(1, 19))


async def test_a_refused_write_uses_up_nothing(tmp_path: Path) -> None:
    """No place, no count: what comes after is as if it had not been."""
    store = SQLiteStore(tmp_path / "jobs.db")
    await store.open()
    first = await add(store)
    with pytest.raises(sqlite3.IntegrityError):
        await store.add([Job(id="new", task="t"), Job(id=first.id, task="t")], 9)
    assert await store.get("new") is None
    second = await add(store)
    assert (second.order, second.seq) == (2, 2)
    assert (await store.counts())["queued"] == 2
    await store.close()


async def test_a_key_that_is_free_again_is_not_freed_by_those_who_had_it_before(
    tmp_path: Path,
) -> None:
    """It is known as long as the jobs that it opened are kept, whoever else is forgotten."""
    store = SQLiteStore(tmp_path / "jobs.db")
    await store.open()
    many = [Job(id=new_id(), task="t", key="k") for _ in range(3)]
    await store.add(many, 9, request("k"))
    await store.move(many[0].id, change(Move.WITHDRAW))
    await store.prune(everything(0, 0.0, 0), 9.0, 9)
    anew = await add(store, key="k")
    await store.move(many[1].id, change(Move.WITHDRAW))
    await store.prune(everything(0, 0.0, 0), 9.0, 9)
    again = [Job(id=new_id(), task="t", key="k")]
    assert await store.add(again, 9, request("k")) == ([anew], False)
    await store.close()


async def test_endings_are_forgotten_in_their_order_although_the_clock_was_set_back(
    tmp_path: Path,
) -> None:
    """What ended first goes first, whatever its clock said."""
    store = SQLiteStore(tmp_path / "jobs.db")
    await store.open()
    first = await bring(store, "succeeded", at=3_600.0)
    second = await bring(store, "succeeded", at=1.0)
    assert await store.prune(everything(1, 1e9, 10**6), 2.0, 9) == 1
    assert await store.get(first.id) is None
    assert await store.get(second.id) == second
    await store.close()


async def forgets_few_large_jobs_at_once(store: Store) -> None:
    """Whatever they consist of, and whichever their status: every start waits for the transaction
    that forgets them."""
    for number in range(6):
        job = await bring(store, "failed" if number < 3 else "succeeded")
        lines = [(2.0, "info", "x" * 1_000)] * 1_000
        await store.log(job.id, lines, 1_000, 10**9)
    calls = []
    while few := await store.prune(everything(0, 0.0, 0), 9.0, 256):
        calls.append(few)
    assert calls == [3, 3]  # The third is what exceeds two megabytes.
    assert sum((await store.counts()).values()) == 0


async def test_large_jobs_are_forgotten_few_at_once(tmp_path: Path) -> None:
    """Nobody waits long."""
    store = SQLiteStore(tmp_path / "jobs.db")
    await store.open()
    await forgets_few_large_jobs_at_once(store)
    await store.close()


# ---------------------------------------------------------------- groups


async def gated(path: Path) -> tuple[SQLiteStore, Gate]:
    """A store whose commits wait at a gate."""
    gate = Gate()
    store = SQLiteStore(path, connect=hooked(gate))
    await store.open()
    gate.commits = 0
    return store, gate


async def held(store: SQLiteStore, gate: Gate) -> asyncio.Task[Job]:
    """A first add that is being committed, so that what comes now is one group."""
    gate.shut()
    first = asyncio.create_task(add(store))
    await wait_until(gate.waiting.is_set, "the first group is being committed")
    return first


async def test_many_adds_at_once_share_one_commit(tmp_path: Path) -> None:
    """What comes while one group is being written is the next group, whole."""
    store, gate = await gated(tmp_path / "jobs.db")
    first = await held(store, gate)
    others = [asyncio.create_task(add(store)) for _ in range(200)]
    await asyncio.sleep(0)
    gate.open()
    kept = await asyncio.gather(first, *others)
    assert [job.order for job in kept] == list(range(1, 202))
    assert gate.commits == 2
    await store.close()
    assert unsound(tmp_path / "jobs.db") == []


async def test_a_group_is_few_statements(tmp_path: Path) -> None:
    """Each one more would cost the thread that writes another wait for its turn."""
    seen: list[str] = []
    gate = Gate()

    def hook(statement: str) -> None:
        seen.append(statement)
        gate(statement)

    store = SQLiteStore(tmp_path / "jobs.db", connect=hooked(hook))
    await store.open()
    jobs = [await add(store) for _ in range(20)]
    first = await held(store, gate)
    seen.clear()
    writes = [asyncio.create_task(store.move(job.id, change(Move.CLAIM))) for job in jobs]
    adds = [asyncio.create_task(add(store)) for _ in range(20)]
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(first, *writes, *adds)
    assert len(seen) <= 8, seen
    await store.close()


async def test_what_a_group_does_to_one_job_is_done_in_its_order(tmp_path: Path) -> None:
    """Also where another asks for the same unique key meanwhile, and whatever is read between."""
    store, gate = await gated(tmp_path / "jobs.db")
    [job], _ = await store.add([Job(id="a", task="t", unique="u", run_at=5.0)], 9)
    [other], _ = await store.add([Job(id="b", task="t", status="scheduled", run_at=5.0)], 9)
    first = await held(store, gate)
    calls: list[Coroutine[Any, Any, Any]] = [
        store.move(job.id, change(Move.CLAIM)),
        store.note(job.id, Note(at=2.0, progress=Progress(1, 3, "one"))),
        store.note(job.id, Note(at=3.0, progress=Progress(2, 3, "two"), cancel_requested=True)),
        store.note(other.id, Note(at=3.5, postponed=Postponed(b'{"n":2}', 9.0))),
        store.move(job.id, replace(change(Move.FAIL), at=4.0, attempt=1)),
        store.add([Job(id="c", task="t", unique="u")], 9),
        store.move("c", change(Move.CLAIM)),
        store.keep_step("c", "step", KeptStep(b"1", 1, 5.0)),
    ]
    tasks = [asyncio.create_task(each) for each in calls]
    await asyncio.sleep(0)
    gate.open()
    results: list[Any] = await asyncio.gather(*tasks)
    await first
    assert await store.get("a") == results[4]
    assert results[4].progress == Progress(2, 3, "two")
    assert (results[4].status, results[4].cancel_requested_at) == ("failed", 3.0)
    assert await store.get("b") == results[3]
    assert results[5][1] is True
    assert await store.get("c") == results[6]
    assert results[7] is True
    assert await store.steps("c") == {"step": KeptStep(b"1", 1, 5.0)}
    await store.close()
    assert unsound(tmp_path / "jobs.db") == []


async def test_an_array_is_larger_than_a_statement(tmp_path: Path) -> None:
    """All of it is kept, and so are the moves of all."""
    store = SQLiteStore(tmp_path / "jobs.db")
    await store.open()
    count = 3 * changes.MOST + 1
    jobs, _ = await store.add([Job(id=new_id(), task="t") for _ in range(count)], count)
    moves = [store.move(job.id, change(Move.CLAIM)) for job in jobs]
    claimed = await asyncio.gather(*moves)
    assert [await store.get(job.id) for job in jobs] == claimed
    assert (await store.counts())["running"] == count
    await store.close()
    assert unsound(tmp_path / "jobs.db") == []


async def test_what_changes_nothing_is_not_committed(tmp_path: Path) -> None:
    """A refused move, a known key and a prune without work cost no flush of the disk."""
    store, gate = await gated(tmp_path / "jobs.db")
    job = await add(store, key="k")
    assert gate.commits == 1
    assert await store.move(job.id, change(Move.SUCCEED)) is None
    assert await store.add([Job(id="b", task="t", key="k")], 9, request("k")) == ([job], False)
    assert await store.prune(everything(9, 99.0, 10**6), 9.0, 9) == 0
    assert gate.commits == 1
    await store.close()


async def test_one_bad_write_of_a_group_fails_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets its error; the others are kept, and counted."""
    store, gate = await gated(tmp_path / "jobs.db")
    earlier = await add(store)
    first = await held(store, gate)
    good = [asyncio.create_task(add(store)) for _ in range(4)]
    claim = asyncio.create_task(store.move(earlier.id, change(Move.CLAIM)))
    bad = asyncio.create_task(store.add([Job(id="half \udcff", task="t")], 99))
    full = asyncio.create_task(store.add([Job(id="full", task="t")], 0))
    good += [asyncio.create_task(add(store)) for _ in range(4)]
    await asyncio.sleep(0)
    gate.open()
    with pytest.raises(UnicodeEncodeError):
        await bad
    with pytest.raises(QueueFull):
        await full
    claimed = await claim
    assert claimed is not None  # What was taken back was not remembered.
    assert await store.get(earlier.id) == claimed
    for task in [first, *good]:
        assert await store.get((await task).id) == task.result()
    assert (await store.counts())["queued"] == 9
    assert store.trouble is None
    assert "one write was refused" in caplog.text
    await store.close()
    assert unsound(tmp_path / "jobs.db") == []


async def test_a_caller_that_gives_up_while_its_write_is_made_does_no_harm(tmp_path: Path) -> None:
    """The job is there; those who wait beside it hear of theirs."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    store, gate = await gated(tmp_path / "jobs.db")
    first = await held(store, gate)
    second, third = (asyncio.create_task(add(store)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.open()
    assert await store.get((await third).id) == third.result()
    assert (await store.counts())["queued"] == 3
    assert complaints == []
    await store.close()


# ---------------------------------------------------------------- what a read costs

QUERIES: dict[str, Callable[[SQLiteStore], Coroutine[Any, Any, object]]] = {
    "get": lambda store: store.get("x"),
    "a page": lambda store: store.page(Query()),
    "the next page": lambda store: store.page(Query(before=500)),
    "a page of what runs": lambda store: store.page(Query(statuses=frozenset({"running"}))),
    "a page of failures": lambda store: store.page(Query(statuses=frozenset({"failed"}))),
    "a page of what is queued": lambda store: store.page(Query(statuses=frozenset({"queued"}))),
    "a page of what is later": lambda store: store.page(Query(statuses=frozenset({"scheduled"}))),
    "its next page": lambda store: store.page(Query(statuses=frozenset({"failed"}), before=500)),
    "a page of cancels": lambda store: store.page(Query(statuses=frozenset({"canceled"}))),
    "a page of a task": lambda store: store.page(Query(task="rare")),
    "a page of children": lambda store: store.page(Query(parent="parent")),
    "a page of children that run": lambda store: store.page(
        Query(parent="parent", statuses=frozenset({"running"}))
    ),
    "queued": lambda store: store.queued("rare", 9, False),
    "queued fairly": lambda store: store.queued("turns", 9, True),
    "queued fairly without turns": lambda store: store.queued("rare", 9, True),
    "the oldest that is queued": lambda store: store.oldest_queued(),
    "active": lambda store: store.active("rare", "unique"),
    "logs": lambda store: store.logs("x", 0, 9),
    "log": lambda store: store.log("logs", [(1.0, "info", "more")], 3, 1_000),
    "counts by task": lambda store: store.counts_by_task(),
    "due": lambda store: store.due(5.0, 9),
    "expired": lambda store: store.expired(5.0, 9),
    "events": lambda store: store.events(10**9, 9),
    "steps": lambda store: store.steps("x"),
    "ended": lambda store: store.prune({"succeeded": Keep(9, 1e9, 10**9)}, 5.0, 9),
    "known": lambda store: store.add([Job(id="x", task="rare")], 0, request("known")),
    "move": lambda store: store.move("x", change(Move.CLAIM)),
}


async def fill(store: SQLiteStore, count: int) -> None:
    """Many jobs that are over; a few of each other kind among them."""
    await add(store, task="rare", key="known")
    for status in STATUSES:
        await bring(store, status, task="rare", expires_at=9.0, parent="parent")
    for turn in "aaab":
        await add(store, task="turns", turn=turn)
    await store.add([Job(id="logs", task="rare", unique="unique")], 10**6)
    await store.log("logs", [(1.0, "info", "line")] * 3, 3, 1_000)
    ids = [new_id() for _ in range(count)]
    await store.add([Job(id=job_id, task="usual") for job_id in ids], 10**6)
    for move in (Move.CLAIM, Move.SUCCEED):
        await asyncio.gather(*(store.move(job_id, change(move)) for job_id in ids))


READS = ("SELECT", "WITH", "--")


async def statements_of(path: Path, queries: list[str]) -> dict[str, list[tuple[str, Any]]]:
    """The statements that are run for each query, with their values."""
    seen: list[tuple[str, Any]] = []

    class Seeing:
        def __init__(self, path: Path, read_only: bool) -> None:
            self.real = connect(path, read_only)
            self.close = self.real.close

        @property
        def in_transaction(self) -> bool:
            return self.real.in_transaction

        def execute(self, statement: str, values: Any = (), /) -> Any:
            seen.append((statement, values))
            return self.real.execute(statement, values)

    store = SQLiteStore(path, connect=Seeing)
    await store.open()
    found = {}
    for name in queries:
        seen.clear()
        await QUERIES[name](store)
        found[name] = [each for each in seen if each[0].lstrip().startswith(READS)]
        assert found[name], f"{name} reads something"
    await store.close()
    return found


@pytest.mark.slow
async def test_every_query_has_an_index(tmp_path: Path) -> None:
    """No query looks at all jobs, and none sorts them."""
    path = tmp_path / "jobs.db"
    store = SQLiteStore(path)
    await store.open()
    await fill(store, 50)
    await store.close()
    found = await statements_of(path, list(QUERIES))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for name, run in found.items():
            for statement, values in run:
                plan = connection.execute("EXPLAIN QUERY PLAN " + statement, values).fetchall()
                steps = [row[3] for row in plan]
                assert not any("TEMP B-TREE" in step for step in steps), (name, statement, steps)
                if name == "a page":  # In the order of the table itself, up to its limit.
                    assert steps == ["SCAN jobs"]
                elif "counts" not in statement:
                    assert "SCAN jobs" not in steps, (name, statement, steps)


@pytest.mark.slow
async def test_a_read_costs_the_same_however_many_jobs_are_kept(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine: ten times the jobs, the same work."""
    costs: list[dict[str, int]] = []
    for count in (200, 2_000):
        path = tmp_path / f"{count}.db"
        store = SQLiteStore(path)
        await store.open()
        await fill(store, count)
        await store.close()
        found = await statements_of(path, list(QUERIES))
        costs.append({name: sum(cost(path, *each) for each in run) for name, run in found.items()})
    for name, few in costs[0].items():
        assert costs[1][name] <= few * 1.1 + 20, (name, few, costs[1][name])


@pytest.mark.slow
async def test_a_fair_look_costs_the_same_however_many_wait(tmp_path: Path) -> None:
    """It looks at the first ones of each turn, and not at all that wait behind them."""
    costs = []
    for count in (40, 400):
        path = tmp_path / f"{count}.db"
        store = SQLiteStore(path)
        await store.open()
        jobs = [Job(id=new_id(), task="turns", turn=turn) for turn in "abcd" for _ in range(count)]
        await store.add(jobs, 10**6)
        assert len(await store.queued("turns", 9, True)) == 9
        await store.close()
        found = await statements_of(path, ["queued fairly"])
        costs.append(sum(cost(path, *each) for each in found["queued fairly"]))
    assert costs[1] <= costs[0] * 1.1 + 20, costs


def cost(path: Path, statement: str, values: Any) -> int:
    """Steps of SQLite's machine."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(step, 1)
        connection.execute(statement, values).fetchall()
        connection.set_progress_handler(None, 1)
    return steps
