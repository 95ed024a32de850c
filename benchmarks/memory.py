"""Bytes of memory a sleeping job, beside a plain asyncio task and an aiojobs job.

Each in a process of its own. RSS is what the system has given, pages that are half empty included;
tracemalloc counts what Python has asked for.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import tracemalloc
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiojobs
from quart import Quart

from benchmarks.figures import Row, Section, Target, in_turn, row
from benchmarks.processes import answer, fresh, quiet
from benchmarks.tasks import NO_LIMITS, sleeper
from quart_app import create_app
from quart_app.app import get_jobs

FIRST = 100
COUNTS = (10_000, 100_000)
KINDS = ("ours", "create_task", "aiojobs")
ROUNDS = 1
AT_MOST = Target(most=4096, of_figure=True)

Start = Callable[[], Awaitable[object]]
_tasks: set[asyncio.Task[None]] = set()


async def _create_task() -> None:
    task = asyncio.create_task(sleeper.function())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _rss() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Bytes on macOS, else kibibytes.
    return peak if sys.platform == "darwin" else peak * 1024


async def _grown(how: str, count: int, start: Start) -> float:
    """Bytes a job by which memory grew, when all sleep."""
    size = _rss if how == "rss" else lambda: tracemalloc.get_traced_memory()[0]
    for number in range(-FIRST, count):  # The first pay for what is made once.
        if number == 0:
            await _settle()
            before = size()
        await start()
    await _settle()
    return (size() - before) / count


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
    gc.collect()


async def _measure(kind: str, count: int, how: str) -> float:
    if kind == "create_task":
        return await _grown(how, count, _create_task)
    if kind == "aiojobs":
        scheduler = aiojobs.Scheduler(limit=None)
        return await _grown(how, count, lambda: scheduler.spawn(sleeper.function()))
    app = create_app([sleeper], QUART_APP_STORE="memory", **NO_LIMITS)
    await app.startup()
    return await of_ours(app, count, how)


async def of_ours(app: Quart, count: int, how: str) -> float:
    """Bytes a job of an app that serves."""
    grown = await _grown(how, count, sleeper.start)
    parts = get_jobs(app).parts
    assert parts is not None
    assert (await parts.store.counts())["running"] == count + FIRST
    return grown


async def main(kind: str, count: str, how: str) -> None:
    """Say it and go: nobody waits for a hundred thousand cancels."""
    if how == "tracemalloc":
        tracemalloc.start()
    answer(await _measure(kind, int(count), how))
    os._exit(0)


def run() -> Section:
    """All of it."""
    rows: list[Row] = []
    for count in COUNTS:
        for how, rounds in (("rss", ROUNDS), ("tracemalloc", 1)):
            figures: dict[str, list[float]] = defaultdict(list)
            for kind in in_turn(KINDS, rounds):
                figures[kind].append(fresh(float, "memory", kind, count, how))
            ours, label = figures["ours"], "RSS" if how == "rss" else how
            peers = [(kind, figures[kind]) for kind in KINDS[1:]]
            what = f"a sleeping job of {count:,} ({label})"
            rows.append(row(what, "bytes", ours, *peers[0], AT_MOST))
            rows += [row(what, "bytes", ours, *peer) for peer in peers[1:]]
    return Section(name="memory", title="Memory a sleeping job", rows=rows)


if __name__ == "__main__":
    quiet()
    asyncio.run(main(*sys.argv[1:]))
