"""The store in this process's memory: at most once, gone with the process, nothing to install.

Every call is over without waiting, except that a long list scan gives way to the event loop. Only
keeping, ordering and fencing may live here.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

from msgspec.structs import force_setattr

from quart_app.domain.errors import KeyReused, QueueFull, StoreUnavailable
from quart_app.domain.jobs import (
    Change,
    Job,
    JobEvent,
    Note,
    Page,
    Query,
    Retention,
    annotate,
    apply,
    matches,
)
from quart_app.domain.status import STATUSES, Status

SCAN = 1_000
"""Rows that a filtered list looks at before it lets other tasks run: about 0.3 ms."""


class MemoryStore:
    """Jobs in dictionaries.

    >>> import asyncio
    >>> async def main():
    ...     store = MemoryStore()
    ...     await store.open()
    ...     await store.add([Job(id="a", task="t")], max_waiting=1)
    ...     return (await store.get("a")).status
    >>> asyncio.run(main())
    'queued'
    """

    volatile = True

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._orders: list[int] = []  # ascending; holds the orders of forgotten jobs for a while
        self._by_order: dict[int, str] = {}
        self._finished: deque[str] = deque()  # ids, the one that ended first first
        self._finished_size = 0
        self._scheduled: list[tuple[float, int, str]] = []
        self._counts: dict[Status, int] = dict.fromkeys(STATUSES, 0)
        self._order = 0
        self._seq = 0
        self._open = False

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    def _require_open(self) -> None:
        if not self._open:
            raise StoreUnavailable("The store is closed; start the app before it takes jobs")

    async def add(self, jobs: Sequence[Job], max_waiting: int) -> list[tuple[Job, bool]]:
        self._require_open()
        waiting = self._counts["queued"] + self._counts["scheduled"]
        if len(jobs) == 1 and jobs[0].key is None and waiting < max_waiting:
            return [(self._insert(jobs[0]), True)]
        known = [
            None if job.key is None else self._known(job.task, job.key, job.args) for job in jobs
        ]
        new = known.count(None)
        if 0 < new < len(jobs):
            message = "The key started only some of these jobs: use a new key for a new request"
            raise KeyReused(message)
        if new and waiting + new > max_waiting:
            message = f"{waiting} jobs wait and {max_waiting} may: try again later"
            raise QueueFull(message, retry_after=1.0)
        return [
            (self._insert(job), True) if other is None else (other, False)
            for job, other in zip(jobs, known, strict=True)
        ]

    def _known(self, task: str, key: str, args: bytes) -> Job | None:
        """The job that holds this key."""
        other_id = self._keys.get((task, key))
        if other_id is None:
            return None
        other = self._jobs[other_id]
        if other.args != args:
            message = (
                f"The key {key!r} started job {other.id} with other arguments: "
                "use a new key for a new request"
            )
            raise KeyReused(message)
        return other

    def _insert(self, job: Job) -> Job:
        self._order = order = self._order + 1
        self._seq = seq = self._seq + 1
        # Set in place: nobody else has seen this new object yet, and a copy costs twice as much.
        force_setattr(job, "order", order)
        force_setattr(job, "seq", seq)
        self._jobs[job.id] = job
        self._orders.append(order)
        self._by_order[order] = job.id
        self._counts[job.status] += 1
        if job.key is not None:
            self._keys[job.task, job.key] = job.id
        if job.status == "scheduled":
            heapq.heappush(self._scheduled, (job.run_at or 0.0, order, job.id))
        return job

    async def get(self, job_id: str) -> Job | None:
        self._require_open()
        return self._jobs.get(job_id)

    async def page(self, query: Query) -> Page:
        self._require_open()
        orders = self._orders
        place = len(orders) if query.before is None else bisect_left(orders, query.before)
        found: list[Job] = []
        scanned = 0
        while place > 0:
            place -= 1
            order = orders[place]
            job_id = self._by_order.get(order)
            if job_id is not None and matches(job := self._jobs[job_id], query):
                if len(found) == query.limit:
                    return Page(found, found[-1].order)
                found.append(job)
            scanned += 1
            if scanned % SCAN == 0:
                await asyncio.sleep(0)
                self._require_open()
                orders = self._orders
                place = bisect_left(orders, order)
        return Page(found, None)

    async def move(self, job_id: str, change: Change) -> Job | None:
        before = self._jobs.get(job_id)
        if before is None or not self._open:
            self._require_open()
            return None
        job = apply(before, change, self._seq + 1)
        if job is None:
            return None
        self._counts[before.status] -= 1
        self._counts[job.status] += 1
        self._seq = job.seq
        self._jobs[job_id] = job
        if change.move.terminal:
            self._finished.append(job_id)
            self._finished_size += job.size
        elif job.status == "scheduled":
            heapq.heappush(self._scheduled, (job.run_at or 0.0, job.order, job_id))
        return job

    async def note(self, job_id: str, note: Note) -> Job | None:
        self._require_open()
        before = self._jobs.get(job_id)
        job = None if before is None else annotate(before, note, self._seq + 1)
        if job is not None:
            self._seq = job.seq
            self._jobs[job_id] = job
        return job

    async def events(self, after: int, limit: int) -> list[JobEvent]:
        self._require_open()
        newer = (job for job in self._jobs.values() if job.seq > after)
        oldest = heapq.nsmallest(limit, newer, key=lambda job: job.seq)
        return [JobEvent(job.seq, "newest", job) for job in oldest]

    async def due(self, now: float, limit: int) -> list[Job]:
        self._require_open()
        found: dict[str, Job] = {}
        while self._scheduled and len(found) < limit and self._scheduled[0][0] <= now:
            run_at, _, job_id = heapq.heappop(self._scheduled)
            job = self._jobs.get(job_id)
            # An entry is stale once its job was moved on, even if it was scheduled anew since.
            if job is not None and job.status == "scheduled" and (job.run_at or 0.0) == run_at:
                found[job_id] = job
        for job in found.values():  # Still scheduled until the caller moves them.
            heapq.heappush(self._scheduled, (job.run_at or 0.0, job.order, job.id))
        return list(found.values())

    async def prune(self, retention: Retention, now: float, limit: int) -> int:
        self._require_open()
        pruned = 0
        while self._finished and pruned < limit:
            job = self._jobs[self._finished[0]]
            ended = job.finished_at or 0.0
            if (
                len(self._finished) <= retention.count
                and self._finished_size <= retention.size
                and now - ended <= retention.age
            ):
                break
            self._finished.popleft()
            self._forget(job)
            pruned += 1
        return pruned

    def _forget(self, job: Job) -> None:
        self._finished_size -= job.size
        self._counts[job.status] -= 1
        del self._jobs[job.id], self._by_order[job.order]
        if job.key is not None:
            del self._keys[job.task, job.key]
        if len(self._orders) > 2 * len(self._by_order) + SCAN:
            self._orders = [order for order in self._orders if order in self._by_order]

    async def counts(self) -> dict[Status, int]:
        self._require_open()
        return dict(self._counts)
