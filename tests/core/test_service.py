"""The one door: start, look, wait, cancel, retry, and what is answered when it cannot be done."""

from __future__ import annotations

import asyncio
import functools
import json
import time
import tracemalloc

import pytest

from quart_app.checks.making import everything
from quart_app.core.context import Context
from quart_app.core.many import Canceled, cancel_each, cancel_matching
from quart_app.domain.errors import (
    Draining,
    InvalidArguments,
    JobCanceled,
    JobFailed,
    KeyReused,
    NoSuchJob,
    NoSuchTask,
    NotFinished,
    QueueFull,
)
from quart_app.domain.jobs import Change, Job
from quart_app.domain.options import Options
from quart_app.domain.queries import Query
from quart_app.domain.status import Move
from quart_app.domain.tasks import Task
from quart_app.stores.memory import MemoryStore
from tests.core.support import Core

pytestmark = pytest.mark.virtual


async def sleeps(seconds: float = 1, tag: str = "") -> str:
    await asyncio.sleep(seconds)
    return tag


async def fails() -> None:
    raise ValueError("no such month")


SLEEPS = Task(sleeps, tags=["slow"])


async def test_a_started_job_is_on_record_with_its_policy() -> None:
    """Arguments complete, tags of its task, and no code of it has run."""
    async with Core(SLEEPS) as core:
        await asyncio.sleep(2)
        job, new = await core.service.start(SLEEPS, b'{"seconds":1.0,"tag":"a"}')
        assert new
        assert (job.status, job.tags, job.attempt, job.max_attempts) == ("queued", ("slow",), 0, 1)
        assert (job.created_at, job.updated_at, job.started_at) == (2.0, 2.0, None)
        assert await core.service.get(job.id) == job
        await core.engine.idle()


async def test_a_key_starts_one_job() -> None:
    """However often it comes, also at once and when the job is over."""
    async with Core(SLEEPS) as core:
        start = core.service.start
        args, keyed = SLEEPS.arguments.write({}), Options(key="k")
        started = await asyncio.gather(*(start(SLEEPS, args, keyed) for _ in range(50)))
        assert len({job.id for job, _ in started}) == 1
        assert sum(new for _, new in started) == 1
        await core.engine.idle()
        again, new = await start(SLEEPS, args, keyed)
        assert (again.status, new) == ("succeeded", False)
        with pytest.raises(KeyReused):
            await start(SLEEPS, SLEEPS.arguments.write({"seconds": 2}), keyed)
        assert core.story(again.id) == ["open", "claim", "succeed"]


async def test_a_batch_is_started_whole_or_not_at_all() -> None:
    """In its order; a key makes it repeatable."""
    async with Core(SLEEPS, max_waiting=5) as core:
        batch = [SLEEPS.arguments.write({"seconds": n}) for n in range(3)]
        opened, new = await core.service.start_many(SLEEPS, batch, Options(key="k"))
        assert new
        assert [json.loads(job.args)["seconds"] for job in opened] == [0, 1, 2]
        await core.engine.idle()
        again, new = await core.service.start_many(SLEEPS, batch, Options(key="k"))
        assert ([job.id for job in again], new) == ([job.id for job in opened], False)
        with pytest.raises(QueueFull):
            await core.service.start_many(SLEEPS, batch * 2)
        assert (await core.store.counts())["succeeded"] == 3
        assert await core.service.start_many(SLEEPS, []) == ([], True)


async def test_the_misfits_of_a_batch_are_named_by_index() -> None:
    """All of them, and none is started."""
    async with Core(SLEEPS) as core:
        assert core.service.check_many(SLEEPS, [b"{}"]) == [b'{"seconds":1.0,"tag":""}']
        with pytest.raises(InvalidArguments) as caught:
            core.service.check_many(SLEEPS, [b"{}", b'{"tag":1}', b"[]"])
        assert [error["pointer"] for error in caught.value.errors] == ["#/1/tag", "#/2"]


async def test_no_more_than_may_wait_are_accepted() -> None:
    """A refused start keeps nothing; running jobs do not count."""
    async with Core(SLEEPS, room=2, max_waiting=3) as core:
        for _ in range(2):
            await core.start(sleeps)
        await asyncio.sleep(0)
        for _ in range(3):
            await core.start(sleeps)
        with pytest.raises(QueueFull) as caught:
            await core.start(sleeps)
        assert caught.value.retry_after
        assert await core.store.counts() | {"queued": 3, "running": 2} == await core.store.counts()
        await core.engine.idle()
        assert (await core.run(sleeps)).status == "succeeded"


@pytest.mark.slow
async def test_a_flood_past_the_limit_keeps_nothing() -> None:
    """Ten thousand starts with room for a hundred: the memory of a hundred jobs."""
    async with Core(SLEEPS, room=1, max_waiting=100) as core:
        args = SLEEPS.arguments.write({})
        refused = 0
        for number in range(10_000):
            if number == 1_000:
                tracemalloc.start()
            try:
                await core.service.start(SLEEPS, args)
            except QueueFull:
                refused += 1
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert refused == 10_000 - 100
        assert kept < 2**20
        await core.drain.finish()
        await core.engine.idle()


@pytest.mark.slow
async def test_ended_jobs_beyond_the_retention_keep_nothing() -> None:
    """Thousands of short jobs: memory stays flat."""

    async def nothing() -> None: ...

    async with Core(nothing, retention=everything(100, 1e9, 2**40)) as core:
        for round_ in range(10):
            for _ in range(300):
                await core.start(nothing)
            await core.engine.idle()
            while await core.upkeep.prune():
                pass
            core.events.clear()
            if round_ == 3:
                tracemalloc.start()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (await core.store.counts())["succeeded"] == 100
        assert kept < 2**19


async def test_while_draining_nothing_is_accepted() -> None:
    """Neither one nor many, and no retry."""
    async with Core(SLEEPS) as core:
        ended = await core.run(sleeps)
        core.drain.begin()
        for start in (
            lambda: core.service.start(SLEEPS, b"{}"),
            lambda: core.service.start_many(SLEEPS, [b"{}"]),
            lambda: core.service.retry(ended.id),
        ):
            with pytest.raises(Draining):
                await start()


async def test_a_wait_ends_with_the_job_or_with_its_time() -> None:
    """And answers at once where the job is over."""
    async with Core(SLEEPS) as core:
        job_id = await core.start(sleeps, seconds=5)
        assert (await core.service.wait(job_id, 2)).status == "running"
        assert core.now() == 2.0
        assert (await core.service.wait(job_id, 0)).status == "running"
        assert (await core.service.wait(job_id, 10)).status == "succeeded"
        assert core.now() == 5.0
        assert (await core.service.wait(job_id, None)).status == "succeeded"
        assert core.hub.watchers == 0
        with pytest.raises(NoSuchJob):
            await core.service.wait("unknown", 1)
        assert core.hub.watchers == 0


async def test_who_only_looks_is_not_counted_as_one_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Operators read the number of watchers; a look takes as long as the store does."""
    async with Core(SLEEPS) as core:
        job_id = await core.start(sleeps, seconds=5)
        get, seen = core.store.get, []

        async def look(job_id: str) -> Job | None:
            seen.append(core.hub.watchers)
            return await get(job_id)

        monkeypatch.setattr(core.store, "get", look)
        await core.service.wait(job_id, 0)
        await core.service.wait(job_id, 10)
        assert seen == [0, 1]


async def test_a_wait_in_this_process_is_not_bounded() -> None:
    """The bound of watchers is for requests, which can ask again; who holds a handle cannot."""
    async with Core(SLEEPS) as core:
        core.hub._max_watchers = 1
        job_id = await core.start(sleeps, seconds=5)
        first = asyncio.create_task(core.service.wait(job_id, None))
        await asyncio.sleep(1)
        assert core.hub.full
        assert (await core.service.wait(job_id, None)).status == "succeeded"
        assert (await first).status == "succeeded"


async def test_a_wait_never_answers_with_an_older_version_than_was_read() -> None:
    """A store that takes its time may give the end before it is told of."""

    class Late(MemoryStore):
        async def move(self, job_id: str, change: Change) -> Job | None:
            job = await super().move(job_id, change)
            if change.move is Move.SUCCEED:
                await asyncio.sleep(1)
            return job

        async def get(self, job_id: str) -> Job | None:
            await asyncio.sleep(0.5)
            return await super().get(job_id)

    async with Core(SLEEPS, store=Late()) as core:
        job_id = await core.start(sleeps, seconds=1)
        await asyncio.sleep(0.8)
        waiting = asyncio.create_task(core.service.wait(job_id, 10))
        await asyncio.sleep(0.1)
        await core.ledger.note(job_id, cancel_requested=True)
        assert (await waiting).status == "succeeded"
        await core.engine.idle()


async def test_a_canceled_waiter_leaves_the_job_alone() -> None:
    """The client went away; the job goes on."""
    async with Core(SLEEPS) as core:
        job_id = await core.start(sleeps, seconds=5)
        waiting = asyncio.create_task(core.service.wait(job_id, None))
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert core.hub.watchers == 0
        assert (await core.ended(job_id)).status == "succeeded"


async def test_a_cancel_is_harmless_twice_and_after_the_end() -> None:
    """It answers with the job as it is; an unknown job is an error."""
    async with Core(SLEEPS, fails, room=1) as core:
        running, waiting = [await core.start(sleeps, seconds=5) for _ in range(2)]
        await asyncio.sleep(1)
        cancel = core.service.cancel
        assert [(await cancel(waiting)).status for _ in range(2)] == ["canceled"] * 2
        assert [(await cancel(running)).status for _ in range(2)] == ["running"] * 2
        assert (await core.ended(running)).status == "canceled"
        assert (await cancel(running)).status == "canceled"
        failed = await core.run(fails)
        assert (await cancel(failed.id)) == failed
        with pytest.raises(NoSuchJob, match="no job 'unknown'"):
            await cancel("unknown")


async def test_many_are_canceled_by_what_they_have_in_common() -> None:
    """Every page of them; what is over is not matched, and a dry run only counts."""
    async with Core(SLEEPS, fails, room=10) as core:
        await core.run(fails)
        for _ in range(250):
            await core.start(sleeps, seconds=50)
        await asyncio.sleep(1)
        both = functools.partial(cancel_matching, core.service)
        assert await both(Query(tag="slow"), dry_run=True) == counted(250, 0, 0)
        assert await both(Query(task="fails"), dry_run=False) == counted(0, 0, 0)
        over = Query(statuses=frozenset({"failed", "succeeded"}))
        assert await both(over, dry_run=False) == counted(0, 0, 0)
        queued = Query(statuses=frozenset({"queued", "failed"}))
        assert await both(queued, dry_run=True) == counted(240, 0, 0)
        assert await both(Query(), dry_run=False) == counted(250, 240, 10)
        await core.engine.idle()
        assert core.now() == 1.0
        assert (await core.store.counts())["canceled"] == 250


def counted(matched: int, canceled: int, canceling: int) -> Canceled:
    """What a cancel of many answers."""
    return Canceled(matched, canceled, canceling)


async def test_jobs_are_canceled_by_their_ids() -> None:
    """Each once, and unknown ones are not counted."""
    async with Core(SLEEPS, room=1) as core:
        ids = [await core.start(sleeps, seconds=50) for _ in range(3)]
        await asyncio.sleep(1)
        answer = await cancel_each(core.service, [*ids, *ids, "unknown"])
        assert answer == counted(3, 2, 1)
        await core.engine.idle()


async def test_a_job_that_expires_while_many_are_canceled_stops_nothing() -> None:
    """It was matched; there is nothing left to cancel."""

    class Forgetful(MemoryStore):
        async def get(self, job_id: str) -> Job | None:
            return None if job_id == "a" else await super().get(job_id)

    async with Core(SLEEPS, store=Forgetful()) as core:
        await core.ledger.open([Job(id=each, task="sleeps") for each in "ab"])
        for each in "ab":
            await core.ledger.move(each, Move.CLAIM)
        assert await cancel_matching(core.service, Query(), dry_run=False) == counted(2, 0, 1)


async def test_a_retry_is_a_new_job_with_the_same_or_changed_arguments() -> None:
    """It says of which job it is the retry; a job that is not over has none."""
    async with Core(SLEEPS) as core:
        first = await core.run(sleeps, seconds=2, tag="x")
        again = await core.service.retry(first.id)
        assert (again.retry_of, again.args) == (first.id, first.args)
        assert again.id != first.id
        changed = await core.service.retry(first.id, {"seconds": 3})
        assert json.loads(changed.args) == {"seconds": 3.0, "tag": "x"}
        with pytest.raises(NotFinished) as caught:
            await core.service.retry(changed.id)
        assert caught.value.retry_after == 2.0
        with pytest.raises(InvalidArguments):
            await core.service.retry(first.id, {"hours": 1})
        with pytest.raises(NoSuchJob):
            await core.service.retry("unknown")
        await core.engine.idle()


async def test_a_job_whose_task_is_gone_cannot_be_retried() -> None:
    """The error names the tasks that there are."""
    async with Core(SLEEPS) as core:
        await core.ledger.open([Job(id="a", task="gone")])
        await core.service.cancel("a")
        with pytest.raises(NoSuchTask, match="the tasks are: sleeps"):
            await core.service.retry("a")


async def test_a_result_is_what_the_function_returned_or_why_there_is_none() -> None:
    """As JSON; the errors carry code and reason."""

    async def nothing() -> None: ...

    async with Core(SLEEPS, fails, nothing) as core:
        result = core.service.result
        assert result(await core.run(sleeps, tag="x")) == b'"x"'
        assert result(await core.run(nothing)) == b"null"
        assert result(Job(id="a", task="t", status="succeeded")) == b"null"
        with pytest.raises(JobFailed, match="failed: ValueError: no such month") as caught:
            result(await core.run(fails))
        assert caught.value.extra == {
            "reason": "error",
            "error": {"code": "ValueError", "message": "no such month"},
        }
        with pytest.raises(JobFailed) as caught:
            result(Job(id="a", task="t", status="failed"))
        assert caught.value.extra["error"] == {}
        job_id = await core.start(sleeps)
        with pytest.raises(NotFinished, match="is queued"):
            result(await core.job(job_id))
        with pytest.raises(JobCanceled) as canceled:
            result(await core.service.cancel(job_id))
        assert canceled.value.extra == {"reason": "requested"}


async def test_the_next_look_is_worth_it_when_the_job_has_usually_ended() -> None:
    """One second while nothing is known, a minute at most."""
    async with Core(SLEEPS) as core:
        outlook = core.service.outlook
        job_id = await core.start(sleeps, seconds=20)
        job = await core.job(job_id)
        assert (outlook.retry_after(job), outlook.eta(job)) == (1.0, None)
        await core.engine.idle()
        job_id = await core.start(sleeps, seconds=30)
        queued = await core.job(job_id)
        assert (outlook.retry_after(queued), outlook.eta(queued)) == (
            20.0,
            None,
        )
        await asyncio.sleep(5)
        running = await core.job(job_id)
        assert (outlook.retry_after(running), outlook.eta(running)) == (
            15.0,
            40.0,
        )
        await asyncio.sleep(20)
        assert (outlook.retry_after(running), outlook.eta(running)) == (
            1.0,
            None,
        )
        await core.engine.idle()
        for _ in range(3):
            await core.run(sleeps, seconds=500)
        assert outlook.retry_after(queued) == 60.0


async def test_an_eta_needs_a_beginning() -> None:
    """A record without one has none."""
    async with Core(SLEEPS) as core:
        outlook = core.service.outlook
        await core.run(sleeps)
        running = Job(id="a", task="sleeps", status="running")
        assert outlook.eta(running) is None
        assert outlook.retry_after(running) == 1.0


async def test_the_first_page_is_the_newest() -> None:
    """With a cursor to the next."""
    async with Core(SLEEPS) as core:
        ids = [await core.start(sleeps) for _ in range(3)]
        page = await core.service.page(Query(limit=2))
        assert [job.id for job in page.jobs] == ids[:0:-1]
        last = await core.service.page(Query(limit=2, before=page.next))
        assert ([job.id for job in last.jobs], last.next) == (ids[:1], None)
        await core.engine.idle()


async def test_a_look_costs_the_same_with_many_jobs_kept() -> None:
    """The first page and one record, with a hundred jobs and with fifty thousand."""

    async def cost(core: Core, job_id: str) -> float:
        best = 1.0
        for _ in range(30):
            began = time.perf_counter()
            await core.service.page(Query())
            await core.service.get(job_id)
            best = min(best, time.perf_counter() - began)
        return best

    async with Core(SLEEPS, max_waiting=1_000_000) as core:
        await core.ledger.open([Job(id=f"few-{n}", task="sleeps") for n in range(100)])
        few = await cost(core, "few-50")
        await core.ledger.open([Job(id=str(n), task="sleeps") for n in range(50_000)])
        assert await cost(core, "25000") < 5 * few


async def test_a_job_may_look_at_itself() -> None:
    """It is running, and over only when it is."""

    async def job(ctx: Context) -> str:
        return (await core.service.get(ctx.id)).status

    async with Core(job) as core:
        assert (await core.run(job)).result == b'"running"'
