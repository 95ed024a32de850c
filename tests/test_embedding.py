"""`Jobs(app)` without a prefix: what is the app's own stays its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from quart import Blueprint, Quart, request

from quart_app import Jobs, task
from quart_app.app import get_jobs
from tests.http.support import Api, problem


@task
async def work() -> int:
    """Done at once."""
    return 1


class NeedsLogin(Exception):
    """What a hook of the app raises."""


class NeedsPassword(NeedsLogin):
    """One that has no handler of its own."""


@pytest.fixture
def app(tmp_path: Path) -> Quart:
    """An app with files, hooks, views and error handlers of its own."""
    for name in ("top.css", "css/site.css", "vendor/lib/own.js", "dashboard/own.css"):
        (tmp_path / "static" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "static" / name).write_text(name)
    app = Quart("shop", root_path=str(tmp_path))
    app.config.update(QUART_APP_DRAIN=0, QUART_APP_GRACE=1)
    Jobs(app, tasks=[work])

    @app.before_request
    async def enter() -> None:
        if raised := {"login": NeedsPassword, "fault": KeyError}.get(request.args.get("hook", "")):
            raise raised("no")

    @app.errorhandler(NeedsLogin)
    async def login(error: NeedsLogin) -> tuple[str, int]:
        return "log in first", 401

    @app.errorhandler(405)
    async def wrong(error: Exception) -> tuple[str, int]:
        return "the shop's own 405", 405

    @app.get("/mine")
    async def stats() -> str:
        """A view with the name of one of ours."""
        return "mine"

    return app


async def test_files_in_folders_of_its_own_are_found(app: Quart) -> None:
    """Also below the names of our folders; our own come first."""
    async with app.test_app():
        client = app.test_client()
        for name in ("top.css", "css/site.css", "vendor/lib/own.js", "dashboard/own.css"):
            answer = await client.get(f"/static/{name}")
            assert (answer.status_code, await answer.get_data()) == (200, name.encode())
        assert b"job-progress" in await (
            await client.get("/static/dashboard/job-progress.js")
        ).get_data(as_text=False)
        assert (await client.get("/static/dashboard/none.js")).status_code == 404


async def test_what_its_hooks_raise_is_answered_as_it_says(app: Quart) -> None:
    """On our routes, too; a fault for which it has no handler is a problem."""
    async with app.test_app():
        client = app.test_client()
        for path in ("/mine", "/tasks", "/jobs/unknown"):
            answer = await client.get(f"{path}?hook=login")
            assert (answer.status_code, await answer.get_data()) == (401, b"log in first")
        problem(await Api(app).get("/tasks?hook=fault"), 500)


async def test_a_mistake_in_a_view_is_not_the_clients(
    app: Quart, caplog: pytest.LogCaptureFixture
) -> None:
    """A start with wrong arguments is the app's own 500, and logged; a service that shuts down is
    the client's 503."""

    @app.get("/wrong")
    async def wrong() -> str:
        await work.start(colour="red")  # type: ignore[call-arg]
        return "started"

    @app.get("/right")
    async def right() -> str:
        await work.start()
        return "started"

    async with app.test_app():
        client = app.test_client()
        assert (await client.get("/wrong")).status_code == 500
        assert "colour" in caplog.text
        assert (await client.get("/right")).status_code == 200
        get_jobs(app).begin_close()
        problem(await Api(app).get("/right"), 503, "draining")


async def test_a_wrong_method_on_our_routes_is_a_problem(app: Quart) -> None:
    """On its own it is what the app says."""
    async with app.test_app():
        answer = await Api(app).ask("DELETE", "/jobs")
        problem(answer, 405)
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
        theirs = await app.test_client().post("/mine")
        assert (theirs.status_code, await theirs.get_data()) == (405, b"the shop's own 405")


async def test_its_views_are_not_in_our_document(app: Quart) -> None:
    """Also where they have the name of one of our routes."""
    async with app.test_app():
        paths: dict[str, Any] = (await Api(app).get("/openapi.json")).json["paths"]
        assert "/stats" in paths
        assert "/mine" not in paths


async def test_it_may_have_a_blueprint_named_jobs(app: Quart) -> None:
    """As a site for job offers does."""
    offers = Blueprint("jobs", "offers")

    @offers.get("/offers")
    async def listed() -> str:
        return "offers"

    app.register_blueprint(offers)
    async with app.test_app():
        assert await (await app.test_client().get("/offers")).get_data() == b"offers"


async def test_events_of_a_next_process_follow_those_of_the_last() -> None:
    """A stream that was open before a restart is told of what comes after it."""
    numbers = list[int]()
    for _ in range(2):
        app = Quart("shop")
        app.config.update(QUART_APP_DRAIN=0, QUART_APP_GRACE=1)
        Jobs(app, tasks=[work])
        async with app.test_app():
            api = Api(app)
            for _ in range(3):
                job = await api.start("work")
                numbers.append((await api.service.wait(job["id"], 5)).seq)
    assert numbers == sorted(numbers)
