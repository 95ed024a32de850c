"""Jobs that a job starts: linked, canceled with it, and no reason for anybody to stand still."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from quart_app.checks.making import everything
from quart_app.core.context import Context
from quart_app.core.handles import JobHandle
from quart_app.core.start import task
from quart_app.domain.errors import Draining, JobFailed, NotFinished
from quart_app.domain.jobs import Change, Failure, Job, Note
from quart_app.domain.queries import Query
from quart_app.domain.retries import Retry
from quart_app.domain.status import Move
from tests.core.support import Core, Durable, Tended

pytestmark = pytest.mark.virtual


@task
async def double(number: int) -> int:
    """Takes a second."""
    await asyncio.sleep(1)
    return 2 * number


@task
async def fails(number: int) -> int:
    """Fails where it is asked to."""
    await asyncio.sleep(number)
    if number == 1:
        raise ValueError("no one")
    return number


@task
async def slow() -> None:
    """Goes on for long."""
    await asyncio.sleep(100)


@task
async def doubles(ctx: Context, count: int) -> list[int]:
    """Starts so many children."""
    return await ctx.gather(*(ctx.start(double, number) for number in range(count)))


@task
async def failing(ctx: Context) -> list[int]:
    """One of its children fails."""
    return await ctx.gather(*(ctx.start(fails, number) for number in (1, 100)))


@task(limit=1)
async def nested(ctx: Context, depth: int) -> int:
    """Starts itself, one at a time."""
    if depth == 0:
        return 0
    child = await ctx.start(nested, depth - 1)
    return 1 + await child.result()


ATTEMPTS: list[int] = []


@task(max_attempts=2)
async def again(ctx: Context) -> list[int]:
    """Its first attempt fails when its children are there."""
    children = [await ctx.start(double, number) for number in (1, 2, 1)]
    ATTEMPTS.append(ctx.attempt)
    if ctx.attempt == 1:
        raise OSError("once")
    return await ctx.gather(*children)


async def test_children_are_linked_and_their_results_come_in_order() -> None:
    """The parent's id stands in each."""
    async with Core(doubles, double) as core:
        job = await core.run(doubles, count=3)
        assert job.result == b"[0,2,4]"
        page = await core.store.page(Query(parent=job.id))
        assert [child.args for child in reversed(page.jobs)] == [
            b'{"number":0}',
            b'{"number":1}',
            b'{"number":2}',
        ]
        assert {child.parent for child in page.jobs} == {job.id}


async def test_a_waiting_parent_holds_no_place_that_a_child_needs() -> None:
    """One place for all of them, and a limit of one: it goes on all the same."""
    async with Core(doubles, double, nested, room=1) as core:
        assert (await core.run(doubles, count=3)).result == b"[0,2,4]"
        assert (await core.run(nested, depth=5)).result == b"5"
        assert core.engine.running("loop") == 0
        again = await core.run(nested, depth=0)  # Its limit has its place again.
        assert again.status == "succeeded"


async def test_no_more_run_at_once_than_may_while_parents_come_back() -> None:
    """A parent that goes on waits for a place like everybody."""
    most = 0

    @task
    async def busy(ctx: Context) -> None:
        nonlocal most
        child = await ctx.start(double, 1)
        await child.result()
        most = max(most, core.engine.running("loop"))
        await asyncio.sleep(1)

    async with Core(busy, double, room=2) as core:
        ids = [await core.start(busy) for _ in range(6)]
        for job_id in ids:
            assert (await core.ended(job_id)).status == "succeeded"
    assert most == 2


async def test_a_job_that_ends_while_a_task_of_its_own_waits_has_one_place() -> None:
    """It gave it away for that wait, and does not do so once more when it ends."""

    @task(limit=2)
    async def leaves(ctx: Context) -> None:
        child = await ctx.start(slow)
        await asyncio.wait({asyncio.create_task(child.result())}, timeout=0.1)

    async with Core(leaves, slow, double, room=2) as core:
        for _ in range(3):
            await core.start(leaves)
        await asyncio.sleep(1)
        assert core.engine.running("loop") == 2
        for number in range(4):
            await core.start(double, number=number)
        for _ in range(500):
            await asyncio.sleep(1)
            assert 0 <= core.engine.running("loop") <= 2
        assert (await core.store.counts())["succeeded"] == 10
        assert core.engine.running("loop") == 0


async def test_two_tasks_of_a_job_that_wait_in_turn_go_on() -> None:
    """One waits again while the other waits for a place to go on: neither waits for ever, and the
    job has one place."""

    @task
    async def turns(ctx: Context) -> list[float]:
        child = await ctx.start(slow)
        loop = asyncio.get_running_loop()

        async def first() -> float:
            with contextlib.suppress(TimeoutError):
                await child.result(timeout=0.5)
            return loop.time()

        async def second() -> float:
            await asyncio.sleep(1)
            await child.result()
            return loop.time()

        return [*await asyncio.gather(first(), second())]

    async with Core(turns, slow, room=1) as core:
        assert (await core.run(turns)).result == b"[1.0,100.0]"
        assert core.engine.running("loop") == 0


async def test_a_fan_out_of_ten_thousand_works() -> None:
    """Also where fewer may wait than are started."""
    async with Core(doubles, double, room=500, max_waiting=3_000) as core:
        job = await core.run(doubles, count=10_000)
        assert job.result is not None
        assert job.result.count(b",") == 9_999


@pytest.mark.parametrize("ready", [0, 20], ids=["started in it", "some before it"])
async def test_a_fan_out_of_more_than_is_kept_works(ready: int) -> None:
    """Children that are forgotten before the others have been started have been heard of."""

    @task
    async def number(n: int) -> int:
        return n

    @task
    async def numbers(ctx: Context, count: int, ready: int) -> int:
        async def late(n: int) -> JobHandle[int]:
            handle = await ctx.start(number, n)
            await asyncio.sleep(3)  # As where a store takes its time.
            return handle

        first = [await ctx.start(number, n) for n in range(ready)]
        rest = (late(n) for n in range(ready, count))
        return sum(await ctx.gather(*first, *rest))

    async with Core(numbers, number, store=Durable(), retention=everything(50, 1e9, 2**40)) as core:
        core.upkeep.start()
        job = await core.run(numbers, count=1_000, ready=ready)
        assert (job.error, job.result) == (None, b"499500")
        await core.upkeep.stop()


async def test_a_child_that_is_not_gathered_ends_none_that_is() -> None:
    """Whatever becomes of it while the others are started."""

    @task
    async def two(ctx: Context) -> list[int]:
        await ctx.start(fails, 1)

        async def late(n: int) -> JobHandle[int]:
            await asyncio.sleep(2)
            return await ctx.start(double, n)

        return await ctx.gather(late(1), late(2))

    async with Core(two, fails, double) as core:
        assert (await core.run(two)).result == b"[2,4]"


async def test_what_is_forgotten_before_it_is_waited_for_is_said() -> None:
    """Nobody knows what it had returned."""

    @task
    async def late(ctx: Context) -> None:
        child = await ctx.start(double, 1)
        await asyncio.sleep(100)
        await ctx.gather(child)

    async with Core(late, double, retention=everything(0, 1e9, 2**40)) as core:
        core.upkeep.start()
        job_id = await core.start(late)
        job = await core.ended(job_id)
        assert job.error is not None
        assert job.error.code == "NoSuchJob"
        assert "expired before it was waited for" in job.error.message
        await core.upkeep.stop()


async def test_a_cancel_reaches_the_children_and_theirs() -> None:
    """However deep; nobody goes on."""

    @task
    async def deep(ctx: Context, depth: int) -> None:
        if depth == 0:
            await asyncio.Event().wait()
        await ctx.gather(ctx.start(deep, depth - 1), ctx.start(deep, depth - 1))

    async with Core(deep) as core:
        job_id = await core.start(deep, depth=3)
        await asyncio.sleep(1)
        assert (await core.store.counts())["running"] == 15
        await core.service.cancel(job_id)
        await core.ended(job_id)
        await core.engine.idle()
        counts = await core.store.counts()
        assert (counts["canceled"], counts["running"], counts["queued"]) == (15, 0, 0)


@pytest.mark.parametrize("after", [1, 5], ids=["scheduled", "queued"])
async def test_a_cancel_between_two_attempts_reaches_the_children(after: int) -> None:
    """The first attempt has started them, whether the second one is due or not."""

    @task(max_attempts=2, retry=Retry(initial=3, jitter=0))
    async def leaves(ctx: Context) -> None:
        await ctx.start(double, 100)
        raise OSError("no")

    async with Tended(leaves, double, slow, room=1) as core:
        job_id = await core.start(leaves)
        await core.start(slow)
        await asyncio.sleep(after)
        parent = await core.job(job_id)
        assert parent.status == ("scheduled" if after == 1 else "queued")
        assert (await core.service.cancel(job_id)).status == "canceled"
        assert (await core.store.counts())["canceled"] == 2
        await core.engine.idle()


async def test_a_cancel_while_the_end_of_an_attempt_is_written_reaches_the_children() -> None:
    """The runner withdraws the parent before the cancel has looked: then it sees to them."""

    @task(max_attempts=2)
    async def leaves(ctx: Context) -> None:
        await ctx.start(slow)
        raise OSError("no")

    class Late(Durable):
        """Who asks for a cancel hears late that it is noted."""

        async def note(self, job_id: str, note: Note) -> Job | None:
            job = await super().note(job_id, note)
            await asyncio.sleep(1)
            return job

        async def move(self, job_id: str, change: Change) -> Job | None:
            if change.move is Move.RETRY:
                await asyncio.sleep(1)
            return await super().move(job_id, change)

    async with Core(leaves, slow, store=Late()) as core:
        job_id = await core.start(leaves)
        await asyncio.sleep(0.5)
        assert (await core.service.cancel(job_id)).status == "canceled"
        await core.engine.idle()
        assert (await core.store.counts())["canceled"] == 2


async def test_one_child_that_fails_ends_the_others() -> None:
    """At once, and the parent is told why."""
    async with Core(failing, fails) as core:
        job = await core.run(failing)
        assert job.error is not None
        assert job.error.code == JobFailed.__name__
        assert "ValueError: no one" in job.error.message
        assert core.now() < 5
        page = await core.store.page(Query(parent=job.id))
        assert sorted(child.status for child in page.jobs) == ["canceled", "failed"]


async def test_a_second_attempt_has_the_same_children() -> None:
    """They are not started again; two with the same arguments stay two."""
    ATTEMPTS.clear()
    async with Core(again, double) as core:
        core.upkeep.start()
        job_id = await core.start(again)
        job = await core.ended(job_id)
        assert (job.result, ATTEMPTS) == (b"[2,4,2]", [1, 2])
        assert len((await core.store.page(Query(parent=job.id))).jobs) == 3
        await core.upkeep.stop()


@task(max_attempts=2)
async def one_by_one(ctx: Context, count: int) -> int:
    """Starts the next child when the one before it is over."""
    return sum([await (await ctx.start(double, number)).result() for number in range(count)])


@task
async def once(ctx: Context, how: str) -> int:
    """Needs a child after another that takes longer than the shutdown has."""
    if how == "start":
        await asyncio.sleep(1)
        await ctx.start(double, 1)
    elif how == "start another":
        await asyncio.sleep(1)
        await double.start(1)
    elif how == "result":
        await (await ctx.start(slow)).result()
    elif how == "queued":
        await asyncio.gather((await ctx.start(slow)).result(), (await ctx.start(slow)).result())
    elif how == "gather":
        await ctx.gather(ctx.start(slow), ctx.start(slow))
    elif how == "catches":
        await asyncio.sleep(1)
        with contextlib.suppress(Draining):
            await ctx.start(double, 1)
        await asyncio.sleep(50)
    return 1


async def test_a_parent_that_a_shutdown_cuts_off_runs_again() -> None:
    """That nothing can be started any more is no failure: the attempt is not counted, and the next
    one has the children of this one."""
    store = Durable()
    async with Core(one_by_one, double, store=store, drain=5) as core:
        job_id = await core.start(one_by_one, count=9)
        await asyncio.sleep(2.5)
        await core.drain.finish()
        job = await core.job(job_id)
        assert (job.status, job.reason, job.attempt) == ("queued", "shutdown", 0)
        assert (core.now(), core.drain.left) == (7.5, 0)
    async with Tended(one_by_one, double, store=store) as core:
        assert (await core.ended(job_id)).result == b"72"
        assert (await core.store.counts())["succeeded"] == 10


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "memory"])
@pytest.mark.parametrize("how", ["start", "start another", "result", "queued", "gather", "catches"])
async def test_a_parent_of_one_attempt_ends_as_every_job_that_a_shutdown_cuts_off(
    how: str, kept: bool
) -> None:
    """Whatever it waits for; and it holds up nothing."""
    async with Core(once, slow, double, room=2, store=Durable() if kept else None) as core:
        job_id = await core.start(once, how=how)
        await asyncio.sleep(0.5)
        await core.drain.finish()
        job = await core.job(job_id)
        assert (job.status, job.reason) == ("failed", "shutdown")
        assert job.error == Failure("Shutdown", "the service shut down before it ended")
        assert (core.now(), core.drain.left) == (5.5, 0)


async def test_a_parent_whose_child_ends_during_the_shutdown_ends_too() -> None:
    """They have the drain, as every job has."""
    async with Core(one_by_one, double) as core:
        job_id = await core.start(one_by_one, count=1)
        await asyncio.sleep(0.5)
        await core.drain.finish()
        assert (await core.job(job_id)).result == b"0"
        assert core.now() == 1.0


async def test_what_nobody_can_interrupt_is_let_go_at_the_end_of_a_shutdown() -> None:
    """A wait in an asyncio task of its own: it is told that there is nothing to wait for."""
    told: list[str] = []

    async def waits(ctx: Context, start: bool) -> None:
        try:
            await (ctx.start(double, 1) if start else (await ctx.start(slow)).result())
        except (NotFinished, Draining) as error:
            told.append(type(error).__name__)

    @task
    async def leaves(ctx: Context) -> None:
        left = [asyncio.create_task(waits(ctx, False))]
        await asyncio.sleep(1)
        left.append(asyncio.create_task(waits(ctx, True)))
        await asyncio.sleep(50)

    async with Core(leaves, slow, double) as core:
        await core.start(leaves)
        await asyncio.sleep(0.5)
        await core.drain.finish()
        assert sorted(told) == ["Draining", "NotFinished"]


async def test_a_wait_that_ends_late_has_the_result_that_is_there() -> None:
    """The child had the place of the one that waits, and gives it back when it is over."""

    @task
    async def hasty(ctx: Context) -> int:
        return await (await ctx.start(double, 2)).result(timeout=0.2)

    async with Core(hasty, double, room=1) as core:
        assert (await core.run(hasty)).result == b"4"
