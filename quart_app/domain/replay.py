"""The moves and notes by which a job has become what it is, found from what it is.

So a job can be written anew by the rules that hold everywhere, wherever it is kept. What it was in
between, and nobody can know any more, is made up; what it is in the end is not. Nothing may live
here that writes.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from quart_app.domain.jobs import (
    Attempt,
    Change,
    Job,
    KeptStep,
    LogLine,
    Note,
    RequestKey,
    annotate,
    apply,
)
from quart_app.domain.status import Move, Status

BEGUN: dict[Status, Move] = {
    "succeeded": Move.SUCCEED,
    "failed": Move.FAIL,
    "canceled": Move.CANCEL,
}
"""How a job whose last attempt had begun came to its end."""
WAITED: dict[Status, Move] = {"failed": Move.EXPIRE, "canceled": Move.WITHDRAW}
"""And one that waited."""


class Opened(NamedTuple):
    """Jobs of one task that were opened together, in their order; with their key, if any, and with
    what is kept beside them, by their ids."""

    jobs: list[Job]
    key: RequestKey | None
    steps: dict[str, dict[str, KeptStep]]
    lines: dict[str, list[LogLine]]


def opened(job: Job) -> Job:
    """A job as it was when it was opened."""
    waits = job.status == "scheduled" and not job.history
    return replace(
        job,
        status="scheduled" if waits else "queued",
        reason=None,
        attempt=0,
        updated_at=job.created_at,
        run_at=None if job.history else job.run_at,
        started_at=None,
        finished_at=None,
        progress=None,
        cancel_requested_at=None,
        unresponsive=False,
        result=None,
        error=None,
        history=(),
        worker=None,
        waits=False,
        order=0,
        seq=0,
    )


def story(job: Job, worker: str | None = None) -> list[Change | Note]:
    """What brings `opened` to what the job is, but for its ``order`` and ``seq``.

    Args:
        job: as it is.
        worker: in whose name an attempt runs that has not ended.

    >>> job = Job(id="a", task="t", status="succeeded", attempt=1, started_at=2.0, finished_at=3.0)
    >>> [each.move.label for each in story(job)]
    ['claim', 'succeed']
    """
    told: list[Change | Note] = []
    begun = job.started_at is not None
    after = job.attempt if begun else job.attempt + 1
    entries = job.history
    if entries:
        for _ in range(1, entries[0].attempt):  # Of those only the number is known.
            told.append(Change(Move.CLAIM, job.created_at))
            told.append(Change(Move.RESCUE, job.created_at, reason="lost"))
    for place, entry in enumerate(entries):
        following = entries[place + 1].attempt if place + 1 < len(entries) else after
        told.append(Change(Move.CLAIM, entry.started_at, worker=entry.worker))
        if place + 1 < len(entries):
            told.append(_put_back(entry, following))
        else:
            told += _put_back_last(job, entry, following)
    if begun:
        by = worker if job.status == "running" else job.worker
        told.append(Change(Move.CLAIM, job.started_at or 0.0, worker=by))
    told += _notes(job)
    if job.over:
        move = (BEGUN if begun else WAITED)[job.status]
        at = job.finished_at or job.updated_at
        told.append(Change(move, at, None, job.reason, job.result, job.error))
    return told


def _put_back(entry: Attempt, following: int) -> Change:
    move = Move.INTERRUPT if following == entry.attempt else Move.RESCUE
    return Change(move, entry.ended_at, error=entry.error, cause=entry.reason)


def _put_back_last(job: Job, entry: Attempt, following: int) -> list[Change]:
    """How the attempt before the last ended, or the last one of a job that waits again."""
    due = job.status == "queued" and job.run_at is not None
    if following == entry.attempt:
        move = Move.INTERRUPT
    else:
        move = Move.RETRY if job.status == "scheduled" or due else Move.RESCUE
    reason = None if job.over else job.reason
    change = Change(move, entry.ended_at, None, reason, None, entry.error, job.run_at, entry.reason)
    return [change, *([Change(Move.DUE, job.updated_at)] if move is Move.RETRY and due else [])]


def _notes(job: Job) -> list[Change | Note]:
    notes: list[Change | Note] = []
    if job.cancel_requested_at is not None:
        notes.append(Note(at=job.cancel_requested_at, cancel_requested=True))
    if job.progress is not None or (job.unresponsive and job.status == "running"):
        stuck = job.unresponsive
        notes.append(Note(at=job.updated_at, progress=job.progress, unresponsive=stuck))
    return notes


def told_already(job: Job, told: list[Change | Note], now: Job) -> int:
    """How much of a job's story has been told to one that has become ``now`` by it.

    >>> job = Job(id="a", task="t", status="failed", finished_at=3.0, updated_at=3.0)
    >>> told_already(job, story(job), opened(job)), told_already(job, story(job), job)
    (0, 1)
    """
    version, found = opened(job), 0
    for number, each in enumerate(told, 1):
        make = apply if isinstance(each, Change) else annotate
        after = make(version, each, 0)  # type: ignore[arg-type]
        if after is not None:
            version = after
        if _looks(version) == _looks(now):
            found = number
    return found


def _looks(job: Job) -> tuple[object, ...]:
    return (job.status, job.attempt, job.updated_at, len(job.history), job.progress)
