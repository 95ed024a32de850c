"""``quart-app bench``: how many jobs a second the service takes, and ends.

Only the measurement may live here.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import click

from quart_app.cli.arguments import convert
from quart_app.cli.completion import complete_task
from quart_app.cli.ends import FAILED, Stop
from quart_app.cli.looking import AS_JSON
from quart_app.cli.remote import LONG, Remote, with_service
from quart_app.cli.terminal import put, put_json, say
from quart_app.cli.words import between, took
from quart_app.client import calls, flows
from quart_app.client.asynchronous import AsyncLink
from quart_app.client.documents import JobDocument
from quart_app.domain.options import Options

POLL = 0.1
"""Seconds between two looks at how many are over."""
SLACK = dt.timedelta(seconds=2)
"""How much earlier than the first job the list is looked at."""


@dataclass
class Measured:
    """What was seen: ids of the jobs, and the seconds for each answer."""

    ids: set[str] = field(default_factory=set)
    answers: list[float] = field(default_factory=list)
    first: JobDocument | None = None
    seconds: float = 0.0


@click.command()
@with_service
@click.argument("pairs", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--jobs", "count", type=click.IntRange(1, 10_000), default=1_000, show_default=True)
@click.option("--task", required=True, metavar="TASK", shell_complete=complete_task, help="Needed.")
@click.option("--at-once", type=click.IntRange(1, 500), default=32, show_default=True)
@AS_JSON
def bench(
    remote: Remote, pairs: tuple[str, ...], count: int, task: str, at_once: int, as_json: bool
) -> None:
    """Measure the service: starts a second, and jobs a second from start to end.

    Real jobs of the task are started. This program is one of the limits: it takes about as much of
    a processor as the service.
    """
    schema = remote.ask(calls.get_task(task)).arguments
    body = json.dumps(convert(task, pairs, schema)).encode()
    say(f"starting {count} jobs of {task} at {remote.shown}, {at_once} at once")
    measured = asyncio.run(_start_all(remote, task, body, count, at_once))
    figures = _figures(measured, _ended(remote, task, measured), task)
    if as_json:
        put_json(figures)
        return
    put(f"starts      {figures['starts_per_second']:,.0f}/s")
    put(f"            p50 {took(figures['start_p50'])}, p95 {took(figures['start_p95'])}")
    put(f"start->end  {figures['ends_per_second']:,.0f}/s")
    put(f"            p50 {took(figures['end_p50'])}, p95 {took(figures['end_p95'])}")
    put("ended       " + ", ".join(f"{n} {name}" for name, n in figures["statuses"].items()))


async def _start_all(remote: Remote, task: str, body: bytes, count: int, at_once: int) -> Measured:
    link = remote.asynchronous(flows.Pace(timeout=LONG))
    measured = Measured()
    numbers = iter(range(count))
    began = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, count)):
                group.create_task(_start_some(link, task, body, numbers, measured))
    except ExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
    finally:
        await link.http.aclose()
    measured.seconds = time.perf_counter() - began
    return measured


async def _start_some(
    link: AsyncLink, task: str, body: bytes, numbers: Any, measured: Measured
) -> None:
    for _ in numbers:
        began = time.perf_counter()
        job = await link.ask(calls.start(task, body, Options(key=uuid.uuid4().hex)))
        measured.answers.append(time.perf_counter() - began)
        measured.ids.add(job.id)
        measured.first = measured.first or job


def _ended(remote: Remote, task: str, measured: Measured) -> list[JobDocument]:
    """The documents of all, when they are over."""
    since = _since(measured)
    while True:
        counts = remote.ask(calls.count(task=task, since=since)).counts
        open_ones = sum(counts.get(name, 0) for name in ("scheduled", "queued", "running"))
        if not open_ones:
            break
        time.sleep(POLL)
    jobs = [
        job
        for job in remote.each(flows.all_jobs(remote.pace, {"task": task, "since": since}))
        if job.id in measured.ids
    ]
    if not jobs:
        raise Stop("the jobs are not kept: QUART_APP_RETAIN_COUNT must be more than --jobs", FAILED)
    return jobs


def _since(measured: Measured) -> dt.datetime:
    moment = measured.first.created if measured.first else None
    return (moment or dt.datetime.now(dt.UTC)) - SLACK


def _figures(measured: Measured, jobs: list[JobDocument], task: str) -> dict[str, Any]:
    times = sorted(filter(None, (between(job.created, job.finished) for job in jobs)))
    ends = [job.finished for job in jobs if job.finished is not None]
    starts = [job.created for job in jobs if job.created is not None]
    span = between(min(starts), max(ends)) or 0.001
    statuses: dict[str, int] = {}
    for job in jobs:
        statuses[job.status] = statuses.get(job.status, 0) + 1
    answers = sorted(measured.answers)
    return {
        "task": task,
        "jobs": len(measured.ids),
        "kept": len(jobs),
        "starts_per_second": round(len(measured.ids) / measured.seconds, 1),
        "start_p50": _quantile(answers, 0.5),
        "start_p95": _quantile(answers, 0.95),
        "ends_per_second": round(len(jobs) / max(span, 0.001), 1),
        "end_p50": _quantile(times, 0.5),
        "end_p95": _quantile(times, 0.95),
        "statuses": statuses,
    }


def _quantile(values: list[float], share: float) -> float:
    return round(values[min(len(values) - 1, int(share * len(values)))], 6) if values else 0.0
