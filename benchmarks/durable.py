"""What it costs that nothing is lost: the SQLite store beside memory, beside peers, and full."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from benchmarks.figures import Row, Section, Target, in_turn, percentile, row
from benchmarks.filling import fill
from benchmarks.load import Call, Connection, requests_per_second
from benchmarks.processes import Server, fresh
from benchmarks.throughput import POST

ROUNDS = 7
PEER_ROUNDS = 3
SECONDS = 2
PEERS = ("dbos", "huey")
FULL = 1_000_000
STARTS = 4_000
FEW, MANY = 10, 100_000
ROUNDS_OF_RESTARTS = 5

OF_MEMORY = Target(least=0.8)
OF_DBOS = Target(least=10)
OF_EMPTY = Target(most=1.5)
OF_FEW = Target(most=2.0)


def throughput(rounds: int = ROUNDS, seconds: int = SECONDS) -> Row:
    """POST /start at 16 connections: in a file, beside memory."""
    figures: dict[str, list[float]] = defaultdict(list)
    for app in in_turn(["ours", "durable"], rounds):
        with Server(app) as server:
            requests_per_second(server.port, POST, 1)  # Warm.
            figures[app].append(requests_per_second(server.port, POST, seconds))
    what = "POST /start/noop, on disk"
    return row(what, "requests/s", figures["durable"], "in memory", figures["ours"], OF_MEMORY)


def peers(rounds: int = PEER_ROUNDS) -> list[Row]:
    """No-op jobs from start to end, 100 callers, each in a process of its own in turn."""
    figures: dict[str, list[float]] = defaultdict(list)
    for name in in_turn(["ours", *PEERS], rounds):
        with tempfile.TemporaryDirectory() as folder:
            figures[name].append(fresh(float, "peers", name, folder))
    what = "start to end on disk, 100 callers"
    return [
        row(what, "jobs/s", figures["ours"], f"{peer} (SQLite)", figures[peer], target)
        for peer, target in zip(PEERS, (OF_DBOS, None), strict=True)
    ]


def _p99(server: Server, starts: int) -> float:
    """Milliseconds of a start over a kept connection; each job ends meanwhile."""
    seconds: list[float] = []
    with Connection(server.port) as connection:
        for _ in range(starts):
            started = time.perf_counter()
            connection.ask(POST)
            seconds.append(time.perf_counter() - started)
    return 1e3 * percentile(seconds[starts // 10 :], 0.99)


def full(rounds: int = 3, kept: int = FULL, starts: int = STARTS) -> Row:
    """A start while a million finished jobs are kept, and one is forgotten for each that ends."""
    figures: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name, count in {"empty": 0, "full": kept}.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            fill(folder / "jobs.db", "noop", "succeeded", count)
            app = "million" if kept == FULL else "durable"
            servers[name] = stack.enter_context(Server(app, folder))
        for name in in_turn(list(servers), rounds):
            figures[name].append(_p99(servers[name], starts))
    what = f"POST /start/noop on disk, p99, {kept:,} kept and pruned"
    return row(what, "ms", figures["full"], "an empty file", figures["empty"], OF_EMPTY)


def _ready(folder: Path) -> float:
    """Milliseconds from the start of the process until it says that it is ready."""
    started = time.perf_counter()
    with Server("few_at_once", folder) as server, Connection(server.port) as connection:
        connection.ask(Call("GET", "/readyz", 200))
        return 1e3 * (time.perf_counter() - started)


def restart(rounds: int = ROUNDS_OF_RESTARTS, many: int = MANY) -> Row:
    """From the start of the process to ready, with jobs in the queue."""
    figures: dict[int, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        folders: dict[int, Path] = {}
        for count in (FEW, many):
            folders[count] = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            fill(folders[count] / "jobs.db", "sleeper", "queued", count)
        for name in in_turn([str(count) for count in folders], rounds):
            figures[int(name)].append(_ready(folders[int(name)]))
    return row(
        f"restart until ready, {many:,} queued", "ms", figures[many], f"{FEW} queued", figures[FEW],
        OF_FEW,
    )  # fmt: skip


def run() -> Section:
    """All of it."""
    rows = [throughput(), *peers(), full(), restart()]
    return Section(name="durable", title="Jobs in a SQLite file", rows=rows)
