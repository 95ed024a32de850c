"""How long a start takes while many jobs sleep: in Python, and as POST over a kept connection."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable

from quart import Quart

from benchmarks.figures import Row, Section, Target, in_turn, percentile, row
from benchmarks.load import Call, Connection
from benchmarks.processes import Server, answer, fresh, quiet
from benchmarks.tasks import NO_LIMITS, noop, sleeper, while_any
from quart_app import create_app
from quart_app.app import get_jobs

SLEEPING = (0, 1_000, 10_000, 100_000)
ROUNDS = 3
IN_PYTHON = 10_000
OVER_HTTP = 2_000
SHARES = {"median": 0.5, "p95": 0.95, "p99": 0.99}
AT_MOST = Target(most=2.0)
POST = Call("POST", "/start/noop", 202, b"{}")

Figures = dict[str, float]


def _summary(seconds: list[float]) -> Figures:
    """In microseconds."""
    return {name: 1e6 * percentile(seconds, share) for name, share in SHARES.items()}


async def in_python(app: Quart, sleeping: int, starts: int = IN_PYTHON) -> Figures:
    """Starts one after the other; each job has ended before the next begins.

    Args:
        app: one that serves.
    """
    parts = get_jobs(app).parts
    assert parts is not None
    for _ in range(sleeping):
        await sleeper.start()
    await while_any(lambda: sleeping - len(parts.registry))
    gc.collect()
    seconds: list[float] = []
    for _ in range(starts):
        started = time.perf_counter()
        handle = await noop.start()
        seconds.append(time.perf_counter() - started)
        await handle.result()
    return _summary(seconds[starts // 10 :])


async def main(sleeping: str) -> None:
    """Say it and go: nobody waits for a hundred thousand cancels."""
    app = create_app([noop, sleeper], QUART_APP_STORE="memory", **NO_LIMITS)
    await app.startup()
    answer(await in_python(app, int(sleeping)))
    os._exit(0)


def _over_http(sleeping: int) -> Figures:
    with Server("ours") as server:
        server.fill("sleeper", sleeping)
        seconds: list[float] = []
        with Connection(server.port) as connection:
            for _ in range(OVER_HTTP):
                started = time.perf_counter()
                connection.ask(POST)
                seconds.append(time.perf_counter() - started)
    return _summary(seconds[OVER_HTTP // 10 :])


WAYS: dict[str, Callable[[int], Figures]] = {
    "POST /start/noop": _over_http,
    "await noop.start()": lambda sleeping: fresh(Figures, "latency", sleeping),
}


def run() -> Section:
    """All of it."""
    rows: list[Row] = []
    curves: dict[str, list[tuple[float, float]]] = {}
    for way, measure in WAYS.items():
        figures: dict[tuple[int, str], list[float]] = defaultdict(list)
        for sleeping in in_turn([str(each) for each in SLEEPING], ROUNDS):
            for name, value in measure(int(sleeping)).items():
                figures[int(sleeping), name].append(value)
        for name in SHARES:
            alone = figures[0, name]
            each = [
                row(
                    f"{way}, {name}, {sleeping:,} asleep",
                    "us",
                    figures[sleeping, name],
                    "none asleep",
                    alone,
                    AT_MOST if sleeping == max(SLEEPING) and name == "median" else None,
                )
                for sleeping in SLEEPING
            ]
            rows += each[1:]
            points = zip(SLEEPING, each, strict=True)
            curves[f"{way}, {name}"] = [(float(x), point.figure) for x, point in points]
    title = "Start latency while jobs sleep"
    return Section(name="latency", title=title, rows=rows, curves=curves)


if __name__ == "__main__":
    quiet()
    asyncio.run(main(*sys.argv[1:]))
