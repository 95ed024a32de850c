"""All jobs of a file come to Redis and to PostgreSQL as they are, also in several goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from quart_app import create_app, task
from quart_app.app import get_jobs
from quart_app.checks.making import add, bring, change, request
from quart_app.core.ledger import Ledger
from quart_app.core.migration import AT_ONCE, MOVING
from quart_app.core.operate import PAUSED
from quart_app.core.ports import SharedStore, Store
from quart_app.domain.errors import KeyReused, StoreRefused, StoreUnavailable
from quart_app.domain.ids import new_id
from quart_app.domain.jobs import Change, Failure, Job, KeptStep, Note, Progress
from quart_app.domain.queries import Query
from quart_app.domain.status import Move
from quart_app.domain.workers import Worker
from quart_app.moving import migrate
from quart_app.settings import Settings
from quart_app.stores.shared import make_shared_store
from quart_app.stores.sqlite.store import SQLiteStore
from tests.cli.conftest import invoke
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.blocking]


@pytest.fixture(params=["redis", "postgres"])
def target(request: pytest.FixtureRequest, namespace: str) -> Settings:
    """A new and empty store of many processes."""
    server: RedisServer | PostgresServer = request.getfixturevalue(f"{request.param}_server")
    environ = {"QUART_APP_STORE": server.url, "QUART_APP_NAMESPACE": namespace}
    return Settings.load(environ)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of the file."""
    return tmp_path / "jobs.db"


@contextlib.asynccontextmanager
async def filled(path: Path) -> AsyncIterator[SQLiteStore]:
    """A file that is written to."""
    store = SQLiteStore(path)
    await store.open()
    yield store
    await store.close()


@contextlib.asynccontextmanager
async def there(target: Settings) -> AsyncIterator[SharedStore]:
    """The store to which they go."""
    store = make_shared_store(target.store, target.namespace)
    await store.open()
    yield store
    await store.close()


async def everything(store: Store) -> list[Job]:
    """All jobs, the oldest first."""
    jobs: list[Job] = []
    before = None
    while True:
        page = await store.page(Query(limit=500, before=before))
        jobs += page.jobs
        if page.next is None:
            return jobs[::-1]
        before = page.next


def bare(jobs: list[Job]) -> list[Job]:
    """Without what is each store's own."""
    return [
        replace(job, order=0, seq=0, worker=None, updated_at=job.updated_at if job.over else 0.0)
        for job in jobs
    ]


async def some_of_everything(store: Store) -> None:
    """Jobs in every status, with all that a job may have."""
    for status in ("queued", "scheduled", "running", "succeeded", "failed", "canceled"):
        await bring(store, status, task="a", tags=("x", "y"), priority=3)
        await bring(store, status, task="b", parent="p", retry_of="r", turn="user", max_attempts=4)
    await add(store, status="scheduled", run_at=4e9, args=b'{"later":true}', expires_at=5e9)
    await add(store, key="one", args=b'{"n":1}')
    array = [Job(id=new_id(), task="t", key="many", created_at=1.0) for _ in range(AT_ONCE + 7)]
    await store.add(array, 10**6, request("many", b"all"))
    for _ in range(3):
        await bring(store, "failed", unique="u")
        await bring(store, "canceled", unique="v")
    await add(store, unique="u")
    long = await add(store, max_attempts=9)
    for number in (1, 2):
        await store.move(long.id, change(Move.CLAIM, 10.0 * number))
        await store.keep_step(long.id, f"step {number}", KeptStep(b"[1]", number, 11.0))
        await store.note(long.id, Note(at=12.0, progress=Progress(number, 9, "on")))
        await store.move(
            long.id,
            Change(Move.RETRY, 15.0, number, "retry", None, Failure("E", "no"), 4e9, "timeout"),
        )
        if number == 1:
            await store.move(long.id, change(Move.DUE, 16.0))
    stopped = await bring(store, "running", max_attempts=2)
    await store.note(stopped.id, Note(at=5.0, cancel_requested=True))
    for job in (long, stopped):
        await store.log(job.id, [(1.5, "info", "one"), (2.5, "error", "two")], 99, 9_999)
    await store.keep_fact(f"{PAUSED}a", b"true")


async def test_all_of_it_is_there_as_it_was(path: Path, target: Settings) -> None:
    """Jobs in their order, with logs, steps, keys and pauses; and the file is as it was."""
    async with filled(path) as old:
        await some_of_everything(old)
        jobs, counts = await everything(old), await old.counts()
        steps = {job.id: await old.steps(job.id) for job in jobs}
        lines = {job.id: await old.logs(job.id, 0, 99) for job in jobs}
    seen: list[tuple[int, int]] = []
    assert await asyncio.to_thread(migrate, path, target, lambda *each: seen.append(each)) == (
        counts,
        len(jobs),
    )
    assert seen[-1] == (len(jobs), len(jobs))
    async with there(target) as store:
        assert bare(await everything(store)) == bare(jobs)
        for job in jobs:
            assert await store.steps(job.id) == steps[job.id]
            now = await store.logs(job.id, 0, 99)
            assert [replace(line, seq=0) for line in now] == [
                replace(line, seq=0) for line in lines[job.id]
            ]
        array = [job.id for job in jobs if job.key == "many"]
        again = [Job(id=new_id(), task="t", key="many") for _ in array]
        known, new = await store.add(again, 10**6, request("many", b"all"))
        assert (new, [job.id for job in known]) == (False, array)
        with pytest.raises(KeyReused):
            await store.add(again[:1], 10**6, request("one", b"something else"))
        [same], new = await store.add([Job(id="n", task="t", unique="u")], 10**6)
        assert (new, same.unique) == (False, "u")
        assert f"{PAUSED}a" in await store.facts(PAUSED)
        assert await store.facts(MOVING) == {}
    assert await asyncio.to_thread(migrate, path, target, lambda *_: None) == (counts, 0)
    async with filled(path) as left:
        assert await everything(left) == jobs
        await add(left)
    with pytest.raises(StoreRefused, match="has been worked with since"):
        await asyncio.to_thread(migrate, path, target, lambda *_: None)
    other = path.with_name(f"{path.name}2")  # Whose name only begins so.
    async with filled(other) as another:
        await add(another)
    with pytest.raises(StoreRefused, match="jobs of its own"):
        await asyncio.to_thread(migrate, other, target, lambda *_: None)


CUT = "the connection is gone"


@pytest.mark.parametrize("after", [0, 1, 3, 7, 20, 35])
async def test_a_move_that_was_cut_off_goes_on(
    path: Path, target: Settings, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever moment; and nobody begins to work with what is half there."""
    async with filled(path) as old:
        await some_of_everything(old)
        jobs, counts = await everything(old), await old.counts()
    left = [after]

    def cut(verb: str) -> Any:
        real = getattr(Ledger, verb)

        async def write(ledger: Ledger, *arguments: Any) -> Any:
            if left[0] <= 0:
                raise StoreUnavailable(CUT, retry_after=1.0)
            left[0] -= 1
            return await real(ledger, *arguments)

        return write

    with monkeypatch.context() as patch:
        for verb in ("open", "replay", "replay_step", "log"):
            patch.setattr(Ledger, verb, cut(verb))
        with pytest.raises(StoreUnavailable, match=CUT):
            await asyncio.to_thread(migrate, path, target, lambda *_: None)

    @task(name="a")
    async def never() -> None:
        pytest.fail("it ran")

    app = create_app([never], QUART_APP_STORE=target.store, QUART_APP_NAMESPACE=target.namespace)
    with pytest.raises(StoreRefused, match="run it again where it was cut off"):
        await get_jobs(app).open()
    found, written = await asyncio.to_thread(migrate, path, target, lambda *_: None)
    assert (found, written <= len(jobs)) == (counts, True)
    async with there(target) as store:
        assert bare(await everything(store)) == bare(jobs)


async def test_a_move_that_was_cut_off_at_its_very_end_is_over_with_the_next(
    path: Path, target: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two of its last facts."""
    async with filled(path) as old:
        await add(old)
    keep, allowed = Ledger.keep_fact, [0]

    async def cut(ledger: Ledger, *arguments: Any) -> None:
        if allowed[0] <= 0:
            raise StoreUnavailable(CUT, retry_after=1.0)
        allowed[0] -= 1
        await keep(ledger, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "keep_fact", cut)
        for count in range(4):
            allowed[0] = count
            with pytest.raises(StoreUnavailable, match=CUT):
                await asyncio.to_thread(migrate, path, target, lambda *_: None)
    counts, _ = await asyncio.to_thread(migrate, path, target, lambda *_: None)
    assert counts["queued"] == 1
    async with there(target) as store:
        assert await store.facts(MOVING) == {}


async def test_who_works_with_either_store_is_left_in_peace(path: Path, target: Settings) -> None:
    """It is said who it is, and what to do; nothing is moved."""
    with pytest.raises(StoreRefused, match="there is no file"):
        await asyncio.to_thread(migrate, path, target, lambda *_: None)
    async with filled(path) as old:
        await add(old)
        with pytest.raises(StoreRefused, match="is in use by process"):
            await asyncio.to_thread(migrate, path, target, lambda *_: None)
    worker = Worker(id="w", host="web1", pid=7, kind="worker", started_at=1.0)
    async with there(target) as store:
        await store.beat(worker, 60)
        with pytest.raises(StoreRefused, match="worker process 7 on web1"):
            await asyncio.to_thread(migrate, path, target, lambda *_: None)
        assert await store.facts(MOVING) == {}  # It may go on, and others begin.
        await store.leave("w")
        assert await store.lead("another", 60)
        with pytest.raises(StoreRefused, match="somebody else works with the store"):
            await asyncio.to_thread(migrate, path, target, lambda *_: None)
        await store.leave("another")
        await store.keep_fact(MOVING, b"elsewhere")
        with pytest.raises(StoreRefused, match="a move from elsewhere into this store"):
            await asyncio.to_thread(migrate, path, target, lambda *_: None)
        await store.keep_fact(MOVING, None)
        await add(store)
        with pytest.raises(StoreRefused, match="jobs of its own"):
            await asyncio.to_thread(migrate, path, target, lambda *_: None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["redis://localhost/0", "redis://localhost/1"], "FROM is 'redis://localhost/0'"),
        (["sqlite:///jobs.db", "sqlite:///other.db"], "it has to be redis://... or postgresql"),
        (["sqlite:///jobs.db", "memory"], "TO is 'memory'"),
        (["sqlite:///jobs.db", "mysql://x"], "TO: "),
        (["sqlite:////nowhere/jobs.db", "redis://:secret@localhost/0"], "there is no file"),
    ],
)
def test_a_command_that_cannot_be_says_what_it_needs(words: list[str], said: str) -> None:
    """In one sentence, and no password is in it."""
    result = invoke("migrate", *words)
    assert result.exit_code in (1, 2)
    [line] = result.stderr.splitlines()
    assert said in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("url", "extra"), [("redis://host/0", "redis"), ("postgresql://host/jobs", "postgres")]
)
def test_a_store_whose_packages_are_not_installed_says_what_to_install(
    url: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And which one is missing; no setting is blamed for it."""
    monkeypatch.setitem(sys.modules, f"quart_app.stores.{extra}.store", None)
    with pytest.raises(StoreRefused, match=rf"pip install 'quart-app\[{extra}\]'$") as refused:
        make_shared_store(url, "quart_app")
    assert f"(import of quart_app.stores.{extra}.store halted" in str(refused.value)


def test_the_command_counts(path: Path, target: Settings) -> None:
    """For people and for scripts; and it says how to go on."""

    async def fill() -> None:
        async with filled(path) as old:
            await bring(old, "succeeded")
            await add(old)

    asyncio.run(fill())
    words = ["migrate", f"sqlite:///{path}", target.store, "--namespace", target.namespace]
    first = invoke(*words)
    assert first.exit_code == 0, first.stderr
    assert first.stdout.splitlines()[1::2] == ["queued: 1", "succeeded: 1", "canceled: 0"]
    assert f"QUART_APP_NAMESPACE={target.namespace}" in first.stderr
    again = json.loads(invoke(*words, "--json").stdout)
    assert (again["written"], again["jobs"]["succeeded"]) == (0, 1)
