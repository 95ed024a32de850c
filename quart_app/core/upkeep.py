"""The loops in the background: jobs that are due, jobs that got lost, records that are old.

One shape for all: every so often, do a bounded piece of work; an error is logged and the loop goes
on. Nothing may live here that a request waits for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

from quart_app.core.alarm import Alarm
from quart_app.core.backlog import Backlog
from quart_app.core.durations import Durations
from quart_app.core.ledger import Ledger
from quart_app.core.ports import Store
from quart_app.core.registry import Registry
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Failure, Job, Retention
from quart_app.domain.outcomes import decide_lost
from quart_app.domain.queries import Query
from quart_app.domain.status import Move
from quart_app.domain.tasks import Catalog

logger = logging.getLogger("quart_app.upkeep")

BATCH = 256
"""Rows of one piece of work: pruning so many small ones costs about 0.3 ms of the loop."""
DURATIONS = "durations/"
"""How the names of facts about durations begin."""
AHEAD = 2.0
"""Seconds: what is due until the next look has a timer."""


class Upkeep:
    """Due, expire, rescue and prune.

    Args:
        ledger, store, backlog, registry, catalog: the parts that it looks after.
        retention: how many finished jobs are kept.
        durations: what is kept of them over a restart.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        backlog: Backlog,
        registry: Registry,
        catalog: Catalog,
        retention: Retention,
        durations: Durations,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._backlog = backlog
        self._registry = registry
        self._catalog = catalog
        self._retention = retention
        self._durations = durations
        self._ended = 0
        self._nudge = asyncio.Event()
        self._due_nudge = asyncio.Event()
        self._alarm = Alarm(ledger.clock, self._due_nudge.set)
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin the loops, on this event loop."""
        self._ledger.on_scheduled = self._alarm.at
        self._loops = [
            asyncio.create_task(work, name=f"upkeep-{name}") for name, work in self.works().items()
        ]

    def works(self) -> dict[str, Coroutine[Any, Any, None]]:
        """The loops by name, each to be begun."""
        works = {
            "due": self._forever(1.0, self.due, self._due_nudge),
            "expire": self._forever(1.0, self.expire),
            "rescue": self._forever(5.0, self.rescue),
            "prune": self._forever(1.0, self.prune, self._nudge),
        }
        if not self._store.volatile:
            works["remember"] = self._forever(60.0, self.remember)
        return works

    def due_at(self, run_at: float) -> None:
        """A job is due then."""
        self._alarm.at(run_at)

    async def stop(self) -> None:
        """End the loops and wait until they have."""
        self._alarm.stop()
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()

    def on_ends(self, jobs: Sequence[Job]) -> None:
        """A subscriber of the endings: many at once are pruned before the second is over."""
        self._ended += len(jobs)
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
            except StoreUnavailable:
                pass  # It has said so itself, once.
            except Exception:
                logger.exception("upkeep failed and will be tried again")

    async def due(self) -> int:
        """Queue the scheduled jobs whose moment has come."""
        jobs = await self._store.due(self._ledger.clock(), BATCH)
        for job in jobs:
            if await self._ledger.move(job.id, Move.DUE) is not None:
                await self.hand_over(job)
        if len(jobs) < BATCH:
            await self._look_ahead()
        return len(jobs)

    async def _look_ahead(self) -> None:
        """Be there when the next job is due: of all moments only the earliest has a timer."""
        now = self._ledger.clock()
        for job in await self._store.due(now + AHEAD, 1):
            # A timer may come a rounding error too early; the next one then does not.
            self._alarm.at(max(job.run_at or 0.0, now + 0.001))

    async def expire(self) -> int:
        """End the jobs that have not begun by the moment that their starter has set."""
        jobs = await self._store.expired(self._ledger.clock(), BATCH)
        error = Failure("Expired", "it had not begun by the moment at which it expires")
        for job in jobs:
            if await self._ledger.move(job.id, Move.EXPIRE, reason="expired", error=error):
                await self._backlog.forget(job.id)
        return len(jobs)

    async def prune(self) -> int:
        """Forget finished jobs beyond the retention; of large ones the store takes few at once, and
        who writes meanwhile comes in between."""
        pruned = 0
        while few := await self._store.prune(self._retention, self._ledger.clock(), BATCH):
            pruned += few
            await asyncio.sleep(0)
        return pruned

    async def remember(self) -> int:
        """Keep what the jobs of each task were seen to take."""
        for task, kept in self._durations.unsaved().items():
            await self._ledger.keep_fact(DURATIONS + task, kept)
        return 0

    async def recall(self) -> None:
        """Take over what an earlier process has seen."""
        for name, kept in (await self._store.facts(DURATIONS)).items():
            self._durations.load(name.removeprefix(DURATIONS), kept)

    async def rescue(self) -> int:
        """Find jobs that nobody works for any more, and queued ones that nobody will deliver.

        Both are looked for only when the counts do not agree, so that a healthy service never
        scans its jobs.
        """
        counts = await self._store.counts()
        rescued = 0
        if counts["running"] > len(self._registry):
            running = [job async for job in running_jobs(self._store)]
            for job in reversed(running):  # The oldest first: it queued first, too.
                if job.id not in self._registry:
                    rescued += await self._rescue(job)
        if counts["queued"] > self._backlog.known:
            await self._backlog.catch_up()
        return rescued

    async def recover(self) -> int:
        """Take over what an earlier process has left, before anything is run.

        What was running then is decided now; what waits is handed over afterwards, by the backlog,
        in the order of the queue.

        Returns:
            how many jobs were running.
        """
        running = [job async for job in running_jobs(self._store)]
        try:
            for job in reversed(running):  # The oldest first, as they will stand in the queue.
                await self._ledger.settle(job, decide_lost(job))
        except StoreUnavailable as error:  # `rescue` finds the rest, as soon as it can be written.
            logger.warning(
                "jobs that an earlier process was running wait to be taken over: %s", error
            )
        await self._warn_of_unknown_tasks()
        await self._look_ahead()
        return len(running)

    async def _warn_of_unknown_tasks(self) -> None:
        """A job whose task is not offered waits for a start that offers it."""
        page = await self._store.page(Query(statuses=frozenset({"queued"}), limit=100))
        for name in sorted({job.task for job in page.jobs} - set(self._catalog)):
            logger.warning(
                "jobs of the task %r wait, but it is not offered: name its module in "
                "QUART_APP_TASKS, or cancel them",
                name,
            )

    async def _rescue(self, job: Job) -> int:
        moved = await self._ledger.settle(job, decide_lost(job))
        if moved is not None and moved.status == "queued":
            await self.hand_over(moved)
        return int(moved is not None)

    async def hand_over(self, job: Job) -> None:
        """A queued job is to be delivered."""
        task = self._catalog.get(job.task)
        if task is not None:  # Otherwise it waits for a start that offers it.
            await self._backlog.submit(job, task)


async def running_jobs(store: Store) -> AsyncIterator[Job]:
    """Every job that is written to run, the newest first."""
    before: int | None = None
    while True:
        query = Query(statuses=frozenset({"running"}), before=before, limit=100)
        page = await store.page(query)
        for job in page.jobs:
            yield job
        if page.next is None:
            return
        before = page.next


async def _all_of(work: Callable[[], Awaitable[int]]) -> None:
    """Do the work until there is less of it than one batch, and let others run in between."""
    while True:
        if await work() < BATCH:
            return
        await asyncio.sleep(0)
