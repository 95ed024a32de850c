"""Rows to jobs and back. Only translation may live here.

What users have said is in bytes, so that nothing of it can be refused; columns of text are for
finding it, and have in other words what PostgreSQL would not take.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from quart_app.domain.jobs import Job, JobEvent, JobLine, LogLine
from quart_app.domain.queues import Waiting, begun
from quart_app.domain.status import WAITING

Row = Mapping[str, Any]

HIGHEST = 2**63 - 1
"""The last of eight bytes."""
LONG = 500
"""Characters of a text that an index takes as it is; PostgreSQL refuses more than 2,700 bytes."""

encode = msgspec.msgpack.Encoder().encode
_job = msgspec.msgpack.Decoder(Job).decode
_line = msgspec.msgpack.Decoder(tuple[float, str, str]).decode


def packed(value: Any) -> bytes:
    """A value as bytes; halves of surrogate pairs, which are no text, become question marks.

    >>> packed("caf\\udce9") == packed("caf?")
    True
    """
    try:
        return encode(value)
    except UnicodeEncodeError:
        return encode(_without_surrogates(msgspec.to_builtins(value, builtin_types=(bytes,))))


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(each) for each in value]
    return value


def escaped(text: str) -> str:
    """A text without what PostgreSQL refuses in one; the beginning of a text is that of its escape.

    >>> escaped("a\\0b\\\\c\\udce9")
    'a\\\\0b\\\\\\\\c?'
    """
    if not text.isascii():
        text = text.encode(errors="replace").decode()
    if "\0" in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace("\0", "\\0")
    return text


def unescaped(text: str) -> str:
    """What was `escaped`.

    >>> unescaped(escaped("a\\0b\\\\0")) == "a\\0b\\\\0"
    True
    """
    if "\\" not in text:
        return text
    return "\\".join(part.replace("\\0", "\0") for part in text.split("\\\\"))


def short(text: str) -> str:
    """A text to be found by: escaped, and a digest in the place of a long one."""
    text = escaped(text)
    if len(text) > LONG:
        return "#" + hashlib.sha256(text.encode()).hexdigest()
    return text


def optional(text: str | None) -> str | None:
    """The same where there may be none."""
    return None if text is None else short(text)


def turn_of(turn: str | None) -> str:
    """The column of a turn: '' for none, ':' before it, or a digest."""
    if turn is None:
        return ""
    found = short(turn)
    return found if found[:1] == "#" and len(found) == 65 else ":" + found


def new_job(job: Job) -> tuple[Any, ...]:
    """A job as the server's type of the same name."""
    return (
        escaped(job.id),
        job.status,
        escaped(job.task),
        [short(tag) for tag in job.tags] if job.tags else None,
        optional(job.parent),
        min(-job.priority, HIGHEST),
        turn_of(job.turn),
        optional(job.unique),
        optional(job.key),
        (job.run_at or 0.0) if job.status == "scheduled" else None,
        job.expires_at,
        packed(job),
    )


def next_version(before: Job, job: Job, kind: str) -> tuple[Any, ...]:
    """A version as the server's type of the same name."""
    expires = job.expires_at if job.status in WAITING and not job.history else None
    return (
        escaped(job.id),
        before.seq,
        before.status,
        job.status,
        kind,
        optional(job.unique),
        job.attempt,
        (job.run_at or 0.0) if job.status == "scheduled" else None,
        expires,
        max(begun(job, float("-inf")), default=None),
        job.finished_at if job.over else None,
        optional(job.worker),
        job.size if job.over else 0,
        packed(job),
    )


def job_of(data: bytes, place: int, seq: int) -> Job:
    """The job of a row: its numbers are those of the columns."""
    job = _job(data)
    # Set in place: nobody else has seen this new object yet.
    force_setattr(job, "order", max(place, 0))
    force_setattr(job, "seq", seq)
    return job


def jobs_of(rows: list[Row]) -> list[Job]:
    """The jobs of rows with place, seq and data."""
    return [job_of(row["data"], row["place"], row["seq"]) for row in rows]


def waiting_of(row: Row, task: str) -> Waiting:
    """What a row of ``queued.sql`` tells of a job."""
    turn: str | None = row["turn"]
    if row["data"] is not None:
        turn = _job(row["data"]).turn
    else:
        turn = unescaped(turn[1:]) if turn else None
    return Waiting(row["seq"], unescaped(row["id"]), task, turn, -row["rank"])


def line_data(line: LogLine) -> bytes:
    """What of a line is kept in bytes."""
    return packed((line.at, line.level, line.text))


def line_of(seq: int, number: int, data: bytes) -> LogLine:
    """A line of a log as it was kept."""
    return LogLine(seq, number, *_line(data))


def heard_of(row: Row) -> JobEvent | JobLine:
    """What a row of ``heard.sql`` tells."""
    if row["kind"] == "line":
        line = line_of(row["seq"], row["place"], row["data"])
        return JobLine(unescaped(row["job_id"]), line)
    return JobEvent(row["seq"], row["kind"], job_of(row["data"], row["place"], row["seq"]))
