"""What the service answers, as frozen values. Members that a newer service has are ignored, and of
those that an older one lacks each has a default.

Only the shapes may live here. Moments are ``datetime`` with a time zone, durations are seconds.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from quart_app.domain.status import TERMINAL, Status

Moment = dt.datetime


class Failure(msgspec.Struct, frozen=True):
    """Why a job, or an attempt, failed."""

    code: str = ""
    message: str = ""
    traceback: str | None = None


class AttemptDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier attempt of a job, and why it ended."""

    attempt: int = 0
    started: Moment | None = None
    ended: Moment | None = None
    reason: str | None = None
    error: Failure | None = None
    worker: str | None = None


class JobDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A job. ``result`` is set when it has succeeded, ``error`` when it has failed.

    >>> msgspec.json.decode(b'{"id": "7", "task": "t", "status": "queued"}', type=JobDocument).over
    False
    """

    id: str
    task: str
    status: Status
    reason: str | None = None
    args: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    attempt: int = 0
    max_attempts: int = 1
    created: Moment | None = None
    run_at: Moment | None = None
    expires: Moment | None = None
    started: Moment | None = None
    finished: Moment | None = None
    updated: Moment | None = None
    progress: float | None = None
    message: str | None = None
    eta: Moment | None = None
    position: int | None = None
    cancel_requested: Moment | None = None
    unresponsive: bool = False
    retry_of: str | None = None
    parent: str | None = None
    worker: str | None = None
    url: str = ""
    result: Any = None
    error: Failure | None = None
    attempts: tuple[AttemptDocument, ...] = ()

    @property
    def over(self) -> bool:
        """Whether the status is final."""
        return self.status in TERMINAL


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a job's log; ``line`` counts from 1."""

    seq: int
    line: int
    time: Moment
    level: str
    text: str


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a job's timeline; ``since`` is seconds after the job was opened."""

    step: int
    time: Moment
    since: float
    action: str
    where: str = ""
    response: str = ""
    status: str = ""


class TaskDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A task: ``arguments`` and ``result`` are JSON Schemas, ``durations`` seconds."""

    name: str
    description: str = ""
    arguments: dict[str, Any] = {}
    result: dict[str, Any] = {}
    policy: dict[str, Any] = {}
    paused: bool = False
    next: Moment | None = None
    tags: tuple[str, ...] = ()
    durations: dict[str, Any] = {}
    url: str = ""
    start: str = ""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs there are by status; ``capped`` where the service stopped counting."""

    counts: dict[str, int]
    total: int
    capped: bool = False


class Canceled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a cancel of many."""

    matched: int
    canceled: int = 0
    canceling: int = 0


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a retry of many; ``jobs`` are ids of the new ones, at most 100."""

    matched: int
    retried: int = 0
    jobs: tuple[str, ...] = ()


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a task starts by itself."""

    task: str
    cron: str | None = None
    every: float | None = None
    timezone: str | None = None
    words: str = ""
    missed: str = ""
    paused: bool = False
    next: tuple[Moment, ...] = ()
    day: tuple[Moment, ...] = ()


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that half of the jobs, and nearly all of them, took."""

    p50: float | None = None
    p95: float | None = None


class TaskStats(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one task: its jobs, how long they wait and how long they run."""

    counts: dict[str, int] = {}
    wait: Quantiles = Quantiles()
    run: Quantiles = Quantiles()


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that ended in each ``bucket`` seconds since ``since``, the oldest first."""

    bucket: float = 10.0
    since: Moment | None = None
    succeeded: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    canceled: tuple[int, ...] = ()


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """How the service does; ``lag`` and ``oldest_wait`` are seconds."""

    now: Moment
    counts: dict[str, int] = {}
    oldest_wait: float | None = None
    lag: float = 0.0
    running: int = 0
    watchers: int = 0
    failed_last_hour: int = 0
    throughput: Throughput = Throughput()
    tasks: dict[str, TaskStats] = {}


class ErrorGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Failed jobs with the same error; ``trend`` counts them over the span, the oldest first."""

    fingerprint: str
    code: str = ""
    message: str = ""
    task: str = ""
    count: int = 0
    first: Moment | None = None
    last: Moment | None = None
    jobs: tuple[str, ...] = ()
    trend: tuple[int, ...] = ()


class WorkerDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A process that works with the jobs."""

    id: str
    host: str = ""
    pid: int = 0
    kind: str = ""
    started_at: Moment | None = None
    only: tuple[str, ...] = ()
    running: int = 0
    room: int = 0
    draining: bool = False


class JobPage(msgspec.Struct, frozen=True):
    """One page of a list, and the URL of the next."""

    jobs: tuple[JobDocument, ...]
    next: str | None = None


class Many(msgspec.Struct, frozen=True):
    """What a start of many answers."""

    jobs: tuple[JobDocument, ...]


class TaskList(msgspec.Struct, frozen=True):
    """The catalog."""

    tasks: list[TaskDocument]


class ScheduleList(msgspec.Struct, frozen=True):
    """All schedules."""

    schedules: list[Schedule]


class ErrorReport(msgspec.Struct, frozen=True, kw_only=True):
    """The errors of failed jobs, of which ``scanned`` were looked at."""

    errors: tuple[ErrorGroup, ...]
    scanned: int = 0
    capped: bool = False


class WorkerList(msgspec.Struct, frozen=True):
    """All processes."""

    workers: list[WorkerDocument]


class Timeline(msgspec.Struct, frozen=True):
    """What happened in a job."""

    timeline: list[TimelineEntry]
