"""A function's annotations are the schema of its arguments: strict, complete, nothing shared."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import os
import subprocess
import sys
import uuid
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_app.core.context import Context
from quart_app.domain.arguments import (
    ENCODER,
    Arguments,
    is_context,
    parameters_of,
    pointer,
    schema_of,
)
from quart_app.domain.errors import InvalidArguments, InvalidTask


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Options(TypedDict, total=False):
    depth: int
    words: list[str]


class Row(msgspec.Struct):
    name: str
    cells: list[int] = []


@dataclasses.dataclass
class Slot:
    """Has a check of its own, which was not made for others to read."""

    hour: int

    def __post_init__(self) -> None:
        assert self.hour >= 0
        if self.hour > 23:
            raise LookupError(f"no hour {self.hour} caf\udce9")


class Color(enum.Enum):
    RED = "red"


WORDS = {"alpha", "beta", "gamma", "delta", "epsilon"}


class Model:
    """Looks like a pydantic model, and is none."""

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def model_validate(cls, value: Any) -> Model:
        if not isinstance(value, str) or value == "bad":
            raise ValueError("not a good text")
        return cls(value)

    def model_dump(self, *, mode: str) -> str:
        assert mode == "json"
        return self.text

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        return {
            "$defs": {"Text": {"type": "string", "examples": ["a", 1]}},
            "$ref": "#/$defs/Text",
        }


class Stubborn(Model):
    """Can be read, and not be written."""

    def model_dump(self, *, mode: str) -> str:
        raise LookupError("gone")


class Address(pydantic.BaseModel):
    city: str
    zip: Annotated[int, pydantic.Field(ge=1)] = 1


class Person(pydantic.BaseModel):
    name: str
    home: Address
    boss: Person | None = None


class Plain:
    """A class that no JSON can become."""


def everything(
    *,
    point: Point,
    options: Options,
    row: Row,
    model: Model,
    month: Annotated[int, msgspec.Meta(ge=1, le=12)] = 1,
    size: Literal["s", "l"] = "s",
    color: Color = Color.RED,
    day: datetime.date | None = None,
    price: decimal.Decimal = decimal.Decimal("1.50"),
    by_number: dict[int, list[Row]] | None = None,
    loose: Any = None,
) -> None:
    """Takes one of each kind."""


GOOD: dict[str, Any] = {
    "point": {"x": 1},
    "options": {"depth": 2},
    "row": {"name": "a"},
    "model": "m",
}


def arguments_of(function: Any) -> Arguments:
    """As a task makes them."""
    return Arguments(function.__name__, parameters_of(function)[0])


def misfits(arguments: Arguments, values: Any) -> dict[str, str]:
    """The pointers of what does not fit, each with its detail."""
    with pytest.raises(InvalidArguments) as caught:
        arguments.check(values if isinstance(values, bytes) else json.dumps(values).encode())
    return {error["pointer"]: error["detail"] for error in caught.value.errors}


def test_each_kind_of_annotation_is_read_as_itself() -> None:
    """Dataclass, TypedDict, Struct, model, bounds, Literal, enum, date, Decimal, union, Any."""
    arguments = arguments_of(everything)
    given_values = {**GOOD, "day": "2026-11-22", "by_number": {"7": [{"name": "b"}]}, "loose": [1]}
    read = arguments.read(arguments.check(json.dumps(given_values).encode()))
    assert (read["point"], read["options"], read["row"]) == (Point(1, 0), {"depth": 2}, Row("a"))
    assert isinstance(read["model"], Model)
    assert (read["month"], read["size"], read["color"]) == (1, "s", Color.RED)
    assert (read["day"], read["price"]) == (datetime.date(2026, 11, 22), decimal.Decimal("1.50"))
    assert (read["by_number"], read["loose"]) == ({7: [Row("b")]}, [1])


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"month": 13}, "#/month"),
        ({"month": 0}, "#/month"),
        ({"month": "1"}, "#/month"),
        ({"month": 1.5}, "#/month"),
        ({"month": True}, "#/month"),
        ({"month": None}, "#/month"),
        ({"size": "m"}, "#/size"),
        ({"color": "blue"}, "#/color"),
        ({"day": "yesterday"}, "#/day"),
        ({"price": "much"}, "#/price"),
        ({"point": {"x": "1"}}, "#/point/x"),
        ({"point": {}}, "#/point"),
        ({"options": {"words": ["a", 1]}}, "#/options/words/1"),
        ({"row": {"name": "a", "cells": [1, 2, "3"]}}, "#/row/cells/2"),
        ({"model": "bad"}, "#/model"),
        ({"by_number": {"7": [{"name": 1}]}}, "#/by_number"),
        ({"by_number": {"x": []}}, "#/by_number"),
        ({"other": 1}, "#/other"),
        ({"a/b~c": 1}, "#/a~1b~0c"),
    ],
)
def test_a_misfit_is_named_by_its_place(change: dict[str, Any], place: str) -> None:
    """Values are not bent until they fit, and the pointer says which one it was."""
    found = misfits(arguments_of(everything), {**GOOD, **change})
    assert list(found) == [place]
    assert "$" not in found[place] or "key" in found[place]


def test_every_misfit_is_named_at_once() -> None:
    """Missing, unknown and wrong ones: the caller needs one round to repair all."""
    found = misfits(arguments_of(everything), {"point": 1, "month": 0, "other": 1, "model": "m"})
    assert found == {
        "#/other": "There is no such argument",
        "#/point": "Expected `object`, got `int`",
        "#/options": "This argument is required",
        "#/row": "This argument is required",
        "#/month": "Expected `int` >= 1",
    }


def test_keys_of_a_dict_that_fit_are_not_named_beside_what_does_not() -> None:
    """JSON has only strings as keys; where they stand for numbers they are read as such."""
    found = misfits(arguments_of(everything), {**GOOD, "by_number": {"7": []}, "month": 0})
    assert list(found) == ["#/month"]


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        (b"[1]", "Expected an object of arguments, got list"),
        (b'"x"', "Expected an object of arguments, got str"),
        (b"{", "Input data was truncated"),
        (b'{"point": {"x": 1}} x', "missing required field"),
        (b'{"loose": "\xff"}', "can't decode byte 0xff"),
    ],
)
def test_what_is_no_object_of_arguments_is_refused_as_a_whole(payload: bytes, detail: str) -> None:
    """The pointer is that of the whole document."""
    found = misfits(arguments_of(everything), payload)
    assert list(found) == ["#"]
    assert detail in found["#"]


@pytest.mark.parametrize("before", ["", '"other": 1, '])
def test_arguments_that_are_nested_too_deeply_are_refused(before: str) -> None:
    """Also behind another misfit; never a RecursionError."""
    payload = f'{{{before}"loose": {"[" * 100_000}{"]" * 100_000}}}'.encode()
    with pytest.raises(InvalidArguments):
        arguments_of(everything).check(payload)


def test_defaults_are_not_shared_between_jobs() -> None:
    """A job may change the list that it was given by default: the next one gets a new one."""

    def job(words: list[str] = [], table: dict[str, int] = {}, ids: set[int] = set()) -> None: ...  # noqa: B006

    arguments = arguments_of(job)
    # Records from before the parameters had defaults, and those of today.
    for payload in (b"{}", arguments.check(b"{}")):
        first, second = arguments.read(payload), arguments.read(payload)
        first["words"].append("x")
        first["table"]["x"] = 1
        first["ids"].add(1)
        assert second == {"words": [], "table": {}, "ids": set()}
    assert arguments.read(b"{}") == {"words": [], "table": {}, "ids": set()}


def test_the_kept_arguments_are_complete_and_canonical() -> None:
    """With defaults and without white space, so that what is shown is what is run."""

    def job(b: int, a: float = 1) -> None: ...

    arguments = arguments_of(job)
    assert arguments.check(b' { "b" : 2 } ') == b'{"b":2,"a":1.0}'
    assert arguments.write({"b": 2}) == b'{"b":2,"a":1.0}'
    assert arguments.write({"a": 3.5, "b": 2}) == b'{"b":2,"a":3.5}'


@dataclasses.dataclass(frozen=True)
class Team:
    words: frozenset[str]
    z: int = 1


class Rules(msgspec.Struct, rename="camel", tag="rules", frozen=True):
    the_teams: list[Team]
    codes: set[int | str]


class Choice(pydantic.BaseModel):
    tags: set[str]
    more: dict[str, list[frozenset[int]]] = {}


SETS_IN_PROCESS = """
import sys
from tests.domain.test_arguments import written_sets
sys.stdout.buffer.write(written_sets())
"""


def written_sets() -> bytes:
    """What is kept of arguments with sets in every place."""

    def job(
        tags: set[str],
        rules: Rules,
        choice: Choice,
        given: list[str],
        more: Any,
        own: set[str] = WORDS,
    ) -> None: ...

    arguments = arguments_of(job)
    teams = [Team(frozenset(WORDS))]
    payload = arguments.write(
        {
            "tags": WORDS,
            "rules": Rules(teams, {1, "a", 30, *WORDS}),
            "choice": Choice(tags=WORDS, more={"z": [frozenset({9, 1, 300})], "a": []}),
            "given": WORDS,
            "more": {"z": [WORDS], "a": {frozenset({"x", "y"}), frozenset({"z", "y"})}},
        }
    )
    assert arguments.check(payload) == payload
    assert arguments.read(payload)["rules"] == Rules(teams, {1, "a", 30, *WORDS})
    return payload


def test_sets_are_kept_in_one_order_whatever_the_seed_of_the_hashes() -> None:
    """What is asked for again after a restart is the same; dicts keep the order they came in."""
    run = [sys.executable, "-c", SETS_IN_PROCESS]
    kept = {
        subprocess.run(
            run, env={**os.environ, "PYTHONHASHSEED": str(seed)}, capture_output=True, check=True
        ).stdout
        for seed in (1, 2)
    }
    assert kept == {written_sets()}
    words = sorted(WORDS)
    assert json.loads(kept.pop()) == {
        "tags": words,
        "rules": {
            "type": "rules",
            "theTeams": [{"words": words, "z": 1}],
            "codes": ["a", *words, 1, 30],
        },
        "choice": {"tags": words, "more": {"z": [[1, 300, 9]], "a": []}},
        "given": words,
        "more": {"z": [words], "a": [["x", "y"], ["y", "z"]]},
        "own": words,
    }
    assert b'"more":{"z":' in written_sets()


def test_a_task_without_parameters_takes_nothing() -> None:
    """The empty object is fine, everything else is not."""

    def job() -> None: ...

    arguments = arguments_of(job)
    assert arguments.write({}) == arguments.check(b"{}") == b"{}"
    assert arguments.read(b"{}") == {}
    assert list(misfits(arguments, {"x": 1})) == ["#/x"]
    with pytest.raises(InvalidArguments):
        arguments.write({"x": 1})


@pytest.mark.parametrize("value", [Plain(), "\ud800", math.nan, None])
def test_python_values_that_are_no_json_are_refused(value: object) -> None:
    """As misfits of the start, not as errors of the job."""

    def job(x: int) -> None: ...

    with pytest.raises(InvalidArguments):
        arguments_of(job).write({"x": value})


def test_arguments_that_no_longer_fit_are_refused_when_read() -> None:
    """A new version of the task may have other parameters than a kept job."""

    def job(x: int) -> None: ...

    with pytest.raises(InvalidArguments) as caught:
        arguments_of(job).read(b'{"x":"old"}')
    assert "no longer fit 'job'" in caught.value.detail
    assert caught.value.errors[0]["pointer"] == "#/x"


@pytest.mark.parametrize(
    ("hour", "detail"),
    [(24, "LookupError: no hour 24 caf?"), (-1, "AssertionError: assert -1 >= 0")],
)
def test_whatever_a_types_own_check_raises_is_a_misfit(hour: int, detail: str) -> None:
    """When a job is started as when it is run; and for a default at once."""

    def job(slot: Slot) -> None: ...

    arguments = arguments_of(job)
    with pytest.raises(InvalidArguments) as caught:
        arguments.write({"slot": {"hour": hour}})
    [error] = caught.value.errors
    assert error["pointer"] == "#/slot"
    assert error["detail"].startswith(detail)
    with pytest.raises(InvalidArguments, match="no longer fit 'job': " + detail[:8]) as caught:
        arguments.read(b'{"slot":{"hour":%d}}' % hour)
    assert caught.value.errors == [error]
    late = object.__new__(Slot)
    late.hour = hour
    with pytest.raises(InvalidTask, match="does not fit its own type: " + detail[:8]):
        Arguments("job", {"slot": (Slot, late)})


def test_a_value_that_cannot_be_written_is_a_misfit() -> None:
    """Whatever its own encoding raises."""

    def job(x: Stubborn) -> None: ...

    with pytest.raises(InvalidArguments, match="LookupError: gone"):
        arguments_of(job).write({"x": Stubborn("a")})
    with pytest.raises(InvalidArguments, match="LookupError: gone"):
        arguments_of(job).check(b'{"x":"a"}')


VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(st.characters(exclude_categories=["Cs"])),
    bool: st.booleans(),
    bytes: st.binary(),
    uuid.UUID: st.uuids(),
    datetime.datetime: st.datetimes(timezones=st.just(datetime.UTC)),
    decimal.Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    list[int]: st.lists(st.integers(0, 9)),
    dict[str, float]: st.dictionaries(st.sampled_from("abc"), st.integers(0, 9).map(float)),
    dict[int, bool]: st.dictionaries(st.integers(), st.booleans()),
    set[str]: st.sets(st.sampled_from("abc")),
    tuple[int, str]: st.tuples(st.integers(0, 9), st.sampled_from("abc")),
    int | None: st.none() | st.integers(0, 9),
    Color: st.just(Color.RED),
    Point: st.builds(Point, x=st.integers(0, 9), y=st.integers(0, 9)),
    Options: st.fixed_dictionaries({}, optional={"depth": st.integers(0, 9)}),
    Row: st.builds(Row, name=st.sampled_from("ab"), cells=st.lists(st.integers(0, 9))),
}


@st.composite
def signatures(draw: st.DrawFn) -> tuple[dict[str, tuple[Any, Any]], dict[str, Any]]:
    """Parameters, and values that fit them; some values are left to the defaults."""
    kinds = draw(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(list(VALUES))))
    parameters: dict[str, tuple[Any, Any]] = {}
    values = {}
    for name, kind in kinds.items():
        value = draw(VALUES[kind])
        if draw(st.booleans()):
            parameters[name] = (kind, value)
        else:
            parameters[name] = (kind, parameters_of(everything)[0]["row"][1])
            values[name] = value
    return parameters, values


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(signatures())
def test_what_is_started_is_what_the_function_receives(
    signature: tuple[dict[str, tuple[Any, Any]], dict[str, Any]],
) -> None:
    """Python values go through JSON and come back equal, defaults included, also twice."""
    parameters, values = signature
    arguments = Arguments("t", parameters)
    payload = arguments.write(values)
    defaults = {name: value for name, (_, value) in parameters.items() if name not in values}
    assert arguments.read(payload) == {**defaults, **values}
    assert arguments.read(arguments.check(payload)) == {**defaults, **values}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
ANYTHING = arguments_of(everything)
NAMES = [*ANYTHING.parameters, "other"]
LENIENT = Arguments(
    "lenient", {name: (kind | None, None) for name, (kind, _) in ANYTHING.parameters.items()}
)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(NAMES), JSON) | JSON)
def test_whatever_comes_is_taken_or_refused_with_places(value: Any) -> None:
    """No input makes another error, and every pointer is one into the document."""
    payload, errors = json.dumps(value).encode(), []
    try:
        payload = LENIENT.check(payload)
        assert LENIENT.check(payload) == payload
    except InvalidArguments as error:
        errors = [each["pointer"].removeprefix("#").split("/")[1:] for each in error.errors] or [[]]
    known = {*LENIENT.parameters, *(value if isinstance(value, dict) else ())}
    written = {name.replace("~", "~0").replace("/", "~1") for name in known} | {""}
    assert [place for place in errors if place and place[0] not in written] == []


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.binary())
def test_any_bytes_are_taken_or_refused(payload: bytes) -> None:
    """Never anything but `InvalidArguments`."""
    with pytest.raises(InvalidArguments):
        ANYTHING.check(payload)


def test_models_of_pydantic_validate_themselves() -> None:
    """Bounds and nesting hold, the record has plain JSON, the function receives the model."""

    def hire(person: Person, others: list[Address] = [], note: Address | None = None) -> None: ...  # noqa: B006

    arguments = arguments_of(hire)
    payload = arguments.write({"person": Person(name="Ann", home=Address(city="Rome"))})
    assert json.loads(payload)["person"]["home"] == {"city": "Rome", "zip": 1}
    read = arguments.read(payload)
    assert read["person"] == Person(name="Ann", home=Address(city="Rome", zip=1))
    found = misfits(arguments, {"person": {"name": "Ann"}, "others": [{"city": "a", "zip": 0}]})
    assert list(found) == ["#/person", "#/others/0"]
    assert "home" in found["#/person"]


def test_the_schema_is_one_piece() -> None:
    """Definitions stand where they are used, for another document has another root."""
    schema = arguments_of(everything).schema()
    properties = schema["properties"]
    assert schema["required"] == ["point", "options", "row", "model"]
    assert schema["additionalProperties"] is False
    assert properties["month"] == {"type": "integer", "minimum": 1, "maximum": 12, "default": 1}
    assert properties["size"]["enum"] == ["l", "s"]
    assert properties["model"] == {"type": "string", "examples": ["a", 1]}
    assert properties["point"]["properties"]["x"] == {"type": "integer"}
    assert "$ref" not in json.dumps(schema)


def test_the_schema_of_a_type_that_contains_itself_ends() -> None:
    """Eight levels deep; below that anything is said to be allowed."""
    text = json.dumps(schema_of(Person))
    assert "$ref" not in text
    assert 3 < text.count('"boss"') < 100


def test_a_type_without_schema_allows_anything() -> None:
    """A result may be annotated with what JSON Schema does not know."""
    assert schema_of(Plain) == {}
    assert schema_of(dict[str, int | Plain]) == {}
    assert schema_of(int) == {"type": "integer"}


def test_the_context_is_no_argument() -> None:
    """Whatever it is called and also where it may be None."""

    def job(month: int, ctx: Context) -> str:  # type: ignore[empty-body]
        ...

    def other(*, here: Context | None = None) -> None: ...

    parameters, context, result = parameters_of(job)
    assert (list(parameters), context, result) == (["month"], "ctx", str)
    assert parameters_of(other)[:2] == ({}, "here")
    assert is_context(Context)
    assert not is_context(int | None)


def args(*values: int) -> None: ...
def kwargs(**values: int) -> None: ...
def positional(x: int, /) -> None: ...
def undefined(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def two(a: Context, b: Context) -> None: ...


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (args, "arguments are passed by name, so *values"),
        (kwargs, "arguments are passed by name, so **values"),
        (positional, "arguments are passed by name, so x"),
        (undefined, "an annotation names what is not defined here: name 'Nowhere'"),
        (two, "two parameters take the context"),
    ],
)
def test_a_signature_that_json_cannot_fill_is_refused(function: Any, why: str) -> None:
    """The message names the function as its author knows it, and the parameter."""
    with pytest.raises(InvalidTask) as caught:
        parameters_of(function)
    assert f"test_arguments.{function.__name__}: " in str(caught.value)
    assert why in str(caught.value).replace("'int'", "int")


def plain(x: Plain) -> None: ...
def within(x: dict[str, list[Plain | None]]) -> None: ...
def ambiguous(x: Point | Row | Options) -> None: ...
def bounded(x: Annotated[str, msgspec.Meta(ge=1)]) -> None: ...
def none_by_default(x: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013
def infinite(x: float = math.inf) -> None: ...
def sentinel(x: Any = Plain()) -> None: ...  # noqa: B008
def too_small(x: Annotated[int, msgspec.Meta(ge=1)] = 0) -> None: ...


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (plain, "has the type Plain, which cannot come from JSON"),
        (within, "has the type Plain, which cannot come from JSON"),
        (ambiguous, "Type unions may not contain more than one dict-like type"),
        (bounded, "Can only set `ge` on a numeric type"),
        (none_by_default, "its default None does not fit its own type: Expected `int`"),
        (infinite, "its default inf does not fit its own type"),
        (sentinel, "Plain cannot be written as JSON"),
        (too_small, "its default 0 does not fit its own type"),
    ],
)
def test_a_parameter_that_would_fail_in_every_job_is_refused(function: Any, why: str) -> None:
    """At the definition, with the names of the task and the parameter."""
    with pytest.raises(InvalidTask) as caught:
        arguments_of(function)
    assert f"task {function.__name__!r}: parameter 'x'" in str(caught.value)
    assert why in str(caught.value)


def test_a_type_that_contains_itself_is_a_fine_argument() -> None:
    """The search for types that JSON cannot become ends."""

    def job(tree: Tree) -> None: ...

    arguments = arguments_of(job)
    read = arguments.read(arguments.check(b'{"tree": {"children": [{}]}}'))
    assert read == {"tree": Tree([Tree([])])}


class Tree(msgspec.Struct):
    children: list[Tree] = []


def test_results_are_written_with_the_same_encoder() -> None:
    """Models of both kinds become plain JSON; what is no JSON says so."""
    assert ENCODER.encode([Model("a"), Address(city="b")]) == b'["a",{"city":"b","zip":1}]'
    with pytest.raises(TypeError, match="Plain cannot be written as JSON"):
        ENCODER.encode(Plain())


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("a", "", "#/a"),
        ("a", ".b[0].c", "#/a/b/0/c"),
        ("a", "[2][3]", "#/a/2/3"),
        ("a", "[...].x", "#/a"),
        ("~", "./", "#/~0/~1"),
    ],
)
def test_pointers_are_escaped(name: str, path: str, expected: str) -> None:
    """As RFC 6901 has it."""
    assert pointer(name, path) == expected
