"""Which of the queued jobs the engine is given: all, or as many as fit into its window.

A durable store may hold a million queued jobs; the engine's memory holds the next ones of each
lane, and is given more, in the order of the queue, as they go. Nothing may live here that changes a
status.
"""

from __future__ import annotations

import asyncio
import logging

from quart_app.core.ports import Engine, Store
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Job
from quart_app.domain.tasks import LANES, Catalog, Lane

logger = logging.getLogger("quart_app.jobs")

WINDOW = 1_000
"""Jobs of a lane that wait in the engine, where the store holds more."""
PAUSE = 0.25
"""Seconds between two looks for room, if no job ends meanwhile."""


class Backlog:
    """Hands jobs to the engine.

    Args:
        store, engine, catalog: from where, to where, and which tasks run in which lane.
        window: jobs of a lane that wait in the engine at once; None for any number.
    """

    def __init__(
        self, store: Store, engine: Engine, catalog: Catalog, window: int | None = WINDOW
    ) -> None:
        self._store = store
        self._engine = engine
        self._catalog = catalog
        self._window = window
        self._behind: set[Lane] = set()
        self._news: set[Lane] = set()
        self._nudge = asyncio.Event()
        self._filling = asyncio.Lock()
        self._loop: asyncio.Task[None] | None = None
        self.held: set[str] = set()
        """Ids of jobs that are open and must not begin yet: their answer has not left."""

    def start(self) -> None:
        """Begin to look after lanes that are behind, on this event loop."""
        self._loop = asyncio.create_task(self._forever(), name="backlog")

    async def stop(self) -> None:
        """Hand over nothing more."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    def on_end(self, job: Job) -> None:
        """A subscriber of the endings: there is room again."""
        if self._behind:
            self._nudge.set()

    async def submit(self, job_id: str, lane: Lane) -> None:
        """A job is queued and may begin: to the engine, or later in its turn."""
        self.held.discard(job_id)
        if lane in self._behind:
            self._news.add(lane)
        elif self._window is not None and self._engine.waiting(lane) >= self._window:
            self._behind.add(lane)
        else:
            await self._engine.submit(job_id, lane)

    async def catch_up(self) -> None:
        """Look in the store for queued jobs that the engine does not have: after a start, or where
        one was lost on its way."""
        self._behind.update(LANES)
        for lane in LANES:
            await self._fill_in_turn(lane)

    async def _forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(PAUSE):
                    await self._nudge.wait()
            except TimeoutError:
                pass
            self._nudge.clear()
            for lane in list(self._behind):
                try:
                    await self._fill_in_turn(lane)
                except StoreUnavailable as error:
                    logger.warning("the queue cannot be read, and will be again: %s", error)

    async def _fill_in_turn(self, lane: Lane) -> None:
        """One at a time: two that read at once could hand over jobs out of their order."""
        async with self._filling:
            await self._fill(lane)

    async def _fill(self, lane: Lane) -> None:
        """Give the engine what comes next in this lane, as far as there is room."""
        window = self._window
        room = 1_000_000_000 if window is None else window - self._engine.waiting(lane)
        if window is not None and room < window / 2:
            return
        limit = room if window is None else 2 * window
        self._news.discard(lane)
        tasks = [name for name, task in self._catalog.items() if task.run == lane]
        ids = await self._store.queued(tasks, limit)
        fresh = [
            job_id for job_id in ids if job_id not in self.held and not self._engine.holds(job_id)
        ]
        for job_id in fresh[:room]:
            await self._engine.submit(job_id, lane)
        if len(ids) < limit and len(fresh) <= room and lane not in self._news:
            self._behind.discard(lane)
