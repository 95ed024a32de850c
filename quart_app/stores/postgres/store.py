"""`PostgresStore`: the verbs of `quart_app.core.ports.SharedStore`.

What follows what is decided by `quart_app.domain.jobs`; nothing may live here that decides it, nor
any SQL.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import msgspec

from quart_app.core.ports import OnAdd
from quart_app.domain.errors import StoreClosed, StoreUnavailable
from quart_app.domain.jobs import (
    Change,
    Draft,
    Heard,
    Job,
    KeptStep,
    LogLine,
    Note,
    RequestKey,
    Retention,
    annotate,
    apply,
)
from quart_app.domain.workers import Worker
from quart_app.stores.postgres.groups import (
    MOST_EVENTS,
    Fact,
    Group,
    Lines,
    Start,
    Step,
    Swap,
    answer_starts,
)
from quart_app.stores.postgres.hearing import Hearing
from quart_app.stores.postgres.links import CLOSED, Connection, Links, connect, quoted
from quart_app.stores.postgres.reads import Reads
from quart_app.stores.postgres.rows import (
    Row,
    jobs_of,
    packed,
    short,
)
from quart_app.stores.postgres.schema import prepare
from quart_app.stores.postgres.verbs import load, sql
from quart_app.stores.postgres.writer import Writer
from quart_app.stores.postgres.wrongs import Health
from quart_app.stores.versions import Versions

PUBLISH = 500
"""Jobs that are published at once."""
HIGHEST = 2**62
"""Bounds above it are none."""

_worker = msgspec.msgpack.Decoder(Worker).decode


class PostgresStore(Reads):
    """Jobs in a schema of a PostgreSQL database, with which many processes work.

    It needs connections whose session lasts: a pooler in front of the server has to pool sessions.

    Args:
        url: ``postgresql://user:password@host:port/database``.
        namespace: the schema; made where it is not there.
        most_events: numbers of events, the newest, from which those who listen can go on.

    Raises:
        ValueError: the namespace cannot be a schema's name.
    """

    volatile = False
    shared = True

    def __init__(
        self, url: str, namespace: str = "quart_app", most_events: int = MOST_EVENTS
    ) -> None:
        self.namespace = namespace
        self._schema = quoted(namespace)
        self._url = url
        self._most_events = most_events
        self._health = Health(url)
        self.on_commit: Callable[[float], object] = lambda seconds: None
        self.on_add: OnAdd | None = None
        """Told of new queued jobs, within the transaction that keeps them, so that an engine can
        put its own rows into it. The connection's search_path is the namespace; that of
        `add_within` is the caller's own."""
        self._versions = Versions(self._newest, self._swap)
        self._writer: Writer | None = None
        self._hearing: Hearing | None = None
        self._publishing: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str | None:
        return self._health.trouble

    def _make(self) -> Any:
        return connect(self._url, self.namespace)

    async def open(self) -> None:
        """Make the schema where it is not there.

        Raises:
            StoreRefused: it cannot be used: what is wrong, and what to do.
        """
        await load()
        await prepare(self._make, self._url, self.namespace)
        self._health = Health(self._url)
        self._writer = Writer(self._make, self._health, self._most_events)
        self._writer.on_commit = lambda seconds: self.on_commit(seconds)
        self._links = Links(self._make, self._health)
        self._hearing = Hearing(self._make, self._health, self.namespace, self._publish_soon)

    async def close(self) -> None:
        writer, links, hearing = self._writer, self._links, self._hearing
        self._writer = self._links = self._hearing = None
        if writer is None or links is None or hearing is None:
            return
        hearing.close()
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.wait({self._publishing})
        await writer.close()
        await links.close()

    def reserve(self) -> None:
        return  # Others work with it in any case.

    def abandon(self) -> None:
        for part in (self._writer, self._links, self._hearing):
            if part is not None:
                part.abandon()
        self._writer = self._links = self._hearing = None

    # ---------------------------------------------------------------- ways to the server

    def _require_writer(self) -> Writer:
        if self._writer is None:
            raise StoreClosed(CLOSED)
        self._writer.on_add = self.on_add
        return self._writer

    # ---------------------------------------------------------------- starts and changes

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        start = Start(jobs, min(max_waiting, HIGHEST), key, max_of_task)
        kept: tuple[list[Job], bool] = await self._require_writer().write(start)
        for job in kept[0]:
            self._versions.remember(job)
        return kept

    async def add_within(
        self,
        connection: Connection,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        """As `add`, within a transaction of the caller's: the jobs are there when that is
        committed, and never where it is not.

        They have no `order` and `seq` yet: those come with `publish`, a moment after the commit.
        Until then `get` and `active` find them, and lists, queues and counts do not. So the bounds
        are those of what is published, and hold only roughly. Who starts a job with the same key or
        ``unique`` within another transaction waits for this one; who does so by `add` is told to
        try again. `on_add` is given the caller's connection.

        Args:
            connection: of asyncpg, to the same database, in a transaction.

        Raises:
            StoreUnavailable: the connection is lost; any other error of the server's is raised as
                it is, and has spoiled the transaction.
        """
        self._require_writer()
        group = Group([Start(jobs, min(max_waiting, HIGHEST), key, max_of_task)])
        starts, rows = group.start_rows()
        statement = sql("within").replace("{namespace}", self._schema)
        handed = self.on_add is not None
        row = await connection.fetchrow(statement, starts, rows, int(handed))
        [(kept, refusal)], fresh = answer_starts(group.starts, row, -1, -1)
        if refusal is not None:
            raise refusal
        queued = [job for job in fresh if job.status == "queued"]
        if queued and self.on_add is not None:
            await self.on_add(connection, queued)
        started: tuple[list[Job], bool] = kept
        return started

    async def publish(self) -> list[Job]:
        """Give jobs of `add_within` whose transaction is committed their place among the others.

        Whoever listens does so when it is told of them; upkeep calls it besides.

        Returns:
            those that were published here.
        """
        published: list[Job] = []
        if not await self._value("unpublished"):
            return published
        writer = self._require_writer()
        while True:
            jobs: list[Job] = await writer.write(self._publish)
            published += jobs
            if len(jobs) < PUBLISH:
                return published

    async def _publish(self, connection: Connection) -> list[Job]:
        async with connection.transaction():
            rows = await connection.fetch(sql("publish"), PUBLISH)
            plain: list[Row] = [
                {"place": row["own_place"], "seq": row["own_seq"], "data": row["own_data"]}
                for row in rows
            ]
            jobs = jobs_of(plain)
            queued = [
                job
                for job, row in zip(jobs, rows, strict=True)
                if job.status == "queued" and not row["handed"]
            ]
            if queued and self.on_add is not None:
                await self.on_add(connection, queued)
        return jobs

    def _publish_soon(self) -> None:
        async def publish() -> None:
            with contextlib.suppress(StoreUnavailable):
                await self.publish()

        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.create_task(publish(), name="quart-app-store-publish")

    async def _newest(self, job_id: str) -> Job | None:
        """A job as it is to be changed: one that is not published is, before anything else."""
        job = await self.get(job_id)
        if job is not None and job.seq == 0:
            await self.publish()
            job = await self.get(job_id)
        return job

    async def _swap(self, before: Job, after: Job, kind: str) -> Job | None:
        kept: Job | None = await self._require_writer().write(Swap(before, after, kind))
        return kept

    async def move(self, job_id: str, change: Change) -> Job | None:
        self._require_writer()

        def make(job: Job) -> Job | None:
            return apply(job, change, job.seq + 1)

        return await self._versions.change(job_id, make, change.move.label)

    async def note(self, job_id: str, note: Note) -> Job | None:
        self._require_writer()

        def make(job: Job) -> Job | None:
            return annotate(job, note, job.seq + 1)

        return await self._versions.change(job_id, make, "note")

    async def keep_step(self, job_id: str, name: str, step: KeptStep) -> bool:
        return bool(await self._require_writer().write(Step(job_id, name, step)))

    async def log(
        self, job_id: str, drafts: Sequence[Draft], keep_lines: int, keep_bytes: int
    ) -> list[LogLine]:
        lines = Lines(job_id, drafts, min(keep_lines, HIGHEST), min(keep_bytes, HIGHEST))
        kept: list[LogLine] = await self._require_writer().write(lines)
        return kept

    async def keep_fact(self, name: str, value: bytes | None) -> None:
        await self._require_writer().write(Fact(name, value))

    async def prune(self, retention: Retention, now: float, limit: int) -> int:
        keeps = [
            (status, min(keep.count, HIGHEST), keep.age, min(keep.size, HIGHEST))
            for status, keep in retention.items()
        ]
        if not await self._value("too_many", keeps, now):
            return 0

        def prune(connection: Connection) -> Any:
            return connection.fetchval(sql("prune"), keeps, now, limit)

        return int(await self._require_writer().write(prune))

    # ---------------------------------------------------------------- processes

    async def beat(self, worker: Worker, seconds: float) -> None:
        await self._say("beat", short(worker.id), seconds, packed(worker))

    async def leave(self, worker_id: str) -> None:
        for verb in ("forget_worker", "forget_leader"):
            await self._say(verb, short(worker_id))

    async def workers(self) -> list[Worker]:
        return [_worker(row["data"]) for row in await self._rows(sql("workers"))]

    async def lead(self, worker_id: str, seconds: float) -> bool:
        return await self._say("lead", short(worker_id), seconds) is not None

    async def listen(self, after: int | None) -> AsyncGenerator[list[Heard] | None]:
        if self._hearing is None:
            raise StoreClosed(CLOSED)
        async with contextlib.aclosing(self._hearing.listen(after)) as told:
            async for each in told:
                yield each
