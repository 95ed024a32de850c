"""GET /jobs, /jobs/{id} and /jobs/{id}/result, and POST /jobs/{id}/retry."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from quart_app import Context, task
from quart_app.testing import wait_until
from tests.http.support import Api, Stage, checked, problem, serving


@task(tags=["sum", "fast"])
async def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@task
async def echo(value: Any = None) -> Any:
    """Return what was given."""
    return value


@task
async def broken(message: str = "no paper") -> None:
    """Fails."""
    raise ValueError(message)


@task(timeout=5)
async def nap(seconds: float = 3.0) -> str:
    """Sleep."""
    await asyncio.sleep(seconds)
    return "rested"


@task
async def steps(context: Context) -> None:
    """Tells how far it is."""
    context.progress(3, 8, "step 3 of 8")
    await asyncio.Event().wait()


async def ended(api: Api, name: str, args: Any = None) -> dict[str, Any]:
    """The document of a job that is over."""
    return await api.job((await api.start(name, args))["id"], wait=20)


class TestOneJob:
    async def test_a_succeeded_job_shows_its_result_and_no_error(self) -> None:
        """200 with the whole document."""
        async with serving(add) as api:
            document = await ended(api, "add", {"a": 2})
            assert document["status"] == "succeeded"
            assert document["result"] == 3
            assert document["args"] == {"a": 2, "b": 1}
            assert document["tags"] == ["sum", "fast"]
            assert (document["attempt"], document["max_attempts"]) == (1, 1)
            assert document["reason"] is None

    async def test_a_job_that_returned_nothing_has_the_result_null(self) -> None:
        """The member is there: that is how success is told from anything else."""
        async with serving(echo) as api:
            assert (await ended(api, "echo"))["result"] is None

    async def test_a_failed_job_shows_its_error_and_no_result(self) -> None:
        """A code and a sentence; the traceback is in the log."""
        async with serving(broken) as api:
            document = await ended(api, "broken")
            assert (document["status"], document["reason"]) == ("failed", "error")
            assert document["error"] == {"code": "ValueError", "message": "no paper"}

    async def test_debug_shows_the_traceback(self) -> None:
        """Only where the operator switched debugging on."""
        async with serving(broken, debug="on") as api:
            job_id = (await api.start("broken"))["id"]
            answer = await api.get(f"/jobs/{job_id}", Prefer="wait=5")
            assert "raise ValueError" in answer.json["error"]["traceback"]

    @pytest.mark.virtual
    async def test_a_job_that_ran_out_of_time_says_so(self) -> None:
        """failed, reason timeout, TimeoutError."""
        async with serving(nap) as api:
            document = await ended(api, "nap", {"seconds": 60})
            assert (document["status"], document["reason"]) == ("failed", "timeout")
            assert document["error"]["code"] == "TimeoutError"

    async def test_an_unknown_job_is_404(self) -> None:
        """Whatever the id looks like, and the answer never echoes megabytes of it."""
        async with serving(add) as api:
            for job_id in ("nobody", "x" * 5_000, "%00", "%ff", "a%2Fb", "..%2F"):
                problem(answer := await api.get(f"/jobs/{job_id}"), 404)
                assert len(answer.body) < 400

    async def test_an_expired_job_is_404(self) -> None:
        """Its record was kept as long as the operator said."""
        async with serving(add, retain_count=0) as api:
            job_id = (await api.start("add", {"a": 1}))["id"]
            await api.job(job_id, wait=5)
            assert api.jobs.parts is not None
            await api.jobs.parts.upkeep.prune()
            problem(await api.get(f"/jobs/{job_id}"), 404)
            problem(await api.get(f"/jobs/{job_id}/result"), 404)
            problem(await api.post(f"/jobs/{job_id}/retry"), 404)

    async def test_retry_after_is_there_until_the_job_is_over(self, stage: Stage) -> None:
        """200 always; pollers know from the header when another look is worth it."""
        async with serving(stage.held) as api:
            job_id = (await api.start("held"))["id"]
            answer = await api.get(f"/jobs/{job_id}")
            assert (answer.status, answer.headers["Retry-After"]) == (200, "1")
            assert "Location" not in answer.headers
            stage.end(job_id)
            answer = await api.get(f"/jobs/{job_id}", Prefer="wait=5")
            assert answer.status == 200
            assert "Retry-After" not in answer.headers

    async def test_progress_and_message_are_shown(self) -> None:
        """0 to 100 percent, and the task's own words."""
        async with serving(steps) as api:
            job_id = (await api.start("steps"))["id"]

            async def told() -> bool:
                return (await api.job(job_id))["progress"] is not None

            await wait_until(told, "progress is shown")
            document = await api.job(job_id)
            assert (document["progress"], document["message"]) == (37.5, "step 3 of 8")

    async def test_eta_and_retry_after_come_from_what_the_task_was_seen_to_take(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without any experience 1 second and no eta; with some, the usual duration."""
        async with serving(add, nap) as api:
            first = await api.start("nap", {"seconds": 0.02})
            assert first["eta"] is None
            await api.job(first["id"], wait=5)
            monkeypatch.setattr(api.service.durations, "typical", lambda task: 7.2)
            answer = await api.post("/start/nap", {"seconds": 3})
            assert answer.headers["Retry-After"] == "8"
            job_id = answer.json["id"]

            async def running() -> bool:
                return bool((await api.job(job_id))["status"] == "running")

            await wait_until(running, "the job runs")
            document = await api.job(job_id)
            assert document["started"] < document["eta"]
            assert (await api.get(f"/jobs/{job_id}")).headers["Retry-After"] in ("7", "8")

    async def test_every_status_has_its_document(self, stage: Stage) -> None:
        """Queued, running and the three ends: the same members, and times as they come."""
        async with serving(stage.held, broken, max_running=1) as api:
            first = (await api.start("held"))["id"]
            second = (await api.start("held"))["id"]

            async def running() -> bool:
                return bool((await api.job(first))["status"] == "running")

            await wait_until(running, "the first runs")
            queued, runs = await api.job(second), await api.job(first)
            assert (queued["status"], queued["started"], queued["attempt"]) == ("queued", None, 0)
            assert (runs["status"], runs["attempt"], runs["finished"]) == ("running", 1, None)
            stage.end(first, {"a": [1, 2.5, None, True, "ü"]})
            done = await api.job(first, wait=5)
            assert done["result"] == {"a": [1, 2.5, None, True, "ü"]}
            stage.fail(second, KeyError("k"))
            assert (await api.job(second, wait=5))["error"] == {
                "code": "KeyError",
                "message": "'k'",
            }


class TestLongPoll:
    @pytest.mark.virtual
    async def test_a_long_poll_ends_when_the_job_ends(self) -> None:
        """200 with the final document, as soon as there is one."""
        async with serving(nap) as api:
            job_id = (await api.start("nap", {"seconds": 3}))["id"]
            answer = await api.get(f"/jobs/{job_id}", Prefer="wait=10")
            assert asyncio.get_running_loop().time() == pytest.approx(3, abs=0.1)
            assert checked(answer.json)["status"] == "succeeded"
            assert answer.headers["Preference-Applied"] == "wait=10"

    @pytest.mark.virtual
    async def test_a_long_poll_gives_up_after_its_wait(self) -> None:
        """200 with the document as it is then."""
        async with serving(nap) as api:
            job_id = (await api.start("nap", {"seconds": 60}))["id"]
            answer = await api.get(f"/jobs/{job_id}", Prefer="wait=2")
            assert asyncio.get_running_loop().time() == pytest.approx(2, abs=0.1)
            assert checked(answer.json)["status"] == "running"

    @pytest.mark.virtual
    async def test_a_long_poll_never_waits_over_20_s(self, stage: Stage) -> None:
        """Whatever was asked for; the applied wait is named."""
        async with serving(stage.held) as api:
            job_id = (await api.start("held"))["id"]
            answer = await api.get(f"/jobs/{job_id}", Prefer="wait=3600")
            assert asyncio.get_running_loop().time() == pytest.approx(20, abs=0.1)
            assert answer.headers["Preference-Applied"] == "wait=20"

    async def test_a_job_that_is_over_is_not_waited_for(self) -> None:
        """The answer comes at once."""
        async with serving(add) as api:
            job_id = (await ended(api, "add", {"a": 1}))["id"]
            began = asyncio.get_running_loop().time()
            await api.job(job_id, wait=20)
            assert asyncio.get_running_loop().time() - began < 5

    async def test_long_polls_end_when_the_shutdown_begins(self, stage: Stage) -> None:
        """Whoever waits is let go with the document as it is; later ones do not wait at all."""
        async with serving(stage.held) as api:
            job_id = (await api.start("held"))["id"]
            polls = [asyncio.create_task(api.job(job_id, wait=20)) for _ in range(5)]
            polls.append(asyncio.create_task(api.job(job_id, wait=20)))
            await wait_until(lambda: api.service.hub.watchers == 6, "all wait")
            api.jobs.begin_close()
            async with asyncio.timeout(1):
                documents = await asyncio.gather(*polls)
                assert {document["status"] for document in documents} == {"running"}
                assert (await api.job(job_id, wait=20))["status"] == "running"
                answer = await api.get(f"/jobs/{job_id}/result", Prefer="wait=20")
                assert (answer.status, checked(answer.json)["status"]) == (202, "running")
            assert api.service.hub.watchers == 0

    async def test_a_client_that_goes_away_leaves_no_watcher(self, stage: Stage) -> None:
        """A long poll whose connection is lost is forgotten."""
        async with serving(stage.held) as api:
            job_id = (await api.start("held"))["id"]
            headers = {"Prefer": "wait=20"}
            async with api.client.request(f"/jobs/{job_id}", headers=headers) as connection:
                await connection.send_complete()
                await wait_until(lambda: api.service.hub.watchers == 1, "it waits")
                await connection.disconnect()
                await wait_until(lambda: api.service.hub.watchers == 0, "it is forgotten")
            assert (await api.job(job_id))["status"] == "running"


class TestResult:
    @pytest.mark.parametrize(
        "value", [None, 0, "text", [], {"a": {"b": [1.5, "ü", None]}}, True, 2**70], ids=str
    )
    async def test_the_result_is_exactly_what_was_returned(self, value: Any) -> None:
        """200 and nothing around it."""
        async with serving(echo) as api:
            job = await ended(api, "echo", {"value": value})
            answer = await api.get(f"/jobs/{job['id']}/result")
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.json == value

    async def test_an_unfinished_job_is_202_with_its_document(self, stage: Stage) -> None:
        """202, Retry-After and Location: look again later."""
        async with serving(stage.held) as api:
            job_id = (await api.start("held"))["id"]
            answer = await api.get(f"/jobs/{job_id}/result")
            assert answer.status == 202
            assert checked(answer.json)["id"] == job_id
            assert answer.headers["Location"] == answer.json["url"]
            assert answer.headers["Retry-After"] == "1"

    @pytest.mark.virtual
    async def test_the_result_can_be_waited_for(self) -> None:
        """Prefer: wait as everywhere: 200 when it came in time, else 202."""
        async with serving(nap) as api:
            job_id = (await api.start("nap", {"seconds": 3}))["id"]
            answer = await api.get(f"/jobs/{job_id}/result", Prefer="wait=2")
            assert answer.status == 202
            assert answer.headers["Preference-Applied"] == "wait=2"
            answer = await api.get(f"/jobs/{job_id}/result", Prefer="wait=2")
            assert (answer.status, answer.json) == (200, "rested")

    async def test_a_failed_job_has_no_result_409(self) -> None:
        """409 job-failed with code and message: 5xx would be retried by clients."""
        async with serving(broken) as api:
            job = await ended(api, "broken")
            found = problem(await api.get(f"/jobs/{job['id']}/result"), 409, "job-failed")
            assert found["error"] == {"code": "ValueError", "message": "no paper"}
            assert found["reason"] == "error"
            assert "no paper" in found["detail"]

    async def test_a_canceled_job_has_no_result_409(self, stage: Stage) -> None:
        """409 job-canceled."""
        async with serving(stage.held) as api:
            job_id = (await api.start("held"))["id"]
            await api.post(f"/cancel/{job_id}")
            await api.job(job_id, wait=5)
            found = problem(await api.get(f"/jobs/{job_id}/result"), 409, "job-canceled")
            assert found["reason"] == "requested"

    async def test_an_unknown_job_has_no_result_404(self) -> None:
        """404."""
        async with serving(add) as api:
            problem(await api.get("/jobs/nobody/result"), 404)


class TestRetry:
    async def test_a_job_that_is_over_can_be_run_again_as_a_new_one(self) -> None:
        """202 with a new job that names the old one; the old one is left as it is."""
        async with serving(broken) as api:
            old = await ended(api, "broken", {"message": "first"})
            answer = await api.post(f"/jobs/{old['id']}/retry")
            assert answer.status == 202
            new = checked(answer.json)
            assert new["id"] != old["id"]
            assert (new["retry_of"], new["args"], new["task"]) == (
                old["id"],
                {"message": "first"},
                "broken",
            )
            assert answer.headers["Location"] == new["url"]
            assert answer.headers["Operation-Location"] == new["url"]
            assert answer.headers["Retry-After"] == "1"
            assert await api.job(old["id"]) == old
            again = await api.job(new["id"], wait=5)
            assert (again["status"], again["attempt"]) == ("failed", 1)

    async def test_arguments_can_be_changed_and_the_line_of_jobs_is_kept(self) -> None:
        """Only what is named changes; a retry of a retry names its own parent."""
        async with serving(add) as api:
            first = await ended(api, "add", {"a": 1, "b": 5})
            second = (await api.post(f"/jobs/{first['id']}/retry", {"a": 10})).json
            assert second["args"] == {"a": 10, "b": 5}
            assert (await api.job(second["id"], wait=5))["result"] == 15
            third = (await api.post(f"/jobs/{second['id']}/retry", {})).json
            assert third["args"] == {"a": 10, "b": 5}
            assert (second["retry_of"], third["retry_of"]) == (first["id"], second["id"])

    async def test_a_canceled_job_can_be_run_again(self, stage: Stage) -> None:
        """Terminal is final, and so is the old record."""
        async with serving(stage.held) as api:
            job_id = (await api.start("held"))["id"]
            await api.post(f"/cancel/{job_id}")
            await api.job(job_id, wait=5)
            assert (await api.post(f"/jobs/{job_id}/retry")).status == 202
            assert (await api.job(job_id))["status"] == "canceled"

    async def test_a_job_that_is_not_over_is_409(self, stage: Stage) -> None:
        """409 not-finished with Retry-After; nothing is started."""
        async with serving(stage.held) as api:
            job_id = (await api.start("held"))["id"]
            answer = await api.post(f"/jobs/{job_id}/retry")
            problem(answer, 409, "not-finished")
            assert answer.headers["Retry-After"] == "1"
            assert await api.count() == 1

    async def test_an_unknown_job_is_404(self) -> None:
        """404."""
        async with serving(add) as api:
            problem(await api.post("/jobs/nobody/retry"), 404)

    async def test_changes_that_do_not_fit_are_422(self) -> None:
        """As at a start: each with its place; a body that is no object is 422 as well."""
        async with serving(add) as api:
            job_id = (await ended(api, "add", {"a": 1}))["id"]
            answer = await api.post(f"/jobs/{job_id}/retry", {"a": "x", "c": 1})
            found = problem(answer, 422, "invalid-arguments")
            assert {each["pointer"] for each in found["errors"]} == {"#/a", "#/c"}
            bodies: list[Any] = [[], [{}], 3, "a"]
            for body in bodies:
                problem(await api.post(f"/jobs/{job_id}/retry", body), 422)
            problem(await api.send(f"/jobs/{job_id}/retry", b"{"), 400)
            problem(await api.send(f"/jobs/{job_id}/retry", b"{}", "text/plain"), 415)
            assert await api.count() == 1

    async def test_no_retry_is_taken_while_the_service_shuts_down(self) -> None:
        """503 draining."""
        async with serving(add) as api:
            job_id = (await ended(api, "add", {"a": 1}))["id"]
            api.jobs.begin_close()
            problem(await api.post(f"/jobs/{job_id}/retry"), 503, "draining")


class TestList:
    async def test_jobs_are_listed_newest_first(self) -> None:
        """200 with documents, and next is null where there are no more."""
        async with serving(add) as api:
            ids = [(await api.start("add", {"a": n}))["id"] for n in range(5)]
            answer = await api.get("/jobs")
            assert [checked(each)["id"] for each in answer.json["jobs"]] == ids[::-1]
            assert answer.json["next"] is None
            assert set(answer.json) == {"jobs", "next"}

    async def test_an_empty_list_is_a_list(self) -> None:
        """No jobs: no error."""
        async with serving(add) as api:
            assert (await api.get("/jobs")).json == {"jobs": [], "next": None}

    async def test_every_filter_narrows_the_list(self, stage: Stage) -> None:
        """status (several, with commas or repeated), task, tag and q, all of which must hold."""
        async with serving(add, broken, stage.held) as api:
            sums = [(await api.start("add", {"a": n, "b": 70}))["id"] for n in (1, 2)]
            bad = (await api.start("broken", {"message": "Out of PAPER"}))["id"]
            held = (await api.start("held", {"label": "paper"}))["id"]
            for job_id in (*sums, bad):
                await api.job(job_id, wait=5)
            for query, expected in {
                "?status=succeeded": sums[::-1],
                "?status=failed,running": [held, bad],
                "?status=failed&status=running": [held, bad],
                "?task=add": sums[::-1],
                "?task=nothing": [],
                "?tag=fast": sums[::-1],
                "?q=paper": [held, bad],
                "?q=PAPER&status=failed": [bad],
                f"?q={bad[-12:]}": [bad],
                "?q=valueerror": [bad],
                "?q=fast": sums[::-1],
                "?q=%22a%22:2": [sums[1]],
                "?status=succeeded&task=broken": [],
                "?limit=2": [held, bad],
            }.items():
                assert await api.list(query) == expected, query

    async def test_a_list_is_read_page_by_page_with_its_filters(self) -> None:
        """next is an absolute URL that keeps filters and limit; each job comes once."""
        async with serving(add, echo) as api:
            ids = [(await api.start("add", {"a": n}))["id"] for n in range(7)]
            await api.start("echo")
            seen: list[str] = []
            following: str | None = (
                "http://localhost/jobs?task=add&limit=3&status=queued,succeeded,running&q=a"
            )
            while following is not None:
                answer = await api.get(following.removeprefix("http://localhost"))
                page = [each["id"] for each in answer.json["jobs"]]
                assert len(page) == min(3, 7 - len(seen))
                seen += page
                query = parse_qs(urlsplit(following).query)
                assert (query["task"], query["limit"], query["q"]) == (["add"], ["3"], ["a"])
                assert len(query.get("cursor", ["first"])) == 1
                following = answer.json["next"]
                await api.start("add", {"a": 99})  # Newer ones do not move the page.
            assert seen == ids[::-1]

    async def test_a_page_that_is_exactly_full_has_no_next(self) -> None:
        """The last page says that it is the last."""
        async with serving(add) as api:
            for n in range(4):
                await api.start("add", {"a": n})
            assert (await api.get("/jobs?limit=4")).json["next"] is None
            assert (await api.get("/jobs?limit=2")).json["next"] is not None

    async def test_fifty_jobs_make_a_page_unless_another_limit_is_asked_for(self) -> None:
        """1 to 100."""
        async with serving(add) as api:
            await api.post("/start/add", [{"a": n} for n in range(101)])
            assert len(await api.list()) == 50
            assert len(await api.list("?limit=100")) == 100
            assert len(await api.list("?limit=1")) == 1

    @pytest.mark.parametrize(
        "query",
        [
            "limit=0", "limit=101", "limit=-1", "limit=ten", "limit=", "limit=1.5", "limit=%D9%A1",
            "limit=99999999999999999999999", "status=done", "status=", "status=queued,",
            "status=Queued", "cursor=0", "cursor=x", "cursor=", "cursor=-1",
            "cursor=99999999999999999999", "page=2", "Status=queued", "=x", "q=a&nothing",
            "task=add&task=echo", "limit=1&limit=2",
        ],
    )  # fmt: skip
    async def test_an_unknown_filter_or_a_wrong_value_is_400(self, query: str) -> None:
        """Never a list that quietly left a filter out."""
        async with serving(add) as api:
            problem(await api.get(f"/jobs?{query}"), 400)

    async def test_any_text_may_be_searched(self) -> None:
        """Bytes that are no text find nothing, and break nothing."""
        async with serving(add) as api:
            await api.start("add", {"a": 1})
            for text in ("%00", "%ff%fe", "%ED%A0%80", "(", "'; drop", "%F0%9F%98%80", "%25"):
                assert await api.list(f"?q={text}") == []
