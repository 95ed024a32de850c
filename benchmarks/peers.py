"""No-op jobs in a SQLite file from start to end, asked for by many callers at once: ours and peers.

Run as ``python -m benchmarks.peers NAME FOLDER``, each in a process of its own; prints jobs a
second. Every caller starts a job, waits for its result, and starts the next. The peers are set up
as their documentation has it; huey is told to sync to disk as the others do. Nothing may live here
that compares.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.processes import answer
from benchmarks.tasks import NO_LIMITS, noop
from quart_app import create_app

CALLERS = 100
WARM = 1.0
SECONDS = 4.0


async def _rate(one: Callable[[], Awaitable[object]]) -> float:
    """Jobs a second of coroutines that call one after the other."""
    ended = 0
    until = time.perf_counter() + WARM + SECONDS

    async def call() -> None:
        nonlocal ended
        while (now := time.perf_counter()) < until:
            await one()
            ended += now > until - SECONDS

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    return ended / SECONDS


async def ours(folder: Path) -> float:
    """This package."""
    file = f"sqlite:///{folder / 'jobs.db'}"
    app = create_app([noop], QUART_APP_STORE=file, **NO_LIMITS)

    async def one() -> None:
        await (await noop.start()).result()

    async with app.test_app():
        return await _rate(one)


async def dbos(folder: Path) -> float:
    """DBOS with its SQLite system database."""
    from dbos import DBOS

    DBOS(
        config={
            "name": "noop",
            "system_database_url": f"sqlite:///{folder / 'dbos.sqlite'}",
            "log_level": "ERROR",
        }
    )

    async def nothing() -> None:
        return

    workflow: Any = DBOS.workflow()(nothing)

    async def one() -> None:
        handle = await DBOS.start_workflow_async(workflow)
        await handle.get_result()

    DBOS.launch()
    try:
        return await _rate(one)
    finally:
        DBOS.destroy()


async def huey(folder: Path) -> float:
    """huey with its SQLite storage: callers and workers are threads of one process."""
    from huey import SqliteHuey

    queue = SqliteHuey(filename=str(folder / "huey.db"), fsync=True)

    def nothing() -> int:
        return 1

    job: Any = queue.task()(nothing)
    consumer = queue.create_consumer(workers=4, periodic=False, initial_delay=0.001, max_delay=0.01)
    consumer.start()
    ended = [0] * CALLERS
    until = time.perf_counter() + WARM + SECONDS

    def call(number: int) -> None:
        while (now := time.perf_counter()) < until:
            job().get(blocking=True, backoff=1.05, max_delay=0.05)
            ended[number] += now > until - SECONDS

    threads = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    consumer.stop(graceful=False)
    return sum(ended) / SECONDS


PEERS: dict[str, Callable[[Path], Awaitable[float]]] = {"ours": ours, "dbos": dbos, "huey": huey}


async def main(name: str, folder: str) -> None:
    """Measure one of them."""
    answer(await PEERS[name](Path(folder)))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asyncio.run(main(*sys.argv[1:]))
