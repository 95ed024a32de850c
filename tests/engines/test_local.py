"""The local engine keeps the rules of every engine, and those of its own lanes."""

from __future__ import annotations

import asyncio
import contextvars
import gc

import pytest

from quart_app.engines.local import LocalEngine
from quart_app.testing import check_engine

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")


def make(**rooms: int) -> LocalEngine:
    """An engine with room for two on the loop and one elsewhere, unless said otherwise."""
    return LocalEngine({"loop": 2, "thread": 1, "process": 1, **rooms})  # type: ignore[dict-item]


async def test_local_keeps_every_rule_of_an_engine() -> None:
    """`check_engine` holds."""
    await check_engine(make)


async def test_a_full_lane_holds_up_no_other() -> None:
    """Waiting threads cost coroutines nothing."""
    gate, began = asyncio.Event(), []

    async def run(job_id: str) -> None:
        began.append(job_id)
        await gate.wait()

    engine = make()
    await engine.work(run)
    for job_id, lane in [("t1", "thread"), ("t2", "thread"), ("p1", "process"), ("l1", "loop")]:
        await engine.submit(job_id, lane)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert began == ["t1", "p1", "l1"]
    gate.set()
    await engine.idle()
    assert began == ["t1", "p1", "l1", "t2"]


async def test_a_job_has_a_context_of_its_own() -> None:
    """It begins with the engine's, not with the submitter's, and ends with the job."""
    context = contextvars.Context()
    context.run(NAME.set, "engine")
    seen: list[str] = []

    async def run(job_id: str) -> None:
        seen.append(NAME.get())
        NAME.set(job_id)

    for engine in (LocalEngine({"loop": 1}, context), make()):
        await engine.work(run)
        NAME.set("request")
        for job_id in "ab":
            await engine.submit(job_id, "loop")
        await engine.idle()
    assert seen == ["engine", "engine", "nobody", "nobody"]


async def test_running_deliveries_are_not_garbage() -> None:
    """asyncio keeps its tasks weakly, the engine does not."""
    waiting: list[asyncio.Future[None]] = []
    ended: list[str] = []

    async def run(job_id: str) -> None:
        loop = asyncio.get_running_loop()
        inner = loop.create_future()
        # Only this chain of objects leads to the task: a timer or a socket would keep it alive.
        waiting.append(outer := loop.create_future())
        outer.add_done_callback(lambda _: inner.set_result(None))
        await inner
        ended.append(job_id)

    engine = make(loop=10)
    await engine.work(run)
    for number in range(10):
        await engine.submit(str(number), "loop")
    await asyncio.sleep(0)
    gc.collect()
    for future in waiting:
        future.set_result(None)
    await engine.idle()
    assert len(ended) == 10


async def test_the_order_holds_with_many_waiting() -> None:
    """Twenty thousand are delivered as they came."""
    ran: list[str] = []

    async def run(job_id: str) -> None:
        ran.append(job_id)

    engine = make(loop=1)
    ids = [str(number) for number in range(20_000)]
    for job_id in ids:
        await engine.submit(job_id, "loop")
    await engine.work(run)
    async with asyncio.timeout(10):
        await engine.idle()
    assert ran == ids


async def test_idle_waits_for_those_that_come_meanwhile() -> None:
    """A job may start another one."""
    ran: list[str] = []

    async def run(job_id: str) -> None:
        ran.append(job_id)
        await asyncio.sleep(0)
        if job_id != "aaaa":
            await engine.submit(job_id + "a", "loop")

    engine = make()
    await engine.work(run)
    await engine.submit("a", "loop")
    await engine.idle()
    assert ran == ["a", "aa", "aaa", "aaaa"]


async def test_a_closed_engine_takes_nothing() -> None:
    """Nobody would ever run it, so nobody waits for it."""

    async def run(job_id: str) -> None:
        raise AssertionError(job_id)  # pragma: no cover - it must not run

    engine = make()
    await engine.work(run)
    assert await engine.close() == []
    await engine.submit("late", "loop")
    assert not engine.holds("late")
    async with asyncio.timeout(1):
        await engine.idle()


async def test_a_run_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With the job's id; it is upkeep that finds the job."""

    async def run(job_id: str) -> None:
        raise OSError("disk full")

    engine = make()
    await engine.work(run)
    await engine.submit("a", "loop")
    await engine.idle()
    assert "job a could not be run to its end" in caplog.text
    assert "disk full" in caplog.text
