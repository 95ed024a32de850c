"""What the service says of itself: the catalog, its health, its documentation."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest

from quart_app import Retry, create_app, task
from quart_app.http.pages import SWAGGER_ROOT, swagger_page
from quart_app.testing import wait_until
from tests.http.support import Api, Stage, problem, serving


@dataclass
class Range:
    """From and to."""

    low: int
    high: int = 10


@task(name="count-up", timeout=30, quick=0.5, tags=["maths"])
async def count_up(span: Range, step: Annotated[int, msgspec.Meta(ge=1)] = 1) -> list[int]:
    """Count from low to high.

    The second paragraph.
    """
    return list(range(span.low, span.high, step))


@task
def plain(kind: Literal["a", "b"] = "a") -> Any:
    return kind


@task(max_attempts=3, retry=Retry(2, 3, 60, 0.5, on=OSError))
async def flaky() -> None:
    """May run three times."""


@task
async def block(seconds: float) -> None:
    """Holds up the event loop, as no task should."""
    time.sleep(seconds)  # noqa: ASYNC251 - that is what is tested


class TestCatalog:
    async def test_the_catalog_lists_every_task_by_name(self) -> None:
        """200 with one document for each."""
        async with serving(plain, count_up) as api:
            answer = await api.get("/tasks")
            assert answer.status == 200
            assert list(answer.json) == ["tasks"]
            names = [each["name"] for each in answer.json["tasks"]]
            assert names == ["count-up", "long_task", "plain"]

    async def test_a_task_is_described_in_full(self) -> None:
        """Name, description, schemas of arguments and result, policy, tags, and where to start."""
        async with serving(count_up) as api:
            document = (await api.get("/tasks/count-up")).json
            assert set(document) == {
                "name", "description", "arguments", "result", "policy", "tags", "durations",
                "url", "start", "paused", "next",
            }  # fmt: skip
            assert document["description"] == "Count from low to high.\n\nThe second paragraph."
            assert document["policy"] == {
                "run": "loop",
                "timeout": 30,
                "quick": 0.5,
                "max_attempts": 1,
                "retry": None,
            }
            assert document["tags"] == ["maths"]
            assert document["url"] == "http://localhost/tasks/count-up"
            assert document["start"] == "http://localhost/start/count-up"
            schema = document["arguments"]
            assert schema["required"] == ["span"]
            assert schema["additionalProperties"] is False
            assert schema["properties"]["step"] == {"type": "integer", "minimum": 1, "default": 1}
            assert schema["properties"]["span"]["properties"]["low"] == {"type": "integer"}
            assert document["result"] == {"type": "array", "items": {"type": "integer"}}
            arguments = {"span": {"low": 1, "high": 6}, "step": 2}
            answer = await api.post("/start/count-up", arguments)
            assert (await api.job(answer.json["id"], wait=5))["result"] == [1, 3, 5]

    async def test_the_backoff_of_a_task_of_many_attempts_is_described(self) -> None:
        """Its numbers, and after which exceptions it is tried again."""
        async with serving(flaky) as api:
            policy = (await api.get("/tasks/flaky")).json["policy"]
        assert policy["max_attempts"] == 3
        assert policy["retry"] == {
            "initial": 2.0, "factor": 3.0, "maximum": 60.0, "jitter": 0.5, "on": ["OSError"],
        }  # fmt: skip

    async def test_durations_are_those_that_were_seen(self) -> None:
        """None at first; then how many, the median and the 95th percentile."""
        async with serving(plain) as api:
            assert (await api.get("/tasks/plain")).json["durations"] == {
                "count": 0,
                "p50": None,
                "p95": None,
            }
            for _ in range(3):
                await api.job((await api.start("plain"))["id"], wait=5)
            seen = (await api.get("/tasks/plain")).json["durations"]
            assert seen["count"] == 3
            assert 0 <= seen["p50"] <= seen["p95"] < 5

    async def test_an_unknown_task_is_404(self) -> None:
        """no-such-task."""
        async with serving(plain) as api:
            problem(await api.get("/tasks/nothing"), 404, "no-such-task")


class TestHealth:
    async def test_a_service_that_answers_is_alive(self, stage: Stage) -> None:
        """200 with how many run and wait, and what blocked the loop: nothing."""
        async with serving(stage.held) as api:
            await api.start("held")
            await wait_until(lambda: stage.ran, "it runs")
            document = (await api.get("/healthz")).json
            assert document == {
                "status": "ok",
                "running": 1,
                "watchers": 0,
                "lag": document["lag"],
                "store": "ok",
                "blocked": {"count": 0, "newest": []},
            }

    @pytest.mark.slow
    @pytest.mark.blocking
    async def test_who_blocked_the_loop_stands_in_healthz(self) -> None:
        """Job, line, and for how long."""
        async with serving(block) as api:
            job_id = (await api.start("block", {"seconds": 0.3}))["id"]
            await api.job(job_id, wait=5)

            async def reported() -> bool:
                return bool((await api.get("/healthz")).json["blocked"]["count"] == 1)

            await wait_until(reported, "the block is reported")
            [newest] = (await api.get("/healthz")).json["blocked"]["newest"]
            assert newest["job"] == job_id
            assert "test_meta.py" in newest["where"]
            assert newest["where"].endswith("in block")
            assert 0.2 < newest["seconds"] < 5

    async def test_readiness_counts_the_jobs_by_status(self, stage: Stage) -> None:
        """200 with a number for every status."""
        async with serving(stage.held, plain, max_running=1) as api:
            await api.post("/start/held", [{}] * 3)
            await api.job((await api.start("plain"))["id"], wait=5)
            await wait_until(lambda: stage.ran, "one runs")
            answer = await api.get("/readyz")
            assert answer.json == {
                "status": "ready",
                "jobs": {
                    "scheduled": 0,
                    "queued": 2,
                    "running": 1,
                    "succeeded": 1,
                    "failed": 0,
                    "canceled": 0,
                },
            }

    async def test_a_store_in_trouble_is_alive_but_not_ready(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """503 store-unavailable says what is wrong; /healthz says it with 200."""
        async with serving(plain) as api:
            monkeypatch.setattr(api.service.store, "trouble", "the disk is full", raising=False)
            answer = await api.get("/readyz")
            assert problem(answer, 503, "store-unavailable")["detail"] == "the disk is full"
            assert answer.headers["Retry-After"] == "2"
            health = await api.get("/healthz")
            assert (health.status, health.json["store"]) == (200, "the disk is full")

    async def test_a_service_that_shuts_down_is_alive_but_not_ready(self) -> None:
        """503 draining with Retry-After: a balancer sends nothing more here."""
        async with serving(plain) as api:
            api.jobs.begin_close()
            answer = await api.get("/readyz")
            problem(answer, 503, "draining")
            assert answer.headers["Retry-After"] == "1"
            assert (await api.get("/healthz")).status == 200


class TestDocumentation:
    async def test_the_root_is_the_dashboard(self) -> None:
        """Of this package alone, under a policy that forbids all else; with all its files."""
        async with serving(plain) as api:
            answer = await api.get("/")
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == "no-store"
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "unsafe" not in policy
            assert (await api.get("/dashboard")).body == answer.body
            files = re.findall(r'(?:href|src)="(/static/[^"]+)"', answer.body.decode())
            assert len(files) > 4
            for path in files:
                assert (await api.get(path)).status == 200
            assert (await api.get("/static/swagger/start.js")).status == 404
            assert (await api.get("/static/dashboard/../../pages.py")).status == 404

    async def test_the_page_takes_everything_from_this_service(self) -> None:
        """No other host in the page, no script in it, and a policy that forbids both."""
        async with serving(plain) as api:
            answer = await api.get("/docs")
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert answer.headers["Cache-Control"] == "no-store"
            page = answer.body.decode()
            assert not re.search(r"https?:|//[a-z]", page)
            assert not re.search(r"<script(?![^>]*\ssrc=)", page)
            assert not re.search(r"\son[a-z]+=|javascript:", page)
            policy = dict(
                part.strip().split(" ", 1)
                for part in answer.headers["Content-Security-Policy"].split(";")
            )
            assert policy["default-src"] == "'none'"
            assert policy["script-src"] == "'self'"
            assert policy["connect-src"] == "'self'"
            assert policy["frame-ancestors"] == "'none'"
            sources = re.findall(r'(?:src|href|data-url)="(/[^"]*)"', page)
            assert sorted(sources) == [
                "/docs/start.js",
                "/docs/swagger-ui-bundle.js",
                "/docs/swagger-ui.css",
                "/openapi.json",
            ]
            for source in sources:
                assert (await api.get(source)).status == 200

    async def test_the_files_have_their_types(self) -> None:
        """A browser that sniffs nothing runs them."""
        async with serving(plain) as api:
            answer = await api.get("/docs/start.js")
            assert answer.headers["Content-Type"].startswith(
                ("text/javascript", "application/javascript")
            )
            assert answer.body == (SWAGGER_ROOT / "start.js").read_bytes()
            answer = await api.get("/docs/swagger-ui.css")
            assert answer.headers["Content-Type"].startswith("text/css")

    @pytest.mark.parametrize(
        "name", ["../pages.py", "..%2Fpages.py", "%2e%2e/pages.py", "nothing.js"]
    )
    async def test_no_other_file_is_served(self, name: str) -> None:
        """404, whatever the path looks like."""
        async with serving(plain) as api:
            problem(await api.get(f"/docs/{name}"), 404)

    async def test_below_a_prefix_the_page_asks_below_the_prefix(self) -> None:
        """A mounted service, and one below a server's root path."""
        app = create_app([plain])
        async with app.test_app():
            answer = await Api(app).ask("GET", "/below/docs", root_path="/below")
            assert b'"/below/openapi.json"' in answer.body
            answer = await Api(app).ask("GET", "/below/", root_path="/below")
            assert b'"/below/static/dashboard/app.js"' in answer.body
        assert '"/&lt;&quot;/openapi.json"' in swagger_page('/<"')


def test_the_vendored_files_are_those_that_were_vendored() -> None:
    """Name, version, licence and hash of each stand beside them; only start.js is our own."""
    vendor = json.loads((SWAGGER_ROOT / "VENDOR.json").read_text())
    assert vendor["name"] == "swagger-ui-dist"
    assert re.fullmatch(r"\d+\.\d+\.\d+", vendor["version"])
    assert vendor["licence"] == "Apache-2.0"
    hashes = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in SWAGGER_ROOT.iterdir()
        if path.name not in ("VENDOR.json", "start.js")
    }
    assert hashes == vendor["sha256"]
    assert "LICENSE" in hashes


def test_the_vendored_page_loads_nothing_from_elsewhere() -> None:
    """No source map, and no validator of another host is asked about the document."""
    assert "validatorUrl: null" in (SWAGGER_ROOT / "start.js").read_text()
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert "sourceMappingURL" not in (SWAGGER_ROOT / name).read_text()
    assert "@import" not in (SWAGGER_ROOT / "swagger-ui.css").read_text()
    assert not re.search(r"url\(['\"]?https?:", (SWAGGER_ROOT / "swagger-ui.css").read_text())
