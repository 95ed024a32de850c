"""One process at a time leads: it looks after what is everybody's. The store says which.

Nothing may live here that knows what a leader does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from quart_app.core.ports import SharedStore
from quart_app.domain.errors import StoreUnavailable

logger = logging.getLogger("quart_app.upkeep")

LOOKS = 4
"""How often a lease is renewed, or asked for, while it lasts."""
SURE = 0.8
"""How much of its lease a leader counts on: clocks of machines go differently fast."""


class Lead:
    """Takes the lead where nobody has it, and gives it up in time where it cannot be renewed.

    Args:
        store: says who leads.
        worker: the id of this process.
        lease: seconds for which the lead holds.
        begin, end: called when this process begins to lead, and when it does no more. Where
            ``begin`` fails, or takes longer than the lease, ``end`` is called, and it is tried
            again. ``end`` may be called again where it was cut off.
    """

    def __init__(
        self,
        store: SharedStore,
        worker: str,
        lease: float,
        begin: Callable[[], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._worker = worker
        self._lease = lease
        self._begin = begin
        self._end = end
        self._until = 0.0
        """The moment until which this process may lead, by the loop's time."""
        self._task: asyncio.Task[None] | None = None
        self._begun = False  # Whether there is something to end.
        self.leading = False

    def start(self) -> None:
        """Begin to ask, on this event loop."""
        self._task = asyncio.create_task(self._forever(), name="lead")

    async def stop(self) -> None:
        """Lead no more, and ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await self._give_up()

    async def _forever(self) -> None:
        while True:
            try:
                await self._look()
            except StoreUnavailable:
                pass  # It has said so itself, once.
            except Exception:
                logger.exception("the lead could not be taken, and will be tried again")
            # Who cannot renew its lead has given it up before somebody else may have it.
            await asyncio.sleep(min(self._lease / LOOKS, self._left()))

    def _left(self) -> float:
        """Seconds for which this process may lead; any number where it does not."""
        if not self.leading:
            return self._lease
        return max(0.0, self._until - asyncio.get_running_loop().time())

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        since = loop.time()
        try:
            async with asyncio.timeout(min(max(0.5, self._lease / LOOKS), self._left())):
                won = await self._store.lead(self._worker, self._lease)
        except (StoreUnavailable, TimeoutError):
            if loop.time() >= self._until:
                await self._give_up()
            return
        if not won:
            await self._give_up()
            return
        self._until = since + SURE * self._lease
        if not self.leading:
            await self._take(loop.time())

    async def _take(self, since: float) -> None:
        """Begin, within the time for which the lead is certain; what follows has all of it."""
        self.leading = self._begun = True
        logger.info("this process leads")
        try:
            async with asyncio.timeout(self._left()):
                await self._begin()
        except BaseException:
            await self._give_up()
            raise
        if asyncio.get_running_loop().time() - since > self._lease / LOOKS:
            await self._look()

    async def _give_up(self) -> None:
        if self.leading:
            self.leading = False
            logger.info("this process does not lead any more")
        if self._begun:  # Until it has come to its end, it is ended again.
            await self._end()
            self._begun = False
