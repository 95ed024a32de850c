"""What people ask about many jobs, or about the code of one: counts, kinds of errors, retries of
all that match, the stack of what runs.

Nothing may live here that knows how it is shown.
"""

from __future__ import annotations

import linecache
import sys
import traceback
from types import FrameType
from typing import Any

import msgspec

from quart_app.core.many import each
from quart_app.core.service import Service
from quart_app.domain.errors import NotFinished, NotRunning
from quart_app.domain.filters import Filter, fingerprint
from quart_app.domain.jobs import Failure, Job
from quart_app.domain.queries import Query
from quart_app.domain.status import STATUSES, TERMINAL, Status

COUNTED = 10_000
"""Jobs that are looked at for a count."""
FAILED = 5_000
"""Failed jobs that are looked at for kinds of errors."""
BINS = 24
SAMPLES = 5
TOLD = 100
"""Ids of new jobs that a retry of many tells."""
DEEPEST = 100


class Kind(msgspec.Struct):
    """Errors that are alike. ``trend`` are counts, the oldest first."""

    fingerprint: str
    code: str
    message: str
    task: str
    count: int
    first: float
    last: float
    jobs: list[str]
    trend: list[int]


class Line(msgspec.Struct, frozen=True):
    """A place in the code."""

    file: str
    line: int
    function: str
    code: str


async def count(service: Service, query: Query) -> tuple[dict[Status, int], bool]:
    """How many pass, by status, and whether there may be more than were looked at."""
    if query == Query(limit=query.limit):
        return await service.store.counts(), False
    counts: dict[Status, int] = dict.fromkeys(STATUSES, 0)
    looked = 0
    async for job in each(service, query, COUNTED + 1):
        looked += 1
        if looked > COUNTED:
            return counts, True
        counts[job.status] += 1
    return counts, False


async def failed_since(service: Service, since: float) -> int:
    """How many of the newest jobs have failed since then."""
    query = Query(statuses=frozenset({"failed"}))
    found = 0
    async for job in each(service, query, FAILED):
        if (job.finished_at or 0.0) >= since:
            found += 1
        elif job.created_at < since:
            break
    return found


async def kinds_of_errors(
    service: Service, task: str | None, since: float
) -> tuple[list[Kind], int, bool]:
    """The errors since a moment by kind, those that came last first; how many jobs were looked at,
    and whether there are more."""
    now = service.ledger.clock()
    query = Query(statuses=frozenset({"failed"}), task=task, also=Filter(since=since, now=now))
    kinds: dict[str, Kind] = {}
    looked = 0
    async for job in each(service, query, FAILED + 1):
        looked += 1
        if looked > FAILED:
            break
        if job.error is not None:
            _take(kinds, job, job.error, since, now)
    found = sorted(kinds.values(), key=lambda kind: -kind.last)
    return found, min(looked, FAILED), looked > FAILED


def _take(kinds: dict[str, Kind], job: Job, error: Failure, since: float, now: float) -> None:
    name = fingerprint(job.task, error)
    at = job.finished_at or job.updated_at
    kind = kinds.get(name)
    if kind is None:
        kind = Kind(name, error.code, error.message, job.task, 0, at, at, [], [0] * BINS)
        kinds[name] = kind
    kind.count += 1
    kind.first, kind.last = min(kind.first, at), max(kind.last, at)
    if len(kind.jobs) < SAMPLES:
        kind.jobs.append(job.id)
    share = (at - since) / max(1e-9, now - since)
    kind.trend[min(BINS - 1, max(0, int(share * BINS)))] += 1


class Retried(msgspec.Struct, frozen=True):
    """What became of a retry of many; the ids are those of the first new jobs."""

    matched: int
    retried: int
    jobs: list[str]


async def retry_matching(service: Service, query: Query, *, dry_run: bool) -> Retried:
    """Run every job that passes and is over again, as a new job; or only count them.

    Raises:
        QueueFull, TaskFull, Draining, StoreUnavailable: those before it were started.
    """
    statuses = (query.statuses or TERMINAL) & TERMINAL
    matched, started = 0, list[str]()
    if statuses:
        # Known before the first new job is opened: a retry is not retried.
        found = [
            job.id
            async for job in each(
                service, msgspec.structs.replace(query, statuses=statuses), COUNTED
            )
        ]
        matched = len(found)
        if not dry_run:
            _, started = await retry_each(service, found)
    return Retried(matched, len(started), started[:TOLD])


async def retry_each(service: Service, job_ids: list[str]) -> tuple[int, list[str]]:
    """Run these again; one that is unknown, or not over, is passed over. How many are known, and
    the new ids."""
    known, started = 0, list[str]()
    for job_id in dict.fromkeys(job_ids):
        job = await service.store.get(job_id)
        known += job is not None
        if job is None or not job.over or job.task not in service.catalog:
            continue
        try:
            started.append((await service.retry(job_id)).id)
        except NotFinished:
            continue
    return known, started


async def stack(service: Service, job_id: str) -> tuple[str, list[Line]]:
    """Where the code of a running job is, and its lines from the outermost of the user's on.

    Raises:
        NoSuchJob, NotRunning: there is nothing that runs.
    """
    job = await service.get(job_id)
    if job.status != "running":
        message = f"Job {job_id} is {job.status}: only the code of a running job can be seen"
        raise NotRunning(message)
    handle = service.registry.get(job_id)
    task = service.catalog.get(job.task)
    if handle is None or task is None:
        return "elsewhere", []
    if task.run == "loop":
        return "loop", _of_coroutine(handle.task.get_coro())
    if task.run == "thread" and handle.thread is not None:
        frame = sys._current_frames().get(handle.thread)
        return "thread", _users([] if frame is None else list(traceback.walk_stack(frame))[::-1])
    return task.run, []


def _of_coroutine(coroutine: Any) -> list[Line]:
    frames: list[tuple[FrameType, int]] = []
    while coroutine is not None and len(frames) < DEEPEST:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        frame = frame or getattr(coroutine, "ag_frame", None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return _users(frames)


def _users(frames: list[tuple[FrameType, int]]) -> list[Line]:
    """The lines after ours: what the task's function does."""
    ours = [
        place
        for place, (frame, _) in enumerate(frames)
        if frame.f_globals.get("__name__", "").startswith("quart_app.core.")
        and frame.f_code.co_name in ("_on_loop", "_call_here")
    ]
    first = ours[0] + 1 if ours else 0
    return [
        Line(
            file=frame.f_code.co_filename,
            line=number,
            function=frame.f_code.co_qualname,
            code=linecache.getline(frame.f_code.co_filename, number).strip()[:200],
        )
        for frame, number in frames[first:]
    ]
