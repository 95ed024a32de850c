"""The upkeep where several processes work with the same jobs; whoever leads does it.

Nothing may live here that an upkeep of one process needs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from quart_app.core.migration import ALL, UNDELIVERED
from quart_app.core.ports import SharedStore
from quart_app.core.shared_backlog import SharedBacklog
from quart_app.core.upkeep import Upkeep, running_jobs

logger = logging.getLogger("quart_app.upkeep")

STRANDED = 100
"""Jobs of a task, the first of its queue, that are handed over again with each look: one that was
lost on its way to the engine comes to be one of them."""


class SharedUpkeep(Upkeep):
    """An `Upkeep` for a `SharedStore`; `share` says what else it needs."""

    def share(
        self,
        store: SharedStore,
        backlog: SharedBacklog,
        doubt: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Know the store and the backlog as what they are besides.

        Args:
            doubt: seconds until this process may say of another that it is dead.
        """
        self._shared = store
        self._holding = backlog
        self._doubt = doubt

    def works(self) -> dict[str, Coroutine[Any, Any, None]]:
        """The loops: those of one process, and one for what others' transactions have brought."""
        return {**super().works(), "publish": self._forever(1.0, self.publish)}

    async def publish(self) -> int:
        """Hand over the jobs that came in with a transaction of somebody else's."""
        for job in await self._shared.publish():
            await self.hand_over(job)
        return 0

    async def rescue(self) -> int:
        """Find jobs whose process is dead, and queued ones that nobody will deliver."""
        counts = await self._store.counts()
        rescued = 0
        if counts["running"] and not self._doubt():
            running = [job async for job in running_jobs(self._store)]
            # Read after them: who claimed one of them had said that it is alive before.
            alive = {worker.id for worker in await self._shared.workers()}
            lost = [job for job in reversed(running) if job.worker not in alive]
            for job in lost:
                rescued += await self._rescue(job)
        if rescued:
            logger.warning("%d jobs were running in processes that are dead", rescued)
        if counts["queued"]:
            # Not when the lead is taken: that has to be done within the lease.
            moved = bool(await self._store.facts(UNDELIVERED))
            await self._deliver_again(ALL if moved else STRANDED)
            if moved:
                await self._ledger.keep_fact(UNDELIVERED, None)
        await self._holding.check()
        return rescued

    async def _deliver_again(self, most: int) -> None:
        for name, counts in (await self._store.counts_by_task()).items():
            task = self._catalog.get(name)
            if task is not None and counts["queued"] and self._holding.clear(task):
                waiting = await self._store.queued(name, most, fair=False)
                await self._holding.submit_all((each.id, task.run) for each in waiting)

    async def recover(self) -> int:
        """Nothing was running here before; see `rescue`."""
        await self._warn_of_unknown_tasks()
        await self._look_ahead()
        return 0
