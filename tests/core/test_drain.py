"""The end of a service: new jobs refused, running ones drained, asked once, left behind in time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from quart_app.core.context import Context
from quart_app.domain.errors import Draining
from quart_app.domain.jobs import Failure
from quart_app.domain.tasks import Task
from quart_app.stores.memory import MemoryStore
from tests.core.support import Core

pytestmark = pytest.mark.virtual


async def sleeps(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "end"


async def stubborn() -> None:
    until = asyncio.get_running_loop().time() + 30
    while (left := until - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue


class Kept(MemoryStore):
    """A store whose jobs outlive the process, as far as a shutdown is concerned."""

    volatile = False


async def test_an_idle_service_ends_at_once() -> None:
    """There is nothing to wait for."""
    async with Core(sleeps) as core:
        await core.drain.finish()
        assert core.now() == 0.0
        assert core.drain.left == 0


async def test_what_ends_in_time_has_succeeded() -> None:
    """Running and waiting jobs alike: the drain is for them."""
    async with Core(sleeps, room=1, drain=5) as core:
        ids = [await core.start(sleeps, seconds=2) for _ in range(2)]
        await asyncio.sleep(1)
        await core.drain.finish()
        assert core.now() == 4.0
        assert [(await core.job(each)).status for each in ids] == ["succeeded"] * 2


async def test_new_jobs_are_refused_from_the_first_moment() -> None:
    """They are told when to try again; what runs goes on."""
    async with Core(sleeps) as core:
        running = await core.start(sleeps, seconds=1)
        core.drain.begin()
        core.drain.begin()
        with pytest.raises(Draining) as caught:
            await core.start(sleeps, seconds=1)
        assert caught.value.retry_after == 1.0
        assert (await core.job(running)).status == "queued"
        await core.drain.finish()
        assert (await core.job(running)).status == "succeeded"


async def test_whoever_waits_is_let_go_at_once() -> None:
    """A request that waits for a job must not hold up the shutdown."""
    async with Core(sleeps) as core:
        job_id = await core.start(sleeps, seconds=3)
        waiting = asyncio.create_task(core.service.wait(job_id, 100))
        await asyncio.sleep(1)
        core.drain.begin()
        assert (await waiting).status == "running"
        assert core.now() == 1.0
        assert (await core.service.wait(job_id, 100)).status == "running"
        await core.drain.finish()


async def test_past_the_drain_running_jobs_are_asked_once_and_waiting_ones_withdrawn() -> None:
    """The reason of both is shutdown: it is nobody's failure, and nobody asked for it."""
    async with Core(sleeps, room=1, drain=5, grace=2) as core:
        running, waiting = [await core.start(sleeps, seconds=50) for _ in range(2)]
        await core.drain.finish()
        assert core.now() == 5.0
        job = await core.job(running)
        assert (job.status, job.reason) == ("failed", "shutdown")
        assert job.error == Failure("Shutdown", "the service shut down before it ended")
        job = await core.job(waiting)
        assert (job.status, job.reason, job.cancel_requested_at) == ("canceled", "shutdown", None)
        core.check_stories()


async def test_a_cleanup_has_the_grace() -> None:
    """It comes to its end, and the job's ending is written after it."""
    done: list[float] = []

    async def careful() -> None:
        try:
            await asyncio.sleep(50)
        finally:
            await asyncio.sleep(1.5)
            done.append(asyncio.get_running_loop().time())

    async with Core(careful, drain=5, grace=2) as core:
        job_id = await core.start(careful)
        await core.drain.finish()
        assert (done, core.now(), core.drain.left) == ([6.5], 6.5, 0)
        assert (await core.job(job_id)).status == "failed"


async def test_what_does_not_stop_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """After drain and grace, whatever it does; its late ending is refused."""
    async with Core(stubborn, sleeps, drain=5, grace=2) as core:
        job_id = await core.start(stubborn)
        await core.drain.finish()
        assert (core.now(), core.drain.left) == (7.0, 1)
        job = await core.job(job_id)
        assert (job.status, job.reason, job.unresponsive) == ("failed", "shutdown", False)
        assert job.error == Failure(
            "Shutdown", "it did not stop within the grace time of the shutdown"
        )
        await core.engine.idle()
        assert core.now() == 30.0
        assert (await core.job(job_id)) == job
        core.check_stories()
    assert "did not stop in time: left behind" in caplog.text
    assert "shutdown: 1 running jobs have 5 s to end" in caplog.text


async def test_a_second_signal_skips_the_drain() -> None:
    """Jobs are asked to stop now; the grace stays."""
    async with Core(sleeps, drain=100) as core:
        job_id = await core.start(sleeps, seconds=50)
        ending = asyncio.create_task(core.drain.finish())
        await asyncio.sleep(1)
        core.drain.hurry()
        await ending
        assert core.now() == 1.0
        assert (await core.job(job_id)).reason == "shutdown"


async def test_two_shutdowns_are_one() -> None:
    """Whoever comes second waits for the first, and canceling one caller stops neither."""
    async with Core(sleeps, drain=10) as core:
        await core.start(sleeps, seconds=3)
        first, second = (asyncio.create_task(core.drain.finish()) for _ in range(2))
        await asyncio.sleep(1)
        first.cancel()
        await second
        assert core.now() == 3.0
        await core.drain.finish()
        await asyncio.gather(first, return_exceptions=True)


async def test_what_waits_in_a_store_that_stays_is_left_there() -> None:
    """It is run after the restart; what runs has the drain."""
    async with Core(sleeps, room=1, store=Kept(), drain=5) as core:
        running, waiting = [await core.start(sleeps, seconds=2) for _ in range(2)]
        await core.drain.finish()
        assert core.now() == 2.0
        assert (await core.job(running)).status == "succeeded"
        assert (await core.job(waiting)).status == "queued"


async def test_an_interrupted_job_of_more_than_one_attempt_is_put_back() -> None:
    """It is run again by the next process, and the attempt is not counted."""
    task = Task(sleeps)
    task.max_attempts = 2
    async with Core(task, store=Kept(), drain=1) as core:
        job_id = await core.start(sleeps, seconds=50)
        await core.drain.finish()
        job = await core.job(job_id)
        assert (job.status, job.reason, job.attempt) == ("queued", "shutdown", 0)


async def test_a_job_that_was_put_back_in_a_store_that_goes_is_withdrawn() -> None:
    """Nobody will ever run it: that is said."""
    task = Task(sleeps)
    task.max_attempts = 2
    async with Core(task, drain=1) as core:
        job_id = await core.start(sleeps, seconds=50)
        await core.drain.finish()
        job = await core.job(job_id)
        assert (job.status, job.reason) == ("canceled", "shutdown")


@pytest.mark.parametrize("turns", range(12))
async def test_a_job_that_is_delivered_while_the_drain_ends_is_asked_too(turns: int) -> None:
    """However few turns of the loop lie between its room becoming free and the end."""

    async def first() -> None:
        await asyncio.sleep(1)
        for _ in range(turns):
            await asyncio.sleep(0)

    async with Core(first, sleeps, room=1, drain=1, grace=2) as core:
        await core.start(first)
        second = await core.start(sleeps, seconds=50)
        await core.drain.finish()
        job = await core.job(second)
        assert (core.now(), core.drain.left) == (1.0, 0)
        assert (job.status, job.reason) in (("failed", "shutdown"), ("canceled", "shutdown"))
        core.check_stories()


async def test_a_job_that_is_handed_over_after_the_end_holds_nothing_up() -> None:
    """A request that was under way may hand over its job late: it is withdrawn already."""

    async def cleans() -> None:
        try:
            await asyncio.sleep(50)
        finally:
            await asyncio.sleep(1)

    async with Core(sleeps, cleans, drain=1, grace=5) as core:
        await core.start(cleans)
        scope = core.service.begin_request()
        late = await core.start(sleeps, seconds=1)
        ending = asyncio.create_task(core.drain.finish())
        await asyncio.sleep(1.5)
        await scope.close()
        await ending
        assert core.now() == 2.0
        assert (await core.job(late)).status == "canceled"


async def test_a_job_sees_the_shutdown_in_its_context() -> None:
    """A flag for code that nobody can interrupt."""

    async def polls(ctx: Context) -> list[bool]:
        seen = [ctx.canceled]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(50)
        return [*seen, ctx.canceled]

    async with Core(polls, drain=3) as core:
        job_id = await core.start(polls)
        await core.drain.finish()
        assert (await core.job(job_id)).result == b"[false,true]"


@pytest.mark.parametrize(
    ("everything", "attempts", "ends"),
    [
        (True, 2, ("queued", "shutdown", 0)),
        (True, 1, ("failed", "shutdown", 1)),
        (False, 1, ("failed", "error", 1)),
    ],
)
async def test_a_loop_all_of_whose_tasks_are_canceled_is_shut_down(
    everything: bool, attempts: int, ends: tuple[str, str, int]
) -> None:
    """As by a development server that loads the code again. A job that is canceled alone has
    nobody but itself to blame."""
    task = Task(sleeps)
    task.max_attempts = attempts
    async with Core(task, store=Kept()) as core:
        job_id = await core.start(sleeps, seconds=50)
        await asyncio.sleep(1)
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            if everything or each.get_name() == job_id:
                each.cancel()
        await core.engine.idle()
        job = await core.job(job_id)
        assert (job.status, job.reason, job.attempt) == ends
