"""For tests, of users and of the package: virtual time, waiting without sleeping, conformance.

``check_store`` and ``check_engine`` hold every `Store` and `Engine` to the rules of
`quart_app.core.ports`; whoever writes one calls them with a maker. Nothing of the running package
may import this module.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from quart_app.checks import engine as _engine
from quart_app.checks import store as _store
from quart_app.core.ports import Engine, Store

T = TypeVar("T")

RULE_TIME = 30.0
"""Seconds that one rule of a conformance suite may take."""
REAL_WAIT = 10.0
"""Seconds of real time that a virtual loop waits for a thread before it says that all is stuck."""


class _JumpingSelector(selectors.DefaultSelector):
    """Looks for real events without waiting; where there are none, lets the clock jump."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:  # Only a thread can go on from here.
            ready = super().select(REAL_WAIT)
            if not ready:
                raise RuntimeError("every asyncio task waits, and no timer is set: a deadlock")
            return ready
        self.now += timeout
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nobody can go on.

    A task of two hours is tested in milliseconds. Real sockets, threads and processes keep real
    time: do not mix them with timers here.

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

    def time(self) -> float:
        """Seconds of virtual time since the loop was made."""
        return self._jumping.now


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


async def check_store(maker: Callable[[], Store]) -> None:
    """Hold a store to the rules of `quart_app.core.ports.Store`.

    Args:
        maker: makes a new, empty store; called once for each rule.

    Raises:
        AssertionError: naming the rule that it breaks.
    """
    for rule in _store.RULES:
        store = maker()
        await store.open()
        try:
            await _hold(rule, store)
        finally:
            await store.close()


async def check_engine(maker: Callable[[], Engine]) -> None:
    """Hold an engine to the rules of `quart_app.core.ports.Engine`.

    Args:
        maker: makes a new engine whose loop lane has room for two jobs; called for each rule.

    Raises:
        AssertionError: naming the rule that it breaks.
    """
    for rule in _engine.RULES:
        engine = maker()
        try:
            await _hold(rule, engine)
        finally:
            await engine.close()


async def _hold(rule: Callable[[T], Awaitable[None]], subject: T) -> None:
    """Say which rule is broken, also where one never comes to its end."""
    try:
        async with asyncio.timeout(RULE_TIME):
            await rule(subject)
    except (AssertionError, TimeoutError) as error:
        message = f"{getattr(rule, '__name__', rule)}: {rule.__doc__}"
        raise AssertionError(message) from error
