"""``await report.start(month=3)`` and the handle that it returns."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from quart_app.core.context import Context
from quart_app.core.handles import JobHandle
from quart_app.core.start import StartableTask, TaskDecorator, serve, task, unserve
from quart_app.domain.errors import (
    InvalidArguments,
    InvalidTask,
    JobCanceled,
    JobFailed,
    NoSuchJob,
    NotFinished,
    NotServing,
    QueueFull,
)
from quart_app.domain.queries import Query
from quart_app.domain.tasks import Task
from tests.core.support import Core

pytestmark = pytest.mark.virtual


@dataclasses.dataclass
class Report:
    month: int
    lines: list[str]


@task
async def report(ctx: Context, month: int, *, words: int = 1) -> Report:
    await asyncio.sleep(2)
    return Report(month, ["word"] * words)


@task(name="broken", timeout=9, quick=1, tags=["a"])
async def fails() -> None:
    raise ValueError("no")


@task()
def plain(number: int) -> int:
    return number


def test_the_decorator_works_bare_and_with_options() -> None:
    """It makes a task that can still be called."""
    assert isinstance(report, StartableTask)
    assert (fails.name, fails.timeout, fails.quick, fails.tags) == ("broken", 9, 1, ("a",))
    assert (plain.name, plain.run, plain(3)) == ("plain", "thread", 3)
    with pytest.raises(InvalidTask):
        task(3)  # type: ignore[call-overload]


def test_a_decorator_of_an_app_registers_what_it_makes() -> None:
    """As ``@jobs.task`` does."""
    made: list[Task] = []
    decorate = TaskDecorator(made.append)

    @decorate
    def one() -> None: ...

    @decorate(name="two")
    def other() -> None: ...

    assert made == [one, other]


async def test_a_started_job_gives_its_result_as_the_annotated_type() -> None:
    """And its status on the way."""
    async with Core(report) as core:
        handle = await report.start(3, words=2)
        assert isinstance(handle, JobHandle)
        assert repr(handle) == f"<JobHandle report {handle.id}>"
        assert await handle.status() == "queued"
        await asyncio.sleep(1)
        assert await handle.status() == "running"
        assert await handle.result() == Report(3, ["word", "word"])
        assert core.now() == 2.0
        assert (await handle.job()).result == b'{"month":3,"lines":["word","word"]}'
        await core.engine.idle()


async def test_arguments_go_by_place_or_name() -> None:
    """As in a call; what does not fit is refused before anything is kept."""
    async with Core(plain, report) as core:
        assert await (await plain.start(1)).result() == 1
        assert await (await plain.start(number=2)).result() == 2
        with pytest.raises(InvalidArguments, match="'plain' takes 1 arguments, 2 were given"):
            await plain.start(1, 2)  # type: ignore[call-arg]
        with pytest.raises(InvalidArguments, match="#/number: This argument is given twice"):
            await plain.start(1, number=2)  # type: ignore[misc]
        with pytest.raises(InvalidArguments):
            await report.start("March")  # type: ignore[arg-type]
        with pytest.raises(InvalidArguments):
            await report.start()  # type: ignore[call-arg]
        assert (await core.store.counts())["queued"] == 0
        await core.engine.idle()


async def test_a_result_that_is_not_there_says_why() -> None:
    """Failed, canceled, not yet, or expired."""
    async with Core(report, fails) as core:
        with pytest.raises(JobFailed, match="ValueError: no"):
            await (await fails.start()).result()
        handle = await report.start(1)
        with pytest.raises(TimeoutError, match=r"still running after 0\.5 seconds"):
            await handle.result(timeout=0.5)
        assert await handle.cancel() == "running"
        with pytest.raises(JobCanceled):
            await handle.result()
        queued = await report.start(1)
        assert await queued.cancel() == "canceled"
        queued.id = "expired"
        with pytest.raises(NoSuchJob):
            await queued.job()
        await core.engine.idle()


async def test_at_a_shutdown_nobody_waits_any_more() -> None:
    """The waiter is told that the job is not over."""
    async with Core(report) as core:
        handle = await report.start(1)
        waiting = asyncio.create_task(handle.result())
        await asyncio.sleep(1)
        core.drain.begin()
        with pytest.raises(NotFinished):
            await waiting
        await core.engine.idle()


async def test_a_full_queue_is_said() -> None:
    """Nothing was started."""
    async with Core(report, max_waiting=1) as core:
        await report.start(1)
        with pytest.raises(QueueFull):
            await report.start(2)
        await core.engine.idle()


async def test_a_thread_with_an_event_loop_of_its_own_cannot_start_anything() -> None:
    """It has its job's context, but the service is not there: that is said, and nothing hangs."""
    loop = asyncio.get_running_loop()

    @task
    def starts(there: bool) -> str:
        if there:
            return asyncio.run_coroutine_threadsafe(plain.start(1), loop).result().id

        async def here() -> str:
            return (await plain.start(1)).id

        return asyncio.run(here())

    async with Core(plain, starts) as core:
        ended = await core.run(starts, there=False)
        assert ended.error is not None
        assert ended.error.code == "NotServing"
        assert "start it in an `async def` task, or there, with asyncio." in ended.error.message
        assert (await core.store.counts())["succeeded"] == 0
        assert (await core.run(starts, there=True)).status == "succeeded"
        assert (await core.store.counts())["succeeded"] == 2


async def test_without_a_service_nothing_can_be_started() -> None:
    """The message says what to do; so too where another task of that name is served."""

    @task(name="report")
    async def other() -> None: ...

    with pytest.raises(NotServing, match="no running app offers the task 'report'"):
        await report.start(1)
    async with Core(other):
        with pytest.raises(NotServing, match="QUART_APP_TASKS"):
            await report.start(1)


async def test_of_several_services_the_one_that_offers_the_task_is_meant() -> None:
    """Where two do, the request's or the job's own is meant; outside it must be said."""

    @task
    async def only() -> str:
        return "only"

    async with Core(report) as first, Core(report, only) as second:
        assert await (await only.start()).result() == "only"
        with pytest.raises(NotServing, match="several apps on this loop offer 'report'"):
            await report.start(1)
        scope = first.service.begin_request()
        handle = await report.start(1)
        await scope.close()
        assert await first.job(handle.id)
        with pytest.raises(NoSuchJob):
            await second.job(handle.id)
        await first.engine.idle()
        await second.engine.idle()


async def test_a_job_starts_others_in_its_own_service() -> None:
    """Also where several run."""

    @task
    async def outer() -> str:
        handle = await report.start(7)
        return handle.id

    async with Core(report), Core(report, outer) as core:
        inner = await (await outer.start()).result()
        assert (await core.ended(inner)).status == "succeeded"


def test_a_service_of_another_loop_is_not_meant() -> None:
    """It could not be awaited from here."""

    async def main() -> Core:
        core = Core(report)
        serve(core.service)
        return core

    core = asyncio.run(main())

    async def elsewhere() -> None:
        with pytest.raises(NotServing):
            await report.start(1)

    try:
        asyncio.run(elsewhere())
    finally:
        unserve(core.service)


async def test_a_service_of_another_thread_is_not_meant() -> None:
    """Its loop runs, but not here."""

    async def elsewhere() -> None:
        with pytest.raises(NotServing):
            await report.start(1)

    async with Core(report) as core:
        await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
        assert (await core.service.page(Query())).jobs == []
