"""Threads of our own: reused, let go, and never those that DNS and sync views need."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from quart_app.core.context import Context
from quart_app.core.threads import Threads
from quart_app.domain.tasks import Task
from quart_app.testing import wait_until
from tests.core.support import Core


async def test_a_function_runs_beside_the_loop_and_its_result_comes_back() -> None:
    """Or its exception."""
    threads = Threads("mine")

    def fails() -> None:
        raise ValueError("no")

    name = await threads.call(lambda: threading.current_thread().name)
    assert name.startswith("mine-")
    with pytest.raises(ValueError, match="no"):
        await threads.call(fails)
    threads.close()


async def test_an_idle_thread_is_used_again() -> None:
    """One after the other they need one thread, side by side as many as there are."""
    threads = Threads()
    used = {await threads.call(threading.get_ident) for _ in range(20)}
    assert len(used) == 1
    barrier = threading.Barrier(3)
    await asyncio.gather(*(threads.call(lambda: barrier.wait(5)) for _ in range(3)))
    again = {await threads.call(threading.get_ident) for _ in range(20)}
    assert len(again) <= 3
    threads.close()


async def test_closed_threads_end_and_take_nothing_new() -> None:
    """Closing waits for nobody; one that still works ends with its work."""
    before = threading.active_count()
    threads = Threads()
    gate = threading.Event()
    working = asyncio.create_task(threads.call(lambda: gate.wait(10)))
    await threads.call(lambda: None)
    threads.close()
    with pytest.raises(RuntimeError, match="the threads are closed"):
        await threads.call(lambda: None)
    await wait_until(lambda: threading.active_count() == before + 1, "the idle thread has ended")
    gate.set()
    assert await working is True
    await wait_until(lambda: threading.active_count() == before, "the other one, too")


async def test_a_waiter_that_went_away_does_not_matter() -> None:
    """Its thread comes to its end, and is used again."""
    threads = Threads()
    gate = threading.Event()
    waiter = asyncio.create_task(threads.call(lambda: gate.wait(10)))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    gate.set()
    assert await threads.call(lambda: "fine") == "fine"
    threads.close()


def test_a_thread_that_outlives_the_loop_ends_quietly() -> None:
    """Nobody waits for its result any more."""
    threads, gate, ended = Threads(), threading.Event(), threading.Event()

    def work() -> None:
        gate.wait(10)
        ended.set()

    async def main() -> None:
        waiter = asyncio.create_task(threads.call(work))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)

    asyncio.run(main())
    gate.set()
    assert ended.wait(10)
    threads.close()


async def test_many_sync_jobs_hold_up_neither_dns_nor_sync_views() -> None:
    """Fifty of them run, and the loop's default pool is as free as before."""
    gate = threading.Event()

    def waits() -> None:
        gate.wait(10)

    async with Core(waits) as core:
        ids = [await core.start(waits) for _ in range(50)]
        await wait_until(lambda: len(core.registry) == 50, "all fifty run")
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        async with asyncio.timeout(5):
            await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
            await asyncio.gather(*(asyncio.to_thread(lambda: None) for _ in range(20)))
        assert time.monotonic() - began < 1
        gate.set()
        assert {(await core.ended(each)).status for each in ids} == {"succeeded"}


async def test_a_thread_cannot_be_interrupted_so_it_is_not_called_canceled() -> None:
    """It is running until it looks at its flag, past the grace with the word unresponsive."""
    gate = threading.Event()

    def deaf(ctx: Context) -> None:
        gate.wait(10)
        ctx.check_canceled()

    async with Core(deaf, grace=0.05) as core:
        job_id = await core.start(deaf)
        await wait_until(lambda: job_id in core.registry, "it runs")
        assert (await core.service.cancel(job_id)).status == "running"

        async def unresponsive() -> bool:
            return (await core.job(job_id)).unresponsive

        await wait_until(unresponsive, "it is called unresponsive")
        assert (await core.job(job_id)).status == "running"
        gate.set()
        job = await core.ended(job_id)
        assert (job.status, job.reason, job.unresponsive) == ("canceled", "requested", False)


async def test_a_thread_that_polls_its_flag_ends_at_once() -> None:
    """With a result, it has succeeded; by check_canceled, it is canceled."""

    def polls(ctx: Context, raises: bool) -> str:
        while not ctx.canceled:
            time.sleep(0.001)
        if raises:
            ctx.check_canceled()
        return "stopped by itself"

    async with Core(polls) as core:
        ids = [await core.start(polls, raises=raises) for raises in (True, False)]
        await wait_until(lambda: len(core.registry) == 2, "both run")
        for job_id in ids:
            await core.service.cancel(job_id)
        jobs = [await core.ended(job_id) for job_id in ids]
        assert [job.status for job in jobs] == ["canceled", "succeeded"]


async def test_a_timeout_is_a_flag_for_a_thread() -> None:
    """What it then returns counts; what it raises is a timeout."""

    def polls(ctx: Context) -> None:
        while True:
            ctx.check_canceled()
            time.sleep(0.001)

    async with Core(Task(polls, timeout=0.05)) as core:
        job = await core.run(polls)
        assert (job.status, job.reason) == ("failed", "timeout")
