"""Errors: each has a type and a status, and all of them are problem documents."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import HTTPException, Unauthorized

from quart_app import task
from quart_app.domain import errors
from quart_app.domain.errors import PROBLEM_PREFIX, InvalidArguments, JobsError, KeyReused
from quart_app.http import problems
from quart_app.http.operations import OPERATIONS
from quart_app.http.site import Site
from tests.http.support import Api, problem, serving

TYPES = {
    "no-such-task", "invalid-arguments", "idempotency-key-reused", "not-finished", "job-failed",
    "job-canceled", "not-running", "queue-full", "draining", "store-unavailable", "other-site",
    "too-many-requests",
}  # fmt: skip
PLAIN = {400, 404, 405, 408, 413, 415, 422, 501}


def kinds(root: type[JobsError] = JobsError) -> Iterator[type[JobsError]]:
    """Every error that the edge answers."""
    for kind in root.__subclasses__():
        yield kind
        yield from kinds(kind)


@task
async def work() -> None:
    """Done at once."""


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
async def test_each_error_has_a_problem_type_and_a_status(kind: type[JobsError]) -> None:
    """4xx, 503 where trying again helps, 501 where a library is missing; a URN, or about:blank."""
    arguments: dict[type[JobsError], list[Any]] = {InvalidArguments: [[]], KeyReused: ["a-job"]}
    error = kind("what to do", *arguments.get(kind, []))
    assert 400 <= error.status < 500 or error.status in (501, 503)
    if error.slug is None:
        assert error.type == "about:blank"
        assert error.status in PLAIN
    else:
        assert error.type == f"urn:quart-app:problem:{error.slug}"
        assert error.slug in TYPES
    response = problems.jobs_error(error)
    assert response.status_code == error.status
    document = await response.get_json()
    assert document["type"] == error.type
    assert document["title"] == kind.title
    if kind is KeyReused:  # It is given the key, and makes the sentence.
        assert document["detail"].startswith("The key 'what to do' started job a-job with another")
    else:
        assert document["detail"] == "what to do"


def test_every_class_of_errors_stands_in_the_tree_of_its_module() -> None:
    """The drawing in the docstring is complete, and so is the list of types."""
    assert {kind.slug for kind in kinds() if kind.slug is not None} == TYPES
    drawn = errors.__doc__ or ""
    for kind in kinds():
        assert f" {kind.__name__} " in drawn
        line = next(line for line in drawn.splitlines() if f" {kind.__name__} " in line)
        assert f" {kind.status} " in f"{line} "


def test_types_are_urns() -> None:
    """Fixed names, and not addresses of a host that could go away."""
    assert PROBLEM_PREFIX.startswith("urn:")


def test_every_status_of_an_error_is_described_for_some_route() -> None:
    """The OpenAPI tables know each of them."""
    described = {status for each in OPERATIONS.values() for status in each.problems}
    assert {kind.status for kind in kinds()} <= described


@pytest.mark.parametrize(
    "path", ["/nope", "/start/", "/jobs/", "/jobs/a/b", "/docs/nope.js", "/docs/../app.py", "/a%00"]
)
async def test_unknown_routes_are_problems(path: str) -> None:
    """404 problem+json, not a page of HTML."""
    async with serving(work) as api:
        problem(await api.get(path), 404)


async def test_a_crash_is_a_problem_without_a_traceback(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 says nothing of what happened inside; the log says all."""
    async with serving(work) as api:
        with monkeypatch.context() as patch:
            patch.setattr(api.service.store, "page", fail)
            answer = await api.get("/jobs")
        found = problem(answer, 500)
        assert found["title"] == "Internal Server Error"
        assert b"secret" not in answer.body
        assert "its log" in found["detail"]
    [record] = [each for each in caplog.records if each.name == "quart_app.http"]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "secret" in str(record.exc_info[1])


async def fail(query: object) -> None:
    """A store's method with a fault."""
    raise ZeroDivisionError("secret")


async def test_a_crash_outside_of_our_routes_is_a_problem_too() -> None:
    """The standalone app answers nothing else."""
    async with serving(work) as api:
        add_route(api, ZeroDivisionError("secret"))
        answer = await api.get("/own")
        problem(answer, 500)
        assert b"secret" not in answer.body


def add_route(api: Api, error: Exception) -> None:
    """A route beside ours that raises."""

    async def own() -> str:
        raise error

    api.app._got_first_request = False
    api.app.add_url_rule("/own", "own", own)


async def test_what_the_framework_aborts_keeps_its_status_and_headers() -> None:
    """A 401 of an extension in the standalone app still asks for a login."""
    async with serving(work) as api:
        add_route(api, unauthorized())
        answer = await api.get("/own")
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Basic"


def unauthorized() -> Exception:
    """What an extension raises for somebody who has not logged in."""
    return Unauthorized(www_authenticate=WWWAuthenticate("basic"))


async def test_an_error_without_a_status_is_500() -> None:
    """werkzeug allows exceptions without a code."""
    response = problems.http_error(HTTPException("what"))
    assert response.status_code == 500
    assert (await response.get_json())["title"] == "Internal Server Error"


async def test_before_the_service_runs_every_route_is_503() -> None:
    """A site that has not been opened says so."""

    never: Any = None
    with pytest.raises(JobsError, match="not running") as caught:
        _ = Site("", never).service
    assert caught.value.status == 503
