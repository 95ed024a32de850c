"""How long each task's jobs were seen to take: what ``eta``, ``Retry-After`` and the catalog say.

A subscriber of the hub; it is told, it never asks. Only durations may live here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from quart_app.domain.jobs import Job

KEPT = 100
"""Newest durations of each task that are kept: enough for a 95th percentile, 1 kB."""
FRESH = 16
"""Endings after which the typical duration is worked out anew; the first ones count at once."""


class Observed(msgspec.Struct, frozen=True):
    """What was seen of a task's succeeded jobs, in seconds."""

    count: int
    p50: float | None
    p95: float | None


class _Seen:
    """What was seen of one task."""

    __slots__ = ("count", "newest", "stale", "typical")

    def __init__(self) -> None:
        self.newest: deque[float] = deque(maxlen=KEPT)
        self.count = 0
        self.typical: float | None = None
        self.stale = 1
        """The count from which on `typical` is worked out anew."""


class Durations:
    """The newest durations of each task.

    Args:
        measure: seconds of a job that has ended, or None; by default how long one ran that has
            succeeded.

    >>> durations = Durations()
    >>> durations.observed("report")
    Observed(count=0, p50=None, p95=None)
    """

    def __init__(self, measure: Callable[[Job], float | None] | None = None) -> None:
        self._measure = measure
        self._seen: dict[str, _Seen] = {}
        self._saved: dict[str, int] = {}

    def on_ends(self, jobs: Iterable[Job]) -> None:
        """Take the durations of jobs that have ended."""
        measure, seen, task = self._measure, None, None
        for job in jobs:
            if measure is not None:
                seconds = measure(job)
            elif job.status != "succeeded" or job.started_at is None or job.finished_at is None:
                continue
            else:
                seconds = job.finished_at - job.started_at
            if seconds is None:
                continue
            if seen is None or job.task != task:  # Of many at once most are of one task.
                task = job.task
                seen = self._seen.get(task) or self._seen.setdefault(task, _Seen())
            seen.newest.append(seconds)
            seen.count += 1

    def load(self, task: str, kept: bytes) -> None:
        """Take over what an earlier process has seen of a task; `unsaved` has made it."""
        try:
            count, durations = msgspec.json.decode(kept, type=tuple[int, list[float]])
        except msgspec.DecodeError:
            return  # Of another version: it is only for guesses.
        seen = self._seen[task] = _Seen()
        seen.count = count
        seen.newest.extend(durations)
        self._saved[task] = count

    def unsaved(self) -> dict[str, bytes]:
        """What has changed since the last call, by task, to be kept over a restart."""
        changed = {
            task: seen for task, seen in self._seen.items() if self._saved.get(task) != seen.count
        }
        self._saved = {task: seen.count for task, seen in self._seen.items()}
        return {
            task: msgspec.json.encode((seen.count, list(seen.newest)))
            for task, seen in changed.items()
        }

    def observed(self, task: str) -> Observed:
        """Count, median and 95th percentile."""
        seen = self._seen.get(task)
        if seen is None:
            return Observed(0, None, None)
        durations = sorted(seen.newest)
        p50 = durations[math.ceil(0.5 * len(durations)) - 1]
        p95 = durations[math.ceil(0.95 * len(durations)) - 1]
        return Observed(seen.count, round(p50, 6), round(p95, 6))

    def typical(self, task: str) -> float | None:
        """Seconds that a job of this task usually runs, or None while nothing was seen.

        Asked for with every start, so it is worked out once for so many endings.
        """
        seen = self._seen.get(task)
        if seen is None:
            return None
        if seen.count >= seen.stale:
            seen.typical = self.observed(task).p50
            seen.stale = seen.count + (1 if seen.count < FRESH else FRESH)
        return seen.typical
