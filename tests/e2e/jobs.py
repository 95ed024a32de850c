"""Tasks for the servers of these tests: well-behaved, stubborn and hostile ones."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from pathlib import Path

from quart_app import Context, task

# As an app may have: whoever handles one of these must not shut the service down.
signal.signal(signal.SIGUSR1, lambda *_: None)


@task
async def noop() -> None:
    """End at once."""


@task
async def frozen() -> int:
    """How many objects the garbage collector leaves alone."""
    return gc.get_freeze_count()


@task
async def nap(seconds: float, note: str = "") -> str:
    """Sleep on the loop; write to a file at the end, also when stopped."""
    try:
        await asyncio.sleep(seconds)
        if note:
            Path(note).write_text("ended")
    except asyncio.CancelledError:
        if note:
            Path(note).write_text("cleaned up")
        raise
    return "slept"


@task
async def stubborn(seconds: float) -> str:
    """Swallow every cancel until the time is over."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
    return "stubborn"


@task
def thread_nap(seconds: float) -> str:
    """Sleep in a thread, deaf to everything."""
    time.sleep(seconds)
    return "slept"


@task
def polite_thread(job: Context, note: str) -> None:
    """Poll the flag in a thread."""
    while not job.canceled:
        time.sleep(0.01)
    Path(note).write_text("stopped")
    job.check_canceled()


@task(run="process")
def process_nap(seconds: float) -> int:
    """Sleep in a process."""
    time.sleep(seconds)
    return os.getpid()


@task(run="process")
def deaf_process(pid_file: str) -> None:
    """Swallow every CancelledError in a process."""
    Path(pid_file).write_text(str(os.getpid()))
    while True:
        try:
            time.sleep(60)
        except asyncio.CancelledError:
            continue


@task
async def leave() -> None:
    """Try to stop the server."""
    sys.exit(3)


@task
async def block(seconds: float) -> None:
    """Block the event loop."""
    time.sleep(seconds)  # noqa: ASYNC251 - that is what this task is for


@task
async def speaks(lines: int, pause: float = 0.0, width: int = 0) -> int:
    """Say so many lines, each with its number, with a pause after each."""
    for number in range(1, lines + 1):
        print(number, "x" * width)  # noqa: T201
        await asyncio.sleep(pause)
    return lines
