"""GET /start: the tutorial's route, kept to the letter, and never started by accident."""

from __future__ import annotations

import asyncio
import json

import pytest

from quart_app import create_app, task
from tests.http.support import Api, checked, problem, serving


@task
async def needy(month: int) -> int:
    """Cannot be started without arguments."""
    return month


@pytest.mark.virtual
async def test_get_start_answers_to_the_letter_and_the_task_goes_on() -> None:
    """200 at once with the tutorial's words, an id and a url; then queued, running, succeeded."""
    app = create_app()
    async with app.test_app():
        api = Api(app)
        began = asyncio.get_running_loop().time()
        answer = await api.get("/start")
        assert asyncio.get_running_loop().time() == began
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        job_id = answer.json["id"]
        url = f"http://localhost/jobs/{job_id}"
        letter = {"status": "Task started", "id": job_id, "url": url}
        assert answer.body.decode() == json.dumps(letter, separators=(",", ":"))
        assert answer.headers["Location"] == url
        assert answer.headers["Operation-Location"] == url
        assert answer.headers["Retry-After"] == "1"
        job = await api.job(job_id, wait=1)
        assert (job["task"], job["status"], job["args"]) == ("long_task", "running", {})
        job = await api.job(job_id, wait=20)
        assert job["status"] == "succeeded"
        assert asyncio.get_running_loop().time() - began == pytest.approx(5, abs=0.1)


async def test_a_job_is_queued_until_the_answer_has_left() -> None:
    """The status in the first answer is queued: no code of the task has run yet."""
    async with serving() as api:
        assert (await api.start("long_task"))["status"] == "queued"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
async def test_no_other_method_than_get_and_post_starts_the_task(method: str) -> None:
    """A link checker's HEAD and a browser's OPTIONS start nothing."""
    async with serving() as api:
        answer = await api.ask(method, "/start")
        assert answer.status == (200 if method == "OPTIONS" else 405)
        assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))
        assert await api.count() == 0


@pytest.mark.parametrize("name", ["Sec-Purpose", "Purpose"])
@pytest.mark.parametrize("value", ["prefetch", "prefetch;prerender"])
async def test_a_prefetch_starts_nothing(name: str, value: str) -> None:
    """A browser that fetches ahead of any click is refused."""
    async with serving() as api:
        problem(await api.ask("GET", "/start", headers={name: value}), 403, "other-site")
        assert await api.count() == 0


async def test_the_route_can_be_switched_off() -> None:
    """405 with what there still is; POST /start goes on."""
    async with serving(get_start="off") as api:
        for method in ("GET", "HEAD"):
            answer = await api.ask(method, "/start")
            problem(answer, 405)
            assert answer.headers["Allow"] == "OPTIONS, POST"
        assert await api.count() == 0
        assert (await api.post("/start")).status == 202


async def test_another_task_can_be_the_default_one() -> None:
    """QUART_APP_DEFAULT_TASK names what GET /start starts."""

    @task
    async def mine() -> str:
        return "mine"

    async with serving(mine, default_task="mine") as api:
        job = await api.job((await api.get("/start")).json["id"], wait=5)
        assert (job["task"], job["result"]) == ("mine", "mine")


async def test_a_default_task_that_needs_arguments_cannot_be_started_by_get() -> None:
    """422 says which argument is missing; with POST it can be given."""
    async with serving(needy, default_task="needy") as api:
        found = problem(await api.get("/start"), 422, "invalid-arguments")
        assert found["errors"] == [{"pointer": "#/month", "detail": "This argument is required"}]
        assert checked((await api.post("/start", {"month": 3})).json)["args"] == {"month": 3}


async def test_get_start_is_refused_while_the_service_shuts_down() -> None:
    """503 draining with Retry-After."""
    async with serving() as api:
        api.jobs.begin_close()
        answer = await api.get("/start")
        problem(answer, 503, "draining")
        assert answer.headers["Retry-After"] == "1"
