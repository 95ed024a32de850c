"""Jobs that a living process is said to run and does not: they go on, and none begins twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from random import Random

import pytest

from quart_app.core.context import Context
from quart_app.core.orphans import LOOKS
from quart_app.core.start import task
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Change, Job
from quart_app.domain.status import Move
from tests.core.fleet import Machine
from tests.core.twin import Broker, Place

pytestmark = pytest.mark.virtual

BEGAN = Counter[str]()


@pytest.fixture(autouse=True)
def _nothing_has_begun() -> None:
    BEGAN.clear()


@task
async def once(context: Context) -> str:
    BEGAN[context.id] += 1
    await asyncio.sleep(5)
    return "done"


@task(max_attempts=3, name="thrice")
async def thrice(context: Context) -> str:
    BEGAN[context.id] += 1
    await asyncio.sleep(5)
    return "done"


@contextlib.asynccontextmanager
async def machines(count: int = 1) -> AsyncIterator[tuple[Place, Broker, list[Machine]]]:
    """Processes, of which the first leads."""
    place, broker = Place(), Broker()
    async with contextlib.AsyncExitStack() as stack:
        made = [Machine(place, broker, once, thrice, name=f"m{number}") for number in range(count)]
        for each in made:
            await stack.enter_async_context(each)
            await asyncio.sleep(0.1)
        yield place, broker, made
    broker.close()


async def keep(place: Place, job_id: str, task: str = "once", **fields: int) -> Job:
    """A job that nobody has handed over."""
    [job], _ = await place.kept.add([Job(id=job_id, task=task, **fields)], 100)  # type: ignore[arg-type]
    return job


async def over(place: Place, job_id: str, seconds: float = 30) -> Job:
    """A job, when it is over."""
    async with asyncio.timeout(seconds):
        while True:
            job = await place.kept.get(job_id)
            assert job is not None
            if job.finished_at is not None:
                return job
            await asyncio.sleep(0.1)


async def claim_unheard(place: Place, one: Machine, job_id: str) -> None:
    """The claim is kept, and whoever made it is not told."""
    one.store.deaf.add("move")
    with pytest.raises(StoreUnavailable):
        await one.runner.run(job_id)
    one.store.deaf.clear()
    job = await place.kept.get(job_id)
    assert job is not None
    assert (job.status, job.worker, BEGAN[job_id]) == ("running", one.name, 0)


async def claim_in_vain(one: Machine, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim has no answer, and is not kept either."""

    async def move(*_: object) -> None:
        raise StoreUnavailable("it cannot be reached")

    with monkeypatch.context() as patched:
        patched.setattr(one.store, "move", move)
        with pytest.raises(StoreUnavailable):
            await one.runner.run(job_id)
    assert list(one.orphans._unsure) == [job_id]


async def test_a_claim_that_had_no_answer_is_given_back_and_counts_as_no_attempt() -> None:
    """Nothing had begun: so also what may begin once begins now, and its history says why."""
    async with machines() as (place, _, [one]):
        await keep(place, "a")
        await claim_unheard(place, one, "a")
        job = await over(place, "a")
        assert (job.status, job.attempt, BEGAN["a"]) == ("succeeded", 1, 1)
        [first] = job.history
        assert (first.reason, first.error.code) == ("lost", "NotBegun")  # type: ignore[union-attr]


async def test_a_delivery_that_comes_again_finds_it_given_back() -> None:
    """At once, where it comes to the same process."""
    async with machines() as (place, _, [one]):
        await keep(place, "a")
        await claim_unheard(place, one, "a")
        assert await one.runner.run("a") is None
        job = await place.kept.get("a")
        assert job is not None
        assert (job.status, job.attempt, BEGAN["a"]) == ("succeeded", 1, 1)


async def test_another_process_takes_what_was_given_back() -> None:
    """A delivery that came there first was in vain; the one that made the claim lets it go on."""
    async with machines(2) as (place, _, [one, other]):
        await keep(place, "a")
        await claim_unheard(place, one, "a")
        assert await other.runner.run("a") is None
        assert BEGAN["a"] == 0
        one.engine.places["loop"] = 0  # It has no room itself.
        job = await over(place, "a")
        assert (job.status, job.worker, BEGAN["a"]) == ("succeeded", other.name, 1)


async def test_a_claim_that_was_refused_after_all_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was kept, somebody else was first: nothing is to be done."""
    async with machines(2) as (place, _, [one, other]):
        await keep(place, "a")
        await claim_in_vain(one, "a", monkeypatch)
        running = asyncio.create_task(other.runner.run("a"))
        await asyncio.sleep(3)
        assert BEGAN["a"] == 1
        await running
        job = await over(place, "a")
        assert (job.status, job.worker, job.history) == ("succeeded", other.name, ())
        await asyncio.sleep(LOOKS + 1)
        assert one.orphans._unsure == {}


async def test_a_claim_that_is_taken_after_it_was_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a server that hung: it went on with the older of two lines last."""
    async with machines() as (place, _, [one]):
        await keep(place, "a")
        await claim_in_vain(one, "a", monkeypatch)
        one.engine.places["loop"] = 0
        await asyncio.sleep(2.5)
        assert await place.kept.move("a", Change(Move.CLAIM, 3.0, worker=one.name)) is not None
        one.engine.places["loop"] = 10
        job = await over(place, "a")
        assert (job.status, job.attempt, BEGAN["a"]) == ("succeeded", 1, 1)


async def test_what_runs_here_again_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later claim is not the one that had no answer."""
    async with machines() as (place, _, [one]):
        await keep(place, "a")
        await claim_in_vain(one, "a", monkeypatch)
        running = asyncio.create_task(one.runner.run("a"))
        await asyncio.sleep(0)
        assert await one.orphans.look() == 0
        await asyncio.sleep(3)
        assert await one.orphans.look() == 0
        await running
        job = await over(place, "a")
        assert (job.status, job.history, BEGAN["a"]) == ("succeeded", (), 1)


async def test_giving_back_that_had_no_answer_either_is_looked_at_again() -> None:
    """Until somebody has said what became of it."""
    async with machines() as (place, _, [one]):
        await keep(place, "a")
        await claim_unheard(place, one, "a")
        one.store.deaf.add("move")
        with pytest.raises(StoreUnavailable):
            await one.orphans.look()
        one.store.deaf.clear()
        job = await over(place, "a")
        assert (job.status, BEGAN["a"]) == ("succeeded", 1)


async def test_many_claims_without_an_answer_are_no_poison() -> None:
    """It is not the job that is at fault."""
    async with machines() as (place, _, [one]):
        await keep(place, "a", "thrice", max_attempts=3)
        for _ in range(5):
            await claim_unheard(place, one, "a")
            one.engine.places["loop"] = 0
            await one.orphans.look()
        one.engine.places["loop"] = 10
        one.engine.broker.look()
        job = await over(place, "a", 60)
        assert (job.status, job.attempt, BEGAN["a"]) == ("succeeded", 1, 1)
        assert len(job.history) == 5


@pytest.mark.parametrize(("name", "most"), [("once", 1), ("thrice", 3)])
async def test_an_end_that_the_store_forgot(name: str, most: int) -> None:
    """It is written that the job runs here, and nothing does: the one rule says what follows."""
    async with machines() as (place, _, [one]):
        job = await keep(place, "a", name, max_attempts=most)
        await place.kept.move("a", Change(Move.CLAIM, 0.0, worker=one.name))
        await asyncio.sleep(20)
        assert (await place.kept.get("a")).status == "running"  # type: ignore[union-attr]
        one.store.cut = True
        await asyncio.sleep(1)
        one.store.cut = False
        job = await over(place, "a")
        if most == 1:
            assert (job.status, job.reason, BEGAN["a"]) == ("failed", "lost", 0)
        else:
            assert (job.status, job.attempt, BEGAN["a"]) == ("succeeded", 2, 1)


async def test_what_really_runs_is_not_taken_for_forgotten() -> None:
    """Here or elsewhere, over many outages."""
    async with machines(3) as (place, _, made):
        for number in range(30):
            await keep(place, f"{number}")
        tasks = [
            asyncio.create_task(made[number % 3].runner.run(f"{number}")) for number in range(30)
        ]
        for _ in range(4):
            for each in made:
                each.orphans.forgot()
            assert sum([await each.orphans.look() for each in made]) == 0
            await asyncio.sleep(1)
        await asyncio.gather(*tasks)
        assert set(BEGAN.values()) == {1}
        for number in range(30):
            assert (await over(place, f"{number}")).status == "succeeded"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
async def test_no_job_stands_still_whatever_answers_are_lost(seed: int) -> None:
    """Of any call, at any time, in every process; all live. What may begin once does."""
    dice = Random(seed)  # noqa: S311 - no secret
    place, broker = Place(dice=dice), Broker(dice=dice)
    async with contextlib.AsyncExitStack() as stack:
        made = [Machine(place, broker, once, thrice, name=f"m{each}", room=5) for each in range(3)]
        for each in made:
            await stack.enter_async_context(each)
        ids = []
        for number in range(100):
            ids.append(await made[number % 3].start("once"))
            hit = dice.choice(made)
            hit.store.deaf = set(dice.sample(["move", "get", "add", "note", "page"], 2))
            await asyncio.sleep(dice.random())
            hit.store.deaf = set()
        for job_id in ids:
            job = await over(place, job_id, 10_000)
            assert (job.status, BEGAN[job_id]) == ("succeeded", 1)
    broker.close()
