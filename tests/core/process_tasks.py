"""Functions for processes: they are found there by name, so they stand at a module's top.

They are not counted in the coverage: many of these processes are killed, and with one goes what
was counted in it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from quart_app.core.context import Context


def where() -> int:  # pragma: no cover
    """The process in which it runs."""
    return os.getpid()


def double(number: int) -> int:  # pragma: no cover
    return 2 * number


def fails(message: str) -> None:  # pragma: no cover
    raise ValueError(message)


def exits() -> None:  # pragma: no cover
    sys.exit(3)


def dies(status: int) -> None:  # pragma: no cover
    os._exit(status)


def kills_itself() -> None:  # pragma: no cover
    os.kill(os.getpid(), signal.SIGKILL)


def reports(ctx: Context, steps: int) -> str:  # pragma: no cover
    """Says how far it is."""
    for step in range(steps):
        ctx.progress(step + 1, steps, f"step {step + 1}")
        time.sleep(0.05)
    return f"{ctx.id} {ctx.attempt}"


def sleeps(path: str) -> None:  # pragma: no cover
    """Says when it has begun, and whether its cleanup has run."""
    try:
        Path(path, "begun").touch()
        time.sleep(60)
    finally:
        Path(path, "clean").touch()


def counts_cancels(path: str) -> str:  # pragma: no cover
    """Sees how many CancelledErrors there are, and comes to its end."""
    seen = 0
    Path(path, "begun").touch()
    for _ in range(3):
        try:
            time.sleep(0.4)
        except asyncio.CancelledError:
            seen += 1
    return f"saw {seen}"


def polls(ctx: Context, path: str) -> None:  # pragma: no cover
    """Looks at its flag, and so ends by itself."""
    try:
        Path(path, "begun").touch()
        while True:
            time.sleep(0.01)
            ctx.check_canceled()
    except asyncio.CancelledError:
        Path(path, "canceled" if ctx.canceled else "wrong").touch()
        raise


def raises_cancelled() -> None:  # pragma: no cover
    raise asyncio.CancelledError


def deaf(path: str) -> None:  # pragma: no cover
    """Swallows every signal for a minute."""
    Path(path, "begun").touch()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            time.sleep(0.1)
        except BaseException:  # noqa: BLE001, S112 - that is the point
            continue


def stuck(path: str) -> None:  # pragma: no cover
    """Stands in one call of C that lets no Python code run, not even a signal's."""
    Path(path, "begun").touch()
    sum(range(10**11))


def grows(count: int) -> str:  # pragma: no cover
    return "x" * count


def is_no_json() -> object:  # pragma: no cover
    return object()
