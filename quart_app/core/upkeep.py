"""The loops in the background: jobs that are due, jobs that got lost, records that are old.

One shape for all: every so often, do a bounded piece of work; an error is logged and the loop goes
on. Nothing may live here that a request waits for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from quart_app.core.ledger import Ledger
from quart_app.core.ports import Engine, Store
from quart_app.core.registry import Registry
from quart_app.domain.jobs import Failure, Job, Query, Retention
from quart_app.domain.status import Move, Status
from quart_app.domain.tasks import Catalog, Lane

logger = logging.getLogger("quart_app.upkeep")

BATCH = 256
"""Rows of one piece of work: pruning so many costs about 0.3 ms of the loop."""
SETTLED = 1.0
"""Seconds after which a queued job that no engine holds is not just on its way."""


class Upkeep:
    """Due, rescue and prune.

    Args:
        ledger, store, engine, registry, catalog: the parts that it looks after.
        retention: how many finished jobs are kept.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        engine: Engine,
        registry: Registry,
        catalog: Catalog,
        retention: Retention,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._engine = engine
        self._registry = registry
        self._catalog = catalog
        self._retention = retention
        self._ended = 0
        self._nudge = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin the loops, on this event loop."""
        self._loops = [
            asyncio.create_task(self._forever(1.0, self.due), name="upkeep-due"),
            asyncio.create_task(self._forever(5.0, self.rescue), name="upkeep-rescue"),
            asyncio.create_task(self._forever(1.0, self.prune, self._nudge), name="upkeep-prune"),
        ]

    async def stop(self) -> None:
        """End the loops and wait until they have."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()

    def on_end(self, job: Job) -> None:
        """A subscriber of the endings: many at once are pruned before the second is over."""
        self._ended += 1
        if self._ended >= BATCH:
            self._ended = 0
            self._nudge.set()

    async def _forever(
        self,
        interval: float,
        work: Callable[[], Awaitable[int]],
        nudge: asyncio.Event | None = None,
    ) -> None:
        nudge = asyncio.Event() if nudge is None else nudge
        while True:
            try:
                async with asyncio.timeout(interval):
                    await nudge.wait()
            except TimeoutError:
                pass
            nudge.clear()
            try:
                await _all_of(work)
            except Exception:
                logger.exception("upkeep failed and will be tried again")

    async def due(self) -> int:
        """Queue the scheduled jobs whose moment has come."""
        jobs = await self._store.due(self._ledger.clock(), BATCH)
        for job in jobs:
            if await self._ledger.move(job.id, Move.DUE) is not None:
                await self._engine.submit(job.id, self._lane(job))
        return len(jobs)

    async def prune(self) -> int:
        """Forget finished jobs beyond the retention."""
        return await self._store.prune(self._retention, self._ledger.clock(), BATCH)

    async def rescue(self) -> int:
        """Find jobs that nobody works for any more, and queued ones that nobody will deliver.

        Both are looked for only when the counts do not agree, so that a healthy service never
        scans its jobs.
        """
        counts = await self._store.counts()
        rescued = 0
        if counts["running"] > len(self._registry):
            async for job in self._pages("running"):
                if job.id not in self._registry:
                    rescued += await self._rescue(job)
        if counts["queued"]:
            recent = self._ledger.clock() - SETTLED
            async for job in self._pages("queued"):
                if job.updated_at < recent and not self._engine.holds(job.id):
                    await self._engine.submit(job.id, self._lane(job))
        return rescued

    async def _rescue(self, job: Job) -> int:
        """Begun once, a job runs again only where its task allows more than one attempt."""
        again = job.attempt < job.max_attempts
        error = Failure("Lost", "what worked for this job is gone; nobody knows how far it came")
        moved = await self._ledger.move(
            job.id,
            Move.RESCUE if again else Move.FAIL,
            attempt=job.attempt,
            reason="lost",
            error=None if again else error,
        )
        if moved is not None and again:
            await self._engine.submit(job.id, self._lane(job))
        return int(moved is not None)

    async def _pages(self, status: Status) -> AsyncIterator[Job]:
        before: int | None = None
        while True:
            query = Query(statuses=frozenset({status}), before=before, limit=100)
            page = await self._store.page(query)
            for job in page.jobs:
                yield job
            if page.next is None:
                return
            before = page.next

    def _lane(self, job: Job) -> Lane:
        task = self._catalog.get(job.task)
        return "loop" if task is None else task.run


async def _all_of(work: Callable[[], Awaitable[int]]) -> None:
    """Do the work until there is less of it than one batch, and let others run in between."""
    while True:
        if await work() < BATCH:
            return
        await asyncio.sleep(0)
