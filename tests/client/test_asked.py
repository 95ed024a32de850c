"""What callers ask for: tasks, arguments, options, filters; and errors by their names."""

from __future__ import annotations

import datetime as dt
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quart_app import Secret, task
from quart_app.client import asked, calls, errors
from quart_app.client.errors import (
    BadAnswer,
    ClientError,
    InvalidArguments,
    InvalidRequest,
    NotFound,
    error_of,
)
from quart_app.client.wires import base_of
from quart_app.domain import errors as domain
from quart_app.domain.options import Options


class Order(msgspec.Struct):
    """An argument that is no plain value."""

    id: int


@task
async def report(month: int, year: int = 2026, *, order: Order | None = None) -> Order:
    return Order(month)


@task
async def login(password: Secret) -> None: ...


def test_arguments_of_a_task_are_checked_and_only_those_given_are_sent() -> None:
    """The defaults are the service's: it may be newer."""
    assert asked.arguments_of(report, (3,), {"order": Order(7)}) == b'{"month":3,"order":{"id":7}}'
    with pytest.raises(InvalidArguments, match="#/month") as caught:
        asked.arguments_of(report, (), {"month": "March"})
    assert caught.value.errors[0]["pointer"] == "#/month"
    assert caught.value.type == domain.PROBLEM_PREFIX + "invalid-arguments"
    for args, kwargs in [((1, 2, None, 4), {}), ((1,), {"month": 1})]:
        with pytest.raises(InvalidArguments):
            asked.arguments_of(report, args, kwargs)


def test_arguments_of_a_name_are_any_json() -> None:
    """By their names; secrets as they are, since the service knows which they are."""
    found = asked.arguments_of("report", (), {"order": Order(7), "password": Secret("hunter2")})
    assert found == b'{"order":{"id":7},"password":"hunter2"}'
    assert b"hunter2" in asked.arguments_of(login, (), {"password": Secret("hunter2")})
    with pytest.raises(InvalidArguments):
        asked.arguments_of("report", (3,), {})
    with pytest.raises(InvalidArguments):
        asked.arguments_of("report", (), {"when": object()})
    with pytest.raises(TypeError, match="what @task makes"):
        asked.name_of(3)


def test_options_stand_in_the_url_and_the_key_in_a_header() -> None:
    """Moments with their zone."""
    zone = dt.timezone(dt.timedelta(hours=1))
    options = asked.read_options(
        {"run_at": dt.datetime(2030, 1, 31, 9, tzinfo=zone), "expires": 60, "key": 'a "b"'}
    )
    call = calls.start("report", b"{}", asked.with_key(options))
    assert call.path == "/start/report?run_at=2030-01-31T08%3A00%3A00Z&expires=60.0"
    assert dict(call.headers)["Idempotency-Key"] == '"a "b""'
    at = asked.read_options({"expires": dt.datetime(2030, 1, 1, tzinfo=dt.UTC), "delay": 0})
    assert asked.options_query(at) == [("delay", "0.0"), ("expires", "2030-01-01T00:00:00Z")]
    with pytest.raises(InvalidRequest, match="priority"):
        asked.read_options({"priority": 1_000})


def test_a_start_without_a_key_is_given_one_of_its_own() -> None:
    """Never the same twice."""
    keys = {asked.with_key().key for _ in range(1_000)}
    assert len(keys) == 1_000
    assert calls.start("t", b"{}", asked.with_key()).again
    assert not calls.start("t", b"{}", Options()).again


def test_filters_in_a_url_and_in_an_object() -> None:
    """Moments, durations, arguments by dotted names."""
    at = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    filters: asked.Filters = {
        "status": "failed", "task": report, "q": "a&b", "args": {"order.id": 7, "user": "ann"},
        "longer": dt.timedelta(minutes=1), "since": at, "until": 0.5,
    }  # fmt: skip
    assert asked.filters_match(**filters) == {
        "status": ["failed"], "task": "report", "q": "a&b", "args": {"order.id": 7, "user": "ann"},
        "longer": 60.0, "since": "2030-01-01T00:00:00Z", "until": "0.500s",
    }  # fmt: skip
    assert calls.url("/jobs", asked.filters_query(**filters)) == (
        "/jobs?status=failed&task=report&q=a%26b&args.order.id=7&args.user=ann&longer=60.0"
        "&since=2030-01-01T00%3A00%3A00Z&until=0.500s"
    )
    assert asked.filters_query(since="15m") == [("since", "15m")]


@pytest.mark.parametrize(
    ("filters", "error"),
    [
        ({"state": "failed"}, TypeError),
        ({"status": []}, ValueError),
        ({"since": dt.datetime(2030, 1, 1)}, ValueError),
    ],
)
def test_filters_that_cannot_be_are_refused(filters: Any, error: type[Exception]) -> None:
    """Before they could mean all jobs."""
    with pytest.raises(error):
        asked.filters_match(**filters)


def test_a_cancel_of_many_names_ids_or_filters() -> None:
    """Never all by accident, and a text is one id."""
    assert calls.what("abc", False, {}) == {"ids": ["abc"]}
    assert calls.what(iter("ab"), False, {}) == {"ids": ["a", "b"]}
    for ids, dry_run, filters in [(None, False, {}), (["a"], False, {"task": "t"}),
                                  (["a"], True, {})]:  # fmt: skip
        with pytest.raises(ValueError):  # noqa: PT011 - the message differs
            calls.what(ids, dry_run, filters)  # type: ignore[arg-type]
    assert calls.cancel_many({"ids": ["a"]}).again
    assert calls.cancel_many({"match": {}, "dry_run": True}).again
    assert not calls.cancel_many({"match": {}}).again
    assert not calls.retry_many({"ids": ["a"]}).again


@pytest.mark.parametrize("text", ["", ".", ".."])
def test_an_id_that_would_be_another_path_is_refused(text: str) -> None:
    """``POST /cancel/`` is not what was meant."""
    with pytest.raises(ValueError, match="neither an id nor a name"):
        calls.get_job(text)


@given(st.text())
def test_an_id_is_one_part_of_a_path(text: str) -> None:
    """Whatever a service that is not ours has called its job."""
    try:
        path = calls.part(text)
    except (ValueError, UnicodeEncodeError):
        return
    assert path.isascii()
    assert not set(path) & set("/?#\\ ")
    with pytest.raises(TypeError):
        calls.part(7)  # type: ignore[arg-type]


def test_each_problem_is_an_exception_of_the_name_that_it_has_in_python() -> None:
    """So that nobody learns two sets of names."""
    for kind in vars(domain).values():
        if isinstance(kind, type) and issubclass(kind, domain.JobsError) and kind.slug:
            body = msgspec.json.encode({"type": domain.PROBLEM_PREFIX + kind.slug, "detail": "x"})
            found = error_of(kind.status, body)
            names = [each.__name__ for each in kind.__mro__]
            assert type(found).__name__ in names, kind
    by_status = {
        400: "BadInput", 403: "ClientError", 404: "NoSuchJob", 409: "NotFinished",
        413: "BodyTooLarge", 415: "NotJSON", 422: "InvalidRequest", 500: "ClientError",
        501: "NotInstalled",
    }  # fmt: skip
    for status, name in by_status.items():
        assert type(error_of(status, b'{"detail": "x"}')).__name__ == name
        assert issubclass(getattr(errors, name), ClientError)


def test_a_wrong_path_is_no_missing_job() -> None:
    """It is told from the framework's words, and from answers that are not ours."""
    assert type(error_of(404, b'{"detail": "The requested URL was not found on ..."}')) is NotFound
    assert type(error_of(404, b"<h1>nginx</h1>")) is NotFound


@given(st.integers(300, 999), st.binary(max_size=200))
def test_whatever_the_answer_is_there_is_an_error_for_it(status: int, body: bytes) -> None:
    """That can be printed in one line, and pickled."""
    error = error_of(status, body, 3.0)
    assert error.status == status
    assert str(error).isprintable()
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(again), str(again), again.status) == (type(error), str(error), status)


@pytest.mark.parametrize(
    "problem",
    [
        {"errors": "x", "detail": 7, "type": 3, "title": []},
        {"errors": [1, {"pointer": 3}], "title": "A title"},
        {"type": "urn:quart-app:problem:unheard-of", "detail": "new"},
        {"type": "queue-full"},
    ],
)
def test_a_problem_of_a_strange_shape_is_an_error_all_the_same(problem: Any) -> None:
    """With what can be read of it."""
    error = error_of(422, msgspec.json.encode(problem))
    assert type(error) is InvalidRequest
    assert all(isinstance(each, dict) for each in error.errors)


def test_a_result_has_its_tasks_type() -> None:
    """And plain values where the task is not known."""
    assert asked.read_result(report, b'{"id":3}') == Order(3)
    assert asked.read_result("report", b'{"id":3}') == {"id": 3}
    with pytest.raises(BadAnswer):
        asked.read_result(None, b"{")


@pytest.mark.parametrize(
    "url", ["ftp://x", "localhost:8000", "http://", "http://x/?a=b", "http://x/#a", "//x", "http://[",
            "file:///etc/passwd"]
)  # fmt: skip
def test_a_base_url_that_cannot_be_is_refused(url: str) -> None:
    """At once, and not at the first request."""
    with pytest.raises(ValueError):  # noqa: PT011 - the message differs
        base_of(url)


def test_the_base_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is given."""
    assert base_of(None) == "http://127.0.0.1:8000"
    monkeypatch.setenv("QUART_APP_URL", "https://jobs.example/a/")
    assert base_of(None) == "https://jobs.example/a"
    assert base_of("http://x:1") == "http://x:1"
    with pytest.raises(ValueError, match=r"ftp://me:\.\.\.@x"):
        base_of("ftp://me:secret@x")
