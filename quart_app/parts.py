"""The running parts of one app on one event loop: made together, ended together.

Only the order in which they are made and ended may live here; `quart_app.app` puts them into Quart.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec

from quart_app.core.backlog import WINDOW, Backlog
from quart_app.core.clock import make_clock
from quart_app.core.drain import Drain
from quart_app.core.durations import Durations
from quart_app.core.hub import Hub
from quart_app.core.invoke import Invoker
from quart_app.core.lag import Lag
from quart_app.core.ledger import Ledger
from quart_app.core.logs import Capture
from quart_app.core.operate import remember_pauses
from quart_app.core.ports import Engine, Store
from quart_app.core.presence import this_process
from quart_app.core.processes import Processes
from quart_app.core.registry import Registry
from quart_app.core.runner import Runner
from quart_app.core.schedules import Schedules
from quart_app.core.service import SERVICE, Service
from quart_app.core.start import serve, unserve
from quart_app.core.threads import Threads
from quart_app.core.upkeep import Upkeep
from quart_app.core.watchdog import Watchdog
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.tasks import Catalog
from quart_app.domain.workers import Worker
from quart_app.engines.local import LocalEngine
from quart_app.settings import Settings
from quart_app.stores.memory import MemoryStore
from quart_app.stores.sqlite.store import SQLiteStore, path_of

logger = logging.getLogger("quart_app")


def make_store(settings: Settings) -> Store:
    """The store that the settings name."""
    if settings.store == "memory":
        return MemoryStore(time.time_ns() // 1_000)
    return SQLiteStore(path_of(settings.store))


class Parts:
    """Everything that runs, from `open` to `close`.

    Args:
        settings: the numbers.
        catalog: the tasks on offer.
        clock: what jobs go by instead of the wall's time, in seconds since the epoch.
    """

    def __init__(
        self, settings: Settings, catalog: Catalog, *, clock: Callable[[], float] | None = None
    ) -> None:
        self.settings = settings
        self._clock = clock
        self.loop = asyncio.get_running_loop()
        self.process = this_process(only=settings.only)
        self.store = self._make_store()
        self.hub = Hub(settings.max_watchers)
        self.ledger = Ledger(
            self.store,
            self.hub,
            max_waiting=settings.max_queued,
            clock=make_clock() if clock is None else clock,
            log_lines=settings.log_lines,
            log_bytes=settings.log_bytes,
        )
        self.registry = Registry(settings.grace)
        self.durations = Durations()
        self.threads = Threads()
        self.processes = Processes(settings.processes, self.threads)
        # What jobs' context variables begin with.
        context = contextvars.Context()
        self.engine = self._make_engine(context)
        self.backlog = self._make_backlog(catalog)
        self.service = Service(
            catalog=catalog,
            store=self.store,
            ledger=self.ledger,
            hub=self.hub,
            registry=self.registry,
            engine=self.engine,
            backlog=self.backlog,
            durations=self.durations,
        )
        context.run(SERVICE.set, self.service)
        self._look_after(settings, catalog)

    def _make_store(self) -> Store:
        return make_store(self.settings)

    def _make_engine(self, context: contextvars.Context) -> Engine:
        return LocalEngine(self.settings.rooms, context)

    def _make_backlog(self, catalog: Catalog) -> Backlog:
        window = None if self.store.volatile else WINDOW
        return Backlog(self.store, self.engine, catalog, window, self.ledger.clock)

    def _make_runner(self, catalog: Catalog, invoker: Invoker) -> Runner:
        return Runner(catalog, self.ledger, self.store, self.registry, invoker)

    _upkeep = Upkeep

    def _look_after(self, settings: Settings, catalog: Catalog) -> None:
        """The parts that run jobs and look after them."""
        invoker = Invoker(
            self.threads, self.processes, max_result=settings.max_result, debug=settings.debug
        )
        self.runner = self._make_runner(catalog, invoker)
        self.upkeep = self._upkeep(
            self.ledger,
            self.store,
            self.backlog,
            self.registry,
            catalog,
            settings.retention,
            self.durations,
        )
        self.watchdog = Watchdog(self.registry, settings.blocked)
        self.schedules = Schedules(
            catalog.values(),
            self.store,
            self.ledger,
            self.service.start_scheduled,
            paused=lambda name: self.backlog.paused(catalog[name]),
            # A wall clock that is set while we run is the one that is meant.
            clock=self._clock or time.time,
        )
        self.service.next_of = self.schedules.next_of
        self.service.on_resume = self.schedules.look
        self.lag = Lag(self.backlog, settings.max_lag)
        self.drain = Drain(self.service, drain=settings.drain, grace=settings.grace)

    async def open(self) -> None:
        """Begin to take and to run jobs.

        Raises:
            StoreRefused, StoreUnavailable: the store cannot be used.
        """
        self.hub.subscribe_ends(self.durations.on_ends)
        self.hub.subscribe_ends(self.service.pulse.on_ends)
        self.hub.subscribe_ends(self.upkeep.on_ends)
        if not self.store.volatile:
            self.hub.subscribe_ends(self.backlog.on_ends)
        await self.store.open()
        if not self.store.volatile:
            logger.info("jobs are kept in %s", self.settings.store)
            try:
                await self._take_over()
                await self.schedules.start()
            except BaseException:
                await self.store.close()
                raise
        else:
            await self.schedules.start()
        await self.engine.work(self.runner.run)
        self.backlog.start()
        self.upkeep.start()
        self._watch()

    def _watch(self) -> None:
        """Begin what looks on; from now on tasks find the service."""
        self.watchdog.start()
        self.lag.start()
        if self.settings.capture:
            Capture.install()
        serve(self.service)

    async def _take_over(self) -> None:
        """Go on with what an earlier process has left."""
        counts = await self.store.counts()
        waiting = counts["queued"] + counts["scheduled"]
        lost = await self.upkeep.recover()
        await remember_pauses(self.service)
        await self.upkeep.recall()
        await self.backlog.remember_rates()
        await self.backlog.catch_up()
        if lost or waiting:
            logger.info("taken over: %d jobs that waited, %d that were running", waiting, lost)

    async def close(self) -> None:
        """Drain, then end every part; at most ``drain + grace`` seconds and a little."""
        await self.schedules.stop()
        try:
            await self.drain.finish()
        except Exception:  # The store's, or ours: what was opened is closed all the same.
            logger.exception("the shutdown could not settle every job")
        await self._unwatch()
        await self.upkeep.stop()
        if not self.store.volatile:
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(0.5):
                    await self.upkeep.remember()
        if self.drain.left:
            self.store.reserve()
        await self.store.close()

    async def _unwatch(self) -> None:
        """The opposite of `_watch`, and nothing runs any more."""
        self.processes.close()
        self.threads.close()
        self.watchdog.stop()
        await self.lag.stop()
        if self.settings.capture:
            Capture.remove()
        unserve(self.service)

    def abandon(self) -> None:
        """Let go of parts whose event loop has gone: nothing can be awaited there any more."""
        self.processes.close()
        self.threads.close()
        self.watchdog.stop()
        if self.settings.capture:
            Capture.remove()
        unserve(self.service)
        self.store.abandon()

    def describe(self) -> Worker:
        """What this process says of itself; from whichever thread."""
        return msgspec.structs.replace(
            self.process,
            running=len(self.registry),
            room=sum(self.settings.rooms.values()) if self.settings.work else 0,
            draining=self.service.draining,
        )

    async def workers(self) -> list[Worker]:
        """The processes that work with these jobs: this one."""
        return [self.describe()]

    def health(self) -> dict[str, Any]:
        """What ``/healthz`` says of the loop."""
        reports = [msgspec.structs.asdict(report) for report in self.watchdog.reports()]
        return {
            "running": len(self.registry),
            "watchers": self.hub.watchers,
            "lag": round(self.lag.seconds, 4),
            "store": self.store.trouble or "ok",
            "blocked": {"count": self.watchdog.count, "newest": reports},
        }
