"""The only writer of status: it writes through the store, then tells the hub.

Nothing may live here that decides what should happen: a caller says which row of the status table
it wants, and the fence says whether that still holds. No other module calls `Store.add`,
`Store.move` or `Store.note`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from quart_app.core.hub import Hub
from quart_app.core.ports import Store
from quart_app.domain.jobs import Change, Failure, Job, Note, Progress
from quart_app.domain.outcomes import Outcome
from quart_app.domain.status import Move, Reason

Clock = Callable[[], float]


class Ledger:
    """Writes, and tells.

    Args:
        store: where jobs are kept.
        hub: who is told.
        max_waiting: how many jobs may wait (scheduled or queued) at once.
        clock: wall time in seconds since the epoch; for records only, never for deadlines.
    """

    def __init__(
        self, store: Store, hub: Hub, *, max_waiting: int, clock: Clock = time.time
    ) -> None:
        self._store = store
        self._hub = hub
        self._max_waiting = max_waiting
        self.clock = clock

    async def open(self, jobs: Sequence[Job]) -> list[tuple[Job, bool]]:
        """Keep new jobs, all or none; see `Store.add` for what comes back and is raised."""
        added = await self._store.add(jobs, self._max_waiting)
        for job, new in added:
            if new:
                self._hub.publish("open", job)
        return added

    async def move(
        self,
        job_id: str,
        move: Move,
        *,
        attempt: int | None = None,
        reason: Reason | None = None,
        result: bytes | None = None,
        error: Failure | None = None,
        run_at: float | None = None,
    ) -> Job | None:
        """Make one move of the status table, or None where somebody else was first."""
        change = Change(move, self.clock(), attempt, reason, result, error, run_at)
        job = await self._store.move(job_id, change)
        if job is not None:
            self._hub.publish(move.label, job)
        return job

    async def settle(self, job: Job, outcome: Outcome) -> Job | None:
        """Write how an attempt has ended, or None where somebody else was first."""
        move, reason, result, error = outcome.move, outcome.reason, outcome.result, outcome.error
        change = Change(move, self.clock(), job.attempt, reason, result, error)
        settled = await self._store.move(job.id, change)
        if settled is not None:
            self._hub.publish(move.label, settled)
        return settled

    async def note(
        self,
        job_id: str,
        *,
        attempt: int | None = None,
        cancel_requested: bool = False,
        unresponsive: bool = False,
        progress: Progress | None = None,
    ) -> Job | None:
        """Write a fact about a job that is not over, or None where there is nothing to write."""
        note = Note(
            at=self.clock(),
            attempt=attempt,
            cancel_requested=cancel_requested,
            unresponsive=unresponsive,
            progress=progress,
        )
        job = await self._store.note(job_id, note)
        if job is not None:
            self._hub.publish("note", job)
        return job
