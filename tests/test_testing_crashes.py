"""``crash_at``: an attempt ends in the middle of a step as if its process had been killed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from quart_app import Context, task
from quart_app.core.handles import JobHandle
from quart_app.domain.errors import JobFailed
from quart_app.testing import TestJobs

DONE: list[str] = []
"""What the functions below have done, in order."""


@pytest.fixture(autouse=True)
def _nothing_done() -> Iterator[None]:
    DONE.clear()
    yield
    gc.collect()  # What was left standing says here if somebody has forgotten it.


async def page(number: int) -> int:
    """A step."""
    await asyncio.sleep(1)
    DONE.append(f"page {number}")
    return number


@task(max_attempts=3)
async def pages(job: Context, count: int = 3) -> int:
    """Some steps, and all that a crash must not run."""
    try:
        return sum([await job.step(f"page {n}", page, n) for n in range(count)])
    except BaseException:
        DONE.append("except")
        raise
    finally:
        DONE.append("finally")


@task(name="once")
async def once(job: Context) -> int:
    """Never runs again."""
    return await job.step("page 0", page, 0)


@task(max_attempts=2)
async def together(job: Context) -> int:
    """Steps in asyncio tasks of their own."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(job.step(f"page {n}", page, n)) for n in range(3)]
    return sum(each.result() for each in tasks)


@task(max_attempts=2)
def threaded(job: Context) -> int:
    """Steps in a thread."""
    try:
        job.step_sync("first", DONE.append, "first")
        job.step_sync("second", DONE.append, "second")
    finally:
        DONE.append("finally")
    return 1


@task(run="process")
def far(job: Context) -> None:
    """Has no steps."""


@task
async def plain() -> None:
    """Has none either."""


async def end_of(jobs: TestJobs, handle: JobHandle[object]) -> list[tuple[int, str]]:
    """The attempts that a job has lost, and why."""
    await jobs.drain()
    return [(each.attempt, each.reason) for each in (await jobs.job(handle)).history]


@pytest.mark.virtual_time
async def test_a_job_goes_on_at_the_step_in_which_it_was_cut_off() -> None:
    """Its function runs again, those of the earlier ones do not; the record tells of a crash."""
    async with TestJobs(pages) as jobs:
        jobs.crash_at(pages, "page 1")
        handle = await pages.start()
        assert await jobs.result(handle) == 3
        assert await end_of(jobs, handle) == [(1, "lost")]
        job = await jobs.job(handle)
        assert (job.status, job.attempt) == ("succeeded", 2)
        assert job.history[0].error is not None
        assert job.history[0].error.code == "Lost"
        assert DONE == ["page 0", "page 1", "page 1", "page 2", "finally"]


@pytest.mark.virtual_time
async def test_no_line_of_the_function_runs_after_it() -> None:
    """Neither ``except`` nor ``finally``, as after a kill; only the end of the test cleans up."""
    async with TestJobs(pages) as jobs:
        jobs.crash_at(pages, "page 0")
        handle = await pages.start(count=1)
        await jobs.result(handle)
        assert DONE == ["page 0", "page 0", "finally"]
    assert DONE == ["page 0", "page 0", "finally", "except", "finally"]


@pytest.mark.virtual_time
async def test_it_may_come_before_the_step_has_begun() -> None:
    """Then its function has not been called."""
    async with TestJobs(pages) as jobs:
        jobs.crash_at(pages, "page 1", when="begins")
        handle = await pages.start()
        assert await end_of(jobs, handle) == [(1, "lost")]
        assert DONE == ["page 0", "page 1", "page 2", "finally"]


@pytest.mark.virtual_time
async def test_a_task_that_may_begin_once_fails() -> None:
    """By the rule for what is lost: nobody knows how far it came."""
    async with TestJobs(once) as jobs:
        jobs.crash_at(once, "page 0")
        handle = await once.start()
        with pytest.raises(JobFailed, match="nobody knows how far it came"):
            await jobs.result(handle)
        job = await jobs.job(handle)
        assert (job.status, job.reason, job.attempt) == ("failed", "lost", 1)
        assert DONE == ["page 0"]


@pytest.mark.virtual_time
async def test_three_in_a_row_are_poison() -> None:
    """Also where more attempts are allowed; one and another later are not."""
    async with TestJobs(pages) as jobs:
        jobs.crash_at(pages, "page 0", times=3)
        handle = await pages.start()
        await jobs.drain()
        job = await jobs.job(handle)
        assert (job.status, job.reason, job.attempt) == ("failed", "poison", 3)
    async with TestJobs(pages) as jobs:
        jobs.crash_at(pages, "page 0")
        jobs.crash_at(pages, "page 1")
        handle = await pages.start()
        assert await jobs.result(handle) == 3
        assert (await jobs.job(handle)).attempt == 3


@pytest.mark.virtual_time
async def test_each_crash_is_one_jobs() -> None:
    """The next job of the task passes the step."""
    async with TestJobs(pages) as jobs:
        jobs.crash_at(pages, "page 1")
        first, second = await pages.start(), await pages.start()
        assert await end_of(jobs, first) == [(1, "lost")]
        assert await end_of(jobs, second) == []


@pytest.mark.virtual_time
async def test_steps_in_tasks_of_their_own_are_cut_off_with_the_job() -> None:
    """What is on record of them by then counts."""
    async with TestJobs(together) as jobs:
        jobs.crash_at(together, "page 1")
        handle = await together.start()
        assert await jobs.result(handle) == 3
        assert await end_of(jobs, handle) == [(1, "lost")]
        assert DONE.count("page 1") == 2


async def test_a_thread_sees_an_exception() -> None:
    """Nothing else can end it; what it does then does not count, as its attempt is lost."""
    async with TestJobs(threaded) as jobs:
        jobs.crash_at(threaded, "second")
        handle = await threaded.start()
        assert await jobs.result(handle) == 1
        assert await end_of(jobs, handle) == [(1, "lost")]
        assert DONE == ["first", "second", "finally", "second", "finally"]


async def test_a_thread_cannot_go_on_as_if_nothing_had_been() -> None:
    """No later step of a lost attempt is put on record, and its result is not the job's."""

    @task(max_attempts=2)
    def stubborn(job: Context) -> str:
        for name in ("first", "second"):
            try:
                job.step_sync(name, DONE.append, f"{name} {job.attempt}")
            except BaseException as error:  # noqa: BLE001 - that is the point
                DONE.append(type(error).__name__)
        return f"attempt {job.attempt}"

    async with TestJobs(stubborn) as jobs:
        jobs.crash_at(stubborn, "first")
        handle = await stubborn.start()
        assert await jobs.result(handle) == "attempt 2"
        assert DONE == ["first 1", "Killed", "Killed", "first 2", "second 2"]


@pytest.mark.virtual_time
async def test_a_crash_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The function has not failed."""
    async with TestJobs(pages) as jobs:
        jobs.crash_at(pages, "page 0", when="begins")
        await jobs.result(await pages.start(count=1))
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


@pytest.mark.virtual_time
async def test_exceptions_of_the_functions_own_pass_as_ever() -> None:
    """Where a crash is planned the function is watched; nobody should notice."""
    seen: list[str] = []

    @task(max_attempts=2)
    async def careful(job: Context) -> str:
        try:
            async with asyncio.timeout(5):
                await asyncio.sleep(10)
        except TimeoutError:
            seen.append("timeout")
        try:
            await job.step("fails", fails)
        except ValueError as error:
            seen.append(str(error))
        return await job.step("last", words)

    async def fails() -> None:
        raise ValueError("no")

    async def words() -> str:
        return "done"

    @task(max_attempts=2)
    async def endless(job: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("canceled")

    async with TestJobs([careful, endless]) as jobs:
        jobs.crash_at(careful, "last")
        assert await jobs.result(await careful.start()) == "done"
        assert seen == ["timeout", "no", "timeout", "no"]
        with pytest.raises(AssertionError, match="never came"):
            async with TestJobs(once) as others:
                others.crash_at(once, "nowhere")
        handle = await endless.start()
        await asyncio.sleep(1)
        assert await handle.cancel() == "running"
        await jobs.drain()
        assert (await handle.status(), seen[-1]) == ("canceled", "canceled")


@pytest.mark.virtual_time
async def test_a_held_job_can_be_cut_off_too() -> None:
    """And waits for the test to say that it runs again."""
    async with TestJobs(pages, mode="hold") as jobs:
        jobs.crash_at(pages, "page 1")
        handle = await pages.start()
        job = await jobs.run(handle)
        assert (job.status, job.reason, job.attempt) == ("queued", "lost", 1)
        assert (await jobs.run(handle)).status == "succeeded"


async def test_a_crash_that_never_came_fails_the_test() -> None:
    """It has proved nothing; the message helps with a name that was mistyped."""

    async def test() -> None:
        async with TestJobs([pages, threaded]) as jobs:
            jobs.crash_at(pages, "page 7", when="begins")
            await pages.start(count=0)
            await threaded.start()
            await jobs.drain()

    with pytest.raises(AssertionError) as failed:
        await test()
    assert str(failed.value) == ("crash_at(pages, 'page 7') never came; the steps that did: none")

    async def another() -> None:
        async with TestJobs(threaded) as jobs:
            jobs.crash_at(threaded, "third")
            await jobs.result(await threaded.start())

    with pytest.raises(AssertionError, match=r"the steps that did: 'first', 'second'$"):
        await another()


async def test_a_test_that_fails_by_itself_is_not_told_of_crashes() -> None:
    """Its own error is what counts."""

    async def test() -> None:
        async with TestJobs(pages) as jobs:
            jobs.crash_at(pages, "page 1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await test()


async def test_a_task_without_steps_cannot_crash_at_one() -> None:
    """That is said at once."""
    async with TestJobs([far, plain]) as jobs:
        with pytest.raises(ValueError, match="'plain' has no steps: it takes no Context"):
            jobs.crash_at(plain, "page 1")
        with pytest.raises(ValueError, match="'far' has no steps: it is run=\"process\""):
            jobs.crash_at(far, "page 1")
        with pytest.raises(ValueError, match="offers no task 'once'"):
            jobs.crash_at(once, "page 1")
