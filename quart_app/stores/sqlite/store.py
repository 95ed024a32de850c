"""`SQLiteStore`: the verbs of `quart_app.core.ports.Store`, each handed to the thread that does it.

Nothing may live here that touches a connection on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from quart_app.domain.errors import StoreClosed, StoreRefused
from quart_app.domain.jobs import (
    Change,
    Draft,
    Job,
    JobEvent,
    KeptStep,
    LogLine,
    Note,
    RequestKey,
    Retention,
)
from quart_app.domain.queries import Page, Query, matches
from quart_app.domain.queues import Waiting, begun
from quart_app.domain.status import STATUSES, Status
from quart_app.stores.sqlite import file
from quart_app.stores.sqlite.file import Connect, Connection, Owner
from quart_app.stores.sqlite.readers import Readers
from quart_app.stores.sqlite.rows import Row, job_of
from quart_app.stores.sqlite.verbs import sql
from quart_app.stores.sqlite.writer import CLOSED, Writer

logger = logging.getLogger("quart_app.store")

T = TypeVar("T")

END = 2.0
"""Seconds that the threads have to end at `close`; a disk that hangs must not hold up the exit."""
CHUNK = 200
"""Rows that a search looks at in one read."""
SIGHT = 4
"""How many times what is asked for is looked at, to find what has no turn where others have one."""


class SQLiteStore:
    """Jobs in a file of this process alone; what a call has returned is on disk.

    Args:
        path: the database; made where it is not there.
        connect: opens it; others than `file.connect` are for tests.
    """

    volatile = False
    shared = False

    def __init__(self, path: Path, connect: Connect = file.connect) -> None:
        self.path = path
        self._connect = connect
        self._owner = Owner(path)
        self._reserved = False
        self.on_commit: Callable[[float], object] = lambda seconds: None
        self._writer: Writer | None = None
        self._readers: Readers | None = None

    @property
    def trouble(self) -> str | None:
        if self._writer is None or self._readers is None:
            return None
        return self._writer.damage or self._readers.damage or self._writer.trouble

    async def open(self) -> None:
        """Become the owner of the file and open it.

        Raises:
            StoreRefused: it cannot be used: by whom it is, or what is wrong, and what to do.
        """
        # A working directory that changes leads to no other file.
        path = await _in_thread(self.path.absolute)
        writer = Writer(path, self._connect)
        writer.on_commit = self.on_commit
        opening = asyncio.ensure_future(_in_thread(functools.partial(self._open, writer)))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            with contextlib.suppress(StoreRefused):
                await opening
                await _in_thread(functools.partial(self._end, None, writer))
            raise
        self._writer, self._readers = writer, Readers(path, self._connect)

    def _open(self, writer: Writer) -> None:
        file.refuse_network(self.path)
        self._owner.acquire()
        try:
            writer.open()
        except BaseException:
            self._owner.release()
            raise

    async def close(self) -> None:
        if (end := self._stop()) is not None:
            await _in_thread(end)

    def reserve(self) -> None:
        self._reserved = True

    def abandon(self) -> None:
        if (end := self._stop()) is not None:
            end()

    def _stop(self) -> Callable[[], None] | None:
        """Take nothing any more; what comes back ends the threads (blocking)."""
        readers, writer = self._readers, self._writer
        self._readers = self._writer = None
        if readers is None or writer is None:
            return None
        readers.close()
        writer.close()
        return functools.partial(self._end, readers, writer)

    def _end(self, readers: Readers | None, writer: Writer) -> None:
        if readers is not None:  # First, so that the writer is the last and takes the log in.
            readers.join(END)
        if writer.end(END):
            if not self._reserved:
                self._owner.release()
        else:  # It may still write, so nobody else may: the lock ends with this process.
            logger.error("%s hangs: what was being written may be there or not", self.path)

    def _require_writer(self) -> Writer:
        if self._writer is None:
            raise StoreClosed(CLOSED)
        return self._writer

    async def _read(self, work: Callable[[Connection], T]) -> T:
        if self._readers is None:
            raise StoreClosed(CLOSED)
        return await self._readers.read(work)

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        writer = self._require_writer()
        return await writer.write(lambda tx: tx.add(jobs, max_waiting, key, max_of_task))

    async def move(self, job_id: str, change: Change) -> Job | None:
        return await self._require_writer().write(lambda tx: tx.move(job_id, change))

    async def note(self, job_id: str, note: Note) -> Job | None:
        return await self._require_writer().write(lambda tx: tx.note(job_id, note))

    async def keep_step(self, job_id: str, name: str, step: KeptStep) -> bool:
        return await self._require_writer().write(lambda tx: tx.keep_step(job_id, name, step))

    async def log(
        self, job_id: str, drafts: Sequence[Draft], keep_lines: int, keep_bytes: int
    ) -> list[LogLine]:
        writer = self._require_writer()
        return await writer.write(lambda tx: tx.log(job_id, drafts, keep_lines, keep_bytes))

    async def logs(self, job_id: str, after: int, limit: int) -> list[LogLine]:
        rows = await self._rows("logs", job_id, after, limit)
        return [LogLine(*row) for row in rows]

    async def keep_fact(self, name: str, value: bytes | None) -> None:
        await self._require_writer().write(lambda tx: tx.keep_fact(name, value))

    async def facts(self, prefix: str) -> dict[str, bytes]:
        return dict(await self._rows("facts", prefix))

    async def prune(self, retention: Retention, now: float, limit: int) -> int:
        return await self._require_writer().write(lambda tx: tx.prune(retention, now, limit))

    async def counts(self) -> dict[Status, int]:
        jobs = self._require_writer().jobs
        return {status: jobs[status] for status in STATUSES}

    async def get(self, job_id: str) -> Job | None:
        def read(connection: Connection) -> Job | None:
            row = connection.execute(sql("get"), (job_id,)).fetchone()
            return None if row is None else job_of(row)

        return await self._read(read)

    async def counts_by_task(self) -> dict[str, dict[Status, int]]:
        rows = await self._rows("task_counts")
        return {task: dict(zip(STATUSES, counts, strict=True)) for task, *counts in rows}

    async def _rows(self, verb: str, *values: float | str) -> list[Row]:
        return await self._read(lambda connection: connection.execute(sql(verb), values).fetchall())

    async def _jobs(self, verb: str, *values: float | str) -> list[Job]:
        return [job_of(row) for row in await self._rows(verb, *values)]

    async def events(self, after: int, limit: int) -> list[JobEvent]:
        return [
            JobEvent(job.seq, "newest", job) for job in await self._jobs("events", after, limit)
        ]

    async def head(self) -> int:
        [(_, seq)] = await self._rows("heads")
        return int(seq)

    async def due(self, now: float, limit: int) -> list[Job]:
        return await self._jobs("due", now, limit)

    async def expired(self, now: float, limit: int) -> list[Job]:
        return await self._jobs("expired", now, limit)

    async def queued(self, task: str, limit: int, fair: bool) -> list[Waiting]:
        def read(connection: Connection) -> list[Row]:
            if fair:
                return _in_turns(connection, task, limit)
            return connection.execute(sql("queued"), (task, limit)).fetchall()

        return [Waiting(*row) for row in await self._read(read)]

    async def oldest_queued(self) -> Job | None:
        found = await self._jobs("oldest_queued")
        return found[0] if found else None

    async def active(self, task: str, unique: str) -> Job | None:
        found = await self._jobs("active", task, unique)
        return found[0] if found else None

    async def began(self, task: str, since: float) -> list[tuple[str | None, float]]:
        jobs = await self._jobs("began", task, since)
        return [(job.turn, at) for job in jobs for at in begun(job, since)]

    async def steps(self, job_id: str) -> dict[str, KeptStep]:
        rows = sorted(await self._rows("steps", job_id), key=lambda row: row[3])
        return {name: KeptStep(result.encode(), *rest) for name, result, *rest in rows}

    async def page(self, query: Query) -> Page:
        found: list[Job] = []
        before = query.before
        # A text is looked for here, as everywhere: row by row, some at a time.
        size = query.limit + 1 if not query.looks else CHUNK
        while True:
            jobs = await self._read(functools.partial(_page, query=query, before=before, size=size))
            for job in jobs:
                if not query.looks or matches(job, query):
                    if len(found) == query.limit:
                        return Page(found, found[-1].order)
                    found.append(job)
            if len(jobs) < size:
                return Page(found, None)
            before = jobs[-1].order


async def _in_thread(work: Callable[[], T]) -> T:
    """In a thread of its own: the loop's pool may be full of somebody's blocking calls."""
    pool = ThreadPoolExecutor(1, "quart-app-store-file")
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, work)
    finally:
        pool.shutdown(wait=False)


def _in_turns(connection: Connection, task: str, limit: int) -> list[Row]:
    """Rows of a task's queue: the first ones of each turn, then the second ones."""
    turns = connection.execute(sql("queued_turns"), (task,)).fetchall()
    turns = [turn for turn, _ in heapq.nsmallest(limit, turns, key=lambda turn: turn[1])]
    none = connection.execute(sql("queued_no_turn"), (task, SIGHT * limit)).fetchall()
    heads: dict[str | None, list[Row]] = {None: sorted(none, key=lambda row: (-row[4], row[0]))}
    each, more = max(1, limit // (len(turns) + 1)), turns
    while more:
        for turn in more:
            heads[turn] = connection.execute(sql("queued_turn"), (task, turn, each)).fetchall()
        if sum(min(each, len(rows)) for rows in heads.values()) >= limit:
            break
        # Some have less than their share: those with more have the rest.
        more = [turn for turn in more if len(heads[turn]) == each]
        each *= 2
    rounds = zip_longest(*heads.values())
    return [row for rows in rounds for row in rows if row is not None][:limit]


def _page(connection: Connection, query: Query, before: int | None, size: int) -> list[Job]:
    """Rows of a page: those of each status are there in their order, and are put together here."""
    filters: list[str] = []
    values: list[str | int] = []
    if before is not None:
        filters.append("place < ?")
        values.append(before)
    if query.task is not None:
        filters.append("task = ?")
        values.append(query.task)
    if query.tag is not None:
        filters.append("EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)")
        values.append(query.tag)
    if query.parent is not None:
        filters.append("parent = ?")
        values.append(query.parent)
    rows: list[Row] = []
    for status in query.statuses or (None,):
        only = ["status = ?"] if status is not None else []
        given = [*values, *([] if status is None else [status]), size]
        statement = sql("page").replace("{filters}", " AND ".join([*filters, *only]) or "TRUE")
        rows += connection.execute(statement, given).fetchall()
    rows.sort(key=lambda row: row[0], reverse=True)
    return [job_of(row) for row in rows[:size]]


def path_of(setting: str, prefix: str = "sqlite:///") -> Path:
    """The file that a setting names: relative to the working directory, or absolute with four
    slashes.

    >>> path_of("sqlite:///quart_app.db"), path_of("sqlite:////var/lib/jobs.db")
    (PosixPath('quart_app.db'), PosixPath('/var/lib/jobs.db'))
    """
    return Path(setting.removeprefix(prefix))
