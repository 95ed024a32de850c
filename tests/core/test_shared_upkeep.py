"""What the leader looks after: the dead, the stranded, what is due, what others have brought."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from quart_app.core.shared_upkeep import STRANDED
from quart_app.core.start import task
from quart_app.domain.jobs import Change, Job, Note
from quart_app.domain.status import Move
from quart_app.domain.tasks import Task
from quart_app.domain.workers import Worker
from tests.core.fleet import Machine
from tests.core.twin import Broker, Place

pytestmark = pytest.mark.virtual


async def work() -> str:
    return "done"


@task(max_attempts=3)
async def sleeps() -> None:
    await asyncio.sleep(50)


@task(limit=1, max_attempts=3)
async def limited() -> None:
    await asyncio.sleep(5)


@contextlib.asynccontextmanager
async def pair(
    *tasks: Task | Callable[..., Any], **options: Any
) -> AsyncIterator[tuple[Place, Broker, Machine, Machine]]:
    """Two processes; the first one leads."""
    place, broker = Place(), Broker()
    offered = tasks or (work, sleeps, limited)
    async with (
        Machine(place, broker, *offered, name="a", **options) as one,
        Machine(place, broker, *offered, name="b", **options) as other,
    ):
        yield place, broker, one, other
    broker.close()


async def keep(place: Place, *jobs: Job) -> None:
    """Jobs of which nobody has told the engine."""
    for job in jobs:
        await place.kept.add([job], 100_000)


async def claimed(place: Place, job_id: str, by: str, **fields: Any) -> None:
    """A job that runs in a process."""
    await keep(place, Job(id=job_id, task="sleeps", **fields))
    await place.kept.move(job_id, Change(Move.CLAIM, 0.0, worker=by))


async def test_a_job_of_a_dead_process_is_rescued_and_one_of_a_living_is_left() -> None:
    """Within five seconds; begun once, it does not run again."""
    async with pair() as (place, _, one, _other):
        await claimed(place, "dead", "gone", max_attempts=2)
        await claimed(place, "once", "gone")
        await claimed(place, "nobody's", "gone", max_attempts=2)
        await place.kept.note("nobody's", Note(at=1.0, cancel_requested=True))
        await one.store.beat(Worker(id="lives"), 1_000)
        await claimed(place, "alive", "lives")
        await asyncio.sleep(5.5)
        job = await one.job("dead")
        assert (job.status, job.attempt, job.history[0].reason) == ("running", 2, "lost")
        once = await one.job("once")
        assert (once.status, once.reason) == ("failed", "lost")
        assert (await one.job("alive")).worker == "lives"
        canceled = await one.ended("nobody's")
        assert canceled.status == "canceled"
        await place.kept.move("alive", Change(Move.SUCCEED, 1.0))


async def test_jobs_of_a_process_that_was_killed_run_elsewhere() -> None:
    """The leader's own, too: another one takes over."""
    async with pair() as (_, broker, one, other):
        other.engine.places["loop"] = 0
        ids = [await one.start("sleeps") for _ in range(3)]
        await asyncio.sleep(1)
        other.engine.places["loop"] = 10
        await one.kill()
        for job_id in ids:
            job = await other.ended(job_id)
            assert (job.status, job.attempt) == ("succeeded", 2)
            assert [each.reason for each in job.history] == ["lost"]
        assert sorted(broker.delivered[:3]) == sorted(ids)
        assert other.lead.leading


async def test_two_that_rescue_the_same_job_rescue_it_once() -> None:
    """Each thinks that it leads."""
    async with pair() as (place, _, one, other):
        for number in range(10):
            await claimed(place, f"{number}", "gone", max_attempts=3)
        rescued = await asyncio.gather(one.upkeep.rescue(), other.upkeep.rescue())
        assert sum(rescued) == 10
        kinds = [getattr(heard, "kind", "") for heard in place.log]
        assert kinds.count("rescue") == 10
        for number in range(10):
            assert (await one.ended(f"{number}")).attempt == 2


async def test_who_may_not_be_sure_takes_nobody_for_dead() -> None:
    """It could not reach the store itself: perhaps nobody could."""
    async with pair() as (place, _, one, other):
        for each in (one, other):
            await each.lead.stop()
        await claimed(place, "a", "gone", max_attempts=3)
        doubt = 3.0
        one.upkeep.share(one.store, one.backlog, lambda: doubt)
        assert await one.upkeep.rescue() == 0
        doubt = 0.0
        assert await one.upkeep.rescue() == 1
        await one.ended("a")


async def test_queued_jobs_that_were_lost_on_their_way_are_handed_over() -> None:
    """The first of each queue with each look, until all have been."""
    async with pair() as (place, broker, _one, _other):
        await keep(place, *(Job(id=f"{number}", task="work") for number in range(STRANDED + 20)))
        await keep(place, Job(id="unknown", task="gone"))
        await asyncio.sleep(5.5)
        assert len(broker.delivered) == STRANDED
        await asyncio.sleep(5)
        counts = await place.kept.counts()
        assert (counts["succeeded"], counts["queued"]) == (STRANDED + 20, 1)


async def test_a_limited_job_that_the_broker_lost_is_handed_over_again() -> None:
    """It counts all the time, and nobody else has its slot."""
    async with pair() as (_, broker, one, other):
        for each in (one, other):
            each.engine.places["loop"] = 0
        ids = [await one.start("limited") for _ in range(3)]
        await asyncio.sleep(1)
        assert list(broker.waiting) == ids[:1]
        broker.waiting.clear()
        for each in (one, other):
            each.engine.places["loop"] = 10
        for job_id in ids:
            assert (await one.ended(job_id)).status == "succeeded"
        assert broker.delivered == ids


async def test_a_broker_that_is_gone_loses_nothing() -> None:
    """What could not be handed over is, when it is back; whether limits hold it back or not."""
    async with pair() as (_, broker, one, other):
        for each in (one, other):
            each.engine.cut = True
        ids = [await one.start(name) for name in ("work", "limited", "limited", "limited")]
        await asyncio.sleep(20)
        assert broker.delivered == []
        for each in (one, other):
            each.engine.cut = False
        began = one.now()
        for job_id in ids:
            assert (await other.ended(job_id)).status == "succeeded"
        assert one.now() - began < 30


async def test_a_scheduled_job_is_due_wherever_it_was_opened() -> None:
    """At its moment: the leader hears of it."""
    async with pair() as (_, _broker, one, other):
        job = Job(id="a", task="work", status="scheduled", run_at=one.now() + 10.25)
        await other.ledger.open([job])
        await asyncio.sleep(10.3)
        assert (await other.ended("a")).status == "succeeded"
        assert one.now() < 10.5


async def test_what_came_with_somebodys_transaction_is_handed_over() -> None:
    """Within a second; what is scheduled waits for its moment."""
    async with pair() as (place, _, one, other):
        place.brought = [
            Job(id="a", task="work"),
            Job(id="b", task="limited"),
            Job(id="c", task="work", status="scheduled", run_at=one.now() + 20),
        ]
        await asyncio.sleep(1.2)
        assert (await other.job("a")).status == "succeeded"
        assert (await other.ended("b")).status == "succeeded"
        assert (await other.job("c")).status == "scheduled"
        await asyncio.sleep(20)
        assert (await other.job("c")).status == "succeeded"


async def test_an_event_that_was_missed_holds_nobody_back_for_ever() -> None:
    """After a gap the leader reads what runs and what waits of tasks with limits."""
    async with pair() as (place, _, one, other):
        ids = [await one.start("limited")]
        await asyncio.sleep(1)
        one.store.cut = True
        ids += [await other.start("limited") for _ in range(3)]
        await asyncio.sleep(6)
        place.forget()
        one.store.cut = False
        assert one.lead.leading
        for job_id in ids:
            assert (await other.ended(job_id)).status == "succeeded"
        assert one.lead.leading


async def test_only_the_leader_looks() -> None:
    """The others' loops have not begun."""
    async with pair() as (_, _broker, one, other):
        await asyncio.sleep(10)
        assert one.store.calls["due"] > 5
        assert other.store.calls["due"] == 0
        await one.stop()
        await asyncio.sleep(10)
        assert other.store.calls["due"] > 5
