"""Documents as they are printed: as JSON in the service's own shape, and as cells of a table.

Nothing may live here that asks the service or writes.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import msgspec

from quart_app.cli.words import ago, between, moment_text, took
from quart_app.client.documents import JobDocument

JOB_HEADINGS = ("ID", "TASK", "STATUS", "CREATED", "TOOK", "WHAT")
COLUMNS = (
    "id", "task", "status", "reason", "created", "started", "finished", "seconds", "attempt",
    "progress", "message", "error", "args", "tags",
)  # fmt: skip
"""Of ``--csv``."""
STATUS_COLUMN = 2


def plain(document: Any) -> Any:
    """A document as plain values, as the service has written it.

    >>> plain(JobDocument(id="7", task="t", status="queued"))["status"]
    'queued'
    """
    value = _walk(msgspec.to_builtins(document, builtin_types=(dt.datetime,)))
    if isinstance(document, JobDocument):
        if document.status != "succeeded":
            del value["result"]
        if value["error"] is not None and value["error"]["traceback"] is None:
            del value["error"]["traceback"]
        for name in ("error", "expires", "worker"):
            if value[name] is None:
                del value[name]
        for name in ("unresponsive", "attempts"):
            if not value[name]:
                del value[name]
    return value


def _walk(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return moment_text(value)
    if isinstance(value, dict):
        return {name: _walk(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(each) for each in value]
    return value


def seconds(job: JobDocument, now: dt.datetime) -> float | None:
    """How long it has run."""
    return between(job.started, job.finished or now)


def what(job: JobDocument) -> str:
    """What there is to say besides the status."""
    if job.error is not None:
        return f"{job.error.code}: {job.error.message}"
    if job.status == "succeeded" and job.result is not None:
        return short(job.result)
    parts: list[str] = []
    if job.cancel_requested is not None and not job.over:
        parts.append("cancel requested")
    if job.unresponsive:
        parts.append("unresponsive")
    if job.progress is not None and not job.over:
        parts.append(f"{job.progress:.0f}%")
    if job.position is not None:
        parts.append(f"number {job.position} of those that wait")
    if job.status == "scheduled" and job.run_at is not None:
        parts.append(ago(job.run_at, dt.datetime.now(dt.UTC)))
    if job.message:
        parts.append(job.message)
    if not parts and job.status in ("failed", "canceled") and job.reason:
        parts.append(job.reason)
    return ", ".join(parts)


def short(value: Any) -> str:
    """A value as JSON, of which the beginning is enough."""
    return json.dumps(value, ensure_ascii=False, default=str)[:300]


def job_row(job: JobDocument, now: dt.datetime) -> list[str]:
    """A job as cells below `JOB_HEADINGS`."""
    created, run = ago(job.created, now), took(seconds(job, now))
    return [job.id, job.task, job.status, created, run, what(job)]


def job_record(job: JobDocument, now: dt.datetime) -> list[Any]:
    """A job as values below `COLUMNS`."""
    run = seconds(job, now)
    return [
        job.id, job.task, job.status, job.reason or "",
        *("" if each is None else moment_text(each) for each in _moments(job)),
        "" if run is None else f"{run:.3f}", job.attempt,
        "" if job.progress is None else job.progress, job.message or "",
        "" if job.error is None else f"{job.error.code}: {job.error.message}",
        json.dumps(job.args, ensure_ascii=False), " ".join(job.tags),
    ]  # fmt: skip


def _moments(job: JobDocument) -> tuple[dt.datetime | None, ...]:
    return job.created, job.started, job.finished
