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


def where() -> int:
    """The process in which it runs."""
    return os.getpid()


def double(number: int) -> int:
    return 2 * number


def fails(message: str) -> None:
    raise ValueError(message)


def exits() -> None:
    sys.exit(3)


def dies(status: int) -> None:
    os._exit(status)


def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def reports(ctx: Context, steps: int) -> str:
    """Says how far it is."""
    for step in range(steps):
        ctx.progress(step + 1, steps, f"step {step + 1}")
        time.sleep(0.05)
    return f"{ctx.id} {ctx.attempt}"


def sleeps(path: str) -> None:
    """Says when it has begun, and whether its cleanup has run."""
    try:
        Path(path, "begun").touch()
        time.sleep(60)
    finally:
        Path(path, "clean").touch()


def counts_cancels(path: str) -> str:
    """Sees how many CancelledErrors there are, and comes to its end."""
    seen = 0
    for _ in range(3):
        try:
            Path(path, "begun").touch()  # From here on the cancel may come: inside the `try`.
            time.sleep(0.4)
        except asyncio.CancelledError:
            seen += 1
    return f"saw {seen}"


def polls(ctx: Context, path: str) -> None:
    """Looks at its flag, and so ends by itself."""
    try:
        Path(path, "begun").touch()
        while True:
            time.sleep(0.01)
            ctx.check_canceled()
    except asyncio.CancelledError:
        Path(path, "canceled" if ctx.canceled else "wrong").touch()
        raise


def raises_cancelled() -> None:
    raise asyncio.CancelledError


def deaf(path: str) -> None:
    """Swallows every signal for a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            Path(path, "begun").touch()
            time.sleep(0.1)
        except BaseException:  # noqa: BLE001, S112 - that is the point
            continue


def stuck(path: str) -> None:
    """Stands in one call of C that lets no Python code run, not even a signal's; one that came
    just before the call leads to it again."""
    while True:
        try:
            Path(path, "begun").touch()
            sum(range(10**11))
        except asyncio.CancelledError:
            continue


def grows(count: int) -> str:
    return "x" * count


def is_no_json() -> object:
    return object()
