"""Tasks for the servers of these tests."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from quart_app import Context, task


@task
async def noop() -> None:
    """End at once."""


@task
async def nap(seconds: float) -> str:
    """Sleep."""
    await asyncio.sleep(seconds)
    return "slept"


@task
async def steps(job: Context, count: int = 10, pause: float = 0.05) -> int:
    """Come on step by step, and say so."""
    for number in range(1, count + 1):
        job.progress(number, count, f"step {number} of {count}")
        print(f"line {number}")  # noqa: T201
        await asyncio.sleep(pause)
    return count


@task(max_attempts=5)
async def stubborn_steps(job: Context, count: int = 10, pause: float = 0.05) -> int:
    """As `steps`, and again after a crash."""
    for number in range(1, count + 1):
        job.progress(number, count)
        await asyncio.sleep(pause)
    return count


@task
async def fails(message: str = "no such file") -> None:
    """Fail."""
    raise ValueError(message)


@task
async def says(job: Context, text: str) -> str:
    """Say it everywhere."""
    print(text)  # noqa: T201
    job.progress(1, 2, text)
    return text


@task
async def typed(
    month: int, ratio: float = 0.5, paid: bool = False, names: list[str] | None = None,
    extra: dict[str, Any] | None = None, text: str = "",
) -> list[Any]:  # fmt: skip
    """Give back what it was given."""
    return [month, ratio, paid, names, extra, text]


@task
async def paints(color: Literal["red", "green"], frame: Literal[1, "none"] | None = None) -> None:
    """Take one of some values."""


@task(every=3600)
async def hourly() -> str:
    """Start by itself."""
    return "on the hour"
