"""The runner where others take from the same queue: before the claim it looks whether the job is
for this process, and afterwards it says whether it is to be delivered again.

Nothing may live here that a runner of one process needs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from quart_app.core.ledger import Ledger
from quart_app.core.operate import PAUSED
from quart_app.core.orphans import Orphans
from quart_app.core.ports import SharedStore
from quart_app.core.registry import Handle
from quart_app.core.runner import Runner
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Job
from quart_app.domain.outcomes import decide_lost

SOON = 0.02
"""Seconds until a job comes again whose answer has not left."""
ELSEWHERE = 0.1, 30.0
"""Seconds until a job is offered to somebody else: at least, and at most."""
ITS_AGE = 0.5
"""How much of its age that is between the two, so that the waits grow by half each time."""


class SharedRunner(Runner):
    """A `Runner` for a `SharedStore`; `follow` says what else it needs."""

    def follow(
        self,
        store: SharedStore,
        ledger: Ledger,
        held: Collection[str],
        paused: Callable[[str], bool],
        orphans: Orphans,
        only: Collection[str] = (),
        doubt: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Know what decides whether a job may begin here.

        Args:
            store, ledger: the runner's.
            held: the ids of jobs that were started here and whose answer has not left.
            paused: whether the task of this name is paused.
            orphans: told of claims that had no answer.
            only: the names of the tasks that run here; all that are offered where there are none.
            doubt: seconds until this process may say of another that it is dead.
        """
        self._shared, self._writer = store, ledger
        self._held, self._paused, self._only = held, paused, only
        self._orphans, self._doubt = orphans, doubt
        self.let_go: Callable[[Job], Awaitable[bool]] | None = None
        """Whether whoever leads has let a job go on; where nobody can say, it has."""

    async def run(self, job_id: str) -> float | None:
        """As `Runner.run`."""
        job = await self._shared.get(job_id)
        if job is not None and job.status == "running":
            freed = await self._orphans.freed(job)
            if freed is None:
                if not await self._is_lost(job):
                    return None
                if (doubt := self._doubt()) > 0:
                    return doubt
                freed = await self._writer.settle(job, decide_lost(job))
            job = freed
        if job is None or job.status != "queued":
            return None
        if job.task not in self._tasks or (self._only and job.task not in self._only):
            age = max(0.0, self._writer.clock() - job.updated_at)
            return min(ELSEWHERE[1], max(ELSEWHERE[0], ITS_AGE * age))
        if self._paused(job.task) and await self._stays_paused(job.task):
            return None  # Whoever leads delivers what waits when it is resumed.
        if job_id in self._held:
            return SOON
        if not await self._may_begin(job):
            return None  # Whoever leads lets it go on in its turn.
        return await super().run(job_id)

    async def _claim_later(self, handle: Handle, error: StoreUnavailable) -> Job | None:
        """It is given back: another process may have a store that answers."""
        self._orphans.unsure(handle.job_id)
        raise error

    async def _stays_paused(self, task: str) -> bool:
        """What is known here may be old: a job that is refused comes only when it is resumed."""
        return PAUSED + task in await self._shared.facts(PAUSED + task)

    async def _may_begin(self, job: Job) -> bool:
        """Of what was put back an engine may have an old delivery: then its slot is another's."""
        if self.let_go is None or not job.history or self._tasks[job.task].unlimited:
            return True
        return await self.let_go(job)

    async def _is_lost(self, job: Job) -> bool:
        """A job that is delivered although it runs: its process may be dead. If it is not, nothing
        is to be done: whoever leads looks after it."""
        if job.worker is None or job.id in self._registry:
            return False
        return job.worker not in {each.id for each in await self._shared.workers()}

    def _again(self, after: Job | None) -> float | None:
        """A shutdown has put it back: it is for somebody else now; where limits hold it back, when
        whoever leads says so."""
        if after is None or after.status != "queued" or not self._tasks[after.task].unlimited:
            return None
        return 0.0
