"""POST /cancel/{id} and POST /cancel: one job, several, or all that match."""

from __future__ import annotations

from typing import Any

import pytest

from quart_app import task
from quart_app.testing import wait_until
from tests.http.support import Api, Stage, checked, problem, serving


@task
async def work() -> str:
    """Done at once."""
    return "done"


async def running(api: Api, name: str, args: Any = None) -> str:
    """The id of a job whose function has begun."""
    job_id = str((await api.start(name, args))["id"])

    async def begun() -> bool:
        return bool((await api.job(job_id))["status"] == "running")

    await wait_until(begun, "the job runs")
    return job_id


async def test_a_waiting_job_is_canceled_at_once(stage: Stage) -> None:
    """200 with the final document: none of its code has run, and none will."""
    async with serving(stage.held, max_running=1) as api:
        first = await running(api, "held")
        waiting = (await api.start("held"))["id"]
        answer = await api.post(f"/cancel/{waiting}")
        assert answer.status == 200
        document = checked(answer.json)
        assert (document["status"], document["reason"]) == ("canceled", "requested")
        assert document["started"] is None
        assert "Location" not in answer.headers
        stage.end(first)
        await api.job(first, wait=5)
        assert stage.ran == [first]


async def test_a_running_job_is_asked_and_says_so(stage: Stage) -> None:
    """202 with where to look while canceling is under way; canceled when the function has ended."""
    async with serving(stage.held) as api:
        job_id = await running(api, "held")
        answer = await api.post(f"/cancel/{job_id}")
        assert answer.status == 202
        document = checked(answer.json)
        assert document["status"] == "running"
        assert document["cancel_requested"] is not None
        assert answer.headers["Location"] == document["url"]
        assert answer.headers["Operation-Location"] == document["url"]
        assert answer.headers["Retry-After"] == "1"
        ended = await api.job(job_id, wait=5)
        assert (ended["status"], ended["reason"]) == ("canceled", "requested")
        assert ended["cancel_requested"] == document["cancel_requested"]


async def test_canceling_twice_is_harmless_and_answers_the_same(stage: Stage) -> None:
    """Ten cancels of a running job give ten equal answers; so do those of one that is over."""
    async with serving(stage.deaf, grace=60) as api:
        job_id = await running(api, "deaf")
        answers = [await api.post(f"/cancel/{job_id}") for _ in range(10)]
        assert {answer.status for answer in answers} == {202}
        assert len({answer.body for answer in answers}) == 1
        stage.end(job_id, "late")
        ended = await api.job(job_id, wait=5)
        again = [await api.post(f"/cancel/{job_id}") for _ in range(2)]
        assert [answer.status for answer in again] == [200, 200]
        assert [answer.json for answer in again] == [ended, ended]


async def test_a_job_that_ignores_the_cancel_is_never_called_canceled(stage: Stage) -> None:
    """It shows cancel_requested, later unresponsive; what it returns in the end counts."""
    async with serving(stage.deaf, grace=0.02) as api:
        job_id = await running(api, "deaf")
        await api.post(f"/cancel/{job_id}")

        async def unresponsive() -> bool:
            return "unresponsive" in await api.job(job_id)

        await wait_until(unresponsive, "the job is shown as unresponsive")
        document = await api.job(job_id)
        assert (document["status"], document["unresponsive"]) == ("running", True)
        stage.end(job_id, "late")
        ended = await api.job(job_id, wait=5)
        assert (ended["status"], ended["result"]) == ("succeeded", "late")
        assert "unresponsive" not in ended


async def test_an_unknown_id_is_404() -> None:
    """Also in the body of POST /cancel, where only one id is named."""
    async with serving(work) as api:
        problem(await api.post("/cancel/nobody"), 404)
        problem(await api.post("/cancel", {"id": "nobody"}), 404)


async def test_a_single_id_in_the_body_is_as_in_the_path(stage: Stage) -> None:
    """POST /cancel with an id answers the document, 202 or 200."""
    async with serving(stage.held) as api:
        job_id = await running(api, "held")
        answer = await api.post("/cancel", {"id": job_id})
        assert answer.status == 202
        assert checked(answer.json)["id"] == job_id
        assert answer.headers["Location"] == answer.json["url"]
        await api.job(job_id, wait=5)
        answer = await api.post("/cancel", {"id": job_id})
        assert (answer.status, checked(answer.json)["status"]) == (200, "canceled")


async def test_several_ids_are_counted(stage: Stage) -> None:
    """Matched are the known ones, each once; canceled those that are over that way."""
    async with serving(stage.held, work, max_running=1) as api:
        done = (await api.start("work"))["id"]
        await api.job(done, wait=5)
        runs = await running(api, "held")
        waits = (await api.start("held"))["id"]
        ids = [runs, waits, done, "nobody", waits]
        answer = await api.post("/cancel", {"ids": ids})
        assert (answer.status, answer.json) == (200, {"matched": 3, "canceled": 1, "canceling": 1})
        assert (await api.job(done))["status"] == "succeeded"
        assert (await api.post("/cancel", {"ids": []})).json["matched"] == 0


async def test_all_that_match_are_canceled_and_a_dry_run_only_counts(stage: Stage) -> None:
    """The filters are those of GET /jobs; what is over is not matched."""
    async with serving(stage.held, stage.other, work, max_running=1) as api:
        done = (await api.start("work"))["id"]
        await api.job(done, wait=5)
        runs = await running(api, "held", {"label": "red"})
        for args in ({"label": "red"}, {"label": "blue"}):
            await api.start("held", args)
        await api.start("other", {"label": "red"})
        for match, matched in [
            ({}, 4), ({"task": "held"}, 3), ({"tag": "slow"}, 4), ({"tag": "held"}, 3),
            ({"q": "RED"}, 3), ({"status": "running"}, 1), ({"status": ["queued"]}, 3),
            ({"status": ["running", "queued"], "task": "held", "q": "red"}, 2),
            ({"status": "succeeded"}, 0), ({"task": "none"}, 0),
        ]:  # fmt: skip
            answer = await api.post("/cancel", {"match": match, "dry_run": True})
            assert answer.json == {"matched": matched, "canceled": 0, "canceling": 0}, match
        answer = await api.post("/cancel", {"match": {"q": "red"}, "dry_run": False})
        assert answer.json == {"matched": 3, "canceled": 2, "canceling": 1}
        assert (await api.job(runs, wait=5))["status"] == "canceled"
        answer = await api.post("/cancel", {"match": {}})
        assert answer.json["matched"] == 1


async def test_a_cancel_of_more_than_one_page_takes_them_all(stage: Stage) -> None:
    """However many match: hundreds are canceled by one request."""
    async with serving(stage.held, max_running=1) as api:
        await api.post("/start/held", [{}] * 250)
        answer = await api.post("/cancel", {"match": {"task": "held"}})
        assert answer.json["matched"] == 250
        assert answer.json["canceled"] + answer.json["canceling"] == 250


@pytest.mark.parametrize(
    "body",
    [
        {}, [], 3, "id", None, {"id": 1}, {"id": None}, {"ids": "a"}, {"ids": [1]}, {"match": []},
        {"match": "all"}, {"id": "a", "ids": ["b"]}, {"id": "a", "dry_run": True},
        {"ids": ["a"], "dry_run": False}, {"match": {}, "dry_run": 1}, {"match": {}, "x": 1},
        {"match": {"status": []}}, {"match": {"status": "done"}},
        {"match": {"status": [["queued"]]}},
        {"match": {"status": None}}, {"match": {"status": {}}}, {"match": {"task": 1}},
        {"match": {"tag": None}}, {"match": {"q": []}}, {"match": {"limit": 5}},
        {"match": {"cursor": 5}}, {"match": {"nothing": "x"}},
    ],
    ids=str,
)  # fmt: skip
async def test_a_body_that_names_nothing_clear_is_422(body: Any) -> None:
    """Exactly one of id, ids and match, each of its type; dry_run only beside match."""
    async with serving(work) as api:
        problem(await api.ask("POST", "/cancel", json=body or None), 422)
        if not body:
            problem(await api.send("/cancel", b"null"), 422)


async def test_a_cancel_is_read_as_strictly_as_a_start() -> None:
    """400 for what is not JSON, 415 for another content type."""
    async with serving(work) as api:
        problem(await api.send("/cancel", b'{"id": "a", "id": "b"}'), 400)
        problem(await api.send("/cancel", b'{"id": "a"}', "text/plain"), 415)


async def test_canceling_goes_on_while_the_service_shuts_down(stage: Stage) -> None:
    """Shutdown refuses new jobs, not the end of old ones."""
    async with serving(stage.held) as api:
        job_id = await running(api, "held")
        api.jobs.begin_close()
        assert (await api.post(f"/cancel/{job_id}")).status == 202

        async def over() -> bool:
            return bool((await api.job(job_id))["status"] == "canceled")

        await wait_until(over, "the job is canceled")
