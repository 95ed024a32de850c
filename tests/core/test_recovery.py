"""A process ends without a word, and the next one over the same file goes on: nothing is lost,
nothing runs that must not run again."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from pathlib import Path

import pytest

from quart_app.core.context import Context
from quart_app.core.upkeep import BATCH
from quart_app.domain.errors import KeyReused, StoreUnavailable
from quart_app.domain.jobs import Change, Failure, Job
from quart_app.domain.options import make_options
from quart_app.domain.outcomes import Outcome
from quart_app.domain.queries import Query
from quart_app.domain.retries import Retry
from quart_app.domain.status import Move
from quart_app.domain.tasks import Task
from quart_app.stores.sqlite.store import SQLiteStore
from quart_app.testing import wait_until
from tests.core.support import Core, Durable, Tended

SOON = Retry(initial=0.02, jitter=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


class Outage(SQLiteStore):
    """Moves no job for a while: it refuses, or it does what it is told and says that it cannot."""

    down = False
    silent = False
    refused = 0

    async def move(self, job_id: str, change: Change) -> Job | None:
        if not self.down:
            return await super().move(job_id, change)
        self.refused += 1
        if self.silent:
            await super().move(job_id, change)
        raise StoreUnavailable("the disk is full")


async def test_what_was_queued_goes_on_in_its_order(path: Path) -> None:
    """Each of them once; the one that was running is over, for it may have done its work."""
    begun: list[int] = []
    go = asyncio.Event()

    async def job(number: int) -> None:
        begun.append(number)
        await go.wait()

    async with Tended(job, store=SQLiteStore(path), room=1) as core:
        ids = [await core.start(job, number=number) for number in range(20)]
        await wait_until(lambda: begun == [0], "the first runs")
        await core.crash()
    go.set()
    async with Tended(job, store=SQLiteStore(path), room=1, window=3) as core:
        await core.service.wait(ids[-1], 5)
        await core.engine.idle()
        assert begun == list(range(20))
        first = await core.job(ids[0])
        assert (first.status, first.reason, first.attempt) == ("failed", "lost", 1)
        assert first.error is not None
        assert first.error.code == "Lost"
        assert {(await core.job(each)).status for each in ids[1:]} == {"succeeded"}
        assert core.story(ids[0]) == ["fail"]


async def test_a_job_that_may_begin_once_is_never_run_again(path: Path) -> None:
    """Not by the second process and not by the third; its ending is told once."""
    begun: list[int] = []

    async def job() -> None:
        begun.append(1)
        await asyncio.sleep(1_000)

    async with Tended(job, store=SQLiteStore(path)) as core:
        job_id = await core.start(job)
        await wait_until(lambda: begun, "it runs")
        await core.crash()
    lost: list[Job] = []
    for _ in range(2):
        async with Tended(job, store=SQLiteStore(path)) as core:
            await core.upkeep.rescue()
            assert await core.upkeep.recover() == 0
            lost.append(await core.job(job_id))
    assert (lost[0].status, lost[0].reason) == ("failed", "lost")
    assert lost[0] == lost[1]
    assert begun == [1]


async def test_a_job_that_may_begin_again_does(path: Path) -> None:
    """With the next attempt; the record says what became of the first."""
    begun: list[int] = []

    async def job(ctx: Context) -> str:
        begun.append(ctx.attempt)
        if ctx.attempt == 1:
            await asyncio.sleep(1_000)
        return "done"

    task = Task(job, max_attempts=2)
    async with Tended(task, store=SQLiteStore(path)) as core:
        job_id = await core.start(job)
        await wait_until(lambda: begun, "it runs")
        await core.crash()
    async with Tended(task, store=SQLiteStore(path)) as core:
        ended = await core.ended(job_id)
        assert (ended.status, ended.attempt, ended.result) == ("succeeded", 2, b'"done"')
        [first] = ended.history
        assert (first.attempt, first.reason) == (1, "lost")
        assert first.ended_at >= first.started_at
        assert core.story(job_id) == ["rescue", "claim", "succeed"]
    assert begun == [1, 2]


async def test_a_job_that_takes_three_processes_with_it_is_poison(path: Path) -> None:
    """Otherwise it would end every process to come, and with it everybody else's jobs."""
    begun: list[int] = []

    async def job(ctx: Context) -> None:
        begun.append(ctx.attempt)
        await asyncio.sleep(1_000)

    task = Task(job, max_attempts=100)
    job_id = ""
    for crash in range(3):
        async with Tended(task, store=SQLiteStore(path)) as core:
            job_id = job_id or await core.start(job)
            await wait_until(lambda: len(begun) > crash, "it runs")  # noqa: B023 - at once
            await core.crash()
    async with Tended(task, store=SQLiteStore(path)) as core:
        ended = await core.job(job_id)
        assert (ended.status, ended.reason, ended.attempt) == ("failed", "poison", 3)
        assert ended.error == Failure(
            "Poison", "it was running when its process died, 3 times in a row"
        )
        assert core.story(job_id) == ["fail"]
    assert begun == [1, 2, 3]


@pytest.mark.virtual
async def test_crashes_that_do_not_follow_each_other_are_no_poison() -> None:
    """An error or a shutdown between them says that it is not the job that ends its process."""
    ends = ["crash", "crash", "error", "crash", "crash", "shutdown", "crash", "crash", "done"]
    begun: list[str] = []

    async def job() -> str:
        begun.append(ends[len(begun)])
        if begun[-1] == "error":
            raise OSError("no")
        if begun[-1] != "done":
            await asyncio.sleep(1_000)
        return "done"

    store = Durable()
    task = Task(job, max_attempts=100, retry=Retry(initial=1))
    job_id = ""
    while len(begun) < len(ends):
        async with Tended(task, store=store) as core:
            job_id = job_id or await core.start(job)
            await asyncio.sleep(2)
            if begun[-1] == "crash":
                await core.crash()
            else:
                core.drain.hurry()
                await core.drain.finish()
    await store.open()
    ended = await store.get(job_id)
    assert ended is not None
    assert (ended.status, ended.attempt) == ("succeeded", 8)
    assert Counter(each.reason for each in ended.history) == {"lost": 6, "error": 1, "shutdown": 1}


@pytest.mark.virtual
async def test_rescued_jobs_queue_in_the_order_in_which_they_were_started() -> None:
    """Behind those that had waited already: as every job that is queued anew."""
    begun: list[int] = []

    async def job(number: int, ctx: Context) -> None:
        begun.append(number)
        await asyncio.sleep(1_000 if ctx.attempt == 1 and number < 5 else 1)

    store = Durable()
    task = Task(job, max_attempts=2)
    async with Tended(task, store=store, room=5) as core:
        for number in range(8):
            await core.start(job, number=number)
        await asyncio.sleep(1)
        await core.crash()
    assert begun == [0, 1, 2, 3, 4]
    begun.clear()
    async with Tended(task, store=store, room=1, window=2) as core:
        await asyncio.sleep(20)
        assert begun == [5, 6, 7, 0, 1, 2, 3, 4]
        assert (await core.store.counts())["succeeded"] == 8


@pytest.mark.virtual
async def test_scheduled_jobs_begin_at_their_moment_in_the_next_process() -> None:
    """Those whose moment has passed meanwhile begin at once."""
    begun: dict[float, float] = {}

    async def job(delay: float) -> None:
        begun[delay] = core.now()

    store = Durable()
    delays = [5.0, 12.5, 10.25, 10.5, 1_000.0]
    async with Tended(job, store=store) as core:
        task = core.catalog["job"]
        for delay in delays:
            args = task.arguments.write({"delay": delay})
            await core.service.start(task, args, make_options(delay=delay))
        await core.crash()
    await asyncio.sleep(10)
    async with Tended(job, store=store) as core:
        await asyncio.sleep(1_000)
        assert sorted(begun) == sorted(delays)
        for delay in delays:
            assert 0 <= begun[delay] - max(10.0, delay) < 0.05


async def test_scheduled_jobs_survive_in_the_file(path: Path) -> None:
    """And begin soon after their moment, not before it."""
    begun: list[float] = []

    async def job() -> None:
        begun.append(core.now())

    async with Core(job, store=SQLiteStore(path)) as core:
        task = core.catalog["job"]
        opened, _ = await core.service.start(task, b"{}", make_options(delay=0.1))
        later, _ = await core.service.start(task, b"{}", make_options(delay=1_000))
        await core.crash()
    async with Tended(job, store=SQLiteStore(path)) as core:
        assert (await core.ended(opened.id)).status == "succeeded"
        assert begun[0] >= (opened.run_at or 0.0)
        assert (await core.job(later.id)).run_at == later.run_at


@pytest.mark.slow
async def test_a_job_between_two_attempts_has_its_next_one(path: Path) -> None:
    """Its attempts are counted on."""
    seen: list[int] = []

    async def job(ctx: Context) -> str:
        seen.append(ctx.attempt)
        if ctx.attempt < 3:
            raise OSError("no")
        return "done"

    task = Task(job, max_attempts=3, retry=Retry(initial=0.1, factor=1, jitter=0))
    async with Tended(task, store=SQLiteStore(path)) as core:
        job_id = await core.start(job)
        await wait_until(lambda: core.story(job_id)[-1:] == ["retry"], "it has failed once")
        await core.crash()
    async with Tended(task, store=SQLiteStore(path)) as core:
        await core.upkeep.due()
        ended = await core.ended(job_id)
        assert (ended.status, ended.attempt, len(ended.history)) == ("succeeded", 3, 2)
    assert seen == [1, 2, 3]


async def test_steps_survive_the_process(path: Path) -> None:
    """On the loop and in a thread; values come back as they were annotated."""
    done: list[str] = []
    stop = threading.Event()

    def rows(name: str) -> tuple[str, int]:
        done.append(name)
        return (name, len(done))

    async def on_loop(ctx: Context) -> tuple[str, int]:
        got = await ctx.step("rows", rows, "loop")
        if ctx.attempt == 1:
            await asyncio.sleep(1_000)
        return got

    def in_thread(ctx: Context) -> tuple[str, int]:
        got = ctx.step_sync("rows", rows, "thread")
        if ctx.attempt == 1:
            stop.wait(10)
        return got

    tasks = [Task(on_loop, max_attempts=2), Task(in_thread, max_attempts=2)]
    async with Tended(*tasks, store=SQLiteStore(path)) as core:
        ids = [await core.start(each) for each in (on_loop, in_thread)]

        async def kept() -> bool:
            return all([await core.store.steps(each) for each in ids])

        await wait_until(kept, "both steps are on record")
        await core.crash()
        stop.set()
    async with Tended(*tasks, store=SQLiteStore(path)) as core:
        results = [(await core.ended(each)).result or b"" for each in ids]
        assert sorted(result[:8] for result in results) == [b'["loop",', b'["thread']
    assert sorted(done) == ["loop", "thread"]


async def test_idempotency_keys_survive_the_process(path: Path) -> None:
    """The client that heard no answer asks the next process, and gets the job that it has."""

    async def job(number: int) -> int:
        return number

    async def ask(core: Core, number: int) -> tuple[Job, bool]:
        task = core.catalog["job"]
        args = task.arguments.write({"number": number})
        return await core.service.start(task, args, make_options(key="order 7"))

    async with Tended(job, store=SQLiteStore(path), room=0) as core:
        first, new = await ask(core, 1)
        assert new
        await core.crash()
    async with Tended(job, store=SQLiteStore(path)) as core:
        again, new = await ask(core, 1)
        assert (again.id, new) == (first.id, False)
        assert (await core.ended(first.id)).result == b"1"
        with pytest.raises(KeyReused):
            await ask(core, 2)
        assert sum((await core.store.counts()).values()) == 1


async def test_a_late_writer_of_the_old_attempt_is_refused(path: Path) -> None:
    """Neither its outcome nor its steps nor its progress reach the new attempt."""
    claimed: list[Job] = []

    async def job(ctx: Context) -> str:
        claimed.append(await core.job(ctx.id))
        if ctx.attempt == 1:
            await asyncio.sleep(1_000)
        await go.wait()
        return "of attempt 2"

    go = asyncio.Event()
    task = Task(job, max_attempts=2)
    async with Tended(task, store=SQLiteStore(path)) as core:
        job_id = await core.start(job)
        await wait_until(lambda: claimed, "it runs")
        await core.crash()
    async with Tended(task, store=SQLiteStore(path)) as core:
        await wait_until(lambda: len(claimed) == 2, "the second attempt runs")
        old = claimed[0]
        assert (old.attempt, claimed[1].attempt) == (1, 2)
        late = Outcome(Move.SUCCEED, result=b'"of attempt 1"')
        assert await core.ledger.settle(old, late) is None
        assert not await core.ledger.keep_step(old, "late", b"1")
        assert await core.ledger.note(job_id, attempt=1, unresponsive=True) is None
        assert await core.store.steps(job_id) == {}
        go.set()
        assert (await core.ended(job_id)).result == b'"of attempt 2"'


async def test_a_cancel_that_was_asked_for_before_the_crash_still_counts(path: Path) -> None:
    """The next attempt does not begin."""
    begun: list[int] = []

    async def job(ctx: Context) -> None:
        begun.append(ctx.attempt)
        while True:
            try:
                await asyncio.sleep(1_000)
            except asyncio.CancelledError:
                if crashed.is_set():
                    raise

    crashed = asyncio.Event()
    task = Task(job, max_attempts=5)
    async with Tended(task, store=SQLiteStore(path)) as core:
        job_id = await core.start(job)
        await wait_until(lambda: begun, "it runs")
        asked = await core.service.cancel(job_id)
        assert (asked.status, asked.cancel_requested_at is None) == ("running", False)
        await wait_until(lambda: len(core.registry) == 1, "it goes on")
        crashed.set()
        await core.crash()
    async with Tended(task, store=SQLiteStore(path)) as core:
        ended = await core.ended(job_id)
        assert (ended.status, ended.reason) == ("canceled", "requested")
    assert begun == [1]


async def test_what_expired_while_no_process_ran_is_never_run(path: Path) -> None:
    """Its moment has passed; nobody wants it any more."""
    begun: list[int] = []

    async def job() -> None:
        begun.append(1)

    async with Tended(job, store=SQLiteStore(path), room=0) as core:
        task = core.catalog["job"]
        opened, _ = await core.service.start(task, b"{}", make_options(expires=0.02))
        await core.crash()
    await asyncio.sleep(0.03)
    async with Tended(job, store=SQLiteStore(path)) as core:
        await core.engine.idle()
        await core.upkeep.expire()
        ended = await core.job(opened.id)
        assert (ended.status, ended.reason, ended.attempt) == ("failed", "expired", 0)
    assert begun == []


@pytest.mark.virtual
@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_running_job_whose_task_is_gone_is_decided_all_the_same(attempts: int) -> None:
    """Lost for good, or queued until a start offers its task again."""

    async def job() -> None:
        await asyncio.sleep(1_000)

    async def back() -> str:
        return "back"

    store = Durable()
    async with Tended(Task(job, max_attempts=attempts), store=store) as core:
        job_id = await core.start(job)
        await asyncio.sleep(1)
        await core.crash()
    async with Tended(store=store) as core:
        await asyncio.sleep(30)
        status = (await core.job(job_id)).status
        assert status == ("failed" if attempts == 1 else "queued")
    async with Tended(Task(back, name="job"), store=store) as core:
        await asyncio.sleep(1)
        assert (await core.job(job_id)).result == (None if attempts == 1 else b'"back"')


@pytest.mark.slow
@pytest.mark.virtual
async def test_thousands_of_lost_jobs_are_decided_once_each() -> None:
    """More than one page of them, and more than one batch."""
    begun: Counter[int] = Counter()

    async def job(number: int) -> None:
        begun[number] += 1
        await asyncio.sleep(1_000 if begun.total() <= 1_000 else 0)

    store = Durable()
    task = Task(job, max_attempts=2)
    async with Tended(task, store=store) as core:
        for number in range(1_000):
            await core.start(job, number=number)
        await asyncio.sleep(1)
        await core.crash()
    assert BATCH < 1_000
    async with Tended(task, store=store, window=10, room=10) as core:
        await asyncio.sleep(60)
        assert (await core.store.counts())["succeeded"] == 1_000
        core.check_stories()
    assert set(begun.values()) == {2}


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("end", ["returned", "raised", "retried", "canceled"])
async def test_how_a_job_ended_is_not_lost_because_the_store_was_away(
    path: Path, silent: bool, end: str
) -> None:
    """It is written as soon as the store takes it; also where it had taken it and could not say
    so. Whoever waits hears of it, and nobody calls the job lost meanwhile."""
    go = asyncio.Event()

    async def job(ctx: Context) -> str:
        try:
            await go.wait()
        except asyncio.CancelledError:
            store.down = True
            raise
        if ctx.attempt == 1:
            store.down = True
            if end != "returned":
                raise OSError("no")
        return f"attempt {ctx.attempt}"

    store = Outage(path)
    store.silent = silent
    attempts = 2 if end == "retried" else 1
    task = Task(job, max_attempts=attempts, retry=SOON if attempts == 2 else None)
    async with Tended(task, store=store) as core:
        job_id = await core.start(job)
        await wait_until(lambda: len(core.registry) == 1, "it runs")
        waits = asyncio.create_task(core.service.wait(job_id, None))
        await asyncio.sleep(0.01)
        if end == "canceled":
            await core.service.cancel(job_id)
        go.set()
        await wait_until(lambda: store.refused >= 2, "its end was tried twice")
        await core.upkeep.rescue()
        store.down = False
        await wait_until(lambda: not len(core.registry), "it is written")
        await core.upkeep.due()
        ended = await asyncio.wait_for(waits, 10)
        await core.engine.idle()
        seen = (ended.status, ended.reason, ended.attempt, ended.result)
        assert (
            seen
            == {
                "returned": ("succeeded", None, 1, b'"attempt 1"'),
                "raised": ("failed", "error", 1, None),
                "retried": ("succeeded", None, 2, b'"attempt 2"'),
                "canceled": ("canceled", "requested", 1, None),
            }[end]
        )
        assert [event.job.over for event in core.events].count(True) == 1


@pytest.mark.virtual
async def test_a_shutdown_does_not_wait_for_a_store_that_is_away() -> None:
    """The next process decides what was running; the shutdown keeps its time."""

    class Away(Durable):
        down = False

        async def move(self, job_id: str, change: Change) -> Job | None:
            if self.down:
                raise StoreUnavailable("the disk is full")
            return await super().move(job_id, change)

    async def job(ctx: Context) -> str:
        if ctx.attempt == 1:
            store.down = True
        return f"attempt {ctx.attempt}"

    store = Away()
    task = Task(job, max_attempts=2)
    async with Tended(task, store=store, drain=2, grace=1) as core:
        job_id = await core.start(job)
        await asyncio.sleep(1)
        begun = core.now()
        with pytest.raises(StoreUnavailable):
            await core.drain.finish()
        assert core.now() - begun <= 3
        await core.crash()
    store.down = False
    async with Tended(task, store=store) as core:
        ended = await core.ended(job_id)
        assert (ended.result, ended.attempt) == (b'"attempt 2"', 2)


@pytest.mark.slow
async def test_a_crash_at_any_moment_loses_no_job_and_runs_none_too_often(path: Path) -> None:
    """Again and again while hundreds wait: at most so many begin, and each comes to an end."""
    begun: Counter[int] = Counter()

    async def once(number: int) -> None:
        begun[number] += 1
        await asyncio.sleep(0.001)

    async def often(number: int) -> None:
        begun[number] += 1
        await asyncio.sleep(0.001)

    tasks = (Task(once), Task(often, max_attempts=50))
    async with Tended(*tasks, store=SQLiteStore(path), room=0) as core:
        for name, numbers in (("once", range(100)), ("often", range(100, 200))):
            task = core.catalog[name]
            batch = [task.arguments.write({"number": number}) for number in numbers]
            await core.service.start_many(task, batch)
        await core.crash()
    for crash in range(6):
        async with Tended(*tasks, store=SQLiteStore(path), room=7, window=5) as core:
            before = begun.total()
            await wait_until(
                lambda: begun.total() >= before + 10 + crash,  # noqa: B023 - at once
                "some have begun",
            )
            await core.crash()
    async with Tended(*tasks, store=SQLiteStore(path), room=7, window=5) as core:

        async def over() -> bool:
            counts = await core.store.counts()
            return counts["queued"] + counts["running"] == 0

        await wait_until(over, "all are over")
        await core.engine.idle()
        counts = await core.store.counts()
        page = await core.service.page(_all_failed())
        assert counts["succeeded"] + counts["failed"] == 200
        assert counts["failed"] <= 6 * 7
        assert {(job.task, job.reason) for job in page.jobs} <= {("once", "lost")}
        assert all(begun[number] <= 1 for number in range(100))
        assert all(begun[number] >= 1 for number in range(100, 200))


def _all_failed() -> Query:
    return Query(statuses=frozenset({"failed"}), limit=100)
