"""The store in this process's memory: at most once, gone with the process, nothing to install.

Every call is over without waiting, except that a long list scan gives way to the event loop. Only
keeping, ordering and fencing may live here.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import NoReturn

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
from quart_app.domain.queries import Page, Query
from quart_app.domain.queues import Waiting, begun, in_turns
from quart_app.domain.status import STATUSES, TERMINAL, Status
from quart_app.stores.memory_logs import Logs
from quart_app.stores.memory_moments import Moments, is_due, may_expire
from quart_app.stores.memory_places import Places, page_of


def _no_counts() -> dict[Status, int]:
    return dict.fromkeys(STATUSES, 0)


class MemoryStore:
    """Jobs in dictionaries.

    Args:
        after: the ``seq`` of the last event of an earlier process: a stream that was open before a
            restart goes on after the last one that it has.

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
    instant = True
    shared = False
    trouble = None

    def __init__(self, after: int = 0) -> None:
        self.on_commit: Callable[[float], object] = lambda seconds: None
        self._jobs: dict[str, Job] = {}
        self._keys: dict[tuple[str, str], tuple[bytes, list[str]]] = {}
        self._steps: dict[str, dict[str, KeptStep]] = {}
        self._logs = Logs()
        self._unique: dict[tuple[str, str], str] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._facts: dict[str, bytes] = {}
        self._places = Places()
        # By final status: ids, the one that ended first first, and the bytes of their data.
        self._finished: dict[Status, deque[str]] = {status: deque() for status in TERMINAL}
        self._finished_size: dict[Status, int] = dict.fromkeys(TERMINAL, 0)
        self._scheduled, self._expiring = Moments(), Moments()
        self._waiting = 0
        self._tasks: defaultdict[str, dict[Status, int]] = defaultdict(_no_counts)
        self._order, self._seq = 0, after
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
        one = jobs[0]
        self._require_open()
        if key is not None and (known := self._known(one.task, key)) is not None:
            return known, False
        fresh = self._fresh(jobs)
        if fresh and self._waiting + fresh > max_waiting:
            self._refuse(max_waiting)
        if fresh and max_of_task is not None:
            self._bound_task(one.task, fresh, max_of_task)
        kept = [self._active(job) or self._insert(job, max_waiting) for job in jobs]
        if key is not None and fresh == len(jobs):
            ids = [job.id for job in kept]
            self._keys[kept[0].task, key.key] = (key.fingerprint, ids)
        return kept, fresh > 0

    def add_now(self, job: Job, max_waiting: int) -> Job:
        """As `add`, for one job that begins at once and is named nowhere else."""
        if not self._open:
            self._require_open()
        if self._waiting >= max_waiting:
            self._refuse(max_waiting)
        self._order = order = self._order + 1
        self._seq = seq = self._seq + 1
        # Set in place: nobody else has seen this new object yet, and a copy costs twice as much.
        force_setattr(job, "order", order)
        force_setattr(job, "seq", seq)
        job_id = job.id
        self._jobs[job_id] = job
        self._places.orders.append(order)
        self._places.ids.append(job_id)
        self._waiting += 1
        self._tasks[job.task][job.status] += 1
        return job

    def _refuse(self, max_waiting: int) -> NoReturn:
        message = f"{self._waiting} jobs wait and {max_waiting} may: try again later"
        raise QueueFull(message, retry_after=1.0)

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

    def _insert(self, job: Job, max_waiting: int) -> Job:
        """As `add_now`, of any job."""
        job_id = self.add_now(job, max_waiting).id
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
            return page_of(self._jobs, reversed(self._children.get(query.parent, {})), query)
        return await self._places.page(self._jobs, query, self._require_open)

    async def move(self, job_id: str, change: Change) -> Job | None:
        return self.move_now(job_id, change)

    def move_now(self, job_id: str, change: Change) -> Job | None:
        """As `move`."""
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
        elif change.move.terminal:
            self._ended(before, job)
        else:
            self._put_back(before, job)
        return job

    def _ended(self, before: Job, job: Job) -> None:
        """What follows of a job's end."""
        job_id, status, size = job.id, job.status, job.size
        self._finished[status].append(job_id)
        if self._steps or self._logs.any:
            size += self._extra(job_id)
        self._finished_size[status] += size
        if before.status != "running":
            self._waiting -= 1
        if before.unique is not None:
            self._unique.pop((job.task, before.unique), None)

    def _put_back(self, before: Job, job: Job) -> None:
        """What follows where a job is queued or scheduled once more."""
        if before.status == "running":
            self._waiting += 1
        if before.unique is not None and job.unique is None:
            self._unique.pop((job.task, before.unique), None)
        if job.status == "scheduled":
            self._scheduled.add(job.run_at or 0.0, job)

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

    async def head(self) -> int:
        self._require_open()
        return self._seq

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

    def _extra(self, job_id: str) -> int:
        """Bytes of a job's steps and of its log."""
        steps = self._steps.get(job_id)
        size = 0 if steps is None else sum(len(step.result) for step in steps.values())
        return size + self._logs.size(job_id)

    async def prune(self, retention: Retention, now: float, limit: int) -> int:
        self._require_open()
        left = limit
        for status, keep in retention.items():
            finished = self._finished[status]
            # So many are beyond the count, whatever their age and size.
            left -= self._forget(status, min(len(finished) - keep.count, left))
            while finished and left > 0:
                if self._finished_size[status] <= keep.size:
                    ended = self._jobs[finished[0]].finished_at or 0.0
                    if now - ended <= keep.age:
                        break
                left -= self._forget(status, 1)
        self._places.shrink(self._jobs)
        self._scheduled.shrink(self._jobs, is_due)
        self._expiring.shrink(self._jobs, may_expire)
        return limit - left

    def _forget(self, status: Status, many: int) -> int:
        """Forget so many finished jobs, those that ended first; how many those are."""
        if many <= 0:
            return 0
        forget, oldest, tasks, size = self._jobs.pop, self._finished[status].popleft, self._tasks, 0
        for _ in range(many):
            job_id = oldest()
            job = forget(job_id)
            size += job.size
            tasks[job.task][status] -= 1
            if job.parent is not None or job.key is not None:
                self._unlink(job)
            if self._steps or self._logs.any:
                size += self._extra(job_id)
                self._steps.pop(job_id, None)
                self._logs.forget(job_id)
        self._finished_size[status] -= size
        return many

    def _unlink(self, job: Job) -> None:
        """Forget where else a job is named: with its parent, and with the key of its start."""
        if job.parent is not None:  # Its own children are found as long as they are kept.
            del self._children[job.parent][job.id]
            if not self._children[job.parent]:
                del self._children[job.parent]
        if job.key is not None:
            known = self._keys.get((job.task, job.key))
            # A key that was forgotten with another of its jobs may have been used again since.
            if known is not None and job.id in known[1]:
                del self._keys[job.task, job.key]

    async def counts(self) -> dict[Status, int]:
        self._require_open()
        of_tasks = self._tasks.values()
        return {status: sum(counts[status] for counts in of_tasks) for status in STATUSES}

    async def counts_by_task(self) -> dict[str, dict[Status, int]]:
        self._require_open()
        return {task: dict(counts) for task, counts in self._tasks.items()}
