"""The job document: one shape for start, cancel, look, list and stream.

Only the translation of a job's record into that shape may live here.
"""

from __future__ import annotations

import functools
import math
import time
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from quart_app.core.service import Service
from quart_app.domain.jobs import Attempt, Failure, Job
from quart_app.domain.secrets import hide
from quart_app.domain.status import Reason, Status

Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Link = Annotated[str, Meta(extra_json_schema={"format": "uri"})]


class AttemptDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier attempt of a job, and why it ended."""

    attempt: int
    started: Moment
    ended: Moment
    reason: Reason
    error: Failure | UnsetType = UNSET
    worker: str | UnsetType = UNSET


class JobDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A job as clients see it. Times are RFC 3339 in UTC, with milliseconds."""

    id: str
    task: str
    status: Status
    reason: Reason | None
    args: Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
    tags: tuple[str, ...]
    attempt: int
    max_attempts: int
    created: Moment
    run_at: Moment | None
    expires: Moment | UnsetType = UNSET
    started: Moment | None
    finished: Moment | None
    updated: Moment
    progress: Annotated[float, Meta(ge=0, le=100)] | None
    message: str | None
    eta: Moment | None
    position: int | None
    cancel_requested: Moment | None
    unresponsive: bool | UnsetType = UNSET
    retry_of: str | None
    parent: str | None
    children: Link | UnsetType = UNSET
    worker: str | UnsetType = UNSET
    url: Link
    result: Raw | UnsetType = UNSET
    error: Failure | UnsetType = UNSET
    attempts: tuple[AttemptDocument, ...] | UnsetType = UNSET


class TaskDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A task as clients see it. ``durations`` are seconds of its jobs that have succeeded."""

    name: str
    description: str
    arguments: dict[str, Any]
    result: dict[str, Any]
    policy: dict[str, Any]
    paused: bool
    next: Moment | None
    tags: tuple[str, ...]
    durations: dict[str, Any]
    url: Link
    start: Link


@functools.lru_cache(maxsize=1024)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def moment(at: float | None) -> str | None:
    """A moment as text (RFC 3339); milliseconds are cut and not rounded, so that order is kept.

    >>> moment(1795362821.4149)
    '2026-11-22T15:53:41.414Z'
    """
    if at is None:
        return None
    milliseconds = int(at * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


def document(job: Job, service: Service, base: str) -> JobDocument:
    """A job's document.

    Args:
        base: the absolute URL under which the routes are mounted.
    """
    progress = job.progress
    return JobDocument(
        id=job.id,
        task=job.task,
        status=job.status,
        reason=job.reason,
        args=Raw(hide(job.args)),
        tags=job.tags,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        created=moment(job.created_at) or "",
        run_at=moment(job.run_at),
        expires=moment(job.expires_at) or UNSET,
        started=moment(job.started_at),
        finished=moment(job.finished_at),
        updated=moment(job.updated_at) or "",
        progress=None if progress is None else progress.percent,
        message=None if progress is None else progress.message,
        eta=moment(service.outlook.eta(job)),
        position=service.outlook.position(job),
        cancel_requested=moment(job.cancel_requested_at),
        unresponsive=job.unresponsive or UNSET,
        retry_of=job.retry_of,
        parent=job.parent,
        children=f"{base}/jobs?parent={job.id}" if service.may_start(job) else UNSET,
        worker=job.worker or UNSET,
        url=f"{base}/jobs/{job.id}",
        result=Raw(job.result or b"null") if job.status == "succeeded" else UNSET,
        error=job.error or UNSET if job.status == "failed" else UNSET,
        attempts=tuple(map(_attempt, job.history)) or UNSET,
    )


def _attempt(attempt: Attempt) -> AttemptDocument:
    return AttemptDocument(
        attempt=attempt.attempt,
        started=moment(attempt.started_at) or "",
        ended=moment(attempt.ended_at) or "",
        reason=attempt.reason,
        error=attempt.error or UNSET,
        worker=attempt.worker or UNSET,
    )


encode = msgspec.json.Encoder().encode
"""Any document as JSON."""


def encode_value(value: Any) -> bytes:
    """A plain value as JSON; the same encoder, named for what it is given."""
    return encode(value)


def later(job: Job, service: Service) -> tuple[str, str]:
    """The header that says when to look again (RFC 9110, 10.2.3)."""
    return ("Retry-After", str(math.ceil(service.outlook.retry_after(job))))


def located(job: Job, url: str, service: Service) -> list[tuple[str, str]]:
    """Where to look next (RFC 9110, 10.2.2, and the Azure guidelines), and when."""
    return [("Location", url), ("Operation-Location", url), later(job, service)]
