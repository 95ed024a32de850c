"""Changing a job in a store that other processes write, too: read, make the next version, swap it
in only where nobody was faster, else again.

So the rules of `quart_app.domain.jobs` (`apply`, `annotate`) hold for every store in one and the
same code, whatever the store's own language. Nothing may live here that knows where jobs are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Job
from quart_app.domain.status import TERMINAL

KEPT = 10_000
"""Versions that are remembered: those of the jobs that were written here last. One that has been
overtaken costs a look, and never a wrong answer."""
LARGE = 16_384
"""Bytes of a job's data; a larger one is read again rather than remembered."""
TRIES = 100
"""Tries against others who write the same job; each means that another one was made."""

Read = Callable[[str], Awaitable[Job | None]]
Swap = Callable[[Job, Job, str], Awaitable[Job | None]]


class Versions:
    """Compare-and-set on the ``seq`` of a job.

    Args:
        read: the newest version of a job, or None.
        swap: given a version, the one that is to follow it and the kind of the event: keeps that
            and gives it with its true ``seq``, or None where the first is not the newest any more.
    """

    def __init__(self, read: Read, swap: Swap) -> None:
        self._read = read
        self._swap = swap
        self._newest: OrderedDict[str, Job] = OrderedDict()

    def remember(self, job: Job) -> None:
        """A version that was kept or heard of just now."""
        known = self._newest.pop(job.id, None)
        if known is not None and known.seq > job.seq:
            job = known
        if job.status in TERMINAL or job.size > LARGE:
            return
        self._newest[job.id] = job
        if len(self._newest) > KEPT:
            self._newest.popitem(last=False)

    def known(self, job_id: str) -> Job | None:
        """The version that is remembered, which may have been overtaken."""
        return self._newest.get(job_id)

    async def change(self, job_id: str, make: Callable[[Job], Job | None], kind: str) -> Job | None:
        """Put the next version of a job in the place of its newest.

        Args:
            make: the next version, or None where that cannot follow.
            kind: of the event, as in `JobEvent`.

        Returns:
            the new version; None where there is no such job, or none may follow.

        Raises:
            StoreUnavailable: others were faster again and again; or whatever reading and swapping
                raise.
        """
        job = self._newest.get(job_id)
        fresh = job is None
        if job is None:
            job = await self._read(job_id)
        for _ in range(TRIES):
            if job is None:
                return None
            after = make(job)
            if after is not None:
                kept = await self._swap(job, after, kind)
                if kept is not None:
                    self.remember(kept)
                    return kept
            elif fresh:
                self.remember(job)
                return None
            job, fresh = await self._read(job_id), True
        message = f"job {job_id} is written by others all the time: try again"
        raise StoreUnavailable(message, retry_after=1.0)
