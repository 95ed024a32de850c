"""Everything is bounded: bodies in size and time, the queue, those who wait, results, records."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from quart_app import task
from quart_app.testing import wait_until
from tests.http.support import Answer, Api, Stage, check_answer, problem, serving

LIMIT = 65_536


@task
async def echo(value: Any = None) -> Any:
    """Return what was given."""
    return value


@task
async def grow(size: int) -> str:
    """Return so many characters."""
    return "x" * size


def body_of(size: int) -> bytes:
    """A JSON object of exactly so many bytes."""
    empty = len(json.dumps({"value": ""}))
    return json.dumps({"value": "x" * (size - empty)}).encode()


async def in_parts(api: Api, path: str, parts: list[bytes]) -> Answer:
    """POST a body whose length is not announced."""
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    async with api.client.request(path, method="POST", headers=headers) as connection:
        for part in parts:
            await connection.send(part)
        await connection.send_complete()
    response = await connection.as_response()
    body: bytes = await response.get_data(as_text=False)
    answer = Answer(response.status_code, response.headers, body)
    check_answer(answer)
    return answer


async def test_a_body_may_have_64_kib_and_not_a_byte_more() -> None:
    """413 on every route that reads a body; nothing is started."""
    async with serving(echo) as api:
        assert (await api.send("/start/echo", body_of(LIMIT))).status == 202
        for path in ("/start/echo", "/start", "/cancel", "/jobs/x/retry"):
            found = problem(await api.send(path, body_of(LIMIT + 1)), 413)
            assert "65536" in found["detail"]
        assert await api.count() == 1


async def test_a_body_of_unknown_length_is_bounded_as_it_comes() -> None:
    """Chunked: it is refused when it passes the limit, without waiting for its end."""
    async with serving(echo) as api:
        body = body_of(LIMIT)
        parts = [body[:1], body[1:30_000], body[30_000:]]
        assert (await in_parts(api, "/start/echo", parts)).status == 202
        headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        client = api.client
        async with client.request("/start/echo", method="POST", headers=headers) as connection:
            await connection.send(body_of(LIMIT))
            await connection.send(b" ")  # One more, and no end.
        response = await connection.as_response()
        assert response.status_code == 413
        assert await api.count() == 1


async def test_an_announced_length_is_refused_before_the_body_comes() -> None:
    """Nobody has to send 17 MB to hear that it was too much."""
    async with serving(echo) as api:
        headers = {"Content-Type": "application/json", "Content-Length": "17000000"}
        async with api.client.request("/start/echo", method="POST", headers=headers) as connection:
            pass
        assert (await connection.as_response()).status_code == 413


@pytest.mark.slow
async def test_the_limit_of_bodies_is_a_setting() -> None:
    """QUART_APP_MAX_BODY, also above what the framework allows by itself."""
    async with serving(echo, max_body=100) as api:
        assert (await api.send("/start/echo", body_of(100))).status == 202
        problem(await api.send("/start/echo", body_of(101)), 413)
    async with serving(echo, max_body=20_000_000) as api:
        assert (await api.send("/start/echo", body_of(17_000_000))).status == 202


async def test_a_body_that_does_not_come_in_time_is_408() -> None:
    """A client that sends a byte now and then does not hold a request for long."""
    async with serving(echo) as api:
        api.limit(body_timeout=0.05)
        headers = {"Content-Type": "application/json", "Content-Length": "20"}
        async with api.client.request("/start/echo", method="POST", headers=headers) as connection:
            await connection.send(b'{"value"')
        response = await connection.as_response()
        body: bytes = await response.get_data(as_text=False)
        problem(Answer(response.status_code, response.headers, body), 408)
        assert await api.count() == 0


async def test_a_full_queue_is_503_with_retry_after(stage: Stage) -> None:
    """Running ones do not count; where one is canceled, there is room again."""
    async with serving(stage.held, max_running=1, max_queued=2) as api:
        first = (await api.start("held"))["id"]
        await wait_until(lambda: stage.ran == [first], "the first runs")
        waiting = [(await api.start("held"))["id"] for _ in range(2)]
        for path in ("/start/held", "/start"):
            answer = await api.post(path)
            problem(answer, 503, "queue-full")
            assert answer.headers["Retry-After"] == "1"
        problem(await api.get("/start"), 503, "queue-full")
        await api.post(f"/cancel/{waiting[0]}")
        problem(await api.post(f"/jobs/{waiting[0]}/retry", {"label": 1}), 422, "invalid-arguments")
        assert (await api.post(f"/jobs/{waiting[0]}/retry")).status == 202
        problem(await api.post(f"/jobs/{waiting[0]}/retry"), 503, "queue-full")


async def test_no_more_run_at_once_than_may(stage: Stage) -> None:
    """Those beyond QUART_APP_MAX_RUNNING wait, first come first served."""
    async with serving(stage.held, max_running=2) as api:
        ids = [(await api.start("held"))["id"] for _ in range(4)]
        await wait_until(lambda: len(stage.ran) == 2, "two run")
        assert await api.list("?status=running") == ids[1::-1]
        assert await api.list("?status=queued") == ids[:1:-1]
        stage.end(ids[1])
        await wait_until(lambda: len(stage.ran) == 3, "the third runs")
        assert stage.ran == ids[:3]


async def test_beyond_the_limit_of_waiting_requests_nobody_waits(stage: Stage) -> None:
    """The answer then is the document as it is, at once: the client polls instead."""
    async with serving(stage.held, max_watchers=2) as api:
        job_id = (await api.start("held"))["id"]
        waiting = [asyncio.create_task(api.job(job_id, wait=20)) for _ in range(2)]
        await wait_until(lambda: api.service.hub.full, "two wait")
        async with asyncio.timeout(5):
            assert (await api.job(job_id, wait=20))["status"] == "running"
            answer = await api.post("/start/held", None, Prefer="wait=20")
            assert answer.status == 202
        stage.end(job_id)
        assert {each["status"] for each in await asyncio.gather(*waiting)} == {"succeeded"}
        assert api.service.hub.watchers == 0


async def test_a_result_that_is_too_large_fails_the_job() -> None:
    """failed with ResultTooLarge, and the result is 409: never a cut one."""
    async with serving(grow, max_result=1_000) as api:
        fits = await api.job((await api.start("grow", {"size": 998}))["id"], wait=5)
        assert len(fits["result"]) == 998
        job = await api.job((await api.start("grow", {"size": 999}))["id"], wait=5)
        assert job["error"] == {
            "code": "ResultTooLarge",
            "message": "the result has 1001 bytes of JSON, 1000 are allowed",
        }
        problem(await api.get(f"/jobs/{job['id']}/result"), 409, "job-failed")


@pytest.mark.parametrize(
    ("settings", "kept"),
    [({"retain_count": 2}, 2), ({"retain_age": 0}, 0), ({"retain_bytes": 250}, 2)],
    ids=str,
)
async def test_records_are_kept_by_count_age_and_bytes(settings: Any, kept: int) -> None:
    """The oldest that ended are forgotten first."""
    async with serving(grow, **settings) as api:
        ids = []
        for _ in range(5):
            ids.append((await api.start("grow", {"size": 100}))["id"])
            await api.job(ids[-1], wait=5)
        assert api.jobs.parts is not None
        await asyncio.sleep(0.002)
        await api.jobs.parts.upkeep.prune()
        assert await api.list() == ids[::-1][:kept]
