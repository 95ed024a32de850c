"""The running parts where several processes work with the same jobs: what `quart_app.parts` makes,
and what says who is alive, who leads, and what the others do.

Only the order in which they are made and ended may live here.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
from collections.abc import Callable

import msgspec

from quart_app.core.invoke import Invoker
from quart_app.core.lead import Lead
from quart_app.core.listener import Listener
from quart_app.core.migration import MOVING
from quart_app.core.operate import PAUSED
from quart_app.core.orphans import Orphans
from quart_app.core.ports import Engine, SharedEngine, SharedStore
from quart_app.core.presence import Presence
from quart_app.core.runner import Runner
from quart_app.core.shared_backlog import SharedBacklog
from quart_app.core.shared_runner import SharedRunner
from quart_app.core.shared_upkeep import SharedUpkeep
from quart_app.domain.errors import StoreRefused, StoreUnavailable
from quart_app.domain.jobs import JobEvent
from quart_app.domain.tasks import Catalog
from quart_app.domain.workers import Kind, Worker
from quart_app.engines.shared import make_shared_engine, share_transactions
from quart_app.parts import Parts
from quart_app.settings import Settings
from quart_app.stores.shared import make_shared_store

logger = logging.getLogger("quart_app")

LOOK = 1.0
"""Seconds between two looks at which tasks are paused."""


class SharedParts(Parts):
    """Everything that runs in one of several processes.

    Args:
        settings, catalog, clock: as of `Parts`.
        kind: what this process is for.
    """

    store: SharedStore
    engine: SharedEngine
    backlog: SharedBacklog
    runner: SharedRunner
    upkeep: SharedUpkeep
    _upkeep = SharedUpkeep

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        *,
        clock: Callable[[], float] | None = None,
        kind: Kind = "web",
    ) -> None:
        super().__init__(settings, catalog, clock=clock)
        self.process = msgspec.structs.replace(self.process, kind=kind)
        self.ledger.worker = self.process.id
        self.listener = Listener(self.store, self.hub, self.registry, self.process.id)
        self.listener.on_event = self._heard
        make_store = functools.partial(make_shared_store, settings.store, settings.namespace)
        self.presence = Presence(make_store, self.describe, settings.lease)
        self.lead = Lead(self.store, self.process.id, settings.lease, self._begin, self._end)
        self.backlog.say = lambda job_id, waits: self.ledger.note(job_id, waits=waits)
        self.backlog.keep = self.ledger.keep_fact
        self.runner.let_go = self.backlog.let_go
        self.listener.on_gap = self.backlog.missed
        self.listener.on_return = self.orphans.forgot
        self.upkeep.share(self.store, self.backlog, lambda: self.presence.doubt)
        share_transactions(self.store, self.engine, self.backlog, catalog)
        self._loops: list[asyncio.Task[None]] = []

    def _make_store(self) -> SharedStore:
        return make_shared_store(self.settings.store, self.settings.namespace)

    def _make_engine(self, context: contextvars.Context) -> Engine:
        settings = self.settings
        return make_shared_engine(
            settings.store,
            settings.rooms,
            namespace=settings.namespace,
            lease=settings.lease,
            worker=self.process.id,
            context=context,
        )

    def _make_backlog(self, catalog: Catalog) -> SharedBacklog:
        return SharedBacklog(self.store, self.engine, catalog, self.ledger.clock)

    def _make_runner(self, catalog: Catalog, invoker: Invoker) -> Runner:
        runner = SharedRunner(catalog, self.ledger, self.store, self.registry, invoker)
        self.orphans = Orphans(
            self.store, self.ledger, self.registry, lambda job: self.upkeep.hand_over(job)
        )
        runner.follow(
            self.store,
            self.ledger,
            self.backlog.held,
            lambda name: self.backlog.paused(catalog[name]),
            self.orphans,
            self.settings.only,
            lambda: self.presence.doubt,
        )
        return runner

    async def workers(self) -> list[Worker]:
        """The processes that work with these jobs and are alive."""
        return await self.store.workers()

    async def open(self) -> None:
        """Begin to take and, where this process is to, to run jobs.

        Raises:
            StoreRefused, StoreUnavailable: the store cannot be used.
        """
        ends = (self.durations, self.service.pulse, self.upkeep, self.backlog)
        for subscriber in ends:
            self.hub.subscribe_ends(subscriber.on_ends)
        await self.store.open()
        try:
            # Its tables are there before the first job is put into them with the store's own.
            await self.engine.prepare()
            await self._look_at_pauses()
            await self.upkeep.recall()
            await self.listener.start()
            await self.presence.start()
            if not self.presence.alive:
                raise StoreRefused("the store does not keep that this process is alive")
            await self._refuse_half()
            if self.settings.work:
                await self.engine.work(self.runner.run)
        except BaseException:
            await self.presence.stop(leave=True)
            await self.listener.stop()
            await self.engine.close()
            await self.engine.disconnect()
            await self.store.close()
            raise
        self._loops = [asyncio.create_task(self._look_forever(), name="pauses")]
        self.lead.start()
        self._watch()
        where = self.settings.store.partition("://")[0]
        logger.info("jobs are kept in %s, namespace %s", where, self.settings.namespace)

    async def _refuse_half(self) -> None:
        """Looked for once this process counts as alive: who moves jobs looks for that."""
        if MOVING in (facts := await self.store.facts(MOVING)):
            source = facts[MOVING].decode(errors="replace")
            raise StoreRefused(
                f"jobs are being moved into this store from {source}: let 'quart-app migrate' come "
                "to its end, or run it again where it was cut off"
            )

    async def _begin(self) -> None:
        """Lead: look after what is everybody's."""
        await self.backlog.lead()
        await self.upkeep.recover()
        self.upkeep.start()
        await self.schedules.start()

    async def _end(self) -> None:
        await self.schedules.stop()
        await self.upkeep.stop()
        await self.backlog.follow()

    def _heard(self, event: JobEvent) -> None:
        self.backlog.heard(event)
        job = event.job
        if self.lead.leading and job.status == "scheduled" and job.run_at is not None:
            self.upkeep.due_at(job.run_at)

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self._look_at_pauses()
                await self.orphans.look()
            except StoreUnavailable:
                pass  # It has said so itself, once.
            except Exception:
                logger.exception("what goes on elsewhere could not be read, and will be again")

    async def _look_at_pauses(self) -> None:
        """What is paused anywhere is paused here."""
        facts = await self.store.facts(PAUSED)
        paused = {name.removeprefix(PAUSED) for name in facts}
        for task in self.service.catalog.values():
            if task.name in paused and not self.backlog.paused(task):
                self.backlog.pause(task)
            elif task.name not in paused and self.backlog.paused(task):
                self.backlog.resume(task)
                self.service.on_resume(task.name)

    async def close(self) -> None:
        """Drain, then end every part; at most ``drain + grace`` seconds and a little."""
        self.service.draining = True
        await self.lead.stop()
        try:
            await self.drain.finish()
        except Exception:  # The store's, or ours: what was opened is closed all the same.
            logger.exception("the shutdown could not settle every job")
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._unwatch()
        # Whose code goes on counts as alive until the lease is over: nobody else runs it before.
        await self.presence.stop(leave=not self.drain.left)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self.engine.disconnect()
        await self.listener.stop()
        await self.store.close()

    def abandon(self) -> None:
        """As `Parts.abandon`."""
        self.presence.abandon()
        super().abandon()
