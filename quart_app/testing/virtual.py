"""Virtual time, and waiting without sleeping. Nothing may live here that knows of jobs."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

REAL_WAIT = 10.0
"""Seconds of real time that a virtual loop waits for a thread before it says that all is stuck."""
LONGEST = 10 * 366 * 86_400.0
"""Seconds of virtual time after which whatever is waited for will probably never come."""


class _JumpingSelector(selectors.DefaultSelector):
    """Looks for real events without waiting; where there are none, lets the clock jump."""

    now = 0.0
    outside = 0
    """How many work where no timer of ours is: meanwhile the clock goes as the wall's does."""
    limit = LONGEST

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.outside:
            return self._wait(timeout)
        if timeout is None:  # Only a thread can go on from here.
            ready = super().select(REAL_WAIT)
            if not ready:
                raise RuntimeError("every asyncio task waits, and no timer is set: a deadlock")
            return ready
        self.now += timeout
        if self.now > self.limit:
            self.limit = self.now + LONGEST  # What is canceled now may have timers, too.
            raise RuntimeError("ten years of virtual time have passed: a deadlock, with timers")
        return []

    def _wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.monotonic()
        ready = super().select(timeout)
        passed = time.monotonic() - began
        if timeout is not None:
            passed = min(passed, timeout) if ready else timeout
        self.now += passed
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nobody can go on.

    A task of two hours is tested in milliseconds. While a thread of `asyncio.to_thread` works, or
    a job's thread or process, time goes as it really does. Real sockets are not waited for: do
    not mix them with timers here.

    >>> async def two_hours():
    ...     started = asyncio.get_running_loop().time()
    ...     await asyncio.sleep(7200)
    ...     return asyncio.get_running_loop().time() - started
    >>> virtual_run(two_hours())
    7200.0
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        # The system's nanosecond is lost in the rounding of a time of a hundred days: a timer
        # whose moment is now would never be due.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds of virtual time since the loop was made."""
        return self._jumping.now

    @contextlib.contextmanager
    def real_time(self) -> Iterator[None]:
        """While the ``with`` lasts the clock does not jump: something outside the loop works."""
        self._jumping.outside += 1
        try:
            yield
        finally:
            self._jumping.outside -= 1

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> Any:  # type: ignore[override]
        """As of every loop; the clock does not jump over the function's time."""
        future = super().run_in_executor(executor, func, *args)
        self._jumping.outside += 1
        future.add_done_callback(self._come_back)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """As of every loop; nor does it jump over the end of the threads."""
        with self.real_time():
            await super().shutdown_default_executor(*args, **kwargs)

    def _come_back(self, _: object) -> None:
        self._jumping.outside -= 1


def virtual_run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


async def wait_until(
    predicate: Callable[[], object | Awaitable[object]], what: str, timeout: float = 10.0
) -> None:
    """Wait until something holds: at once when it does, and never longer than the timeout.

    Args:
        predicate: a function or coroutine function; a true result ends the wait.
        what: what is waited for, for the message.
        timeout: seconds of real time.

    Raises:
        TimeoutError: saying what did not happen.
    """
    until = time.monotonic() + timeout
    while True:
        holds = predicate()
        if isinstance(holds, Awaitable):
            holds = await holds
        if holds:
            return
        if time.monotonic() > until:
            raise TimeoutError(f"it did not happen within {timeout:g} s: {what}")
        await asyncio.sleep(0.005)
