"""What becomes of a job that is delivered to a process which is perhaps not the one for it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from quart_app.core.operate import PAUSED, pause
from quart_app.core.shared_backlog import SENT
from quart_app.core.shared_runner import ELSEWHERE, SOON
from quart_app.core.start import task
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Change, Job
from quart_app.domain.status import Move
from quart_app.domain.tasks import Task
from quart_app.domain.workers import Worker
from tests.core.fleet import Machine
from tests.core.twin import Broker, Place

pytestmark = pytest.mark.virtual


async def work() -> str:
    return "done"


@task(max_attempts=3)
async def sleeps() -> str:
    await asyncio.sleep(100)
    return "slept"


@task(max_attempts=3, limit=1)
async def limited() -> str:
    await asyncio.sleep(100)
    return "slept"


@task(limit=1)
async def one_at_a_time() -> None:
    pass


@contextlib.asynccontextmanager
async def machine(
    *tasks: Task | Callable[..., Any], **options: Any
) -> AsyncIterator[tuple[Place, Broker, Machine]]:
    """One process that runs nothing by itself: a test calls its runner."""
    place, broker = Place(), Broker()
    async with Machine(place, broker, *(tasks or (work, sleeps, limited)), **options) as one:
        await one.lead.stop()
        yield place, broker, one
    broker.close()


async def keep(place: Place, job_id: str, task: str = "work", **fields: Any) -> Job:
    """A job that nobody has handed over."""
    [job], _ = await place.kept.add([Job(id=job_id, task=task, **fields)], 100)
    return job


async def claim(place: Place, job_id: str, task: str = "sleeps", by: str = "other") -> Job:
    """A job that runs in another process."""
    await keep(place, job_id, task, max_attempts=3)
    job = await place.kept.move(job_id, Change(Move.CLAIM, 0.0, worker=by))
    assert job is not None
    return job


async def test_a_job_for_this_process_is_run() -> None:
    """And its delivery is over; so it is with one that is unknown, or over."""
    async with machine() as (place, _, one):
        await keep(place, "a")
        assert [await one.runner.run(each) for each in ("a", "a", "unknown")] == [None] * 3
        job = await one.job("a")
        assert (job.status, job.worker, job.attempt) == ("succeeded", "one", 1)


async def test_a_job_that_is_scheduled_still_is_left_alone() -> None:
    """It comes again when it is due."""
    async with machine() as (place, _, one):
        await keep(place, "a", status="scheduled", run_at=1e9)
        assert await one.runner.run("a") is None
        assert (await one.job("a")).status == "scheduled"


@pytest.mark.parametrize(("name", "only"), [("gone", ()), ("work", ("sleeps",))])
async def test_a_job_that_does_not_run_here_is_given_back_with_growing_waits(
    name: str, only: tuple[str, ...]
) -> None:
    """By half each time, between a tenth of a second and thirty: of a task that is not offered, and
    of one that is not among those that run here."""
    async with machine(only=only) as (place, _, one):
        await keep(place, "a", name, updated_at=one.now())
        waits: list[float] = []
        for _ in range(20):
            wait = await one.runner.run("a")
            assert wait is not None
            waits.append(wait)
            await asyncio.sleep(wait)
        assert (waits[0], waits[-1]) == ELSEWHERE
        for before, after in itertools.pairwise(waits[2:]):
            assert after == pytest.approx(min(ELSEWHERE[1], 1.5 * before))
        job = await one.job("a")
        assert (job.status, job.seq) == ("queued", 1)


async def test_a_clock_that_is_behind_gives_back_soon() -> None:
    """The job seems to be from the future."""
    async with machine() as (place, _, one):
        await keep(place, "a", "gone", updated_at=one.now() + 1_000)
        assert await one.runner.run("a") == ELSEWHERE[0]


async def test_another_process_takes_what_does_not_run_here() -> None:
    """However often it is delivered to the wrong one first."""
    place, broker = Place(), Broker()
    async with (
        Machine(place, broker, work, sleeps, name="a", only=("sleeps",)) as one,
        Machine(place, broker, work, sleeps, name="b") as other,
    ):
        other.engine.places["loop"] = 0
        job_id = await one.start("work")
        await asyncio.sleep(1)
        assert broker.delivered.count(job_id) > 1
        one.engine.places["loop"], other.engine.places["loop"] = 0, 10
        assert (await one.ended(job_id)).worker == "b"
    broker.close()


async def test_a_paused_job_is_not_delivered_again() -> None:
    """Until its task goes on: then whoever leads sees to that."""
    async with machine() as (place, _, one):
        await pause(one.service, one.catalog["work"])
        await keep(place, "a")
        assert await one.runner.run("a") is None
        assert (await one.job("a")).status == "queued"


async def test_a_pause_that_has_ended_elsewhere_refuses_nothing() -> None:
    """What is known of it here may be a second old; a job that is refused would be lost."""
    async with machine() as (place, _, one):
        await pause(one.service, one.catalog["work"])
        await keep(place, "a")
        await place.kept.keep_fact(PAUSED + "work", None)
        await place.kept.keep_fact(PAUSED + "work more", b"true")
        assert one.backlog.paused(one.catalog["work"])
        assert await one.runner.run("a") is None
        assert (await one.job("a")).status == "succeeded"


async def test_a_held_job_comes_again_in_a_moment() -> None:
    """Its answer has not left."""
    async with machine() as (place, _, one):
        await keep(place, "a")
        one.backlog.held.add("a")
        assert await one.runner.run("a") == SOON
        one.backlog.held.clear()
        assert await one.runner.run("a") is None
        assert (await one.job("a")).status == "succeeded"


async def test_an_interrupted_job_is_given_back_at_once() -> None:
    """Somebody else is to have it, without a wait."""
    async with machine() as (place, _, one):
        await keep(place, "a", "sleeps", max_attempts=3)
        running = asyncio.create_task(one.runner.run("a"))
        await asyncio.sleep(1)
        [handle] = one.registry
        handle.ask("shutdown")
        assert await running == 0.0
        job = await one.job("a")
        assert (job.status, job.worker, job.history[0].reason) == ("queued", None, "shutdown")


async def test_an_interrupted_job_with_a_limit_waits_for_who_leads() -> None:
    """Its slot may be another's by now."""
    async with machine() as (place, _, one):
        await keep(place, "a", "limited", max_attempts=3)
        running = asyncio.create_task(one.runner.run("a"))
        await asyncio.sleep(1)
        [handle] = one.registry
        handle.ask("shutdown")
        assert await running is None
        assert await one.runner.run("a") is None
        job = await one.job("a")
        assert job.status == "queued"
        await place.kept.keep_fact(SENT + "a", b"%d" % job.seq)
        running = asyncio.create_task(one.runner.run("a"))
        await asyncio.sleep(1)
        assert (await one.job("a")).status == "running"
        await asyncio.sleep(100)
        assert await running is None


async def test_a_job_of_a_dead_process_is_rescued_and_run() -> None:
    """The engine noticed it first; the lost attempt counts."""
    async with machine() as (place, _, one):
        await claim(place, "a")
        running = asyncio.create_task(one.runner.run("a"))
        await asyncio.sleep(1)
        job = await one.job("a")
        assert (job.status, job.worker, job.attempt) == ("running", "one", 2)
        assert [(each.reason, each.worker) for each in job.history] == [("lost", "other")]
        await asyncio.sleep(100)
        assert await running is None


async def test_a_job_of_a_living_process_is_left_alone() -> None:
    """Whatever the engine thinks; and so is one that runs here."""
    async with machine() as (place, _, one):
        await one.store.beat(Worker(id="other"), 1_000)
        job = await claim(place, "a")
        assert await one.runner.run("a") is None
        assert await one.job("a") == job
        mine = await claim(place, "b", by="one")
        handle = one.registry.open("b", asyncio.current_task())  # type: ignore[arg-type]
        assert handle is not None
        place.alive.clear()
        assert await one.runner.run("b") is None
        assert await one.job("b") == mine
        one.registry.close(handle)
        await one._beat()


async def test_a_lost_job_of_one_attempt_is_over() -> None:
    """It does not begin again, and is told to have failed."""
    async with machine() as (place, _, one):
        await keep(place, "a", "sleeps")
        await place.kept.move("a", Change(Move.CLAIM, 0.0, worker="other"))
        assert await one.runner.run("a") is None
        job = await one.job("a")
        assert (job.status, job.reason) == ("failed", "lost")


async def test_of_many_that_are_delivered_one_job_one_runs_it() -> None:
    """Rescued once, begun once."""
    place, broker = Place(), Broker()
    async with contextlib.AsyncExitStack() as stack:
        many = [Machine(place, broker, sleeps, name=f"m{number}") for number in range(4)]
        for each in many:
            await stack.enter_async_context(each)
            await each.lead.stop()
        await claim(place, "a")
        async with asyncio.TaskGroup() as group:
            for each in many:
                group.create_task(each.runner.run("a"))
        job = await many[0].job("a")
        assert (job.status, job.attempt, len(job.history)) == ("succeeded", 2, 1)
        kinds = [getattr(heard, "kind", "") for heard in place.log]
        assert [kinds.count(kind) for kind in ("rescue", "claim")] == [1, 1]


async def test_a_store_that_does_not_answer_costs_no_turn() -> None:
    """Another process may have one that does: so the job is given back at once."""
    async with machine() as (place, _, one):
        await keep(place, "a")
        one.store.cut = True
        with pytest.raises(StoreUnavailable):
            await one.runner.run("a")
        assert len(one.registry) == 0
        one.store.cut = False
