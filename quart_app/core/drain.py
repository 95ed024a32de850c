"""The end of a service: refuse new jobs, let running ones end, ask them once, leave in time.

Only the order of the shutdown may live here (promise E4). Signals are the launcher's.
"""

from __future__ import annotations

import asyncio
import logging

from quart_app.core.many import matching
from quart_app.core.service import UNFINISHED, Service
from quart_app.domain.jobs import Failure
from quart_app.domain.queries import Query
from quart_app.domain.status import WAITING, Move

logger = logging.getLogger("quart_app.jobs")


class Drain:
    """Ends a service within ``drain + grace`` seconds, whatever its jobs do.

    Args:
        service: what to end.
        drain: seconds that running jobs have to end by themselves.
        grace: seconds that they have after they were asked to stop.
    """

    def __init__(self, service: Service, *, drain: float, grace: float) -> None:
        self._service = service
        self._drain = drain
        self._grace = grace
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.left = 0
        """How many jobs did not stop."""

    def begin(self) -> None:
        """Refuse new jobs and let go of everybody who waits for an event. At once, and harmless
        twice."""
        self._service.draining = True
        self._service.hub.close()

    def hurry(self) -> None:
        """Do not wait for the jobs any longer: ask them to stop now."""
        self._hurry.set()

    async def finish(self) -> None:
        """The whole of it; whoever calls second waits for the first."""
        if self._task is None:
            self.begin()
            self._task = asyncio.create_task(self._finish(), name="drain")
        await asyncio.shield(self._task)

    async def _finish(self) -> None:
        service = self._service
        running = len(service.registry)
        logger.info("shutdown: %d running jobs have %g s to end", running, self._drain)
        if not service.store.volatile:  # What waits is safe where it is.
            await service.backlog.stop()
            await service.engine.close()
            for handle in service.registry:
                if not handle.inside:  # It has not begun, and may wait as well.
                    handle.ask("shutdown")
        await self._quiet(self._drain)
        await service.backlog.stop()
        await service.engine.close()
        self._ask()
        if service.store.volatile:
            # Later than that: who waits for one of them is not to take it for canceled.
            await self._withdraw()
            self._ask()
        service.hub.end()
        try:
            async with asyncio.timeout(self._grace):
                await service.engine.idle()
        except TimeoutError:
            await self._give_up()
        if service.store.volatile:
            await self._withdraw()

    def _ask(self) -> None:
        for handle in self._service.registry:
            handle.ask("shutdown")

    async def _quiet(self, seconds: float) -> None:
        """Wait until nothing runs or will be run, at most so long, or until somebody hurries."""
        quiet = asyncio.create_task(self._service.backlog.idle())
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({quiet, hurry}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in (quiet, hurry):
            task.cancel()
        await asyncio.gather(quiet, hurry, return_exceptions=True)

    async def _withdraw(self) -> None:
        """Nobody will ever run what still waits in a store that ends with us: say so."""
        ledger = self._service.ledger
        async for job in matching(self._service, Query(statuses=WAITING)):
            await ledger.move(job.id, Move.WITHDRAW, reason="shutdown")

    async def _give_up(self) -> None:
        """What did not stop ends with the process. Its record says so; a late writer is fenced.

        Where it is kept, and may run again, it is queued: nobody runs it before this process has
        gone, since that owns the store.
        """
        service = self._service
        if service.store.shared:
            # Others would begin it while its code goes on here: it is theirs when this process has
            # not said for a lease that it is alive.
            for handle in service.registry:
                self.left += 1
                logger.warning("job %s did not stop in time: left behind", handle.job_id)
            return
        error = Failure("Shutdown", "it did not stop within the grace time of the shutdown")
        async for job in matching(service, Query(statuses=UNFINISHED - WAITING)):
            self.left += 1
            logger.warning("job %s of task %s did not stop in time: left behind", job.id, job.task)
            again = job.max_attempts > 1 and not service.store.volatile
            await service.ledger.move(
                job.id,
                Move.INTERRUPT if again else Move.FAIL,
                attempt=job.attempt,
                reason="shutdown",
                error=error,
            )
