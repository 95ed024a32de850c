"""Tasks whose jobs hold each other back or depend on each other, in whichever processes they run.

What they did is told by a file: a line at each beginning and each end, with who did it.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import NamedTuple

from quart_app import Context, task


class Did(NamedTuple):
    """A line of the file: ``begin``, ``end`` or ``killed``, whose, where and when."""

    what: str
    job: str
    number: int
    pid: int
    at: float


def tell(file: str, what: str, job: str, number: int = 0, pid: int | None = None) -> None:
    """Append a line in one write: the order of the lines is that in which it happened."""
    line = f"{what} {job} {number} {os.getpid() if pid is None else pid} {time.time()!r}\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def told(file: Path) -> list[Did]:
    """All lines, in the order in which they were written."""
    if not file.exists():
        return []
    words = [line.split() for line in file.read_text().splitlines()]
    return [Did(what, job, int(n), int(pid), float(at)) for what, job, n, pid, at in words]


async def _work(job: Context, file: str, number: int, seconds: float, gate: str) -> int:
    tell(file, "begin", job.id, number)
    await asyncio.sleep(seconds)
    while gate and not await asyncio.to_thread(Path(gate).exists):  # noqa: ASYNC110 - another opens it
        await asyncio.sleep(0.02)
    tell(file, "end", job.id, number)
    return os.getpid()


@task(limit=3, max_attempts=20)
async def three(
    job: Context, file: str, number: int = 0, seconds: float = 0.0, gate: str = ""
) -> int:
    """Three of them at once."""
    return await _work(job, file, number, seconds, gate)


@task(rate="20/second", max_attempts=20)
async def rated(
    job: Context, file: str, number: int = 0, seconds: float = 0.0, gate: str = ""
) -> int:
    """Twenty of them begin in a second."""
    return await _work(job, file, number, seconds, gate)


@task(limit=1, limit_key="user:{user}")
async def by_user(
    job: Context, file: str, user: str, number: int = 0, seconds: float = 0.0, gate: str = ""
) -> int:
    """One of each user at once."""
    return await _work(job, file, number, seconds, gate)


@task
async def free(
    job: Context, file: str, number: int = 0, seconds: float = 0.0, gate: str = ""
) -> int:
    """Nothing holds it back."""
    return await _work(job, file, number, seconds, gate)


@task(unique="user:{user}")
async def unique(job: Context, file: str, user: str, gate: str = "") -> int:
    """One of each user that is not over."""
    return await _work(job, file, 0, 0.0, gate)


@task(debounce=1.0, unique="user:{user}")
async def debounced(job: Context, file: str, user: str, number: int = 0) -> int:
    """The last one that is asked for within a second."""
    return await _work(job, file, number, 0.0, "")


@task
async def parent(job: Context, file: str, children: int, seconds: float = 0.0) -> list[int]:
    """In which processes its children ran; its own is the first."""
    started = [job.start(free, file=file, number=n, seconds=seconds) for n in range(children)]
    return [os.getpid(), *await job.gather(*started)]


@task
async def fails(number: int = 0) -> None:
    """Does not succeed."""
    raise ValueError(f"number {number}")


@task
async def speaks(lines: int, pause: float = 0.0, width: int = 0) -> int:
    """Says so many lines, each with its number, with a pause after each."""
    for number in range(1, lines + 1):
        print(number, "x" * width)  # noqa: T201
        await asyncio.sleep(pause)
    return lines
