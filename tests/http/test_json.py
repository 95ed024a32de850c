"""Strict JSON: what readers understand differently is 400, what is JSON comes back unchanged."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quart_app import task
from quart_app.domain.errors import BadInput
from quart_app.http.requests import strict_json
from tests.http.support import Api, problem, serving

EXAMPLES = settings(max_examples=150, derandomize=True, database=None, deadline=None)
FEW = settings(EXAMPLES, max_examples=60)


@task
async def echo(value: Any = None) -> Any:
    """Return what was given."""
    return value


NOT_STRICT = {
    "NaN": b'{"value": NaN}',
    "Infinity": b'{"value": Infinity}',
    "minus Infinity": b'{"value": [-Infinity]}',
    "a number that becomes infinite": b'{"value": 1e999}',
    "a number that becomes minus infinite": b'{"value": {"a": -1e999}}',
    "a number of many digits that becomes infinite": b'{"value": ' + b"9" * 400 + b".0}",
    "an integer of 5,000 digits": b'{"value": ' + b"9" * 5_000 + b"}",
    "a key twice": b'{"value": 1, "value": 1}',
    "a key twice, spelt differently": b'{"value": 1, "v\\u0061lue": 2}',
    "a key twice, deep inside": b'{"value": [{"a": {"b": 1, "b": 2}}]}',
    "half of a surrogate pair": b'{"value": "\\ud83d"}',
    "the other half": b'{"value": ["\\ude00"]}',
    "both halves the wrong way round": b'{"value": "\\ude00\\ud83d"}',
    "half of a surrogate pair in a key": b'{"value": {"\\ud800": 1}}',
    "half of a surrogate pair as bytes": b'{"value": "\xed\xa0\x80"}',
    "NUL": b'{"value": "a\\u0000b"}',
    "NUL in a key": b'{"value": {"\\u0000": 1}}',
    "NUL as a byte": b'{"value": "\x00"}',
    "NUL after the end": b'{"value": 1}\x00',
    "a control character": b'{"value": "\n"}',
    "invalid UTF-8": b'{"value": "\xff"}',
    "an overlong form": b'{"value": "\xc0\xaf"}',
    "UTF-16": '{"value": 1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"value": 1}',
    "arrays 65 deep": b'{"value": ' + b"[" * 64 + b"]" * 64 + b"}",
    "arrays 30,000 deep": b"[" * 30_000 + b"]" * 30_000,
    "objects 5,000 deep": b'{"value":' * 5_000 + b"1" + b"}" * 5_000,
    "brackets that never close": b"[" * 60_000,
    "deep after brackets in a string": b'{"a": "]]\\"]", "b": ' + b"[" * 65 + b"]" * 65 + b"}",
    "a comma too many": b'{"value": 1,}',
    "a comment": b'{"value": 1} // one',
    "single quotes": b"{'value': 1}",
    "a bare word": b"{value: 1}",
    "a plus sign": b'{"value": +1}',
    "a leading zero": b'{"value": 01}',
    "hexadecimal": b'{"value": 0x1}',
    "two values": b'{"value": 1} {"value": 2}',
    "half an object": b'{"value": ',
    "only white space": b"  ",
    "an unfinished string": b'{"value": "',
    "an unknown escape": b'{"value": "\\x41"}',
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_STRICT)
async def test_what_is_not_strictly_json_is_400_and_starts_nothing(name: str) -> None:
    """On every route that reads a body; never 500."""
    async with serving(echo) as api:
        done = await api.start("echo")
        await api.job(done["id"], wait=5)
        for path in ("/start/echo", "/start", "/cancel", f"/jobs/{done['id']}/retry"):
            found = problem(await api.send(path, NOT_STRICT[name]), 400)
            assert len(found["detail"]) < 300
        assert await api.count() == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"value": ' + b"[" * 63 + b"]" * 63 + b"}",
        b'{"value": "' + b"[{" * 5_000 + b'"}',
        b'{"value": "\\"' + b"[" * 100 + b'"}',
        b'{"value": "' + b"\\\\" * 100 + b'", "x' + b"[" * 5 + b'": 1}',
        b'{"value": [' + b"[]," * 500 + b"1]}",
        b'{"value": "\\ud83d\\ude00"}',
        b'{"value": "\\u0001"}',
        b'{"value": ' + b"9" * 4_000 + b"}",
        b'{"value": [1e308, -1e308, 1e-999, 0.1, -0, -0.0, 123456789012345678901234567890]}',
        b' \t\r\n{"value": 1} \t\r\n',
        b'{"value": {"": {"": ""}}}',
    ],
    ids=lambda body: str(body[:30]),
)
async def test_what_is_strictly_json_is_taken(body: bytes) -> None:
    """Nesting of 64, brackets inside strings, whole surrogate pairs, large integers."""
    async with serving(echo) as api:
        status = (await api.send("/start/echo", body)).status
        assert status == (422 if b'"x[' in body else 202)


def test_a_body_made_to_be_slow_to_check_is_not() -> None:
    """No body within the limit holds up the event loop: the check is linear in its length."""
    hostile = [
        b"{" * 65 + b'"' + b'\\"' * 32_000,
        b"[" * 65 + b'"' * 65_000,
        b"[" * 65 + b"\\" * 65_000,
        b"[" * 65 + b'"\\\n' * 20_000,
        b'{"a":"\\u0041"}' + b'"a' * 32_000,
        b"[" * 30 + b'"\\u0061' * 8_000,
        b'{"a":' + b"9" * 65_000,
    ]
    for body in hostile:
        began = time.thread_time()
        with pytest.raises(BadInput):
            strict_json(body[:65_536])
        assert time.thread_time() - began < 0.1, body[:80]


CHARACTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CHARACTERS)
)
KEYS = st.text(CHARACTERS, max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


class Serving:
    """One app for many examples, on a loop of its own: hypothesis calls plain functions."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._context = serving(echo)

    def __enter__(self) -> Serving:
        self._runner.__enter__()
        self.api: Api = self._runner.run(self._context.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._context.__aexit__(None, None, None))
        self._runner.close()

    def start(self, body: bytes, **headers: str) -> tuple[int, Any]:
        """POST these bytes; the status and the parsed answer."""
        headers = {"Content-Type": "application/json", **headers}
        answer = self._runner.run(self.api.ask("POST", "/start/echo", data=body, headers=headers))
        return answer.status, answer.json


@pytest.mark.slow
def test_every_valid_json_value_comes_back_as_it_was_sent() -> None:
    """As argument and as result: text, numbers of any size, nesting, order, however it is spelt."""
    with Serving() as served:

        @FEW
        @given(VALUES, st.booleans(), st.sampled_from([None, 2]))
        def round_trip(value: Any, ascii_only: bool, indent: int | None) -> None:
            body = json.dumps({"value": value}, ensure_ascii=ascii_only, indent=indent).encode()
            status, job = served.start(body, Prefer="wait=10")
            assert (status, job["status"]) == (200, "succeeded")
            for back in (job["args"]["value"], job["result"]):
                assert same(back, value)

        round_trip()


def same(back: Any, sent: Any) -> bool:
    """Equal, with the same types: 1 is not True, and not 1.0 unless JSON cannot tell them apart."""
    return json.dumps(back) == json.dumps(sent)


@pytest.mark.slow
def test_no_bytes_at_all_are_answered_with_5xx() -> None:
    """Whatever is sent as JSON: 2xx or 4xx, and always in JSON."""
    with Serving() as served:

        @FEW
        @given(st.binary(max_size=60) | VALUES.map(json.dumps).map(str.encode))
        @example(b'{"value": 1e999}')
        def answered(body: bytes) -> None:
            assert served.start(body)[0] < 500

        answered()


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """JSON with a few bytes put in, taken out or exchanged: near misses."""
    body = bytearray(json.dumps({"value": draw(VALUES)}).encode())
    junk = [b"NaN", b"1e999", b"\\ud800", b"\\u0000", b"\x00", b"\xff", b"[", b"{", b'"', b",", b""]
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(body)))
        end = draw(st.integers(place, min(len(body), place + 3)))
        body[place:end] = draw(st.sampled_from(junk))
    return bytes(body)


@pytest.mark.slow
@EXAMPLES
@given(mangled())
def test_what_is_accepted_is_what_every_strict_reader_reads(body: bytes) -> None:
    """Either BadInput, or a value that can be written as JSON and UTF-8, and reads the same."""
    try:
        value = strict_json(body)
    except BadInput:
        return
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    assert b"\0" not in text.encode()
    assert "\\u0000" not in json.dumps(value).replace("\\\\", "")  # A backslash is no escape.
    assert strict_json(text.encode()) == value
    assert json.loads(body.decode()) == value
