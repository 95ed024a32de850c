"""Looking after the file from outside, also while a service works with it: backup and check.

Both read only, and neither is the owner. Nothing may live here that a service calls.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import msgspec

from quart_app.domain.errors import StoreRefused
from quart_app.domain.status import STATUSES
from quart_app.stores.sqlite.file import APPLICATION, MIGRATIONS, Owner, connect, explain
from quart_app.stores.sqlite.verbs import sql


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `check` has found; ``problems`` is empty where all is well."""

    path: str
    bytes: int
    log_bytes: int
    version: int
    owner: str | None
    jobs: dict[str, int]
    problems: list[str]


def backup(path: Path, target: Path) -> int:
    """Copy the database as it is at one moment. Copying the file itself would leave out what is
    still in its write-ahead log.

    Args:
        path: the database.
        target: must not be there; it is complete once it is.

    Returns:
        how many jobs the copy has.

    Raises:
        StoreRefused: it cannot be done, and why.
    """
    if target.exists():
        raise StoreRefused(f"{target} is there already: name a new file")
    part = target.with_name(target.name + ".part")
    try:
        with contextlib.closing(_open(path)) as source, contextlib.closing(_new(part)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # One file, and nothing beside it.
            count = int(copy.execute("SELECT count(*) FROM jobs").fetchone()[0])
        file = os.open(part, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
        part.rename(target)
    except (sqlite3.Error, OSError) as error:
        part.unlink(missing_ok=True)
        reason = explain(error, path) if isinstance(error, sqlite3.Error) else str(error)
        raise StoreRefused(f"{path} cannot be copied to {target}: {reason}") from None
    return count


def check(path: Path) -> Report:
    """Read every page, and compare what is counted with what is there.

    Raises:
        StoreRefused: there is no database of ours to check.
    """
    problems: list[str] = []
    jobs: dict[str, int] = {}
    version = 0
    with contextlib.closing(_open(path)) as connection:
        try:
            version = _number(connection, "PRAGMA user_version")
            connection.execute("BEGIN")
            rows = connection.execute("PRAGMA integrity_check").fetchall()
            problems += [text for (text,) in rows if text != "ok"]
            if version != len(MIGRATIONS):
                problems.append(f"the schema has version {version}, not {len(MIGRATIONS)}")
            else:
                jobs = dict(connection.execute("SELECT status, jobs FROM counts").fetchall())
                problems += _compare(connection, jobs)
        except sqlite3.DatabaseError as error:
            problems.append(explain(error, path))
    log = path.with_name(path.name + "-wal")
    return Report(
        path=str(path),
        bytes=path.stat().st_size,
        log_bytes=log.stat().st_size if log.exists() else 0,
        version=version,
        owner=Owner(path).find(),
        jobs=jobs,
        problems=problems,
    )


def _compare(connection: sqlite3.Connection, jobs: dict[str, int]) -> list[str]:
    """What does not agree with what."""
    problems: list[str] = []
    scanned = dict(connection.execute("SELECT status, count(*) FROM jobs GROUP BY status"))
    for status in sorted(jobs.keys() | scanned.keys()):
        counted, there = jobs.get(status, 0), scanned.get(status, 0)
        if counted != there:
            problems.append(f"{counted} {status} jobs are counted, and {there} are there")
    problems += _compare_tasks(connection)
    place, seq = connection.execute("SELECT place, seq FROM heads").fetchone()
    highest = connection.execute("SELECT max(place), max(seq) FROM jobs").fetchone()
    if (highest[0] or 0) > place or (highest[1] or 0) > seq:
        problems.append("a job has a number that was not given out yet")
    for table, what in (("steps", "steps"), ("logs", "lines of logs")):
        orphans = _number(
            connection,
            f"SELECT count(*) FROM {table} WHERE job NOT IN (SELECT place FROM jobs)",  # noqa: S608
        )
        if orphans:
            problems.append(f"{orphans} {what} belong to no job")
    return problems


def _compare_tasks(connection: sqlite3.Connection) -> list[str]:
    """Tasks of which another number of jobs is counted than there is."""
    each = ", ".join(f"sum(status = '{status}')" for status in STATUSES)
    scanned = {
        task: counts
        for task, *counts in connection.execute(f"SELECT task, {each} FROM jobs GROUP BY task")  # noqa: S608
    }
    counted = {task: counts for task, *counts in connection.execute(sql("task_counts"))}
    tasks = sorted(scanned.keys() | counted.keys())
    none = [0] * len(STATUSES)
    return [
        f"the jobs of task {task!r} are not counted right"
        for task in tasks
        if scanned.get(task, none) != counted.get(task, none)
    ]


def _number(connection: sqlite3.Connection, statement: str) -> int:
    return int(connection.execute(statement).fetchone()[0])


def _new(path: Path) -> sqlite3.Connection:
    path.unlink(missing_ok=True)
    return sqlite3.connect(path)


def _open(path: Path) -> sqlite3.Connection:
    """A connection that only reads.

    Raises:
        StoreRefused: there is nothing of ours to read.
    """
    if not path.is_file():
        message = f"there is no file {path}: name it with --store, or in QUART_APP_STORE"
        raise StoreRefused(message)
    connection = connect(path, True)
    try:
        application = _number(connection, "PRAGMA application_id")
    except sqlite3.Error as error:
        connection.close()
        raise StoreRefused(f"{path} cannot be read: {explain(error, path)}") from None
    if application != APPLICATION:
        connection.close()
        raise StoreRefused(f"{path} is a database of another program")
    return connection
