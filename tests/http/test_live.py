"""What a job says, shows and leaves behind: log, secrets, stream, timeline, metrics, over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any

import pytest

from quart_app import Context, Secret, task
from quart_app.testing import wait_until
from tests.http.support import Api, problem, serving

TOLD = logging.getLogger("tests.told")
SECRET = "hunter2-hunter2"


@task
async def talks(ctx: Context, lines: int = 3) -> str:
    """Says something in every way."""
    TOLD.warning("number %d", 0)
    for number in range(1, lines):
        print("number", number)  # noqa: T201
    return "said"


@task
def in_thread() -> None:
    """Says it in a thread."""
    print("from a thread")  # noqa: T201
    TOLD.error("and an error")


@task
async def logs_in(ctx: Context, user: str, password: Secret) -> None:
    """Fails with its secret on its lips."""
    print("password is", password.reveal())  # noqa: T201
    ctx.progress(1, 2, f"with {password.reveal()}")
    await asyncio.sleep(0)
    raise ValueError(f"{user} may not log in with {password.reveal()}")


@task
async def waits(ctx: Context) -> None:
    """Says that it is there, and waits to be stopped."""
    print("here")  # noqa: T201
    await asyncio.Event().wait()


async def log_of(api: Api, job_id: str, query: str = "") -> list[dict[str, Any]]:
    """The lines of a job's log."""
    answer = await api.get(f"/jobs/{job_id}/log{query}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/jsonl"
    return [json.loads(line) for line in answer.body.splitlines()]


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_what_a_job_says_is_its_log(store: str, tmp_path: Any) -> None:
    """With level and number, in order, and after any of them only what is new."""
    where = "memory" if store == "memory" else f"sqlite:///{tmp_path}/jobs.db"
    async with serving(talks, in_thread, store=where) as api:
        job = await api.start("talks")
        await api.job(job["id"], wait=10)
        lines = await log_of(api, job["id"])
        assert [line["text"] for line in lines] == ["number 0", "number 1", "number 2"]
        assert [line["level"] for line in lines] == ["warning", "info", "info"]
        assert [line["line"] for line in lines] == [1, 2, 3]
        assert await log_of(api, job["id"], f"?after={lines[1]['seq']}") == lines[2:]
        other = await api.start("in_thread")
        await api.job(other["id"], wait=10)
        told = [(line["level"], line["text"]) for line in await log_of(api, other["id"])]
        assert told == [("info", "from a thread"), ("error", "and an error")]
        assert len(await log_of(api, job["id"])) == 3  # Jobs do not mix.


async def test_the_oldest_lines_are_dropped_and_that_is_said() -> None:
    """The log of a job is bounded; whoever reads it from its beginning is told."""
    async with serving(talks, log_lines=5) as api:
        job = await api.start("talks", {"lines": 20})
        await api.job(job["id"], wait=10)
        first, *lines = await log_of(api, job["id"])
        assert first["level"] == "warning"
        assert first["text"].startswith("15 earlier lines were dropped")
        assert [line["line"] for line in lines] == [16, 17, 18, 19, 20]


async def test_a_log_that_cannot_be_read_is_a_problem() -> None:
    """An unknown job is 404; what is no number is 400."""
    async with serving(talks) as api:
        problem(await api.get("/jobs/unknown/log"), 404)
        problem(await api.get("/jobs/unknown/timeline"), 404)
        job = await api.start("talks")
        problem(await api.get(f"/jobs/{job['id']}/log?after=x"), 400)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_secret_is_shown_nowhere(
    store: str, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in documents, logs, streams, errors and searches, nor in the process's own log."""
    where = "memory" if store == "memory" else f"sqlite:///{tmp_path}/jobs.db"
    async with serving(logs_in, store=where, debug=True) as api:
        started = await api.start("logs_in", {"user": "ann", "password": SECRET})
        assert started["args"] == {"user": "ann", "password": "***"}
        document = (await api.get(f"/jobs/{started['id']}", Prefer="wait=10")).json
        assert "***" in document["error"]["traceback"]
        assert document["error"]["message"] == "ann may not log in with ***"
        assert document["message"] == "with ***"
        paths = ("", "/log", "/events", "/timeline")
        shown = [(await api.get(f"/jobs/{started['id']}{path}")).body for path in paths]
        shown.append((await api.get("/jobs")).body)
        assert not any(SECRET.encode() in body for body in shown)
        assert await api.list(f"?q={SECRET}") == []
        # Else it could be guessed: each guess would be told from the others.
        for name, value in [("password", SECRET), ("password.$secret", SECRET)]:
            assert await api.list(f"?args.{name}={value}") == []
        assert (await api.get("/jobs/count?args.password=***")).json["total"] == 1
        retried = await api.post(f"/jobs/{started['id']}/retry")
        again = (await api.get(f"/jobs/{retried.json['id']}", Prefer="wait=10")).json
        # It was there, and was shown nowhere.
        assert again["error"]["message"] == document["error"]["message"]
    assert SECRET not in caplog.text


async def test_a_stream_tells_versions_and_lines_in_one_order() -> None:
    """Ids grow; a reader that comes back is told what it has missed, and nothing twice."""
    async with serving(talks) as api:
        job = await api.start("talks")
        await api.job(job["id"], wait=10)
        blocks = (await api.get(f"/jobs/{job['id']}/events")).body.decode().split("\n\n")[:-1]
        fields = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
        assert [each.get("event") for each in fields] == ["log", "log", "log", None]
        ids = [int(each["id"]) for each in fields]
        assert ids == sorted(set(ids))
        rest = await api.get(f"/jobs/{job['id']}/events", Last_Event_ID=str(ids[1]))
        assert rest.body.decode().count("event: log") == 1
        over = await api.get(f"/jobs/{job['id']}/events", Last_Event_ID=str(ids[-1]))
        assert over.status == 204


async def test_the_timeline_tells_what_happened() -> None:
    """As JSON, and as a table for people."""
    async with serving(waits) as api:
        job = await api.start("waits")

        async def said() -> bool:
            return bool(await log_of(api, job["id"]))

        await wait_until(said, "it has said so")
        await api.post(f"/cancel/{job['id']}")
        await api.job(job["id"], wait=10)
        rows = (await api.get(f"/jobs/{job['id']}/timeline")).json["timeline"]
        assert [(row["action"], row["where"], row["status"]) for row in rows] == [
            ("opened", "web process", "queued"),
            ("attempt 1 began", "event loop", "running"),
            ("cancel was asked for", "web process", "running"),
            ("canceled", "event loop", "canceled"),
        ]
        assert [row["step"] for row in rows] == [1, 2, 3, 4]
        text = await api.get(f"/jobs/{job['id']}/timeline", Accept="text/plain")
        assert text.headers["content-type"].startswith("text/plain")
        assert text.body.decode().splitlines()[2].split() == [
            *("step", "time", "action", "where", "response", "status")
        ]


async def test_nothing_is_captured_where_that_is_switched_off() -> None:
    """And the streams of the process are as they were."""
    async with serving(talks, capture=False) as api:
        job = await api.start("talks")
        await api.job(job["id"], wait=10)
        assert await log_of(api, job["id"]) == []
    assert not [each for each in threading.enumerate() if each.name.startswith("quart-app-job")]


async def test_metrics_tell_what_there_is() -> None:
    """By task and status; a refusal by its reason."""

    @task(max_waiting=1, limit=1)
    async def bounded() -> None:
        await asyncio.Event().wait()

    async with serving(talks, bounded) as api:
        assert (await api.get("/metrics")).status == 200  # Endings are counted from here on.
        job = await api.start("talks")
        await api.job(job["id"], wait=10)
        for _ in range(2):
            await api.start("bounded")
            await asyncio.sleep(0.05)
        refused = problem(await api.post("/start/bounded"), 429, "too-many-requests")
        assert "1 jobs of 'bounded' wait and 1 may" in refused["detail"]
        text = (await api.get("/metrics")).body.decode()
        assert 'quart_app_jobs{status="succeeded",task="talks"} 1.0' in text
        assert 'quart_app_jobs{status="running",task="bounded"} 1.0' in text
        assert 'quart_app_jobs_ended_total{status="succeeded",task="talks"} 1.0' in text
        assert 'quart_app_refusals_total{reason="too-many-requests"} 1.0' in text
        assert "quart_app_queue_depth 1.0" in text
        assert 'quart_app_job_run_seconds_count{task="talks"} 1.0' in text
