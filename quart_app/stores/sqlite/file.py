"""The file: who may open it, how it is opened, and which version of the schema it has.

Only opening and refusing may live here. Every refusal says what was found and what to do next.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import math
import os
import re
import socket
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from quart_app.domain.errors import StoreRefused
from quart_app.stores.sqlite.verbs import sql

APPLICATION = 0x51754170
"""PRAGMA application_id: "QuAp", so that another program's database is not taken for ours."""
MIGRATIONS = ("0001_jobs", "0002_control")
"""One file for each version of the schema, in order. Add, never change."""
OLDEST = (3, 37, 0)
"""STRICT tables."""
SMALL = 64 * 2**20
"""Bytes: with less room on the disk the log is taken in at 100 pages, and not at 1,000."""
BUSY = 1.0
"""Seconds to wait for somebody else's lock before the callers are told."""
NETWORK = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.davfs2"),
        *("fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone", "vboxsf"),
        *("fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
        *("ocfs2", "orangefs", "smb2", "smb3", "smbfs"),
    )
)
"""File systems whose locks and shared memory cannot be trusted (sqlite.org/howtocorrupt.html)."""


class Cursor(Protocol):
    """What an executed statement gives."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """What the store needs of a connection; errors are those of `sqlite3`."""

    @property
    def in_transaction(self) -> bool: ...
    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor: ...
    def close(self) -> None: ...


Connect = Callable[[Path, bool], Connection]
"""Opens a file; the second argument says whether only for reading."""


def connect(path: Path, read_only: bool) -> sqlite3.Connection:
    """A connection of the standard library, used by one thread."""
    uri = path.absolute().as_uri() + ("?mode=ro" if read_only else "?mode=rwc")
    return sqlite3.connect(
        uri, timeout=BUSY, isolation_level=None, uri=True, check_same_thread=False
    )


def open_writer(path: Path, connect: Connect, again: bool = False) -> Connection:
    """The connection that writes, with the newest schema.

    FULL and not NORMAL: in a thousand simulated power cuts NORMAL lost acknowledged rows in 719,
    FULL in none.

    Args:
        path: the file.
        connect: opens it.
        again: this process has had it open before: then it is there, and is not made anew.

    Raises:
        StoreRefused: it is not ours, or newer than we are, or damaged.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise StoreRefused(
            f"SQLite {sqlite3.sqlite_version} is too old for {path}: Python needs to be built with "
            f"{'.'.join(map(str, OLDEST))} or newer, or set QUART_APP_STORE=memory"
        )
    if path.is_dir():
        raise StoreRefused(f"{path} is a folder: name a file in QUART_APP_STORE")
    if again and not path.exists():
        raise StoreRefused(f"{path} is gone: stop the service, and put it back")
    connection: Connection | None = None
    try:
        connection = connect(path, False)
        version = _look(path, connection, again)
        if not again:
            _check(path, connection)
        _set_up(path, connection, version)
    except BaseException as error:
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):  # The first error is the one to be told.
                connection.close()
        if isinstance(error, sqlite3.Error):
            raise StoreRefused(f"{path} cannot be opened: {explain(error, path)}") from error
        raise
    return connection


def room(path: Path) -> float:
    """Bytes that are free on the disk of a file; infinite where the system does not tell."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return math.inf
    return disk.f_bavail * disk.f_frsize


def open_reader(path: Path, connect: Connect) -> Connection:
    """A connection that cannot write, and so cannot checkpoint either."""
    connection = connect(path, True)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _look(path: Path, connection: Connection, again: bool) -> int:
    """The version of the schema, of a file that is ours; nothing has been written to it yet."""
    application = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != APPLICATION and (tables or version or again):
        message = f"{path} is a database of another program: name another file in QUART_APP_STORE"
        raise StoreRefused(message)
    if version > len(MIGRATIONS):
        raise StoreRefused(
            f"{path} has version {version} of the schema, and this version of quart-app knows "
            f"{len(MIGRATIONS)}: start the newer quart-app, or restore a backup from before"
        )
    if version < 0 or (tables and not version):
        raise StoreRefused(
            f"{path} is damaged (version {version} of the schema): restore a backup, or name "
            "another file in QUART_APP_STORE"
        )
    return version


def _set_up(path: Path, connection: Connection, version: int) -> None:
    """Bring the schema up to date, one version a transaction."""
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreRefused(
            f"{path} is on a file system without shared memory (its journal stays {mode!r}): name "
            "a file on a local disk in QUART_APP_STORE"
        )
    for pragma in ("synchronous = FULL", "journal_size_limit = 67108864", "temp_store = 2"):
        connection.execute(f"PRAGMA {pragma}")
    if room(path) < SMALL:  # Else the log could grow until the database cannot.
        connection.execute("PRAGMA wal_autocheckpoint = 100")
    for number, name in enumerate(MIGRATIONS[version:], version + 1):
        connection.execute("BEGIN EXCLUSIVE")
        for statement in statements(sql(name)):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")


def _check(path: Path, connection: Connection) -> None:
    """Look through the whole file once, before anything is built on it: 60 MB take 0.1 s; and
    whether it can be written, before anything is promised."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreRefused(
            f"{path} is damaged: restore a backup, or name another file in QUART_APP_STORE "
            f"({' '.join(found.split())})"
        )
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("PRAGMA user_version = 0")  # The first that is refused where it must be.
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if not str(getattr(error, "sqlite_errorname", "")).startswith("SQLITE_BUSY"):
            raise  # Who holds a lock on it may let go of it: until then callers are told.


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def statements(text: str) -> Iterable[str]:
    """The statements of a script, one by one, so that all run in one transaction.

    >>> list(statements("SELECT 1; -- one;\\nSELECT 2;"))
    ['SELECT 1;', '-- one;\\nSELECT 2;']
    """
    statement = ""
    for part in text.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            if any(line.strip(" ;\n") for line in statement.splitlines() if line[:2] != "--"):
                yield statement.strip()
            statement = ""


REASONS = {
    "SQLITE_FULL": "the disk is full: make room on it, and the store goes on by itself",
    "SQLITE_BUSY": "another program holds a lock on it: end that program (fuser names it)",
    "SQLITE_LOCKED": "another program holds a lock on it: end that program (fuser names it)",
    "SQLITE_CORRUPT": "it is damaged: stop the service, look with `quart-app check`, and restore a "
    "backup",
    "SQLITE_NOTADB": "it is no SQLite database: restore a backup, or name another file",
    "SQLITE_READONLY": "it cannot be written: look at its owner and permissions, or restore a "
    "backup",
    "SQLITE_CANTOPEN": "it cannot be opened: look at its folder, owner and permissions",
    "SQLITE_IOERR": "the disk reports an error: look at the system's log",
    "SQLITE_ERROR": "it is not as quart-app made it: stop the service, and restore a backup",
}


def explain(error: sqlite3.Error, path: Path) -> str:
    """What an error of SQLite means for an operator, and what to do next."""
    name = str(getattr(error, "sqlite_errorname", ""))
    for code, reason in REASONS.items():
        if name.startswith(code):
            return f"{reason} ({name}: {error})"
    return f"{error} ({name or type(error).__name__})"


class Owner:
    """The lock that makes this process the one owner of the file, until it ends, however it ends.

    Beside the file and not in it: SQLite's own locks are gone when any descriptor of the process
    closes. Children do not inherit it (close-on-exec), so no orphan can keep it.

    Args:
        path: the database's.
    """

    def __init__(self, path: Path) -> None:
        self._database = path
        self._file: int | None = None

    @property
    def path(self) -> Path:
        """The lock's file: beside the database itself, whatever links lead there."""
        real = self._database.resolve()
        return real.with_name(real.name + "-owner")

    def acquire(self) -> None:
        """Become the owner.

        Raises:
            StoreRefused: naming the process that is.
        """
        file = -1
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(file, 4096, 0).decode(errors="replace").strip()
            os.close(file)
            raise StoreRefused(
                f"{self._database} is in use by {describe(owner)}: one process at a time may work "
                "with it; end that one, or name another file in QUART_APP_STORE"
            ) from None
        except OSError as error:
            if file >= 0:
                os.close(file)
            raise StoreRefused(
                f"{self._database} cannot be used: {error.strerror} ({self.path}): the folder must "
                "be there, and this user must be able to write in it"
            ) from None
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now})
        with contextlib.suppress(OSError):  # A full disk: the lock holds without its entry.
            os.ftruncate(file, 0)
            os.pwrite(file, text.encode(), 0)
        self._file = file

    def release(self) -> None:
        """Stop being the owner; harmless twice."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                os.ftruncate(file, 0)
            os.close(file)

    def find(self) -> str | None:
        """Who the owner is, in words; None where there is none. For those who only look."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return describe(os.pread(file, 4096, 0).decode(errors="replace").strip())
        finally:
            os.close(file)
        return None


def describe(owner: str) -> str:
    """An owner's entry in words.

    >>> describe('{"pid": 7, "host": "web1", "since": "2026-11-24T10:00:00+00:00"}')
    'process 7 on web1 (since 2026-11-24T10:00:00+00:00)'
    """
    try:
        entry = json.loads(owner)
        return f"process {entry['pid']} on {entry['host']} (since {entry['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"


def refuse_network(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> None:
    """Refuse a file on a network file system.

    Raises:
        StoreRefused: naming the file system.
    """
    kind = filesystem(path, mounts)
    if kind in NETWORK:
        raise StoreRefused(
            f"{path} is on a network file system ({kind}), on which SQLite loses data: name a file "
            "on a local disk in QUART_APP_STORE"
        )


def filesystem(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The kind of file system that a path is on, or None where the system does not tell."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    folder = path.resolve().parent  # Wherever links lead: there its log is, too.
    found: tuple[int, str] | None = None
    for line in lines:
        before, separator, after = line.partition(" - ")
        if not separator:
            continue
        point = Path(_unescape(before.split()[4]))
        if folder.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = (len(point.parts), after.split()[0])
    return None if found is None else found[1]


def _unescape(text: str) -> str:
    r"""A mount point as the kernel writes it.

    >>> _unescape(r"/my\040disk")
    '/my disk'
    """
    return re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), text)
