"""The engine has a window of the queue, the store has the rest, and the order is the queue's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from quart_app.core.backlog import PAUSE
from quart_app.core.ports import Store
from quart_app.core.start import task
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.ids import new_id
from quart_app.domain.jobs import Job, JobEvent
from quart_app.domain.options import make_options
from quart_app.domain.queues import Waiting
from quart_app.domain.status import Move
from quart_app.domain.tasks import LANES, Lane, Task
from quart_app.stores.sqlite.store import SQLiteStore
from quart_app.testing import wait_until
from tests.core.support import Core, Durable, Tended

MakeStore = Callable[[], Store]


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Each store that outlives its service; the one in memory keeps virtual time."""
    if request.param == "sqlite":
        return lambda: SQLiteStore(tmp_path / "jobs.db")
    return Durable


class Widest:
    """The most jobs of each lane that the engine had waiting, looked at whenever a job moves."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.seen: dict[Lane, int] = dict.fromkeys(LANES, 0)
        core.hub.subscribe(self.look)

    def look(self, event: JobEvent) -> None:
        for lane in LANES:
            self.seen[lane] = max(self.seen[lane], self.core.backlog.waiting(lane))


async def leave(store: Store, *tasks: str, count: int, at_once: int = 1) -> None:
    """Queued jobs of these tasks in turn, as an earlier process has left them."""
    for start in range(0, count, at_once):
        task = tasks[start // at_once % len(tasks)]
        numbers = range(start, start + at_once)
        jobs = [Job(id=new_id(), task=task, args=b'{"number":%d}' % number) for number in numbers]
        await store.add(jobs, max_waiting=10_000)


async def all_over(core: Core) -> bool:
    """Whether nothing waits or runs, and nobody works for a job any more."""
    counts = await core.store.counts()
    if counts["queued"] + counts["scheduled"] + counts["running"]:
        return False
    await core.engine.idle()  # The store knows of the last ending a moment before its runner does.
    return True


def works_in_turn() -> tuple[Callable[..., object], list[int]]:
    """A task, and the numbers with which it was begun, in that order."""
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(0)

    return work, begun


@pytest.mark.slow
async def test_thousands_of_queued_jobs_run_once_each_in_the_order_of_the_queue(
    make_store: MakeStore,
) -> None:
    """5,000 of two tasks, while the engine never has more than its window of them."""
    begun: list[int] = []

    async def this(number: int) -> None:
        begun.append(number)

    async def that(number: int) -> None:
        begun.append(number)

    store = make_store()
    await store.open()
    await leave(store, "this", "that", count=5_000, at_once=10)
    await store.close()
    async with Tended(this, that, store=store, window=20, room=10) as core:
        widest = Widest(core)
        await wait_until(lambda: all_over(core), "all have run", timeout=60)
        assert begun == list(range(5_000))
        assert (await core.store.counts())["succeeded"] == 5_000
        assert 0 < widest.seen["loop"] <= 20


async def test_each_lane_has_a_window_of_its_own(make_store: MakeStore) -> None:
    """And an order of its own."""
    begun: dict[str, list[int]] = {"on_loop": [], "in_thread": []}

    async def on_loop(number: int) -> None:
        begun["on_loop"].append(number)

    def in_thread(number: int) -> None:
        begun["in_thread"].append(number)

    store = make_store()
    await store.open()
    await leave(store, "on_loop", "in_thread", count=60)
    await store.close()
    async with Tended(on_loop, in_thread, store=store, window=3, room=1) as core:
        widest = Widest(core)
        await wait_until(lambda: all_over(core), "all have run")
        assert begun == {
            "on_loop": list(range(0, 60, 2)),
            "in_thread": list(range(1, 60, 2)),
        }
        assert 0 < widest.seen["loop"] <= 3 >= widest.seen["thread"] > 0 == widest.seen["process"]


async def test_what_is_started_while_others_wait_comes_after_them(make_store: MakeStore) -> None:
    """Also while the window is full, is being filled, and has just become free."""
    work, begun = works_in_turn()
    async with Tended(work, store=make_store(), window=3, room=2) as core:
        widest = Widest(core)
        for number in range(200):
            await core.start(work, number=number)
            if number % 7 == 0:
                await asyncio.sleep(0.001)
        await wait_until(lambda: all_over(core), "all have run")
        assert begun == list(range(200))
        assert widest.seen["loop"] <= 3


async def test_a_batch_larger_than_the_window_keeps_its_order(make_store: MakeStore) -> None:
    """Started in one call, or left by an earlier process: the same."""
    work, begun = works_in_turn()
    async with Tended(work, store=make_store(), window=4, room=1) as core:
        task = core.catalog["work"]
        batch = [task.arguments.write({"number": number}) for number in range(50)]
        jobs, new = await core.service.start_many(task, batch)
        assert (len(jobs), new) == (50, True)
        assert core.backlog.waiting("loop") <= 4
        await wait_until(lambda: all_over(core), "all have run")
        assert begun == list(range(50))
        assert not core.backlog.held


async def test_a_full_lane_holds_up_no_other(make_store: MakeStore) -> None:
    """Coroutines that wait for hours, and more of them than the window has: a thread's turn comes
    at once."""
    go = asyncio.Event()

    async def waits() -> None:
        await go.wait()

    def quick() -> str:
        return "done"

    async with Tended(waits, quick, store=make_store(), window=2, room=1) as core:
        for _ in range(20):
            await core.start(waits)
        for _ in range(3):
            job = await core.service.wait(await core.start(quick), 5)
            assert (job.status, job.result) == ("succeeded", b'"done"')
        assert (await core.store.counts())["running"] == 1
        go.set()
        await wait_until(lambda: all_over(core), "all have run")


async def test_a_window_of_fair_turns_is_filled_as_long_as_the_store_has_more(
    make_store: MakeStore,
) -> None:
    """The many of one key hide nobody, and go on themselves without any look for lost jobs."""
    begun: list[str] = []

    @task(limit_key="{who}", limit_total=1)
    async def work(who: str) -> None:
        begun.append(who)

    store = make_store()
    await store.open()
    for who in [*"a" * 80, *"bcd" * 2]:
        job = Job(id=new_id(), task="work", args=b'{"who":"%s"}' % who.encode(), turn=who)
        await store.add([job], max_waiting=10_000)
    await store.close()
    async with Core(work, store=store, window=4) as core:  # Without upkeep.
        await core.backlog.catch_up()
        await wait_until(lambda: all_over(core), "all have run")
    assert Counter(begun) == {"a": 80, "b": 2, "c": 2, "d": 2}
    assert max(place for place, who in enumerate(begun) if who != "a") < 20


@pytest.mark.virtual
async def test_a_job_whose_answer_has_not_left_is_not_handed_over() -> None:
    """Not by a refill either, which finds it in the queue; once it has left, the job begins."""
    work, begun = works_in_turn()
    async with Tended(work, store=Durable(), window=3) as core:
        scope = core.service.begin_request()
        await core.start(work, number=1)
        await core.backlog.catch_up()
        await asyncio.sleep(30)  # Upkeep looks for lost jobs, too.
        assert begun == []
        await scope.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert begun == [1]
        assert not core.backlog.held


@pytest.mark.virtual
async def test_a_job_that_is_just_being_opened_is_not_handed_over() -> None:
    """A store that others may read shows it before its starter knows that it is there."""

    class Shows(Durable):
        """Says only after a while that it has kept a job."""

        async def add(self, *args: object) -> tuple[list[Job], bool]:
            kept = await super().add(*args)  # type: ignore[arg-type]
            await asyncio.sleep(20)
            return kept

    work, begun = works_in_turn()
    async with Tended(work, store=Shows(), window=3) as core:
        start = asyncio.create_task(core.start(work, number=1))
        await asyncio.sleep(19)
        await core.backlog.catch_up()
        await asyncio.sleep(0.5)
        assert begun == []
        await start
        await asyncio.sleep(0.1)
        assert begun == [1]


async def test_a_start_that_was_refused_holds_nothing_back() -> None:
    """A full queue, or a key that is known: nothing is left of it."""
    work, _ = works_in_turn()
    async with Core(work, store=Durable(), max_waiting=0) as core:
        task = core.catalog["work"]
        with pytest.raises(Exception, match="0 jobs wait and 0 may"):
            await core.service.start_many(task, [b'{"number":1}'] * 3)
        assert not core.backlog.held


async def test_jobs_of_a_task_that_is_not_offered_wait_and_the_log_names_it(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    """They hold up nobody, and run as soon as a start offers their task again."""
    work, begun = works_in_turn()
    store = make_store()
    await store.open()
    await leave(store, "gone", count=20)
    await leave(store, "work", count=20)
    await store.close()
    async with Tended(work, store=store, window=3, room=1) as core:
        await wait_until(lambda: len(begun) == 20, "those that are offered have run")
        await core.engine.idle()
        assert (await core.store.counts())["queued"] == 20
    [record] = [each for each in caplog.records if "is not offered" in each.getMessage()]
    assert record.levelname == "WARNING"
    assert "jobs of the task 'gone' wait" in record.getMessage()

    again: list[int] = []

    async def gone(number: int) -> None:
        again.append(number)

    async with Tended(work, gone, store=store, window=3, room=1) as core:
        await wait_until(lambda: all_over(core), "all have run")
    assert again == list(range(20))


class Unreadable(Durable):
    """Its queue cannot be read for a while."""

    down = False
    refused = 0

    async def queued(self, task: str, limit: int, fair: bool) -> list[Waiting]:
        if self.down:
            self.refused += 1
            raise StoreUnavailable("the disk is away")
        return await super().queued(task, limit, fair)


@pytest.mark.virtual
async def test_a_queue_that_cannot_be_read_is_read_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the engine has goes on meanwhile; the rest follows in its order."""
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(1)

    store = Unreadable()
    async with Tended(work, store=store, window=2, room=1) as core:
        for number in range(10):
            await core.start(work, number=number)
        store.down = True
        await asyncio.sleep(60)
        assert begun == [0, 1, 2]
        assert store.refused
        store.down = False
        await asyncio.sleep(PAUSE + 0.01)
        assert begun == [0, 1, 2, 3]
        await asyncio.sleep(10)
        assert begun == list(range(10))
    assert "the queue cannot be read, and will be again: the disk is away" in caplog.text


@pytest.mark.virtual
async def test_a_queued_job_that_got_lost_on_its_way_is_found() -> None:
    """Upkeep sees by the counts that one is missing, and reads the queue."""
    work, begun = works_in_turn()
    async with Tended(work, store=Durable(), window=3) as core:
        await core.ledger.open([Job(id="lost", task="work", args=b'{"number":7}')])
        await asyncio.sleep(5.1)
        assert begun == [7]
        assert (await core.job("lost")).status == "succeeded"


@pytest.mark.virtual
async def test_catching_up_again_starts_nothing_twice() -> None:
    """What the engine has or runs is known."""
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(1)

    async with Tended(work, store=Durable(), window=5, room=2) as core:
        for number in range(9):
            await core.start(work, number=number)
        for _ in range(12):
            await asyncio.gather(core.backlog.catch_up(), core.backlog.catch_up())
            await asyncio.sleep(0.5)
        assert begun == list(range(9))
        assert core.backlog.known == 0
        core.check_stories()


@pytest.mark.virtual
async def test_a_healthy_service_never_reads_its_queue() -> None:
    """Where the engine has all that is queued, the counts tell."""
    reads: list[int] = []

    class Counted(Durable):
        async def queued(self, task: str, limit: int, fair: bool) -> list[Waiting]:
            reads.append(limit)
            return await super().queued(task, limit, fair)

    async def work() -> None:
        await asyncio.sleep(7)

    async with Tended(work, store=Counted(), window=100, room=1) as core:
        at_the_start = len(reads)
        for _ in range(10):
            await core.start(work)
        await asyncio.sleep(71)
        assert await all_over(core)
        assert len(reads) == at_the_start


async def test_an_ordinary_job_passes_a_full_window_of_lower_priority(
    make_store: MakeStore,
) -> None:
    """It is its turn before theirs, though it has no higher priority than its task."""
    work, begun = works_in_turn()

    async def other(number: int) -> None:
        begun.append(number)

    gate = asyncio.Event()

    async def hold() -> None:
        await gate.wait()

    async with Tended(work, other, hold, store=make_store(), window=40, room=1) as core:
        await core.start(hold)
        for number in range(120):
            args = b'{"number":%d}' % number
            await core.service.start(core.catalog["work"], args, make_options(priority=-50))
        await core.start(work, number=1_000)
        await core.start(other, number=2_000)
        gate.set()
        await wait_until(lambda: all_over(core), "all have run")
        assert max(begun.index(1_000), begun.index(2_000)) < 20


@pytest.mark.virtual
async def test_jobs_that_were_canceled_while_they_waited_leave_the_window_to_others() -> None:
    """Wherever they waited, in the engine or in the store."""
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(1)

    async with Tended(work, store=Durable(), window=2, room=1) as core:
        ids = [await core.start(work, number=number) for number in range(20)]
        await asyncio.sleep(0.5)
        for job_id in ids[1:18]:
            assert (await core.service.cancel(job_id)).status == "canceled"
        await asyncio.sleep(10)
        assert begun == [0, 18, 19]
        core.check_stories()


@pytest.mark.virtual
async def test_expired_jobs_at_the_head_of_the_queue_hold_up_nobody_for_long() -> None:
    """They are never begun, and what waits behind them is there a second later."""
    work, begun = works_in_turn()
    async with Tended(work, store=Durable(), window=2, room=1) as core:
        old = [
            Job(id=f"old {n}", task="work", args=b'{"number":-1}', expires_at=0.0)
            for n in range(40)
        ]
        await core.ledger.open(old)
        await core.ledger.open([Job(id="fresh", task="work", args=b'{"number":1}')])
        await core.backlog.catch_up()
        await asyncio.sleep(1.5)
        assert begun == [1]
        assert {(await core.job(job.id)).reason for job in old} == {"expired"}


@pytest.mark.virtual
async def test_two_looks_at_the_queue_at_once_do_not_mix_its_order() -> None:
    """One of them saw a job and the other did not: what comes after that job still waits for it."""

    class Slow(Durable):
        """Takes its time over each answer of the lane that is looked at."""

        seconds = 0.0

        async def queued(self, task: str, limit: int, fair: bool) -> list[Waiting]:
            ids = await super().queued(task, limit, fair)
            await asyncio.sleep(self.seconds)
            return ids

    work, begun = works_in_turn()
    store = Slow()
    async with Core(work, store=store, window=10) as core:
        store.seconds = 1.0
        first = asyncio.create_task(core.backlog.catch_up())
        await asyncio.sleep(0.1)
        await core.start(work, number=1)
        store.seconds = 5.0
        second = asyncio.create_task(core.backlog.catch_up())
        await asyncio.sleep(2)
        await core.start(work, number=2)
        await asyncio.gather(first, second)
        await core.backlog.catch_up()
        await core.engine.idle()
        assert begun == [1, 2]


@pytest.mark.virtual
async def test_after_the_shutdown_has_begun_nothing_is_handed_over() -> None:
    """What waits stays queued in a store that outlives the service."""
    work, begun = works_in_turn()
    store = Durable()
    async with Tended(work, store=store, window=2, room=1) as core:
        await core.drain.finish()
        await core.ledger.open([Job(id="late", task="work", args=b'{"number":1}')])
        await core.backlog.submit(await core.job("late"), core.catalog["work"])
        await core.backlog.catch_up()
        await asyncio.sleep(10)
        assert (begun, (await core.job("late")).status) == ([], "queued")
    async with Tended(work, store=store, window=2, room=1) as core:
        await asyncio.sleep(1)
        assert begun == [1]


@pytest.mark.virtual
async def test_without_a_window_the_engine_has_them_all() -> None:
    """As in memory, where they take room anyway."""

    async def work() -> None:
        await asyncio.sleep(1)

    async with Core(work, store=Durable(), window=None, room=1) as core:
        for _ in range(3_000):
            await core.start(work)
        await asyncio.sleep(0)
        assert core.backlog.waiting("loop") == 2_999
        await core.engine.close()
        await core.engine.idle()


@pytest.mark.virtual
async def test_a_retried_job_goes_to_the_end_of_the_queue() -> None:
    """Its turn comes after those that were queued before it was queued again."""
    begun: list[str] = []

    async def work(name: str) -> None:
        begun.append(name)
        await asyncio.sleep(1)
        if name == "bad" and begun.count("bad") == 1:
            raise ValueError("once")

    task = Task(work, max_attempts=2)
    async with Tended(task, store=Durable(), window=2, room=1) as core:
        for name in ("bad", "a", "b", "c", "d"):
            await core.start(work, name=name)
        await asyncio.sleep(30)
        assert begun == ["bad", "a", "b", "c", "d", "bad"]
        assert (await core.store.counts())["succeeded"] == 5


async def test_what_was_moved_by_hand_in_the_store_is_nobodys_error(make_store: MakeStore) -> None:
    """A job that the engine has, and that is no longer queued when its turn comes."""
    go = asyncio.Event()

    async def waits() -> None:
        await go.wait()

    async with Tended(waits, store=make_store(), window=5, room=1) as core:
        first, second = await core.start(waits), await core.start(waits)
        await wait_until(lambda: len(core.registry) == 1, "the first runs")
        await core.ledger.move(second, Move.WITHDRAW, reason="requested")
        go.set()
        assert (await core.ended(first)).status == "succeeded"
        assert (await core.job(second)).status == "canceled"
        core.check_stories()
