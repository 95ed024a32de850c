"""What of one task, or of one of its keys, runs and has begun: the counting behind `turns`.

Only counting may live here: who waits, and whose turn is next, is in `quart_app.core.turns`.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Generic, Literal, TypeVar

from quart_app.domain.limits import Rate

Parked = Literal["", "slot", "rate", "pause"]
"""What its jobs wait for, where they were found to wait: then nobody looks at them meanwhile."""

State = Literal["sent", "runs", "away", "back", "over"]
"""Of a job's slots: it has them and is on its way to where it begins, has them, has stepped aside,
wants them back, needs them no more."""


class Tally:
    """Slots and begins, with the bounds on both.

    Args:
        limit: jobs that run at once, or None.
        rate: begins within a time, or None.
    """

    __slots__ = (
        *("back", "begun", "fading", "holders", "limit", "parked", "rate", "running", "sent"),
    )

    def __init__(self, limit: int | None, rate: Rate | None) -> None:
        self.limit = limit
        self.rate = rate
        self.running = 0
        self.back = 0  # Slots that jobs which stepped aside wait to take again.
        self.sent = 0  # Jobs that went on and have not begun: each is a begin that is to come.
        self.holders = 0  # Jobs that run or have stepped aside.
        # The newest begins in their order, as many as the rate allows.
        self.begun: deque[float] | None = None if rate is None else deque(maxlen=rate.count)
        self.parked: Parked = ""
        self.fading = False  # Whether somebody will look when the newest begin is out of the rate.

    @property
    def full(self) -> bool:
        """Whether no new job may have a slot, until something happens to one that has."""
        if self.rate is not None and self.sent >= self.rate.count:
            return True
        return self.limit is not None and self.running + self.back >= self.limit

    def opens_at(self, now: float) -> float:
        """When the rate lets the next job begin; not after ``now``: it does. Not while it is
        `full`."""
        begun = self.begun
        if begun is None or self.rate is None or len(begun) + self.sent < self.rate.count:
            return now
        if begun[-1] > now:
            begun = self._set_back(begun, now)
        return begun[len(begun) + self.sent - self.rate.count] + self.rate.period

    @property
    def fades_at(self) -> float:
        """When no begin is within the rate's time any more."""
        return self.begun[-1] + self.rate.period if self.begun and self.rate else -math.inf

    def begin(self, now: float) -> None:
        """Count a begin."""
        begun = self.begun
        if begun is None or self.rate is None:
            return
        if begun and begun[-1] > now:
            begun = self._set_back(begun, now)
        while begun and begun[0] + self.rate.period <= now:
            begun.popleft()
        begun.append(now)

    def grant(self, at: float) -> None:
        """Count a begin of the past; quickly if they come in their order."""
        begun = self.begun
        if begun is None:
            return
        if begun and begun[-1] > at:
            self.begun = deque(sorted((*begun, at)), begun.maxlen)
        else:
            begun.append(at)

    def forget(self) -> None:
        """No begin is within the rate's time any more."""
        if self.begun is not None:
            self.begun.clear()

    def _set_back(self, begun: deque[float], now: float) -> deque[float]:
        """The clock was set back: what begins in the future has begun by now, not in an hour."""
        self.begun = deque((min(at, now) for at in begun), begun.maxlen)
        return self.begun


T = TypeVar("T", bound=Tally)
HAVE: tuple[State, ...] = ("sent", "runs")


class Held(Generic[T]):
    """The slots of one job, of its task and of its key: taken, given back, or wanted back."""

    __slots__ = ("state", "tallies")

    def __init__(self, *tallies: T, state: State = "runs") -> None:
        self.tallies = tallies
        self.state = state
        for tally in tallies:
            tally.holders += 1
            tally.running += 1
            tally.sent += state == "sent"

    @property
    def fits(self) -> bool:
        """Whether there is a slot for it; others who want theirs back come first."""
        return self.state == "runs" or all(
            tally.limit is None
            or tally.running + (0 if self.state == "back" else tally.back) < tally.limit
            for tally in self.tallies
        )

    def become(self, state: State) -> None:
        """Change the counts."""
        for tally in self.tallies:
            tally.running += (state in HAVE) - (self.state in HAVE)
            tally.sent += (state == "sent") - (self.state == "sent")
            tally.back += (state == "back") - (self.state == "back")
            tally.holders -= state == "over"
        self.state = state
