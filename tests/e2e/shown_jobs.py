"""Tasks that a page shows: what they say, how they move, fail, go in steps and start others."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from quart_app import Context, Retry, task


@task(tags=["shown"])
async def says(note: str = "") -> str:
    """Say something, and return it."""
    logging.getLogger("shown").warning("%s", note)
    return note


@task
async def moves(job: Context, gate: str = "") -> int:
    """Report five steps, and go on when there is a file at the gate."""
    for step in range(5):
        job.progress(step, 5, f"step {step}")
        await asyncio.sleep(0.01)
    while gate and not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 - of another process
        await asyncio.sleep(0.02)
    return 5


@task(tags=["shown", "broken"])
async def breaks(note: str = "", code: str = "Broken") -> None:
    """Fail with an error of this name that says this."""
    raise type(code, (ValueError,), {})(note)


@task(max_attempts=2, retry=Retry(initial=0.01))
async def recovers(job: Context) -> str:
    """Fail once."""
    if job.attempt == 1:
        raise OSError("not yet")
    return "recovered"


@task
async def goes_in_steps(job: Context, names: list[str]) -> list[str]:
    """Take a step for each name, which is its result as well."""

    async def step(name: str) -> str:
        job.progress(1, 2, name)
        return name

    return [await job.step(name, step, name) for name in names]


@task
async def starts_others(job: Context, count: int = 2) -> int:
    """Start so many others, and wait for them."""
    children = [await job.start(says, note=f"child {number}") for number in range(count)]
    return len(await job.gather(*children))


@task(limit=1, timeout=60)
async def chooses(
    color: Literal["red", "green"],
    size: Annotated[int, Meta(ge=1, le=12, description="How large")] = 3,
    deep: bool = False,
    more: list[int] | None = None,
) -> dict[str, Any]:
    """Return what was chosen."""
    return {"color": color, "size": size, "deep": deep, "more": more}


@task(cron="0 7 * * *")
async def comes_daily() -> str:
    """Start by itself at seven."""
    return "came"


@task
async def naps(seconds: float) -> None:
    """Take so long."""
    await asyncio.sleep(seconds)


@task(limit=1)
async def queues(number: int = 0) -> None:
    """Wait, one after the other, until canceled."""
    await asyncio.sleep(3_600)


@task
async def starts_families(job: Context) -> int:
    """Start one that starts others."""
    return await (await job.start(starts_others)).result()


@task
async def chats(gate: str = "") -> None:
    """Say things of different weight: some at once, some when there is a file at the gate."""
    logger = logging.getLogger("shown")
    print("printed")  # noqa: T201
    logger.info("begins")
    while gate and not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 - of another process
        await asyncio.sleep(0.02)
    logger.warning("is slow")
    logger.error("goes wrong")
