"""The store in this process's memory: at most once, gone with the process, nothing to install.

Every call is over without waiting, except that a long list scan gives way to the event loop. Only
keeping, ordering and fencing may live here.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import force_setattr

from quart_app.domain.errors import KeyReused, QueueFull, StoreClosed, TaskFull
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
    annotate,
    apply,
)
from quart_app.domain.queries import Page, Query, matches
from quart_app.domain.queues import Waiting, begun, in_turns
from quart_app.domain.status import STATUSES, TERMINAL, Status
from quart_app.stores.memory_logs import Logs
from quart_app.stores.memory_moments import Moments, is_due, may_expire

SCAN = 1_000
"""Rows that a filtered list looks at before it lets other tasks run: about 0.3 ms."""


def _no_counts() -> dict[Status, int]:
    return dict.fromkeys(STATUSES, 0)


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
    shared = False
    trouble = None

    def __init__(self) -> None:
        self.on_commit: Callable[[float], object] = lambda seconds: None
        self._jobs: dict[str, Job] = {}
        self._keys: dict[tuple[str, str], tuple[bytes, list[str]]] = {}
        self._steps: dict[str, dict[str, KeptStep]] = {}
        self._logs = Logs()
        self._unique: dict[tuple[str, str], str] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._facts: dict[str, bytes] = {}
        # Ascending, with the id beside each; they hold forgotten jobs for a while.
        self._orders: list[int] = []
        self._ids: list[str] = []
        # By final status: ids, the one that ended first first, and the bytes of their data.
        self._finished: dict[Status, deque[str]] = {status: deque() for status in TERMINAL}
        self._finished_size: dict[Status, int] = dict.fromkeys(TERMINAL, 0)
        self._scheduled, self._expiring = Moments(), Moments()
        self._waiting = 0
        self._tasks: defaultdict[str, dict[Status, int]] = defaultdict(_no_counts)
        self._order = self._seq = 0
        self._open = False

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    def reserve(self) -> None:
        return  # It is gone with this process.

    def abandon(self) -> None:
        self._open = False

    def _require_open(self) -> None:
        if not self._open:
            raise StoreClosed("The store is closed; start the app before it takes jobs")

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        if not self._open:
            self._require_open()
        one = jobs[0]
        if key is not None and (known := self._known(one.task, key)) is not None:
            return known, False
        plain = one.unique is None and len(jobs) == 1
        fresh = 1 if plain else self._fresh(jobs)
        if fresh and self._waiting + fresh > max_waiting:
            message = f"{self._waiting} jobs wait and {max_waiting} may: try again later"
            raise QueueFull(message, retry_after=1.0)
        if fresh and max_of_task is not None:
            self._bound_task(one.task, fresh, max_of_task)
        if plain and key is None:  # As most are.
            return [self._insert(one)], True
        kept = [self._active(job) or self._insert(job) for job in jobs]
        if key is not None and fresh == len(jobs):
            ids = [job.id for job in kept]
            self._keys[kept[0].task, key.key] = (key.fingerprint, ids)
        return kept, fresh > 0

    def _fresh(self, jobs: Sequence[Job]) -> int:
        """How many of these would be kept, and not another one in their place."""
        named = [(job.task, job.unique) for job in jobs if job.unique is not None]
        return len(jobs) - len(named) + sum(name not in self._unique for name in set(named))

    def _bound_task(self, task: str, more: int, most: int) -> None:
        counts = self._tasks.get(task)
        waiting = 0 if counts is None else counts["queued"] + counts["scheduled"]
        if waiting + more > most:
            message = f"{waiting} jobs of {task!r} wait and {most} may: try again later"
            raise TaskFull(message, retry_after=1.0)

    def _active(self, job: Job) -> Job | None:
        if job.unique is None:
            return None
        return self._jobs.get(self._unique.get((job.task, job.unique), ""))

    def _known(self, task: str, key: RequestKey) -> list[Job] | None:
        """The jobs that this key has opened."""
        known = self._keys.get((task, key.key))
        if known is None:
            return None
        fingerprint, ids = known
        if fingerprint != key.fingerprint:
            raise KeyReused(key.key, ids[0])
        return [self._jobs[job_id] for job_id in ids]

    def _insert(self, job: Job) -> Job:
        self._order = order = self._order + 1
        self._seq = seq = self._seq + 1
        # Set in place: nobody else has seen this new object yet, and a copy costs twice as much.
        force_setattr(job, "order", order)
        force_setattr(job, "seq", seq)
        job_id = job.id
        self._jobs[job_id] = job
        self._orders.append(order)
        self._ids.append(job_id)
        self._waiting += 1
        self._tasks[job.task][job.status] += 1
        if job.unique is not None:
            self._unique[job.task, job.unique] = job_id
        if job.parent is not None:
            self._children.setdefault(job.parent, {})[job_id] = None
        if job.status == "scheduled":
            self._scheduled.add(job.run_at or 0.0, job)
        if job.expires_at is not None:
            self._expiring.add(job.expires_at, job)
        return job

    async def get(self, job_id: str) -> Job | None:
        self._require_open()
        return self._jobs.get(job_id)

    async def page(self, query: Query) -> Page:
        self._require_open()
        wanted = query.statuses
        if wanted and not any(each[status] for each in self._tasks.values() for status in wanted):
            return Page([], None)  # As a rule nothing has failed: that is no reason to look at all.
        if query.parent is not None:
            return self._page_of(reversed(self._children.get(query.parent, {})), query)
        orders, ids = self._orders, self._ids
        place = len(orders) if query.before is None else bisect_left(orders, query.before)
        found: list[Job] = []
        scanned = 0
        while place > 0:
            place -= 1
            order = orders[place]
            job = self._jobs.get(ids[place])
            if job is not None and matches(job, query):
                if len(found) == query.limit:
                    return Page(found, found[-1].order)
                found.append(job)
            scanned += 1
            if scanned % SCAN == 0:
                await asyncio.sleep(0)
                self._require_open()
                orders, ids = self._orders, self._ids
                place = bisect_left(orders, order)
        return Page(found, None)

    def _page_of(self, ids: Iterable[str], query: Query) -> Page:
        """A page of these jobs, the newest first."""
        found: list[Job] = []
        for job_id in ids:
            job = self._jobs[job_id]
            passed = query.before is not None and job.order >= query.before
            if passed or not matches(job, query):
                continue
            if len(found) == query.limit:
                return Page(found, found[-1].order)
            found.append(job)
        return Page(found, None)

    async def move(self, job_id: str, change: Change) -> Job | None:
        before = self._jobs.get(job_id)
        if before is None or not self._open:
            self._require_open()
            return None
        seq = self._seq + 1
        job = apply(before, change, seq)
        if job is None:
            return None
        self._seq = seq
        self._jobs[job_id] = job
        status = job.status
        counts = self._tasks[job.task]
        counts[before.status] -= 1
        counts[status] += 1
        if status == "running":
            self._waiting -= 1
        else:
            self._moved(before, job, change.move.terminal)
        return job

    def _moved(self, before: Job, job: Job, over: bool) -> None:
        """What follows of a move, but that of a job's beginning."""
        if before.unique is not None and (job.unique is None or over):
            self._unique.pop((job.task, before.unique), None)
        if over:
            self._finished[job.status].append(job.id)
            self._finished_size[job.status] += self._size(job)
        elif job.status == "scheduled":
            self._scheduled.add(job.run_at or 0.0, job)
        self._waiting += (not over) - (before.status != "running")

    async def note(self, job_id: str, note: Note) -> Job | None:
        self._require_open()
        before = self._jobs.get(job_id)
        job = None if before is None else annotate(before, note, self._seq + 1)
        if job is not None:
            self._seq = job.seq
            self._jobs[job_id] = job
            if note.postponed is not None:
                self._scheduled.add(job.run_at or 0.0, job)
        return job

    async def events(self, after: int, limit: int) -> list[JobEvent]:
        self._require_open()
        newer = (job for job in self._jobs.values() if job.seq > after)
        oldest = heapq.nsmallest(limit, newer, key=lambda job: job.seq)
        return [JobEvent(job.seq, "newest", job) for job in oldest]

    async def due(self, now: float, limit: int) -> list[Job]:
        self._require_open()
        return self._scheduled.reached(now, limit, self._jobs, is_due)

    async def queued(self, task: str, limit: int, fair: bool) -> list[Waiting]:
        self._require_open()
        found = [job for job in self._jobs.values() if job.status == "queued" and job.task == task]
        found.sort(key=lambda job: (-job.priority, job.seq))
        found = in_turns(found) if fair else found
        return [Waiting(job.seq, job.id, job.task, job.turn, job.priority) for job in found[:limit]]

    async def oldest_queued(self) -> Job | None:
        self._require_open()
        if not self._waiting:
            return None
        return next((job for job in self._jobs.values() if job.status == "queued"), None)

    async def active(self, task: str, unique: str) -> Job | None:
        self._require_open()
        return self._jobs.get(self._unique.get((task, unique), ""))

    async def began(self, task: str, since: float) -> list[tuple[str | None, float]]:
        self._require_open()
        jobs = [job for job in self._jobs.values() if job.task == task]
        return [(job.turn, at) for job in jobs for at in begun(job, since)]

    async def expired(self, now: float, limit: int) -> list[Job]:
        self._require_open()
        return self._expiring.reached(now, limit, self._jobs, may_expire)

    async def steps(self, job_id: str) -> dict[str, KeptStep]:
        self._require_open()
        return dict(self._steps.get(job_id, ()))

    async def keep_step(self, job_id: str, name: str, step: KeptStep) -> bool:
        self._require_open()
        job = self._jobs.get(job_id)
        if job is None or job.status != "running" or job.attempt != step.attempt:
            return False
        self._steps.setdefault(job_id, {}).setdefault(name, step)
        return True

    async def log(
        self, job_id: str, drafts: Sequence[Draft], keep_lines: int, keep_bytes: int
    ) -> list[LogLine]:
        self._require_open()
        job = self._jobs.get(job_id)
        if job is None:
            return []
        before = self._logs.size(job_id)
        lines = self._logs.add(job_id, drafts, self._seq, keep_lines, keep_bytes)
        self._seq += len(lines)
        if job.status in TERMINAL:
            self._finished_size[job.status] += self._logs.size(job_id) - before
        return lines

    async def logs(self, job_id: str, after: int, limit: int) -> list[LogLine]:
        self._require_open()
        return self._logs.after(job_id, after, limit)

    async def keep_fact(self, name: str, value: bytes | None) -> None:
        self._require_open()
        if value is None:
            self._facts.pop(name, None)
        else:
            self._facts[name] = value

    async def facts(self, prefix: str) -> dict[str, bytes]:
        self._require_open()
        return {name: value for name, value in self._facts.items() if name.startswith(prefix)}

    def _size(self, job: Job) -> int:
        """Bytes of a finished job's data, those of its steps and its log included."""
        size = job.size
        if self._steps and (steps := self._steps.get(job.id)) is not None:
            size += sum(len(step.result) for step in steps.values())
        return size + self._logs.size(job.id) if self._logs.any else size

    async def prune(self, retention: Retention, now: float, limit: int) -> int:
        self._require_open()
        pruned = 0
        for status, keep in retention.items():
            finished = self._finished[status]
            while finished and pruned < limit:
                job = self._jobs[finished[0]]
                if (
                    len(finished) <= keep.count
                    and self._finished_size[status] <= keep.size
                    and now - (job.finished_at or 0.0) <= keep.age
                ):
                    break
                finished.popleft()
                self._forget(job)
                pruned += 1
        return pruned

    def _forget(self, job: Job) -> None:
        self._tasks[job.task][job.status] -= 1
        del self._jobs[job.id]
        self._finished_size[job.status] -= self._size(job)
        if self._steps or self._logs.any:
            self._steps.pop(job.id, None)
            self._logs.forget(job.id)
        if job.parent is not None:  # Its own children are found as long as they are kept.
            del self._children[job.parent][job.id]
            if not self._children[job.parent]:
                del self._children[job.parent]
        if job.key is not None:
            known = self._keys.get((job.task, job.key))
            # A key that was forgotten with another of its jobs may have been used again since.
            if known is not None and job.id in known[1]:
                del self._keys[job.task, job.key]
        if len(self._ids) > 2 * len(self._jobs) + SCAN:
            self._ids = list(self._jobs)  # A dictionary keeps the order of its keys.
            self._orders = [job.order for job in self._jobs.values()]

    async def counts(self) -> dict[Status, int]:
        self._require_open()
        of_tasks = self._tasks.values()
        return {status: sum(counts[status] for counts in of_tasks) for status in STATUSES}

    async def counts_by_task(self) -> dict[str, dict[Status, int]]:
        self._require_open()
        return {task: dict(counts) for task, counts in self._tasks.items()}
