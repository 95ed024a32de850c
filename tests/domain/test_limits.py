"""What a task may say about how many of its jobs run and begin, and how keys are made."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_app.domain.limits import (
    KEY_CHARS,
    LONGEST,
    MOST,
    KeyTemplate,
    Limits,
    Rate,
    make_limits,
    parse_rate,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1/second", Rate(1, 1.0)),
        ("100/minute", Rate(100, 60.0)),
        ("5/hour", Rate(5, 3600.0)),
        ("2/day", Rate(2, 86_400.0)),
        ("100/10 seconds", Rate(100, 10.0)),
        ("3/1.5 hours", Rate(3, 5400.0)),
        ("1/0.25 seconds", Rate(1, 0.25)),
        (" 7 / 2minutes ", Rate(7, 120.0)),
        (f"{MOST}/day", Rate(MOST, 86_400.0)),
        ("1/366 days", Rate(1, LONGEST)),
    ],
)
def test_a_rate_is_a_number_and_a_time(text: str, rate: Rate) -> None:
    """Second, minute, hour and day, also several of them."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    ["", "100", "100/", "/minute", "x/minute", "1.5/minute", "-1/minute", "100/month", "1e3/day"],
)
def test_what_is_no_rate_is_refused_with_what_is(text: str) -> None:
    """So that nobody has to look it up."""
    with pytest.raises(ValueError, match=r"is no rate; it is a number, / and second.*'100/minute'"):
        parse_rate(text)


def test_a_rate_is_a_text() -> None:
    """A bare number says nothing of the time."""
    with pytest.raises(ValueError, match="100 is no rate"):
        parse_rate(100)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["0/minute", f"{MOST + 1}/day", "9" * 6000 + "/second"])
def test_a_rate_allows_one_job_or_more_and_not_too_many(text: str) -> None:
    """Each is remembered for its time."""
    with pytest.raises(ValueError, match=f"its number is 1 to {MOST}"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["1/0 seconds", "1/367 days", "1/" + "9" * 400 + " days"])
def test_the_time_of_a_rate_is_positive_and_within_a_year(text: str) -> None:
    """Anything else is a mistake."""
    with pytest.raises(ValueError, match="its time is at most 31622400 seconds"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "values", "key"),
    [
        ("user:{user_id}", {"user_id": 7}, "user:7"),
        ("user:{user_id}", {"user_id": "seven", "more": 1}, "user:seven"),
        ("{a}/{b}/{a}", {"a": "x", "b": None}, "x/null/x"),
        ("{a}", {"a": True}, "true"),
        ("{a}", {"a": 1.5}, "1.5"),
        ("{a}", {"a": {"b": [1, "c"], "a": None}}, '{"a":null,"b":[1,"c"]}'),
        ("{{{a}}}", {"a": 1}, "{1}"),
        ("{a}", {}, "null"),
        ("always", {"a": 1}, "always"),
        ("{ä}", {"ä": "ö"}, "ö"),
    ],
)
def test_a_key_has_the_arguments_in_it(text: str, values: dict[str, Any], key: str) -> None:
    """A string as it is, any other value as its JSON."""
    assert KeyTemplate.parse(text).key(values) == key


def test_a_template_says_which_arguments_it_names() -> None:
    """Each once, in their order."""
    assert KeyTemplate.parse("{b}{a}x{b}").names == ("b", "a")
    assert KeyTemplate.parse("nothing").names == ()


@pytest.mark.parametrize(
    "text",
    ["{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>3}", "{a:{b}}", "{ a }", "{a-b}"],
)
def test_a_template_has_plain_names_in_braces(text: str) -> None:
    """No attributes, indexes, conversions and formats: they could reach what is no argument."""
    with pytest.raises(ValueError, match="in braces is the name of an argument and nothing else"):
        KeyTemplate.parse(text)


@pytest.mark.parametrize("text", ["{", "}", "{a", "a}", "{a!}"])
def test_a_brace_that_is_not_closed_is_refused(text: str) -> None:
    """With the text, so that it is found."""
    with pytest.raises(ValueError, match="is no key: "):
        KeyTemplate.parse(text)


@pytest.mark.parametrize("text", ["", "x" * (KEY_CHARS + 1), 7])
def test_a_template_is_a_text_of_some_length(text: Any) -> None:
    """One that is empty would mean nothing."""
    with pytest.raises(ValueError, match="it is 1 to 200 characters, as in 'user"):
        KeyTemplate.parse(text)


@pytest.mark.slow
@settings(deadline=None)
@given(JSON, JSON)
def test_a_key_has_a_bound_and_tells_values_apart(one: Any, other: Any) -> None:
    """However long they are; a string may look like another value's JSON, nothing else."""
    template = KeyTemplate.parse("user:{value}")
    keys = [template.key({"value": value}) for value in (one, other)]
    assert all(len(key) <= KEY_CHARS and key.startswith("user:") for key in keys)
    texts = [
        value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()
        for value in (one, other)
    ]
    assert (keys[0] == keys[1]) == (texts[0] == texts[1])


def test_long_keys_that_begin_alike_differ() -> None:
    """A digest of the whole ends them."""
    template = KeyTemplate.parse("{a}")
    one, other = (template.key({"a": "x" * 500 + end}) for end in "12")
    assert one != other
    assert one[:160] == other[:160]
    assert len(one) == len(other) == KEY_CHARS
    assert template.key({"a": "x" * KEY_CHARS}) == "x" * KEY_CHARS


def test_a_task_that_says_nothing_is_plain() -> None:
    """Every option makes it wait in turns, or needs to be looked at."""
    assert make_limits() == Limits()
    assert make_limits().plain
    options: list[dict[str, Any]] = [
        {"limit": 1},
        {"rate": "1/day"},
        {"limit_key": "{a}"},
        {"priority": -1},
        {"max_waiting": 1},
    ]
    assert not any(make_limits(**each).plain for each in options)


def test_limits_are_read_from_the_options() -> None:
    """All of them."""
    limits = make_limits(
        limit=1,
        rate="2/minute",
        limit_key="{a}",
        limit_total=3,
        rate_total="4/hour",
        priority=100,
        max_waiting=5,
    )
    key = KeyTemplate.parse("{a}")
    assert limits == Limits(
        running=1,
        rate=Rate(2, 60.0),
        key=key,
        total_running=3,
        total_rate=Rate(4, 3600.0),
        priority=100,
        max_waiting=5,
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"limit": 0}, "limit=0, but it is a whole number, 1 or more"),
        ({"limit": True}, "limit=True, but it is a whole number, 1 or more"),
        ({"limit": 1.5}, "limit=1.5, but it is a whole number, 1 or more"),
        (
            {"limit_total": -1, "limit_key": "{a}"},
            "limit_total=-1, but it is a whole number, 1 or more",
        ),
        ({"max_waiting": 0}, "max_waiting=0, but it is a whole number, 1 or more"),
        ({"priority": 101}, "priority=101, but it is a whole number from -100 to 100"),
        ({"priority": -101}, "priority=-101, but it is a whole number from -100 to 100"),
        ({"priority": 0.5}, "priority=0.5, but it is a whole number from -100 to 100"),
        ({"priority": False}, "priority=False, but it is a whole number from -100 to 100"),
        (
            {"limit_total": 1},
            "limit_total needs limit_key; without one, limit is of the whole task",
        ),
        (
            {"rate_total": "1/day"},
            "rate_total needs limit_key; without one, rate is of the whole task",
        ),
        (
            {"limit_key": "user_id"},
            "limit_key='user_id' names no argument; it is as in 'user:{user_id}'",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(options: dict[str, Any], sentence: str) -> None:
    """It names the option, and says what it may be."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - compared whole
        make_limits(**options)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("option", ["rate", "rate_total", "limit_key"])
def test_the_option_that_cannot_be_read_is_named(option: str) -> None:
    """Also where the sentence is about its text."""
    options: dict[str, Any] = {"limit_key": "{a}"} | {option: "{bad!r}"}
    with pytest.raises(ValueError, match=rf"^{option}: '{{bad!r}}' is no "):
        make_limits(**options)
