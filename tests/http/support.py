"""What the tests of the edge share: a served app, tasks that end on demand, and what holds for
every answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import pytest
from quart import Quart
from quart.typing import TestClientProtocol
from werkzeug.datastructures import Headers

from quart_app import Context, create_app, task
from quart_app.app import Jobs, get_jobs
from quart_app.core.service import Service
from quart_app.domain.status import STATUSES, TERMINAL
from quart_app.domain.tasks import Task

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
FIELDS = {
    "id", "task", "status", "reason", "args", "tags", "attempt", "max_attempts", "created",
    "run_at", "started", "finished", "updated", "progress", "message", "eta", "position",
    "cancel_requested", "retry_of", "parent", "url",
}  # fmt: skip
"""The members of every job document; ``result`` and ``error`` depend on its status, ``expires``
and ``attempts`` on its story."""
TIMES = ("created", "run_at", "started", "finished", "updated", "eta", "cancel_requested")
MAYBE = ("unresponsive", "expires", "attempts", "children")
REASONS = {
    "requested", "timeout", "error", "retry", "shutdown", "lost", "poison", "expired", "rejected",
}  # fmt: skip
URN = "urn:quart-app:problem:"


class Answer(NamedTuple):
    """A response that has been read."""

    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        """Its body, parsed."""
        return json.loads(self.body)


class Api:
    """A client of one app: asks, reads, and holds every answer to the rules for all of them."""

    def __init__(self, app: Quart, base: str = "http://localhost", prefix: str = "") -> None:
        self.app = app
        self.base = base + prefix
        self.prefix = prefix
        self.client: TestClientProtocol = app.test_client()

    @property
    def jobs(self) -> Jobs:
        """The extension under test."""
        return get_jobs(self.app)

    @property
    def service(self) -> Service:
        """The service under test."""
        assert self.jobs.parts is not None
        return self.jobs.parts.service

    def limit(self, **changes: Any) -> None:
        """Change limits of the edge that no setting reaches, or that take long to reach."""
        site = self.jobs._site
        site.limits = msgspec.structs.replace(site.limits, **changes)

    async def ask(self, method: str, path: str, **request: Any) -> Answer:
        """Send any request."""
        if request.get("json", ...) is None:
            del request["json"]
        response = await self.client.open(self.prefix + path, method=method, **request)
        body: bytes = await response.get_data(as_text=False)
        answer = Answer(response.status_code, response.headers, body)
        check_answer(answer)
        return answer

    async def get(self, path: str, **headers: str) -> Answer:
        """GET; header names are written with underscores."""
        return await self.ask("GET", path, headers=_names(headers))

    async def post(self, path: str, json: Any = None, /, **headers: str) -> Answer:
        """POST JSON, or nothing."""
        return await self.ask("POST", path, json=json, headers=_names(headers))

    async def send(self, path: str, body: bytes, kind: str = "application/json") -> Answer:
        """POST bytes as they are."""
        return await self.ask("POST", path, data=body, headers={"Content-Type": kind})

    async def start(self, name: str, args: Any = None, /, **headers: str) -> dict[str, Any]:
        """Start a task; returns the job's document."""
        answer = await self.post(f"/start/{name}", args, **headers)
        assert answer.status == 202, answer.body
        return checked(answer.json)

    async def job(self, job_id: str, wait: int | None = None) -> dict[str, Any]:
        """A job's document, after waiting for its end if that is asked for."""
        preference = {} if wait is None else {"Prefer": f"wait={wait}"}
        answer = await self.get(f"/jobs/{job_id}", **preference)
        assert answer.status == 200, answer.body
        return checked(answer.json)

    async def list(self, query: str = "") -> list[str]:
        """The ids of a list."""
        answer = await self.get(f"/jobs{query}")
        assert answer.status == 200, answer.body
        return [checked(each)["id"] for each in answer.json["jobs"]]

    async def count(self) -> int:
        """How many jobs there are."""
        return sum((await self.service.store.counts()).values())


def _names(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@contextlib.asynccontextmanager
async def serving(*tasks: Task | ModuleType, **settings: Any) -> AsyncIterator[Api]:
    """A standalone app that serves, and a client of it. At the end its jobs are not waited for."""
    config = {"drain": 0, "grace": 2, **settings}
    app = create_app(tasks, **{f"QUART_APP_{name.upper()}": v for name, v in config.items()})
    async with app.test_app():
        yield Api(app)


class Stage:
    """Tasks whose jobs end when the test says so."""

    def __init__(self) -> None:
        self._ends: dict[str, asyncio.Future[Any]] = {}
        self.ran: list[str] = []
        self.held = task(name="held", tags=["slow", "held"])(self._held)
        self.other = task(name="other", tags=["slow"])(self._held)
        self.deaf = task(name="deaf")(self._deaf)

    async def _held(self, context: Context, label: str = "", size: int = 0) -> Any:
        """Runs until the test ends it."""
        self.ran.append(context.id)
        return await self._end(context.id)

    async def _deaf(self, context: Context) -> Any:
        """Runs until the test ends it, whoever cancels it."""
        self.ran.append(context.id)
        while True:
            try:
                return await asyncio.shield(self._end(context.id))
            except asyncio.CancelledError:
                continue

    def _end(self, job_id: str) -> asyncio.Future[Any]:
        if job_id not in self._ends:
            self._ends[job_id] = asyncio.get_running_loop().create_future()
        return self._ends[job_id]

    def end(self, job_id: str, result: Any = None) -> None:
        """Let a job return."""
        self._end(job_id).set_result(result)

    def fail(self, job_id: str, error: Exception) -> None:
        """Let a job raise."""
        self._end(job_id).set_exception(error)


def check_answer(answer: Answer) -> None:
    """What holds for every answer of ours: never 5xx by accident, JSON that is JSON, no caching."""
    kind = answer.headers.get("Content-Type", "")
    if answer.status >= 400:
        check_problem(answer)
    elif kind == "application/json" and answer.body:
        json.loads(answer.body, parse_constant=pytest.fail)
    if "json" in kind:
        assert answer.headers["Cache-Control"] == "no-store"


def check_problem(answer: Answer) -> None:
    """What holds for every error (RFC 9457)."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == answer.status
    assert problem["type"] == "about:blank" or problem["type"].startswith(URN)
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in answer.body.decode()


def problem(answer: Answer, status: int, slug: str | None = None) -> dict[str, Any]:
    """Hold an answer to being this problem; returns its document."""
    assert answer.status == status, answer.body
    found: dict[str, Any] = answer.json
    assert found["type"] == ("about:blank" if slug is None else URN + slug)
    return found


def checked(document: dict[str, Any]) -> dict[str, Any]:
    """A job document, held to what every one of them is."""
    status = document["status"]
    expected = set(FIELDS)
    expected |= {"result"} if status == "succeeded" else set()
    expected |= {"error"} if status == "failed" else set()
    assert set(document) == expected | (set(document) & set(MAYBE))
    assert document.get("unresponsive", True) is True
    assert MOMENT.fullmatch(document.get("expires", document["created"]))
    assert status in STATUSES
    assert document["reason"] is None or document["reason"] in REASONS
    for name in ("id", "task", "url"):
        assert isinstance(document[name], str)
    for name in TIMES:
        assert document[name] is None or MOMENT.fullmatch(document[name]), name
    assert document["url"].endswith(f"/jobs/{document['id']}")
    assert document["url"].startswith("http")
    assert isinstance(document["args"], dict)
    assert all(isinstance(tag, str) for tag in document["tags"])
    assert document["max_attempts"] >= 1
    assert document["progress"] is None or 0 <= document["progress"] <= 100
    _check_times(document)
    if status == "failed":
        _check_error(document["error"])
    if "attempts" in document:
        _check_attempts(document)
    return document


def _check_error(error: dict[str, Any]) -> None:
    assert set(error) == {"code", "message"}
    assert all(isinstance(value, str) for value in error.values())


def _check_attempts(document: dict[str, Any]) -> None:
    assert document["attempts"]
    last = document["created"]
    for attempt in document["attempts"]:
        assert set(attempt) - {"error"} == {"attempt", "started", "ended", "reason"}
        assert attempt["reason"] in REASONS
        assert all(MOMENT.fullmatch(attempt[name]) for name in ("started", "ended"))
        assert last <= attempt["started"] <= attempt["ended"] <= document["updated"]
        last = attempt["ended"]
        if "error" in attempt:
            _check_error(attempt["error"])


def _check_times(document: dict[str, Any]) -> None:
    status = document["status"]
    assert document["created"] <= document["updated"]
    assert (document["finished"] is not None) == (status in TERMINAL)
    if status == "failed" and document["reason"] == "expired":
        assert (document["started"], document["attempt"]) == (None, 0)
    elif status in ("running", "succeeded", "failed"):
        assert document["started"] is not None
        assert document["attempt"] >= 1
    if document["started"] is not None and document["finished"] is not None:
        assert document["created"] <= document["started"] <= document["finished"]
    assert document["eta"] is None or status == "running"
