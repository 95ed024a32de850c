"""New jobs on their way to the server's script, and what it says of them; see ``lua/add.lua``.

Only translation may live here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from quart_app.domain.errors import KeyReused, QueueFull, StoreUnavailable, TaskFull
from quart_app.domain.jobs import Job, RequestKey
from quart_app.stores.redis.rows import (
    Raw,
    about,
    blob,
    clean,
    decoder,
    encoded,
    job_of,
    job_of_row,
    numbered,
    place_of,
)

KNOWN = 4
"""The code of jobs that a key has opened before."""


class Added(msgspec.Struct, array_like=True):
    """What became of new jobs; the codes are those of ``lua/add.lua``."""

    code: int
    first: int = 0
    seq: int = 0
    job_id: str | None = None
    places: list[Raw] | None = None


added_of = decoder(Added)


def _adding(job: Job, data: bytes) -> tuple[Any, ...]:
    """What the server must know of a new job; see ``lua/add.lua``."""
    return (
        job.id,
        blob(data),
        job.status,
        job.turn,
        job.priority,
        job.run_at,
        job.expires_at,
        job.unique,
        job.parent,
        about(job),
    )


def records_of(jobs: Sequence[Job]) -> tuple[Sequence[Job], list[bytes]]:
    """New jobs, and what the server is told of each."""
    try:
        return jobs, [encoded(_adding(job, encoded(job))) for job in jobs]
    except UnicodeEncodeError:
        jobs = [clean(job) for job in jobs]
        return jobs, [encoded(_adding(job, encoded(job))) for job in jobs]


def refuse(
    added: Added,
    task: str,
    max_waiting: int,
    key: RequestKey | None,
    max_of_task: int | None,
) -> None:
    """Raise what the server had against new jobs."""
    waiting = added.first
    if added.code == 1:
        message = f"{waiting} jobs wait and {max_waiting} may: try again later"
        raise QueueFull(message, retry_after=1.0)
    if added.code == 2:
        message = f"{waiting} jobs of {task!r} wait and {max_of_task} may: try again later"
        raise TaskFull(message, retry_after=1.0)
    if added.code == 3 and key is not None:
        raise KeyReused(key.key, added.job_id or "")
    if added.code == 6:
        message = "the jobs took too long to be brought there; nothing was written: try again"
        raise StoreUnavailable(message, retry_after=1.0)


def added_jobs(jobs: Sequence[Job], added: Added) -> list[Job]:
    """The jobs that are kept in the place of those that were given."""
    first, seq, kept = added.first, added.seq, list[Job]()
    for at, job in enumerate(jobs):
        place = 0 if added.places is None else place_of(added.places[at])
        if place == 0:
            first, seq = first + 1, seq + 1
            kept.append(numbered(job, first, seq))
        else:
            kept.append(kept[place - 1] if isinstance(place, int) else job_of_row(place))
    return kept


def known_jobs(added: Added) -> list[Job]:
    """The jobs that a known key has opened, in their order."""
    return [job for each in added.places or () if (job := job_of(each)) is not None]


def is_new(added: Added) -> bool:
    """Whether there is a new job among them."""
    return added.places is None or any(place_of(each) == 0 for each in added.places)
