"""Progress, limits and followers: what they cost beside the same work without them.

All on the memory store. Starts go over HTTP; the strictest measure of a limit is a no-op job from
start to end, in Python. Who follows is measured without HTTP: what a follower costs the loop and
the memory is what bounds how many there may be.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
import tracemalloc
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace

from benchmarks.figures import Row, Section, Target, in_turn, row
from benchmarks.load import Call, requests_per_second
from benchmarks.processes import Server, answer, fresh, quiet
from benchmarks.tasks import NO_LIMITS, free, limited
from quart_app import Context, create_app, task
from quart_app.app import get_jobs
from quart_app.core.follow import follow
from quart_app.core.service import Service
from quart_app.core.start import StartableTask

ROUNDS = 7
STEPS = 100_000
BATCH = 1_000
SECONDS = 2
WATCHERS = 1_000
VERSIONS = 50
BLOCK = bytes(4_096)
Figures = dict[str, list[float]]


@task
def plain(steps: int) -> None:
    """Steps of about five microseconds: a digest of 4 KiB."""
    for _ in range(steps):
        hashlib.sha1(BLOCK, usedforsecurity=False).digest()


@task
def telling(ctx: Context, steps: int) -> None:
    """The same, and each is told."""
    for step in range(steps):
        hashlib.sha1(BLOCK, usedforsecurity=False).digest()
        ctx.progress(step + 1, steps)


@task
async def stands() -> None:
    """Waits until it is canceled."""
    await asyncio.Event().wait()


@asynccontextmanager
async def serving() -> AsyncIterator[Service]:
    """The service of an app with these tasks."""
    app = create_app([free, plain, telling, limited, stands], QUART_APP_STORE="memory", **NO_LIMITS)
    async with app.test_app():
        parts = get_jobs(app).parts
        assert parts is not None
        yield parts.service


async def _one(job: StartableTask[..., None]) -> float:
    started = time.process_time()
    handle = await job.start(steps=STEPS)
    await handle.result()
    return time.process_time() - started


async def _starts(service: Service, job: StartableTask[..., None]) -> float:
    gc.collect()
    started = time.process_time()
    for _ in range(4):
        for _ in range(BATCH):
            await job.start()
        await service.backlog.idle()
    return 4 * BATCH / (time.process_time() - started)


async def _followed(service: Service) -> tuple[float, float]:
    """Versions told a second of processor time, and bytes a follower."""
    handle = await stands.start()
    await asyncio.sleep(0.05)
    told = 0

    async def reader() -> None:
        nonlocal told
        async for _ in follow(service, handle.id, None, 60):
            told += 1

    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    readers = [asyncio.create_task(reader()) for _ in range(WATCHERS)]
    await asyncio.sleep(0.1)
    size = (tracemalloc.get_traced_memory()[0] - before) / WATCHERS
    tracemalloc.stop()
    started, seen = time.process_time(), told
    job = await handle.job()
    for number in range(VERSIONS):
        service.hub.publish("note", job)
        job = replace(job, seq=job.seq + 1)
        if number % 10 == 9:
            await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    rate = (told - seen) / (time.process_time() - started)
    await handle.cancel()
    await asyncio.gather(*readers)
    return rate, size


async def measure(rounds: int = ROUNDS) -> Figures:
    """One figure a round of each; the first round is not counted."""
    figures: Figures = defaultdict(list)
    async with serving() as service:
        for name in in_turn(["plain", "telling"], rounds + 1):
            figures[name].append(await _one(telling if name == "telling" else plain))
        for name in in_turn(["free", "limited"], rounds + 1):
            figures[name].append(await _starts(service, limited if name == "limited" else free))
        for _ in range(rounds + 1):
            rate, size = await _followed(service)
            figures["told"].append(rate)
            figures["bytes"].append(size)
    return {name: each[1:] for name, each in figures.items()}


def over_http(rounds: int = ROUNDS) -> Figures:
    """Starts a second, of a task under limits and of one without."""
    figures: Figures = defaultdict(list)
    with Server("controlled") as server:
        for name in in_turn(["free", "limited"], rounds + 1):
            call = Call("POST", f"/start/{name}", 202, b"{}")
            figures[name].append(requests_per_second(server.port, call, SECONDS))
    return {name: each[1:] for name, each in figures.items()}


def run() -> Section:
    """All of it."""
    figures: Figures = fresh(Figures, "live")
    starts = over_http()
    rows: list[Row] = [
        row(
            f"{STEPS:,} progress steps",
            "s",
            figures["telling"],
            "the same loop without",
            figures["plain"],
            Target(most=1.15),
        ),
        row(
            "start to end, limits on",
            "jobs/s",
            figures["limited"],
            "limits off",
            figures["free"],
        ),
        row(
            "POST /start, limits on",
            "requests/s",
            starts["limited"],
            "limits off",
            starts["free"],
            Target(least=0.8),
        ),
        row(f"versions told to {WATCHERS:,} followers of a job", "1/s", figures["told"]),
        row("memory a follower", "bytes", figures["bytes"]),
    ]
    return Section(name="live", title="Progress, limits and followers", rows=rows)


if __name__ == "__main__":
    quiet()
    answer(asyncio.run(measure()))
