"""Following jobs: every version and log line, once and in order, from any point in the past.

Subscribe first, then read the store, then follow, and drop what was seen already: so nothing is
missed and nothing is told twice. Nothing may live here that knows how it is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from quart_app.core.ports import Store
from quart_app.core.service import Service
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Job, News

REPLAYED = 500
"""Jobs, or lines, that are read at once where a reader has missed many."""


async def follow(
    service: Service, job_id: str, after: int | None, idle: float
) -> AsyncGenerator[News | None]:
    """The versions and log lines of one job: its newest version and all lines, unless they were
    seen, then each that comes.

    Ends after the final one, when the service shuts down, where the reader fell behind, or where
    the store does not answer; it may go on from the last ``seq`` that it has.

    Args:
        after: the ``seq`` of the last version or line that the reader has, or None.
        idle: seconds after which None is given, as a sign of life.

    Raises:
        NoSuchJob: also when its record has expired.
    """
    with service.hub.follow(job_id) as follower:
        try:
            job = await service.get(job_id)
            given = await _given(service.store, after)
            seen = -1 if given is None else given
            async for news in _missed(service, job, seen):
                seen = news.seq
                yield news
        except StoreUnavailable:  # A stream that ends is resumed; one that breaks is an alarm.
            return
        while not job.over:
            found = await follower.next(idle)
            if found is None:
                yield None
                continue
            if not found:
                return
            for news in found:
                if isinstance(news, Job):
                    job = news
                if news.seq > seen:
                    seen = news.seq
                    yield news


async def is_at_its_end(service: Service, job: Job, after: int | None) -> bool:
    """Whether a job is over for a reader, too: nothing would be told to it any more."""
    if after is None or not job.over or after < job.seq:
        return False
    return after == job.seq or await _given(service.store, after) is not None


async def _given(store: Store, after: int | None) -> int | None:
    """The ``seq`` that a reader has, where the store has come so far. It has gone back where a
    backup was restored, or the last writes were lost: what the reader has seen is not any more, and
    would keep it from what comes."""
    return None if after is None or after > await store.head() else after


async def _missed(service: Service, job: Job, seen: int) -> AsyncGenerator[News]:
    """What is in the store after a ``seq``, in order: lines, and between them the job's newest
    version. Lines that were written since it was read are told by the hub, too."""
    told = job.seq <= seen
    if told and job.over:
        return
    while True:
        lines = await service.store.logs(job.id, seen, REPLAYED)
        for line in lines:
            if not told and line.seq > job.seq:
                told = True
                yield job
            seen = line.seq
            yield line
        if len(lines) < REPLAYED:
            break
    if not told:
        yield job


async def follow_all(
    service: Service, after: int | None, idle: float, every: float | None = None
) -> AsyncGenerator[list[Job] | None]:
    """The versions of all jobs from now on, or from an earlier ``seq``; see `follow`.

    Of what was missed each job's newest version is told; nothing from before to a reader that comes
    from a time that the store has lost.

    Args:
        every: seconds after which is told what has changed, of each job the newest version only;
            None tells every version when there is one.
    """
    hub = service.hub
    with hub.follow(None) if every is None else hub.gather() as follower:
        try:
            seen = await _given(service.store, after)
            while seen is not None:
                missed = await service.store.events(seen, REPLAYED)
                if missed:
                    seen = missed[-1].seq
                    yield [event.job for event in missed]
                if len(missed) < REPLAYED:
                    break
        except StoreUnavailable:
            return
        while True:
            news = await follower.next(idle)
            if news is None:
                yield None
                continue
            if not news:
                return
            jobs = [job for job in news if isinstance(job, Job)]
            if seen is not None:
                jobs = [job for job in jobs if job.seq > seen]
            if jobs:
                yield jobs
            if every is not None:
                await asyncio.sleep(every)
