"""Tasks that leave a line in a file at each beginning and each end, so that a test can count how
often they ran, whatever the store says."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from quart_app import Context, task


def trace(file: str, what: str, job: Context, number: int) -> None:
    """Append a line in one write, so that a kill leaves all of it or nothing."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{what} {job.id} {job.attempt} {number}\n".encode())
    finally:
        os.close(descriptor)


def _open(gate: str) -> bool:
    return not gate or Path(gate).exists()


async def _work(job: Context, traces: str, number: int, seconds: float, gate: str) -> int:
    trace(traces, "before", job, number)
    await asyncio.sleep(seconds)
    while not _open(gate):  # noqa: ASYNC110 - the gate is opened by another process
        await asyncio.sleep(0.02)
    trace(traces, "after", job, number)
    return number


@task
async def once(
    job: Context, traces: str, number: int = 0, seconds: float = 0, gate: str = "", text: str = ""
) -> int:
    """May begin once. Works so long, and until there is a file at the gate."""
    return await _work(job, traces, number, seconds, gate)


@task(max_attempts=3)
async def thrice(
    job: Context, traces: str, number: int = 0, seconds: float = 0, gate: str = ""
) -> int:
    """May begin three times."""
    return await _work(job, traces, number, seconds, gate)


@task
def once_in_a_thread(job: Context, traces: str, number: int = 0, seconds: float = 0) -> int:
    """May begin once, in a thread."""
    trace(traces, "before", job, number)
    time.sleep(seconds)
    trace(traces, "after", job, number)
    return number


@task(max_attempts=3)
def deaf_thread(job: Context, traces: str, gate: str) -> None:
    """Does not look at the flag; works until there is a file at the gate."""
    trace(traces, "before", job, 0)
    while not _open(gate):
        time.sleep(0.02)
    trace(traces, "after", job, 0)


@task(max_attempts=3)
def polite_thread(job: Context, traces: str, gate: str) -> None:
    """Looks at the flag in a thread; works until there is a file at the gate."""
    trace(traces, "before", job, 0)
    while not _open(gate):
        job.check_canceled()
        time.sleep(0.02)
    trace(traces, "after", job, 0)


@task(max_attempts=3, run="process")
def in_a_process(job: Context, traces: str, gate: str) -> None:
    """Works in a process until there is a file at the gate."""
    trace(traces, "before", job, 0)
    while not _open(gate):
        time.sleep(0.02)
    trace(traces, "after", job, 0)


def _is_new(traces: str, job: Context, number: int) -> bool:
    """Whether this job has never begun this step."""
    lines = Path(traces).read_text().splitlines() if Path(traces).exists() else []
    begun = [line.split() for line in lines if line.startswith("begin ")]
    return not any(words[1] == job.id and int(words[3]) == number for words in begun)


@task(max_attempts=100)
async def ten_steps(job: Context, traces: str, cuts: list[int]) -> list[int]:
    """Ten steps; those that are to be cut stand still the first time."""

    async def step(number: int) -> int:
        new = _is_new(traces, job, number)
        trace(traces, "begin", job, number)
        if new and number in cuts:
            await asyncio.sleep(3600)
        trace(traces, "end", job, number)
        return number * number

    return [await job.step(f"step {number}", step, number) for number in range(1, 11)]


@task(max_attempts=100)
def ten_steps_in_a_thread(job: Context, traces: str, cuts: list[int]) -> list[int]:
    """The same in a thread."""

    def step(number: int) -> int:
        new = _is_new(traces, job, number)
        trace(traces, "begin", job, number)
        while new and number in cuts:
            job.check_canceled()
            time.sleep(0.02)
        trace(traces, "end", job, number)
        return number * number

    return [job.step_sync(f"step {number}", step, number) for number in range(1, 11)]


@task(max_attempts=10)
async def kill_the_server(job: Context, traces: str) -> None:
    """Take the whole process along."""
    trace(traces, "before", job, 0)
    os.kill(os.getpid(), signal.SIGKILL)
