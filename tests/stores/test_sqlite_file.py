"""The store's file: one owner at a time, refused with a reason where it is not ours, or broken."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quart_app.checks.making import add, bring, change, everything
from quart_app.domain.errors import StoreRefused
from quart_app.domain.jobs import Job, RequestKey
from quart_app.domain.queries import Query
from quart_app.domain.status import STATUSES, Move
from quart_app.stores.sqlite import file
from quart_app.stores.sqlite.file import Owner, describe, explain, filesystem, refuse_network
from quart_app.stores.sqlite.store import SQLiteStore
from quart_app.stores.sqlite.verbs import sql
from quart_app.testing import wait_until
from tests.stores.faults import Rows, failure, unsound

OWNER = """
import asyncio, multiprocessing, sys, time
from pathlib import Path
from quart_app.stores.sqlite.store import SQLiteStore

async def main():
    await SQLiteStore(Path(sys.argv[1])).open()
    if sys.argv[2:] == ["child"]:
        child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
        child.start()
        print(child.pid, flush=True)
    else:
        print("open", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    asyncio.run(main())
"""


@contextlib.contextmanager
def owner(path: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that has the file open, and what it says."""
    script = path.with_name("owner.py")
    script.write_text(OWNER)
    process = subprocess.Popen(
        [sys.executable, str(script), str(path), *more], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


async def refusal(path: Path, **more: Any) -> str:
    """What opening says where it is refused."""
    store = SQLiteStore(path, **more)
    with pytest.raises(StoreRefused) as refused:
        await store.open()
    await store.close()  # Nothing was opened, and that is fine.
    return str(refused.value)


# ---------------------------------------------------------------- one owner


@pytest.mark.slow
async def test_a_second_process_is_refused_at_once_and_told_who_has_the_file(
    tmp_path: Path,
) -> None:
    """Within a second, with the process, the machine and since when; a kill -9 frees it."""
    path = tmp_path / "jobs.db"
    with owner(path) as (process, _):
        started = time.monotonic()
        message = await refusal(path)
        assert time.monotonic() - started < 1.0
        assert f"process {process.pid} on {socket.gethostname()} (since 20" in message
        assert "end that one, or name another file in QUART_APP_STORE" in message
        assert str(await asyncio.to_thread(Owner(path).find)) in message
        process.kill()
        process.wait()
        store = SQLiteStore(path)
        await store.open()
        await add(store)
        await store.close()
    assert await asyncio.to_thread(Owner(path).find) is None


@pytest.mark.slow
async def test_a_child_of_a_killed_owner_does_not_keep_the_file(tmp_path: Path) -> None:
    """The lock is the owner's alone: a process that it started and left behind has no part in
    it."""
    path = tmp_path / "jobs.db"
    with owner(path, "child") as (process, said):
        child = int(said)
        process.kill()
        process.wait()
        try:
            os.kill(child, 0)  # It is still there.
            store = SQLiteStore(path)
            await store.open()
            await store.close()
        finally:
            os.kill(child, signal.SIGKILL)


async def test_two_ways_to_one_file_have_one_owner(tmp_path: Path) -> None:
    """A link to the file is the file."""
    path = tmp_path / "jobs.db"
    store = SQLiteStore(path)
    await store.open()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "link.db").symlink_to(path)
    message = await refusal(folder / "link.db")
    assert f"in use by process {os.getpid()} on" in message
    await store.close()


async def test_the_same_process_is_refused_too_and_the_first_keeps_the_file(
    tmp_path: Path,
) -> None:
    """Also where it is the same store that is opened twice."""
    path = tmp_path / "jobs.db"
    store = SQLiteStore(path)
    await store.open()
    assert "in use by process" in await refusal(path)
    with pytest.raises(StoreRefused):
        await store.open()
    await add(store)
    assert "in use by process" in await refusal(path)
    await store.close()


async def test_a_full_disk_does_not_keep_the_owner_from_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock holds without its entry; who is refused is told less."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    path = tmp_path / "jobs.db"
    store = SQLiteStore(path)
    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", full)
        await store.open()
    assert "in use by another process" in await refusal(path)
    await store.close()


async def test_a_start_that_is_given_up_leaves_the_file_to_others(tmp_path: Path) -> None:
    """Canceled while the file is being opened, it lets go of it again."""
    path = tmp_path / "jobs.db"
    entered, go_on = threading.Event(), threading.Event()

    def slow(path: Path, read_only: bool) -> file.Connection:
        entered.set()
        go_on.wait(10)
        return file.connect(path, read_only)

    opening = asyncio.create_task(SQLiteStore(path, connect=slow).open())
    await wait_until(entered.is_set, "the file is being opened")
    opening.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    store = SQLiteStore(path)
    await store.open()
    await store.close()


# ---------------------------------------------------------------- refused, and why


async def kept(path: Path, count: int = 1) -> list[Any]:
    """A store's file with some jobs in every status, newest first."""
    store = SQLiteStore(path)
    await store.open()
    for _ in range(count):
        for status in STATUSES:
            await bring(store, status)
    jobs = (await store.page(Query(limit=100))).jobs
    await store.close()
    return jobs


def other_program(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


def text(path: Path) -> None:
    path.write_text("Dear diary, today I was taken for a database.\n" * 50)


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "another program's database": (other_program, "a database of another program: name another"),
    "a text": (text, "it is no SQLite database: restore a backup, or name another file"),
    "a folder": (Path.mkdir, "is a folder: name a file in QUART_APP_STORE"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_no_store_is_refused_and_left_as_it_was(what: str, tmp_path: Path) -> None:
    """The message says what it is and what to do."""
    make, says = REFUSED[what]
    path = tmp_path / "jobs.db"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    message = await refusal(path)
    assert says in message
    assert str(path) in message
    assert (path.read_bytes() if path.is_file() else b"") == before
    assert await asyncio.to_thread(Owner(path).find) is None


@pytest.mark.parametrize("path", [Path("/nowhere/at/all/jobs.db"), Path("/sys/jobs.db")])
async def test_a_folder_that_is_not_there_or_not_writable_is_refused(path: Path) -> None:
    """The message says what the folder needs."""
    message = await refusal(path)
    assert f"{path} cannot be used" in message
    assert "the folder must be there, and this user must be able to write in it" in message


async def test_a_truncated_file_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    """Wherever it was cut, by a page or more."""
    whole = tmp_path / "whole.db"
    await kept(whole, 20)
    content = whole.read_bytes()
    for size in (50, 700, 4_096, 5_000, 3 * 4_096, len(content) - 4_096):
        path = tmp_path / f"{size}.db"
        path.write_bytes(content[:size])
        message = await refusal(path)
        assert "restore a backup" in message, (size, message)
        assert path.read_bytes() == content[:size]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_a_damaged_header_is_refused_or_does_no_harm(seed: int, tmp_path: Path) -> None:
    """Random bytes in it: the message says what to do and the file is left as it was, or every job
    is there and can be worked with."""
    luck = random.Random(seed)  # noqa: S311 - a test's dice
    whole = tmp_path / "whole.db"
    jobs = await kept(whole, 3)
    content = whole.read_bytes()
    refused: list[str] = []
    for number in range(60):
        damaged = bytearray(content)
        for _ in range(luck.randint(1, 3)):
            damaged[luck.randrange(100)] = luck.randrange(256)
        path = tmp_path / f"{number}.db"
        path.write_bytes(damaged)
        store = SQLiteStore(path)
        try:
            await store.open()
        except StoreRefused as error:
            refused.append(str(error))
            assert path.read_bytes() == damaged
            continue
        assert (await store.page(Query(limit=100))).jobs == jobs
        await add(store)
        await store.prune(everything(0, 0.0, 0), 9.0, 5)
        await store.close()
        assert unsound(path) == []
    assert len(refused) > 10
    assert all("restore a backup" in said or "name another file" in said for said in refused)


@pytest.mark.parametrize(
    "damage",
    [
        "PRAGMA user_version = 0",
        "PRAGMA user_version = -1",
        "DROP TABLE counts",
        "DELETE FROM heads",
        "DELETE FROM counts WHERE jobs = 1",
    ],
)
async def test_a_store_without_its_heads_or_counts_is_refused(damage: str, tmp_path: Path) -> None:
    """Nothing is built on what is not there."""
    path = tmp_path / "jobs.db"
    await kept(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(damage)
    assert "restore a backup" in await refusal(path)


async def test_a_disk_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what the system says."""

    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    assert "cannot be used: No locks available" in await refusal(tmp_path / "jobs.db")


async def test_a_file_system_without_shared_memory_is_refused(tmp_path: Path) -> None:
    """The journal that makes a write durable and cheap needs it."""

    class Stubborn:
        def __init__(self, path: Path, read_only: bool) -> None:
            self.real = file.connect(path, read_only)
            self.in_transaction = False
            self.close = self.real.close

        def execute(self, statement: str, values: Any = (), /) -> Any:
            if "journal_mode" in statement:
                return Rows([("delete",)])
            return self.real.execute(statement, values)

    message = await refusal(tmp_path / "jobs.db", connect=Stubborn)
    assert "without shared memory" in message
    assert "name a file on a local disk" in message


async def test_a_sqlite_that_is_too_old_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says which one is needed, and how to do without."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    message = await refusal(tmp_path / "jobs.db")
    assert "needs to be built with 3.37.0 or newer, or set QUART_APP_STORE=memory" in message


async def test_a_file_with_any_name_is_opened(tmp_path: Path) -> None:
    """Also with characters that mean something in a URI."""
    path = tmp_path / "jobs ?mode=ro#%41é.db"
    jobs = await kept(path)
    assert path.is_file()
    store = SQLiteStore(path)
    await store.open()
    assert (await store.page(Query())).jobs == jobs
    await store.close()


# ---------------------------------------------------------------- versions

SECOND = """
-- Version 3; of a test.
ALTER TABLE jobs ADD COLUMN note TEXT;
CREATE INDEX jobs_noted ON jobs (note) WHERE note IS NOT NULL;
UPDATE jobs SET note = 'migrated';
"""
FIRST = sql("0001_jobs")
FAILING = f"{SECOND} INSERT INTO nowhere VALUES (1);"  # noqa: S608


def migrations(monkeypatch: pytest.MonkeyPatch, second: str) -> None:
    """A version of quart-app that knows one more version of the schema."""
    monkeypatch.setattr(file, "MIGRATIONS", ("0001_jobs", "0002_control", "0003_test"))
    monkeypatch.setattr(file, "sql", lambda name: second if name == "0003_test" else sql(name))


def look(path: Path, statement: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


async def test_an_old_file_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that is in it; the version before then refuses it, and says why."""
    path = tmp_path / "jobs.db"
    jobs = await kept(path)
    with monkeypatch.context() as patched:
        migrations(patched, SECOND)
        assert await kept(path) != jobs  # Some more.
    assert look(path, "PRAGMA user_version") == [(3,)]
    assert look(path, "SELECT DISTINCT note FROM jobs ORDER BY 1") == [(None,), ("migrated",)]
    assert unsound(path) == []
    before = path.read_bytes()
    message = await refusal(path)
    assert "has version 3 of the schema, and this version of quart-app knows 2" in message
    assert "start the newer quart-app, or restore a backup from before" in message
    assert path.read_bytes() == before


async def test_a_migration_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it or nothing: the older version goes on with the file."""
    path = tmp_path / "jobs.db"
    jobs = await kept(path)
    with monkeypatch.context() as patched:
        migrations(patched, FAILING)
        assert "no such table: nowhere" in await refusal(path)
    assert look(path, "PRAGMA user_version") == [(2,)]
    assert look(path, "SELECT name FROM sqlite_schema WHERE name = 'jobs_noted'") == []
    store = SQLiteStore(path)
    await store.open()
    assert (await store.page(Query())).jobs == jobs
    await store.close()


async def test_a_new_file_gets_every_version_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is then as one that has grown old."""
    migrations(monkeypatch, SECOND)
    path = tmp_path / "jobs.db"
    await kept(path)
    assert look(path, "PRAGMA user_version") == [(3,)]
    assert look(path, "PRAGMA application_id") == [(file.APPLICATION,)]


async def test_a_file_of_the_first_version_goes_on(tmp_path: Path) -> None:
    """Its jobs, its steps, its queue and its keys are there, are counted by task, and go on."""
    path = tmp_path / "jobs.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST)
        connection.execute("PRAGMA user_version = 1")
        connection.execute(f"PRAGMA application_id = {file.APPLICATION}")
        row = (
            "INSERT INTO jobs (place, id, seq, task, status, args, tags, attempt, max_attempts, "
            "created_at, updated_at, unresponsive) "
            "VALUES (?, ?, ?, ?, ?, '{}', '[]', ?, 2, 1, 1, 0)"
        )
        connection.execute(row, (1, "old", 1, "t", "queued", 0))
        connection.execute(row, (2, "older", 2, "t", "running", 1))
        connection.execute(row, (3, "other", 3, "u", "queued", 0))
        connection.execute(row, (4, "later", 4, "u", "scheduled", 0))
        connection.execute(row, (5, "over", 5, "gone", "failed", 2))
        connection.execute("UPDATE jobs SET finished_at = 1, bytes = 2 WHERE id = 'over'")
        connection.execute("UPDATE counts SET jobs = 2 WHERE status = 'queued'")
        connection.execute("UPDATE counts SET jobs = 1 WHERE status IN ('running', 'scheduled')")
        connection.execute("UPDATE counts SET jobs = 1, bytes = 2 WHERE status = 'failed'")
        connection.execute("UPDATE heads SET place = 5, seq = 5")
        connection.execute("INSERT INTO steps (job, name, result) VALUES (2, 'a', '1')")
        connection.execute("UPDATE jobs SET step_bytes = 1 WHERE place = 2")
        connection.execute("UPDATE jobs SET key = 'k' WHERE place = 1")
        connection.execute("INSERT INTO keys VALUES ('t', 'k', x'00', 1, 1)")
        connection.commit()
    store = SQLiteStore(path)
    await store.open()
    assert look(path, "PRAGMA user_version") == [(2,)]
    nothing = dict.fromkeys(STATUSES, 0)
    assert await store.counts_by_task() == {
        "t": {**nothing, "queued": 1, "running": 1},
        "u": {**nothing, "queued": 1, "scheduled": 1},
        "gone": {**nothing, "failed": 1},
    }
    assert [each.id for each in await store.queued("t", 9, False)] == ["old"]
    assert (await store.steps("older"))["a"].result == b"1"
    again = Job(id="new", task="t")
    assert (await store.add([again], 9, RequestKey("k", b"\0")))[0][0].id == "old"
    job = await store.get("old")
    assert job is not None
    assert (job.priority, job.turn, job.unique) == (0, None, None)
    urgent = await add(store, priority=1, turn="a", unique="b")
    assert [each.id for each in await store.queued("t", 9, True)] == ["old", urgent.id]
    assert [each.id for each in await store.queued("t", 9, False)] == [urgent.id, "old"]
    for job_id, moves in {
        "old": (Move.CLAIM, Move.SUCCEED),
        "older": (Move.RESCUE, Move.CLAIM, Move.SUCCEED),
        "later": (Move.DUE, Move.CLAIM, Move.FAIL),
    }.items():
        for move in moves:
            assert await store.move(job_id, change(move)) is not None
    assert [line.number for line in await store.log("old", [(2.0, "info", "x")], 9, 99)] == [1]
    assert await store.prune(everything(0, 0.0, 0), 9.0, 9) == 4
    assert [each.id for each in (await store.page(Query())).jobs] == [urgent.id, "other"]
    await store.close()
    assert unsound(path) == []


# ---------------------------------------------------------------- where it lies

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /srv rw,relatime shared:9 master:2 - nfs4 server:/srv rw
31 30 8:2 / /srv/local\\040disk rw - xfs /dev/sdb1 rw
32 22 0:32 / /mnt/共有 rw - cifs //server/share rw

33 22 0:33 / /home/me/cloud rw - fuse.sshfs me@cloud: rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/jobs.db", "ext4"),
        ("/srv/jobs.db", "nfs4"),
        ("/srv/app/jobs.db", "nfs4"),
        ("/srv/local disk/jobs.db", "xfs"),
        ("/srvother/jobs.db", "ext4"),
        ("/mnt/共有/jobs.db", "cifs"),
        ("/home/me/cloud/jobs.db", "fuse.sshfs"),
    ],
)
def test_a_file_on_a_network_is_refused(path: str, kind: str, tmp_path: Path) -> None:
    """Locks and shared memory cannot be trusted there; a local disk below one is fine."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert filesystem(Path(path), mounts) == kind
    if kind in ("ext4", "xfs"):
        refuse_network(Path(path), mounts)
        return
    with pytest.raises(StoreRefused, match="name a file on a local disk") as refused:
        refuse_network(Path(path), mounts)
    assert f"on a network file system ({kind}), on which SQLite loses data" in str(refused.value)


def test_a_link_to_a_file_on_a_network_is_refused(tmp_path: Path) -> None:
    """Its log is beside the file itself."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    (tmp_path / "jobs.db").symlink_to("/srv/jobs.db")
    with pytest.raises(StoreRefused, match="nfs4"):
        refuse_network(tmp_path / "jobs.db", mounts)


def test_a_system_that_does_not_tell_its_mounts_refuses_nothing(tmp_path: Path) -> None:
    """Nobody can then know."""
    assert filesystem(tmp_path / "jobs.db", tmp_path / "not there") is None
    refuse_network(tmp_path / "jobs.db", tmp_path / "not there")


async def test_a_store_on_a_network_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is made there."""
    monkeypatch.setattr(file, "filesystem", lambda *_: "nfs4")
    assert "network file system (nfs4)" in await refusal(tmp_path / "jobs.db")
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------- words


@pytest.mark.parametrize("entry", ["", "no JSON", "[1]", "7", '{"pid": 1}', '"x"'])
def test_an_owner_whose_entry_cannot_be_read_is_another_process(entry: str) -> None:
    """Words, and no error."""
    assert describe(entry) == "another process"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("SQLITE_FULL", "make room"),
        ("SQLITE_BUSY_RECOVERY", "end that program"),
        ("SQLITE_CORRUPT_INDEX", "restore a backup"),
        ("SQLITE_NOTADB", "name another file"),
        ("SQLITE_READONLY_DBMOVED", "permissions"),
        ("SQLITE_CANTOPEN_ISDIR", "folder, owner and permissions"),
        ("SQLITE_IOERR_FSYNC", "look at the system's log"),
        ("SQLITE_ERROR", "restore a backup"),
    ],
)
def test_an_error_of_sqlite_is_explained(name: str, says: str, tmp_path: Path) -> None:
    """What it means for an operator and what to do, with SQLite's own name and words."""
    explained = explain(failure(name, "its words"), tmp_path)
    assert says in explained
    assert f"({name}: its words)" in explained


def test_an_error_that_nobody_has_thought_of_is_still_told(tmp_path: Path) -> None:
    """In SQLite's own words."""
    assert explain(failure("SQLITE_NEW", "odd"), tmp_path) == "odd (SQLITE_NEW)"
    assert explain(sqlite3.InterfaceError("odd"), tmp_path) == "odd (InterfaceError)"


# ---------------------------------------------------------------- how it is opened


async def test_the_file_is_opened_so_that_an_answer_means_on_disk(tmp_path: Path) -> None:
    """A write-ahead log that is synced at each commit; readers cannot write, whatever they try."""
    path = tmp_path / "jobs.db"
    opened: dict[bool, sqlite3.Connection] = {}

    def seen(path: Path, read_only: bool) -> file.Connection:
        opened[read_only] = file.connect(path, read_only)
        return opened[read_only]

    store = SQLiteStore(path, connect=seen)
    await store.open()
    job = await add(store)
    assert await store.get(job.id) == job

    def pragma(name: str, read_only: bool = False) -> Any:
        return opened[read_only].execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2
    assert pragma("journal_size_limit") == 64 * 2**20
    assert pragma("query_only", read_only=True) == 1
    for allowed in (1, 0):  # The one refuses it, and so does the other.
        opened[True].execute(f"PRAGMA query_only = {allowed}")
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            opened[True].execute("DELETE FROM jobs")
    opened.clear()
    await store.close()
    assert not path.with_name("jobs.db-wal").exists()  # The writer was the last, and took it in.


@pytest.mark.parametrize(("room", "pages"), [(1e6, 100), (math.inf, 1_000)])
async def test_a_small_disk_has_its_log_taken_in_early(
    room: float, pages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the log could take the room that the database needs; an odd system is no small disk."""
    assert await asyncio.to_thread(file.room, tmp_path / "not there") == math.inf
    monkeypatch.setattr(file, "room", lambda _: room)
    opened: list[sqlite3.Connection] = []

    def seen(path: Path, read_only: bool) -> file.Connection:
        opened.append(file.connect(path, read_only))
        return opened[-1]

    store = SQLiteStore(tmp_path / "jobs.db", connect=seen)
    await store.open()
    assert opened[0].execute("PRAGMA wal_autocheckpoint").fetchone() == (pages,)
    opened.clear()
    await store.close()


async def test_a_file_whose_jobs_still_run_stays_ours(tmp_path: Path) -> None:
    """A job that did not stop at the shutdown goes on until the process ends: before that nobody
    may run it again."""
    store = SQLiteStore(tmp_path / "jobs.db")
    await store.open()
    store.reserve()
    await store.close()
    try:
        with pytest.raises(StoreRefused, match=f"in use by process {os.getpid()}"):
            await SQLiteStore(tmp_path / "jobs.db").open()
    finally:
        store._owner.release()
