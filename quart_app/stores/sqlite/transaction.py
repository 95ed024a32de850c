"""What the writing thread does with the rows: the same rules as everywhere, inside one transaction.

`apply` and `annotate` of `quart_app.domain.jobs` decide on the row as it is; the connection is the
only one that writes, so nobody can come between. Every method looks before it writes: one that
refuses has written nothing. Nothing may live here that waits or knows of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import force_setattr

from quart_app.domain.errors import KeyReused, QueueFull, StoreRefused, TaskFull
from quart_app.domain.jobs import (
    Change,
    Draft,
    Job,
    Keep,
    KeptStep,
    LogLine,
    Note,
    RequestKey,
    Retention,
    annotate,
    apply,
)
from quart_app.domain.status import STATUSES, TERMINAL, Status
from quart_app.stores.sqlite.changes import Changes
from quart_app.stores.sqlite.file import Connection, Cursor
from quart_app.stores.sqlite.rows import job_of
from quart_app.stores.sqlite.verbs import sql

LIVE = 2_000
"""Jobs that are remembered beside their rows."""
LARGE = 2 * 2**20
"""Bytes that are forgotten in one transaction, about 20 ms: every other write waits for it."""


class Transaction:
    """The connection, and the heads and counts as they will be when it commits.

    Args:
        connection: the one that writes.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changes = Changes(connection)
        # The newest versions of jobs that are not over, with the bytes beside their rows: a job is
        # written three times within a moment, and nobody else writes.
        self._live: dict[str, tuple[Job, int]] = {}
        self.reload()

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> Cursor:
        if self._changes:  # What is asked now may be about what was written before.
            self._changes.write()
        return self._connection.execute(statement, values)

    def reload(self) -> None:
        """Forget what was not committed."""
        self._changes.forget()
        self.jobs: dict[Status, int] = {}
        self.bytes: dict[Status, int] = {}
        for status, jobs, size in self._execute(sql("counts")).fetchall():
            self.jobs[status], self.bytes[status] = jobs, size
        heads = self._execute(sql("heads")).fetchone()
        if heads is None or self.jobs.keys() != set(STATUSES):
            raise StoreRefused("it is damaged, its counts are missing: restore a backup")
        self.place, self.seq = heads
        self.tasks: dict[str, dict[Status, int]] = {}
        for task, *counts in self._execute(sql("task_counts")).fetchall():
            self.tasks[task] = dict(zip(STATUSES, counts, strict=True))
        self._live.clear()
        self._seq_before, self._touched, self.beside = self.seq, set[str](), False

    def finish(self, probe: bool = False) -> bool:
        """Write the heads and counts; returns whether there is anything to commit.

        Args:
            probe: write the heads in any case, to see whether the disk takes it.
        """
        if self._touched:
            jobs = [self.jobs[status] for status in STATUSES]
            self._execute(sql("keep_counts"), [*jobs, *(self.bytes[each] for each in STATUSES)])
        for task in self._touched:
            self._execute(sql("keep_task_counts"), (task, *self.tasks[task].values()))
        if self.seq != self._seq_before or probe:
            self._execute(sql("keep_heads"), (self.place, self.seq))
        changed = bool(self._touched) or self.seq != self._seq_before or self.beside or probe
        self._seq_before, self._touched, self.beside = self.seq, set(), False
        return changed

    beside = False
    """Whether a step or a fact was written: that changes neither heads nor counts."""

    def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        task = jobs[0].task
        if key is not None and (known := self._known(task, key)) is not None:
            return known, False
        active = {job.unique: self._active(job) for job in jobs if job.unique is not None}
        fresh: list[Job] = []
        for job in jobs:
            if job.unique is None or active[job.unique] is None:
                fresh.append(job)
                if job.unique is not None:
                    active[job.unique] = job
        if fresh:
            self._bound(task, len(fresh), max_waiting, max_of_task)
        for job in fresh:
            self._insert(job)
        kept = [job if job.unique is None else active[job.unique] or job for job in jobs]
        if key is not None and len(fresh) == len(jobs):
            values = (task, key.key, key.fingerprint, kept[0].order, len(kept))
            self._execute(sql("keep_key"), values)
            self.beside = True
        return kept, bool(fresh)

    def _active(self, job: Job) -> Job | None:
        row = self._execute(sql("active"), (job.task, job.unique)).fetchone()
        return None if row is None else job_of(row)

    def _bound(self, task: str, more: int, max_waiting: int, max_of_task: int | None) -> None:
        waiting = self.jobs["queued"] + self.jobs["scheduled"]
        if waiting + more > max_waiting:
            message = f"{waiting} jobs wait and {max_waiting} may: try again later"
            raise QueueFull(message, retry_after=1.0)
        if max_of_task is not None:
            counts = self.tasks.get(task, {})
            waiting = counts.get("queued", 0) + counts.get("scheduled", 0)
            if waiting + more > max_of_task:
                message = f"{waiting} jobs of {task!r} wait and {max_of_task} may: try again later"
                raise TaskFull(message, retry_after=1.0)

    def _insert(self, job: Job) -> None:
        self.place += 1
        self.seq += 1
        # Set in place, as in memory: nobody else has seen this new object yet.
        force_setattr(job, "order", self.place)
        force_setattr(job, "seq", self.seq)
        self._changes.add(job)
        self._count(job.task, job.status, 1)
        self._remember(job, 0)

    def _known(self, task: str, key: RequestKey) -> list[Job] | None:
        row = self._execute(sql("known"), (task, key.key)).fetchone()
        if row is None:
            return None
        fingerprint, first, count = row
        rows = self._execute(sql("opened"), (first, first + count - 1)).fetchall()
        jobs = [job_of(row) for row in rows]
        if fingerprint != key.fingerprint:
            raise KeyReused(key.key, jobs[0].id)
        return jobs

    def _count(self, task: str, status: Status, jobs: int, size: int = 0) -> None:
        self.jobs[status] += jobs
        self.bytes[status] += size
        counts = self.tasks.get(task)
        if counts is None:
            counts = self.tasks[task] = dict.fromkeys(STATUSES, 0)
        counts[status] += jobs
        self._touched.add(task)

    def _get(self, job_id: str) -> tuple[Job | None, int]:
        """A job, and the bytes of its steps."""
        if (live := self._live.get(job_id)) is not None:
            return live
        row = self._execute(sql("mine"), (job_id,)).fetchone()
        return (None, 0) if row is None else (job_of(row), row[-1])

    def _remember(self, job: Job, step_bytes: int) -> None:
        if job.status in TERMINAL:
            self._live.pop(job.id, None)
            return
        if len(self._live) >= LIVE:
            self._live.clear()
        self._live[job.id] = job, step_bytes

    def move(self, job_id: str, change: Change) -> Job | None:
        before, step_bytes = self._get(job_id)
        job = None if before is None else apply(before, change, self.seq + 1)
        if before is None or job is None:
            return None
        size = job.size + step_bytes if change.move.terminal else 0
        self.seq += 1
        self._changes.change(job, size)
        self._remember(job, step_bytes)
        self._count(job.task, before.status, -1)
        self._count(job.task, job.status, 1, size)
        return job

    def note(self, job_id: str, note: Note) -> Job | None:
        before, step_bytes = self._get(job_id)
        job = None if before is None else annotate(before, note, self.seq + 1)
        if job is not None:
            self.seq += 1
            self._changes.change(job, 0)
            if note.postponed is not None:
                later = (job.seq, job.updated_at, job.args.decode(), job.run_at, job.order)
                self._execute(sql("postpone"), later)
            self._remember(job, step_bytes)
        return job

    def keep_step(self, job_id: str, name: str, step: KeptStep) -> bool:
        job, size = self._get(job_id)
        if job is None or job.status != "running" or job.attempt != step.attempt:
            return False
        values = (job.order, name, step.result.decode(), step.attempt, step.at)
        if self._execute(sql("keep_step"), values).fetchone() is not None:
            self._grow(job, size, len(step.result))
        return True

    def _grow(self, job: Job, size: int, by: int) -> None:
        """What is kept beside the row of a job has so many bytes more."""
        self._execute(sql("count_step"), (by, job.order))
        self._remember(job, size + by)
        if job.status in TERMINAL:
            self._execute(sql("count_ended"), (by, job.order))
            self._count(job.task, job.status, 0, by)
        self.beside = True

    def log(
        self, job_id: str, drafts: Sequence[Draft], keep_lines: int, keep_bytes: int
    ) -> list[LogLine]:
        job, size = self._get(job_id)
        if job is None:
            return []
        number, count, length = self._execute(sql("log_state"), (job.order,)).fetchone()
        lines = [
            LogLine(self.seq + place, number + place, *draft)
            for place, draft in enumerate(drafts, 1)
        ]
        for line in lines:
            values = (job.order, line.seq, line.number, line.at, line.level, line.text)
            self._execute(sql("keep_log"), values)
        self.seq += len(lines)
        added = sum(line.size for line in lines)
        dropped = self._drop(job, count + len(lines), length + added, keep_lines, keep_bytes)
        self._grow(job, size, added - dropped)
        return lines

    def _drop(self, job: Job, count: int, length: int, keep_lines: int, keep_bytes: int) -> int:
        """Drop the oldest lines that are too many; returns their characters."""
        dropped, last = 0, None
        if count <= keep_lines and length <= keep_bytes:
            return 0
        for seq, size in self._execute(sql("log_heads"), (job.order, count)).fetchall():
            if count == 1 or (count <= keep_lines and length - dropped <= keep_bytes):
                break  # The newest stays in any case: from its number the next one's follows.
            count, dropped, last = count - 1, dropped + size, seq
        if last is not None:
            self._execute(sql("drop_log"), (job.order, last))
        return dropped

    def keep_fact(self, name: str, value: bytes | None) -> None:
        if value is None:
            self._execute(sql("forget_fact"), (name,))
        else:
            self._execute(sql("keep_fact"), (name, value))
        self.beside = True

    def prune(self, retention: Retention, now: float, limit: int) -> int:
        pruned, room = 0, LARGE
        for status, keep in retention.items():
            if room > 0 and self._may_have_too_many(status, keep, now):
                before = self.bytes[status]
                pruned += self._prune(status, keep, now, limit - pruned, room)
                room -= before - self.bytes[status]
        return pruned

    def _may_have_too_many(self, status: Status, keep: Keep, now: float) -> bool:
        if self.jobs[status] > keep.count or self.bytes[status] > keep.size:
            return True
        oldest = self._execute(sql("ended"), (status, 1)).fetchone()
        return oldest is not None and bool(now - oldest[1] > keep.age)

    def _prune(self, status: Status, keep: Keep, now: float, limit: int, room: int) -> int:
        """Forget what is too much, until it is more than so many bytes."""
        rows = self._execute(sql("ended"), (status, limit)).fetchall()
        pruned = 0
        for place, finished_at, size, step_bytes, task, key in rows:
            within = (
                self.jobs[status] <= keep.count
                and self.bytes[status] <= keep.size
                and now - finished_at <= keep.age
            )
            if within or room <= 0:
                break
            room -= size
            self._execute(sql("forget"), (place,))
            if step_bytes:
                self._execute(sql("forget_steps"), (place,))
                self._execute(sql("forget_log"), (place,))
            if key is not None:
                self._execute(sql("forget_key"), (task, key, place))
            self._count(task, status, -1, -size)
            pruned += 1
        return pruned
