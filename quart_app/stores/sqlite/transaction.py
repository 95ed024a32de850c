"""What the writing thread does with the rows: the same rules as everywhere, inside one transaction.

`apply` and `annotate` of `quart_app.domain.jobs` decide on the row as it is; the connection is the
only one that writes, so nobody can come between. Every method looks before it writes: one that
refuses has written nothing. Nothing may live here that waits or knows of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import force_setattr

from quart_app.domain.errors import KeyReused, QueueFull, StoreRefused
from quart_app.domain.jobs import (
    Change,
    Job,
    Keep,
    Note,
    RequestKey,
    Retention,
    annotate,
    apply,
)
from quart_app.domain.status import STATUSES, TERMINAL, Status
from quart_app.stores.sqlite.file import Connection
from quart_app.stores.sqlite.rows import job_of, row_of, text
from quart_app.stores.sqlite.verbs import sql

LIVE = 2_000
"""Jobs that are remembered beside their rows."""


class Transaction:
    """The connection, and the heads and counts as they will be when it commits.

    Args:
        connection: the one that writes.
    """

    def __init__(self, connection: Connection) -> None:
        self._execute = connection.execute
        # The newest versions of jobs that are not over, with the bytes of their steps: a job is
        # written three times within a moment, and nobody else writes.
        self._live: dict[str, tuple[Job, int]] = {}
        self.reload()

    def reload(self) -> None:
        """Forget what was not committed."""
        self.jobs: dict[Status, int] = {}
        self.bytes: dict[Status, int] = {}
        for status, jobs, size in self._execute(sql("counts")).fetchall():
            self.jobs[status], self.bytes[status] = jobs, size
        heads = self._execute(sql("heads")).fetchone()
        if heads is None or self.jobs.keys() != set(STATUSES):
            raise StoreRefused("it is damaged, its counts are missing: restore a backup")
        self.place, self.seq = heads
        self._live.clear()
        self._seq_before, self._touched, self.steps = self.seq, set[Status](), False

    def finish(self, probe: bool = False) -> bool:
        """Write the heads and counts; returns whether there is anything to commit.

        Args:
            probe: write the heads in any case, to see whether the disk takes it.
        """
        if self._touched:
            jobs = [self.jobs[status] for status in STATUSES]
            self._execute(sql("keep_counts"), [*jobs, *(self.bytes[each] for each in STATUSES)])
        if self.seq != self._seq_before or probe:
            self._execute(sql("keep_heads"), (self.place, self.seq))
        changed = bool(self._touched) or self.seq != self._seq_before or self.steps or probe
        self._seq_before, self._touched, self.steps = self.seq, set(), False
        return changed

    steps = False
    """Whether a step was written: that changes neither heads nor counts."""

    def add(
        self, jobs: Sequence[Job], max_waiting: int, key: RequestKey | None
    ) -> tuple[list[Job], bool]:
        if key is not None and (known := self._known(jobs[0].task, key)) is not None:
            return known, False
        waiting = self.jobs["queued"] + self.jobs["scheduled"]
        if waiting + len(jobs) > max_waiting:
            message = f"{waiting} jobs wait and {max_waiting} may: try again later"
            raise QueueFull(message, retry_after=1.0)
        for job in jobs:
            self.place += 1
            self.seq += 1
            # Set in place, as in memory: nobody else has seen this new object yet.
            force_setattr(job, "order", self.place)
            force_setattr(job, "seq", self.seq)
            self._execute(sql("add"), row_of(job))
            self._count(job.status, 1)
            self._remember(job, 0)
        if key is not None:
            values = (jobs[0].task, key.key, key.fingerprint, jobs[0].order, len(jobs))
            self._execute(sql("keep_key"), values)
        return list(jobs), True

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

    def _count(self, status: Status, jobs: int, size: int = 0) -> None:
        self.jobs[status] += jobs
        self.bytes[status] += size
        self._touched.add(status)

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
        values = (
            job.seq,
            job.status,
            job.reason,
            job.attempt,
            job.updated_at,
            job.run_at,
            job.started_at,
            job.finished_at,
            text(job.progress),
            int(job.unresponsive),
            None if job.result is None else job.result.decode(),
            text(job.error),
            text(job.history),
            size,
            job.order,
        )
        self._execute(sql("move"), values)
        self._remember(job, step_bytes)
        self._count(before.status, -1)
        self._count(job.status, 1, size)
        return job

    def note(self, job_id: str, note: Note) -> Job | None:
        before, step_bytes = self._get(job_id)
        job = None if before is None else annotate(before, note, self.seq + 1)
        if job is not None:
            self.seq += 1
            values = (
                job.seq,
                job.updated_at,
                job.cancel_requested_at,
                int(job.unresponsive),
                text(job.progress),
                job.order,
            )
            self._execute(sql("note"), values)
            self._remember(job, step_bytes)
        return job

    def keep_step(self, job_id: str, attempt: int, name: str, result: bytes) -> bool:
        job, step_bytes = self._get(job_id)
        if job is None or job.status != "running" or job.attempt != attempt:
            return False
        values = (job.order, name, result.decode())
        if self._execute(sql("keep_step"), values).fetchone() is not None:
            self._execute(sql("count_step"), (len(result), job.order))
            self._remember(job, step_bytes + len(result))
            self.steps = True
        return True

    def prune(self, retention: Retention, now: float, limit: int) -> int:
        pruned = 0
        for status, keep in retention.items():
            if self._may_have_too_many(status, keep, now):
                pruned += self._prune(status, keep, now, limit - pruned)
        return pruned

    def _may_have_too_many(self, status: Status, keep: Keep, now: float) -> bool:
        if self.jobs[status] > keep.count or self.bytes[status] > keep.size:
            return True
        oldest = self._execute(sql("ended"), (status, 1)).fetchone()
        return oldest is not None and bool(now - oldest[1] > keep.age)

    def _prune(self, status: Status, keep: Keep, now: float, limit: int) -> int:
        rows = self._execute(sql("ended"), (status, limit)).fetchall()
        pruned = 0
        for place, finished_at, size, step_bytes, task, key in rows:
            if (
                self.jobs[status] <= keep.count
                and self.bytes[status] <= keep.size
                and now - finished_at <= keep.age
            ):
                break
            self._execute(sql("forget"), (place,))
            if step_bytes:
                self._execute(sql("forget_steps"), (place,))
            if key is not None:
                self._execute(sql("forget_key"), (task, key, place))
            self._count(status, -1, -size)
            pruned += 1
        return pruned
