"""Following jobs: every version of one, or of all, once and in order, from any point in the past.

Subscribe first, then read the store, then follow, and drop what was seen already: so nothing is
missed and nothing is told twice. Nothing may live here that knows how a version is shown.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from quart_app.core.service import Service
from quart_app.domain.jobs import Job

REPLAYED = 500
"""Jobs that are read at once where a reader has missed many."""


async def follow(
    service: Service, job_id: str, after: int | None, idle: float
) -> AsyncGenerator[Job | None]:
    """The versions of one job: its newest at once, unless that was seen, then each that comes.

    Ends after the final one, when the service shuts down, or where the reader fell behind; it may
    go on from the last ``seq`` that it has.

    Args:
        after: the ``seq`` of the last version that the reader has, or None.
        idle: seconds after which None is given, as a sign of life.

    Raises:
        NoSuchJob: also when its record has expired.
    """
    seen = -1 if after is None else after
    with service.hub.follow(job_id) as follower:
        job = await service.get(job_id)
        if job.seq > seen:
            seen = job.seq
            yield job
        while not job.over:
            news = await follower.next(idle)
            if news is None:
                yield None
                continue
            if not news:
                return
            for job in news:
                if job.seq > seen:
                    seen = job.seq
                    yield job


async def follow_all(
    service: Service, after: int | None, idle: float
) -> AsyncGenerator[Job | None]:
    """The versions of all jobs from now on, or from an earlier ``seq``; see `follow`.

    Of what was missed each job's newest version is told.
    """
    with service.hub.follow(None) as follower:
        seen = after
        while seen is not None:
            missed = await service.store.events(seen, REPLAYED)
            for event in missed:
                seen = event.seq
                yield event.job
            if len(missed) < REPLAYED:
                break
        while True:
            news = await follower.next(idle)
            if news is None:
                yield None
                continue
            if not news:
                return
            for job in news:
                if seen is None or job.seq > seen:
                    yield job
