"""No-op jobs from start to end through the Python API, beside create_task and aiojobs.

All three in one process on one loop in turn: start a thousand, wait until all have ended, again.
None of them waits for anything, so the processor's time is counted: on a busy machine the clock on
the wall also counts what others do.
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
ROUNDS = 30
JOBS = 4_000
BATCH = 1_000
AT_LEAST = Target(least=0.5)

Figures = dict[str, list[float]]


async def _ours(service: Service) -> None:
    for _ in range(JOBS // BATCH):
        for _ in range(BATCH):
            await noop.start()
        await service.engine.idle()


async def _create_task() -> None:
    tasks: set[asyncio.Task[None]] = set()
    for _ in range(JOBS // BATCH):
        for _ in range(BATCH):
            task = asyncio.create_task(noop.function())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await while_any(lambda: len(tasks))


async def _aiojobs(scheduler: aiojobs.Scheduler) -> None:
    for _ in range(JOBS // BATCH):
        for _ in range(BATCH):
            await scheduler.spawn(noop.function())
        await while_any(lambda: scheduler.active_count)


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    """Jobs a second. The collector is on, as in life, and begins with nothing to do."""
    gc.collect()
    started = time.process_time()
    await work()
    return JOBS / (time.process_time() - started)


async def measure(rounds: int = ROUNDS) -> Figures:
    """Jobs a second of each, one figure a round; the first round is not counted."""
    app = create_app([noop], **NO_LIMITS)
    figures: Figures = defaultdict(list)
    async with app.test_app(), aiojobs.Scheduler(limit=None) as scheduler:
        parts = get_jobs(app).parts
        assert parts is not None
        works: dict[str, Callable[[], Awaitable[None]]] = {
            "ours": lambda: _ours(parts.service),
            "aiojobs": lambda: _aiojobs(scheduler),
            "create_task": _create_task,
        }
        for name in in_turn(list(works), rounds + 1):
            figures[name].append(await _timed(works[name]))
        # Nothing was refused, lost or left out: each job was seen to succeed.
        assert parts.durations.observed("noop").count == JOBS * (rounds + 1)
    return {name: each[1:] for name, each in figures.items()}


def run() -> Section:
    """All of it."""
    figures: Figures = defaultdict(list)
    for _ in range(PROCESSES):
        for name, each in fresh(Figures, "overhead").items():
            figures[name] += each
    ours, unit = figures["ours"], "jobs/s"
    rows: list[Row] = [
        row("await noop.start() to its end", unit, ours, "aiojobs", figures["aiojobs"], AT_LEAST),
        row("await noop.start() to its end", unit, ours, "create_task", figures["create_task"]),
    ]
    return Section(name="overhead", title="No-op jobs from start to end", rows=rows)


if __name__ == "__main__":
    quiet()
    answer(asyncio.run(measure()))
