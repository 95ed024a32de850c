"""What `top` shows, as lines of text: a function of what was seen and of where the user is.

Nothing may live here that asks the service, reads keys or writes.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quart_app.cli.safe import cells, clean, clean_line, cut, pad
from quart_app.cli.seen import Seen
from quart_app.cli.shapes import JOB_HEADINGS, STATUS_COLUMN, seconds, short, what
from quart_app.cli.terminal import GAP, bar, fit, paint, sparkline
from quart_app.cli.words import ago, clock, took
from quart_app.client.documents import JobDocument
from quart_app.domain.status import STATUSES

HEAD = 5
"""Lines above the rows, and one below them."""
LATE = 5.0
"""Seconds after which what is shown counts as old."""
SPARK = 30
"""Buckets of the throughput that are shown: the last five minutes."""
KEYS = "j/k move  enter look  c cancel  r retry  / filter  q quit"
KEYS_ONE = "c cancel  r retry  q back"


@dataclass
class Place:
    """Where the user is.

    Attributes:
        selected: the id of the row under the cursor.
        top: the first row that is shown.
        looking: the id of the job that is looked at, instead of the rows.
        filter: the filter as it was typed.
        prompt: the question, or the filter, that is being answered in the last line.
        message: what was done last.
        cursor: whether the selected row is marked.
    """

    selected: str | None = None
    top: int = 0
    looking: str | None = None
    filter: str = ""
    prompt: str | None = None
    message: str = ""
    cursor: bool = True


@dataclass(frozen=True)
class Look:
    """How it is drawn.

    Args:
        columns, rows: of the screen.
        color: whether there may be colours.
        blocks: whether bars may be made of block characters.
    """

    columns: int
    rows: int
    color: bool
    blocks: bool

    def paint(self, text: str, style: str) -> str:
        """A text in a style, where there are colours."""
        return paint(text, style, self.color)

    def line(self, text: str) -> str:
        """A clean text that fits."""
        return cut(text, self.columns)


def frame(seen: Seen, place: Place, look: Look, url: str) -> list[str]:
    """All lines of the screen, no more than it has rows."""
    room = look.rows - HEAD - 1
    body = _one(seen, look, room) if place.looking else _rows(seen, place, look, room)
    lines = [*_head(seen, place, look, url), *body[: room + 1]]
    lines += [""] * (look.rows - 1 - len(lines))
    return [*lines, _foot(place, look)]


def _head(seen: Seen, place: Place, look: Look, url: str) -> list[str]:
    stats = seen.stats
    now = "" if stats is None else clock(stats.now)
    title = look.line(clean(f"quart-app top  {url}  {now}"))
    if stats is None:
        return [look.paint(title, "bold"), "", "", _trouble(seen, place, look)]
    counts = _fitting([(f"{name} {stats.counts.get(name, 0):,}", name) for name in STATUSES], look)
    ends = stats.throughput
    per_bucket = [
        sum(each) for each in zip(ends.succeeded, ends.failed, ends.canceled, strict=False)
    ][-SPARK:]
    facts = (
        f"oldest wait {took(stats.oldest_wait)}  lag {took(stats.lag)}  "
        f"failed in the last hour {stats.failed_last_hour:,}  watchers {stats.watchers:,}  "
        f"ends {sparkline(per_bucket, look.blocks)}"
    )
    return [look.paint(title, "bold"), counts, look.line(facts), _trouble(seen, place, look)]


def _fitting(parts: Sequence[tuple[str, str]], look: Look) -> str:
    """Painted words that fit."""
    line, width = "", 0
    for text, style in parts:
        if width + len(text) + len(GAP) > look.columns:
            break
        line += look.paint(text, style) + GAP
        width += len(text) + len(GAP)
    return line.rstrip()


def _trouble(seen: Seen, place: Place, look: Look) -> str:
    old = time.monotonic() - seen.at
    if seen.trouble:
        text = f"no answer for {took(old)}: {clean(seen.trouble)}"
        return look.paint(look.line(text), "error")
    if old > LATE and seen.stats is not None:
        return look.paint(look.line(f"this is {took(old)} old"), "warning")
    return look.line(clean(f"filter: {place.filter}")) if place.filter else ""


def _rows(seen: Seen, place: Place, look: Look, room: int) -> list[str]:
    now = dt.datetime.now(dt.UTC) if seen.stats is None else seen.stats.now
    if not seen.jobs:
        words = "looking ..." if seen.stats is None else "no job runs or has ended"
        return [look.line("no job matches" if place.filter and seen.stats else words)]
    jobs = scrolled(seen.jobs, place, room)
    grid = [[clean(cell) for cell in _row(job, now)] for job in jobs]
    widths = [
        max([cells(name), *(cells(row[at]) for row in grid)])
        for at, name in enumerate(JOB_HEADINGS[:-1])
    ]
    widths = fit([*widths, look.columns], look.columns - len(GAP) * (len(JOB_HEADINGS) - 1))
    lines = [look.paint(GAP.join(map(pad, JOB_HEADINGS, widths)).rstrip(), "heading")]
    for job, row in zip(jobs, grid, strict=True):
        parts = [*map(pad, row, widths), _what(job, look, widths[-1])]
        if job.id == place.selected and place.cursor:
            if look.color:
                lines.append(look.paint(pad(GAP.join(parts), look.columns), "reverse"))
            else:
                lines.append(f">{GAP.join(parts)[1:]}".rstrip())
            continue
        parts[STATUS_COLUMN] = look.paint(parts[STATUS_COLUMN], job.status)
        lines.append(GAP.join(parts).rstrip())
    return lines


def _row(job: JobDocument, now: dt.datetime) -> list[str]:
    return [job.id, job.task, job.status, ago(job.created, now), took(seconds(job, now))]


def _what(job: JobDocument, look: Look, width: int) -> str:
    if job.status != "running" or job.progress is None:
        return cut(clean(what(job)), width)
    size = min(20, max(4, width // 3))
    words = [f"{job.progress:3.0f}%"]
    if job.eta is not None:
        left = (job.eta - dt.datetime.now(dt.UTC)).total_seconds()
        words.append(f"eta {took(left)}")
    if job.cancel_requested is not None:
        words.append("cancel requested")
    words.append(clean(job.message or ""))
    return cut(f"{bar(job.progress, size, look.blocks)} {' '.join(words)}", width)


def scrolled(jobs: Sequence[JobDocument], place: Place, room: int) -> Sequence[JobDocument]:
    """The rows that are shown, with the selected one among them."""
    at = next((n for n, job in enumerate(jobs) if job.id == place.selected), None)
    if at is None:
        at = 0
        place.selected = jobs[0].id
    place.top = max(0, min(place.top, at, len(jobs) - room))
    place.top = max(place.top, at - room + 1)
    return jobs[place.top : place.top + room]


def _one(seen: Seen, look: Look, room: int) -> list[str]:
    job = seen.job
    if job is None:
        return ["looking ..."]
    now = dt.datetime.now(dt.UTC) if seen.stats is None else seen.stats.now
    share = 100.0 if job.status == "succeeded" else job.progress
    pairs: list[tuple[str, str]] = [
        ("job", f"{job.id} of {job.task}"),
        ("status", f"{job.status} {job.reason or ''}"),
        ("progress", "" if share is None else f"{bar(share, 24, look.blocks)} {share:.0f}%"),
        ("arguments", short(job.args)),
        ("created", f"{clock(job.created)} ({ago(job.created, now)})"),
        ("took", took(seconds(job, now))),
        ("attempt", f"{job.attempt} of {job.max_attempts}"),
        ("says", what(job)),
        ("tags", " ".join(job.tags)),
    ]
    lines = [look.line(f"{name:<10}{clean(text)}") for name, text in pairs if text.strip()]
    if seen.stack:
        lines += ["", look.paint("where it is", "heading")]
        lines += _lines(
            seen.stack[-4:],
            look,
            lambda each: f"  {each.file}:{each.line} {each.function}  {each.code}",
        )
    lines += ["", look.paint("log", "heading")]
    left = max(1, room - len(lines))
    return lines + _lines(
        seen.lines[-left:],
        look,
        lambda each: f"  {each.time.astimezone():%H:%M:%S} {clean_line(each.text)}",
    )


def _lines(items: Sequence[object], look: Look, text: Callable[..., str]) -> list[str]:
    return [look.line(clean(text(each))) for each in items]


def _foot(place: Place, look: Look) -> str:
    if place.prompt is not None:
        return look.paint(look.line(clean(place.prompt)), "bold")
    if place.message:
        return look.line(clean(place.message))
    return look.paint(look.line(KEYS_ONE if place.looking else KEYS), "dim")
