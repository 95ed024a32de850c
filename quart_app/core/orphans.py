"""Jobs that this process is said to run and does not: it had no answer to a claim that was taken
after all, or the server forgot how a job ended (it came back, or a replica took over, without the
last of what it had kept). Nobody else can tell: the process is alive.

Nothing may live here that says what becomes of a job whose process is dead.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from quart_app.core.ledger import Ledger
from quart_app.core.ports import SharedStore
from quart_app.core.registry import Registry
from quart_app.core.upkeep import running_jobs
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Job
from quart_app.domain.outcomes import Outcome, decide_lost, decide_unbegun

logger = logging.getLogger("quart_app.jobs")

LOOKS = 5
"""Looks, a second apart, that have to find a claim not taken until it is taken for refused: a
server that hung, or a line that held it back, may take it after it was looked for."""


class Orphans:
    """Finds them, and lets them go on.

    A job is in the registry from before its claim until its end is written. So one that is not,
    and is read to run here afterwards, runs nowhere.

    Args:
        store, ledger, registry: of this process.
        submit: hands a queued job over.
    """

    def __init__(
        self,
        store: SharedStore,
        ledger: Ledger,
        registry: Registry,
        submit: Callable[[Job], Awaitable[None]],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._registry = registry
        self._submit = submit
        self._unsure = dict[str, int]()
        """By job, how many more looks it is worth."""
        self._forgot = False

    def unsure(self, job_id: str) -> None:
        """A claim of this job had no answer; nothing of it has begun."""
        self._unsure[job_id] = LOOKS

    def forgot(self) -> None:
        """The server was away: perhaps it has forgotten how jobs have ended."""
        self._forgot = True

    async def freed(self, job: Job) -> Job | None:
        """A running job as it is once its claim, if that had no answer, is given back; None where
        it runs here, or somebody else was first.

        Raises:
            StoreUnavailable: it could not be written, and will be looked at again.
        """
        if job.id not in self._unsure or not self._is_mine(job):
            return None
        del self._unsure[job.id]  # Before anything is awaited: once is enough.
        try:
            return await self._ledger.settle(job, decide_unbegun())
        except StoreUnavailable:
            self.unsure(job.id)
            raise

    async def look(self) -> int:
        """Let those go on that are to be found; gives how many there were.

        Raises:
            StoreUnavailable: not all were looked at; the rest is the next time.
        """
        found = 0
        for job_id in list(self._unsure):
            if job_id not in self._registry:  # Otherwise it is claimed once more just now.
                found += await self._look_at(job_id)
        if self._forgot:
            self._forgot = False
            try:
                async for job in self._forgotten():
                    found += await self._settle(job, decide_lost(job))
            except StoreUnavailable:
                self._forgot = True
                raise
        return found

    async def _look_at(self, job_id: str) -> int:
        job = await self._store.get(job_id)
        if job is None or not self._is_mine(job):
            self._unsure[job_id] = left = self._unsure.get(job_id, 0) - 1
            if left <= 0:
                del self._unsure[job_id]
            return 0
        freed = await self.freed(job)
        if freed is not None and freed.status == "queued":
            await self._submit(freed)
        return int(freed is not None)

    async def _forgotten(self) -> AsyncIterator[Job]:
        async for seen in running_jobs(self._store):
            if self._is_mine(seen) and seen.id not in self._unsure:
                # Read once more: what is not in the registry by now has had its end written.
                job = await self._store.get(seen.id)
                if job is not None and self._is_mine(job) and job.attempt == seen.attempt:
                    yield job

    def _is_mine(self, job: Job) -> bool:
        mine = job.status == "running" and job.worker == self._ledger.worker
        return mine and job.id not in self._registry

    async def _settle(self, job: Job, outcome: Outcome) -> int:
        moved = await self._ledger.settle(job, outcome)
        if moved is None:
            return 0
        logger.warning("the store has forgotten how job %s ended here", job.id)
        if moved.status == "queued":
            await self._submit(moved)
        return 1
