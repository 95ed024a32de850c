"""The PostgreSQL store keeps the rules of every shared store, in order and in trouble."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import asyncpg
import pytest
from blockbuster import blockbuster_ctx
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from msgspec.structs import replace

from quart_app.checks import shared, store
from quart_app.checks.making import add, bring, change, everything, request, step
from quart_app.checks.shared import Ear
from quart_app.domain.errors import (
    KeyReused,
    QueueFull,
    StoreClosed,
    StoreRefused,
    StoreUnavailable,
    TaskFull,
)
from quart_app.domain.ids import new_id
from quart_app.domain.jobs import (
    Change,
    Failure,
    Heard,
    Job,
    JobEvent,
    KeptStep,
    LogLine,
    Note,
    Progress,
    RequestKey,
)
from quart_app.domain.queries import Page, Query
from quart_app.domain.queues import Waiting
from quart_app.domain.status import STATUSES, Move
from quart_app.domain.workers import Worker
from quart_app.stores.postgres import links
from quart_app.stores.postgres.store import PostgresStore
from quart_app.stores.postgres.wrongs import reason
from quart_app.stores.shared import make_shared_store
from tests.servers import PostgresServer, free_port
from tests.stores.test_sqlite import Pair, forgets_few_large_jobs_at_once

MANY = 10**6


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop() -> Iterator[None]:
    """As everywhere, except that asyncpg looks for its files (.pgpass, certificates) at each new
    connection."""
    with blockbuster_ctx("quart_app") as blockers:
        for name in ("os.stat", "os.path.abspath"):
            blockers.functions[name].can_block_in("quart_app/stores/postgres/links.py", "connect")
        yield


@contextlib.asynccontextmanager
async def opened(url: str, namespace: str, **options: Any) -> AsyncIterator[PostgresStore]:
    """A store, open."""
    made = PostgresStore(url, namespace, **options)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def kept(postgres_server: PostgresServer, namespace: str) -> AsyncIterator[PostgresStore]:
    """A store of this test's own."""
    async with opened(postgres_server.url, namespace) as made:
        yield made


@contextlib.asynccontextmanager
async def user(server: PostgresServer) -> AsyncIterator[Any]:
    """A connection of somebody else's, with the search_path that everybody has."""
    connection = await asyncpg.connect(server.url)
    try:
        yield connection
    finally:
        await connection.close()


async def until(holds: Callable[[], Awaitable[object]], seconds: float = 10.0) -> None:
    """Ask again until it holds."""
    end = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def named(rule: object) -> str:
    """What a rule is called."""
    return str(getattr(rule, "__name__", rule))


# ---------------------------------------------------------------- the rules


@pytest.mark.slow
@pytest.mark.parametrize("rule", store.RULES, ids=named)
async def test_it_keeps_the_rules_of_a_store(
    postgres_server: PostgresServer, namespace: str, rule: Callable[[Any], Awaitable[None]]
) -> None:
    """One of `check_store`."""
    async with opened(postgres_server.url, namespace) as made, asyncio.timeout(30):
        await rule(made)


@pytest.mark.slow
@pytest.mark.parametrize("rule", shared.RULES, ids=named)
async def test_it_keeps_the_rules_of_a_shared_store(
    postgres_server: PostgresServer, namespace: str, rule: shared.Rule
) -> None:
    """One of `check_shared_store`."""
    url = postgres_server.url
    async with (
        opened(url, namespace) as one,
        opened(url, namespace) as other,
        asyncio.timeout(30),
    ):
        await rule(one, other)


# ---------------------------------------------------------------- against memory


class Counted:
    """A store whose numbers have gaps, seen without them: as one that gives out 1, 2, 3."""

    def __init__(self, real: PostgresStore) -> None:
        self.real = real
        self.seqs: list[int] = []
        self.places: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def job(self, job: Job) -> Job:
        if job.seq not in self.seqs:
            self.seqs.append(job.seq)
        if job.order not in self.places:
            self.places.append(job.order)
        place, seq = self.places.index(job.order) + 1, self.seqs.index(job.seq) + 1
        return replace(job, order=place, seq=seq)

    def line(self, line: LogLine) -> LogLine:
        if line.seq not in self.seqs:
            self.seqs.append(line.seq)
        return replace(line, seq=self.seqs.index(line.seq) + 1)

    def jobs(self, jobs: Sequence[Job]) -> list[Job]:
        return [self.job(job) for job in jobs]

    def true(self, numbers: list[int], number: int) -> int:
        """The number that this one stands for."""
        if number < 1:
            return number
        return numbers[number - 1] if number <= len(numbers) else number + MANY

    async def add(self, *given: Any) -> tuple[list[Job], bool]:
        jobs, new = await self.real.add(*given)
        return self.jobs(jobs), new

    async def get(self, job_id: str) -> Job | None:
        job = await self.real.get(job_id)
        return None if job is None else self.job(job)

    async def move(self, *given: Any) -> Job | None:
        job = await self.real.move(*given)
        return None if job is None else self.job(job)

    async def note(self, *given: Any) -> Job | None:
        job = await self.real.note(*given)
        return None if job is None else self.job(job)

    async def page(self, query: Query) -> Page:
        if query.before is not None:
            query = replace(query, before=self.true(self.places, query.before))
        page = await self.real.page(query)
        last = None if page.next is None else self.places.index(page.next) + 1
        return Page(self.jobs(page.jobs), last)

    async def events(self, after: int, limit: int) -> list[JobEvent]:
        events = await self.real.events(self.true(self.seqs, after), limit)
        jobs = self.jobs([event.job for event in events])
        return [JobEvent(job.seq, "newest", job) for job in jobs]

    async def due(self, now: float, limit: int) -> list[Job]:
        return self.jobs(await self.real.due(now, limit))

    async def expired(self, now: float, limit: int) -> list[Job]:
        return self.jobs(await self.real.expired(now, limit))

    async def active(self, task: str, unique: str) -> Job | None:
        job = await self.real.active(task, unique)
        return None if job is None else self.job(job)

    async def oldest_queued(self) -> Job | None:
        job = await self.real.oldest_queued()
        return None if job is None else self.job(job)

    async def queued(self, task: str, limit: int, fair: bool) -> list[Waiting]:
        found = await self.real.queued(task, limit, fair)
        return [replace(each, seq=self.seqs.index(each.seq) + 1) for each in found]

    async def log(self, *given: Any) -> list[LogLine]:
        return [self.line(line) for line in await self.real.log(*given)]

    async def logs(self, job_id: str, after: int, limit: int) -> list[LogLine]:
        lines = await self.real.logs(job_id, self.true(self.seqs, after), limit)
        return [self.line(line) for line in lines]


SERVER: list[PostgresServer] = []


@pytest.fixture(autouse=True)
def _server(postgres_server: PostgresServer) -> Iterator[None]:
    """Where the machine below finds it: it is given no fixtures."""
    SERVER.append(postgres_server)
    yield
    SERVER.clear()


class SharedPair(Pair):
    """Does the same to a store in memory and to one in PostgreSQL, and compares every answer."""

    def __init__(self) -> None:
        super().__init__()
        self.runner.run(self.sqlite.close())
        self.real = PostgresStore(SERVER[0].url, f"t{uuid.uuid4().hex[:16]}")
        self.runner.run(self.real.open())
        self.sqlite: Any = Counted(self.real)

    @initialize(live=st.just(1))
    def remember(self, live: int) -> None:
        """Nothing to choose here."""

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.real.close())
        self.runner.run(self.real.open())

    @rule(task=st.sampled_from("tu"), limit=st.integers(1, 6))
    def queued_fairly(self, task: str, limit: int) -> None:
        """In the very order of `in_turns`."""
        self.both(lambda store: store.queued(task, limit, True))

    def teardown(self) -> None:
        for job_id in map(str, range(self.made + 2)):
            self.both(lambda store, job_id=job_id: store.get(job_id))  # type: ignore[misc]
            self.both(lambda store, job_id=job_id: store.steps(job_id))  # type: ignore[misc]
            self.both(lambda store, job_id=job_id: store.logs(job_id, 0, 99))  # type: ignore[misc]
        self.runner.run(self.real.close())
        self.runner.close()
        self.folder.cleanup()


SharedPair.TestCase.settings = settings(
    deadline=None, max_examples=12, stateful_step_count=40, phases=[Phase.generate]
)
TestSharedPair = pytest.mark.slow(SharedPair.TestCase)


# ---------------------------------------------------------------- what a job holds


@pytest.mark.parametrize(
    "odd", ["a\0b", "\\0", "half \udcff", "🜁" * 400, "x" * 5_000, "", "#", "' $1 {} \""]
)
async def test_odd_texts_are_kept_and_found(kept: PostgresStore, odd: str) -> None:
    """What PostgreSQL refuses in a text, or in an index, is no reason to refuse a job."""
    near = odd.encode(errors="replace").decode()
    fields: dict[str, Any] = {"turn": odd, "unique": odd, "parent": odd, "tags": (odd, "b")}
    job = await add(kept, args=b'"' + near.encode() + b'"', key="k" + odd, **fields)
    again = await kept.get(job.id)
    assert again is not None
    assert (again.turn, again.unique, again.parent, again.tags) == (near, near, near, (near, "b"))
    for query in (Query(tag=odd), Query(parent=odd), Query(tag="b")):
        assert (await kept.page(query)).jobs == [again]
    assert await kept.active("t", odd) == again
    for fair in (False, True):
        assert [each.turn for each in await kept.queued("t", 9, fair)] == [near]
    [known], new = await kept.add([Job(id=new_id(), task="t")], 9, request("k" + odd))
    assert (known, new) == (again, False)
    await kept.move(job.id, change(Move.CLAIM))
    assert await kept.keep_step(job.id, odd, step(1, b"1"))
    await kept.log(job.id, [(1.0, "info", odd)], 9, 99_999)
    error = Failure("E", odd)
    await kept.note(job.id, Note(at=2.0, progress=Progress(math.inf, 1, odd)))
    await kept.move(job.id, Change(Move.FAIL, 3.0, error=error))
    ended = await kept.get(job.id)
    assert ended is not None
    assert ended.error == Failure("E", near)
    assert list(await kept.steps(job.id)) == [near]
    assert [line.text for line in await kept.logs(job.id, 0, 9)] == [near]
    await kept.keep_fact("f/" + odd, b"1")
    assert await kept.facts("f/") == {"f/" + near: b"1"}
    assert await kept.get(odd) is None
    assert await kept.prune(everything(0, 0.0, 0), 9.0, 9) == 1
    assert (await kept.page(Query(tag="b"))).jobs == []


async def test_large_jobs_are_forgotten_few_at_once(kept: PostgresStore) -> None:
    """Here every start of every process would wait."""
    await forgets_few_large_jobs_at_once(kept)


async def test_a_large_version_is_told_too(kept: PostgresStore) -> None:
    """It is not kept twice: the newest one is read for it."""
    args = b'"' + b"x" * 60_000 + b'"'
    async with Ear(kept) as ear:
        job = await add(kept, args=args)
        [event] = await ear.until(1)
    assert event == JobEvent(job.seq, "open", job)


async def test_each_commit_is_told_to_the_metrics(kept: PostgresStore) -> None:
    """In seconds."""
    told: list[float] = []
    kept.on_commit = told.append
    await add(kept)
    assert len(told) == 1
    assert 0 < told[0] < 2


# ---------------------------------------------------------------- groups


@contextlib.asynccontextmanager
async def held(server: PostgresServer, namespace: str, store: PostgresStore) -> AsyncIterator[Any]:
    """While somebody else writes, what comes is one group."""
    async with user(server) as connection, asyncio.TaskGroup() as tasks:
        async with connection.transaction():
            await connection.execute(f"SELECT FROM {namespace}.heads FOR UPDATE")
            first = tasks.create_task(add(store))
            await asyncio.sleep(0)
            yield tasks
        await first


async def test_one_bad_write_of_a_group_fails_alone(
    postgres_server: PostgresServer, namespace: str, kept: PostgresStore
) -> None:
    """It gets its error; the others are kept, and counted."""
    earlier = await add(kept)
    commits: list[float] = []
    kept.on_commit = commits.append
    async with held(postgres_server, namespace, kept) as tasks:
        good = [tasks.create_task(add(kept)) for _ in range(5)]
        claim = tasks.create_task(kept.move(earlier.id, change(Move.CLAIM)))
        late = tasks.create_task(kept.move(earlier.id, change(Move.CLAIM)))
        bad = asyncio.ensure_future(kept.add([Job(id=earlier.id, task="t")], MANY))
        full = asyncio.ensure_future(kept.add([Job(id="full", task="t")], 0))
        await asyncio.sleep(0.05)
    with pytest.raises(asyncpg.UniqueViolationError):
        await bad
    with pytest.raises(QueueFull):
        await full
    assert sorted([claim.result() is None, late.result() is None]) == [False, True]
    for each in good:
        assert await kept.get(each.result().id) == each.result()
    assert await kept.counts() == {**dict.fromkeys(STATUSES, 0), "queued": 6, "running": 1}
    assert kept.trouble is None


async def test_many_writes_at_once_share_a_commit(
    postgres_server: PostgresServer, namespace: str, kept: PostgresStore
) -> None:
    """Refused ones among them cost no commit of their own."""
    commits: list[float] = []
    kept.on_commit = commits.append
    async with held(postgres_server, namespace, kept) as tasks:
        added = [tasks.create_task(add(kept, key=f"k{n}", tags=("a",))) for n in range(50)]
        calls = [
            kept.add([Job(id=new_id(), task="t")], 0),
            kept.add([Job(id=new_id(), task="t")], MANY, None, 0),
            kept.add([Job(id=new_id(), task="t")], MANY, RequestKey("k1", b"other")),
        ]
        refused = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0.05)
    found = await asyncio.gather(*refused, return_exceptions=True)
    assert [type(each) for each in found] == [QueueFull, TaskFull, KeyReused]
    assert len(commits) == 2
    page = await kept.page(Query(tag="a", limit=100))
    assert page.jobs == [task.result() for task in reversed(added)]


async def test_a_caller_that_gives_up_does_no_harm(
    postgres_server: PostgresServer, namespace: str, kept: PostgresStore
) -> None:
    """Those beside it hear of theirs."""
    async with held(postgres_server, namespace, kept) as tasks:
        gone = asyncio.ensure_future(add(kept))
        stays = tasks.create_task(add(kept))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.wait({gone})
    assert await kept.get(stays.result().id) == stays.result()


async def test_who_locks_one_job_stops_only_what_is_written_to_it(
    postgres_server: PostgresServer, namespace: str, kept: PostgresStore
) -> None:
    """It is told within two seconds that somebody is in the way."""
    locked, free = await add(kept), await add(kept)
    async with user(postgres_server) as connection, connection.transaction():
        lock = f"SELECT FROM {namespace}.jobs WHERE id = $1 FOR UPDATE"
        await connection.fetch(lock, locked.id)
        began = time.monotonic()
        calls = [kept.move(job.id, change(Move.CLAIM)) for job in (locked, free)]
        stopped, claimed = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(stopped, StoreUnavailable)
        assert "Nothing was kept" in stopped.detail
        assert isinstance(claimed, Job)
        assert time.monotonic() - began < 2
    assert await kept.move(locked.id, change(Move.CLAIM))
    assert kept.trouble is None


# ---------------------------------------------------------------- within a user's transaction


def new(**fields: Any) -> Job:
    """A job to be added."""
    return Job(id=new_id(), **{"task": "t", **fields})


async def test_somebodys_long_transaction_stops_nobody(
    postgres_server: PostgresServer, namespace: str, kept: PostgresStore
) -> None:
    """What others do meanwhile is heard within a second, and at the end nothing is lost."""
    async with (
        opened(postgres_server.url, namespace) as other,
        Ear(other) as ear,
        user(postgres_server) as connection,
    ):
        async with connection.transaction():
            await connection.execute(f"CREATE TABLE {namespace}.elsewhere (n integer)")
            [mine], is_new = await kept.add_within(connection, [new(tags=("x",))], 9)
            assert is_new
            assert (mine.order, mine.seq) == (0, 0)
            assert await kept.get(mine.id) is None
            done = [await add(each, tags=("x",)) for each in (kept, other) * 5]
            done = [await kept.move(job.id, change(Move.CLAIM)) or job for job in done]
            async with asyncio.timeout(1):
                assert len(await ear.until(20)) == 20
        heard = await ear.until(21)
        await until(lambda: published(kept, mine.id))
    seqs = [each.seq for each in heard]
    assert seqs == sorted(set(seqs))
    last = heard[-1]
    assert isinstance(last, JobEvent)
    assert last.job == await kept.get(mine.id)
    assert (await kept.page(Query(tag="x"))).jobs[0] == last.job
    assert (await kept.counts())["queued"] == 1


async def published(store: PostgresStore, job_id: str) -> bool:
    """Whether a job has its place."""
    job = await store.get(job_id)
    return job is not None and job.seq > 0


async def test_what_is_rolled_back_was_never_there(
    postgres_server: PostgresServer, kept: PostgresStore
) -> None:
    """No job, no key, no count."""
    async with user(postgres_server) as connection:
        transaction = connection.transaction()
        await transaction.start()
        job = new(key="k", unique="u")
        await kept.add_within(connection, [job], 9, request("k"))
        await transaction.rollback()
    assert await kept.publish() == []
    assert await kept.get(job.id) is None
    assert (await kept.counts())["queued"] == 0
    assert (await kept.add([new(key="k", unique="u")], 9, request("k")))[1]


async def test_what_is_committed_and_not_published_is_found_and_can_begin(
    postgres_server: PostgresServer, kept: PostgresStore
) -> None:
    """`get` and `active` find it, lists do not; whoever moves it publishes it."""
    async with user(postgres_server) as connection:
        first, second = new(unique="u"), new(task="u", status="scheduled", run_at=5.0)
        await kept.add_within(connection, [first], 9)
        await kept.add_within(connection, [second], 9)
    found = await kept.get(first.id)
    assert found is not None
    assert (found.order, found.seq) == (0, 0)
    assert await kept.active("t", "u") == found
    assert await kept.add([new(unique="u")], 9) == ([found], False)
    assert (await kept.page(Query())).jobs == []
    assert await kept.queued("t", 9, False) == []
    assert await kept.oldest_queued() is None
    assert await kept.due(9.0, 9) == []
    claimed = await kept.move(first.id, change(Move.CLAIM))
    assert claimed is not None
    assert (await kept.page(Query())).jobs == [await kept.get(second.id), claimed]
    assert len(await kept.due(9.0, 9)) == 1
    assert await kept.publish() == []


async def test_starts_with_one_key_in_and_outside_of_a_transaction_are_one(
    postgres_server: PostgresServer, kept: PostgresStore
) -> None:
    """While it is open the others are told to try again: nobody waits for it."""
    for key, unique in ((request("k"), None), (None, "u")):
        async with user(postgres_server) as connection:
            async with connection.transaction():
                [job], _ = await kept.add_within(connection, [new(unique=unique)], 9, key)
                with pytest.raises(StoreUnavailable, match="another transaction"):
                    await kept.add([new(unique=unique)], 9, key)
                await add(kept)
                again = await kept.add_within(connection, [new(unique=unique)], 9, key)
                assert again == ([job], False)
            [known], is_new = await kept.add([new(unique=unique)], 9, key)
            assert (known.id, is_new) == (job.id, False)


async def test_bounds_hold_within_a_transaction(
    postgres_server: PostgresServer, kept: PostgresStore
) -> None:
    """Roughly: those of what is published."""
    await add(kept)
    async with user(postgres_server) as connection, connection.transaction():
        with pytest.raises(QueueFull):
            await kept.add_within(connection, [new()], 1)
        with pytest.raises(TaskFull):
            await kept.add_within(connection, [new()], 9, None, 1)
        await kept.add_within(connection, [new(key="k")], 9, request("k"))
        with pytest.raises(KeyReused):
            await kept.add_within(connection, [new(key="k")], 9, request("k", b"other"))


async def test_the_hook_is_called_once_within_the_transaction_that_keeps_a_job(
    postgres_server: PostgresServer, namespace: str, kept: PostgresStore
) -> None:
    """So what an engine writes there is kept with the job, or not at all."""
    table = f"{namespace}.deliveries"

    async def on_add(connection: Any, jobs: Sequence[Job]) -> None:
        if any(job.task == "bad" for job in jobs):
            raise ValueError("no")
        statement = f"INSERT INTO {table} SELECT unnest($1::text[])"
        await connection.execute(statement, [job.id for job in jobs])

    async def delivered() -> list[str]:
        rows = await connection.fetch(f"SELECT id FROM {table}")  # noqa: S608
        return sorted(row["id"] for row in rows)

    async with user(postgres_server) as connection:
        await connection.execute(f"CREATE TABLE {table} (id text PRIMARY KEY)")
        unhooked = new()
        await kept.add_within(connection, [unhooked], 99)
        kept.on_add = on_add
        async with held(postgres_server, namespace, kept) as tasks:
            good = [tasks.create_task(add(kept)) for _ in range(3)]
            later = tasks.create_task(add(kept, status="scheduled", run_at=9.0))
            bad = asyncio.ensure_future(kept.add([new(task="bad")], 99))
            await asyncio.sleep(0.05)
        with pytest.raises(ValueError, match="no"):
            await bad
        async with connection.transaction():
            [within], _ = await kept.add_within(connection, [new()], 99)
        ids = {task.result().id for task in good} | {within.id}
        assert len(await kept.publish()) == 2
        assert ids | {unhooked.id} < set(await delivered())
        assert len(await delivered()) == 6  # With the one that `held` adds.
        assert later.result().id not in await delivered()
        assert (await kept.counts_by_task()).get("bad") is None


# ---------------------------------------------------------------- listening


async def heard(store: PostgresStore, after: int | None, count: int) -> list[list[Heard] | None]:
    """So many things that are told, in a row."""
    found: list[list[Heard] | None] = []
    async with contextlib.aclosing(store.listen(after)) as told, asyncio.timeout(10):
        async for each in told:
            found.append(each)
            if len(found) == count:
                break
    return found


async def test_who_was_away_for_too_long_is_told_so(
    postgres_server: PostgresServer, namespace: str
) -> None:
    """Events are kept up to a number; who goes on from before gets None, and then what is new."""
    async with opened(postgres_server.url, namespace, most_events=20) as store:
        first = await add(store)
        jobs = [await add(store) for _ in range(60)]
        assert await heard(store, first.seq, 2) == [[], None]
        assert await heard(store, jobs[-1].seq + 100, 2) == [[], None]  # A backup was restored.
        [begun, some] = await heard(store, jobs[-3].seq, 2)
        assert begun == []
        assert [each.seq for each in some or ()] == [job.seq for job in jobs[-2:]]
        async with user(postgres_server) as connection:
            left = await connection.fetchval(f"SELECT count(*) FROM {namespace}.events")  # noqa: S608
        assert left <= 31


async def test_who_listens_ends_at_once(kept: PostgresStore) -> None:
    """By cancel, by aclose, and when the store is closed."""
    told = kept.listen(None)
    assert await anext(told) == []
    began = time.monotonic()
    await told.aclose()
    waiting = asyncio.ensure_future(heard(kept, None, 2))
    closed = asyncio.ensure_future(heard(kept, None, 2))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await kept.close()
    with pytest.raises(StoreClosed):
        await closed
    with pytest.raises(StoreClosed):
        await anext(kept.listen(None))
    assert time.monotonic() - began < 1
    kept.abandon()


def test_it_is_let_go_of_without_a_loop(postgres_server: PostgresServer, namespace: str) -> None:
    """Its connections are closed; another one goes on."""

    async def work() -> PostgresStore:
        store = PostgresStore(postgres_server.url, namespace)
        await store.open()
        await add(store)
        await store.counts()
        return store

    async def look() -> int:
        async with opened(postgres_server.url, namespace) as store:
            return (await store.counts())["queued"]

    asyncio.run(work()).abandon()
    assert asyncio.run(look()) == 1


# ---------------------------------------------------------------- what a read costs

FEW = 120
"""Rows that a call may look at and not give."""


async def fill(store: PostgresStore) -> None:
    """Many jobs that are over; a few of each other kind among them."""
    for status in STATUSES:
        await bring(store, status, task="rare", expires_at=9.0, parent="parent", tags=("tag",))
    for turn in "aaab":
        await add(store, task="turns", turn=turn)
    await store.add([Job(id="logs", task="rare", unique="unique")], MANY)
    await store.log("logs", [(1.0, "info", "line")] * 3, 3, 1_000)
    ids = [new_id() for _ in range(3_000)]
    await store.add([Job(id=job_id, task="usual", tags=("all",)) for job_id in ids], MANY)
    for move in (Move.CLAIM, Move.SUCCEED):
        await asyncio.gather(*(store.move(job_id, change(move)) for job_id in ids))
    await store.add([Job(id=new_id(), task="crowd", turn="a") for _ in range(2_000)], MANY)


READS: dict[str, Callable[[PostgresStore], Awaitable[object]]] = {
    "get": lambda store: store.get("logs"),
    "a page": lambda store: store.page(Query()),
    "the next page": lambda store: store.page(Query(before=500)),
    "a page of a status": lambda store: store.page(Query(statuses=frozenset({"failed"}))),
    "a page of some": lambda store: store.page(Query(statuses=frozenset({"failed", "running"}))),
    "its next page": lambda store: store.page(Query(statuses=frozenset({"failed"}), before=500)),
    "a page of a task": lambda store: store.page(Query(task="rare")),
    "a page of children": lambda store: store.page(Query(parent="parent")),
    "children that run": lambda store: store.page(
        Query(parent="parent", statuses=frozenset({"running"}))
    ),
    "a page of a rare tag": lambda store: store.page(Query(tag="tag")),
    "a page of a usual tag": lambda store: store.page(Query(tag="all")),
    "queued": lambda store: store.queued("rare", 9, False),
    "queued fairly": lambda store: store.queued("turns", 9, True),
    "a crowd fairly": lambda store: store.queued("crowd", 9, True),
    "oldest queued": lambda store: store.oldest_queued(),
    "active": lambda store: store.active("rare", "unique"),
    "logs": lambda store: store.logs("logs", 0, 9),
    "counts": lambda store: store.counts(),
    "due": lambda store: store.due(50.0, 9),
    "expired": lambda store: store.expired(50.0, 9),
    "began": lambda store: store.began("rare", 0.0),
    "events": lambda store: store.events(10**9, 9),
    "steps": lambda store: store.steps("logs"),
    "too many": lambda store: store.prune(everything(10**9, 1e9, 10**9), 5.0, 9),
    "unpublished": lambda store: store.publish(),
}


@pytest.mark.slow
async def test_no_call_looks_at_all_jobs(postgres_server: PostgresServer, namespace: str) -> None:
    """Each read has an index that leads to what it gives, and so has what is written."""
    async with opened(postgres_server.url, namespace) as store, user(postgres_server) as connection:
        await fill(store)
        await connection.execute(f"ANALYZE {namespace}.jobs")
        seen: list[tuple[str, tuple[Any, ...]]] = []
        rows = store._rows

        async def seeing(statement: str, *values: Any) -> list[Any]:
            seen.append((statement, values))
            return await rows(statement, *values)

        store._rows = seeing  # type: ignore[method-assign]
        mine = await links.connect(postgres_server.url, namespace)
        for name, read in READS.items():
            seen.clear()
            await read(store)
            assert seen, name
            for statement, values in seen:
                plan = await mine.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) {statement}", *values)
                for line in (row[0] for row in plan):
                    for table in ("jobs", "events", "logs", "steps", "tags", "keys"):
                        assert f"Seq Scan on {table}" not in line, (name, plan)
                    if "Rows Removed by" in line:
                        assert int(line.rpartition(":")[2]) < FEW, (name, plan)
                    if " on jobs" in line and "actual rows=" in line:
                        found = line.rpartition("actual rows=")[2].split()[0]
                        assert float(found) < FEW, (name, plan)
        await mine.close()
    await no_scan(postgres_server, namespace)


async def no_scan(server: PostgresServer, namespace: str) -> None:
    """What the server itself has counted while everything above was written."""
    async with opened(server.url, namespace) as store:
        await add(store)
    async with user(server) as connection:
        asked = (
            "SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE schemaname = $1 "
            "AND relname IN ('jobs', 'events', 'logs', 'steps', 'tags', 'keys')"
        )
        counted = {row[0]: row[1] for row in await connection.fetch(asked, namespace)}
    assert len(counted) == 6
    assert {table: rows for table, rows in counted.items() if rows} == {}


# ---------------------------------------------------------------- trouble


class Line:
    """A way to a server that can be cut, so that nothing comes through and nobody says so."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self._to = port
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Line:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open.set()
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = await asyncio.open_connection("127.0.0.1", self._to)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(self._copy(reader, ends[1]), self._copy(ends[0], writer))
        for each in (writer, ends[1]):
            each.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


def calls_of(store: PostgresStore, job: Job) -> dict[str, Callable[[], Awaitable[object]]]:
    """Every verb."""
    return {
        "add": lambda: store.add([new()], 9),
        "get": lambda: store.get(job.id),
        "page": lambda: store.page(Query()),
        "move": lambda: store.move(job.id, change(Move.CLAIM)),
        "note": lambda: store.note(job.id, Note(at=1.0, cancel_requested=True)),
        "events": lambda: store.events(0, 1),
        "head": lambda: store.head(),
        "due": lambda: store.due(0.0, 1),
        "queued": lambda: store.queued("t", 1, False),
        "expired": lambda: store.expired(0.0, 1),
        "active": lambda: store.active("t", "u"),
        "began": lambda: store.began("t", 0.0),
        "steps": lambda: store.steps(job.id),
        "keep_step": lambda: store.keep_step(job.id, "a", KeptStep(b"1", 1, 1.0)),
        "log": lambda: store.log(job.id, [(1.0, "info", "x")], 1, 1),
        "logs": lambda: store.logs(job.id, 0, 1),
        "keep_fact": lambda: store.keep_fact("x", b"1"),
        "facts": lambda: store.facts(""),
        "prune": lambda: store.prune(everything(0, 0.0, 0), 0.0, 1),
        "publish": lambda: store.publish(),
        "oldest_queued": lambda: store.oldest_queued(),
        "counts": lambda: store.counts(),
        "counts_by_task": lambda: store.counts_by_task(),
        "beat": lambda: store.beat(Worker(id="a"), 1),
        "leave": lambda: store.leave("a"),
        "workers": lambda: store.workers(),
        "lead": lambda: store.lead("a", 1),
        "listen": lambda: anext(store.listen(None)),
    }


async def all_refused(store: PostgresStore, job: Job) -> None:
    """Every verb says within two seconds that the store is unavailable."""

    async def one(name: str, call: Callable[[], Awaitable[object]]) -> str:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await call()
        return name if time.monotonic() - began > 2.0 else ""

    slow = await asyncio.gather(*(one(*each) for each in calls_of(store, job).items()))
    assert set(slow) == {""}
    assert store.trouble is not None


@pytest.mark.slow
async def test_a_server_that_was_killed_has_all_that_was_acknowledged(namespace: str) -> None:
    """Meanwhile every call says so; afterwards all goes on by itself."""
    loop = asyncio.get_running_loop()
    server = await loop.run_in_executor(None, PostgresServer)
    try:
        async with opened(server.url, namespace) as store:
            seen = store.listen(None)
            assert await anext(seen) == []
            acknowledged: list[Job] = []

            async def write() -> None:
                with contextlib.suppress(StoreUnavailable):
                    while True:
                        acknowledged.append(await add(store))

            writers = [asyncio.ensure_future(write()) for _ in range(20)]
            await until(lambda: asyncio.sleep(0, len(acknowledged) > 500))
            await loop.run_in_executor(None, server.kill)
            async with asyncio.timeout(4):
                await asyncio.gather(*writers)
            with pytest.raises(StoreUnavailable):
                async for _ in seen:
                    pass
            await all_refused(store, acknowledged[0])
            await loop.run_in_executor(None, server.start)
            for job in acknowledged:
                assert await store.get(job.id) == job
            assert await store.move(acknowledged[0].id, change(Move.CLAIM))
            assert store.trouble is None
            told = await heard(store, acknowledged[-1].seq, 2)
            assert told[1]
    finally:
        await loop.run_in_executor(None, server.close)


@pytest.mark.slow
async def test_a_server_that_falls_silent_is_given_up_within_two_seconds(
    postgres_server: PostgresServer, namespace: str
) -> None:
    """Also for those who wait behind others; what was being written is called unknown."""
    async with Line(postgres_server.port) as line:
        url = postgres_server.url.replace(str(postgres_server.port), str(line.port))
        async with opened(url, namespace) as store:
            job = await add(store)
            await store.counts()
            line.cut()
            first = asyncio.ensure_future(store.add([new()], 99))
            await asyncio.sleep(0.1)
            await all_refused(store, job)
            with pytest.raises(StoreUnavailable, match="unknown"):
                await first
            await all_refused(store, job)
            line.mend()
            await store.move(job.id, change(Move.CLAIM))  # Or what was called unknown was done.
            assert (await store.get(job.id) or job).status == "running"
            assert store.trouble is None


async def test_a_schema_that_was_dropped_and_restored_is_worked_with_at_once(
    postgres_server: PostgresServer, namespace: str, kept: PostgresStore
) -> None:
    """Its types and tables are others now, which connections from before do not know."""
    job = await add(kept)
    assert await kept.get(job.id) == job
    async with user(postgres_server) as connection:
        await connection.execute(f"DROP SCHEMA {namespace} CASCADE")
    calls: list[Callable[[], Awaitable[object]]] = [lambda: add(kept), lambda: kept.get(job.id)]
    for call in calls:
        with pytest.raises(StoreUnavailable):
            await call()
    async with opened(postgres_server.url, namespace):
        again = await add(kept)
        assert await kept.get(again.id) == again
        assert kept.trouble is None


async def test_a_schema_that_was_restored_meanwhile_costs_one_write_at_most(
    postgres_server: PostgresServer, namespace: str, kept: PostgresStore
) -> None:
    """Nobody has asked while it was gone."""
    job = await add(kept)
    assert await kept.get(job.id) == job
    async with user(postgres_server) as connection:
        await connection.execute(f"DROP SCHEMA {namespace} CASCADE")
    async with opened(postgres_server.url, namespace):
        assert await kept.get(job.id) is None
        with contextlib.suppress(StoreUnavailable):
            await add(kept)
        again = await add(kept)
        assert await kept.get(again.id) == again
        assert kept.trouble is None


@pytest.mark.parametrize("state", ["53100", "25006", "57014", "53200", "58030", "57P01"])
async def test_what_the_server_refuses_is_trouble_while_it_lasts(
    postgres_server: PostgresServer, namespace: str, kept: PostgresStore, state: str
) -> None:
    """It says what is wrong; reads go on; the first write that holds ends it."""
    job = await add(kept)
    async with user(postgres_server) as connection:
        await connection.execute(
            f"""
            CREATE FUNCTION {namespace}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON {namespace}.jobs
            EXECUTE FUNCTION {namespace}.refuse();
            """
        )
        with pytest.raises(StoreUnavailable) as raised:
            await kept.add([new()], 9)
        assert ("unknown" in raised.value.detail) == (state == "57P01")
        assert await kept.get(job.id) == job
        if state in ("53100", "25006"):
            assert kept.trouble is not None
            assert "written" in kept.trouble
        await connection.execute(f"DROP TRIGGER refuse ON {namespace}.jobs")
    await add(kept)
    assert kept.trouble is None


async def test_an_ended_session_is_replaced(
    postgres_server: PostgresServer, namespace: str, kept: PostgresStore
) -> None:
    """An administrator ends all of them: reads begin again, the next write has a new one."""
    job = await add(kept)
    await kept.counts()
    async with user(postgres_server) as connection:
        await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'quart-app'"
            " AND pid IN (SELECT pid FROM pg_stat_activity WHERE query LIKE $1 OR query LIKE $2)",
            "%write_group%", "%counts%",
        )  # fmt: skip
    assert await kept.get(job.id) == job
    with contextlib.suppress(StoreUnavailable):  # It may not have heard yet.
        await add(kept)
    await add(kept)
    assert kept.trouble is None


# ---------------------------------------------------------------- what is refused


async def refusal(url: str, namespace: str) -> str:
    """Why a store cannot be opened."""
    with pytest.raises(StoreRefused) as raised:
        await PostgresStore(url, namespace).open()
    return str(raised.value)


async def test_a_server_that_cannot_be_used_is_refused(
    postgres_server: PostgresServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each refusal says what was found, and never the password."""
    url = postgres_server.url.replace("postgres@", "postgres:secret@")
    nobody = url.replace(str(postgres_server.port), str(free_port()))
    said = await refusal(nobody, namespace)
    assert "does not answer" in said
    assert "secret" not in said
    assert "no such database" in await refusal(url.removesuffix("postgres") + "none", namespace)
    assert "refuses the user" in await refusal(url.replace("//postgres", "//none"), namespace)
    assert "secret" not in await refusal("postgresql://u:secret@127.0.0.1:bad/x", namespace)
    async with user(postgres_server) as connection:
        await connection.execute(f"CREATE ROLE r{namespace} LOGIN")
        said = await refusal(url.replace("//postgres:", f"//r{namespace}:"), namespace)
        assert "CREATE SCHEMA" in said
        await connection.execute(f"CREATE SCHEMA {namespace}; CREATE TABLE {namespace}.x ()")
        assert "another program" in await refusal(url, namespace)
        await connection.execute(f"DROP TABLE {namespace}.x")
        async with opened(url, namespace) as store:
            await add(store)
        await connection.execute(f"UPDATE {namespace}.version SET number = 99")  # noqa: S608
        assert "newer quart-app" in await refusal(url, namespace)
    monkeypatch.setattr("quart_app.stores.postgres.schema.OLDEST", 990_000)
    assert "too old" in await refusal(url, namespace)


@pytest.mark.parametrize("sign", ["/", "#", "?", "@", "[", "/@#"])
async def test_a_password_that_spoils_the_url_is_not_told(sign: str) -> None:
    """Wherever the URL is cut by it; and how it is written is said where it cannot be read."""
    url = f"postgresql://me:sec{sign}ret@127.0.0.1:{free_port()}/x"
    said = await refusal(url, "n")
    assert "sec" not in said.replace("second", "")
    assert "ret@" not in said
    assert said.startswith("postgresql://me@127.0.0.1:")
    if sign in ("/", "#"):
        assert "in a user or password / is written %2F" in said


@pytest.mark.parametrize("name", ["", "A", "a-b", 'x"y', "pg_x", "1", "x" * 60, "order", "end"])
def test_a_name_that_no_schema_can_have_is_refused(name: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match="schema's name"):
        PostgresStore("postgresql://h/d", name)
    with pytest.raises(StoreRefused, match="schema's name"):
        make_shared_store("postgresql://h/d", name)


async def test_every_word_that_sql_has_reserved_is_known(postgres_server: PostgresServer) -> None:
    """Those of this server's version; newer ones have few more."""
    async with user(postgres_server) as connection:
        asked = "SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')"
        words = {row["word"] for row in await connection.fetch(asked)}
    assert words <= links.RESERVED


async def test_many_processes_may_open_a_new_namespace_at_once(
    postgres_server: PostgresServer, namespace: str
) -> None:
    """One makes it."""
    stores = [PostgresStore(postgres_server.url, namespace) for _ in range(5)]
    await asyncio.gather(*(each.open() for each in stores))
    await asyncio.gather(*(add(each) for each in stores))
    assert (await stores[0].counts())["queued"] == 5
    await asyncio.gather(*(each.close() for each in stores))


def test_what_is_no_fault_of_the_servers_has_no_reason() -> None:
    """One write's own errors are raised as they are."""
    for error in (asyncpg.UniqueViolationError(), asyncpg.DataError("x"), ValueError("x")):
        assert reason(error) is None
    for lost in (OSError("x"), TimeoutError(), asyncpg.InterfaceError("connection is closed")):
        assert "does not answer" in str(reason(lost))
