"""``?delay=``, ``?run_at=`` and ``?expires=`` of a start: when its jobs may begin, and until when
they must have."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from quart_app import Context, Retry, RetryAfter, task
from tests.http.support import Api, Stage, checked, problem, serving

NOON = 1_896_091_200.0
"""2030-01-31T12:00:00Z, when these tests begin."""

ran: list[str] = []


@task
async def note(text: str = "") -> str:
    """Write down that it ran."""
    ran.append(text)
    return text


@task(quick=2)
async def brisk() -> str:
    """Usually done before anybody would ask again."""
    return "done"


@task(max_attempts=3, retry=Retry(initial=60, factor=2, jitter=0))
async def stumbles(job: Context, after: float | None = None) -> int:
    """Succeeds at the third attempt."""
    if job.attempt == 3:
        return job.attempt
    raise ValueError("not yet") if after is None else RetryAfter(after, "not yet")


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's clock goes with the event loop's, which in virtual time jumps."""

    def clock() -> float:
        return NOON + asyncio.get_running_loop().time()

    monkeypatch.setattr("quart_app.parts.make_clock", lambda: clock)
    ran.clear()


async def start(api: Api, path: str, args: Any = None, /, **headers: str) -> dict[str, Any]:
    """Start one job; returns its document."""
    answer = await api.post(path, args, **headers)
    assert answer.status == 202, answer.body
    return checked(answer.json)


async def status(api: Api, job: dict[str, Any]) -> str:
    """A job's status at this moment."""
    return str((await api.job(job["id"]))["status"])


@pytest.mark.virtual
class TestLater:
    @pytest.mark.parametrize(
        "query",
        ["delay=90", "delay=90.0", "delay=9e1", "run_at=2030-01-31T12:01:30Z",
         "run_at=2030-01-31T13:01:30%2B01:00", "run_at=2030-01-31T13:01:30+01:00",
         "run_at=2030-01-31t12:01:30.000z"],
    )  # fmt: skip
    async def test_a_job_may_begin_later(self, query: str) -> None:
        """202 with the scheduled document and its moment; none of its code runs before that."""
        async with serving(note) as api:
            job = await start(api, f"/start/note?{query}", {"text": "late"})
            assert (job["status"], job["run_at"]) == ("scheduled", "2030-01-31T12:01:30.000Z")
            assert (job["started"], job["attempt"], job["reason"]) == (None, 0, None)
            assert "expires" not in job
            assert (await api.get("/readyz")).json["jobs"]["scheduled"] == 1
            await asyncio.sleep(89.5)
            assert (await status(api, job), ran) == ("scheduled", [])
            await asyncio.sleep(1)
            done = await api.job(job["id"])
            assert (done["status"], done["result"], ran) == ("succeeded", "late", ["late"])
            assert done["run_at"] <= done["started"] < "2030-01-31T12:01:31"

    @pytest.mark.parametrize(
        "query", ["delay=0", "run_at=2030-01-31T12:00:00Z", "run_at=1999-12-31T23:59:59Z"]
    )
    async def test_a_moment_that_has_come_is_now(self, query: str) -> None:
        """Nobody has to wait for what is due already."""
        async with serving(note) as api:
            job = await start(api, f"/start/note?{query}", {"text": "now"})
            assert (job["status"], job["run_at"]) == ("queued", None)
            assert (await api.job(job["id"], wait=1))["status"] == "succeeded"

    async def test_the_default_task_can_be_started_later(self) -> None:
        """POST /start takes the same options."""
        async with serving(note, default_task="note") as api:
            job = await start(api, "/start?delay=5", {"text": "x"})
            assert (job["task"], job["status"]) == ("note", "scheduled")

    async def test_an_array_can_be_started_later(self) -> None:
        """The options are for each of its jobs; they begin in their order."""
        async with serving(note) as api:
            batch = [{"text": str(n)} for n in range(5)]
            answer = await api.post("/start/note?delay=60&expires=120", batch)
            jobs = [checked(each) for each in answer.json["jobs"]]
            assert (answer.status, len(jobs)) == (202, 5)
            assert {each["status"] for each in jobs} == {"scheduled"}
            assert {each["run_at"] for each in jobs} == {"2030-01-31T12:01:00.000Z"}
            assert {each["expires"] for each in jobs} == {"2030-01-31T12:02:00.000Z"}
            await asyncio.sleep(59)
            assert ran == []
            await asyncio.sleep(2)
            assert ran == ["0", "1", "2", "3", "4"]

    async def test_a_start_with_a_key_is_repeated_with_its_options(self) -> None:
        """The same delay is the same request, however late it is repeated: the job's moment
        stays."""
        async with serving(note) as api:
            path = "/start/note?delay=60"
            job = await start(api, path, {"text": "once"}, Idempotency_Key="k")
            await asyncio.sleep(30)
            again = await api.post(path, {"text": "once"}, Idempotency_Key="k")
            assert (again.status, again.headers["Idempotency-Replayed"]) == (202, "true")
            assert (again.json["id"], again.json["run_at"]) == (job["id"], job["run_at"])
            other = await api.post("/start/note?delay=61", {"text": "once"}, Idempotency_Key="k")
            problem(other, 422, "idempotency-key-reused")
            await asyncio.sleep(31)
            assert ran == ["once"]

    async def test_a_scheduled_job_can_be_canceled(self) -> None:
        """At once, and then it does not run."""
        async with serving(note) as api:
            job = await start(api, "/start/note?delay=60")
            answer = await api.post(f"/cancel/{job['id']}")
            assert (answer.status, answer.json["status"]) == (200, "canceled")
            assert answer.json["reason"] == "requested"
            await asyncio.sleep(100)
            assert ran == []

    async def test_prefer_wait_waits_for_a_scheduled_job_too(self) -> None:
        """200 with its result where it is due and done by then."""
        async with serving(note) as api:
            answer = await api.post("/start/note?delay=5", {"text": "x"}, Prefer="wait=10")
            assert (answer.status, checked(answer.json)["result"]) == (200, "x")
            answer = await api.post("/start/note?delay=15", {"text": "y"}, Prefer="wait=10")
            assert (answer.status, answer.json["status"]) == (202, "scheduled")

    async def test_a_quick_task_is_not_waited_for_where_it_begins_later(self) -> None:
        """The answer comes at once."""
        async with serving(brisk) as api:
            began = asyncio.get_running_loop().time()
            job = await start(api, "/start/brisk?delay=60")
            assert asyncio.get_running_loop().time() - began < 0.1
            assert job["status"] == "scheduled"
            answer = await api.post("/start/brisk?delay=0")
            assert (answer.status, answer.json["result"]) == (200, "done")

    async def test_a_retry_begins_at_once(self) -> None:
        """The options were those of the first start; the arguments are kept."""
        async with serving(note) as api:
            job = await start(api, "/start/note?delay=60&expires=90", {"text": "x"})
            await asyncio.sleep(61)
            answer = await api.post(f"/jobs/{job['id']}/retry")
            again = checked(answer.json)
            assert (again["status"], again["run_at"], "expires" in again) == ("queued", None, False)
            assert (again["retry_of"], again["args"]) == (job["id"], {"text": "x"})


@pytest.mark.virtual
class TestExpires:
    @pytest.mark.parametrize("query", ["expires=30", "expires=2030-01-31T12:00:30Z"])
    async def test_a_job_that_has_not_begun_by_then_fails(self, query: str, stage: Stage) -> None:
        """Failed, reason expired, and it never runs."""
        async with serving(stage.held, note, max_running=1) as api:
            first = await api.start("held")
            job = await start(api, f"/start/note?{query}", {"text": "too late"})
            assert (job["status"], job["expires"]) == ("queued", "2030-01-31T12:00:30.000Z")
            await asyncio.sleep(29)
            assert await status(api, job) == "queued"
            await asyncio.sleep(2.5)
            failed = await api.job(job["id"])
            assert (failed["status"], failed["reason"]) == ("failed", "expired")
            assert failed["error"]["code"] == "Expired"
            assert "2030-01-31T12:00:30" <= failed["finished"] < "2030-01-31T12:00:32"
            result = await api.get(f"/jobs/{job['id']}/result")
            assert problem(result, 409, "job-failed")["reason"] == "expired"
            stage.end(first["id"])
            await asyncio.sleep(10)
            assert ran == []

    async def test_a_job_whose_room_comes_too_late_does_not_begin(self, stage: Stage) -> None:
        """Also where it is found to be late only when its turn has come."""
        async with serving(stage.held, note, max_running=1) as api:
            first = await api.start("held")
            job = await start(api, "/start/note?expires=0.25", {"text": "too late"})
            await asyncio.sleep(0.5)
            stage.end(first["id"])
            await asyncio.sleep(2)
            assert ((await api.job(job["id"]))["reason"], ran) == ("expired", [])

    async def test_a_job_that_has_begun_may_take_its_time(self, stage: Stage) -> None:
        """expires is about the beginning; a timeout is the task's."""
        async with serving(stage.held) as api:
            job = await start(api, "/start/held?expires=5")
            await asyncio.sleep(100)
            assert await status(api, job) == "running"
            stage.end(job["id"], "done")
            await asyncio.sleep(1)
            assert await status(api, job) == "succeeded"

    async def test_what_has_begun_in_time_may_be_tried_again_later(self) -> None:
        """Its further attempts do not expire."""
        async with serving(stumbles) as api:
            job = await start(api, "/start/stumbles?expires=5")
            await asyncio.sleep(200)
            done = await api.job(job["id"])
            assert (done["status"], done["result"]) == ("succeeded", 3)
            assert [each["reason"] for each in done["attempts"]] == ["error", "error"]

    async def test_a_job_may_expire_before_it_is_due(self) -> None:
        """Then it fails while it is scheduled."""
        async with serving(note) as api:
            job = await start(api, "/start/note?delay=60&expires=30")
            assert job["status"] == "scheduled"
            await asyncio.sleep(32)
            assert (await api.job(job["id"]))["reason"] == "expired"
            await asyncio.sleep(60)
            assert ran == []


@pytest.mark.virtual
class TestAttempts:
    async def test_attempts_are_shown_and_the_backoff_is_kept(self) -> None:
        """Scheduled between them, with the reason retry and the moment of the next."""
        async with serving(stumbles) as api:
            job = await start(api, "/start/stumbles")
            await asyncio.sleep(1)
            waits = await api.job(job["id"])
            assert (waits["status"], waits["reason"], waits["attempt"]) == ("scheduled", "retry", 1)
            assert waits["run_at"] == "2030-01-31T12:01:00.000Z"
            [first] = waits["attempts"]
            assert (first["attempt"], first["reason"]) == (1, "error")
            assert first["error"] == {"code": "ValueError", "message": "not yet"}
            await asyncio.sleep(60)
            assert (await api.job(job["id"]))["run_at"] == "2030-01-31T12:03:00.000Z"
            await asyncio.sleep(121)
            done = await api.job(job["id"])
            assert (done["status"], done["attempt"], done["result"]) == ("succeeded", 3, 3)
            assert [each["attempt"] for each in done["attempts"]] == [1, 2]

    async def test_retry_after_sets_the_moment(self) -> None:
        """Whatever the backoff says."""
        async with serving(stumbles) as api:
            job = await start(api, "/start/stumbles", {"after": 7})
            await asyncio.sleep(1)
            assert (await api.job(job["id"]))["run_at"] == "2030-01-31T12:00:07.000Z"
            await asyncio.sleep(15)
            assert await status(api, job) == "succeeded"

    async def test_a_job_between_two_attempts_can_be_canceled(self) -> None:
        """And is not tried again."""
        async with serving(stumbles) as api:
            job = await start(api, "/start/stumbles")
            await asyncio.sleep(1)
            assert (await api.post(f"/cancel/{job['id']}")).json["status"] == "canceled"
            await asyncio.sleep(300)
            canceled = await api.job(job["id"])
            assert (canceled["status"], canceled["attempt"]) == ("canceled", 1)


SECONDS = "seconds, such as 90 or 0.5"
MOMENT = "a moment with a time zone, such as 2030-01-31T08:00:00Z (RFC 3339)"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("delay=", f"delay is {SECONDS}, not ''"),
        ("delay=soon", f"delay is {SECONDS}, not 'soon'"),
        ("delay=1h", f"delay is {SECONDS}, not '1h'"),
        ("delay=1_0", f"delay is {SECONDS}, not '1_0'"),
        ("delay=%D9%A1", f"delay is {SECONDS}, not"),
        ("delay=nan", f"delay is {SECONDS}, not 'nan'"),
        ("delay=inf", f"delay is {SECONDS}, not 'inf'"),
        ("delay=%2B5", f"delay is {SECONDS}, not '+5'"),
        ("delay=2030-01-31T08:00:00Z", f"delay is {SECONDS}, not"),
        ("delay=-1", "delay is 0 to 316224000 seconds, not -1.0"),
        ("delay=316224001", "delay is 0 to 316224000 seconds, not 316224001.0"),
        ("delay=1e999", "delay is 0 to 316224000 seconds, not inf"),
        ("run_at=", f"run_at is {MOMENT}, not ''"),
        ("run_at=tomorrow", f"run_at is {MOMENT}, not 'tomorrow'"),
        ("run_at=90", f"run_at is {MOMENT}, not '90'"),
        ("run_at=2030-02-30T08:00:00Z", f"run_at is {MOMENT}, not"),
        ("run_at=2030-01-31T08:00:00", "run_at needs a time zone, as in 2030-01-31T08:00:00Z"),
        ("run_at=2030-01-31", "run_at needs a time zone, as in 2030-01-31T08:00:00Z"),
        ("run_at=1969-12-31T23:59:59Z", "run_at is a moment of the years 1970 to 9999, not 1969"),
        ("expires=", f"expires is {SECONDS}, or {MOMENT}, not ''"),
        ("expires=never", f"expires is {SECONDS}, or {MOMENT}, not 'never'"),
        ("expires=2030-01-31T08:00:00", "expires needs a time zone, as in 2030-01-31T08:00:00Z"),
        ("expires=-1", "expires is 0 to 316224000 seconds, not -1.0"),
        ("expires=0001-01-01T00:00:00Z", "expires is a moment of the years 1970 to 9999, not 0001"),
        ("delay=1&run_at=2030-01-31T08:00:00Z", "Give delay or run_at, not both"),
        ("delay=1&delay=2", "delay is given more than once"),
        ("wait=5", "There is no option 'wait'; the options of a start are delay, run_at, expires"),
        ("Delay=5", "There is no option 'Delay'"),
        ("text=hello", "arguments go into the body"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_400_and_says_what_may_be(query: str, says: str) -> None:
    """One sentence with the option, what it may be and what it was; nothing is started."""
    async with serving(note, default_task="note") as api:
        for path in ("/start", "/start/note"):
            for body in ({"text": "x"}, [{"text": "x"}]):
                found = problem(await api.post(f"{path}?{query}", body), 400)
                assert says in found["detail"]
        assert await api.count() == 0


async def test_a_long_wrong_value_is_not_sent_back_whole() -> None:
    """Fifty characters are enough to know it again."""
    async with serving(note) as api:
        for name in ("delay", "run_at", "expires"):
            answer = await api.post(f"/start/note?{name}={'x' * 500}")
            assert len(problem(answer, 400)["detail"]) < 250
        assert len(problem(await api.post(f"/start/note?{'x' * 500}=1"), 400)["detail"]) < 250
