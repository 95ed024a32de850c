"""How a start asks for its options: the Idempotency-Key, and ``delay`` and the like.

Those are in the query, since the body is the task's arguments. Only reading may live here; what an
option may be is `quart_app.domain.options`.
"""

from __future__ import annotations

import datetime as dt
import re

from quart import Request

from quart_app.domain.errors import BadInput, InvalidRequest
from quart_app.domain.options import NO_OPTIONS, Options, make_options
from quart_app.http.requests import Fields, read_key

START_OPTIONS = ("delay", "run_at", "expires", "priority")
WHOLE = re.compile(r"-?[0-9]{1,9}")
NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
"""As in JSON: clients write small numbers as 1e-05."""
DURATION = "seconds, such as 90 or 0.5"
MOMENT = "a moment with a time zone, such as 2030-01-31T08:00:00Z (RFC 3339)"


def read_options(request: Request, fields: Fields) -> Options:
    """How a job is to be started. A moment is RFC 3339, a duration is seconds.

    Raises:
        BadInput: an unknown parameter, or a value that it cannot have.
    """
    key = read_key(fields)
    if not request.query_string:
        return NO_OPTIONS if key is None else Options(key=key)
    values = request.args
    for name in values:
        if name not in START_OPTIONS:
            known = ", ".join(START_OPTIONS)
            message = f"There is no option {name[:50]!r}; the options of a start are {known}"
            raise BadInput(f"{message}; arguments go into the body")
        if len(values.getlist(name)) > 1:
            raise BadInput(f"{name} is given more than once")
    delay, run_at, expires, priority = (values.get(name) for name in START_OPTIONS)
    try:
        return make_options(
            key=key,
            delay=None if delay is None else _duration("delay", delay, DURATION),
            run_at=None if run_at is None else _moment("run_at", run_at, MOMENT),
            expires=None if expires is None else _either("expires", expires),
            priority=None if priority is None else _whole("priority", priority),
        )
    except InvalidRequest as error:
        raise BadInput(error.detail) from None


def _either(name: str, text: str) -> float | dt.datetime:
    expected = f"{DURATION}, or {MOMENT}"
    if NUMBER.fullmatch(text) is not None:
        return _duration(name, text, expected)
    return _moment(name, text, expected)


def _duration(name: str, text: str, expected: str) -> float:
    if NUMBER.fullmatch(text) is None:
        raise BadInput(f"{name} is {expected}, not {text[:50]!r}")
    return float(text)


def _whole(name: str, text: str) -> int:
    if WHOLE.fullmatch(text) is None:
        raise BadInput(f"{name} is a whole number, not {text[:50]!r}")
    return int(text)


def _moment(name: str, text: str, expected: str) -> dt.datetime:
    try:
        # A + in a query is a space, and many clients do not know. RFC 3339 has small letters, too.
        return dt.datetime.fromisoformat(text.replace(" ", "+").upper())
    except ValueError:
        raise BadInput(f"{name} is {expected}, not {text[:50]!r}") from None
