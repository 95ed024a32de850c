"""Jobs as the server keeps them, and what its script answers. Only translation may live here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from quart_app.domain.jobs import Heard, Job, JobEvent, JobLine, KeptStep, LogLine
from quart_app.domain.queues import Waiting
from quart_app.domain.status import STATUSES, WAITING, Status
from quart_app.domain.workers import Worker

STEP = 2**45
"""What one step of priority counts in the score of a queue, in seqs; as in ``lua/head.lua``."""

Raw = msgspec.Raw
Row = tuple[int, int, str, int, int, msgspec.Raw, Job]
"""seq, order, status, attempt, size, what the script knows of it besides, and data of a job."""

_encode = msgspec.msgpack.Encoder().encode


def blob(data: bytes) -> Raw:
    """Bytes as MessagePack that the server's Lua reads: it knows no binary, its strings are bytes.

    >>> bytes(blob(b"ab"))
    b'\\xa2ab'
    """
    size = len(data)
    if size < 32:
        head = bytes((0xA0 | size,))
    elif size < 2**8:
        head = bytes((0xD9, size))
    elif size < 2**16:
        head = b"\xda" + size.to_bytes(2, "big")
    else:
        head = b"\xdb" + size.to_bytes(4, "big")
    return Raw(head + data)


def decoder(kind: Any) -> Callable[[bytes | Raw], Any]:
    """What reads answers of one kind."""
    return msgspec.msgpack.Decoder(kind).decode


_row = decoder(Row | None)
_rows = decoder(list[Row])


class Told(msgspec.Struct, array_like=True, gc=False):
    """An event as it is kept: of a job (kind, order, job), or of a line (job_id, line)."""

    seq: int
    kind: str
    order: int
    job: Job | None
    job_id: str = ""
    line: tuple[int, int, float, str, str, int] | None = None

    def heard(self) -> Heard:
        """As it is told."""
        if self.line is not None:
            return JobLine(self.job_id, LogLine(*self.line[:5]))
        if self.job is None:
            raise ValueError("an event is of a job or of a line")
        force_setattr(self.job, "seq", self.seq)
        force_setattr(self.job, "order", self.order)
        return JobEvent(self.seq, self.kind, self.job)


counts_of = decoder(list[int])
facts_of = decoder(list[tuple[str, bytes]])
tasks_of = decoder(list[tuple[str, int]])
lines_of = decoder(list[tuple[int, int, float, str, str, int]])
heard_of = decoder(tuple[bool, int, list[Told]])
found_of = decoder(tuple[Raw, int | None])
flag_of = decoder(bool)
number_of = decoder(int)
swapped_of = decoder(int | bool)
logged_of = decoder(tuple[int, int] | bool)
word_of = decoder(str)
workers_of = decoder(list[Worker])
place_of = decoder(int | Row)
answers_of = decoder(tuple[list[Raw], list[tuple[int, str]] | None])
_steps = decoder(list[tuple[str, int, KeptStep]])
_queue = decoder(list[tuple[int, str, str | None]])


def encoded(value: Any) -> bytes:
    """A value as MessagePack.

    Raises:
        UnicodeEncodeError: a text of it is none: `clean` helps.
    """
    return _encode(value)


def as_text(value: str) -> str:
    """A text without halves of surrogate pairs, which are no text: question marks instead.

    >>> as_text("caf\\udce9")
    'caf?'
    """
    return value if value.isascii() else value.encode(errors="replace").decode()


def clean(job: Job) -> Job:
    """A job without what is no text: a file's name with stray bytes, half of a surrogate pair.

    >>> clean(Job(id="a", task="t", tags=("caf\\udce9",))).tags
    ('caf?',)
    """
    fields = msgspec.to_builtins(job, builtin_types=(bytes,))
    return msgspec.convert(_without_surrogates(fields), Job)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {key: _without_surrogates(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(each) for each in value]
    return value


def numbered(job: Job, order: int, seq: int) -> Job:
    """A job that nobody else has seen yet, with its numbers: they are kept beside its data."""
    force_setattr(job, "order", order)
    force_setattr(job, "seq", seq)
    return job


def job_of_row(row: Row) -> Job:
    return numbered(row[6], row[1], row[0])


def job_of(raw: Raw) -> Job | None:
    """The job of an answer."""
    row = _row(raw)
    return None if row is None else job_of_row(row)


def jobs_of(raw: Raw) -> list[Job]:
    """The jobs of an answer."""
    return [job_of_row(row) for row in _rows(raw)]


def queue_of(raw: Raw, task: str) -> list[Waiting]:
    """Who waits: a score has the priority and the seq.

    >>> queue_of(Raw(encoded([(95 * STEP + 7, "a", None)])), "t")
    [Waiting(seq=7, id='a', task='t', turn=None, priority=5)]
    """
    return [
        Waiting(score % STEP, job_id, task, turn, 100 - score // STEP)
        for score, job_id, turn in _queue(raw)
    ]


def steps_of(raw: Raw) -> dict[str, KeptStep]:
    """Steps by name, in the order in which they were finished."""
    rows = sorted(_steps(raw), key=lambda row: row[1])
    return {name: step for name, _, step in rows}


def tasks_by_name(rows: Sequence[tuple[str, int]]) -> dict[str, dict[Status, int]]:
    """Counts by task, from fields ``status:task``.

    >>> tasks_by_name([("failed:a:b", 2)])["a:b"]["failed"]
    2
    """
    tasks: dict[str, dict[Status, int]] = {}
    for field, count in rows:
        status, _, task = field.partition(":")
        tasks.setdefault(task, dict.fromkeys(STATUSES, 0))[status] = count  # type: ignore[index]
    return tasks


def swapping(before: Job, after: Job, data: bytes, kind: str) -> tuple[Any, ...]:
    """The verb that puts a version in the place of another; see ``lua/swap.lua``."""
    over = after.over
    gives_up = before.unique is not None and (over or after.unique is None)
    return (
        "swap",
        before.id,
        before.seq,
        blob(data),
        kind,
        before.status,
        after.status,
        after.attempt,
        before.task,
        before.turn,
        before.priority,
        after.run_at,
        before.expires_at is not None and (bool(after.history) or after.status not in WAITING),
        before.unique if gives_up else None,
        after.size if over else None,
        about(after),
    )


def about(job: Job) -> Raw:
    """What the script knows of a job besides."""
    return blob(_encode((job.task, job.parent, job.key, job.finished_at)))
