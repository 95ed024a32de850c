"""What the queue knows of jobs: who waits, in which order, and when others began.

Values only may live here; whose turn it is, is decided above.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import msgspec

from quart_app.domain.jobs import Job


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """What the queue knows of a job that waits in it."""

    seq: int
    id: str
    task: str
    turn: str | None
    priority: int


def begun(job: Job, since: float) -> list[float]:
    """The moments after ``since`` at which an attempt of the job began.

    >>> begun(Job(id="a", task="t", started_at=5.0), 4.0)
    [5.0]
    """
    moments = [each.started_at for each in job.history]
    if job.started_at is not None:
        moments.append(job.started_at)
    return [at for at in moments if at > since]


def in_turns(jobs: Sequence[Job]) -> list[Job]:
    """Jobs of a queue, so that each turn's first comes before any turn's second."""
    turns: dict[str | None, list[Job]] = {}
    for job in jobs:
        turns.setdefault(job.turn, []).append(job)
    return [job for each in zip_longest(*turns.values()) for job in each if job is not None]
