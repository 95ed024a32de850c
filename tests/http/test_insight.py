"""The routes about many jobs: filters, counts, kinds of errors, retries of all that match, stacks,
schedules, settings."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from quart_app import Context, task
from quart_app.core.pulse import BUCKET, BUCKETS, Pulse
from quart_app.domain.filters import Filter, fingerprint
from quart_app.domain.jobs import Failure, Job
from quart_app.testing import wait_until
from tests.http.support import Api, problem, serving


@task(tags=["monthly"])
async def report(month: int, user: str = "ann", deep: dict[str, Any] | None = None) -> int:
    """Returns the month, and fails in the thirteenth and beyond."""
    if month > 12:
        raise ValueError(f"no month {month} for 'ann'")
    return month


async def _inner(gate: asyncio.Event) -> None:
    await gate.wait()  # The innermost line.


@task
async def stands(job: Context) -> None:
    """Waits in a function of its own."""
    await _inner(asyncio.Event())


@task
def stands_in_a_thread(job: Context) -> None:
    """Waits in a thread until it is canceled."""
    while not job.canceled:
        time.sleep(0.01)  # The line of the thread.


@task(cron="*/15 * * * *", missed="skip")
async def tick() -> str:
    """Starts by itself."""
    return "ticked"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with serving(report, stands, stands_in_a_thread, tick) as api:
        yield api


async def run(api: Api, **arguments: Any) -> str:
    """A job that has ended; its id."""
    answer = await api.ask("POST", "/start/report", json=arguments, headers={"Prefer": "wait=5"})
    return str(answer.json["id"])


async def found(api: Api, filters: str) -> set[int]:
    """The months of the jobs that pass."""
    answer = await api.ask("GET", f"/jobs?{filters}")
    assert answer.status == 200, answer.body
    return {job["args"]["month"] for job in answer.json["jobs"]}


async def test_lists_are_filtered_by_what_no_index_knows(api: Api) -> None:
    """Arguments, nested ones too, errors, keys, how long it ran and since when."""
    for month in (1, 2, 13):
        await run(api, month=month, user="bob" if month == 2 else "ann")
    await run(api, month=3, deep={"a": {"b": True}})
    key = {"Idempotency-Key": "k1"}
    await api.ask("POST", "/start/report", json={"month": 4}, headers=key)
    await wait_until(lambda: api.service.durations.observed("report").count == 4, "ends")
    assert await found(api, "args.month=2") == {2}
    assert await found(api, "args.month=2.0") == {2}
    assert await found(api, "args.user=bob&args.month=2") == {2}
    assert await found(api, "args.user=bob&args.month=1") == set()
    assert await found(api, "args.deep.a.b=true") == {3}
    assert await found(api, "error=NO%20MONTH") == {13}
    assert await found(api, "key=k1") == {4}
    assert await found(api, "longer=60") == set()
    assert await found(api, "shorter=60&since=1h") == {1, 2, 3, 4, 13}
    later = quote((dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat())
    assert await found(api, f"since={later}") == set()
    for written in ("2020-01-31T08:00:00+01:00", "2020-01-31t07:00:00z"):  # The "+" as it is.
        assert len(await found(api, f"since={written}&limit=5")) == 5
    assert await found(api, f"until={later}&limit=2") == {3, 4}


@pytest.mark.parametrize(
    "filters",
    ["since=yesterday", "since=2030-01-31T08:00:00", "longer=-1", "shorter=nan", "longer=x",
     "color=red", "&".join(f"args.a{n}=1" for n in range(11))],
)  # fmt: skip
async def test_a_wrong_filter_is_named(api: Api, filters: str) -> None:
    """With what it may be."""
    answer = await api.ask("GET", f"/jobs?{filters}")
    assert problem(answer, 400)["detail"]


async def test_counts_are_of_what_passes(api: Api) -> None:
    """By status; without filters of all."""
    for month in (1, 2, 13):
        await run(api, month=month)
    everything = (await api.ask("GET", "/jobs/count")).json
    assert everything["total"] == 3
    assert (everything["counts"]["succeeded"], everything["counts"]["failed"]) == (2, 1)
    some = (await api.ask("GET", "/jobs/count?args.month=2&since=1h")).json
    assert (some["total"], some["capped"]) == (1, False)


async def test_kinds_of_errors_are_told_with_their_trend(api: Api) -> None:
    """Errors that differ only in numbers and quoted text are one kind."""
    ids = [await run(api, month=month) for month in (13, 14, 15)]
    answer = (await api.ask("GET", "/errors?since=1h")).json
    [kind] = answer["errors"]
    assert (kind["code"], kind["task"], kind["count"]) == ("ValueError", "report", 3)
    assert kind["jobs"] == ids[::-1]
    assert (sum(kind["trend"]), len(kind["trend"])) == (3, 24)
    assert await found(api, f"error={kind['fingerprint']}") == {13, 14, 15}
    assert (await api.ask("GET", "/errors?task=tick")).json["errors"] == []
    assert problem(await api.ask("GET", "/errors?colour=1"), 400)


async def test_all_that_match_are_retried_once(api: Api) -> None:
    """A dry run counts; what is not over, or does not pass, is left alone."""
    for month in (1, 13, 14):
        await run(api, month=month)
    match = {"status": "failed", "since": "1h"}
    dry = await api.ask("POST", "/retry", json={"match": match, "dry_run": True})
    assert dry.json == {"matched": 2, "retried": 0, "jobs": []}
    done = (await api.ask("POST", "/retry", json={"match": match})).json
    assert (done["matched"], done["retried"], len(done["jobs"])) == (2, 2, 2)
    for job_id in done["jobs"]:
        job = (await api.ask("GET", f"/jobs/{job_id}", headers={"Prefer": "wait=5"})).json
        assert job["retry_of"] is not None
        assert job["status"] == "failed"
    again = await api.ask("POST", "/retry", json={"ids": [done["jobs"][0], "unknown"]})
    assert (again.json["matched"], again.json["retried"]) == (1, 1)


@pytest.mark.parametrize(
    "body", [{}, {"ids": []}, {"ids": [1]}, {"match": {}, "ids": []}, {"match": {"x": 1}}, [],
             {"match": {"args": [1]}}, {"match": {"longer": "x"}}, {"match": {}, "dry_run": 1},
             {"ids": ["a"], "dry_run": True}, {"ids": None, "match": {}}],
)  # fmt: skip
async def test_a_retry_of_many_says_which_it_means(api: Api, body: Any) -> None:
    """An empty list of ids is nobody; else exactly one of ids and match."""
    answer = await api.ask("POST", "/retry", json=body)
    assert answer.status == (200 if body == {"ids": []} else 422)


async def test_the_stack_of_a_running_job_is_its_own_code(api: Api) -> None:
    """From the task's function on, the innermost line last; of a thread, too."""
    for name, where, line in (
        ("stands", "loop", "await gate.wait()  # The innermost line."),
        ("stands_in_a_thread", "thread", "time.sleep(0.01)  # The line of the thread."),
    ):
        job_id = (await api.ask("POST", f"/start/{name}")).json["id"]
        await wait_until(functools.partial(api.service.registry.__contains__, job_id), name)
        lines: list[str] = []
        async with asyncio.timeout(10):
            while line not in lines:
                answer = await api.ask("GET", f"/jobs/{job_id}/stack")
                lines = [each["code"] for each in answer.json["stack"]]
        assert answer.json["where"] == where
        assert answer.json["stack"][0]["function"] == name
        await api.ask("POST", f"/cancel/{job_id}")
        await api.service.wait(job_id, 5)
        assert problem(await api.ask("GET", f"/jobs/{job_id}/stack"), 409, "not-running")
    assert problem(await api.ask("GET", "/jobs/unknown/stack"), 404)


async def test_schedules_are_told_in_words_and_run_by_hand(api: Api) -> None:
    """With the next five moments, and those of a day."""
    [plan] = (await api.ask("GET", "/schedules")).json["schedules"]
    assert plan["words"] == "Every 15th minute of every hour (UTC)"
    assert (len(plan["next"]), len(plan["day"]), plan["paused"]) == (5, 96, False)
    assert plan["next"] == sorted(plan["next"])
    job = await api.ask("POST", "/schedules/tick/run")
    assert job.status == 202
    for name in ("Location", "Operation-Location"):
        assert job.headers[name] == f"http://localhost/jobs/{job.json['id']}"
    assert int(job.headers["Retry-After"]) >= 1
    assert (await api.service.wait(job.json["id"], 5)).result == b'"ticked"'
    assert problem(await api.ask("POST", "/schedules/report/run"), 404, "no-such-task")


async def test_how_the_service_does(api: Api) -> None:
    """Counts, the oldest wait, what ended in the last hour, how long tasks wait and run."""
    await run(api, month=1)
    await run(api, month=13)
    stats = (await api.ask("GET", "/stats")).json
    assert (stats["counts"]["succeeded"], stats["failed_last_hour"]) == (1, 1)
    assert sum(stats["throughput"]["failed"]) == 1
    assert stats["oldest_wait"] is None
    assert stats["tasks"]["report"]["run"]["p50"] >= 0
    assert stats["tasks"]["report"]["wait"]["p95"] >= 0


async def test_settings_say_where_they_came_from(api: Api) -> None:
    """And what they may be."""
    answer = (await api.ask("GET", "/settings")).json
    drain = next(each for each in answer["settings"] if each["name"] == "QUART_APP_DRAIN")
    assert drain["source"] in ("default", "app.config")
    assert {"python", "quart", "hypercorn"} <= set(answer["versions"])
    [worker] = (await api.ask("GET", "/workers")).json["workers"]
    assert worker["kind"] == "web"


def test_a_pulse_goes_on_while_nothing_ends() -> None:
    """Empty buckets are there, and no more than an hour of them."""
    now = [1_000.0]
    pulse = Pulse(lambda: now[0])
    pulse.on_ends([Job(id="a", task="t", status="failed", finished_at=now[0])])
    now[0] += 2.5 * BUCKET
    assert pulse.counts()["failed"] == [1, 0, 0]
    now[0] += 2 * BUCKET * BUCKETS
    assert len(pulse.counts()["failed"]) == BUCKETS
    assert not any(pulse.counts()["failed"])


def test_fingerprints_tell_kinds_apart() -> None:
    """Another code, or another task, is another kind."""
    error = Failure("KeyError", "no user 17")
    assert fingerprint("a", error) != fingerprint("b", error)
    assert fingerprint("a", error) != fingerprint("a", Failure("ValueError", "no user 17"))


def test_a_filter_takes_what_it_cannot_read_for_another() -> None:
    """Arguments that are no JSON, and a job that never began, pass no such filter."""
    assert not Filter(args=(("a", "1"),)).passes(Job(id="a", task="t", args=b"\xff"))
    assert not Filter(longer=0.0).passes(Job(id="a", task="t"))
    assert not Filter(error="x").passes(Job(id="a", task="t"))
