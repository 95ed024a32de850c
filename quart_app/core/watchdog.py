"""Who blocks the event loop: a thread that looks in, and names the job and the line.

The thread asks the loop for a sign of life every few milliseconds. When none comes for a tenth of a
second it writes down the loop's stack, while it is still standing there. Nothing may live here that
acts on a job.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections import deque
from types import FrameType

import msgspec

from quart_app.core.registry import Registry

logger = logging.getLogger("quart_app.watchdog")

FRAMES = 12
KEPT = 10


class Blocked(msgspec.Struct, frozen=True):
    """One time that the loop stood still.

    ``seconds`` is how long, ``where`` the line that the loop stood on, ``stack`` the lines that led
    there, innermost first; ``job`` is None where it was no job.
    """

    at: float
    seconds: float
    job: str | None
    where: str | None
    stack: list[str]


class Watchdog:
    """Watches the loop on which it was started.

    Args:
        registry: where a running asyncio task's job is found.
        threshold: seconds without a sign of life that are reported.
    """

    def __init__(self, registry: Registry, threshold: float = 0.1) -> None:
        self._registry = registry
        self._threshold = threshold
        self._blocked: deque[Blocked] = deque(maxlen=KEPT)
        self._stop = threading.Event()
        self._alive = threading.Event()
        self._thread: threading.Thread | None = None
        self.count = 0

    def start(self) -> None:
        """Begin to watch the running loop."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._watch,
            args=(loop, threading.get_ident()),
            name="quart-app-watchdog",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """Watch no more. The thread ends by itself, without waiting for a sign of life."""
        self._stop.set()
        self._alive.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def reports(self) -> list[Blocked]:
        """The newest times that the loop stood still, newest first."""
        return list(reversed(self._blocked))

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        alive = self._alive
        # Whoever blocks may begin right after a sign of life: so both together are the threshold.
        period = self._threshold / 5
        while not self._stop.wait(period):
            alive.clear()
            asked = time.monotonic()
            try:
                loop.call_soon_threadsafe(alive.set)
            except RuntimeError:  # The loop has closed.
                return
            if alive.wait(self._threshold - period) or self._stop.is_set():
                continue
            frame = sys._current_frames().get(thread_id)
            if _waits(frame):
                continue
            job, stack = self._look(loop, frame)
            while not alive.wait(period):
                if self._stop.is_set() or loop.is_closed():
                    return
            self._report(time.monotonic() - asked, job, stack)

    def _look(
        self, loop: asyncio.AbstractEventLoop, frame: FrameType | None
    ) -> tuple[str | None, traceback.StackSummary]:
        """Which job the loop is in, and its stack."""
        handle = self._registry.find(asyncio.current_task(loop))
        frames = iter(()) if frame is None else traceback.walk_stack(frame)
        stack = traceback.StackSummary.extract(frames, limit=FRAMES)
        job = None if handle is None else handle.job_id
        where = self._line(stack) or "?"
        logger.warning("the event loop is blocked at %s by %s", where, _name(job))
        return job, stack

    def _report(self, seconds: float, job: str | None, stack: traceback.StackSummary) -> None:
        self.count += 1
        where = self._line(stack)
        lines = [f"{line.filename}:{line.lineno} in {line.name}" for line in stack]
        self._blocked.append(Blocked(time.time(), round(seconds, 3), job, where, lines))
        logger.warning(
            "the event loop was blocked for %.3f s at %s by %s", seconds, where, _name(job)
        )

    @staticmethod
    def _line(stack: traceback.StackSummary) -> str | None:
        """The innermost line: that is what the loop is standing on."""
        if not stack:
            return None
        line = stack[0]
        return f"{line.filename}:{line.lineno} in {line.name}"


def _waits(frame: FrameType | None) -> bool:
    """Whether the loop itself waits for something to do. It has been woken, and the process gets no
    processor: no code blocks it. (A selector of other code, as in ``subprocess.run``, does.)"""
    while frame is not None and frame.f_code.co_name == "select":
        frame = frame.f_back
        if frame is not None and frame.f_code.co_name == "_run_once":
            return True
    return False


def _name(job: str | None) -> str:
    return "something that is not a job" if job is None else f"job {job}"
