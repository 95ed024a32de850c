"""Hears what any process does to jobs: tells the hub, and asks a job that runs here to stop where
somebody wants that or it was taken away.

One reader a process, whatever number of watchers. Nothing may live here that writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from quart_app.core.hub import Hub
from quart_app.core.ports import SharedStore
from quart_app.core.registry import Registry
from quart_app.domain.errors import StoreClosed, StoreUnavailable
from quart_app.domain.jobs import Heard, Job, JobEvent

logger = logging.getLogger("quart_app.jobs")

AGAIN, LONGEST = 0.1, 1.0
"""Seconds until a reader that was cut off begins again: the first time, and at most."""
AT_ONCE = 100
"""Events after which others on the loop have their turn."""


class Listener:
    """The one reader of the event log.

    Args:
        store: where it listens.
        hub: whose watchers are told.
        registry: the jobs that run here.
        worker: the id of this process.
    """

    def __init__(self, store: SharedStore, hub: Hub, registry: Registry, worker: str) -> None:
        self._store = store
        self._hub = hub
        self._registry = registry
        self._worker = worker
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._after: int | None = None
        self._missed = False
        """Whether something was missed, and what matters here has not been read since."""
        self.on_event: Callable[[JobEvent], None] = lambda event: None
        """Told of every event, in order."""
        self.on_gap: Callable[[], None] = lambda: None
        """Told that some were missed."""
        self.on_return: Callable[[], None] = lambda: None
        """Told that it reads again after it could not."""
        hub.relayed = True

    async def start(self) -> None:
        """Begin; returns when nothing that is written from now on is missed.

        Raises:
            StoreUnavailable: the store cannot be listened to.
        """
        self._task = asyncio.create_task(self._listen_forever(), name="listener")
        waiting = asyncio.create_task(self._listening.wait())
        await asyncio.wait({self._task, waiting}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        if not self._listening.is_set():
            await self.stop()
            raise StoreUnavailable("The store cannot be listened to: is it there?", retry_after=1.0)

    async def stop(self) -> None:
        """Hear nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen_forever(self) -> None:
        wait = AGAIN
        while True:
            try:
                returns = self._listening.is_set()
                if returns and self._after is None:
                    self._missed = True  # Since it was cut off, and nobody can say what.
                async with contextlib.aclosing(self._store.listen(self._after)) as told:
                    async for batch in told:
                        self._listening.set()
                        wait = AGAIN
                        if returns:
                            returns = False
                            self.on_return()
                        await self._take(batch)
            except StoreClosed:
                return
            except StoreUnavailable as error:
                logger.debug("the event log cannot be read, and will be again: %s", error)
            except Exception:
                logger.exception("the event log could not be read, and will be again")
            await asyncio.sleep(wait)
            wait = min(LONGEST, 2 * wait)

    async def _take(self, batch: Iterable[Heard] | None) -> None:
        if batch is None:
            self._missed = True
        if self._missed:
            await self._look_again()
            self._missed = False  # Where it was cut off meanwhile, all is read once more.
        for count, heard in enumerate(batch or (), 1):
            self._after = heard.seq
            self._hub.hear(heard)
            if isinstance(heard, JobEvent):
                self._look_after(heard.job)
                self.on_event(heard)
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _look_again(self) -> None:
        """Something was missed: what matters here is read."""
        logger.warning("events were missed: those who follow jobs begin anew")
        self._hub.let_go()
        for job_id in {*self._hub.watched(), *(handle.job_id for handle in self._registry)}:
            job = await self._store.get(job_id)
            if job is not None:
                self._hub.hear(JobEvent(job.seq, "newest", job))
                self._look_after(job)
        self.on_gap()

    def _look_after(self, job: Job) -> None:
        """A job that runs here may be wanted no more, or have been taken away."""
        handle = self._registry.get(job.id)
        if handle is None or job.seq <= handle.seq:
            return  # Nothing of it runs here, or it is told of what was known when it began.
        if job.status == "running" and job.worker == self._worker:
            # Also one that is only about to begin: nobody tells of it again.
            if job.cancel_requested_at is not None:
                handle.ask("cancel")
        elif handle.inside:
            # This process was taken for dead; what comes of the function will be refused.
            logger.warning("job %s was taken away: it is asked to stop here", job.id)
            handle.ask("shutdown")
