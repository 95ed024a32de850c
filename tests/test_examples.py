"""The examples do what their users are told."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx2
import pytest

from tests.e2e.conftest import ROOT, Servers
from tests.http.support import Api


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Servers that are stopped at the end."""
    made = Servers()
    yield made
    made.stop()


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example's module, new for this test."""
    spec = importlib.util.spec_from_file_location("shop", ROOT / "examples" / "shop.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "shop", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.virtual
async def test_a_view_of_an_existing_app_starts_a_job_and_answers_at_once(
    shop: ModuleType,
) -> None:
    """The report is under way when the answer is there, and can be watched below the prefix."""
    async with shop.app.test_app() as app:
        client = app.test_client()
        ordered = await client.post("/reports/3")
        answer = await ordered.get_json()
        assert ordered.status_code == 202
        api = Api(shop.app, prefix="/background")
        document = await api.job(answer["job"])
        assert (document["task"], document["args"]) == ("report", {"month": 3})
        assert document["finished"] is None
        assert document["url"].endswith(answer["status"])
        ended = await api.job(answer["job"], wait=10)
    assert (ended["status"], ended["result"]) == ("succeeded", "report of month 3")
    assert (ended["progress"], ended["message"]) == (100, "day 30")


async def test_the_apps_own_routes_are_as_they_were(shop: ModuleType) -> None:
    """Its pages and its 404s are its own; the jobs' are below the prefix."""
    async with shop.app.test_app() as app:
        client = app.test_client()
        home = await client.get("/")
        assert await home.get_data() == b"The shop is open."
        for path in ("/jobs", "/start", "/reports/3", "/nowhere"):
            missing = await client.get(path)
            assert missing.status_code in (404, 405)
            assert missing.headers["Content-Type"].startswith("text/html")
        assert (await client.post("/reports/13")).status_code == 404
        assert (
            await client.post("/background/start/report", json={"month": 13})
        ).status_code == 422
        assert (await client.get("/background/jobs")).status_code == 200


@pytest.mark.slow
@pytest.mark.e2e
def test_the_shop_runs_with_hypercorn_as_its_text_says(servers: Servers) -> None:
    """The command in the file's first lines, from the project's directory."""
    text = (ROOT / "examples" / "shop.py").read_text()
    command = "hypercorn --config hypercorn.toml examples/shop:app"
    assert f"``{command}``" in text
    start = [sys.executable, "-m", *command.split(), "--bind", "127.0.0.1:0"]
    server = servers.launch(start, tasks="").wait_listening()
    answer: httpx2.Response = server.post("/reports/3")
    assert answer.status_code == 202
    ended = server.get(answer.json()["status"], Prefer="wait=10").json()
    assert (ended["status"], ended["result"]) == ("succeeded", "report of month 3")
    assert Path(ROOT, "hypercorn.toml").exists()
