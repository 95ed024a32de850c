"""How late the event loop is for its timers, and that no new job begins on it while it is too late.

A job that blocks the loop for a moment cannot be stopped, but it need not get company: what waits
begins when the loop is in time again. Nothing may live here that acts on a job.
"""

from __future__ import annotations

import asyncio

from quart_app.core.backlog import Backlog

PERIOD = 0.05
"""Seconds between two looks."""
FALL = 0.5
"""How much of the last lag counts after a look: one that was in time does not end it at once."""


class Lag:
    """Looks at the loop on which it was started.

    Args:
        backlog: what is held back.
        most: seconds of lag beyond which nothing new begins; it goes on below half of that.
    """

    def __init__(self, backlog: Backlog, most: float) -> None:
        self._backlog = backlog
        self._most = most
        self._task: asyncio.Task[None] | None = None
        self.seconds = 0.0
        """The lag now: at once when it rises, halved with each look when it falls."""

    def start(self) -> None:
        """Begin to look, on this event loop."""
        self._task = asyncio.create_task(self._forever(), name="lag")

    async def stop(self) -> None:
        """Look no more, and hold nothing back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._backlog.lagging = False

    async def _forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PERIOD
            await asyncio.sleep(PERIOD)
            self.note(max(0.0, loop.time() - due))

    def note(self, late: float) -> None:
        """Take the lateness of one timer, in seconds."""
        self.seconds = max(late, self.seconds * FALL)
        if self._backlog.lagging:
            if self.seconds < self._most / 2:
                self._backlog.lagging = False
            self._backlog.look()  # One at least goes on, meanwhile, too.
        elif self.seconds > self._most:
            self._backlog.lagging = True
