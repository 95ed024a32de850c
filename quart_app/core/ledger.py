"""The only writer of status: it writes through the store, then tells the hub.

Nothing may live here that decides what should happen: a caller says which row of the status table
it wants, and the fence says whether that still holds. No other module calls `Store.add`,
`Store.move`, `Store.note`, `Store.keep_step`, `Store.log` or `Store.keep_fact`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from quart_app.core.hub import Hub
from quart_app.core.ports import InstantStore, SharedStore, Store
from quart_app.domain.errors import InvalidRequest
from quart_app.domain.jobs import (
    Change,
    Draft,
    Failure,
    Job,
    KeptStep,
    LogLine,
    Note,
    Postponed,
    Progress,
    RequestKey,
)
from quart_app.domain.outcomes import Outcome
from quart_app.domain.status import Move, Reason

Clock = Callable[[], float]

CLAIM, SUCCEED = Move.CLAIM, Move.SUCCEED
"""Bound once: before Python 3.12 looking up a member of an enum costs as much as a call."""


class Ledger:
    """Writes, and tells.

    Args:
        store: where jobs are kept.
        hub: who is told.
        max_waiting: how many jobs may wait (scheduled or queued) at once.
        clock: seconds since the epoch (`quart_app.core.clock`).
        log_lines, log_bytes: how much is kept of a job's log, the newest of it.
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        *,
        max_waiting: int,
        clock: Clock = time.time,
        log_lines: int = 1_000,
        log_bytes: int = 256 * 2**10,
    ) -> None:
        self._store = store
        self._hub = hub
        self._max_waiting = max_waiting
        self._log_lines = log_lines
        self._log_bytes = log_bytes
        self._instant = cast(InstantStore, store)
        self.instant = store.volatile and isinstance(store, InstantStore) and store.instant
        """Whether `open_now`, `claim_now` and `succeed_now` may be called."""
        self.clock = clock
        self.worker: str | None = None
        """The id of this process, where several claim jobs."""
        self.on_scheduled: Callable[[float], None] = lambda run_at: None
        """Told of the moment at which a job that was just scheduled is due."""

    async def open(
        self,
        jobs: Sequence[Job],
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        """Keep new jobs, all or none; see `Store.add` for what comes back and is raised."""
        kept, new = await self._store.add(jobs, self._max_waiting, key, max_of_task)
        if new:
            # In the place of some there may be one of their kind, which was told of before.
            for job in kept if len(kept) == 1 else _fresh(kept, jobs):
                if self._hub.attentive:
                    self._hub.publish("open", job)
                if job.status == "scheduled":
                    self.on_scheduled(job.run_at or 0.0)
        return kept, new

    def open_now(self, job: Job) -> None:
        """As `open`, for one job of those that `InstantStore.add_now` takes."""
        self._instant.add_now(job, self._max_waiting)
        if self._hub.attentive:
            self._hub.publish("open", job)

    async def open_within(
        self,
        connection: Any,
        jobs: Sequence[Job],
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        """Keep new jobs if, and when, somebody else's transaction is committed; see
        `SharedStore.add_within`. They are told of then, by the store."""
        if not self._store.shared:
            message = (
                "a start within a transaction of yours needs jobs that are kept in the same "
                "database: QUART_APP_STORE=postgresql://..."
            )
            raise InvalidRequest(message)
        store = cast(SharedStore, self._store)
        return await store.add_within(connection, jobs, self._max_waiting, key, max_of_task)

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
        if job is not None and (self._hub.attentive or move.terminal):
            self._hub.publish(move.label, job)
        return job

    async def claim(self, job_id: str) -> Job | None:
        """A job begins here, or None where somebody else was first."""
        job = await self._store.move(job_id, Change(CLAIM, self.clock(), worker=self.worker))
        if job is not None and self._hub.attentive:
            self._hub.publish("claim", job)
        return job

    def claim_now(self, job_id: str) -> Job | None:
        """As `claim`, where the store never waits."""
        job = self._instant.move_now(job_id, Change(CLAIM, self.clock()))
        if job is not None and self._hub.attentive:
            self._hub.publish("claim", job)
        return job

    def succeed_now(self, job: Job, result: bytes | None) -> Job | None:
        """As `settle`, of an attempt that has succeeded, where the store never waits."""
        change = Change(SUCCEED, self.clock(), job.attempt, None, result)
        settled = self._instant.move_now(job.id, change)
        if settled is not None:
            self._hub.publish("succeed", settled)
        return settled

    async def settle(self, job: Job, outcome: Outcome) -> Job | None:
        """Write how an attempt has ended, or None where somebody else was first."""
        now = self.clock()
        run_at = None if outcome.after is None else now + outcome.after
        change = Change(
            outcome.move,
            now,
            job.attempt,
            outcome.reason,
            outcome.result,
            outcome.error,
            run_at,
            outcome.cause,
        )
        settled = await self._store.move(job.id, change)
        if settled is not None:
            self._hub.publish(outcome.move.label, settled)
            if run_at is not None:
                self.on_scheduled(run_at)
        return settled

    async def tell_settled(self, job: Job, outcome: Outcome) -> Job | None:
        """Tell of an outcome that the store has taken after all, though it could not say so."""
        settled = await self._store.get(job.id)
        if (
            settled is None
            or settled.status != outcome.move.target
            or (settled.reason, settled.result) != (outcome.reason, outcome.result)
        ):
            return None  # Somebody else was first, and has told.
        self._hub.publish(outcome.move.label, settled)
        return settled

    async def replay(self, job_id: str, what: Change | Note) -> Job | None:
        """Write a move or a note as it was made elsewhere (`quart_app.domain.replay`), or None
        where it does not hold."""
        if isinstance(what, Change):
            return await self._store.move(job_id, what)
        return await self._store.note(job_id, what)

    async def replay_step(self, job_id: str, name: str, step: KeptStep) -> bool:
        """Keep a step as it was kept elsewhere, or say that this attempt is not the job's."""
        return await self._store.keep_step(job_id, name, step)

    async def keep_step(self, job: Job, name: str, result: bytes) -> bool:
        """Keep the result of a step, or say that this attempt is not the job's any more."""
        step = KeptStep(result, job.attempt, self.clock())
        return await self._store.keep_step(job.id, name, step)

    async def log(self, job: Job, drafts: Sequence[Draft]) -> list[LogLine]:
        """Keep lines of a job's log, as many as may be, and tell those who follow the job."""
        lines = await self._store.log(job.id, drafts, self._log_lines, self._log_bytes)
        if self._hub.attentive:
            self._hub.publish_lines(job.id, lines)
        return lines

    async def keep_fact(self, name: str, value: bytes | None) -> None:
        """Keep a small fact that belongs to no job; see `Store.keep_fact`."""
        await self._store.keep_fact(name, value)

    async def note(
        self,
        job_id: str,
        *,
        attempt: int | None = None,
        cancel_requested: bool = False,
        unresponsive: bool = False,
        progress: Progress | None = None,
        postponed: Postponed | None = None,
        waits: bool | None = None,
    ) -> Job | None:
        """Write a fact about a job that is not over, or None where there is nothing to write."""
        note = Note(
            at=self.clock(),
            attempt=attempt,
            cancel_requested=cancel_requested,
            unresponsive=unresponsive,
            progress=progress,
            postponed=postponed,
            waits=waits,
        )
        job = await self._store.note(job_id, note)
        if job is not None and self._hub.attentive:
            self._hub.publish("note", job)
        return job


def _fresh(kept: Sequence[Job], asked: Sequence[Job]) -> list[Job]:
    """Those that are new: what was asked for, and no older one instead."""
    return [job for job, new in zip(kept, asked, strict=True) if job.id == new.id]
