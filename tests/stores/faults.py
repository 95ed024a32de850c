"""What can go wrong below the store: gates, disks that fail, disks that lose their power.

`hooked` looks at statements; `Disk` is a VFS of APSW that can fail or record every operation;
`images` rebuilds what a power cut leaves of a recording. Test helpers only; no tests.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from quart_app.stores.sqlite import file
from quart_app.stores.sqlite.file import Connect, Connection

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""

# ---------------------------------------------------------------- statements


Hook = Callable[[str], Callable[[], None] | None]


class Hooked:
    """A connection whose statements are shown to a hook first, which may wait or raise, or return
    what to do afterwards."""

    def __init__(self, connection: Connection, hook: Hook) -> None:
        self._connection = connection
        self._hook = hook

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> file.Cursor:
        afterwards = self._hook(statement)
        cursor = self._connection.execute(statement, values)
        if afterwards is not None:
            afterwards()
        return cursor

    def close(self) -> None:
        self._connection.close()


def hooked(hook: Hook, readers: bool = False) -> Connect:
    """What opens connections that show their statements: the writer's, or the readers'."""

    def connect(path: Path, read_only: bool) -> Connection:
        connection = file.connect(path, read_only)
        return Hooked(connection, hook) if read_only == readers else connection

    return connect


class Gate:
    """Holds up every COMMIT while it is shut, and counts them."""

    def __init__(self) -> None:
        self.commits = 0
        self.waiting = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def __call__(self, statement: str) -> None:
        if statement == "COMMIT":
            self.commits += 1
            self.waiting.set()
            self._open.wait(30)

    def shut(self) -> None:
        self.waiting.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()


def failure(name: str, text: str = "made up") -> sqlite3.OperationalError:
    """An error as SQLite raises it."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorname = name
    error.sqlite_errorcode = getattr(sqlite3, name, 1)
    return error


def unsound(path: Path) -> list[str]:
    """What is wrong with a closed file: what is counted must be what a scan finds."""
    with contextlib.closing(sqlite3.connect(path)) as connection:

        def rows(statement: str) -> list[Any]:
            return connection.execute(statement).fetchall()

        wrong = [f"integrity: {row}" for row in rows("PRAGMA integrity_check") if row != ("ok",)]
        counted = {row[0]: row[1:] for row in rows("SELECT status, jobs, bytes FROM counts")}
        scan = "SELECT status, count(*), sum(bytes) FROM jobs GROUP BY status"
        scanned = dict.fromkeys(counted, (0, 0)) | {row[0]: row[1:] for row in rows(scan)}
        if counted != scanned:
            wrong.append(f"counts: {counted} are counted, {scanned} are there")
        [heads] = rows("SELECT place, seq FROM heads")
        [most] = rows(HIGHEST)
        if heads < most:
            wrong.append(f"heads: {heads} before {most}")
        wrong += [f"seq twice: {row}" for row in rows(SEQS)]
        wrong += [f"step or line of nobody: {row}" for row in rows(ORPHANS)]
        wrong += [f"lines without a number between: {row}" for row in rows(NUMBERS)]
        tasks = {row[0]: row[1:] for row in rows(TASK_COUNTS)}
        there = {row[0]: row[1:] for row in rows(TASKS)}
        if {task: counts for task, counts in tasks.items() if any(counts)} != there:
            wrong.append(f"counts by task: {tasks} are counted, {there} are there")
        wrong += [f"bytes of steps: {row}" for row in rows(STEP_BYTES)]
        wrong += [f"key of nothing: {row}" for row in rows(KEYS)]
        return wrong


HIGHEST = """
    SELECT ifnull(max(place), 0), ifnull(max(seq), 0)
    FROM (SELECT place, seq FROM jobs UNION ALL SELECT job, seq FROM logs)
"""
SEQS = """
    SELECT seq, count(*) FROM (SELECT seq FROM jobs UNION ALL SELECT seq FROM logs)
    GROUP BY seq HAVING count(*) > 1
"""
ORPHANS = """
    SELECT job, name FROM steps WHERE job NOT IN (SELECT place FROM jobs)
    UNION ALL SELECT job, seq FROM logs WHERE job NOT IN (SELECT place FROM jobs)
"""
NUMBERS = """
    SELECT job, min(number), max(number), count(*) FROM logs GROUP BY job
    HAVING count(*) != max(number) - min(number) + 1
"""
TASK_COUNTS = """
    SELECT task, scheduled, queued, running, succeeded, failed, canceled FROM task_counts
"""
TASKS = """
    SELECT task, sum(status = 'scheduled'), sum(status = 'queued'), sum(status = 'running'),
    sum(status = 'succeeded'), sum(status = 'failed'), sum(status = 'canceled')
    FROM jobs GROUP BY task
"""
STEP_BYTES = """
    SELECT place, step_bytes FROM jobs WHERE step_bytes !=
    (SELECT ifnull(sum(length(CAST(result AS BLOB))), 0) FROM steps WHERE job = place) +
    (SELECT ifnull(sum(16 + length(text)), 0) FROM logs WHERE job = place)
"""
KEYS = """
    SELECT task, key FROM keys WHERE jobs !=
    (SELECT count(*) FROM jobs WHERE place BETWEEN first AND first + keys.jobs - 1)
"""

# ---------------------------------------------------------------- APSW as the store wants it


ERRORS: dict[str, type[sqlite3.Error]] = {
    "ConstraintError": sqlite3.IntegrityError,
    "TooBigError": sqlite3.DataError,
    "MisuseError": sqlite3.ProgrammingError,
    "ConnectionClosedError": sqlite3.ProgrammingError,
    "CorruptError": sqlite3.DatabaseError,
    "NotADBError": sqlite3.DatabaseError,
}


def translated(error: apsw.Error) -> sqlite3.Error:
    """APSW's error as the standard library raises it."""
    code = getattr(error, "extendedresult", 1)
    kind = ERRORS.get(type(error).__name__, sqlite3.OperationalError)
    ours = kind(str(error) or type(error).__name__)
    ours.sqlite_errorcode = code
    names = apsw.mapping_extended_result_codes
    ours.sqlite_errorname = str(names.get(code) or apsw.mapping_result_codes.get(code & 255))
    return ours


class Rows:
    """What a statement gave, all of it."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def fetchone(self) -> Any:
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows


class Apsw:
    """A connection of APSW with the methods and errors of the standard library's."""

    def __init__(self, path: Path, read_only: bool, vfs: str) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        try:
            self._connection = apsw.Connection(
                str(path), flags=apsw.SQLITE_OPEN_READONLY if read_only else flags, vfs=vfs
            )
        except apsw.Error as error:
            raise translated(error) from error
        self._connection.set_busy_timeout(int(1000 * file.BUSY))

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Rows:
        try:
            return Rows(list(self._connection.execute(statement, tuple(values))))
        except apsw.Error as error:
            raise translated(error) from error

    def close(self) -> None:
        try:
            self._connection.close(True)
        except apsw.Error as error:
            raise translated(error) from error


# ---------------------------------------------------------------- a disk


class Disk(apsw.VFS):
    """A VFS over the system's own: shows each operation on each file to `on`, which may raise.

    Args:
        name: under which SQLite knows it.
        on: called with the operation, the file's suffix ("", "-wal", "-journal") and the details.
    """

    def __init__(self, name: str, on: Callable[..., None]) -> None:
        super().__init__(name, "")
        self.name = name
        self.on = on
        self.excepthook = unheard  # type: ignore[method-assign, assignment]

    def connect(self, path: Path, read_only: bool) -> Connection:
        """For `SQLiteStore`'s parameter of this name."""
        return Apsw(path, read_only, self.name)

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self.on("open", suffix(path))
        return DiskFile(self, name, path, flags)

    def xDelete(self, path: str, sync: bool) -> None:
        self.on("delete", suffix(path), sync)
        super().xDelete(path, sync)


class DiskFile(apsw.VFSFile):
    """A file of a `Disk`."""

    def __init__(
        self, disk: Disk, name: apsw.URIFilename | str | None, path: str, flags: list[int]
    ) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._suffix = suffix(path)
        self.excepthook = unheard  # type: ignore[method-assign, assignment]

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.on("read", self._suffix)
        return super().xRead(amount, offset)

    def xWrite(self, data: Any, offset: int) -> None:
        self._disk.on("write", self._suffix, offset, data)
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self._disk.on("truncate", self._suffix, size)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        self._disk.on("sync", self._suffix)  # Really to sync would only take time here.


def unheard(*_: object) -> None:
    """SQLite gets the code of an error; that there was one need not be printed."""


def suffix(path: str) -> str:
    """Which of a database's files a path is.

    >>> suffix("/tmp/jobs.db-wal"), suffix("/tmp/jobs.db")
    ('-wal', '')
    """
    name = os.path.basename(path)
    return next((end for end in ("-wal", "-journal") if name.endswith(end)), "")


@contextlib.contextmanager
def disk(on: Callable[..., None]) -> Iterator[Disk]:
    """A disk, as long as a test needs it."""
    made = Disk(f"disk-{id(on)}", on)
    try:
        yield made
    finally:
        made.unregister()


# ---------------------------------------------------------------- power cuts


class Recorder:
    """Every operation in its order, with what had been acknowledged between them.

    Nothing is thrown away: a power cut at any moment can be made of it afterwards.
    """

    def __init__(self) -> None:
        self.trace: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()

    def __call__(self, operation: str, name: str, *details: Any) -> None:
        if operation == "read":
            return
        if operation == "write":
            offset, data = details
            details = (offset, bytes(data))
        with self._lock:
            self.trace.append((operation, name, *details))

    def acknowledged(self, what: Any) -> None:
        """The store has returned from a call."""
        with self._lock:
            self.trace.append(("acknowledged", what))


class _File:
    """What is surely on the disk of one file, and what may be."""

    def __init__(self) -> None:
        self.there = False
        self.named = False  # Whether its entry in the folder is on the disk.
        self.sure = bytearray()
        self.pending: list[tuple[Any, ...]] = []

    def sync(self) -> None:
        for operation in self.pending:
            act(self.sure, operation)
        self.pending.clear()


def act(content: bytearray, operation: tuple[Any, ...]) -> None:
    """Do a write or a truncate to the bytes of a file."""
    if operation[0] == "truncate":
        size = operation[1]
        del content[size:]
        content.extend(bytes(size - len(content)))
        return
    _, offset, data = operation
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def survivors(pending: list[tuple[Any, ...]], luck: random.Random) -> list[tuple[Any, ...]]:
    """What of the unsynced operations has reached the disk: all or none, some first ones, any ones
    in any order, or any sectors of them."""
    kind = luck.choice(["none", "all", "first", "any", "torn"])
    if kind == "none":
        return []
    if kind == "first":
        return pending[: luck.randint(0, len(pending))]
    chosen: list[tuple[Any, ...]] = []
    for operation in pending:
        if kind == "all" or operation[0] == "truncate":
            if kind == "all" or luck.random() < 0.5:
                chosen.append(operation)
        elif kind == "any":
            if luck.random() < 0.5:
                chosen.append(operation)
        else:
            chosen += [sector for sector in _sectors(operation) if luck.random() < 0.5]
    if kind != "all":
        luck.shuffle(chosen)
    return chosen


def _sectors(operation: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    _, offset, data = operation
    found = []
    at = 0
    while at < len(data):
        size = min(SECTOR - (offset + at) % SECTOR, len(data) - at)
        found.append(("write", offset + at, data[at : at + size]))
        at += size
    return found


class Image:
    """What a power cut has left.

    Args:
        files: content by suffix.
        acknowledged: what the store had returned by then, in its order.
    """

    def __init__(self, files: dict[str, bytes], acknowledged: list[Any]) -> None:
        self.files = files
        self.acknowledged = acknowledged

    def write(self, path: Path) -> None:
        """Put it on a real disk."""
        for name in ("", "-wal", "-journal", "-shm"):
            target = path.with_name(path.name + name)
            if name in self.files:
                target.write_bytes(self.files[name])
            else:
                target.unlink(missing_ok=True)


def images(trace: list[tuple[Any, ...]], count: int, luck: random.Random) -> Iterator[Image]:
    """Cut the power at random moments, sorted, so that the recording is gone through once."""
    cuts = sorted(luck.randint(0, len(trace)) for _ in range(count))
    machine = Machine()
    done = 0
    for cut in cuts:
        for operation, *details in trace[done:cut]:
            getattr(machine, operation)(*details)
        done = cut
        yield Image(machine.cut(luck), list(machine.answers))


class Machine:
    """The disk as it was at one moment of a recording: one method for each operation."""

    def __init__(self) -> None:
        self.files = {name: _File() for name in ("", "-wal", "-journal")}
        self.deleted: dict[str, bytes] = {}
        self.answers: list[Any] = []

    def acknowledged(self, what: Any) -> None:
        self.answers.append(what)

    def open(self, name: str) -> None:
        if not self.files[name].there:
            self.files[name].there = True
            self.deleted.pop(name, None)  # The name is taken: the old file cannot come back.

    def delete(self, name: str, sync: bool) -> None:
        if self.files[name].there and not sync:
            self.deleted[name] = bytes(self.files[name].sure)
        self.files[name] = _File()

    def write(self, name: str, offset: int, data: bytes) -> None:
        self.files[name].pending.append(("write", offset, data))

    def truncate(self, name: str, size: int) -> None:
        self.files[name].pending.append(("truncate", size))

    def sync(self, name: str) -> None:
        self.files[name].sync()
        if name and not self.files[name].named:  # SQLite then syncs the folder, too.
            self.deleted.clear()
            for each in self.files.values():
                each.named = each.there

    def cut(self, luck: random.Random) -> dict[str, bytes]:
        """What is left of the files."""
        left: dict[str, bytes] = {}
        for name, each in self.files.items():
            if each.there and (each.named or luck.random() < 0.5):
                content = bytearray(each.sure)
                for operation in survivors(each.pending, luck):
                    act(content, operation)
                left[name] = bytes(content)
            elif name in self.deleted and luck.random() < 0.5:  # Its deletion is lost.
                left[name] = self.deleted[name]
        return left


# ---------------------------------------------------------------- failing disks


class Failing:
    """Lets a number of operations fail, from the n-th on.

    Args:
        first: the number of the first one, from 0.
        length: how many.
        error: what APSW raises for the disk.
        reads: whether reading counts and fails, or all else.
    """

    def __init__(
        self, first: int, length: int, error: type[apsw.Error], reads: bool = False
    ) -> None:
        self._reads = reads
        self._fail = range(first, first + length)
        self._error = error
        self._lock = threading.Lock()
        self.count = 0

    def __call__(self, operation: str, *_: Any) -> None:
        if (operation == "read") != self._reads:
            return
        with self._lock:
            number = self.count
            self.count += 1
        if number in self._fail:
            raise self._error("made up")

    @property
    def failed(self) -> int:
        """How many have failed."""
        return max(0, min(self.count, self._fail.stop) - self._fail.start)
