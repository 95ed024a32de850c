"""A group of writes as the arguments of the server's function, and its answer as theirs.

Nothing may live here that waits or has a connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import force_setattr

from quart_app.domain.errors import JobsError, KeyReused, QueueFull, StoreUnavailable, TaskFull
from quart_app.domain.jobs import Draft, Job, KeptStep, LogLine, RequestKey
from quart_app.stores.postgres.rows import (
    Row,
    escaped,
    job_of,
    line_data,
    new_job,
    next_version,
    packed,
    short,
)

MOST_EVENTS = 10_000
"""Numbers of events, the newest, that those who listen can go on from."""


class Start(NamedTuple):
    """New jobs, all or none."""

    jobs: Sequence[Job]
    max_waiting: int
    key: RequestKey | None
    max_of_task: int | None

    def row(self, first: int) -> tuple[Any, ...]:
        """As the server's ``new_start``; ``first`` is the position of its first job."""
        key = self.key
        plain = key is None and all(job.unique is None for job in self.jobs)
        return (
            escaped(self.jobs[0].task),
            first,
            len(self.jobs),
            plain,
            self.max_waiting,
            self.max_of_task,
            None if key is None else short(key.key),
            None if key is None else key.fingerprint,
        )


class Swap(NamedTuple):
    """A version in the place of the one that it was made from."""

    before: Job
    after: Job
    kind: str


class Lines(NamedTuple):
    """Lines of a job's log."""

    job_id: str
    drafts: Sequence[Draft]
    keep_lines: int
    keep_bytes: int

    def row(self, first: int) -> tuple[Any, ...]:
        """As the server's ``new_lines``; ``first`` is how many lines are before it."""
        lines = [LogLine(0, 0, *draft) for draft in self.drafts]
        return (
            escaped(self.job_id),
            first,
            self.keep_lines,
            self.keep_bytes,
            [line.size for line in lines],
            [line_data(line) for line in lines],
        )


class Step(NamedTuple):
    """A finished step."""

    job_id: str
    name: str
    step: KeptStep

    def row(self) -> tuple[Any, ...]:
        """As the server's ``new_step``."""
        step = self.step
        name = short(self.name)
        said = packed(self.name)
        return (escaped(self.job_id), step.attempt, name, said, step.result, step.at)


class Fact(NamedTuple):
    """A fact that belongs to no job; None forgets it."""

    name: str
    value: bytes | None


Write = Start | Swap | Lines | Step | Fact
Answers = list[tuple[Any, JobsError | None]]
"""For each write its value or its error."""


def answered_start(start: Start, code: str, kept: list[Row], row: Row) -> Any:
    """What a start was answered; its own jobs have their numbers.

    Raises:
        JobsError: it was refused.
    """
    waiting = row["waiting"]
    if code == "busy":
        message = "another transaction starts a job with the same key at the moment: try again"
        raise StoreUnavailable(message, retry_after=1.0)
    if code == "reused" and start.key is not None:
        raise KeyReused(start.key.key, row["id"])
    if code == "full":
        message = f"{waiting} jobs wait and {start.max_waiting} may: try again later"
        raise QueueFull(message, retry_after=1.0)
    if code == "task full":
        task, most = start.jobs[0].task, start.max_of_task
        message = f"{waiting} jobs of {task!r} wait and {most} may: try again later"
        raise TaskFull(message, retry_after=1.0)
    return [job_of(each["data"], each["place"], each["seq"]) for each in kept], False


def answer_starts(starts: list[Start], row: Row, place: int, seq: int) -> tuple[Answers, list[Job]]:
    """What each start was answered, and the jobs that are new.

    Args:
        starts: as they were sent.
        row: the answer of the server.
        place, seq: of the job before the first one.
    """
    said = {each["start"]: each for each in row["answers"] or ()}
    kept: dict[int, list[Row]] = {}
    for each in row["kept"] or ():
        kept.setdefault(each["start"], []).append(each)
    answers: Answers = []
    fresh: list[Job] = []
    jobs: list[Job | None] = [job for start in starts for job in start.jobs]
    first = 0
    for number, start in enumerate(starts, 1):
        last = first + len(start.jobs)
        own, others = said.get(number), kept.get(number, [])
        if own is not None and own["code"] != "old":
            try:
                answers.append((answered_start(start, own["code"], others, own), None))
            except JobsError as error:
                answers.append((None, error))
        else:
            mine = _placed(jobs, first, last, others, place, seq)
            fresh += mine
            answers.append(((list(jobs[first:last]), own is None), None))
        first = last
    return answers, fresh


def _placed(
    jobs: list[Job | None], first: int, last: int, others: list[Row], place: int, seq: int
) -> list[Job]:
    """Give a start's own jobs their numbers, and put others in the places that others have."""
    instead = {each["at"] - 1: each for each in others}
    own: list[Job] = []
    for index in range(first, last):
        job = jobs[index]
        other = instead.get(index)
        if other is None and job is not None:
            # Set in place, as in memory: nobody else has seen this new object yet.
            force_setattr(job, "order", place + index + 1 if place >= 0 else 0)
            force_setattr(job, "seq", seq + index + 1 if place >= 0 else 0)
            own.append(job)
        elif other is not None and other["own"] is not None:
            jobs[index] = jobs[other["own"] - 1]
        elif other is not None:
            jobs[index] = job_of(other["data"], other["place"], other["seq"])
    return own


class Group:
    """Writes that are made together.

    Args:
        writes: in the order in which they came.
    """

    def __init__(self, writes: Sequence[Write]) -> None:
        self._writes = writes
        self.starts = [each for each in writes if isinstance(each, Start)]
        self._swaps = [each for each in writes if isinstance(each, Swap)]
        self._lines = [each for each in writes if isinstance(each, Lines)]
        self._steps = [each for each in writes if isinstance(each, Step)]
        self._facts = {each.name: each.value for each in writes if isinstance(each, Fact)}
        self.jobs = [job for start in self.starts for job in start.jobs]

    def start_rows(self) -> tuple[list[Any], list[Any]]:
        """The starts and their jobs, as the server's types."""
        rows, first = [], 1
        for start in self.starts:
            rows.append(start.row(first))
            first += len(start.jobs)
        return rows, [new_job(job) for job in self.jobs]

    def values(self, most_events: int) -> tuple[Any, ...]:
        """The arguments of ``write.sql``."""
        starts, jobs = self.start_rows()
        lines, count = [], 0
        for each in self._lines:
            lines.append(each.row(count))
            count += len(each.drafts)
        return (
            starts or None,
            jobs or None,
            [next_version(*swap) for swap in self._swaps] or None,
            lines or None,
            [step.row() for step in self._steps] or None,
            [(escaped(name), value) for name, value in self._facts.items()] or None,
            len(jobs),
            len(jobs) + len(self._swaps) + count + len(self._steps),
            most_events,
        )

    def answer(self, row: Row) -> tuple[Answers, list[Job]]:
        """What each write was answered, in their order, and the jobs that are new."""
        place, seq = row["base_place"], row["base_seq"]
        started, fresh = answer_starts(self.starts, row, place, seq)
        seq += len(self.jobs)
        swapped = self._answer_swaps(set(row["won"] or ()), seq)
        logged = self._answer_lines(row["numbers"] or [], seq + len(self._swaps))
        stepped: Answers = [(kept, None) for kept in row["stepped"] or ()]
        facts: Answers = [(None, None)] * len(self._writes)
        answers = {
            Start: iter(started),
            Swap: iter(swapped),
            Lines: iter(logged),
            Step: iter(stepped),
            Fact: iter(facts),
        }
        return [next(answers[type(write)]) for write in self._writes], fresh

    def _answer_swaps(self, won: set[int], seq: int) -> Answers:
        answers: Answers = []
        for number, swap in enumerate(self._swaps, 1):
            if number in won:
                force_setattr(swap.after, "seq", seq + number)
                answers.append((swap.after, None))
            else:
                answers.append((None, None))
        return answers

    def _answer_lines(self, numbers: list[int | None], seq: int) -> Answers:
        answers: Answers = []
        for each, number in zip(self._lines, numbers, strict=True):
            lines: list[LogLine] = []
            if number is not None:
                lines = [
                    LogLine(seq + place, number + place - 1, *draft)
                    for place, draft in enumerate(each.drafts, 1)
                ]
            seq += len(each.drafts)
            answers.append((lines, None))
        return answers
