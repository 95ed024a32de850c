"""One job: its record, the changes that may be made to it, and the events that tell of them.

Every function here maps values to values: `apply` is the status table's fenced write as a pure
function, and every store does the same to its rows (`quart_app.testing.check_store` compares).
Nothing may live here that reads a clock, waits, or knows where a job is kept or runs.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from quart_app.domain.status import TERMINAL, Move, Reason, Status

EMPTY_ARGS = b"{}"
CLAIM, INTERRUPT, DUE = Move.CLAIM, Move.INTERRUPT, Move.DUE
"""Bound once: before Python 3.12 looking up a member of an enum costs as much as a call."""
DEBOUNCED = "debounce/"
"""How a `Job.unique` begins that holds only until the job is due."""
HISTORY = 50
"""Earlier attempts that a job's record has; shutdowns do not count, so there may be any number."""


class Failure(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Why a job failed: a short code (the exception's class) and a sentence for people. The
    traceback is in the log; it is kept here only while debugging is on."""

    code: str
    message: str
    traceback: str | None = None

    @property
    def size(self) -> int:
        """Characters of the message and the traceback."""
        return len(self.message) + len(self.traceback or "")


class Progress(msgspec.Struct, frozen=True, gc=False):
    """How far a job is: ``current`` of ``total`` units, and a line for people."""

    current: float
    total: float
    message: str | None = None

    @property
    def percent(self) -> float | None:
        """0 to 100, or None while the total is not known.

        >>> Progress(3, 8).percent
        37.5
        """
        if self.total <= 0:
            return None
        return min(100.0, max(0.0, round(100.0 * self.current / self.total, 2)))


class Attempt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An attempt that ended without ending its job, for a ``reason``. The one that a job is in, or
    that ended it, is told by the job's own fields."""

    attempt: int
    started_at: float
    ended_at: float
    reason: Reason
    error: Failure | None = None
    worker: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One execution of a task. Frozen: every change makes a new version with a higher ``seq``.

    Moments are seconds since the epoch (UTC), durations are seconds. ``args`` and ``result`` are
    JSON as bytes: what was checked is what is kept, shown and run. ``order`` is the place in which
    the job was opened and never changes; ``seq`` is that of its newest event. ``history`` has its
    earlier attempts, the newest `HISTORY` of them. ``turn`` is the key by which limits and fairness
    count it, ``unique`` the one of which its task has one unfinished job. ``worker`` is the process
    that its attempt began in, where there may be several; ``waits`` is noted there while the job
    waits for its children.
    """

    id: str
    task: str
    args: bytes = EMPTY_ARGS
    status: Status = "queued"
    reason: Reason | None = None
    tags: tuple[str, ...] = ()
    attempt: int = 0
    max_attempts: int = 1
    created_at: float = 0.0
    updated_at: float = 0.0
    run_at: float | None = None
    expires_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    progress: Progress | None = None
    cancel_requested_at: float | None = None
    unresponsive: bool = False
    retry_of: str | None = None
    parent: str | None = None
    key: str | None = None
    priority: int = 0
    turn: str | None = None
    unique: str | None = None
    result: bytes | None = None
    error: Failure | None = None
    history: tuple[Attempt, ...] = ()
    worker: str | None = None
    waits: bool = False
    order: int = 0
    seq: int = 0

    @property
    def over(self) -> bool:
        """Whether the status is final."""
        return self.status in TERMINAL

    @property
    def size(self) -> int:
        """Bytes of the caller's data that retention counts: arguments, result and error."""
        size = len(self.args)
        if self.result is not None:
            size += len(self.result)
        if self.error is not None:
            size += self.error.size
        if self.history:
            size += sum(each.error.size for each in self.history if each.error is not None)
        return size


class LogLine(msgspec.Struct, frozen=True, gc=False):
    """A line of a job's log. ``number`` counts the job's lines from 1: a first line that is kept
    with a higher one says how many were dropped. ``seq`` is of the same sequence as events."""

    seq: int
    number: int
    at: float
    level: str
    text: str

    @property
    def size(self) -> int:
        """What it counts where bytes are bounded; an empty line counts something, too."""
        return 16 + len(self.text)


class KeptStep(msgspec.Struct, frozen=True, gc=False):
    """A finished step: its result as JSON, and in which attempt and when it was finished."""

    result: bytes
    attempt: int
    at: float


News = Job | LogLine
"""What those who follow a job are told."""
Draft = tuple[float, str, str]
"""A line before the store has it: moment, level, text."""


class JobEvent(msgspec.Struct, frozen=True, gc=False):
    """What is told about a job: ``kind`` is the move's label, ``open`` or ``note``."""

    seq: int
    kind: str
    job: Job


class JobLine(msgspec.Struct, frozen=True, gc=False):
    """What is told about a job's log: a line, and whose it is."""

    job_id: str
    line: LogLine

    @property
    def seq(self) -> int:
        """That of the line."""
        return self.line.seq


Heard = JobEvent | JobLine
"""What is heard of other processes."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """A move to be made, fenced: it holds only for a job in the move's sources.

    Args:
        move: the row of the status table.
        at: the moment, seconds since the epoch.
        attempt: makes the change hold only for this attempt, so that a late writer is refused.
        reason, result, error, run_at: what becomes of the job's fields.
        cause: why the attempt ended, where that is not the job's ``reason`` (retry).
        worker: in which process the attempt begins.
    """

    move: Move
    at: float
    attempt: int | None = None
    reason: Reason | None = None
    result: bytes | None = None
    error: Failure | None = None
    run_at: float | None = None
    cause: Reason | None = None
    worker: str | None = None


class RequestKey(msgspec.Struct, frozen=True, gc=False):
    """What makes a start repeatable: a key of the caller's, and what was asked with it.

    Args:
        key: unique for the task; as in ``Idempotency-Key``.
        fingerprint: of the whole request, so that another one with the same key is seen.
    """

    key: str
    fingerprint: bytes


class Postponed(msgspec.Struct, frozen=True, gc=False):
    """A scheduled job is asked for again before it was due: with newer arguments, and later."""

    args: bytes
    run_at: float


class Note(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A fact about a job that is not over: it leaves the status alone."""

    at: float
    attempt: int | None = None
    cancel_requested: bool = False
    unresponsive: bool = False
    progress: Progress | None = None
    postponed: Postponed | None = None
    waits: bool | None = None


class Keep(msgspec.Struct, frozen=True, gc=False):
    """How many jobs of one final status are kept, for how many seconds, with how many bytes."""

    count: int
    age: float
    size: int


Retention = Mapping[Status, Keep]
"""What is kept of each final status."""


def apply(job: Job, change: Change, seq: int) -> Job | None:
    """The job after a change, or None where the fence refuses it (somebody else was first).

    >>> job = Job(id="a", task="t")
    >>> claimed = apply(job, Change(move=Move.CLAIM, at=1.0), 2)
    >>> claimed.status, claimed.attempt, claimed.started_at
    ('running', 1, 1.0)
    >>> apply(job, Change(move=Move.SUCCEED, at=1.0), 2) is None
    True
    """
    move = change.move
    if job.status not in move.sources:
        return None
    if change.attempt is not None and change.attempt != job.attempt:
        return None
    if move is CLAIM:
        if job.expires_at is not None and job.expires_at <= change.at and not job.history:
            return None  # It is too late to begin: upkeep will say so.
        return replace(
            job,
            status="running",
            reason=None,
            attempt=job.attempt + 1,
            started_at=change.at,
            updated_at=change.at,
            progress=None,
            worker=change.worker,
            waits=False,
            seq=seq,
        )
    return _ended(job, change, seq) if move.terminal else _put_back(job, change, seq)


def _ended(job: Job, change: Change, seq: int) -> Job:
    return replace(
        job,
        status=change.move.target,
        reason=change.reason,
        finished_at=change.at,
        updated_at=change.at,
        unresponsive=False,
        waits=False,
        result=change.result,
        error=change.error,
        seq=seq,
    )


def _put_back(job: Job, change: Change, seq: int) -> Job:
    if change.move is DUE:
        # What is asked for from now on is not put off until this job's moment: that has come.
        unique = None if (job.unique or "").startswith(DEBOUNCED) else job.unique
        return replace(job, status="queued", unique=unique, updated_at=change.at, seq=seq)
    ended = Attempt(
        attempt=job.attempt,
        started_at=job.started_at or change.at,
        ended_at=change.at,
        reason=change.cause or change.reason or "error",
        error=change.error,
        worker=job.worker,
    )
    return replace(
        job,
        status=change.move.target,
        reason=change.reason,
        worker=None,
        waits=False,
        # A shutdown is nobody's failure: the attempt that it cut off is not counted.
        attempt=job.attempt - 1 if change.move is INTERRUPT else job.attempt,
        run_at=change.run_at,
        started_at=None,
        updated_at=change.at,
        unresponsive=False,
        error=change.error,
        history=(*job.history, ended)[-HISTORY:],
        seq=seq,
    )


def annotate(job: Job, note: Note, seq: int) -> Job | None:
    """The job after a note, or None where it is over or another attempt's, or says nothing new."""
    if job.over or (note.attempt is not None and note.attempt != job.attempt):
        return None
    requested = job.cancel_requested_at
    if note.cancel_requested and requested is None:
        requested = note.at
    postponed = note.postponed
    if postponed is not None:
        if job.status != "scheduled":
            return None
        job = replace(job, args=postponed.args, run_at=postponed.run_at)
    noted = replace(
        job,
        cancel_requested_at=requested,
        # A job that was put back meanwhile waits: it is not the one that did not stop.
        unresponsive=job.unresponsive or (note.unresponsive and job.status == "running"),
        progress=note.progress or job.progress,
        waits=job.waits if note.waits is None else note.waits and job.status == "running",
    )
    if noted == job and postponed is None:
        return None
    return replace(noted, updated_at=note.at, seq=seq)
