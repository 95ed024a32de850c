"""What a request starts runs when it is answered, when somebody waits for it, or a moment later."""

from __future__ import annotations

import asyncio
import time

import pytest

from quart_app.core.outbox import HOLD, OUTBOX, Outbox
from quart_app.core.start import StartableTask
from tests.core.support import Core


def blocks() -> None:
    """Stands on the loop in its first line, as a task should not."""
    time.sleep(0.05)


async def quick() -> str:
    return "ran"


QUICK: StartableTask[[], str] = StartableTask(quick)
BLOCKS: StartableTask[[], None] = StartableTask(blocks, run="loop")


@pytest.mark.blocking
async def test_a_task_that_blocks_does_not_delay_the_answer_that_announces_it() -> None:
    """None of its code runs before the answer has left."""
    async with Core(BLOCKS) as core:
        scope = core.service.begin_request()
        began = time.monotonic()
        job_id = await core.start("blocks")
        for _ in range(20):
            await asyncio.sleep(0)
        assert time.monotonic() - began < 0.05
        assert (await core.job(job_id)).status == "queued"
        await scope.close()
        assert (await core.ended(job_id)).status == "succeeded"
        assert time.monotonic() - began >= 0.05


@pytest.mark.virtual
async def test_a_held_job_is_on_record_and_can_be_canceled() -> None:
    """It is durable before the answer; only its running waits."""
    async with Core(QUICK) as core:
        scope = core.service.begin_request()
        job_id = await core.start("quick")
        assert (await core.service.cancel(job_id)).status == "canceled"
        await scope.close()
        await core.engine.idle()
        assert core.story(job_id) == ["open", "withdraw"]


@pytest.mark.virtual
async def test_waiting_for_a_held_job_lets_it_run() -> None:
    """A view that waits for its own job does not wait for ever."""
    async with Core(QUICK) as core:
        scope = core.service.begin_request()
        handle = await QUICK.start()
        assert await handle.result(timeout=0.1) == "ran"
        await scope.close()


@pytest.mark.virtual
async def test_a_view_that_goes_on_lets_its_jobs_run_soon() -> None:
    """After a quarter of a second, for it may wait for what they do; and so each time anew."""
    async with Core(QUICK) as core:
        scope = core.service.begin_request()
        for round_ in range(3):
            first = await QUICK.start()
            await asyncio.sleep(0.1)
            second = await QUICK.start()
            await asyncio.sleep(HOLD - 0.1 - 0.01)
            assert await first.status() == "queued"
            await asyncio.sleep(0.02)
            assert [await first.status(), await second.status()] == ["succeeded"] * 2, round_
        await QUICK.start()
        await scope.close()
        await core.engine.idle()


@pytest.mark.virtual
async def test_after_the_answer_nothing_is_held() -> None:
    """What code of the view that runs on starts, begins at once."""
    async with Core(QUICK) as core:
        outbox = Outbox(core.backlog)
        token = OUTBOX.set(outbox)
        try:
            held = await QUICK.start()
            await outbox.close()
            late = await QUICK.start()
            await asyncio.sleep(0)
            assert [await held.status(), await late.status()] == ["succeeded"] * 2
        finally:
            OUTBOX.reset(token)


@pytest.mark.virtual
async def test_held_jobs_begin_in_their_order() -> None:
    """As they were started."""
    async with Core(QUICK, room=1) as core:
        scope = core.service.begin_request()
        ids = [await core.start("quick") for _ in range(5)]
        await scope.close()
        await core.engine.idle()
        claims = [event.job.id for event in core.events if event.kind == "claim"]
        assert claims == ids
