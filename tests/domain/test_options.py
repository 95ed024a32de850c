"""How a start's options are checked and united, and which starts count as the same."""

from __future__ import annotations

import datetime as dt
from itertools import combinations
from typing import Any

import pytest

from quart_app.domain.errors import InvalidRequest
from quart_app.domain.options import FAR, LAST, NO_OPTIONS, Options, make_options

NOON = dt.datetime(2030, 1, 31, 12, tzinfo=dt.UTC)
PARIS = dt.timezone(dt.timedelta(hours=1))


def test_without_options_there_are_none() -> None:
    """Nothing is delayed, nothing expires, and nothing is repeatable."""
    assert make_options() == NO_OPTIONS == Options()
    assert NO_OPTIONS.request_key(b"{}", [b"{}"]) is None


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [(0, 0.0), (90, 90.0), (0.5, 0.5), (dt.timedelta(minutes=2), 120.0), (FAR, FAR)],
)
def test_a_delay_is_seconds_or_a_timedelta(delay: float | dt.timedelta, seconds: float) -> None:
    """From none to ten years."""
    assert make_options(delay=delay) == Options(delay=seconds)


@pytest.mark.parametrize(
    ("run_at", "seconds"),
    [
        (NOON, 1_896_091_200.0),
        (dt.datetime(2030, 1, 31, 13, tzinfo=PARIS), 1_896_091_200.0),
        (1_896_091_200, 1_896_091_200.0),
        (0, 0.0),
        (LAST, LAST),
    ],
)
def test_a_moment_is_a_datetime_with_a_zone_or_seconds(
    run_at: float | dt.datetime, seconds: float
) -> None:
    """The same moment in any zone; also one that is past."""
    assert make_options(run_at=run_at) == Options(run_at=seconds)


def test_expires_is_a_duration_or_a_moment() -> None:
    """Seconds and a ``timedelta`` count from the start, a ``datetime`` is itself."""
    assert make_options(expires=60) == Options(ttl=60.0)
    assert make_options(expires=dt.timedelta(hours=1)) == Options(ttl=3600.0)
    assert make_options(expires=NOON) == Options(expires_at=NOON.timestamp())


def test_options_go_together() -> None:
    """All but two that say when it begins."""
    options = make_options(key="k", delay=1, expires=2)
    assert options == Options(key="k", delay=1.0, ttl=2.0)
    with pytest.raises(InvalidRequest, match="Give delay or run_at, not both"):
        make_options(delay=1, run_at=NOON)


@pytest.mark.parametrize("name", ["delay", "expires"])
@pytest.mark.parametrize("value", [-1, -0.001, FAR + 1, float("nan"), float("inf")])
def test_a_duration_that_cannot_be_is_refused(name: str, value: float) -> None:
    """Naming the option, what it may be and what it was."""
    with pytest.raises(InvalidRequest, match=rf"{name} is 0 to 316224000 seconds, not {value!r}"):
        make_options(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["run_at", "expires"])
def test_a_datetime_without_a_zone_is_refused(name: str) -> None:
    """Nobody knows which moment it means; the message shows one that is right."""
    with pytest.raises(InvalidRequest, match=rf"{name} needs a time zone, as in 2030-01-31T"):
        make_options(**{name: NOON.replace(tzinfo=None)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "moment",
    [
        -1.0,
        LAST + 1,
        float("nan"),
        float("inf"),
        dt.datetime(1969, 12, 31, tzinfo=dt.UTC),
        dt.datetime(1970, 1, 1, tzinfo=PARIS),
        dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.timezone(-dt.timedelta(hours=1))),
    ],
)
def test_a_moment_that_no_document_can_show_is_refused(moment: float | dt.datetime) -> None:
    """The documents have four digits for the year."""
    with pytest.raises(InvalidRequest, match="a moment of the years 1970 to 9999, not"):
        make_options(run_at=moment)


@pytest.mark.parametrize("key", ["k", "k" * 255, "a key, with (signs)!", " "])
def test_a_key_is_1_to_255_printable_ascii_characters(key: str) -> None:
    """The same that the Idempotency-Key takes."""
    assert make_options(key=key).key == key


@pytest.mark.parametrize("key", ["", "k" * 256, "ké", "a\tb", "a\n", "\x7f"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    """With what it may be."""
    with pytest.raises(InvalidRequest, match="key is 1 to 255 printable ASCII characters"):
        make_options(key=key)


def test_the_fingerprint_is_of_the_whole_request() -> None:
    """What was asked, of how many, in which order, one or a list of one, with which options: each
    other request has another one."""
    key = Options(key="k")
    requests = [
        (key, b"{}", [b'{"n":1}']),
        (key, b"[]", [b'{"n":1}']),
        (key, b"[]", [b'{"n":1}', b'{"n":2}']),
        (key, b"[]", [b'{"n":2}', b'{"n":1}']),
        (key, b"[]", [b'{"n":1}', b'{"n":1}']),
        (key, b"[]", [b'{"n":1}{"n":2}']),
        (key, b"[]", []),
        (Options(key="k", delay=1.0), b"{}", [b'{"n":1}']),
        (Options(key="k", run_at=1.0), b"{}", [b'{"n":1}']),
        (Options(key="k", ttl=1.0), b"{}", [b'{"n":1}']),
        (Options(key="k", expires_at=1.0), b"{}", [b'{"n":1}']),
    ]
    keys = [options.request_key(kind, batch) for options, kind, batch in requests]
    assert all(each is not None and each.key == "k" for each in keys)
    for one, other in combinations(keys, 2):
        assert one != other
    again = [options.request_key(kind, list(batch)) for options, kind, batch in requests]
    assert again == keys


@pytest.mark.parametrize("key", [3, b"k", ["k"], True])
def test_a_key_that_is_no_text_is_refused_in_words(key: Any) -> None:
    """As one that is too long is."""
    with pytest.raises(InvalidRequest, match="key is 1 to 255 printable ASCII characters"):
        make_options(key=key)


@pytest.mark.parametrize("run_at", ["tomorrow", [1], dt.date(2030, 1, 31), 10**400])
def test_a_moment_that_is_none_is_refused_in_words(run_at: Any) -> None:
    """With what it may be."""
    with pytest.raises(InvalidRequest, match="run_at is a datetime, or seconds since the epoch"):
        make_options(run_at=run_at)


@pytest.mark.parametrize("name", ["delay", "expires"])
def test_a_duration_that_is_no_number_is_refused_in_words(name: str) -> None:
    """As every other wrong option is."""
    options: dict[str, Any] = {name: "1h"}
    with pytest.raises(InvalidRequest, match=f"{name} is seconds as a number, or a timedelta"):
        make_options(**options)
