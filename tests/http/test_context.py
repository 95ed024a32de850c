"""What a job has of the request that started it: its arguments, and nothing else."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest
from quart import Quart, g, has_request_context, request

from quart_app import Jobs, task
from quart_app.core.reporter import REPORTER
from quart_app.core.service import SERVICE
from quart_app.testing import wait_until
from tests.http.support import Api, Stage, serving

SECRET: contextvars.ContextVar[str] = contextvars.ContextVar("SECRET", default="")


@task
async def snoop() -> list[Any]:
    """Look around for the request."""
    try:
        header = request.headers["Authorization"]
    except RuntimeError:
        header = "out of reach"
    names = sorted(variable.name for variable in contextvars.copy_context())
    return [header, has_request_context(), names, SECRET.get()]


@task
def snoop_in_thread() -> list[Any]:
    """The same from a thread."""
    names = sorted(variable.name for variable in contextvars.copy_context())
    return [has_request_context(), names, SECRET.get()]


async def test_a_job_cannot_reach_the_request_that_started_it() -> None:
    """Headers and body belong to who asked; the job sees neither them nor the view's context."""
    async with serving(snoop, snoop_in_thread) as api:
        SECRET.set("a view's own")
        job = await api.start("snoop", None, Authorization="Bearer secret")
        seen = (await api.job(job["id"], wait=5))["result"]
        assert seen == ["out of reach", False, [REPORTER.name, SERVICE.name], ""]
        job = await api.start("snoop_in_thread", None, Authorization="Bearer secret")
        seen = (await api.job(job["id"], wait=5))["result"]
        assert seen == [False, [REPORTER.name, SERVICE.name], ""]


@pytest.mark.virtual
async def test_a_request_is_freed_while_its_job_goes_on(stage: Stage) -> None:
    """Twenty requests whose jobs run for hours keep no body and no header in memory."""
    app = Quart("shop")
    jobs = Jobs(app, url_prefix="/background")
    held = jobs.task(stage.held.function)
    requests: list[weakref.ref[Any]] = []

    @app.post("/order")
    async def order() -> str:
        await request.get_data()
        g.order = request._get_current_object()  # type: ignore[attr-defined]
        requests.append(weakref.ref(g.order))
        return (await held.start()).id

    @app.before_request
    async def note() -> None:
        if request.path.startswith("/background"):
            requests.append(weakref.ref(request._get_current_object()))  # type: ignore[attr-defined]

    async with app.test_app():
        api = Api(app, prefix="/background")
        for _ in range(10):
            await api.client.post("/order", data=b"x" * 50_000, headers={"Cookie": "secret"})
            await api.start(held.name, {"label": "x" * 1_000})
        await wait_until(lambda: len(stage.ran) == 20, "all run")
        assert len(requests) == 20
        await asyncio.sleep(61)  # The framework's own timer for a slow answer lets go then.
        gc.collect()
        assert [each() for each in requests] == [None] * 20
        for job_id in stage.ran:
            stage.end(job_id)


async def test_a_job_that_starts_another_finds_its_own_service(stage: Stage) -> None:
    """``await task.start()`` inside a task, without any request."""

    @task
    async def parent() -> str:
        return (await child.start()).id

    @task
    async def child() -> str:
        return "child"

    async with serving(parent, child) as api:
        outer = await api.job((await api.start("parent"))["id"], wait=5)
        inner = await api.job(outer["result"], wait=5)
        assert inner["result"] == "child"
