"""`RedisStore`: the verbs of `quart_app.core.ports.SharedStore`, each asked of the server's script.

The rules of jobs stay in Python (`quart_app.stores.versions`); the script compares and keeps.
Nothing may live here that knows of connections.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from quart_app.core.ports import OnAdd
from quart_app.domain.errors import (
    InvalidRequest,
    StoreClosed,
    StoreRefused,
    StoreUnavailable,
    why_unreadable,
)
from quart_app.domain.jobs import (
    Change,
    Draft,
    Heard,
    Job,
    JobEvent,
    KeptStep,
    LogLine,
    Note,
    RequestKey,
    Retention,
    annotate,
    apply,
)
from quart_app.domain.queries import Page, Query, matches
from quart_app.domain.queues import Waiting, begun
from quart_app.domain.status import STATUSES, Status
from quart_app.domain.workers import Worker
from quart_app.stores.redis import rows
from quart_app.stores.redis.adding import (
    KNOWN,
    added_jobs,
    added_of,
    is_new,
    known_jobs,
    records_of,
    refuse,
)
from quart_app.stores.redis.address import address_of
from quart_app.stores.redis.ears import Ears
from quart_app.stores.redis.health import Health, shown
from quart_app.stores.redis.line import CLOSED, Line
from quart_app.stores.redis.opening import VERSION, examine, strange
from quart_app.stores.redis.rows import Raw, encoded
from quart_app.stores.versions import Versions

CHUNK = 200
"""Jobs that a search looks at in one read, and that are forgotten in one write."""
CAP = 4 * 2**20
"""Bytes of one answer, about."""
STAGED = 2 * 2**20
"""Bytes of jobs that are added at once; of more, the parts are brought there before."""
NO_TRANSACTIONS = (
    "a start within a transaction of yours needs jobs that are kept in the same database:"
    " QUART_APP_STORE=postgresql://..."
)


class RedisStore:
    """Jobs in a Redis or Valkey server, shared by all processes that use the same namespace.

    What a call has returned is as durable as the server is set (``appendfsync``).

    Args:
        url: as `quart_app.stores.redis.address.address_of` takes it.
        namespace: what the names of all keys begin with.
    """

    volatile = False
    shared = True

    def __init__(self, url: str, namespace: str = "quart_app") -> None:
        self.url = url
        self.namespace = namespace
        self.on_commit: Callable[[float], object] = lambda seconds: None
        self.on_add: OnAdd | None = None  # There is no transaction to tell of them in.
        self._prefix = f"{{{namespace}}}:"
        self._health = Health(url)
        self._writes: Line | None = None
        self._reads: Line | None = None
        self._ears: Ears | None = None
        self._versions = Versions(self._get, self._swap)

    @property
    def trouble(self) -> str | None:
        return self._health.trouble

    async def open(self) -> None:
        """Look whether the server will do.

        Raises:
            StoreRefused: it is not there, too old, or would lose jobs; and what to do.
        """
        key = f"{self._prefix}seq"
        try:
            address = address_of(self.url, key)
        except ValueError as error:
            why = why_unreadable(self.url, error)
            raise StoreRefused(f"{shown(self.url)} is no URL of a Redis: {why}") from None
        await examine(address, self._health)
        writes = Line(address, key, self._health, True, self._committed, self._forget_versions)
        self._writes, self._reads = writes, Line(address, key, self._health, False, self._committed)
        stream = f"{self._prefix}events"
        self._ears = Ears(address, stream, self._health, self._read, self._remember)
        try:
            version = rows.word_of(await self._write("hello", str(VERSION)))
        except StoreUnavailable as error:
            await self.close()
            raise StoreRefused(str(error)) from error
        if (wrong := strange(version)) is not None:
            await self.close()
            raise StoreRefused(self._health.sentence(wrong))

    async def close(self) -> None:
        writes, reads, ears = self._writes, self._reads, self._ears
        self._writes = self._reads = self._ears = None
        if writes is not None and reads is not None and ears is not None:
            await ears.close()
            await asyncio.gather(writes.close(), reads.close())

    def reserve(self) -> None:
        return  # Others may work with the jobs at any time.

    def abandon(self) -> None:
        for each in (self._writes, self._reads, self._ears):
            if each is not None:
                each.drop()
        self._writes = self._reads = self._ears = None

    def _committed(self, seconds: float) -> None:
        self.on_commit(seconds)

    def _forget_versions(self) -> None:
        """Whoever is connected anew may see a server that has lost its newest writes."""
        self._versions = Versions(self._get, self._swap)

    def _remember(self, job: Job) -> None:
        self._versions.remember(job)

    async def _write(self, *verb: Any, weight: int = 1) -> Raw:
        if self._writes is None:
            raise StoreClosed(CLOSED)
        return await self._writes.ask(encoded(verb), weight)

    async def _read(self, *verb: Any) -> Raw:
        if self._reads is None:
            raise StoreClosed(CLOSED)
        return await self._reads.ask(encoded(verb))

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        jobs, records = records_of(jobs)
        task = jobs[0].task
        named = (None, None) if key is None else (key.key, rows.blob(key.fingerprint))
        bounds = (task, max_waiting, max_of_task, *named)
        if len(jobs) > 1 and sum(map(len, records)) > STAGED:
            verb: tuple[Any, ...] = (*bounds, None, await self._stage(records))
        else:
            verb = (*bounds, [Raw(record) for record in records])
        added = added_of(await self._write("add", *verb, weight=len(jobs)))
        refuse(added, task, max_waiting, key, max_of_task)
        if added.code == KNOWN:
            return known_jobs(added), False
        kept = added_jobs(jobs, added)
        for job in kept:
            self._versions.remember(job)
        return kept, is_new(added)

    async def add_within(
        self,
        connection: Any,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        raise InvalidRequest(NO_TRANSACTIONS)

    async def publish(self) -> list[Job]:
        return []  # Nothing comes in with anybody's transaction.

    async def _stage(self, records: list[bytes]) -> list[str]:
        """Bring many jobs there in parts; returns their names."""
        name = f"staged:{uuid.uuid4().hex}"
        parts: list[list[Raw]] = [[]]
        size = 0
        for record in records:
            if size > STAGED:
                parts.append([])
                size = 0
            parts[-1].append(rows.Raw(record))
            size += len(record)
        names = [f"{name}:{number}" for number in range(len(parts))]
        for each, part in zip(names, parts, strict=True):
            await self._write("stage", each, rows.blob(encoded(part)))
        return names

    async def _get(self, job_id: str) -> Job | None:
        return rows.job_of(await self._read("get", job_id))

    async def _swap(self, before: Job, after: Job, kind: str) -> Job | None:
        try:
            data = encoded(after)
        except UnicodeEncodeError:
            after = rows.clean(after)
            data = encoded(after)
        verb = rows.swapping(before, after, data, kind)
        seq = rows.swapped_of(await self._write(*verb))
        return None if seq is False else rows.numbered(after, before.order, seq)

    async def get(self, job_id: str) -> Job | None:
        return await self._get(job_id)

    async def move(self, job_id: str, change: Change) -> Job | None:
        self._require_open()
        return await self._versions.change(
            job_id, lambda job: apply(job, change, job.seq), change.move.label
        )

    async def note(self, job_id: str, note: Note) -> Job | None:
        self._require_open()
        return await self._versions.change(job_id, lambda job: annotate(job, note, job.seq), "note")

    def _require_open(self) -> None:
        if self._writes is None:
            raise StoreClosed(CLOSED)

    async def page(self, query: Query) -> Page:
        found: list[Job] = []
        before = query.before
        exact = not query.looks and query.tag is None
        size = query.limit + 1 if exact else CHUNK
        while True:
            jobs, before = await self._page(query, before, size)
            for job in jobs:
                if matches(job, query):
                    if len(found) == query.limit:
                        return Page(found, found[-1].order)
                    found.append(job)
            if before is None:
                return Page(found, None)
            size = CHUNK

    async def _page(
        self, query: Query, before: int | None, size: int
    ) -> tuple[list[Job], int | None]:
        """Jobs among which those of a query are, and where to go on."""
        statuses = sorted(query.statuses)
        answer = await self._read("page", statuses, query.task, query.parent, before, size, CAP)
        jobs, after = rows.found_of(answer)
        return rows.jobs_of(jobs), after

    async def events(self, after: int, limit: int) -> list[JobEvent]:
        found: list[JobEvent] = []
        while len(found) < limit:
            size = min(CHUNK, limit - len(found))
            jobs = rows.jobs_of(await self._read("events", after, size, CAP))
            if not jobs:
                break
            found += [JobEvent(job.seq, "newest", job) for job in jobs]
            after = found[-1].seq
        return found

    async def head(self) -> int:
        return int(rows.number_of(await self._read("position")))

    async def due(self, now: float, limit: int) -> list[Job]:
        return await self._until("scheduled", now, limit)

    async def expired(self, now: float, limit: int) -> list[Job]:
        return await self._until("expiring", now, limit)

    async def _until(self, name: str, now: float, limit: int) -> list[Job]:
        found: dict[str, Job] = {}
        looked = 0
        while looked < limit:
            size = min(CHUNK, limit - looked)
            jobs, count = rows.found_of(await self._read("until_now", name, now, looked, size, CAP))
            if not count:
                break
            looked += count
            found |= {job.id: job for job in rows.jobs_of(jobs)}
        return list(found.values())

    async def queued(self, task: str, limit: int, fair: bool) -> list[Waiting]:
        return rows.queue_of(await self._read("fair" if fair else "queued", task, limit), task)

    async def oldest_queued(self) -> Job | None:
        return rows.job_of(await self._read("oldest"))

    async def active(self, task: str, unique: str) -> Job | None:
        return rows.job_of(await self._read("active", task, unique))

    async def began(self, task: str, since: float) -> list[tuple[str | None, float]]:
        found: list[tuple[str | None, float]] = []
        before: int | None = None
        while True:
            jobs, before = await self._page(Query(task=task), before, CHUNK)
            mine = (job for job in jobs if job.task == task)
            found += [(job.turn, at) for job in mine for at in begun(job, since)]
            if before is None:
                return found

    async def steps(self, job_id: str) -> dict[str, KeptStep]:
        return rows.steps_of(await self._read("steps", job_id))

    async def keep_step(self, job_id: str, name: str, step: KeptStep) -> bool:
        verb = ("keep_step", job_id, name, rows.blob(encoded(step)), step.attempt, len(step.result))
        return bool(rows.flag_of(await self._write(*verb)))

    async def log(
        self, job_id: str, drafts: Sequence[Draft], keep_lines: int, keep_bytes: int
    ) -> list[LogLine]:
        lines = [
            LogLine(0, number, at, level, rows.as_text(text))
            for number, (at, level, text) in enumerate(drafts, 1)
        ]
        told = [(line.at, line.level, line.text, line.size) for line in lines]
        first = rows.logged_of(await self._write("log", job_id, told, keep_lines, keep_bytes))
        if isinstance(first, bool):
            return []
        seq, number = first
        return [
            LogLine(seq + each.number, number + each.number, each.at, each.level, each.text)
            for each in lines
        ]

    async def logs(self, job_id: str, after: int, limit: int) -> list[LogLine]:
        lines = rows.lines_of(await self._read("logs", job_id, after, limit))
        return [LogLine(*line[:5]) for line in lines]

    async def keep_fact(self, name: str, value: bytes | None) -> None:
        await self._write("keep_fact", name, None if value is None else rows.blob(value))

    async def facts(self, prefix: str) -> dict[str, bytes]:
        return dict(rows.facts_of(await self._read("facts", prefix)))

    async def prune(self, retention: Retention, now: float, limit: int) -> int:
        bounds = [(status, keep.count, keep.age, keep.size) for status, keep in retention.items()]
        pruned = 0
        while pruned < limit:
            size = min(CHUNK, limit - pruned)
            count = rows.number_of(await self._write("prune", bounds, now, size))
            pruned += count
            if count < size:
                break
        return pruned

    async def counts(self) -> dict[Status, int]:
        counts = rows.counts_of(await self._read("counts"))
        return dict(zip(STATUSES, counts, strict=True))

    async def counts_by_task(self) -> dict[str, dict[Status, int]]:
        return rows.tasks_by_name(rows.tasks_of(await self._read("tasks")))

    async def beat(self, worker: Worker, seconds: float) -> None:
        await self._write("beat", worker.id, rows.blob(encoded(worker)), seconds)

    async def leave(self, worker_id: str) -> None:
        await self._write("leave", worker_id)

    async def workers(self) -> list[Worker]:
        alive = rows.workers_of(await self._read("workers"))
        return sorted(alive, key=lambda worker: str(worker.id))

    async def lead(self, worker_id: str, seconds: float) -> bool:
        milliseconds = max(1, int(seconds * 1000))
        return bool(rows.flag_of(await self._write("lead", worker_id, milliseconds)))

    async def listen(self, after: int | None) -> AsyncGenerator[list[Heard] | None]:
        if self._ears is None:
            raise StoreClosed(CLOSED)
        told = self._ears.listen(after)
        try:
            async for heard in told:
                yield heard
        finally:
            await told.aclose()
