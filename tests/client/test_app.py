"""Against the app itself, in this process: every method of the client does what its route does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest
from quart import Quart

from quart_app import Context, Jobs, Secret, task
from quart_app.client import (
    AsyncClient,
    InvalidArguments,
    JobCanceled,
    JobDocument,
    JobFailed,
    KeyReused,
    LogLine,
    NoSuchJob,
    NoSuchTask,
    NotFinished,
    NotFound,
)
from quart_app.client.flows import Pace
from tests.client.doubles import Droppy
from tests.http.support import Api, Stage, serving

logger = logging.getLogger("tests.client")


class Summary(msgspec.Struct):
    """A result with a type."""

    month: int
    orders: int


@task
async def report(month: int, year: int = 2026) -> Summary:
    logger.warning("month %d", month)
    return Summary(month, 30)


@task
async def broken(message: str = "no") -> None:
    raise ValueError(message)


@task
async def login(context: Context, password: Secret) -> int:
    return len(password.reveal())


@task(every=86_400.0, unique=True)
async def nightly() -> str:
    return "done"


@contextlib.asynccontextmanager
async def client_of(api: Api, **settings: Any) -> AsyncIterator[AsyncClient]:
    """A client of a served app."""
    transport = httpx2.ASGITransport(app=api.app)  # type: ignore[arg-type]
    async with AsyncClient("http://localhost", transport=transport, **settings) as client:
        yield client


@pytest.fixture
async def client(stage: Stage) -> AsyncIterator[AsyncClient]:
    """A client of an app with all of these tasks."""
    async with (
        serving(report, broken, login, nightly, stage.held) as api,
        client_of(api) as client,
    ):
        yield client


@pytest.fixture
def stage() -> Stage:
    """Tasks whose jobs end when the test says so."""
    return Stage()


async def test_a_task_is_started_and_its_result_has_its_type(client: AsyncClient) -> None:
    """By the task or by its name."""
    handle = await client.start(report, 3)
    assert await handle.result(timeout=10) == Summary(3, 30)
    assert await handle.status() == "succeeded"
    document = await handle.document()
    assert document.args == {"month": 3, "year": 2026}
    assert document.result == {"month": 3, "orders": 30}
    assert document.created is not None
    assert document.created.tzinfo is not None
    named = await client.start("report", month=4)
    assert await named.result(timeout=10) == {"month": 4, "orders": 30}
    again = client.job(handle.id, report)
    assert await again.result() == Summary(3, 30)
    assert await (await client.start(login, password=Secret("hunter2"))).result(timeout=10) == 7
    assert await (await client.start("login", password=Secret("hunter2"))).result(timeout=10) == 7


async def test_options_are_those_of_python(client: AsyncClient) -> None:
    """A key of one's own, a delay, an expiry, a priority."""
    patient = client.options(key="march", delay=3600, expires=7200, priority=5)
    first = await patient.start(report, 3)
    second = await patient.start("report", month=3)
    assert first.id == second.id
    document = await first.document()
    assert document.status == "scheduled"
    assert document.run_at is not None
    assert document.expires is not None
    with pytest.raises(KeyReused):
        await patient.start(report, 4)


async def test_many_are_started_or_none(client: AsyncClient) -> None:
    """One handle for each."""
    handles = await client.start_many(report, [{"month": month} for month in range(1, 4)])
    assert [await each.result(timeout=10) for each in handles] == [
        Summary(1, 30), Summary(2, 30), Summary(3, 30),
    ]  # fmt: skip
    with pytest.raises(InvalidArguments, match="1"):
        await client.start_many("report", [{"month": 1}, {"month": "x"}])
    assert (await client.count(task=report)).total == 3


async def test_what_is_wrong_is_an_exception_with_its_name(
    client: AsyncClient, stage: Stage
) -> None:
    """The same as in Python."""
    with pytest.raises(NoSuchTask, match="report"):
        await client.start("reprot", month=3)
    with pytest.raises(InvalidArguments) as caught:
        await client.start("report", month="March")
    assert caught.value.errors == [
        {"pointer": "#/month", "detail": "Expected `int`, got `str`"}
    ]  # fmt: skip
    for use in (client.job("7").document, client.job("7").cancel, client.job("7").result):
        with pytest.raises(NoSuchJob):
            await use()
    handle = await client.start(broken, "out of paper")
    with pytest.raises(JobFailed) as failed:
        await handle.result(timeout=10)
    assert (failed.value.code, failed.value.message) == ("ValueError", "out of paper")
    held = await client.start(stage.held)
    with pytest.raises(NotFinished):
        await held.retry()
    with pytest.raises(TimeoutError):
        await held.result(timeout=0.05)
    assert await held.cancel() in ("running", "canceled")
    with pytest.raises(JobCanceled):
        await held.result(timeout=10)


async def test_a_wrong_prefix_is_told_from_a_missing_job(client: AsyncClient) -> None:
    """Since the remedy is another."""
    client._link.base += "/elsewhere"
    with pytest.raises(NotFound):
        await client.job("7").document()


async def test_a_job_is_run_again_with_changes(client: AsyncClient) -> None:
    """As a new one."""
    handle = await client.start(report, 3)
    await handle.result(timeout=10)
    again = await handle.retry(month=4)
    assert await again.result(timeout=10) == Summary(4, 30)
    assert (await again.document()).retry_of == handle.id


async def test_its_story_is_told(client: AsyncClient) -> None:
    """The events, the log, the timeline; of a job that is over at once."""
    handle = await client.start(report, 3)
    await handle.result(timeout=10)
    news = [each async for each in handle.events()]
    assert isinstance(news[-1], JobDocument)
    assert news[-1].status == "succeeded"
    assert [each.text for each in news if isinstance(each, LogLine)] == ["month 3"]
    assert [each.text async for each in handle.log()] == ["month 3"]
    assert [each.text async for each in handle.log(follow=True)] == ["month 3"]
    timeline = await handle.timeline()
    assert timeline[0].action == "opened"
    assert timeline[-1].status == "succeeded"


async def test_lists_counts_and_cancels_by_filters(client: AsyncClient, stage: Stage) -> None:
    """All pages; and a dry run changes nothing."""
    handles = await client.start_many(stage.held, [{"label": f"a{n % 2}"} for n in range(250)])
    listed = [each.id async for each in client.jobs(task=stage.held)]
    assert sorted(listed) == sorted(each.id for each in handles)
    odd = await client.count(args={"label": "a1"}, since="1h")
    assert odd.total == 125
    assert not odd.capped
    would = await client.cancel(task="held", args={"label": "a1"}, dry_run=True)
    assert (would.matched, would.canceled) == (125, 0)
    done = await client.cancel(task="held", args={"label": "a1"})
    assert done.canceled + done.canceling == 125
    done = await client.cancel([handles[0].id, handles[2].id])
    assert done.matched == 2
    assert (await client.cancel(handles[4].id)).matched == 1
    with pytest.raises(ValueError, match="give ids, or filters"):
        await client.cancel()


async def test_failed_jobs_are_grouped_and_run_again(client: AsyncClient) -> None:
    """All that match."""
    for handle in await client.start_many(broken, [{"message": f"item {n}"} for n in range(3)]):
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
    found = await client.errors(task=broken, since="1h")
    assert [(each.code, each.count) for each in found.errors] == [("ValueError", 3)]
    would = await client.retry(status="failed", task=broken, dry_run=True)
    assert (would.matched, would.retried) == (3, 0)
    done = await client.retry(status="failed", task=broken)
    assert (done.matched, done.retried, len(done.jobs)) == (3, 3, 3)
    one = await client.retry(done.jobs[0]) if await over(client, done.jobs[0]) else None
    assert one is not None
    assert one.retried == 1


async def over(client: AsyncClient, job_id: str) -> bool:
    """Whether a job is over, after a while."""
    with contextlib.suppress(JobFailed):
        await client.job(job_id).result(timeout=10)
    return (await client.job(job_id).document()).over


async def test_the_service_tells_about_itself(client: AsyncClient) -> None:
    """Its tasks, schedules, figures and processes; pausing is kept."""
    tasks = await client.tasks()
    assert [each.name for each in tasks] == [
        "broken", "held", "login", "long_task", "nightly", "report",
    ]  # fmt: skip
    document = await client.task(report)
    assert document.arguments["properties"]["month"] == {"type": "integer"}
    assert (await client.pause(report)).paused
    waiting = await client.start(report, 3)
    assert not (await client.resume("report")).paused
    assert await waiting.result(timeout=10) == Summary(3, 30)
    [schedule] = await client.schedules()
    assert (schedule.task, schedule.every) == ("nightly", 86_400.0)
    assert len(schedule.next) == 5
    assert await (await client.run_schedule(nightly)).result(timeout=10) == "done"
    stats = await client.stats()
    assert stats.counts["succeeded"] == 2
    assert stats.tasks["report"].run.p50 is not None
    workers = await client.workers()
    assert all(each.id for each in workers)


@pytest.mark.slow
async def test_a_start_over_a_network_that_loses_answers_is_one_start() -> None:
    """Two hundred starts, half of whose requests or answers are lost, are two hundred jobs."""
    chance = random.Random(3)  # noqa: S311 - the same losses each time

    def fate() -> str:
        return chance.choice(["pass", "pass", "request", "answer"])

    async with serving(report, nightly) as api:
        network = Droppy(httpx2.ASGITransport(app=api.app), fate)  # type: ignore[arg-type]
        async with AsyncClient("http://localhost", transport=network) as client:
            client._link.pace = Pace(first=0.001, longest=0.01)
            handles = await asyncio.gather(*(client.start(report, n % 12) for n in range(200)))
        assert len({each.id for each in handles}) == 200
        assert await api.count() == 200
        assert network.lost > 100


async def test_a_mounted_app_is_reached_below_its_prefix() -> None:
    """With the links of its pages, which name it too."""
    app = Quart(__name__)
    jobs = Jobs(app, url_prefix="/background")

    @jobs.task
    async def double(number: int) -> int:
        return 2 * number

    async with app.test_app():
        transport = httpx2.ASGITransport(app=app)  # type: ignore[arg-type]
        async with AsyncClient("http://localhost/background/", transport=transport) as client:
            handles = await client.start_many(double, [{"number": n} for n in range(130)])
            assert len([each async for each in client.jobs()]) == len(handles)
            assert await handles[7].result(timeout=10) == 14
