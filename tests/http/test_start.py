"""POST /start and POST /start/{task}: what starts a job, what waits for it, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
import pytest
from quart import request

from quart_app import task
from tests.http.support import Stage, checked, problem, serving


@task
async def report(month: Annotated[int, msgspec.Meta(ge=1, le=12)], year: int = 2026) -> str:
    """Write a report."""
    return f"{year}-{month:02}"


@task
async def nap(seconds: float = 3.0) -> str:
    """Sleep."""
    await asyncio.sleep(seconds)
    return "rested"


@task(quick=2.0)
async def brisk(seconds: float = 1.0) -> str:
    """Usually done before anybody would ask again."""
    await asyncio.sleep(seconds)
    return "done"


@task
async def broken() -> None:
    """Fails."""
    raise ValueError("no paper")


async def test_a_start_answers_202_with_the_document_and_where_to_look() -> None:
    """202, the job document, Location and Operation-Location (absolute), and when to look."""
    async with serving(report) as api:
        answer = await api.post("/start/report", {"month": 3})
        assert answer.status == 202
        assert answer.headers["Content-Type"] == "application/json"
        document = checked(answer.json)
        assert document["url"] == f"http://localhost/jobs/{document['id']}"
        assert answer.headers["Location"] == document["url"]
        assert answer.headers["Operation-Location"] == document["url"]
        assert answer.headers["Retry-After"] == "1"
        assert "Preference-Applied" not in answer.headers
        assert "Idempotency-Replayed" not in answer.headers


async def test_the_arguments_are_shown_checked_and_with_their_defaults() -> None:
    """The document's args are what the function will get."""
    async with serving(report) as api:
        assert (await api.start("report", {"month": 3}))["args"] == {"month": 3, "year": 2026}


async def test_no_body_is_an_empty_object() -> None:
    """A task without required arguments starts with a bare POST, whatever its content type."""
    async with serving(nap) as api:
        assert (await api.start("nap"))["args"] == {"seconds": 3.0}
        answer = await api.send("/start/nap", b"", "text/plain")
        assert answer.status == 202


async def test_a_hook_of_the_app_may_read_the_body_first() -> None:
    """As one that checks a signature: the route finds all of it."""
    seen: list[str | bytes] = []

    async def check() -> None:
        seen.append(await request.get_data())

    async with serving(report) as api:
        api.app.before_request(check)
        assert (await api.start("report", {"month": 3}))["args"]["month"] == 3
    assert [msgspec.json.decode(each) for each in seen] == [{"month": 3}]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/json;x=y"]
)
async def test_json_may_carry_parameters_in_its_content_type(kind: str) -> None:
    """The media type counts, in any case and with any parameter."""
    async with serving(report) as api:
        assert (await api.send("/start/report", b'{"month": 3}', kind)).status == 202


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"month": 3}', "text/plain"),
        (b'{"month": 3}', "text/plain; x=application/json"),
        (b'{"month": 3}', "application/jsonp"),
        (b'{"month": 3}', ""),
        (b"month=3", "application/x-www-form-urlencoded"),
        (b'--b\r\nContent-Disposition: form-data; name="month"\r\n\r\n3\r\n--b--\r\n',
         "multipart/form-data; boundary=b"),
    ],
)  # fmt: skip
async def test_what_a_form_of_another_site_could_send_is_415(body: bytes, kind: str) -> None:
    """Only application/json is read; a form or plain text starts nothing."""
    async with serving(report) as api:
        problem(await api.send("/start/report", body, kind), 415)
        assert await api.count() == 0


async def test_a_body_that_is_packed_is_415() -> None:
    """Whatever it is; the answer says how to send it."""
    async with serving(report) as api:
        for coding in ("gzip", "br", "gzip, identity"):
            answer = await api.post("/start/report", {"month": 3}, Content_Encoding=coding)
            assert coding in problem(answer, 415)["detail"]
        assert await api.count() == 0
        answer = await api.post("/start/report", {"month": 3}, Content_Encoding="identity")
        assert answer.status == 202


async def test_an_unknown_task_is_404_and_names_those_that_there_are() -> None:
    """404 no-such-task."""
    async with serving(report, nap) as api:
        found = problem(await api.post("/start/rapport", {"month": 3}), 404, "no-such-task")
        assert "rapport" in found["detail"]
        assert "nap, report" in found["detail"]


@pytest.mark.parametrize(
    ("args", "pointers"),
    [
        ({}, ["#/month"]),
        ({"month": 13}, ["#/month"]),
        ({"month": "3"}, ["#/month"]),
        ({"month": 3, "yaer": 2026}, ["#/yaer"]),
        ({"year": None}, ["#/month", "#/year"]),
        ({"month": 3, "a/b~c": 1}, ["#/a~1b~0c"]),
        (3, ["#"]),
        ("month", ["#"]),
        (True, ["#"]),
    ],
)
async def test_arguments_that_do_not_fit_are_422_each_with_its_place(
    args: Any, pointers: list[str]
) -> None:
    """422 invalid-arguments names every misfit by JSON Pointer; nothing is started."""
    async with serving(report) as api:
        found = problem(await api.post("/start/report", args), 422, "invalid-arguments")
        assert sorted(each["pointer"] for each in found["errors"]) == sorted(pointers)
        assert all(each["detail"] for each in found["errors"])
        assert await api.count() == 0


async def test_a_service_that_shuts_down_answers_503_draining() -> None:
    """New jobs are refused with Retry-After; what there is can still be looked at."""
    async with serving(report) as api:
        job = await api.start("report", {"month": 3})
        api.jobs.begin_close()
        for path in ("/start/report", "/start"):
            answer = await api.post(path, {"month": 3} if "report" in path else None)
            problem(answer, 503, "draining")
            assert answer.headers["Retry-After"] == "1"
        assert (await api.job(job["id"]))["id"] == job["id"]


async def test_a_service_without_its_store_answers_503() -> None:
    """A store that does not answer is 503 store-unavailable on every route that needs it."""
    async with serving(report) as api:
        store = api.service.store
        await store.close()
        for method, path in [
            ("POST", "/start/report"), ("POST", "/cancel/x"), ("GET", "/jobs"),
            ("GET", "/jobs/x"), ("GET", "/jobs/x/result"), ("POST", "/jobs/x/retry"),
            ("GET", "/readyz"), ("GET", "/start"),
        ]:  # fmt: skip
            json = {"month": 3} if path == "/start/report" else None
            problem(await api.ask(method, path, json=json), 503, "store-unavailable")
        await store.open()


async def test_post_start_starts_the_default_task() -> None:
    """POST /start is POST /start/{task} for the default task, with its arguments."""
    async with serving(report, default_task="report") as api:
        answer = await api.post("/start", {"month": 5})
        assert answer.status == 202
        assert checked(answer.json)["task"] == "report"
        assert answer.json["args"] == {"month": 5, "year": 2026}
        many = await api.post("/start", [{"month": 1}, {"month": 2}])
        assert [each["args"]["month"] for each in many.json["jobs"]] == [1, 2]


@pytest.mark.virtual
async def test_prefer_wait_answers_200_with_the_job_that_ended() -> None:
    """Whoever waits long enough gets the finished job, and is told that the wait was honoured."""
    async with serving(nap) as api:
        answer = await api.post("/start/nap", {"seconds": 3}, Prefer="wait=5")
        assert answer.status == 200
        document = checked(answer.json)
        assert (document["status"], document["result"]) == ("succeeded", "rested")
        assert answer.headers["Preference-Applied"] == "wait=5"
        assert "Location" not in answer.headers
        assert "Retry-After" not in answer.headers


@pytest.mark.virtual
async def test_a_wait_that_was_too_short_is_202() -> None:
    """The job goes on; the answer says where."""
    async with serving(nap) as api:
        answer = await api.post("/start/nap", {"seconds": 9}, Prefer="wait=5")
        assert answer.status == 202
        assert checked(answer.json)["status"] == "running"
        assert answer.headers["Preference-Applied"] == "wait=5"
        assert answer.headers["Location"] == answer.json["url"]
        assert asyncio.get_running_loop().time() == pytest.approx(5, abs=0.1)


async def test_a_job_that_failed_while_waited_for_is_200() -> None:
    """The request was answered in full: the job is over, and its document says how."""
    async with serving(broken) as api:
        answer = await api.post("/start/broken", None, Prefer="wait=5")
        assert answer.status == 200
        document = checked(answer.json)
        assert (document["status"], document["reason"]) == ("failed", "error")
        assert document["error"] == {"code": "ValueError", "message": "no paper"}


@pytest.mark.virtual
async def test_no_request_waits_longer_than_20_seconds() -> None:
    """A longer wait is cut, and Preference-Applied says to what."""
    async with serving(nap) as api:
        answer = await api.post("/start/nap", {"seconds": 900}, Prefer=f"wait={'9' * 400}")
        assert answer.status == 202
        assert answer.headers["Preference-Applied"] == "wait=20"
        assert asyncio.get_running_loop().time() == pytest.approx(20, abs=0.1)


@pytest.mark.virtual
@pytest.mark.parametrize(
    ("header", "applied", "status"),
    [
        ("wait=5", "wait=5", 200),
        ("WAIT = 5", "wait=5", 200),
        ('wait="5"', "wait=5", 200),
        ("wait=5; strict", "wait=5", 200),
        ("return=minimal, wait=5", "wait=5", 200),
        ("respond-async, wait=5", "respond-async, wait=5", 200),
        ("wait=5, wait=0", "wait=5", 200),
        ("wait=0", "wait=0", 202),
        ("respond-async", "respond-async", 202),
        ("wait", None, 202),
        ("wait=-1", None, 202),
        ("wait=1.5", None, 202),
        ("wait=\u0661", None, 202),
        ("wait=soon", None, 202),
        ("return=minimal", None, 202),
        ("", None, 202),
    ],
)
async def test_prefer_is_read_as_rfc_7240_has_it(
    header: str, applied: str | None, status: int
) -> None:
    """The first of two counts, and what is unknown or malformed is left out of account."""
    async with serving(nap) as api:
        answer = await api.post("/start/nap", {"seconds": 3}, Prefer=header)
        assert answer.status == status
        assert answer.headers.get("Preference-Applied") == applied


@pytest.mark.virtual
async def test_a_quick_task_waits_for_its_own_end() -> None:
    """Within the task's ``quick`` time the answer is 200 although nobody asked for a wait."""
    async with serving(brisk) as api:
        answer = await api.post("/start/brisk", {"seconds": 1})
        assert answer.status == 200
        assert checked(answer.json)["result"] == "done"
        assert "Preference-Applied" not in answer.headers


@pytest.mark.virtual
async def test_a_quick_task_that_takes_longer_is_202_after_its_quick_time() -> None:
    """Whoever starts it is not kept waiting."""
    async with serving(brisk) as api:
        answer = await api.post("/start/brisk", {"seconds": 60})
        assert (answer.status, answer.json["status"]) == (202, "running")
        assert asyncio.get_running_loop().time() == pytest.approx(2, abs=0.1)


@pytest.mark.virtual
@pytest.mark.parametrize("preference", ["respond-async", "wait=0"])
async def test_a_client_may_refuse_to_wait_for_a_quick_task(preference: str) -> None:
    """The request's own preference wins over the task's."""
    async with serving(brisk) as api:
        assert (await api.post("/start/brisk", None, Prefer=preference)).status == 202


async def test_an_array_starts_one_job_for_each_of_its_objects() -> None:
    """202 with the documents in the array's order."""
    async with serving(report) as api:
        answer = await api.post("/start/report", [{"month": month} for month in (3, 1, 2)])
        assert answer.status == 202
        assert list(answer.json) == ["jobs"]
        documents = [checked(each) for each in answer.json["jobs"]]
        assert [each["args"]["month"] for each in documents] == [3, 1, 2]
        assert len({each["id"] for each in documents}) == 3
        results = [(await api.job(each["id"], wait=5))["result"] for each in documents]
        assert results == ["2026-03", "2026-01", "2026-02"]


async def test_an_empty_array_starts_nothing() -> None:
    """No objects, no jobs."""
    async with serving(report) as api:
        answer = await api.post("/start/report", [])
        assert (answer.status, answer.json) == (202, {"jobs": []})
        assert await api.count() == 0


async def test_of_an_array_with_a_misfit_nothing_is_started_and_the_index_is_named() -> None:
    """All or none: 422 names each misfit by index and argument."""
    async with serving(report) as api:
        batch = [{"month": 1}, {"month": 0}, 7, {"month": 2, "x": 1}]
        found = problem(await api.post("/start/report", batch), 422, "invalid-arguments")
        assert [each["pointer"] for each in found["errors"]] == ["#/1/month", "#/2", "#/3/x"]
        assert await api.count() == 0


async def test_an_array_for_which_there_is_no_room_starts_nothing(stage: Stage) -> None:
    """All or none also where the queue would be full half-way."""
    async with serving(stage.held, max_running=1, max_queued=3) as api:
        answer = await api.post("/start/held", [{}] * 4)
        problem(answer, 503, "queue-full")
        assert await api.count() == 0
        assert (await api.post("/start/held", [{}] * 3)).status == 202
