"""How the service does now: how many jobs ended in each short while of the last hour, and how long
they waited. A subscriber of the hub; only what it was told since it began may live here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from quart_app.core.durations import Durations
from quart_app.domain.jobs import Job
from quart_app.domain.status import TERMINAL, Status

BUCKET = 10.0
"""Seconds that are counted together."""
BUCKETS = 360
ALL, SOME = 200, 16
"""How long it waited is taken of so many jobs, and then of each so many-th."""
ENDED: tuple[Status, ...] = tuple(sorted(TERMINAL))


class Pulse:
    """The last hour.

    Args:
        clock: seconds since the epoch.

    >>> pulse = Pulse(lambda: 25.0)
    >>> pulse.on_ends([Job(id="a", task="t", status="failed", finished_at=21.0)])
    >>> pulse.counts()["failed"][-1], pulse.since
    (1, 20.0)
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.waits = Durations(_waited)
        self._buckets: deque[dict[Status, int]] = deque(maxlen=BUCKETS)
        self._open: dict[Status, int] = {}
        self._newest = int(clock() // BUCKET) - 1
        self._until = 0.0
        self._seen = 0
        self._advance(clock())

    def on_ends(self, jobs: Sequence[Job]) -> None:
        """Take jobs that have ended. Called with all, so it counts and does little else."""
        opened, until = self._open, self._until
        for job in jobs:
            at = job.finished_at
            if at is not None and at >= until:
                self._advance(at)
                opened, until = self._open, self._until
            opened[job.status] += 1
        self._seen += len(jobs)
        every = 1 if self._seen <= ALL else SOME
        self.waits.on_ends(jobs[-1 - self._seen % every :: -every])

    def _advance(self, at: float) -> None:
        """Begin the bucket of this moment, and those that nothing ended in."""
        bucket = int(at // BUCKET)
        for _ in range(min(BUCKETS, bucket - self._newest)):
            self._open = dict.fromkeys(ENDED, 0)
            self._buckets.append(self._open)
        self._newest = max(self._newest, bucket)
        self._until = (self._newest + 1) * BUCKET

    @property
    def since(self) -> float:
        """The moment at which the oldest bucket begins."""
        return (self._newest - len(self._buckets) + 1) * BUCKET

    def counts(self) -> dict[Status, list[int]]:
        """How many jobs ended with each status, a number for each bucket, the oldest first."""
        self._advance(self._clock())
        return {status: [each[status] for each in self._buckets] for status in ENDED}


def _waited(job: Job) -> float | None:
    """Seconds from when it might have begun until it did."""
    if job.started_at is None or job.history:
        return None
    return max(0.0, job.started_at - max(job.created_at, job.run_at or 0.0))
