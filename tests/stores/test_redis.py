"""The Redis store keeps the rules of every store, agrees with the one in memory, and says what is
wrong with its server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import initialize, run_state_machine_as_test
from redis.asyncio import Redis

from quart_app.checks import shared as shared_rules
from quart_app.checks import store as store_rules
from quart_app.checks.making import Rule, add, bring, change, everything, request, step
from quart_app.domain.errors import (
    InvalidRequest,
    KeyReused,
    QueueFull,
    StoreClosed,
    StoreRefused,
    StoreUnavailable,
)
from quart_app.domain.ids import new_id
from quart_app.domain.jobs import Change, Failure, Heard, Job, JobEvent, Note, Progress
from quart_app.domain.queries import Query
from quart_app.domain.status import STATUSES, Move
from quart_app.domain.workers import Worker
from quart_app.stores.redis import store as module
from quart_app.stores.redis.line import ended
from quart_app.stores.redis.opening import unfit
from quart_app.stores.redis.rows import STEP, blob
from quart_app.stores.redis.store import RedisStore
from quart_app.testing import check_shared_store, check_store, wait_until
from tests.servers import RedisServer, free_port, needs
from tests.stores.test_sqlite import Pair

COUNTERS = {"seq", "order", "version", "tasks", "sizes", "events"}
"""What is left when nothing is kept."""


@pytest.fixture
async def store(redis_server: RedisServer, namespace: str) -> AsyncIterator[RedisStore]:
    """A new and empty one."""
    store = RedisStore(redis_server.url, namespace)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """The server by itself."""
    async with Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server to be rough with."""
    server = RedisServer()
    yield server
    server.close()


@contextlib.asynccontextmanager
async def opened(url: str, namespace: str = "n") -> AsyncIterator[RedisStore]:
    """A store, while it is needed."""
    store = RedisStore(url, namespace)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def command(url: str, *words: str) -> Any:
    """Ask a server something by itself."""
    async with Redis.from_url(url, driver_info=None) as client:
        return await client.execute_command(*words)  # type: ignore[no-untyped-call]


async def well_again(store: RedisStore) -> None:
    """Wait until its server answers, which has just been started and may still load its data."""

    async def answers() -> bool:
        with contextlib.suppress(StoreUnavailable):
            await store.keep_fact("well", None)
        return not store.trouble

    await wait_until(answers, "the server answers")


def trouble_of(store: RedisStore) -> str:
    """What the store says is wrong; nothing where all is well."""
    return store.trouble or ""


async def names(client: Redis, namespace: str) -> set[str]:
    """What the keys of a namespace are called, without it."""
    prefix = f"{{{namespace}}}:"
    found: Any = await client.keys(f"*{namespace}*")
    assert all(key.decode().startswith(prefix) for key in found), "all in one slot"
    return {key.decode().removeprefix(prefix) for key in found}


def calls_of(store: RedisStore, job: Job) -> list[Callable[[], Awaitable[object]]]:
    """Each verb once."""
    return [
        lambda: store.add([Job(id=new_id(), task="t")], 9),
        lambda: store.get(job.id),
        lambda: store.page(Query()),
        lambda: store.move(job.id, change(Move.CLAIM)),
        lambda: store.note(job.id, Note(at=1.0, cancel_requested=True)),
        lambda: store.events(0, 1),
        lambda: store.head(),
        lambda: store.due(0.0, 1),
        lambda: store.queued("t", 1, False),
        lambda: store.expired(0.0, 1),
        lambda: store.oldest_queued(),
        lambda: store.steps(job.id),
        lambda: store.keep_step(job.id, "a", step(1, b"1")),
        lambda: store.log(job.id, [(1.0, "info", "x")], 1, 1),
        lambda: store.logs(job.id, 0, 1),
        lambda: store.keep_fact("x", b"1"),
        lambda: store.facts(""),
        lambda: store.active("t", "u"),
        lambda: store.began("t", 0.0),
        lambda: store.prune(everything(0, 0.0, 0), 0.0, 1),
        lambda: store.counts(),
        lambda: store.counts_by_task(),
        lambda: store.beat(Worker(id="a"), 9),
        lambda: store.leave("a"),
        lambda: store.workers(),
        lambda: store.lead("a", 9),
        lambda: anext(store.listen(None)),
    ]


# ---------------------------------------------------------------- the rules


@pytest.mark.parametrize("rule", store_rules.RULES, ids=lambda rule: rule.__name__)
async def test_redis_keeps_each_rule(store: RedisStore, rule: Rule) -> None:
    """One by one, so that the broken one has a name."""
    await rule(store)


@pytest.mark.parametrize("rule", shared_rules.RULES, ids=lambda rule: rule.__name__)
async def test_redis_keeps_each_rule_of_a_shared_store(
    store: RedisStore, redis_server: RedisServer, rule: shared_rules.Rule
) -> None:
    """Two processes on one namespace."""
    async with opened(redis_server.url, store.namespace) as other:
        await rule(store, other)


@pytest.mark.slow
async def test_redis_passes_the_suites(redis_server: RedisServer, namespace: str) -> None:
    """`check_store` and `check_shared_store`, as an author of a store would run them."""
    numbers = itertools.count()

    def maker() -> RedisStore:
        return RedisStore(redis_server.url, f"{namespace}-{next(numbers)}")

    def pair() -> tuple[RedisStore, RedisStore]:
        one = maker()
        return one, RedisStore(one.url, one.namespace)

    await check_store(maker)
    await check_shared_store(pair)


class RedisPair(Pair):
    """Redis and memory."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.runner.run(self.sqlite.close())
        self.namespace = f"h{uuid.uuid4().hex}"
        self.sqlite: Any = RedisStore(self.url, self.namespace)
        self.runner.run(self.sqlite.open())

    @initialize()
    def remember(self) -> None:
        """Nothing is set."""

    def reopen(self) -> None:
        self.runner.run(self.sqlite.close())
        self.sqlite = RedisStore(self.url, self.namespace)
        self.runner.run(self.sqlite.open())

    def teardown(self) -> None:
        for job_id in map(str, range(self.made + 2)):
            self.both(lambda store, job_id=job_id: store.get(job_id))  # type: ignore[misc]
            self.both(lambda store, job_id=job_id: store.steps(job_id))  # type: ignore[misc]
            self.both(lambda store, job_id=job_id: store.logs(job_id, 0, 99))  # type: ignore[misc]
        self.runner.run(self.end_all())
        self.runner.run(self.sqlite.close())
        self.runner.close()
        self.folder.cleanup()

    async def end_all(self) -> None:
        """Whatever was done before: when all is over and forgotten, nothing of it is left."""
        left = (await self.sqlite.page(Query(limit=100))).jobs
        for job in left:
            move = Move.CANCEL if job.status == "running" else Move.WITHDRAW
            await self.sqlite.move(job.id, change(move, 99.0))
        await self.sqlite.prune(everything(0, -1.0, 0), 99.0, 1_000)
        for name in await self.sqlite.facts(""):
            await self.sqlite.keep_fact(name, None)
        async with Redis.from_url(self.url) as client:
            assert await names(client, self.namespace) <= COUNTERS
            sizes = await client.hgetall(f"{{{self.namespace}}}:sizes")
            assert set(sizes.values()) <= {b"0"}


@pytest.mark.slow
def test_redis_agrees_with_memory(redis_server: RedisServer) -> None:
    """Whatever is done in whichever order; and nothing is left when all is forgotten."""
    machine = type("Machine", (RedisPair,), {"url": redis_server.url})
    run_state_machine_as_test(
        machine, settings=settings(deadline=None, max_examples=40, stateful_step_count=40)
    )


# ---------------------------------------------------------------- what is kept


async def test_nothing_is_left_of_what_is_forgotten(store: RedisStore, redis: Redis) -> None:
    """Not a key; and every key of the namespace has its hash tag."""
    for status in STATUSES:
        job = await bring(store, status, key=status, turn="a", unique=status, parent="p")
        await add(store, turn="b", priority=3, expires_at=9.0, args=b'"' + b"x" * 9_000 + b'"')
        await store.log(job.id, [(1.0, "info", "x")], 9, 999)
    job = await bring(store, "running")
    await store.keep_step(job.id, "a", step(1, b"[1]"))
    await store.beat(Worker(id="w"), 30)
    await store.lead("w", 30)
    assert len(await names(redis, store.namespace)) > len(COUNTERS)
    for job in (await store.page(Query(limit=100))).jobs:
        await store.move(job.id, change(Move.CANCEL if job.status == "running" else Move.WITHDRAW))
    await store.prune(everything(0, 0.0, 0), 99.0, 1_000)
    await store.leave("w")
    assert await names(redis, store.namespace) == COUNTERS
    assert set((await redis.hgetall(f"{{{store.namespace}}}:sizes")).values()) == {b"0"}


async def test_the_silent_leave_nothing_behind(store: RedisStore, redis: Redis) -> None:
    """A process that died is removed by the beats of others."""
    await store.beat(Worker(id="dead"), 0.01)
    await asyncio.sleep(0.05)
    await store.beat(Worker(id="alive"), 30)
    assert await redis.hkeys(f"{{{store.namespace}}}:workers") == [b"alive"]


@pytest.mark.slow
async def test_ten_thousand_jobs_are_added_at_once(store: RedisStore) -> None:
    """All, numbered in their order; or none."""
    jobs = [Job(id=new_id(), task="t", args=b"[1]", key="k") for _ in range(10_000)]
    with pytest.raises(QueueFull):
        await store.add(jobs, 9_999)
    assert (await store.counts())["queued"] == 0
    kept, new = await store.add(jobs, 10_000, request("k"))
    assert new
    assert [job.order for job in kept] == list(range(1, 10_001))
    assert await store.get(jobs[-1].id) == kept[-1]
    again = [Job(id=new_id(), task="t", key="k") for _ in range(10_000)]
    assert await store.add(again, 10_000, request("k")) == (kept, False)


@pytest.mark.parametrize("fits", [True, False])
async def test_many_large_jobs_are_brought_in_parts(
    store: RedisStore, redis: Redis, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    """Kept all or none, and the parts are gone."""
    monkeypatch.setattr(module, "STAGED", 5_000)
    args = b'"' + b"\xc3\xbc" * 1_000 + b'"'
    jobs = [Job(id=new_id(), task="t", args=args) for _ in range(30)]
    if fits:
        kept, _ = await store.add(jobs, 30)
        assert [await store.get(job.id) for job in jobs] == kept
    else:
        with pytest.raises(QueueFull):
            await store.add(jobs, 29)
    staged = await redis.keys(f"{{{store.namespace}}}:staged:*")
    assert staged == []


async def test_a_mixture_of_known_and_new_jobs(store: RedisStore) -> None:
    """Those that are known come in their places, with the newest version."""
    first = await add(store, unique="u")
    running = await store.move(first.id, change(Move.CLAIM))
    batch = [Job(id=new_id(), task="t", unique=name) for name in ("v", "u", "v", None, "u")]
    kept, new = await store.add(batch, 9)
    assert new
    assert kept[1] == kept[4] == running
    assert kept[0] is kept[2]
    assert [await store.get(kept[at].id) for at in (0, 3)] == [kept[0], kept[3]]
    await add(store, key="k")
    with pytest.raises(KeyReused):
        await store.add([Job(id=new_id(), task="t", key="k")], 99, request("k", b"\xff\x00"))


async def test_words_that_are_no_text_and_numbers_that_are_none(store: RedisStore) -> None:
    """A file's name with stray bytes in an error is kept as near as can be."""
    stray = b"caf\xe9".decode(errors="surrogateescape")
    job = await add(store, tags=(stray,))
    await store.move(job.id, change(Move.CLAIM))
    await store.note(job.id, Note(at=2.0, progress=Progress(math.nan, math.inf, stray)))
    failed = await store.move(job.id, Change(Move.FAIL, at=3.0, error=Failure("E", stray)))
    kept = await store.get(job.id)
    assert kept is not None
    assert failed is not None
    assert (kept.tags, kept.error) == (("caf?",), Failure("E", "caf?")) == (failed.tags, kept.error)


@pytest.mark.parametrize("size", [0, 31, 32, 255, 256, 65_535, 65_536, 300_000])
async def test_bytes_of_every_size_come_back(store: RedisStore, size: int) -> None:
    """Also such as are no text."""
    value = b"\xff" * size
    await store.keep_fact("x", value)
    assert await store.facts("") == {"x": value}
    job = await add(store, args=value)
    assert await store.get(job.id) == job
    assert bytes(blob(value)).endswith(value)


@pytest.mark.parametrize("seq", [2**31, 2**45 - 9])
async def test_large_numbers_stay_exact(store: RedisStore, redis: Redis, seq: int) -> None:
    """A seq is an id in the stream, a score, and a part of one."""
    prefix = f"{{{store.namespace}}}:"
    await redis.mset({f"{prefix}seq": seq, f"{prefix}order": seq})
    ears = store.listen(None)
    assert await anext(ears) == []
    for priority in (-100, 100):
        job = await add(store, priority=priority)
    assert (job.seq, job.order) == (seq + 2, seq + 2)
    found = await store.queued("t", 9, False)
    assert [(each.priority, each.seq) for each in found] == [(100, seq + 2), (-100, seq + 1)]
    heard = await anext(ears)
    assert heard is not None
    assert [each.seq for each in heard] == [seq + 1, seq + 2]
    assert seq < STEP
    await ears.aclose()


async def test_answers_that_are_too_large_come_in_parts(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left out where an answer is cut."""
    monkeypatch.setattr(module, "CAP", 1_000)
    jobs = [await add(store, status="scheduled", args=b"x" * 400, run_at=1.0) for _ in range(9)]
    assert (await store.page(Query(limit=20))).jobs == jobs[::-1]
    assert [event.job for event in await store.events(0, 20)] == jobs
    assert await store.due(2.0, 20) == jobs
    assert await store.due(2.0, 4) == jobs[:4]


async def test_a_caller_that_gives_up_spoils_nothing(store: RedisStore) -> None:
    """The others in its round trip have their answers, and so has who comes later."""
    jobs = [await add(store) for _ in range(9)]
    calls = [asyncio.create_task(store.move(job.id, change(Move.CLAIM))) for job in jobs]
    await asyncio.sleep(0)
    calls[4].cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, Job) for each in answers) == 8
    assert (await store.counts())["running"] >= 8


async def test_each_round_trip_that_writes_is_told(store: RedisStore) -> None:
    """With its seconds; many writes at once are one."""
    told: list[float] = []
    store.on_commit = told.append
    await asyncio.gather(*(add(store) for _ in range(50)))
    assert 1 <= len(told) <= 2
    assert all(0 < seconds < 5 for seconds in told)
    await store.counts()
    assert len(told) <= 2


# ---------------------------------------------------------------- listening


async def hear(ears: AsyncIterator[list[Heard] | None], count: int) -> list[Heard | None]:
    """What is heard, up to so many; a gap is one, too."""
    heard: list[Heard | None] = []
    async with asyncio.timeout(10):
        while len(heard) < count:
            batch = await anext(ears)
            heard += [None] if batch is None else batch
    return heard


async def listen(ears: AsyncIterator[list[Heard] | None], heard: list[Heard]) -> None:
    """Hear as long as there is anybody who tells."""
    async for batch in ears:
        heard += batch or []


async def test_a_large_job_is_heard_once_as_its_newest_version(store: RedisStore) -> None:
    """Its data does not travel; what was overtaken meanwhile is not told."""
    job = await add(store, args=b'"' + b"x" * 10_000 + b'"')
    claimed = await store.move(job.id, change(Move.CLAIM))
    ears = store.listen(0)
    [heard] = await hear(ears, 1)
    assert isinstance(heard, JobEvent)
    assert (heard.kind, heard.job) == ("claim", claimed)
    small = await add(store)
    assert await hear(ears, 1) == [JobEvent(small.seq, "open", small)]
    await ears.aclose()


async def test_a_stream_that_was_trimmed_is_a_gap(store: RedisStore, redis: Redis) -> None:
    """It is told, and what is told from then on comes."""
    stream = f"{{{store.namespace}}}:events"
    jobs = [await add(store) for _ in range(5)]
    ears = store.listen(1)
    assert await anext(ears) == []
    assert [each.seq for each in await hear(ears, 4) if each] == [2, 3, 4, 5]
    await ears.aclose()
    await redis.xtrim(stream, 2, approximate=False)
    ears = store.listen(1)
    heard = await hear(ears, 3)
    assert heard[0] is None
    assert [each.seq for each in heard if each] == [jobs[3].seq, jobs[4].seq]
    await ears.aclose()
    await redis.xtrim(stream, 0, approximate=False)
    ears = store.listen(1)
    assert await hear(ears, 1) == [None]
    newest = await add(store)
    assert await hear(ears, 1) == [JobEvent(newest.seq, "open", newest)]
    await ears.aclose()


async def test_a_server_that_was_put_back_is_a_gap(store: RedisStore) -> None:
    """Who has heard more than there is goes on with what comes."""
    await add(store)
    ears = store.listen(1_000)
    assert await hear(ears, 1) == [None]
    newest = await add(store)
    assert await hear(ears, 1) == [JobEvent(newest.seq, "open", newest)]
    await ears.aclose()


async def test_listening_ends_at_once(store: RedisStore) -> None:
    """Whoever listens is canceled, or the store is closed: nobody waits for the next news."""
    began = time.monotonic()

    async def listen() -> None:
        async for _ in store.listen(None):
            heard.set()

    heard = asyncio.Event()
    task = asyncio.create_task(listen())
    await heard.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    heard.clear()
    task = asyncio.create_task(listen())
    await heard.wait()
    await asyncio.sleep(0.05)
    await store.close()
    with pytest.raises(StoreClosed):
        await task
    assert time.monotonic() - began < 0.9


# ---------------------------------------------------------------- a server that fails


@pytest.mark.slow
async def test_a_restart_keeps_what_was_acknowledged(own_server: RedisServer) -> None:
    """SIGKILL, start: every job whose add had returned is there, and listening goes on."""
    async with opened(own_server.url) as store:
        ears = store.listen(None)
        assert await anext(ears) == []
        heard: list[Heard] = []
        hearing = asyncio.create_task(listen(ears, heard))
        acknowledged: list[Job] = []

        async def write() -> None:
            with contextlib.suppress(StoreUnavailable):
                while True:
                    acknowledged.append(await add(store))

        writers = [asyncio.create_task(write()) for _ in range(8)]
        await wait_until(lambda: len(acknowledged) >= 100 and heard, "jobs are acknowledged")
        own_server.kill()
        await asyncio.wait(writers)
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await hearing
        last = heard[-1].seq
        assert trouble_of(store)
        own_server.start()
        await well_again(store)
        for job in acknowledged:
            assert await store.get(job.id) == job
        assert not trouble_of(store)
        ears = store.listen(last)
        more = [job.seq for job in acknowledged if job.seq > last]
        assert await anext(ears) == []
        newest = await add(store)
        told = await hear(ears, newest.seq - last)
        assert {*more, newest.seq} <= {each.seq for each in told if each}
        await ears.aclose()


@pytest.mark.slow
async def test_each_verb_is_loud_and_quick_without_a_server(own_server: RedisServer) -> None:
    """`StoreUnavailable` at once; when it is back, all goes on by itself."""
    async with opened(own_server.url) as store:
        job = await add(store)
        own_server.kill()
        for call in calls_of(store, job):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await call()
            assert time.monotonic() - began < 2
        assert trouble_of(store)
        own_server.start()
        await well_again(store)
        assert await store.move(job.id, change(Move.CLAIM))
        assert not trouble_of(store)
        ears = store.listen(None)
        assert await anext(ears) == []
        await ears.aclose()


@pytest.mark.slow
async def test_a_server_that_hangs_leaves_it_unknown(own_server: RedisServer) -> None:
    """A write that was sent may be there or not; who came meanwhile was not sent."""
    async with opened(own_server.url) as store:
        job = await add(store)
        await store.get(job.id)
        await command(own_server.url, "CLIENT", "PAUSE", "2500", "ALL")
        began = time.monotonic()
        assert store._writes is not None
        writes = store._writes
        writes._sent = False
        first = asyncio.create_task(store.move(job.id, change(Move.CLAIM)))
        await wait_until(lambda: writes._sent, "the first one is on its way")
        second = asyncio.create_task(store.keep_fact("x", b"1"))
        read = asyncio.create_task(store.get(job.id))
        answers = await asyncio.gather(first, second, read, return_exceptions=True)
        assert time.monotonic() - began < 2
        assert all(isinstance(each, StoreUnavailable) for each in answers)
        assert ["unknown" in str(each) for each in answers] == [True, False, False]
        assert "does not answer in time" in trouble_of(store)
        await well_again(store)
        assert await store.facts("x") == {}


@pytest.mark.slow
async def test_a_connection_that_answers_nobody_is_refused_in_time() -> None:
    """A black hole takes connections and says nothing."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    gone = asyncio.Event()
    hole = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = hole.sockets[0].getsockname()[1]
    began = time.monotonic()
    with pytest.raises(StoreRefused, match="does not answer in time"):
        await RedisStore(f"redis://127.0.0.1:{port}/1").open()
    assert time.monotonic() - began < 2
    await gone.wait()
    hole.close()
    await hole.wait_closed()


async def test_a_server_without_memory_refuses_and_recovers(own_server: RedisServer) -> None:
    """Nothing was written, and it says so; reading goes on, and so does forgetting."""
    async with opened(own_server.url) as store:
        done = await bring(store, "succeeded")
        await command(own_server.url, "CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreUnavailable, match=r"no memory left .* nothing was written"):
            await add(store)
        assert "no memory left" in trouble_of(store)
        assert await store.get(done.id) == done
        assert trouble_of(store)
        assert await store.prune(everything(0, 0.0, 0), 9.0, 9) == 1
        await command(own_server.url, "CONFIG", "SET", "maxmemory", "0")
        job = await add(store)
        assert not trouble_of(store)
        assert [event.seq for event in await store.events(0, 9)] == [job.seq] == [done.seq + 1]


async def test_a_replica_refuses_and_recovers(own_server: RedisServer) -> None:
    """As after a failover, until the name leads to the new primary."""
    async with opened(own_server.url) as store:
        await command(own_server.url, "REPLICAOF", "127.0.0.1", str(free_port()))
        with pytest.raises(StoreUnavailable, match="read-only replica"):
            await add(store)
        with pytest.raises(StoreRefused, match="read-only replica"):
            await RedisStore(own_server.url, "other").open()
        await command(own_server.url, "REPLICAOF", "NO", "ONE")
        await add(store)
        assert not trouble_of(store)


async def test_a_script_that_was_forgotten_is_brought_again(own_server: RedisServer) -> None:
    """Nobody notices."""
    async with opened(own_server.url) as store:
        await command(own_server.url, "SCRIPT", "FLUSH")
        job = await add(store)
        await command(own_server.url, "SCRIPT", "FLUSH")
        assert await store.get(job.id) == job


async def test_a_connection_that_was_ended_is_made_anew(own_server: RedisServer) -> None:
    """As a server does with idle ones: nothing had been sent, so nobody notices."""
    async with opened(own_server.url) as store:
        job = await add(store)
        await store.get(job.id)
        await command(own_server.url, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert store._writes is not None
        assert store._reads is not None
        ends = [line._connection for line in (store._writes, store._reads)]
        await wait_until(lambda: all(end is None or ended(end) for end in ends), "both have ended")
        assert await store.move(job.id, change(Move.CLAIM))
        assert await store.get(job.id)


async def test_versions_of_a_server_that_lost_them_are_not_used(own_server: RedisServer) -> None:
    """After a failover the newest writes may be gone: what is remembered of them is no base."""
    async with opened(own_server.url) as store:
        job = await add(store)
        await command(own_server.url, "FLUSHALL")
        assert await store.move(job.id, change(Move.CLAIM)) is None


# ---------------------------------------------------------------- opening and closing


async def test_a_server_that_is_not_there_is_refused() -> None:
    """With its address, without its password, and with what to check."""
    url = f"redis://me:secret@127.0.0.1:{free_port()}/0"
    with pytest.raises(StoreRefused, match="cannot be reached: check") as caught:
        await RedisStore(url).open()
    assert "redis://me:***@127.0.0.1:" in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreRefused, match="is no URL"):
        await RedisStore("http://127.0.0.1").open()


@pytest.mark.parametrize("sign", ["/", "#", "?", "@", "[", "/@#", "/a/b"])
@pytest.mark.parametrize("way", ["", "+sentinel", "+cluster"])
async def test_a_password_that_spoils_the_url_is_not_told(sign: str, way: str) -> None:
    """Wherever the URL is cut by it; and how it is written is said where it cannot be read."""
    place = f"127.0.0.1:{free_port()}{'/mymaster' if way == '+sentinel' else ''}"
    with pytest.raises(StoreRefused) as caught:
        await RedisStore(f"redis{way}://me:sec{sign}ret@{place}").open()
    said = str(caught.value)
    assert "sec" not in said.replace("seconds", "")
    assert "ret" not in said
    assert said.startswith(f"redis{way}://me:***@{place}")
    if sign in ("/", "#") and not way:
        assert "in a user or password / is written %2F" in said


async def test_a_server_that_asks_for_a_password(own_server: RedisServer) -> None:
    """None and a wrong one are refused, the right one is not."""
    await command(own_server.url, "CONFIG", "SET", "requirepass", "right")
    with pytest.raises(StoreRefused, match="asks for a password"):
        await RedisStore(own_server.url).open()
    with pytest.raises(StoreRefused, match="refuses the user or password"):
        await RedisStore(own_server.url.replace("//", "//:wrong@")).open()
    async with opened(own_server.url.replace("//", "//:right@")) as store:
        await add(store)


@pytest.mark.parametrize("denied", ["-evalsha", "-info", "-xadd", "-zpopmin"])
async def test_a_user_that_may_not_is_refused(own_server: RedisServer, denied: str) -> None:
    """With what it needs; also where it would have come to light in the middle of a write."""
    await command(own_server.url, "ACL", "SETUSER", "me", "on", ">pw", "~*", "+@all", denied)
    with pytest.raises(StoreRefused, match="not let this user"):
        await RedisStore(own_server.url.replace("//", "//me:pw@")).open()


async def test_a_server_that_would_drop_jobs_is_refused(own_server: RedisServer) -> None:
    """Where memory is bounded, nothing may be evicted."""
    await command(own_server.url, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    async with opened(own_server.url):
        pass
    await command(own_server.url, "CONFIG", "SET", "maxmemory", "100mb")
    with pytest.raises(StoreRefused, match="maxmemory-policy is allkeys-lru"):
        await RedisStore(own_server.url).open()
    await command(own_server.url, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    async with opened(own_server.url):
        pass


@pytest.mark.parametrize(
    ("version", "fits"),
    [("5.0.14", False), ("6.0.20", False), ("6.2.0", True), ("7.2.4", True), ("8.10.1", True)],
)
def test_old_servers_are_refused(version: str, fits: bool) -> None:
    """6.2 is the oldest; Valkey says that it is a 7.2."""
    assert (unfit({"redis_version": version}) is None) == fits


@pytest.mark.parametrize(("version", "why"), [("2", "newer version"), ("x", "other things")])
async def test_strange_keys_are_left_alone(
    redis_server: RedisServer, redis: Redis, namespace: str, version: str, why: str
) -> None:
    """Those of a newer version, and those of somebody else."""
    await redis.set(f"{{{namespace}}}:version", version)
    with pytest.raises(StoreRefused, match=why):
        await RedisStore(redis_server.url, namespace).open()
    assert await names(redis, namespace) == {"version"}


async def test_nobody_elses_transaction_is_joined(store: RedisStore) -> None:
    """Redis has none that would go with a caller's own."""
    with pytest.raises(InvalidRequest, match="postgresql"):
        await store.add_within(None, [Job(id=new_id(), task="t")], 9)
    assert await store.publish() == []


async def test_a_closed_store_is_loud(store: RedisStore) -> None:
    """Each verb, and twice is fine."""
    job = await add(store)
    await store.close()
    await store.close()
    for call in calls_of(store, job):
        with pytest.raises(StoreClosed):
            await call()


async def test_closing_waits_for_what_was_asked(redis_server: RedisServer, namespace: str) -> None:
    """What was on its way is answered."""
    store = RedisStore(redis_server.url, namespace)
    await store.open()
    call = asyncio.create_task(add(store))
    await asyncio.sleep(0)
    await store.close()
    job = await call
    async with opened(redis_server.url, namespace) as other:
        assert await other.get(job.id) == job


def test_it_is_let_go_without_a_loop(redis_server: RedisServer, namespace: str) -> None:
    """No socket stays open and no warning comes, also where somebody listened."""
    store = RedisStore(redis_server.url, namespace)

    async def use() -> None:
        await store.open()
        await add(store)
        await store.counts()

    asyncio.run(use())
    store.abandon()
    store.abandon()
    with pytest.raises(StoreClosed):
        asyncio.run(store.counts())


@pytest.fixture
def socket_file(tmp_path: Path) -> Iterator[Path]:
    """A server that listens on a file alone."""
    needs(shutil.which("redis-server"), "Debian's redis-server")
    path = tmp_path / "s"
    words = ["redis-server", "--port", "0", "--unixsocket", str(path), "--dir", str(tmp_path)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    deadline = time.monotonic() + 10
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    yield path
    process.kill()
    process.wait(30)


@pytest.mark.slow
async def test_a_socket_file_will_do(socket_file: Path) -> None:
    """``unix://`` as well as ``redis://``."""
    async with opened(f"unix://{socket_file}") as store:
        job = await add(store)
        assert await store.get(job.id) == job
