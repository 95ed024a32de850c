"""A process that only runs jobs, of a store that several processes share; until a signal.

Only the order of its start and its end may live here.
"""

from __future__ import annotations

import asyncio
import functools
import logging

from quart import Quart

from quart_app.app import Jobs, get_jobs
from quart_app.console import begin_logging
from quart_app.domain.errors import InvalidSetting
from quart_app.hosting import LEAVE, Deadline, settle
from quart_app.serve import Signals

logger = logging.getLogger("quart_app")


class WorkerLauncher:
    """Runs the jobs of one app's tasks until a signal, then drains them.

    Args:
        app: an app with `Jobs`; none of its routes is served.
        deadline: ends the process when nothing else does.

    Raises:
        InvalidSetting: its store is this process's alone, or it is to run what nobody offers.
    """

    def __init__(self, app: Quart, deadline: Deadline) -> None:
        self._jobs: Jobs = get_jobs(app)
        self._jobs.kind = "worker"
        self._settings, _ = self._jobs.prepare()
        settings, sources = self._settings, self._settings.sources
        if not settings.shared:
            expected = (
                "a store that several processes share, redis://... or postgresql://...: with this "
                "one the web process runs the jobs itself"
            )
            raise InvalidSetting("QUART_APP_STORE", settings.store, expected, sources["store"])
        if not settings.work:
            expected = "on: a worker that runs nothing is of no use"
            raise InvalidSetting("QUART_APP_WORK", "off", expected, sources["work"])
        self._deadline = deadline
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Work; returns when it has ended.

        Raises:
            Whatever stopped the start.
        """
        Signals(functools.partial(self.heard, asyncio.get_running_loop())).listen()
        await self._jobs.open()
        settle()
        only = ", ".join(self._settings.only) or "all tasks"
        logger.info("worker: runs %s", only)
        try:
            await self._stop.wait()
        finally:
            await self._jobs.close()
            self._deadline.within(LEAVE, status=0)

    def heard(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        """A signal has come: the first begins the shutdown, the second skips the drain."""
        drain = self._settings.drain if count == 1 else 0.0
        self._deadline.within(drain + self._settings.grace + 1.0)
        loop.call_soon_threadsafe(self._begin, count)

    def _begin(self, count: int) -> None:
        self._jobs.begin_close()
        if count > 1:
            self._jobs.hurry()
        self._stop.set()


def run(app: Quart) -> int:
    """Work in this process until a signal; returns the exit status."""
    begin_logging()
    asyncio.run(WorkerLauncher(app, Deadline()).run())
    return 0
