"""What is read of jobs, by the few connections that read. Nothing may live here that changes a job,
nor any SQL.
"""

from __future__ import annotations

from typing import Any

import msgspec

from quart_app.domain.errors import StoreClosed
from quart_app.domain.jobs import Job, JobEvent, KeptStep, LogLine
from quart_app.domain.queries import Page, Query, matches
from quart_app.domain.queues import Waiting, begun
from quart_app.domain.status import STATUSES, Status
from quart_app.stores.postgres.links import CLOSED, Connection, Links
from quart_app.stores.postgres.pages import page_query
from quart_app.stores.postgres.rows import (
    Row,
    escaped,
    jobs_of,
    line_of,
    short,
    unescaped,
    waiting_of,
)
from quart_app.stores.postgres.verbs import sql

CHUNK = 200
"""Rows that a search looks at in one read."""

_name = msgspec.msgpack.Decoder(str).decode


class Reads:
    """The verbs of `quart_app.core.ports.Store` that read."""

    _links: Links | None = None

    def _require_links(self) -> Links:
        if self._links is None:
            raise StoreClosed(CLOSED)
        return self._links

    async def _rows(self, statement: str, *values: Any) -> list[Row]:
        async def fetch(connection: Connection) -> list[Row]:
            rows: list[Row] = await connection.fetch(statement, *values)
            return rows

        return await self._require_links().run(fetch)

    async def _value(self, verb: str, *values: Any) -> Any:
        [row] = await self._rows(sql(verb), *values)
        return next(iter(row.values()))

    async def _jobs(self, verb: str, *values: Any) -> list[Job]:
        return jobs_of(await self._rows(sql(verb), *values))

    async def _say(self, verb: str, *values: Any) -> Any:
        """Something that is written beside the jobs, and may be said twice."""

        def say(connection: Connection) -> Any:
            return connection.fetchval(sql(verb), *values)

        return await self._require_links().run(say, write=True)

    async def get(self, job_id: str) -> Job | None:
        found = await self._jobs("get", escaped(job_id))
        return found[0] if found else None

    async def page(self, query: Query) -> Page:
        found: list[Job] = []
        before = query.before
        # A text is looked for here, as everywhere: row by row, some at a time.
        size = CHUNK if query.looks else query.limit + 1
        while True:
            statement, values = page_query(query, before, size)
            jobs = jobs_of(await self._rows(statement, *values))
            for job in jobs:
                if not query.looks or matches(job, query):
                    if len(found) == query.limit:
                        return Page(found, found[-1].order)
                    found.append(job)
            if len(jobs) < size:
                return Page(found, None)
            before = jobs[-1].order

    async def events(self, after: int, limit: int) -> list[JobEvent]:
        jobs = await self._jobs("events", after, limit)
        return [JobEvent(job.seq, "newest", job) for job in jobs]

    async def head(self) -> int:
        return int(await self._value("head"))

    async def due(self, now: float, limit: int) -> list[Job]:
        return await self._jobs("due", now, limit)

    async def queued(self, task: str, limit: int, fair: bool) -> list[Waiting]:
        verb = "queued_fairly" if fair else "queued"
        rows = await self._rows(sql(verb), escaped(task), limit)
        return [waiting_of(row, task) for row in rows]

    async def expired(self, now: float, limit: int) -> list[Job]:
        return await self._jobs("expired", now, limit)

    async def active(self, task: str, unique: str) -> Job | None:
        found = await self._jobs("active", escaped(task), short(unique))
        return found[0] if found else None

    async def began(self, task: str, since: float) -> list[tuple[str | None, float]]:
        jobs = await self._jobs("began", escaped(task), since)
        return [(job.turn, at) for job in jobs for at in begun(job, since)]

    async def oldest_queued(self) -> Job | None:
        found = await self._jobs("oldest_queued")
        return found[0] if found else None

    async def steps(self, job_id: str) -> dict[str, KeptStep]:
        rows = await self._rows(sql("steps"), escaped(job_id))
        return {
            _name(row["said"]): KeptStep(row["result"], row["attempt"], row["at"]) for row in rows
        }

    async def logs(self, job_id: str, after: int, limit: int) -> list[LogLine]:
        rows = await self._rows(sql("logs"), escaped(job_id), after, limit)
        return [line_of(row["seq"], row["number"], row["data"]) for row in rows]

    async def facts(self, prefix: str) -> dict[str, bytes]:
        rows = await self._rows(sql("facts"), escaped(prefix))
        return {unescaped(row["name"]): row["value"] for row in rows}

    async def counts(self) -> dict[Status, int]:
        counts: dict[Status, int] = dict.fromkeys(STATUSES, 0)
        for row in await self._rows(sql("counts")):
            counts[row["status"]] = row["jobs"]
        return counts

    async def counts_by_task(self) -> dict[str, dict[Status, int]]:
        tasks: dict[str, dict[Status, int]] = {}
        for row in await self._rows(sql("task_counts")):
            counts = tasks.setdefault(unescaped(row["task"]), dict.fromkeys(STATUSES, 0))
            counts[row["status"]] = row["jobs"]
        return tasks
