"""What `TestJobs` tells of the jobs that users' code starts, and how it lets them run."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from quart import Quart

from quart_app import Context, Jobs, Retry, Secret, task
from quart_app.app import get_jobs
from quart_app.domain.errors import InvalidSetting, JobFailed, NoSuchJob
from quart_app.parts import Parts
from quart_app.testing import TestJobs, virtual_run
from tests.core.process_tasks import double


@task
async def report(month: int = 1, title: str = "sales") -> str:
    """Takes two hours."""
    await asyncio.sleep(7_200)
    return f"{title} of month {month}"


@task
async def quick(number: int = 0) -> int:
    """Takes no time."""
    return number + 1


@task(cron="0 8 * * *", timezone="Europe/Berlin")
async def morning() -> None:
    """Starts by itself."""


@task
async def login(user: str, password: Secret) -> None:
    """Has something to hide."""


def shop() -> Quart:
    """An app of a user's with a view that starts a job."""
    app = Quart("shop")
    Jobs(app, url_prefix="/background", tasks=[report, quick, login])

    @app.post("/reports/<int:month>")
    async def order(month: int) -> tuple[dict[str, str], int]:
        handle = await report.start(month=month)
        return {"job": handle.id}, 202

    return app


def text(error: pytest.ExceptionInfo[BaseException]) -> str:
    """What a failed test says."""
    return str(error.value)


class TestStarts:
    """What was started."""

    @pytest.mark.virtual_time
    async def test_a_view_starts_a_job(self) -> None:
        """Over real HTTP; its record is at hand, and its result, two hours later, at once."""
        began, app = time.monotonic(), shop()
        async with TestJobs(app) as jobs:
            client = app.test_client()
            answer = await client.post("/reports/3")
            assert answer.status_code == 202
            job = jobs.assert_started(report, month=3)
            assert [each.id for each in jobs.started] == [(await answer.get_json())["job"]]
            assert job.id == jobs.started[0].id
            assert await jobs.result(job) == "sales of month 3"
            shown = await (await client.get(f"/background/jobs/{job.id}")).get_json()
            assert (shown["status"], shown["result"]) == ("succeeded", "sales of month 3")
        assert time.monotonic() - began < 2

    async def test_arguments_are_compared_as_the_function_sees_them(self) -> None:
        """Defaults included, and secrets; what is not named may be anything."""
        async with TestJobs([report, login], mode="hold") as jobs:
            await report.start(3)
            await report.start(month=4, title="costs")
            await login.start(user="ann", password=Secret("hunter2"))
            assert jobs.assert_started(report).id == jobs.started[1].id
            assert jobs.assert_started(report, month=3, title="sales").id == jobs.started[0].id
            assert len(jobs.started_of("report")) == 2
            jobs.assert_started(login, password=Secret("hunter2"))
            jobs.assert_not_started(login, password=Secret("hunter3"))
            jobs.assert_not_started(report, month=5)

    async def test_a_start_that_did_not_come_is_said_beside_those_that_did(self) -> None:
        """With their arguments, but no secrets; of many the first ten."""
        async with TestJobs([report, login], mode="hold") as jobs:
            with pytest.raises(AssertionError) as failed:
                jobs.assert_started(report, month=4)
            assert text(failed) == "report(month=4) was not started; nothing was"
            await report.start(month=3)
            await login.start(user="ann", password=Secret("hunter2"))
            with pytest.raises(AssertionError) as failed:
                jobs.assert_started("report", month=4)
            assert text(failed) == (
                "report(month=4) was not started; what was:\n"
                "  report(month=3, title='sales')\n"
                "  login(user='ann', password='***')"
            )
            for month in range(1, 11):
                await report.start(month=month)
            with pytest.raises(AssertionError, match=re.escape("\n  ... and 2 more")):
                jobs.assert_started(report, month=12)

    async def test_a_start_that_came_against_the_wish_is_said(self) -> None:
        """All of them."""
        async with TestJobs(report, mode="hold") as jobs:
            jobs.assert_not_started(report)
            await report.start(month=3)
            with pytest.raises(AssertionError) as failed:
                jobs.assert_not_started(report)
            assert text(failed) == "report() was started:\n  report(month=3, title='sales')"

    async def test_a_slip_in_the_test_itself_is_no_failed_assertion(self) -> None:
        """A parameter that there is not, or a task that the app does not offer."""
        async with TestJobs(report) as jobs:
            with pytest.raises(TypeError, match="'report' has no parameter 'moth'"):
                jobs.assert_not_started(report, moth=3)
            with pytest.raises(ValueError, match="offers no task 'quick'; its tasks: report"):
                jobs.assert_not_started(quick)
            with pytest.raises(ValueError, match="offers no task 'rport'"):
                jobs.assert_started("rport")

    async def test_another_task_of_the_same_name_is_not_meant(self) -> None:
        """It would be found, and its arguments compared with those of somebody else's."""

        @task(name="report")
        async def another() -> None: ...

        async with TestJobs(report) as jobs:
            with pytest.raises(ValueError, match="offers no task 'report'"):
                jobs.assert_not_started(another)

    async def test_a_repeated_start_is_one_job(self) -> None:
        """Its key says so."""
        async with TestJobs(quick) as jobs:
            for _ in range(2):
                await quick.options(key="once").start(number=1)
            assert len(jobs.started) == 1

    @pytest.mark.virtual_time
    async def test_jobs_that_jobs_and_schedules_start_are_seen(self) -> None:
        """Whoever starts them."""

        @task
        async def parent(job: Context) -> int:
            return sum(await job.gather(*(job.start(quick, number=n) for n in range(3))))

        now = dt.datetime(2024, 3, 31, 0, 30, tzinfo=dt.UTC)
        async with TestJobs([parent, quick, morning], now=now) as jobs:
            assert jobs.now() == now.timestamp()
            assert await jobs.result(await parent.start()) == 6
            assert len(jobs.started_of(quick)) == 3
            jobs.assert_not_started(morning)
            await asyncio.sleep(6 * 3_600)
            due = dt.datetime(2024, 3, 31, 6, 0, tzinfo=dt.UTC)
            assert jobs.assert_started(morning).created_at == pytest.approx(due.timestamp(), abs=1)


class TestWaiting:
    """How far jobs go."""

    async def test_drain_waits_for_what_is_queued_and_what_runs(self) -> None:
        """Those that wait for a place, and those that jobs start, included."""

        @task
        async def chain(left: int) -> None:
            await asyncio.sleep(0.001)
            if left:
                await chain.start(left=left - 1)

        async with TestJobs(chain, max_running=1) as jobs:
            for _ in range(3):
                await chain.start(left=2)
            await jobs.drain()
            assert len(jobs.started) == 9
            assert {(await jobs.job(each)).status for each in jobs.started} == {"succeeded"}
            assert not len(jobs.service.registry)
            await jobs.drain()

    @pytest.mark.virtual_time
    async def test_drain_waits_for_what_is_scheduled_where_that_is_asked_for(self) -> None:
        """A delay, or the wait for another try."""
        tries: list[float] = []

        @task(max_attempts=3, retry=Retry(initial=3_600, factor=2, maximum=7_200, jitter=0))
        async def flaky() -> str:
            tries.append(asyncio.get_running_loop().time())
            if len(tries) < 3:
                raise OSError("not yet")
            return "done"

        async with TestJobs([flaky, quick]) as jobs:
            job, late = await flaky.start(), await quick.options(delay=86_400).start()
            await jobs.drain()
            assert [await job.status(), await late.status()] == ["scheduled", "scheduled"]
            await jobs.drain(scheduled=True)
            assert [await jobs.result(job), await jobs.result(late)] == ["done", 1]
            assert [round(b - a) for a, b in itertools.pairwise(tries)] == [3_600, 7_200]

    @pytest.mark.virtual_time
    async def test_drain_says_what_it_has_waited_for_in_vain(self) -> None:
        """Each job, and what it is doing."""

        async with TestJobs(report, max_running=1) as jobs:
            await report.start(month=1)
            await report.start(month=2)
            with pytest.raises(TimeoutError) as failed:
                await jobs.drain(60)
            assert text(failed) == (
                "after 60 s there were still:\n"
                "  report(month=2, title='sales') is queued\n"
                "  report(month=1, title='sales') is running"
            )

    @pytest.mark.virtual_time
    async def test_a_result_is_that_of_the_job_or_the_reason_why_there_is_none(self) -> None:
        """Named by handle, record, id, or by its task if that has one job."""

        @task
        async def broken() -> None:
            raise ValueError("no")

        async with TestJobs([report, broken]) as jobs:
            handle = await report.start(month=3)
            for which in (handle, handle.id, jobs.started[0], report):
                assert await jobs.result(which) == "sales of month 3"
                assert (await jobs.job(which)).id == handle.id
            with pytest.raises(JobFailed, match="ValueError: no"):
                await jobs.result(await broken.start())
            await report.start(month=4)
            with pytest.raises(TimeoutError, match=r"after 60 s report\(month=4.*\) is running$"):
                await jobs.result(jobs.started[-1], 60)
            with pytest.raises(AssertionError) as failed:
                await jobs.job(report)
            assert text(failed) == (
                "2 jobs of 'report' were started: say which\n"
                "  report(month=3, title='sales')\n"
                "  report(month=4, title='sales')"
            )
            with pytest.raises(NoSuchJob):
                await jobs.job("nobody")


class TestHold:
    """``mode="hold"``: nothing runs before the test says so."""

    async def test_nothing_runs_by_itself(self) -> None:
        """Also not what a view has started; at the end it is withdrawn."""
        ran: list[int] = []

        @task
        async def note(number: int) -> None:
            ran.append(number)

        async with TestJobs(note, mode="hold") as jobs:
            for number in range(3):
                await note.start(number=number)
            answer = await jobs.app.test_client().post("/start/note", json={"number": 3})
            assert answer.status_code == 202
            for _ in range(10):
                await asyncio.sleep(0)
            assert [(await jobs.job(each)).status for each in jobs.started] == ["queued"] * 4
        assert ran == []

    async def test_one_runs_when_it_is_told(self) -> None:
        """Whoever waits before it, and whatever its limits say; the others go on waiting."""
        ran: list[int] = []

        @task(limit=1)
        async def note(number: int) -> int:
            ran.append(number)
            return number

        async with TestJobs(note, mode="hold") as jobs:
            handles = [await note.start(number=number) for number in range(3)]
            job = await jobs.run(handles[1])
            assert (job.status, ran) == ("succeeded", [1])
            await jobs.run(handles[1])  # It is over: nothing more comes of it.
            assert ran == [1]
            await jobs.drain()
            assert ran == [1, 0, 2]
            late = await note.start(number=3)
            await asyncio.sleep(0)
            assert await late.status() == "queued"

    async def test_one_that_is_delayed_runs_when_it_is_told(self) -> None:
        """Its moment need not come, in no mode."""
        for mode in ("hold", "live"):
            async with TestJobs(quick, mode=mode) as jobs:
                handle = await quick.options(delay=3_600).start(number=1)
                assert (await jobs.job(handle)).status == "scheduled"
                assert (await jobs.run(handle)).status == "succeeded"
                assert await jobs.result(handle) == 2

    async def test_run_is_one_attempt(self) -> None:
        """What follows a failed one is the test's to say, too."""
        tries: list[int] = []

        @task(max_attempts=3, retry=Retry(initial=60))
        async def flaky(job: Context) -> None:
            tries.append(job.attempt)
            if job.attempt < 3:
                raise OSError("not yet")

        async with TestJobs(flaky, mode="hold") as jobs:
            handle = await flaky.start()
            seen = [(await jobs.run(handle)).status for _ in range(3)]
            assert seen == ["scheduled", "scheduled", "succeeded"]
            assert tries == [1, 2, 3]

    @pytest.mark.virtual_time
    async def test_waiting_for_what_is_held_says_why_it_is_in_vain(self) -> None:
        """A result, or a job that itself waits for others."""

        @task
        async def parent(job: Context) -> list[int]:
            return await job.gather(job.start(quick, number=1))

        async with TestJobs([parent, quick], mode="hold") as jobs:
            handle = await parent.start()
            hint = r'is queued; with mode="hold" nothing runs before run\(\) or drain\(\)$'
            with pytest.raises(TimeoutError, match=hint):
                await jobs.result(handle)
            hint = r"is running; if it waits for jobs that are held, use drain\(\)$"
            with pytest.raises(TimeoutError, match=hint):
                await jobs.run(handle, 60)
            await jobs.drain()
            assert await jobs.result(handle) == [2]

    @pytest.mark.virtual_time
    async def test_live_a_run_that_takes_too_long_is_said(self) -> None:
        """It goes on."""
        async with TestJobs(report) as jobs:
            handle = await report.options(delay=60).start(month=1)
            with pytest.raises(TimeoutError, match=r"after 5 s report\(.*\) is running$"):
                await jobs.run(handle, 5)
            assert await jobs.result(handle) == "sales of month 1"


class TestInline:
    """``mode="inline"``: a start comes back when its job is over."""

    @pytest.mark.virtual_time
    async def test_a_start_comes_back_when_the_job_is_over(self) -> None:
        """From Python, and over HTTP, one or many; its tries included."""

        @task(max_attempts=2, retry=Retry(initial=60))
        async def flaky(job: Context) -> None:
            if job.attempt < 2:
                raise OSError("not yet")

        app = shop()
        async with TestJobs(app, mode="inline") as jobs:
            assert await (await report.start(month=1)).status() == "succeeded"
            client = app.test_client()
            await client.post("/reports/2")
            assert (await jobs.job(jobs.started[-1])).status == "succeeded"
            answer = await client.post("/background/start/quick", json=[{"number": 1}, {}])
            assert answer.status_code == 202
            assert [(await jobs.job(each)).result for each in jobs.started[-2:]] == [b"2", b"1"]
        async with TestJobs(flaky, mode="inline") as jobs:
            assert await (await flaky.start()).status() == "succeeded"

    async def test_what_cannot_be_over_is_not_waited_for(self) -> None:
        """A delay, or a paused task."""
        async with TestJobs(quick, mode="inline") as jobs:
            late = await quick.options(delay=3_600).start()
            assert await late.status() == "scheduled"
            await jobs.app.test_client().post("/tasks/quick/pause")
            assert await (await quick.start()).status() == "queued"

    async def test_jobs_that_start_jobs_do_not_stand_in_each_others_way(self) -> None:
        """The one that waits leaves its place."""

        @task(limit=1)
        async def count(left: int) -> int:
            if left == 0:
                return 0
            return 1 + await (await count.start(left=left - 1)).result()

        async with TestJobs(count, mode="inline", max_running=1) as jobs:
            assert await jobs.result(await count.start(left=5)) == 5


class TestTime:
    """Virtual time is that of the jobs, too."""

    @pytest.mark.virtual_time
    async def test_the_records_go_by_it(self) -> None:
        """Opened now, begun after its delay, over after its work: to the millisecond."""
        async with TestJobs(report) as jobs:
            assert jobs.now() == pytest.approx(time.time(), abs=60)
            handle = await report.options(delay=7_200).start()
            await jobs.result(handle)
            job = await jobs.job(handle)
            assert job.started_at is not None
            assert job.finished_at is not None
            assert job.started_at - job.created_at == pytest.approx(7_200, abs=0.01)
            assert job.finished_at - job.started_at == pytest.approx(7_200, abs=0.01)
            assert jobs.now() == job.finished_at

    @pytest.mark.virtual_time
    async def test_what_expires_does_so_at_its_moment(self) -> None:
        """Not an hour later, when upkeep looks again."""
        async with TestJobs(report, mode="hold") as jobs:
            handle = await report.options(expires=30).start()
            await asyncio.sleep(29)
            assert await handle.status() == "queued"
            await asyncio.sleep(2)
            job = await jobs.job(handle)
            assert (job.status, job.reason) == ("failed", "expired")

    @pytest.mark.virtual_time
    async def test_many_that_are_delayed_begin_each_at_its_moment(self) -> None:
        """However far they are apart, and in whichever order they were started."""
        async with TestJobs(quick) as jobs:
            delays = [5, 86_400, 0.5, 3_600, 3_600, 10 * 86_400]
            for delay in delays:
                await quick.options(delay=delay).start()
            for job, delay in zip(jobs.started, delays, strict=True):
                await jobs.result(job)
                begun = (await jobs.job(job)).started_at
                assert begun == pytest.approx(job.created_at + delay, abs=0.01)

    @pytest.mark.virtual_time
    async def test_timeouts_and_waiting_requests_go_by_it(self) -> None:
        """An hour's timeout, and a request that waits for the end."""

        @task(timeout=3_600)
        async def slow() -> None:
            await asyncio.sleep(86_400)

        async with TestJobs(slow) as jobs:
            handle = await slow.start()
            client, path = jobs.app.test_client(), f"/jobs/{handle.id}"
            shown = await (await client.get(path, headers={"Prefer": "wait=10"})).get_json()
            assert shown["status"] == "running"
            with pytest.raises(JobFailed, match="timeout of 3600 seconds"):
                await jobs.result(handle)

    @pytest.mark.virtual_time
    async def test_a_thread_is_not_jumped_over(self) -> None:
        """Its timeout of a minute does not end it while it works."""

        @task(timeout=60)
        def work(job: Context) -> int:
            time.sleep(0.05)
            return job.step_sync("half", lambda: 21) * 2

        def seven() -> int:
            time.sleep(0.02)
            return 7

        @task(timeout=60)
        async def mixed(job: Context) -> int:
            await asyncio.sleep(50)
            return await job.step("in a thread", seven)

        async with TestJobs([work, mixed]) as jobs:
            assert await jobs.result(await work.start()) == 42
            assert await jobs.result(await mixed.start()) == 7

    @pytest.mark.slow
    @pytest.mark.virtual_time
    async def test_a_process_is_not_jumped_over(self) -> None:
        """It takes its real time to begin."""
        far = task(run="process", timeout=60)(double)
        async with TestJobs(far) as jobs:
            began = jobs.now()
            handle = await far.start(number=21)
            assert await jobs.result(handle) == 42
            assert jobs.now() - began < 60

    async def test_without_virtual_time_a_moment_can_be_given(self) -> None:
        """The clock goes on from there."""
        now = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
        async with TestJobs(quick, now=now) as jobs:
            await jobs.result(await quick.start())
            assert 0 <= jobs.now() - now.timestamp() < 60
            assert 0 <= jobs.started[0].created_at - now.timestamp() < 60


class TestApps:
    """An app under test is served, and left as it was."""

    async def test_its_own_start_and_end_take_place(self) -> None:
        """As with a server: jobs end while what they use is open."""
        seen: list[str] = []
        app = Quart("shop")
        jobs_of_app = Jobs(app)

        @jobs_of_app.task
        async def endless() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("canceled")

        @app.before_serving
        async def begin() -> None:
            seen.append("begin")

        @app.after_serving
        async def end() -> None:
            seen.append("end")

        async with TestJobs(app) as jobs:
            await endless.start()
            await asyncio.sleep(0)
            assert jobs.app is app
        assert seen == ["begin", "canceled", "end"]

    def test_one_app_serves_many_tests(self) -> None:
        """One after the other, each on its own loop, with no job of the one before."""
        app = shop()

        async def test() -> int:
            async with TestJobs(app) as jobs:
                await app.test_client().post("/reports/3")
                await jobs.drain()
                return sum((await jobs.service.store.counts()).values())

        assert [virtual_run(test()), asyncio.run(asyncio.wait_for(self.hold(app), 10))] == [1, 0]
        assert virtual_run(test()) == 1

    async def hold(self, app: Quart) -> int:
        """How many jobs there are at the beginning."""
        async with TestJobs(app, mode="hold") as jobs:
            return sum((await jobs.service.store.counts()).values())

    async def test_settings_win_for_this_test_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Over the environment, which must not decide whether a test passes."""
        monkeypatch.setenv("QUART_APP_STORE", "sqlite:///nowhere/jobs.db")
        monkeypatch.setenv("QUART_APP_MAX_QUEUED", "7")
        monkeypatch.setenv("QUART_APP_GRACE", "3")
        app = shop()
        async with TestJobs(app, max_queued=5) as jobs:
            settings = jobs.parts.settings
            assert (settings.store, settings.max_queued, settings.grace) == ("memory", 5, 3)
            assert settings.drain == 0
        extension = get_jobs(app)
        assert (extension.make_parts, extension.environ) == (Parts, None)
        assert extension.settings().max_queued == 7

    async def test_what_cannot_be_tested_is_refused(self) -> None:
        """With the reason."""
        app = shop()
        with pytest.raises(ValueError, match=re.escape("no background jobs: give it Jobs(app)")):
            TestJobs(Quart("plain"))
        with pytest.raises(TypeError, match="no setting 'drian'; they are: tasks, default_task"):
            TestJobs(app, drian=3)
        jobs = TestJobs(app)
        with pytest.raises(RuntimeError, match="use it as async with"):
            _ = jobs.parts
        async with jobs:
            with pytest.raises(ValueError, match="under test already"):
                await TestJobs(app).__aenter__()

    async def test_an_app_that_does_not_start_says_so_and_is_left_as_it_was(self) -> None:
        """A wrong setting, here."""
        app = shop()
        with pytest.raises(InvalidSetting, match="QUART_APP_GRACE"):
            await TestJobs(app, grace=-1).__aenter__()
        with pytest.raises(Exception, match="QUART_APP_DEFAULT_TASK"):
            await TestJobs(app, default_task="nobody").__aenter__()
        extension = get_jobs(app)
        assert (extension.make_parts, extension.environ) == (Parts, None)
        async with TestJobs(app):
            pass


@pytest.fixture
async def served() -> AsyncIterator[TestJobs]:
    """As users have it in a fixture."""
    async with TestJobs(report) as jobs:
        yield jobs


@pytest.mark.virtual_time
async def test_a_fixture_shares_the_loop_of_its_test(served: Any) -> None:
    """And so its time."""
    assert await served.result(await report.start(month=3)) == "sales of month 3"
