"""The jobs of a store in memory in the order in which they were opened, page by page.

Nothing may live here that changes a job.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping

from quart_app.domain.jobs import Job
from quart_app.domain.queries import Page, Query, matches

SCAN = 1_000
"""Rows that a filtered list looks at before it lets other tasks run: about 0.3 ms."""


class Places:
    """Where each job stands."""

    __slots__ = ("ids", "orders")

    def __init__(self) -> None:
        # Ascending, with the id beside each; they hold forgotten jobs for a while.
        self.orders: list[int] = []
        self.ids: list[str] = []

    def shrink(self, jobs: Mapping[str, Job]) -> None:
        """Let forgotten jobs go, if most are.

        Args:
            jobs: those that are kept, in their order.
        """
        if len(self.ids) > 2 * len(jobs) + SCAN:
            self.ids = list(jobs)
            self.orders = [job.order for job in jobs.values()]

    async def page(
        self, jobs: Mapping[str, Job], query: Query, require_open: Callable[[], None]
    ) -> Page:
        """A page of all jobs, the newest first; a long look gives way to the event loop."""
        orders, ids = self.orders, self.ids
        place = len(orders) if query.before is None else bisect_left(orders, query.before)
        found: list[Job] = []
        scanned = 0
        while place > 0:
            place -= 1
            order = orders[place]
            job = jobs.get(ids[place])
            if job is not None and matches(job, query):
                if len(found) == query.limit:
                    return Page(found, found[-1].order)
                found.append(job)
            scanned += 1
            if scanned % SCAN == 0:
                await asyncio.sleep(0)
                require_open()
                orders, ids = self.orders, self.ids
                place = bisect_left(orders, order)
        return Page(found, None)


def page_of(jobs: Mapping[str, Job], ids: Iterable[str], query: Query) -> Page:
    """A page of these jobs, the newest first."""
    found: list[Job] = []
    for job_id in ids:
        job = jobs[job_id]
        passed = query.before is not None and job.order >= query.before
        if passed or not matches(job, query):
            continue
        if len(found) == query.limit:
            return Page(found, found[-1].order)
        found.append(job)
    return Page(found, None)
