"""How far behind an event its watchers are: a thousand of one job, and one of each of a thousand.

The jobs write the moment into each line that they say; whoever reads it looks at the same clock.
Meanwhile one client starts jobs, one after the other. HTTP/1.0, so that no chunks are in between.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Sequence

from benchmarks.figures import Row, Section, Target, percentile, row
from benchmarks.load import Call, Connection
from benchmarks.processes import Server

ROUNDS = 3
WATCHERS = 1_000
LINES = 8
PAUSE = 1.0
"""Seconds between two lines of a job."""
START = Call("POST", "/start/noop", 202, b"{}")
SAID = re.compile(rb'"text":"([0-9.]+)"')
WITHIN = Target(most=250, of_figure=True)


async def watch(port: int, job_id: str, behind: list[float]) -> int:
    """Follow a job to its end; how many lines were read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /jobs/{job_id}/events HTTP/1.0\r\nHost: x\r\n\r\n".encode())
    count = 0
    try:
        while data := await reader.readline():
            if found := SAID.search(data):
                behind.append(time.time() - float(found[1]))
                count += 1
    finally:
        writer.close()
    return count


async def _starts(port: int) -> None:
    with Connection(port) as connection:
        while True:
            await asyncio.to_thread(connection.ask, START)


async def _follow(port: int, jobs: Sequence[str]) -> float:
    """The 99th percentile in milliseconds, over all lines of all watchers.

    Raises:
        RuntimeError: a watcher missed a line.
    """
    behind: list[float] = []
    starts = asyncio.create_task(_starts(port))
    counts = await asyncio.gather(*(watch(port, job_id, behind) for job_id in jobs))
    starts.cancel()
    await asyncio.gather(starts, return_exceptions=True)
    if set(counts) != {LINES}:
        raise RuntimeError(f"lines were missed: {sorted(set(counts))} of {LINES}")
    return 1_000 * percentile(behind, 0.99)


def measure(jobs: int) -> float:
    """One round: so many jobs, `WATCHERS` in all."""
    arguments = {"lines": LINES, "pause": PAUSE, "wait": 2.0}
    body = json.dumps([arguments] * jobs).encode()
    with Server("watched") as server:
        with Connection(server.port) as connection:
            answer = json.loads(connection.ask(Call("POST", "/start/stamps", 202, body)))
        ids = [document["id"] for document in answer["jobs"]]
        return asyncio.run(_follow(server.port, ids * (WATCHERS // jobs)))


def run() -> Section:
    """All of it."""
    rows: list[Row] = []
    for what, jobs in (("of one job", 1), ("of a job each", WATCHERS)):
        figures = [measure(jobs) for _ in range(ROUNDS)]
        rows.append(row(f"{WATCHERS:,} watchers {what}, p99", "ms", figures, target=WITHIN))
    return Section(name="watching", title="How far behind a line its watchers are", rows=rows)
