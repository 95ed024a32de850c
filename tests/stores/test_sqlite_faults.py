"""Nothing that was acknowledged is lost, and nobody is lied to: not by power cuts, by disks that
fail or are full, by others' locks, or by what goes wrong in the store's own threads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import apsw
import pytest

from quart_app.checks.making import add, bring, change, everything, request, step
from quart_app.domain.errors import StoreClosed, StoreRefused, StoreUnavailable
from quart_app.domain.ids import new_id
from quart_app.domain.jobs import Job, Note, Progress
from quart_app.domain.queries import Query
from quart_app.domain.status import STATUSES, TERMINAL, Move, Status
from quart_app.stores.sqlite import store as store_module
from quart_app.stores.sqlite import writer as writer_module
from quart_app.stores.sqlite.file import Connection, connect
from quart_app.stores.sqlite.store import SQLiteStore
from quart_app.testing import wait_until
from tests.rounds import every, rounds
from tests.stores.faults import (
    Disk,
    Failing,
    Gate,
    Image,
    Recorder,
    disk,
    failure,
    hooked,
    images,
    unsound,
)

T = TypeVar("T")

# ---------------------------------------------------------------- power cuts

IMAGES = rounds(200)
"""Disk images of one test: ten tests make 2,000."""


async def adds(store: SQLiteStore, recorder: Recorder) -> None:
    """One after the other, with and without a key."""
    for number in range(60):
        key = f"key-{number}" if number % 3 == 0 else None
        await told(recorder, add(store, key=key, args=b'"' + b"x" * (number * 50) + b'"'))


async def adds_at_once(store: SQLiteStore, recorder: Recorder) -> None:
    """Groups of many sizes."""

    async def one(number: int) -> None:
        await asyncio.sleep(0.002 * (number % 7))
        await told(recorder, add(store, args=b'"' + b"y" * (number * 20) + b'"'))

    await asyncio.gather(*(one(number) for number in range(150)))


async def moves(store: SQLiteStore, recorder: Recorder) -> None:
    """Whole lives of jobs, beside each other, with notes, steps, logs and facts."""

    async def life(number: int, turn: int) -> None:
        job = await told(recorder, add(store, tags=("a",)))
        await told(recorder, store.move(job.id, change(Move.CLAIM)))
        await told(recorder, store.note(job.id, Note(at=2.0, progress=Progress(number, 9))))
        if await store.keep_step(job.id, "first", step(1, b'"done"')):
            recorder.acknowledged(("step", job.id, "first"))
        for _ in range(3):  # More than are kept.
            drafts = [(2.0, "info", "z" * 99)] * (number + 1)
            for line in await store.log(job.id, drafts, 6, 10**6):
                recorder.acknowledged(("line", job.id, line.number))
        await store.keep_fact(f"fact {number}", b"%d" % turn)
        recorder.acknowledged(("fact", f"fact {number}", turn))
        last = (Move.SUCCEED, Move.FAIL, Move.RETRY, Move.CANCEL)[number % 4]
        await told(recorder, store.move(job.id, change(last)))

    for turn in range(6):
        await asyncio.gather(*(life(number, turn) for number in range(5)))


async def prunes(store: SQLiteStore, recorder: Recorder) -> None:
    """Endings that are forgotten while others come."""
    for _ in range(8):
        ended = [await told(recorder, bring(store, "succeeded", key=new_id())) for _ in range(3)]
        recorder.acknowledged(("pruning", ""))
        await asyncio.gather(
            store.prune(everything(2, 99.0, 10**6), 3.0, 2), told(recorder, add(store))
        )
        gone = [job.id for job in ended if await store.get(job.id) is None]
        recorder.acknowledged(("forgotten", gone))


async def everything_at_once(store: SQLiteStore, recorder: Recorder) -> None:
    """All of these."""
    await asyncio.gather(moves(store, recorder), adds_at_once(store, recorder))
    await prunes(store, recorder)


async def told(recorder: Recorder, call: Awaitable[Job | None]) -> Job:
    """Note down what a call has given, as the caller of the store would."""
    job = await call
    assert job is not None
    recorder.acknowledged(("job", job.id, job.seq, job.status, job.key))
    return job


WORKLOADS = {
    each.__name__: each for each in (adds, adds_at_once, moves, prunes, everything_at_once)
}


def opened(made: Disk, pragma: str, instead: str = "") -> Callable[[Path, bool], Connection]:
    """Connections over a disk; the writer's with one pragma more, or with one in place of
    `synchronous`."""

    def connect(path: Path, read_only: bool) -> Connection:
        connection = made.connect(path, read_only)
        if not read_only:
            connection.execute(f"PRAGMA {pragma}")
            if instead:
                execute = connection.execute

                def changed(statement: str, values: Any = (), /) -> Any:
                    return execute(instead if "synchronous" in statement else statement, values)

                connection.execute = changed  # type: ignore[method-assign]
        return connection

    return connect


async def recording(path: Path, workload: str, pragma: str, instead: str = "") -> Recorder:
    """All that a workload has done to the disk, from the making of the file to its closing."""
    recorder = Recorder()
    with disk(recorder) as made:
        store = SQLiteStore(path, connect=opened(made, pragma, instead))
        await store.open()
        await WORKLOADS[workload](store, recorder)
        await store.close()
    return recorder


async def lies(path: Path, image: Image) -> list[str]:
    """What an image makes a liar of: after the store has opened it, worked with it and closed."""
    image.write(path)
    store = SQLiteStore(path)
    await store.open()
    counts = await store.counts()
    await store.close()
    wrong = unsound(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = {row[0]: row[1:] for row in connection.execute("SELECT id, seq, status FROM jobs")}
        keys = {row[0] for row in connection.execute("SELECT key FROM keys")}
        steps = set(
            connection.execute("SELECT id, name FROM steps JOIN jobs ON job = place").fetchall()
        )
        newest = dict(
            connection.execute(
                "SELECT id, max(number) FROM logs JOIN jobs ON job = place GROUP BY id"
            )
        )
        facts = {name: int(value) for name, value in connection.execute("SELECT * FROM facts")}
    scanned = dict.fromkeys(STATUSES, 0)
    for _, status in rows.values():
        scanned[status] += 1
    if counts != scanned:
        wrong.append(f"the store counts {counts}")
    wrong += unsaid(image.acknowledged, rows, newest, facts)
    return wrong + missing(image.acknowledged, rows, keys, steps)


def unsaid(
    acknowledged: list[Any],
    rows: dict[str, tuple[int, Status]],
    newest: dict[str, int],
    facts: dict[str, int],
) -> list[str]:
    """Which lines and facts had been acknowledged and are not there."""
    wrong = []
    for kind, name, *details in acknowledged:
        if kind == "line" and name in rows and newest.get(name, 0) < details[0]:
            wrong.append(f"line {details[0]} of {name} is lost")
        if kind == "fact" and facts.get(name, -1) < details[0]:
            wrong.append(f"{name} is lost: it was {details[0]} and is {facts.get(name)}")
    return wrong


def missing(
    acknowledged: list[Any],
    rows: dict[str, tuple[int, Status]],
    keys: set[str],
    steps: set[tuple[str, str]],
) -> list[str]:
    """What had been acknowledged and is not there."""
    expected: dict[str, tuple[int, Status, str | None]] = {}
    forgotten: set[str] = set()
    pruning = False
    wrong = []
    for kind, *details in acknowledged:
        if kind == "job":
            expected[details[0]] = tuple(details[1:])
        elif kind == "pruning":
            pruning = True
        elif kind == "forgotten":
            forgotten.update(details[0])
        elif kind == "step" and details[0] in rows and (details[0], details[1]) not in steps:
            wrong.append(f"a step of {details[0]} is lost")
    for job_id, (seq, status, key) in expected.items():
        if job_id not in rows:
            if not (pruning and status in TERMINAL):
                wrong.append(f"{job_id} is lost")
            continue
        if job_id in forgotten:
            wrong.append(f"{job_id} has come back")
        if rows[job_id][0] < seq or (rows[job_id][0] == seq and rows[job_id][1] != status):
            wrong.append(f"{job_id} was {status} at {seq} and is {rows[job_id]}")
        if key is not None and key not in keys:
            wrong.append(f"the key of {job_id} is lost")
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [1_000, 12], ids=["rare", "frequent"])
@pytest.mark.parametrize("workload", WORKLOADS)
async def test_a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged(
    workload: str, checkpoint: int, tmp_path: Path
) -> None:
    """Whatever of the unsynced writes the disk has kept, in any order, torn anywhere: every job,
    status, key, step, line and fact that a caller was told of is there, and what is counted is."""
    pragma = f"wal_autocheckpoint = {checkpoint}"
    recorder = await recording(tmp_path / "recorded.db", workload, pragma)
    luck = random.Random(f"{workload} {checkpoint}")  # noqa: S311 - a test's dice
    cut, told_of = 0, 0
    for image in images(recorder.trace, IMAGES, luck):
        assert await lies(tmp_path / "cut.db", image) == [], f"image {cut}"
        cut += 1
        told_of += len(image.acknowledged)
    assert cut == IMAGES
    assert told_of > 10 * IMAGES


LESS = {
    "no syncs": ("PRAGMA synchronous = OFF", ()),
    "syncs at checkpoints only": ("PRAGMA synchronous = NORMAL", ()),
    "syncs of the log that do nothing": ("", ("sync", "-wal")),
    "syncs of the database that do nothing": ("", ("sync", "")),
}


@pytest.mark.slow
@pytest.mark.parametrize("less", LESS)
async def test_these_power_cuts_do_find_what_is_not_synced(less: str, tmp_path: Path) -> None:
    """The same cuts with less syncing find acknowledged jobs lost: so they can find it."""
    instead, dropped = LESS[less]
    recorder = await recording(tmp_path / "recorded.db", "adds", "wal_autocheckpoint = 12", instead)
    trace = [each for each in recorder.trace if each[:2] != dropped]
    luck = random.Random(less)  # noqa: S311 - a test's dice
    lost = 0
    for image in images(trace, 60, luck):
        try:
            found = await lies(tmp_path / "cut.db", image)
        except (StoreRefused, sqlite3.Error) as error:  # It cannot even be opened.
            found = [f"all is lost: {error}"]
        lost += any("is lost" in each for each in found)
    assert lost >= 10


# ---------------------------------------------------------------- disks that fail, or are full


class Caller:
    """Whoever calls the store, and tries again where it is unavailable.

    Args:
        store: that it calls.
    """

    def __init__(self, store: SQLiteStore) -> None:
        self.store = store
        self.unavailable = 0
        self.told: dict[str, Status] = {}

    async def insist(self, call: Callable[[], Awaitable[T]], writes: bool = True) -> T:
        """Call until there is an answer: never another error, and never for ever."""
        for _ in range(200):
            try:
                return await call()
            except StoreUnavailable as error:
                if isinstance(error, StoreClosed):
                    raise
                self.unavailable += 1
                if writes:
                    assert trouble(self.store)
        raise AssertionError("it does not recover")

    async def start(self, key: str) -> str:
        """Start a job, each time with the same key, as one does after an unknown end."""
        [job], _ = await self.insist(
            lambda: self.store.add([Job(id=new_id(), task="t", key=key)], 10**6, request(key))
        )
        await self.look(job.id, "queued")
        return job.id

    async def move(self, job_id: str, move: Move) -> None:
        moved = await self.insist(lambda: self.store.move(job_id, change(move)))
        if moved is None:  # An earlier try, whose end was unknown, has done it.
            assert self.unavailable
        await self.look(job_id, move.target)

    async def look(self, job_id: str, status: Status) -> None:
        """What has been acknowledged is read from now on."""
        job = await self.insist(lambda: self.store.get(job_id), writes=False)
        assert job is not None
        assert job.status == status
        self.told[job_id] = status

    async def life(self, number: int) -> None:
        job_id = await self.start(f"key-{number}")
        await self.move(job_id, Move.CLAIM)
        assert await self.insist(lambda: self.store.keep_step(job_id, "a", step(1, b"1")))
        drafts = [(2.0, "info", f"line {number}")] * 3
        lines = await self.insist(lambda: self.store.log(job_id, drafts, 4, 10**6))
        kept = await self.insist(lambda: self.store.logs(job_id, 0, 9), writes=False)
        assert kept[-3:] == lines  # An earlier try, whose end was unknown, may have kept some, too.
        fact = b"%d" % number
        await self.insist(lambda: self.store.keep_fact("newest", fact))
        assert await self.insist(lambda: self.store.facts("new"), writes=False) == {"newest": fact}
        await self.insist(
            lambda: self.store.note(job_id, Note(at=2.0, progress=Progress(number, 99)))
        )
        if number % 3:
            await self.move(job_id, (Move.SUCCEED, Move.FAIL)[number % 2])


async def work_on(path: Path, failing: Failing) -> int:
    """Work with a store while its disk fails; returns how often it was unavailable."""
    with disk(failing) as made:
        store = SQLiteStore(path, connect=made.connect)
        for _ in range(200):  # Started again by whoever supervises the service.
            with contextlib.suppress(StoreRefused):
                await store.open()
                break
        caller = Caller(store)
        for number in range(JOBS):
            await caller.life(number)
        assert not trouble(store)
        scanned = dict.fromkeys(STATUSES, 0)
        for job in (await caller.insist(lambda: store.page(Query(limit=100)), writes=False)).jobs:
            scanned[job.status] += 1
        assert await store.counts() == scanned
        await store.close()
    assert unsound(path) == []
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert dict(connection.execute("SELECT id, status FROM jobs")) == caller.told
    return caller.unavailable


JOBS, OPERATIONS, LASTING, PART = 9, 500, 60, 100
"""Jobs of a run; operations of which each fails once, how many in a row, and those of one test."""


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, LASTING], ids=["once", "for a while"])
@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
@pytest.mark.parametrize("part", range(0, OPERATIONS, PART))
async def test_a_disk_that_fails_at_any_operation_makes_no_liar_of_the_store(
    part: int, error: type[apsw.Error], length: int, tmp_path: Path
) -> None:
    """A call either has an answer, which is then true, also after a restart, or it says that the
    store is unavailable; it recovers by itself, and what is counted is there."""
    unavailable = 0
    for first in every(range(part, part + PART)):
        failing = Failing(first, length, error)
        unavailable += await work_on(tmp_path / f"{first}.db", failing)
        assert failing.failed == length, "the work is long enough to come to it"
    assert unavailable > 0


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, LASTING], ids=["once", "for a while"])
async def test_a_disk_that_cannot_be_read_makes_no_liar_of_the_store(
    length: int, tmp_path: Path
) -> None:
    """The same, where reading fails."""
    unavailable = 0
    for first in every(range(PART)):
        failing = Failing(first, length, apsw.IOError, reads=True)
        unavailable += await work_on(tmp_path / f"{first}.db", failing)
    assert unavailable > 0


async def test_trouble_is_over_when_the_disk_has_taken_a_write_and_not_before(
    tmp_path: Path,
) -> None:
    """What changes nothing says nothing of the disk: then it is tried with something that does, so
    that a service to which nobody sends anything gets well, too."""
    fails = False

    def hook(statement: str) -> None:
        if fails and statement == "COMMIT":
            raise failure("SQLITE_IOERR_WRITE")

    store = SQLiteStore(tmp_path / "jobs.db", connect=hooked(hook))
    await store.open()
    fails = True
    with pytest.raises(StoreUnavailable, match="look at the system's log"):
        await add(store)
    for _ in range(2):
        assert await store.prune(everything(9, 9.0, 9), 9.0, 9) == 0
        assert trouble(store)
    fails = False
    assert await store.prune(everything(9, 9.0, 9), 9.0, 9) == 0
    assert not trouble(store)
    await store.close()
    assert unsound(tmp_path / "jobs.db") == []


async def test_a_disk_that_was_full_is_well_again_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And not because one small write happened to fit."""
    room = 0.0
    monkeypatch.setattr(writer_module, "room", lambda _: room)
    fails = False

    def hook(statement: str) -> None:
        if fails and statement == "COMMIT":
            raise failure("SQLITE_FULL", "database or disk is full")

    store = SQLiteStore(tmp_path / "jobs.db", connect=hooked(hook))
    await store.open()
    fails = True
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="make room on it") as unavailable:
            await add(store)
        assert unavailable.value.retry_after
    fails = False
    await add(store)
    assert trouble(store)
    room = 1e9
    await add(store)
    assert not trouble(store)
    said = [record.levelname for record in caplog.records if record.name == "quart_app.store"]
    assert said == ["ERROR", "WARNING"]  # Once when it begins, once when it is over.
    await store.close()


# ---------------------------------------------------------------- somebody else's lock

LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[Callable[[], None]]:
    """Another program holds a lock on the file, until it is told to let go."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOCK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield lambda: void(process.communicate("go\n", 10))
    finally:
        process.kill()
        process.communicate()


def trouble(store: SQLiteStore) -> str | None:
    """What is wrong now; a type checker would believe that it stays what it was."""
    return store.trouble


def void(_: object) -> None:
    """Nothing."""


async def lag(until: asyncio.Event) -> float:
    """The longest time that the event loop has let somebody wait."""
    longest = 0.0
    while not until.is_set():
        before = time.monotonic()
        await asyncio.sleep(0.005)
        longest = max(longest, time.monotonic() - before - 0.005)
    return longest


@pytest.mark.slow
async def test_somebody_elses_lock_makes_writing_unavailable_and_nothing_else(
    tmp_path: Path,
) -> None:
    """Callers are told within 2.5 s, reads go on, the event loop never waits, and once the lock is
    gone all is well without anybody's help."""
    path = tmp_path / "jobs.db"
    store = SQLiteStore(path)
    await store.open()
    job = await add(store)
    over = asyncio.Event()
    ticking = asyncio.create_task(lag(over))

    async def write() -> float:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="end that program"):
            await add(store)
        return time.monotonic() - started

    with locked(path) as let_go:
        writes = [asyncio.create_task(write())]
        for _ in range(3):
            await asyncio.sleep(0.3)  # So that they come while an earlier one waits.
            writes += [asyncio.create_task(write()) for _ in range(10)]
        while not all(task.done() for task in writes):
            started = time.monotonic()
            assert await store.get(job.id) == job
            assert time.monotonic() - started < 0.5
            await asyncio.sleep(0.02)
        assert max(await asyncio.gather(*writes)) < 2.5
        assert trouble(store)
        over.set()
        assert await ticking < 0.25
        await asyncio.to_thread(let_go)
    await add(store)
    assert not trouble(store)
    assert (await store.counts())["queued"] == 2
    await store.close()
    assert unsound(path) == []


@pytest.mark.slow
async def test_a_service_starts_although_somebody_holds_a_lock(tmp_path: Path) -> None:
    """It reads, says that it cannot write, and can once the lock is gone."""
    path = tmp_path / "jobs.db"
    store = SQLiteStore(path)
    await store.open()
    job = await add(store)
    await store.close()
    with locked(path) as let_go:
        await store.open()
        assert await store.get(job.id) == job
        with pytest.raises(StoreUnavailable):
            await add(store)
        await asyncio.to_thread(let_go)
    await add(store)
    assert not trouble(store)
    await store.close()


# ---------------------------------------------------------------- damage while it runs


async def test_damage_while_it_runs_is_loud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Reads and writes that meet it are refused, and the log says what to do."""
    path = tmp_path / "jobs.db"

    def forgetful(path: Path, read_only: bool) -> Connection:
        connection = connect(path, read_only)
        connection.execute("PRAGMA cache_size = 5")  # Else it need not read the file again.
        return connection

    store = SQLiteStore(path, connect=forgetful)
    await store.open()
    jobs = [await add(store, args=b'"' + b"x" * 500 + b'"') for _ in range(100)]
    await store.close()
    await store.open()
    with path.open("r+b") as database:
        database.seek(4_096)
        database.write(random.Random(1).randbytes(path.stat().st_size - 4_096))  # noqa: S311
    with pytest.raises(StoreUnavailable, match="restore a backup"):
        await store.get(jobs[50].id)
    assert "cannot be read: it is damaged: stop the service" in caplog.text
    assert "it is damaged" in (store.trouble or "")  # Whoever met it.
    with pytest.raises(StoreUnavailable, match="restore a backup"):
        await store.move(jobs[50].id, change(Move.CLAIM))
    assert "cannot be written: it is damaged: stop the service" in caplog.text
    assert trouble(store)
    await store.close()


async def test_damage_that_one_write_has_met_stays_in_what_is_said(tmp_path: Path) -> None:
    """Other writes may still be good: that makes nothing whole again."""
    fails = False

    def hook(statement: str) -> None:
        if fails and statement == "COMMIT":
            raise failure("SQLITE_CORRUPT")

    store = SQLiteStore(tmp_path / "jobs.db", connect=hooked(hook))
    await store.open()
    fails = True
    with pytest.raises(StoreUnavailable, match="it is damaged"):
        await add(store)
    fails = False
    assert (await add(store)).order
    assert "it is damaged" in (store.trouble or "")
    await store.close()


async def test_a_file_that_is_taken_away_is_not_made_anew(tmp_path: Path) -> None:
    """An empty store in its place would have lost every job; put back, it goes on."""
    path, away = tmp_path / "jobs.db", tmp_path / "away.db"
    fails = False

    def hook(statement: str) -> None:
        if fails and statement == "COMMIT":
            raise failure("SQLITE_IOERR_FSYNC")

    store = SQLiteStore(path, connect=hooked(hook))
    await store.open()
    job = await add(store)
    fails = True
    with pytest.raises(StoreUnavailable):
        await add(store)
    fails = False
    os.rename(path, away)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="is gone: stop the service, and put it back"):
            await add(store)
        assert "jobs.db" not in os.listdir(tmp_path)
    path.touch()
    with pytest.raises(StoreUnavailable, match="a database of another program"):
        await add(store)
    os.rename(away, path)
    await add(store)
    assert not trouble(store)
    assert await store.get(job.id) == job
    await store.close()


@pytest.mark.parametrize("instead", ["nothing", "another"])
async def test_a_file_that_is_removed_while_it_is_open_takes_no_more(
    instead: str, tmp_path: Path
) -> None:
    """SQLite would go on and on with a file that has no name any more. Put back, all is well."""
    path, away = tmp_path / "jobs.db", tmp_path / "away"
    store = SQLiteStore(path)
    await store.open()
    job = await add(store)
    os.rename(path, away)
    if instead == "another":
        shutil.copy(away, path)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="put it back"):
            await add(store)
        assert "put it back" in str(trouble(store))
    os.rename(away, path)
    other = await add(store)
    assert not trouble(store)
    await store.close()
    await store.open()
    assert [each.id for each in (await store.page(Query())).jobs] == [other.id, job.id]
    await store.close()


# ---------------------------------------------------------------- the threads


@pytest.mark.parametrize("kept", [False, True])
async def test_an_error_from_commit_means_unknown_and_the_key_tells(
    kept: bool, tmp_path: Path
) -> None:
    """The same start with the same key opens the job where it is not there, and only there."""
    fails = False

    def fail() -> NoReturn:
        raise failure("SQLITE_IOERR_FSYNC")

    def hook(statement: str) -> Callable[[], None] | None:
        nonlocal fails
        if statement != "COMMIT" or not fails:
            return None
        fails = False
        if not kept:
            fail()
        return fail

    store = SQLiteStore(tmp_path / "jobs.db", connect=hooked(hook))
    await store.open()
    fails = True
    first = Job(id="first", task="t", key="k")
    with pytest.raises(StoreUnavailable, match="the same Idempotency-Key tells"):
        await store.add([first], 9, request("k"))
    second = Job(id="second", task="t", key="k")
    [job], new = await store.add([second], 9, request("k"))
    assert (job.id, new) == (("first", False) if kept else ("second", True))
    assert [each.id for each in (await store.page(Query())).jobs] == [job.id]
    assert (await store.counts())["queued"] == 1
    await store.close()
    assert unsound(tmp_path / "jobs.db") == []


async def test_a_connection_that_cannot_roll_back_is_replaced(tmp_path: Path) -> None:
    """Nothing of what failed is there, and the next write is well."""
    failing = {"COMMIT", "ROLLBACK"}
    opened: list[bool] = []

    def hook(statement: str) -> None:
        if statement == "BEGIN IMMEDIATE" and not opened:
            return
        if statement in failing:
            raise failure("SQLITE_IOERR_WRITE")

    def connect_and_count(path: Path, read_only: bool) -> Connection:
        connection = hooked(hook)(path, read_only)
        opened.append(read_only)
        return connection

    failing.clear()
    store = SQLiteStore(tmp_path / "jobs.db", connect=connect_and_count)
    await store.open()
    failing |= {"COMMIT", "ROLLBACK"}
    with pytest.raises(StoreUnavailable):
        await add(store, key="k")
    failing.clear()
    job = await add(store, key="k")
    assert opened.count(False) == 2
    assert [each.id for each in (await store.page(Query())).jobs] == [job.id]
    await store.close()


async def test_a_file_that_cannot_be_opened_again_is_unavailable_until_it_can(
    tmp_path: Path,
) -> None:
    """Every caller hears of it; nobody waits for ever."""
    fails = False

    def opening(path: Path, read_only: bool) -> Connection:
        if fails:
            raise failure("SQLITE_CANTOPEN", "unable to open database file")
        return hooked(hook)(path, read_only)

    def hook(statement: str) -> None:
        if fails:
            raise failure("SQLITE_IOERR_WRITE")

    store = SQLiteStore(tmp_path / "jobs.db", connect=opening)
    await store.open()
    fails = True
    for says in ("SQLITE_IOERR_WRITE", "SQLITE_CANTOPEN", "SQLITE_CANTOPEN"):
        with pytest.raises(StoreUnavailable, match=says):
            await add(store)
        with pytest.raises(StoreUnavailable, match="SQLITE_CANTOPEN"):
            await store.get("x")
    fails = False
    assert await store.get("x") is None
    await add(store)
    await store.close()


async def test_writes_that_wait_when_it_closes_are_written(tmp_path: Path) -> None:
    """Each of their callers is told so; those who come later are refused."""
    gate = Gate()
    store = SQLiteStore(tmp_path / "jobs.db", connect=hooked(gate))
    await store.open()
    gate.shut()
    adding = [asyncio.create_task(add(store)) for _ in range(20)]
    await wait_until(gate.waiting.is_set, "the first group is being committed")
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreClosed):
        await add(store)
    gate.open()
    kept = await asyncio.gather(*adding)
    await closing
    await store.open()
    assert [job.id for job in (await store.page(Query())).jobs] == [job.id for job in kept[::-1]]
    await store.close()


async def test_a_disk_that_hangs_holds_up_neither_the_end_nor_those_who_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are told that it is unknown; nobody else gets the file while something may still be
    written."""
    monkeypatch.setattr(store_module, "END", 0.05)
    path = tmp_path / "jobs.db"
    gate, reading = Gate(), threading.Event()

    def hanging(path: Path, read_only: bool) -> Connection:
        if read_only:
            reading.wait(30)
        return hooked(gate)(path, read_only)

    store = SQLiteStore(path, connect=hanging)
    await store.open()
    gate.shut()
    first = asyncio.create_task(add(store))
    await wait_until(gate.waiting.is_set, "the first group is being committed")
    others = [asyncio.create_task(add(store)) for _ in range(3)]
    others += [asyncio.create_task(store.get("x")) for _ in range(4)]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await store.close()
    for waiting in (first, *others):
        with pytest.raises(StoreClosed, match="is unknown"):
            await waiting
    assert f"{path} hangs" in caplog.text
    with pytest.raises(StoreRefused, match="in use by process"):
        await SQLiteStore(path).open()
    gate.open()
    reading.set()
    store._owner.release()  # As the end of the process does.


def test_a_loop_that_is_gone_takes_no_thread_with_it(tmp_path: Path) -> None:
    """What was being written is written, and the threads end."""
    gate = Gate()
    store = SQLiteStore(tmp_path / "jobs.db", connect=hooked(gate))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(store.open())
    gate.shut()
    adding = [loop.create_task(add(store)) for _ in range(3)]
    loop.run_until_complete(wait_until(gate.waiting.is_set, "it is being committed"))
    for task in adding:
        task.cancel()
    loop.run_until_complete(asyncio.wait(adding))
    loop.close()
    gate.open()
    store.abandon()
    store.abandon()  # Twice is fine.
    assert unsound(tmp_path / "jobs.db") == []
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (3,)


async def test_nothing_ends_a_thread_of_the_store(tmp_path: Path) -> None:
    """Whatever is raised in one, its caller hears of it and the next one is served."""
    store = SQLiteStore(tmp_path / "jobs.db")
    await store.open()
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await store._require_writer().write(lambda _: sys.exit("from within"))
        with pytest.raises(StoreUnavailable):
            await store._read(lambda _: sys.exit("from within"))
        with pytest.raises(ZeroDivisionError):
            await store._require_writer().write(lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await store._read(lambda _: 1 / 0)
        job = await add(store)
        assert await store.get(job.id) == job
        assert not trouble(store)
    await store.close()
    assert unsound(tmp_path / "jobs.db") == []


async def test_a_read_that_fails_is_unavailable_and_the_next_one_is_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On a new connection; writing has no part in it."""
    fails = False

    def hook(statement: str) -> None:
        if fails and "FROM jobs" in statement:
            raise failure("SQLITE_IOERR_READ", "disk I/O error")

    store = SQLiteStore(tmp_path / "jobs.db", connect=hooked(hook, readers=True))
    await store.open()
    job = await add(store)
    fails = True
    with pytest.raises(StoreUnavailable, match="look at the system's log"):
        await store.get(job.id)
    assert "cannot be read" in caplog.text
    await add(store)
    assert not trouble(store)
    fails = False
    assert await store.get(job.id) == job
    await store.close()
