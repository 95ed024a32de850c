"""A job's story as a table: what happened, where, what a user was answered, and when.

It is put together from the job's record, its attempts and its steps: there is no second account
that could say something else. Nothing may live here that knows how it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from quart_app.domain.jobs import Attempt, Job, KeptStep
from quart_app.domain.status import Status
from quart_app.domain.tasks import Lane

PLACES: dict[Lane | None, str] = {
    "loop": "event loop",
    "thread": "thread",
    "process": "process",
    None: "not known",
}
WEB, UPKEEP = "web process", "upkeep"


class Entry(msgspec.Struct, frozen=True):
    """One row.

    Args:
        at: the moment, seconds since the epoch.
        since: seconds after the job was opened.
        action: what happened, in words.
        where: the code that did it ran there.
        response: what a request for the job was answered from then on.
        status: the job's status from then on.
    """

    at: float
    since: float
    action: str
    where: str
    response: str
    status: Status


def timeline(job: Job, steps: Mapping[str, KeptStep], lane: Lane | None) -> list[Entry]:
    """The rows of a job, the oldest first.

    Args:
        job: its newest version.
        steps: its finished steps by name.
        lane: where its task's function runs; None where the task is not offered any more.

    >>> rows = timeline(Job(id="a", task="t", status="running", started_at=1.0), {}, "loop")
    >>> [(row.action, row.where, row.status) for row in rows]
    [('opened', 'web process', 'queued'), ('attempt 1 began', 'event loop', 'running')]
    """
    place = _place(lane, job.worker)
    rows = [_opened(job)]

    def add(at: float, action: str, where: str, status: Status) -> None:
        rows.append(
            Entry(at, max(0.0, at - job.created_at), action, where, f"200 {status}", status)
        )

    for attempt in job.history:
        where = _place(lane, attempt.worker)
        add(attempt.started_at, f"attempt {attempt.attempt} began", where, "running")
        add(attempt.ended_at, _ended(attempt), where, _after(attempt))
    if job.started_at is not None:
        add(job.started_at, f"attempt {max(1, job.attempt)} began", place, "running")
    for name, step in steps.items():
        add(step.at, f"step {name!r} finished", place, "running")
    if job.cancel_requested_at is not None:
        status: Status = "running" if job.started_at is not None else "queued"
        add(job.cancel_requested_at, "cancel was asked for", WEB, status)
    if job.finished_at is not None:
        where = place if job.started_at is not None else WEB
        add(job.finished_at, _end(job), UPKEEP if job.reason == "expired" else where, job.status)
    return sorted(rows, key=lambda row: row.at)


def _place(lane: Lane | None, worker: str | None) -> str:
    return PLACES[lane] if worker is None else f"{PLACES[lane]} of {worker}"


def _opened(job: Job) -> Entry:
    first: Status = "queued" if job.run_at is None or job.history else "scheduled"
    return Entry(job.created_at, 0.0, "opened", WEB, f"202 {first}", first)


def _ended(attempt: Attempt) -> str:
    error = "" if attempt.error is None else f": {attempt.error.code}: {attempt.error.message}"
    return f"attempt {attempt.attempt} ended, {attempt.reason}{error}"


def _after(attempt: Attempt) -> Status:
    return "queued" if attempt.reason in ("shutdown", "lost") else "scheduled"


def _end(job: Job) -> str:
    if job.status == "failed" and job.error is not None:
        return f"failed, {job.reason or 'error'}: {job.error.code}: {job.error.message}"
    if job.status == "canceled" and job.reason == "shutdown":
        return "canceled by the shutdown"
    return job.status
