"""What is done with many jobs at once: found by filters or by their ids, and canceled.

Nothing may live here that one job needs; that is the service's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence

import msgspec

from quart_app.core.service import UNFINISHED, Service
from quart_app.domain.errors import NoSuchJob
from quart_app.domain.jobs import Job
from quart_app.domain.queries import Query

TOGETHER = 100
"""Jobs that are canceled at once, of many: they share the store's writes."""


class Canceled(msgspec.Struct, frozen=True):
    """What became of a cancel of many: matched, already canceled, being canceled."""

    matched: int
    canceled: int
    canceling: int


async def each(service: Service, query: Query, most: float = math.inf) -> AsyncIterator[Job]:
    """The jobs that pass the filters, the newest first, at most so many."""
    before, left = query.before, most
    while left > 0:
        limit = int(min(100, left))
        page = await service.store.page(msgspec.structs.replace(query, before=before, limit=limit))
        for job in page.jobs:
            yield job
        if page.next is None:
            return
        left -= len(page.jobs)
        before = page.next
        await asyncio.sleep(0)


async def matching(service: Service, query: Query) -> AsyncIterator[Job]:
    """Every job that passes the filters and is not over."""
    statuses = query.statuses & UNFINISHED if query.statuses else UNFINISHED
    if statuses:
        async for job in each(service, msgspec.structs.replace(query, statuses=statuses)):
            yield job


async def cancel_matching(service: Service, query: Query, *, dry_run: bool) -> Canceled:
    """Cancel every job that passes the filters and is not over, or only count them."""
    matched = canceled = canceling = 0
    ids: list[str] = []

    async def cancel_them() -> None:
        nonlocal canceled, canceling
        done = await cancel_each(service, ids)
        canceled, canceling = canceled + done.canceled, canceling + done.canceling
        ids.clear()

    async for job in matching(service, query):
        matched += 1
        if not dry_run:
            ids.append(job.id)
            if len(ids) == TOGETHER:
                await cancel_them()
    await cancel_them()
    return Canceled(matched, canceled, canceling)


async def cancel_each(service: Service, job_ids: Sequence[str]) -> Canceled:
    """Cancel the jobs of these ids; an unknown id is not counted as matched."""
    calls = (_cancel_if_known(service, job_id) for job_id in dict.fromkeys(job_ids))
    known = [job for job in await asyncio.gather(*calls) if job is not None]
    canceled = sum(job.status == "canceled" for job in known)
    return Canceled(len(known), canceled, sum(not job.over for job in known))


async def _cancel_if_known(service: Service, job_id: str) -> Job | None:
    try:
        return await service.cancel(job_id)
    except NoSuchJob:
        return None
