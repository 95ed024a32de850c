"""The routes that tell what happened in a job: its log and its timeline.

Only translation may live here.
"""

from __future__ import annotations

from typing import Any

import msgspec
from quart import Blueprint, Response, request

from quart_app.core.timeline import Entry, timeline
from quart_app.domain.errors import BadInput
from quart_app.domain.jobs import Job, LogLine
from quart_app.http.documents import Moment, encode, moment
from quart_app.http.site import Site

ALL_LINES = 1_000_000
HEADINGS = ("step", "time", "action", "where", "response", "status")


class LineDocument(msgspec.Struct, frozen=True):
    """A line of a job's log; ``line`` counts from 1, ``seq`` is that of the stream's events."""

    seq: int
    line: int
    time: Moment
    level: str
    text: str


class EntryDocument(msgspec.Struct, frozen=True):
    """A row of a job's timeline; ``since`` is seconds after the job was opened."""

    step: int
    time: Moment
    since: float
    action: str
    where: str
    response: str
    status: str


class Timeline(msgspec.Struct, frozen=True):
    """What happened in a job, the oldest first."""

    id: str
    task: str
    timeline: list[EntryDocument]


class StoryRoutes:
    """Bound to one site.

    Args:
        site: where they are mounted.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def register(self, blueprint: Blueprint) -> None:
        """Put the routes into a blueprint."""
        add = blueprint.add_url_rule
        add("/jobs/<job_id>/log", "job_log", self.job_log, methods=["GET"])
        add("/jobs/<job_id>/timeline", "job_timeline", self.job_timeline, methods=["GET"])

    async def job_log(self, job_id: str) -> Response:
        """The log of a job, a line of JSON for each; the oldest may have been dropped."""
        after = read_after(request.args.get("after"))
        service = self._site.service
        await service.get(job_id)
        lines = await service.store.logs(job_id, after or 0, ALL_LINES)
        if after is None and lines and lines[0].number > 1:
            lines.insert(0, _dropped(lines[0]))
        body = b"".join(encode(line_document(line)) + b"\n" for line in lines)
        return _answer(body, "application/jsonl")

    async def job_timeline(self, job_id: str) -> Response:
        """What happened in a job: as JSON, or as a table for ``Accept: text/plain``."""
        service = self._site.service
        job = await service.get(job_id)
        task = service.catalog.get(job.task)
        steps = await service.store.steps(job_id)
        rows = timeline(job, steps, None if task is None else task.run)
        best = request.accept_mimetypes.best_match(("application/json", "text/plain"))
        if best == "text/plain":
            return _answer(table(job, rows).encode(), "text/plain; charset=utf-8")
        entries = [entry_document(number, row) for number, row in enumerate(rows, 1)]
        return _answer(encode(Timeline(job.id, job.task, entries)), "application/json")


def read_after(text: str | None) -> int | None:
    """The ``seq`` after which lines are asked for.

    Raises:
        BadInput: it is no number.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadInput(f"after is the seq of a line, a whole number, not {text[:50]!r}")
    return int(text)


def line_document(line: LogLine) -> LineDocument:
    """A line as clients see it."""
    return LineDocument(line.seq, line.number, moment(line.at) or "", line.level, line.text)


def _dropped(first: LogLine) -> LogLine:
    """What is said in the place of lines that are gone."""
    count = first.number - 1
    text = f"{count} earlier lines were dropped: the log of a job is bounded"
    return LogLine(first.seq - 1, count, first.at, "warning", text)


def entry_document(number: int, row: Entry) -> EntryDocument:
    """A row as clients see it."""
    return EntryDocument(
        number,
        moment(row.at) or "",
        round(row.since, 3),
        row.action,
        row.where,
        row.response,
        row.status,
    )


def table(job: Job, rows: list[Entry]) -> str:
    """The timeline for people, in columns.

    >>> row = Entry(1.0, 0.0, "opened", "web process", "202 queued", "queued")
    >>> print(table(Job(id="a", task="t"), [row]))
    job a of task t
    <BLANKLINE>
    step  time    action  where        response    status
    1     0.000s  opened  web process  202 queued  queued
    <BLANKLINE>
    """
    cells = [HEADINGS]
    for number, row in enumerate(rows, 1):
        action = "".join(each if each.isprintable() else "?" for each in row.action)
        since = f"{row.since:.3f}s"
        cells.append((str(number), since, action, row.where, row.response, row.status))
    widths = [max(len(row[place]) for row in cells) for place in range(len(HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return f"job {job.id} of task {job.task}\n\n" + "\n".join(lines) + "\n"


def _answer(body: bytes, kind: str) -> Response:
    headers: dict[str, Any] = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    response = Response(body, 200, headers)
    response.headers["Content-Type"] = kind
    return response
