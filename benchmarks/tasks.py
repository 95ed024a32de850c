"""The tasks that are started by the hundred thousand.

`function` of each is the plain coroutine function: what the peers run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from quart_app import Context, task

NO_LIMITS: dict[str, int] = {
    "QUART_APP_MAX_RUNNING": 1_000_000,
    "QUART_APP_MAX_QUEUED": 1_000_000,
    "QUART_APP_DRAIN": 0,
}


@task
async def noop() -> None:
    """Nothing."""


@task
async def sleeper() -> None:
    """Nothing for an hour."""
    await asyncio.sleep(3600)


@task
async def stamps(lines: int, pause: float, wait: float) -> None:
    """What time it is, in each line; the first one when the watchers have come."""
    await asyncio.sleep(wait)
    for _ in range(lines):
        print(f"{time.time():.6f}")
        await asyncio.sleep(pause)


@task
async def moves(ctx: Context, pause: float) -> None:
    """Tells how far it is, again and again."""
    for step in range(1_000_000):
        ctx.progress(step % 100, 100, f"step {step}")
        await asyncio.sleep(pause)


@task
async def free(key: str = "one") -> None:
    """Nothing, under no limit."""


@task(limit=1_000, rate="100000/second", limit_key="{key}", limit_total=1_000)
async def limited(key: str = "one") -> None:
    """Nothing, under every limit there is, none of which is reached."""


async def while_any(count: Callable[[], int]) -> None:
    """Let the loop turn until there are none."""
    while count():  # noqa: ASYNC110 - none of those who are waited for has an event
        await asyncio.sleep(0)
