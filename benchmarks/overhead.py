"""No-op jobs from start to end through the Python API, beside create_task and aiojobs.

All three in one process on one loop in turn: start a batch, wait until all have ended, again. None
of them waits for anything, so the processor's time is counted: on a busy machine the clock on the
wall also counts what others do. The ratio depends on the size of the batch: so there are three.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable

import aiojobs

from benchmarks.figures import Row, Section, Target, in_turn, row
from benchmarks.processes import answer, fresh, quiet
from benchmarks.tasks import NO_LIMITS, noop, while_any
from quart_app import create_app
from quart_app.app import get_jobs
from quart_app.core.service import Service

PROCESSES = 3
ROUNDS = 12
BATCHES = {100: 20, 1_000: 4, 10_000: 1}
"""Jobs at once, and how many batches a round has."""
AFTER = 100
"""Turns of the loop that are counted after the last job: forgetting takes one for each 256."""
JUDGED = 1_000
"""The batch whose ratio has the target."""
AT_LEAST = Target(least=0.5)
PEERS = ("aiojobs", "create_task")

Figures = dict[str, list[float]]


async def _ours(service: Service, batch: int, batches: int) -> None:
    for _ in range(batches):
        for _ in range(batch):
            await noop.start()
        await service.engine.idle()


async def _create_task(batch: int, batches: int) -> None:
    tasks: set[asyncio.Task[None]] = set()
    for _ in range(batches):
        for _ in range(batch):
            task = asyncio.create_task(noop.function())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await while_any(lambda: len(tasks))


async def _aiojobs(scheduler: aiojobs.Scheduler, batch: int, batches: int) -> None:
    for _ in range(batches):
        for _ in range(batch):
            await scheduler.spawn(noop.function())
        await while_any(lambda: scheduler.active_count)


async def _timed(work: Callable[[int, int], Awaitable[None]], batch: int, batches: int) -> float:
    """Jobs a second. The collector is on, as in life, and begins with nothing to do. What a side
    does when its jobs are over (ours: count them, forget older ones) is on its own bill."""
    gc.collect()
    started = time.process_time()
    await work(batch, batches)
    for _ in range(AFTER):
        await asyncio.sleep(0)
    return batch * batches / (time.process_time() - started)


async def measure(rounds: int = ROUNDS) -> Figures:
    """Jobs a second by "name batch", one figure a round; the first round is not counted."""
    app = create_app([noop], QUART_APP_STORE="memory", **NO_LIMITS)
    figures: Figures = defaultdict(list)
    async with app.test_app(), aiojobs.Scheduler(limit=None) as scheduler:
        parts = get_jobs(app).parts
        assert parts is not None
        works: dict[str, Callable[[int, int], Awaitable[None]]] = {
            "ours": lambda batch, batches: _ours(parts.service, batch, batches),
            "aiojobs": lambda batch, batches: _aiojobs(scheduler, batch, batches),
            "create_task": _create_task,
        }
        for batch, batches in BATCHES.items():
            for name in in_turn(list(works), rounds + 1):
                rate = await _timed(works[name], batch, batches)
                figures[f"{name} {batch}"].append(rate)
        # Nothing was refused, lost or left out: each job was seen to succeed.
        started = (rounds + 1) * sum(batch * batches for batch, batches in BATCHES.items())
        assert parts.durations.observed("noop").count == started
    return {name: each[1:] for name, each in figures.items()}


def run() -> Section:
    """All of it."""
    figures: Figures = defaultdict(list)
    for _ in range(PROCESSES):
        for name, each in fresh(Figures, "overhead").items():
            figures[name] += each
    rows: list[Row] = []
    for peer in PEERS:
        for batch in BATCHES:
            ours, theirs = figures[f"ours {batch}"], figures[f"{peer} {batch}"]
            judged = AT_LEAST if (peer, batch) == (PEERS[0], JUDGED) else None
            rows.append(
                row(f"start to end, {batch:,} at once", "jobs/s", ours, peer, theirs, judged)
            )
    title = "No-op jobs from start to end, jobs a second of processor time"
    return Section(name="overhead", title=title, rows=rows)


if __name__ == "__main__":
    quiet()
    answer(asyncio.run(measure()))
