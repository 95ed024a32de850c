"""Many machines: jobs over Redis and PostgreSQL beside the bare engines that carry them, watchers
of one web process, and what a second worker adds.

Both sides of a pair use the same server, from one process each, with as many calls at once: the
engine's own enqueue and a no-op function of its own, and our `start` and a no-op task.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.figures import Row, Section, Target, in_turn, percentile, row
from benchmarks.load import Call, Connection
from benchmarks.processes import ROOT, answer, environment, fresh, quiet
from benchmarks.tasks import NO_LIMITS, noop
from benchmarks.watching import watch
from quart_app import create_app
from quart_app.app import get_jobs
from quart_app.domain.jobs import Job
from quart_app.shared_parts import SharedParts
from tests.servers import PostgresServer, RedisServer, Server, free_port, listens

ROUNDS = 3
JOBS = 2_000
CALLERS = 50
"""Calls and jobs at once, on both sides."""
ROOMY = "?max_connections=1000"
"""Bare docket takes a connection for each call and each job under way: now and then that is one
more than the hundred that a pool of redis-py has, and its worker ends."""
WATCHERS = 10_000
LINES, PAUSE = 3, 8.0
"""What the watched job says, and seconds between two lines: so long that one is told to all."""
WORKED = 4_000
"""Jobs that wait when the workers begin."""
CANCELS = 300
HALF = Target(least=0.5)
AT_ONCE = Target(most=250, of_figure=True)
PEERS = {"redis": "bare docket", "postgres": "bare pgqueuer"}
SERVERS: dict[str, Callable[..., Server]] = {"redis": RedisServer, "postgres": PostgresServer}

Figures = dict[str, float]


async def _together(count: int, call: Callable[[int], Awaitable[object]]) -> None:
    """So many calls, `CALLERS` at once."""
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await call(number)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


@contextmanager
def _timed(figures: Figures, name: str, count: int) -> Iterator[None]:
    started = time.perf_counter()
    yield
    figures[name] = count / (time.perf_counter() - started)


async def ours(url: str, count: int) -> Figures:
    """Starts a second with nobody working, and jobs a second from start to end."""
    figures: Figures = {}
    for work in (False, True):
        app = create_app(
            [noop],
            QUART_APP_STORE=url,
            QUART_APP_NAMESPACE=f"b{secrets.token_hex(6)}",
            QUART_APP_WORK=work,
            **{**NO_LIMITS, "QUART_APP_MAX_RUNNING": CALLERS},
        )
        async with app.test_app():
            parts = get_jobs(app).parts
            assert isinstance(parts, SharedParts)
            ended, all_ended = [0], asyncio.Event()

            def on_ends(jobs: Sequence[Job]) -> None:
                ended[0] += len(jobs)  # noqa: B023 - of this round
                if ended[0] >= count:  # noqa: B023
                    all_ended.set()  # noqa: B023

            parts.hub.subscribe_ends(on_ends)
            with _timed(figures, "end" if work else "start", count):
                await _together(count, lambda number: noop.start())
                if work:
                    async with asyncio.timeout(120):
                        await all_ended.wait()
    return figures


async def docket(url: str, count: int) -> Figures:
    """The same with docket alone."""
    from docket import Docket, Worker

    figures: Figures = {}
    ended, all_ended = [0], asyncio.Event()

    async def nothing(number: str) -> None:
        ended[0] += 1
        if ended[0] >= count:
            all_ended.set()

    for work in (False, True):
        name = f"b{secrets.token_hex(6)}"
        async with Docket(name=name, url=url + ROOMY) as queue:
            queue.register(nothing)

            async def add(number: int, queue: Docket = queue) -> None:
                await queue.add(nothing, key=f"job-{number}")(f"{number}")

            # By itself it looks four times a second whether a full worker has room again.
            often = timedelta(milliseconds=20)
            async with Worker(queue, concurrency=CALLERS, minimum_check_interval=often) as worker:
                running = asyncio.create_task(worker.run_forever()) if work else None
                with _timed(figures, "end" if work else "start", count):
                    await _together(count, add)
                    if work:
                        async with asyncio.timeout(120):
                            await all_ended.wait()
                if running is not None:
                    running.cancel()
                    await asyncio.gather(running, return_exceptions=True)
    return figures


async def pgqueuer(url: str, count: int) -> Figures:
    """The same with pgqueuer alone."""
    import asyncpg
    from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
    from pgqueuer.core.qm import QueueManager
    from pgqueuer.queries import Queries

    figures: Figures = {}
    ended, all_ended = [0], asyncio.Event()
    for work in (False, True):
        schema = f"b{secrets.token_hex(6)}"
        settings = {"search_path": schema}
        async with asyncpg.create_pool(
            url, min_size=4, max_size=4, server_settings=settings
        ) as pool:
            await pool.execute(f"CREATE SCHEMA {schema}")
            queries = Queries(AsyncpgPoolDriver(pool))
            await queries.install()
            manager = QueueManager(queries)

            @manager.entrypoint("nothing")
            async def nothing(job: Any) -> None:
                ended[0] += 1
                if ended[0] >= count:
                    all_ended.set()

            running = None
            if work:
                running = asyncio.create_task(
                    manager.run(batch_size=CALLERS // 2, max_concurrent_tasks=CALLERS)
                )
                await asyncio.sleep(1)
            with _timed(figures, "end" if work else "start", count):

                async def add(number: int, queries: Queries = queries) -> None:
                    await queries.enqueue("nothing", f"{number}".encode())

                await _together(count, add)
                if work:
                    async with asyncio.timeout(120):
                        await all_ended.wait()
            if running is not None:
                manager.shutdown.set()
                await asyncio.gather(running, return_exceptions=True)
    return figures


SIDES: dict[str, Callable[[str, int], Awaitable[Figures]]] = {
    "ours": ours,
    "docket": docket,
    "pgqueuer": pgqueuer,
}


def _pairs(kind: str, url: str) -> list[Row]:
    peer = PEERS[kind].split()[1]
    figures: dict[str, list[float]] = defaultdict(list)
    for side in in_turn(["ours", peer], ROUNDS):
        for what, rate in fresh(Figures, "machines", side, url, JOBS).items():
            figures[f"{side} {what}"].append(rate)
    named = {"end": "no-op jobs, start to end", "start": "starts, nobody works"}
    return [
        row(
            f"{kind}: {named[what]}",
            "jobs/s",
            figures[f"ours {what}"],
            PEERS[kind],
            figures[f"{peer} {what}"],
            HALF,
        )
        for what in ("end", "start")
    ]


def _worked(url: str, workers: int) -> float:
    """Jobs a second of so many worker processes, from the first claim to the last end."""
    namespace = f"b{secrets.token_hex(6)}"
    settings = {
        "QUART_APP_STORE": url,
        "QUART_APP_NAMESPACE": namespace,
        "QUART_APP_TASKS": "benchmarks.tasks",
        "QUART_APP_MAX_RUNNING": str(CALLERS),
        "QUART_APP_DRAIN": "0",
    }
    fresh(int, "machines", "fill", url, namespace, WORKED)
    command = [sys.executable, "-m", "quart_app", "worker"]
    started = [
        subprocess.Popen(command, env=environment() | settings, cwd=ROOT, stderr=subprocess.DEVNULL)
        for _ in range(workers)
    ]
    try:
        return fresh(float, "machines", "span", url, namespace, WORKED)
    finally:
        for process in started:
            process.kill()
            process.wait()


async def fill(url: str, namespace: str, count: int) -> int:
    """Let so many jobs wait."""
    app = create_app(
        [noop],
        QUART_APP_STORE=url,
        QUART_APP_NAMESPACE=namespace,
        QUART_APP_WORK=False,
        **NO_LIMITS,
    )
    async with app.test_app():
        await _together(count, lambda number: noop.start())
    return count


async def span(url: str, namespace: str, count: int) -> float:
    """Wait until all are over; their rate by their own records, the first fifth left out."""
    app = create_app(
        [noop],
        QUART_APP_STORE=url,
        QUART_APP_NAMESPACE=namespace,
        QUART_APP_WORK=False,
        **NO_LIMITS,
    )
    async with app.test_app():
        parts = get_jobs(app).parts
        assert parts is not None
        async with asyncio.timeout(180):
            while (await parts.store.counts())["succeeded"] < count:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        events = await parts.store.events(0, 2 * count)
        ends = sorted(event.job.finished_at or 0.0 for event in events)
    first = len(ends) // 5
    return (len(ends) - first - 1) / (ends[-1] - ends[first])


@contextmanager
def _web_and_worker(url: str) -> Iterator[tuple[int, int]]:
    """A web process that runs nothing, and a worker: its port and its process id."""
    port = free_port()
    settings = {
        "QUART_APP_STORE": url,
        "QUART_APP_NAMESPACE": f"b{secrets.token_hex(6)}",
        "QUART_APP_TASKS": "benchmarks.tasks",
        "QUART_APP_MAX_WATCHERS": str(2 * WATCHERS),
        "QUART_APP_DRAIN": "0",
    }
    serve = ["serve", "--bind", f"127.0.0.1:{port}"]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "quart_app", *command],
            env=environment() | settings | {"QUART_APP_WORK": work},
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        for command, work in ((serve, "off"), (["worker"], "on"))
    ]
    try:
        until = time.monotonic() + 60
        while not listens(port):
            if time.monotonic() > until:
                raise RuntimeError("no server")
            time.sleep(0.1)
        yield port, started[0].pid
    finally:
        for process in started:
            process.kill()
            process.wait()


def _canceled(url: str) -> float:
    """The 99th percentile in seconds of how long a job that runs in another process takes to be
    canceled, from the request to the first answer that says so."""
    seconds: list[float] = []
    with _web_and_worker(url) as (port, _), Connection(port) as connection:
        body = b"[" + b",".join([b"{}"] * CANCELS) + b"]"
        opened = json.loads(connection.ask(Call("POST", "/start/sleeper", 202, body)))["jobs"]
        ids = [document["id"] for document in opened]
        while any(connection.get(f"/jobs/{each}")["status"] != "running" for each in ids):
            time.sleep(0.1)
        for each in ids:
            began = time.perf_counter()
            with Connection(port) as asking:  # Hypercorn closes one after a thousand requests.
                asking.ask(Call("POST", "/cancel", 200, json.dumps({"ids": [each]}).encode()))
                while asking.get(f"/jobs/{each}")["status"] != "canceled":
                    pass
            seconds.append(time.perf_counter() - began)
    return percentile(seconds, 0.99)


def _watched(url: str) -> tuple[float, float]:
    """The 99th percentile of how far behind the watchers of one web process are, in seconds, where
    the job runs in another process; and the bytes of that process for each of them."""
    with _web_and_worker(url) as (port, pid):
        return asyncio.run(_watch_all(port, pid))


async def _watch_all(port: int, pid: int) -> tuple[float, float]:
    before = _memory(pid)
    body = json.dumps({"lines": LINES, "pause": PAUSE, "wait": 75.0}).encode()
    with Connection(port) as connection:
        asked = Call("POST", "/start/stamps", 202, body)
        job = json.loads(await asyncio.to_thread(connection.ask, asked))["id"]
    behind: list[float] = []
    watching = []
    for _ in range(WATCHERS // 100):  # Not all at once: the queue of a socket is short.
        watching += [asyncio.create_task(watch(port, job, behind)) for _ in range(100)]
        await asyncio.sleep(0.3)
    await asyncio.sleep(5)
    size = (_memory(pid) - before) / WATCHERS
    counts = await asyncio.gather(*watching)
    if set(counts) != {LINES}:
        raise RuntimeError(f"lines were missed: {sorted(set(counts))} of {LINES}")
    return percentile(behind, 0.99), size


def _memory(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _scaling(kind: str, url: str) -> Row:
    one: list[float] = []
    two: list[float] = []
    for number in in_turn(["1", "2"], ROUNDS):
        (one if number == "1" else two).append(_worked(url, int(number)))
    return row(f"{kind}: no-op jobs, two workers", "jobs/s", two, "one worker", one)


def run() -> Section:
    """All of it."""
    rows: list[Row] = []
    for kind, server in SERVERS.items():
        broker = server(synced=True)
        try:
            rows += [*_pairs(kind, broker.url), _scaling(kind, broker.url)]
            what = f"{kind}: a running job elsewhere is canceled, p99"
            rows.append(row(what, "ms", [1_000 * _canceled(broker.url)], target=AT_ONCE))
            behind, size = _watched(broker.url)
            what = f"{kind}: {WATCHERS:,} watchers of one web process"
            rows.append(row(f"{what}, behind, p99", "ms", [1_000 * behind]))
            rows.append(row(f"{what}, memory each", "bytes", [size]))
        finally:
            broker.close()
    notes = [
        f"{JOBS:,} jobs, {CALLERS} calls at once, one process that starts and runs them. Redis "
        "with appendfsync always, PostgreSQL with its own settings (every commit on disk).",
        "Ours keeps a record of each job: opened, begun and ended are three writes on disk.",
        "The workers share two processors with the server: two of them cannot be twice as fast.",
    ]
    return Section(name="machines", title="Many machines", rows=rows, notes=notes)


if __name__ == "__main__":
    quiet()
    logging.disable(logging.CRITICAL)
    side, url, *rest = sys.argv[1:]
    if side in SIDES:
        answer(asyncio.run(SIDES[side](url, int(rest[0]))))  # type: ignore[arg-type]
    else:
        work: Any = {"fill": fill, "span": span}[side]
        answer(asyncio.run(work(url, rest[0], int(rest[1]))))
