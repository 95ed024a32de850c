"""What is typed becomes what is meant: arguments by their schema, durations, moments, filters."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click
import pytest

from quart_app.cli import main
from quart_app.cli.arguments import BadArgument, convert, kinds_of, value_of
from quart_app.cli.bench import Measured, _figures
from quart_app.cli.ends import Stop, status_of
from quart_app.cli.filters import BadFilter, parse
from quart_app.cli.remote import explain
from quart_app.cli.safe import clean, clean_json, cut
from quart_app.cli.shapes import what
from quart_app.cli.terminal import bar, fit
from quart_app.cli.words import Moment, Span, moment_of, seconds_of, took
from quart_app.client.documents import JobDocument

NOW = dt.datetime(2026, 11, 22, 15, 0, tzinfo=dt.UTC)
NULLABLE: dict[str, Any] = {"anyOf": [{"type": "integer"}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "integer"}, "-3", -3),
        ({"type": "integer"}, "9" * 40, int("9" * 40)),
        ({"type": "number"}, "1e3", 1000.0),
        ({"type": "boolean"}, "OFF", False),
        ({"type": "string"}, "007", "007"),
        ({"type": "string"}, "", ""),
        ({"type": "string", "format": "date-time"}, "2026-11-22", "2026-11-22"),
        ({"type": ["integer", "string"]}, "7", 7),
        ({"type": ["integer", "string"]}, "x", "x"),
        ({"type": "array"}, "[1, [2]]", [1, [2]]),
        ({"type": "object"}, '{"a": null}', {"a": None}),
        ({"const": 3}, "3", 3),
        ({"enum": ["a", 1, None, 2.5, True, [], {}]}, "b", "b"),
        ({"oneOf": [{"type": "boolean"}, {"$ref": "#/$defs/N"}]}, "1.5", 1.5),
        ({"$ref": "#/nowhere"}, "x", "x"),
        ({}, "[1]", [1]),
        (True, "[", "["),
        (True, "NaN", "NaN"),
        ({"anyOf": [{"type": "integer"}, {}]}, '{"a": 1}', {"a": 1}),
        (NULLABLE, "null", None),
        (NULLABLE, "5", 5),
    ],
)
def test_a_value_is_what_its_schema_asks_for(schema: Any, text: str, value: Any) -> None:
    """Whatever way the schema says it."""
    found = value_of("x", text, schema, {"$defs": {"N": {"type": "number"}}})
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("schema", "text", "wanted"),
    [
        ({"type": "integer"}, "1.5", "a whole number"),
        ({"type": "integer"}, "1_000", "a whole number"),
        ({"type": "number"}, "inf", "a number"),
        ({"type": "number"}, "1_0.5", "a number"),
        ({"type": "boolean"}, "2", "true or false"),
        ({"type": "array"}, '{"a": 1}', "a JSON array"),
        ({"type": "array"}, "[" * 100_000, "a JSON array"),
        ({"type": "object"}, "[1]", "a JSON object"),
        (NULLABLE, "x", "null or a whole number"),
    ],
)
def test_what_does_not_fit_is_named(schema: Any, text: str, wanted: str) -> None:
    """With what would."""
    with pytest.raises(BadArgument) as caught:
        value_of("month", text, schema, {})
    assert f"month must be {wanted}" in caught.value.message
    assert len(caught.value.message) < 400


def test_a_schema_without_end() -> None:
    """It refers to itself, or to nothing."""
    root: dict[str, Any] = {"$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert kinds_of({"$ref": "#/$defs/A"}, root) == set()


def test_arguments_of_an_open_schema() -> None:
    """What is not known is a JSON value or a text; a task without arguments says so."""
    assert convert("t", ["a=1", "b=x=y"], {}) == {"a": 1, "b": "x=y"}
    with pytest.raises(BadArgument, match="it takes none"):
        convert("t", ["a=1"], {"properties": {}, "additionalProperties": False})
    with pytest.raises(BadArgument, match="it takes month"):
        convert("t", ["zzz=1"], {"properties": {"month": {}}, "additionalProperties": False})


def test_durations_and_moments() -> None:
    """As people write them."""
    assert [seconds_of(each) for each in ("1h30m", "1m2s", "", "1x", "5 m", "1h5")] == [
        5400.0, 62.0, None, None, None, None,
    ]  # fmt: skip
    assert took(59.96) == "1m00s"
    assert took(-1) == "0ms"
    assert moment_of("9:05", NOW) == NOW.replace(day=23, hour=9, minute=5)
    assert moment_of("16:00:30", NOW) == NOW.replace(hour=16, second=30)
    assert moment_of("2026-12-01", NOW) == dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
    assert moment_of("25:00", NOW) is None
    assert Span().convert(5, None, None) == 5.0
    assert Moment().convert(NOW, None, None) is NOW


def test_filters() -> None:
    """Quotes, several statuses, what is twice."""
    assert parse("status:failed status:canceled,queued")["status"] == [
        "failed", "canceled", "queued",
    ]  # fmt: skip
    assert parse('args.a.b:"x \\" y" http://x/y >=2m <500ms') == {
        "args": {"a.b": 'x " y'}, "q": "http://x/y", "longer": 120.0, "shorter": 0.5,
    }  # fmt: skip
    assert parse("") == {}
    with pytest.raises(BadFilter, match="longer is given twice"):
        parse(">1s >2s")


def test_the_exit_status_of_several() -> None:
    """The worst."""
    assert status_of([]) == 0
    assert status_of(["succeeded", "running"]) == 3
    assert status_of(["canceled", "queued"]) == 130


def test_what_is_said_of_a_job() -> None:
    """What matters most, of what is known."""
    job = JobDocument(
        id="7", task="t", status="running", progress=5.0, unresponsive=True, cancel_requested=NOW,
        message="m",
    )  # fmt: skip
    assert what(job) == "cancel requested, unresponsive, 5%, m"
    assert what(JobDocument(id="7", task="t", status="queued", position=2)).startswith("number 2")
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)
    assert what(JobDocument(id="7", task="t", status="scheduled", run_at=later)).startswith("in 2h")


def test_small_places() -> None:
    """Nothing is wider than its place."""
    assert cut("abc", 0) == ""
    assert cut("abc", 1) == "…"
    assert fit([5, 5, 5], 1) == [1, 1, 1]
    assert bar(float("nan"), 4, True) == "    "
    assert clean_json('"\U000e0041"') == '"\\udb40\\udc41"'
    assert clean("\ud800") == "\\ud800"
    assert _figures(Measured(seconds=1.0), [JobDocument(
        id="7", task="t", status="succeeded", created=NOW, finished=NOW,
    )], "t")["end_p50"] == 0.0  # fmt: skip


def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Says what to install; another error stays what it is."""

    def missing(name: str) -> Any:
        raise ImportError("no", name=missing_name)

    monkeypatch.setattr("importlib.import_module", missing)
    context = click.Context(main)
    missing_name = "httpx2"
    with pytest.raises(click.ClickException, match="pip install"):
        main.get_command(context, "list")
    missing_name = "other"
    with pytest.raises(ImportError):
        main.get_command(context, "list")
    assert main.get_command(context, "nothing") is None


def test_every_problem_is_a_sentence() -> None:
    """Of the service's own and of others."""
    from quart_app.cli.remote import Remote
    from quart_app.client import errors

    remote = Remote("http://127.0.0.1:1", {}, 0)
    try:
        for name in dir(errors):
            kind = getattr(errors, name)
            if isinstance(kind, type) and issubclass(kind, errors.ClientError):
                stop = explain(kind("it is so."), remote)
                assert isinstance(stop, Stop)
                assert stop.exit_code in (1, 2, 69, 130)
        refused = explain(errors.ClientError("no", status=401), remote)
        assert "--header 'Authorization: Bearer ...'" in refused.message
        assert explain(errors.ClientError("crash", status=500), remote).exit_code == 69
    finally:
        remote.close()
