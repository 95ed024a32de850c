"""Who blocks the loop is named while it does so: the job, and the line."""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from quart_app.core.registry import Registry
from quart_app.core.watchdog import Watchdog
from quart_app.domain.tasks import Task
from quart_app.testing import wait_until
from tests.core.support import Core

pytestmark = pytest.mark.blocking

T = TypeVar("T")


def stand_still(seconds: float) -> None:
    """What no coroutine should do."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.005)  # THE LINE


async def blocks() -> None:
    stand_still(0.12)


async def until_reported(watchdog: Watchdog, block: Callable[[], Awaitable[T]]) -> T:
    """Block until it is reported; on a busy machine the watchdog may look too late for one."""
    before, results = watchdog.count, []

    async def reported() -> bool:
        results.append(await block())
        await asyncio.sleep(0.03)
        return watchdog.count > before

    await wait_until(reported, "it is reported")
    return results[-1]


@pytest.mark.slow
async def test_a_job_that_blocks_the_loop_is_named_with_its_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the log and in the reports, newest first."""
    async with Core(Task(blocks)) as core:
        watchdog = Watchdog(core.registry, 0.04)
        watchdog.start()
        try:
            first = await until_reported(watchdog, lambda: core.run(blocks))
            second = await until_reported(watchdog, lambda: core.run(blocks))
        finally:
            watchdog.stop()
            watchdog.join()
        newest, *_, oldest = watchdog.reports()
        assert (newest.job, oldest.job) == (second.id, first.id)
        assert newest.where is not None
        assert __file__ in newest.where
        assert newest.where.endswith("in stand_still")
        assert 0.05 < newest.seconds < 1
        assert any("in blocks" in line for line in newest.stack)
        assert len(newest.stack) <= 12
        assert abs(newest.at - time.time()) < 60
    assert f"blocked at {newest.where} by job {second.id}" in caplog.text


@pytest.mark.slow
async def test_a_block_that_is_a_little_longer_than_the_threshold_is_reported() -> None:
    """Whenever it begins: right after a sign of life, too. On a busy machine the thread itself may
    come late, so not each of them has to be."""
    watchdog = Watchdog(Registry(), 0.1)
    watchdog.start()
    try:
        for number in range(12):
            await asyncio.sleep(0.03 + 0.007 * number)
            stand_still(0.125)
        await asyncio.sleep(0.05)
    finally:
        watchdog.stop()
        watchdog.join()
    assert watchdog.count >= 9
    assert all(0.08 <= each.seconds < 1 for each in watchdog.reports())


async def test_what_is_no_job_is_named_with_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """A view or a callback may block too."""
    watchdog = Watchdog(Registry(), 0.04)
    watchdog.start()
    try:
        await until_reported(watchdog, blocks)
    finally:
        watchdog.stop()
        watchdog.join()
    assert watchdog.reports()[0].job is None
    assert "by something that is not a job" in caplog.text


@pytest.mark.slow
async def test_a_loop_that_gives_signs_of_life_is_not_reported() -> None:
    """Work in steps is no block."""
    watchdog = Watchdog(Registry(), 0.2)
    watchdog.start()
    try:
        for _ in range(10):
            stand_still(0.01)
            await asyncio.sleep(0.02)
    finally:
        watchdog.stop()
        watchdog.join()
    assert (watchdog.count, watchdog.reports()) == (0, [])


class Late(selectors.DefaultSelector):
    """Comes back late, as where the process gets no processor."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        time.sleep(0.1)
        return super().select(timeout)


def test_a_loop_that_waits_and_gets_no_processor_is_not_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing blocks it: it is woken late."""
    watchdog = Watchdog(Registry(), 0.02)

    async def main() -> None:
        watchdog.start()
        for _ in range(3):
            await asyncio.sleep(0)
        watchdog.stop()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(Late())) as runner:
        runner.run(main())
    watchdog.join()
    assert (watchdog.count, watchdog.reports(), caplog.text) == (0, [], "")


async def test_code_that_waits_with_a_selector_of_its_own_is_reported() -> None:
    """As `subprocess.run` does: it holds the loop up."""

    async def waits() -> None:
        with selectors.DefaultSelector() as selector:
            selector.select(0.12)

    watchdog = Watchdog(Registry(), 0.04)
    watchdog.start()
    try:
        await until_reported(watchdog, waits)
    finally:
        watchdog.stop()
        watchdog.join()
    assert any("in waits" in line for line in watchdog.reports()[0].stack)


@pytest.mark.slow
async def test_only_the_newest_are_kept_and_all_are_counted() -> None:
    """Reports are bounded."""
    watchdog = Watchdog(Registry(), 0.02)
    watchdog.start()
    try:
        for _ in range(12):
            await until_reported(watchdog, blocks)
    finally:
        watchdog.stop()
        watchdog.join()
    assert watchdog.count >= 12
    assert len(watchdog.reports()) == 10


@pytest.mark.slow
async def test_stopping_does_not_wait_for_a_sign_of_life() -> None:
    """Neither between two looks nor while the loop stands still."""
    watchdog = Watchdog(Registry(), 0.03)
    watchdog.start()
    stopper = threading.Timer(0.1, watchdog.stop)
    stopper.start()
    stand_still(0.25)
    assert not any(thread.name == "quart-app-watchdog" for thread in threading.enumerate())
    stopper.join()
    watchdog.join()


def test_a_watchdog_ends_with_its_loop() -> None:
    """Also when nobody stops it."""
    watchdog = Watchdog(Registry(), 0.02)
    watchdog.join()

    async def main() -> None:
        watchdog.start()
        await asyncio.sleep(0.05)

    asyncio.run(main())
    watchdog.join()
    assert watchdog.count == 0


def test_a_loop_whose_thread_has_gone_is_said_to_stand_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is no line to name; and not that of the watchdog itself."""
    watchdog = Watchdog(Registry(), 0.02)
    loop = asyncio.new_event_loop()

    async def main() -> None:
        watchdog.start()

    thread = threading.Thread(target=loop.run_until_complete, args=[main()])
    thread.start()
    thread.join()
    stand_still(0.1)
    loop.close()
    watchdog.join()
    assert "blocked at ? by something that is not a job" in caplog.text


def test_a_loop_that_closes_while_it_is_blocked_is_let_go() -> None:
    """It gives no sign of life any more."""
    watchdog = Watchdog(Registry(), 0.02)
    loop = asyncio.new_event_loop()

    async def main() -> None:
        watchdog.start()
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())
    stand_still(0.1)
    loop.close()
    watchdog.join()
    assert watchdog.count == 0
