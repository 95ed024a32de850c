"""One timer for the earliest of many moments. Nothing may live here that knows what is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls a function at the earliest moment that it was told of; of later ones it is told again.

    Args:
        clock: seconds since the epoch, in which moments are.
        ring: what is called, on the event loop.
    """

    def __init__(self, clock: Callable[[], float], ring: Callable[[], object]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def at(self, moment: float) -> None:
        """Ring then, unless it rings before; at once where it is past."""
        loop = asyncio.get_running_loop()
        when = loop.time() + max(0.0, moment - self._clock())
        if self._timer is None or when < self._timer.when():
            self.stop()
            self._timer = loop.call_at(when, self._on_time)

    def stop(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        self._ring()
