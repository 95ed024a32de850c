"""The loops in the background: what is due, what got lost, what is old; none ends by an error."""

from __future__ import annotations

import asyncio

import pytest

from quart_app.checks.making import everything
from quart_app.core.upkeep import BATCH
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Job, Retention
from quart_app.domain.queries import Page, Query
from quart_app.domain.status import Move, Status
from quart_app.domain.tasks import Task
from quart_app.stores.memory import MemoryStore
from tests.core.support import Core

pytestmark = pytest.mark.virtual


async def work() -> str:
    return "done"


async def waits() -> None:
    await asyncio.sleep(100)


class Kept(Core):
    """A core with upkeep running."""

    async def __aenter__(self) -> Core:
        await super().__aenter__()
        self.hub.subscribe_ends(self.upkeep.on_ends)
        self.upkeep.start()
        return self

    async def __aexit__(self, *args: object) -> None:
        await self.upkeep.stop()
        await super().__aexit__(*args)  # type: ignore[arg-type]


async def test_a_scheduled_job_runs_when_its_moment_has_come() -> None:
    """Not before it, and at most a second after it."""
    async with Kept(work) as core:
        await core.ledger.open(
            [
                Job(id="soon", task="work", status="scheduled", run_at=10.0),
                Job(id="later", task="work", status="scheduled", run_at=60.0),
            ]
        )
        await asyncio.sleep(9.9)
        assert (await core.job("soon")).status == "scheduled"
        await asyncio.sleep(1.2)
        assert (await core.job("soon")).status == "succeeded"
        assert (await core.job("later")).status == "scheduled"
        assert core.story("soon") == ["open", "due", "claim", "succeed"]
        await core.service.cancel("later")


async def test_a_scheduled_job_that_was_withdrawn_is_not_run() -> None:
    """Also when the cancel comes between the look and the move."""

    class Meanwhile(MemoryStore):
        async def due(self, now: float, limit: int) -> list[Job]:
            jobs = await super().due(now, limit)
            for job in jobs:
                await core.service.cancel(job.id)
            return jobs

    async with Kept(work, store=Meanwhile()) as core:
        await core.ledger.open([Job(id="a", task="work", status="scheduled", run_at=1.0)])
        await asyncio.sleep(5)
        assert core.story("a") == ["open", "withdraw"]


async def test_more_than_one_batch_is_due() -> None:
    """All in one round."""
    async with Kept(work) as core:
        await core.ledger.open(
            [
                Job(id=str(number), task="work", status="scheduled", run_at=1.0)
                for number in range(2 * BATCH + 1)
            ]
        )
        await asyncio.sleep(2.1)
        assert (await core.store.counts())["succeeded"] == 2 * BATCH + 1


async def test_a_running_job_for_which_nobody_works_is_lost() -> None:
    """Within five seconds; begun once, it does not run again."""
    async with Kept(work, waits) as core:
        healthy = await core.start(waits)
        await core.ledger.open([Job(id="a", task="work")])
        await core.ledger.move("a", Move.CLAIM)
        await asyncio.sleep(5.1)
        job = await core.job("a")
        assert (job.status, job.reason) == ("failed", "lost")
        assert job.error is not None
        assert job.error.code == "Lost"
        assert (await core.job(healthy)).status == "running"
        await core.service.cancel(healthy)
        await core.engine.idle()
        core.check_stories()


async def test_a_lost_job_of_more_than_one_attempt_runs_again() -> None:
    """The lost attempt counts; the last one is the last."""
    task = Task(work)
    async with Kept(task) as core:
        jobs = [Job(id=str(n), task="work", max_attempts=2, attempt=n) for n in range(2)]
        await core.ledger.open(jobs)
        for job in jobs:
            await core.ledger.move(job.id, Move.CLAIM)
        await asyncio.sleep(5.1)
        first, last = await core.job("0"), await core.job("1")
        assert (first.status, first.attempt) == ("succeeded", 2)
        assert core.story("0") == ["open", "claim", "rescue", "claim", "succeed"]
        assert (last.status, last.reason, last.attempt) == ("failed", "lost", 2)


async def test_a_lost_job_that_ends_meanwhile_is_left_alone() -> None:
    """The rescue is fenced: somebody else was first."""

    class Meanwhile(MemoryStore):
        async def page(self, query: Query) -> Page:
            page = await super().page(query)
            for job in page.jobs:
                await core.ledger.move(job.id, Move.SUCCEED, attempt=job.attempt)
            return page

    async with Core(work, store=Meanwhile()) as core:
        await core.ledger.open([Job(id="a", task="work", max_attempts=5)])
        await core.ledger.move("a", Move.CLAIM)
        assert await core.upkeep.rescue() == 0
        assert (await core.job("a")).status == "succeeded"


async def test_a_queued_job_that_no_engine_holds_is_delivered() -> None:
    """One whose announcement has not left yet is not; nor is one of a task that is not offered."""
    async with Kept(work, waits, room=1) as core:
        running = await core.start(waits)
        waiting = await core.start(waits)
        await asyncio.sleep(4.5)
        await core.ledger.open(
            [
                Job(id="forgotten", task="work"),
                Job(id="unknown", task="gone"),
                Job(id="announced", task="work"),
            ]
        )
        core.backlog.held.add("announced")
        await asyncio.sleep(1)
        held = {each: core.backlog.holds(each) for each in ("forgotten", "unknown", "announced")}
        assert held == {"forgotten": True, "unknown": False, "announced": False}
        await core.service.cancel(waiting)
        await core.service.cancel(running)
        await asyncio.sleep(10)
        assert (await core.job("forgotten")).status == "succeeded"
        assert (await core.job("unknown")).status == "queued"
        assert (await core.job("announced")).status == "queued"
        await core.backlog.submit(await core.job("announced"), core.catalog["work"])
        await core.engine.idle()
        assert (await core.job("announced")).status == "succeeded"


@pytest.mark.parametrize("status", ["queued", "running"])
async def test_all_pages_are_looked_through(status: Status) -> None:
    """However many got lost."""
    async with Core(work) as core:
        await core.ledger.open([Job(id=str(number), task="work") for number in range(250)])
        if status == "running":
            for number in range(250):
                await core.ledger.move(str(number), Move.CLAIM)
        await asyncio.sleep(2)
        assert await core.upkeep.rescue() == (250 if status == "running" else 0)
        await core.engine.idle()
        ended: Status = "failed" if status == "running" else "succeeded"
        assert (await core.store.counts())[ended] == 250


async def test_a_healthy_service_never_scans_its_jobs() -> None:
    """The counts tell that all is well."""

    class NoScans(MemoryStore):
        async def page(self, query: Query) -> Page:
            raise AssertionError("scanned")  # pragma: no cover - it must not run

    async with Kept(work, waits, store=NoScans()) as core:
        job_id = await core.start(waits)
        await core.start(work)
        await asyncio.sleep(30)
        handle = core.registry.get(job_id)
        assert handle is not None
        handle.ask("cancel")
        await core.engine.idle()


async def test_old_records_are_forgotten_within_a_second() -> None:
    """By their number, as here; running ones never."""
    async with Kept(work, waits, retention=everything(5, 1e9, 2**40)) as core:
        running = await core.start(waits)
        ids = [await core.start(work) for _ in range(20)]
        await asyncio.sleep(1.1)
        left = await core.service.page(Query())
        assert [job.id for job in left.jobs] == [*reversed(ids[-5:]), running]
        await core.service.cancel(running)
        await core.engine.idle()


async def test_many_endings_are_pruned_before_the_second_is_over() -> None:
    """Retention holds also at thousands of jobs a second."""
    async with Kept(work, retention=everything(5, 1e9, 2**40)) as core:
        for _ in range(4 * BATCH):
            await core.start(work)
        await core.engine.idle()
        for _ in range(20):
            await asyncio.sleep(0)
        assert core.now() == 0.0
        assert (await core.store.counts())["succeeded"] < BATCH + 10


async def test_a_store_that_forgets_few_at_once_is_asked_until_none_is_left() -> None:
    """Large jobs are forgotten within the same second, too."""

    class Few(MemoryStore):
        async def prune(self, retention: Retention, now: float, limit: int) -> int:
            return await super().prune(retention, now, 3)

    async with Kept(work, store=Few(), retention=everything(5, 1e9, 2**40)) as core:
        for _ in range(100):
            await core.start(work)
        await core.engine.idle()
        await asyncio.sleep(1.1)
        assert (await core.store.counts())["succeeded"] == 5


async def test_records_are_bounded_by_age_and_bytes_too() -> None:
    """What of the three is reached first."""
    async with Kept(work, retention=everything(1000, 60, 100)) as core:
        for _ in range(50):
            await core.run(work)
        await asyncio.sleep(1.1)
        assert (await core.store.counts())["succeeded"] == 100 // (await _size(core))
        await asyncio.sleep(60)
        assert (await core.store.counts())["succeeded"] == 0


async def _size(core: Core) -> int:
    return (await core.service.page(Query(limit=1))).jobs[0].size


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (RuntimeError("a fault"), 5),
        # The store says so itself, once, and not each of those who wait for it.
        (StoreUnavailable("the disk is full"), 0),
    ],
)
async def test_an_error_in_one_round_does_not_end_the_loop(
    error: Exception, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault is logged, and the next round is done."""

    class Broken(MemoryStore):
        broken = True

        async def due(self, now: float, limit: int) -> list[Job]:
            if self.broken:
                raise error
            return await super().due(now, limit)

    store = Broken()
    async with Kept(work, store=store) as core:
        await core.ledger.open([Job(id="a", task="work", status="scheduled", run_at=1.0)])
        await asyncio.sleep(5.5)
        assert (await core.job("a")).status == "scheduled"
        store.broken = False
        await asyncio.sleep(1)
        assert (await core.job("a")).status == "succeeded"
    assert caplog.text.count("upkeep failed and will be tried again") == logged


def upkeep_tasks() -> int:
    """How many of its loops run."""
    return sum(task.get_name().startswith("upkeep-") for task in asyncio.all_tasks())


async def test_the_loops_end_when_they_are_stopped() -> None:
    """Stopping waits for it, and is harmless twice."""
    async with Kept(work) as core:
        assert upkeep_tasks() == 4
        await core.upkeep.stop()
        assert upkeep_tasks() == 0
