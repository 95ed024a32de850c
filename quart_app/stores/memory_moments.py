"""When jobs in memory are due, or expire: a heap of moments. Only that, and whether a
moment still holds, may live here.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping

from quart_app.domain.jobs import Job
from quart_app.domain.status import WAITING

SLACK = 1_000
"""Moments that mean nothing which there may be, besides twice as many as jobs."""


def is_due(job: Job, moment: float) -> bool:
    """Not where it was moved on, even if it was scheduled anew since."""
    return job.status == "scheduled" and (job.run_at or 0.0) == moment


def may_expire(job: Job, moment: float) -> bool:
    """Only what has never begun."""
    return job.status in WAITING and not job.history


class Moments:
    """Jobs by a moment of theirs; it may hold moments that mean nothing any more.

    >>> moments, job = Moments(), Job(id="a", task="t")
    >>> moments.add(2.0, job)
    >>> moments.reached(1.0, 10, {"a": job}, lambda job, moment: True)
    []
    >>> [job.id for job in moments.reached(2.0, 10, {"a": job}, lambda job, moment: True)]
    ['a']
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str]] = []

    def add(self, moment: float, job: Job) -> None:
        """Remember a moment of a job."""
        heapq.heappush(self._heap, (moment, job.order, job.id))

    def shrink(self, jobs: Mapping[str, Job], holds: Callable[[Job, float], bool]) -> None:
        """Let moments that mean nothing any more go, if most do: of jobs that are over they may be
        far away.

        Args:
            jobs: those that are kept, by id.
            holds: whether a moment is still one of the job.
        """
        if len(self._heap) > 2 * len(jobs) + SLACK:
            kept = {
                entry
                for entry in self._heap
                if (job := jobs.get(entry[2])) is not None and holds(job, entry[0])
            }
            self._heap = sorted(kept)  # A heap as well.

    def reached(
        self,
        now: float,
        limit: int,
        jobs: Mapping[str, Job],
        holds: Callable[[Job, float], bool],
    ) -> list[Job]:
        """The jobs whose moment has come. They stay here until it does not hold any more.

        Args:
            now: seconds since the epoch.
            limit: how many at most, the earliest first.
            jobs: those that are kept, by id.
            holds: whether a moment is still one of the job.
        """
        heap = self._heap
        found: dict[str, tuple[float, Job]] = {}
        while heap and len(found) < limit and heap[0][0] <= now:
            moment, _, job_id = heapq.heappop(heap)
            job = jobs.get(job_id)
            if job is not None and holds(job, moment):
                found[job_id] = (moment, job)
        for moment, job in found.values():
            self.add(moment, job)
        return [job for _, job in found.values()]
