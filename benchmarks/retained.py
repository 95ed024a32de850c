"""What a look at jobs costs while 100 and while 100,000 finished ones are kept."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from typing import Any, cast

from benchmarks.figures import Row, Section, Target, in_turn, row
from benchmarks.load import Call, Connection, requests_per_second
from benchmarks.processes import Server

FEW, MANY = 100, 100_000
ROUNDS = 8
SECONDS = 1
AT_MOST = Target(most=1.2)


def _calls(server: Server, count: int) -> dict[str, Call]:
    """The requests to a server that keeps so many."""
    server.fill("noop", count)
    with Connection(server.port) as connection:
        first = cast("dict[str, Any]", connection.get("/jobs"))
        assert first["next"] is not None
        job_id = first["jobs"][-1]["id"]
    return {
        "GET /jobs/{id}": Call("GET", f"/jobs/{job_id}", 200),
        "GET /jobs, first page": Call("GET", "/jobs", 200),
    }


def measure(rounds: int = ROUNDS, seconds: int = SECONDS) -> dict[tuple[str, int], list[float]]:
    """Microseconds of the server a request by (what, kept), one figure a round."""
    figures: dict[tuple[str, int], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        servers = {count: stack.enter_context(Server("keeping")) for count in (FEW, MANY)}
        calls = {count: _calls(server, count) for count, server in servers.items()}
        for what in calls[FEW]:
            for count in servers:
                requests_per_second(servers[count].port, calls[count][what], 1)  # Warm.
            for name in in_turn([str(FEW), str(MANY)], rounds):
                count = int(name)
                rate = requests_per_second(servers[count].port, calls[count][what], seconds)
                figures[what, count].append(1e6 / rate)
    return figures


def run() -> Section:
    """All of it."""
    figures = measure()
    rows: list[Row] = [
        row(f"{what}, {MANY:,} kept", "us", each, f"{FEW} kept", figures[what, FEW], AT_MOST)
        for (what, count), each in figures.items()
        if count == MANY
    ]
    return Section(name="retained", title="A look at jobs while finished ones are kept", rows=rows)
