"""What probably comes: when a job will end, when to look again, and its place in the queue.

Only guesses may live here, each from what was seen; nothing decides by them.
"""

from __future__ import annotations

from collections.abc import Callable

from quart_app.core.backlog import Backlog
from quart_app.core.durations import Durations
from quart_app.domain.jobs import Job
from quart_app.domain.tasks import Catalog


class Outlook:
    """Guesses about jobs.

    Args:
        durations: what the jobs of each task were seen to take.
        backlog: who waits before whom.
        catalog: in which lane each task runs.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        durations: Durations,
        backlog: Backlog,
        catalog: Catalog,
        clock: Callable[[], float],
    ) -> None:
        self._durations = durations
        self._backlog = backlog
        self._catalog = catalog
        self._clock = clock

    def position(self, job: Job) -> int | None:
        """The place of a queued job in the queue of its lane, from 1; None where it has none."""
        if job.status != "queued":
            return None
        task = self._catalog.get(job.task)
        return None if task is None else self._backlog.position(job.id, task.run)

    def eta(self, job: Job) -> float | None:
        """The moment at which a running job will probably end, or None where nobody can say.

        What the task usually takes says it first. The more of its work a job has reported, the
        more its own pace counts: by the share that is done.
        """
        if job.status != "running" or job.started_at is None:
            return None
        now = self._clock()
        gone = now - job.started_at
        typical = self._durations.typical(job.task)
        percent = None if job.progress is None else job.progress.percent
        if percent and gone > 0:
            share = percent / 100
            paced = gone / share
            seconds = paced if typical is None else share * paced + (1 - share) * typical
            return max(now, job.started_at + seconds)
        if typical is None or typical <= gone:
            return None
        return job.started_at + typical

    def retry_after(self, job: Job) -> float:
        """Seconds after which another look is worth it: until it may begin, or until it will
        probably have ended; 1 to 60."""
        now = self._clock()
        if job.status == "scheduled" and job.run_at is not None:
            return min(60.0, max(1.0, job.run_at - now))
        eta = self.eta(job)
        if eta is None:
            typical = self._durations.typical(job.task)
            started = job.started_at is not None
            eta = now if typical is None or started else now + typical
        return min(60.0, max(1.0, eta - now))
