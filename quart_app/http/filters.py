"""Filters of lists, as they stand in a URL or in the JSON of a request about many jobs.

Only reading and checking may live here; what passes is decided by `quart_app.domain.queries`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

from quart import Request

from quart_app.domain.errors import BadInput
from quart_app.domain.filters import Filter
from quart_app.domain.queries import Query
from quart_app.domain.status import STATUSES, Status

FILTERS = ("status", "task", "tag", "parent", "q", "key", "error", "longer", "shorter")
MOMENTS = ("since", "until")
ARGUMENT = "args."
"""How the filters for arguments begin: ``args.month=3``."""
PAGE = ("limit", "cursor")
UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
AGO = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])")
MOST = 10
"""Arguments that one request may look at."""


def read_query(request: Request, now: float, *, cursor: bool = True) -> Query:
    """The filters and, where there are pages, the cursor of a list.

    Args:
        now: what ``since=1h`` and the time of a running job are counted from.

    Raises:
        BadInput: an unknown filter, or a value that it cannot have.
    """
    values = request.args
    known = (*FILTERS, *MOMENTS, *(PAGE if cursor else ()))
    for name in values:
        if name not in known and not name.startswith(ARGUMENT):
            names = ", ".join((*known, f"{ARGUMENT}NAME"))
            raise BadInput(f"There is no filter {name[:50]!r}; the filters are {names}")
        if name != "status" and len(values.getlist(name)) > 1:
            raise BadInput(f"{name} is given more than once")
    statuses = [part for value in values.getlist("status") for part in value.split(",")]
    args = {
        name.removeprefix(ARGUMENT): value
        for name, value in values.items()
        if name.startswith(ARGUMENT)
    }
    return _query(
        statuses,
        values,
        args,
        now,
        limit=_number("limit", values.get("limit", "50"), 1, 100) if cursor else 50,
        before=_number("cursor", values["cursor"], 1, 2**62) if "cursor" in values else None,
    )


def read_match(match: Any, now: float) -> Query:
    """The same filters as a JSON object, for what is done with many jobs.

    Raises:
        BadInput: an unknown filter, or a value that it cannot have.
    """
    known = (*FILTERS, *MOMENTS, "args")
    if not isinstance(match, dict) or not set(match) <= set(known):
        raise BadInput(f"match is an object of {', '.join(known)}")
    status = match.get("status", [])
    statuses = status if isinstance(status, list) else [status]
    if "status" in match and not statuses:  # Perhaps by accident, and all would be canceled.
        raise BadInput("status is empty: name at least one, or leave it out")
    values: dict[str, str] = {}
    for name, value in match.items():
        if name in ("status", "args"):
            continue
        number = name in ("longer", "shorter") and type(value) in (int, float)
        if not number and not isinstance(value, str):
            raise BadInput(f"{name} is a {'number' if name in ('longer', 'shorter') else 'string'}")
        values[name] = str(value)
    args = match.get("args", {})
    if not isinstance(args, dict):
        raise BadInput("args is an object: names of arguments, each with its value")
    return _query(statuses, values, {name: _text(value) for name, value in args.items()}, now)


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str | int | float):
        return str(value)
    raise BadInput("an argument is compared with a text, a number, true, false or null")


def _query(
    statuses: list[Any],
    values: Mapping[str, str],
    args: Mapping[str, str],
    now: float,
    limit: int = 50,
    before: int | None = None,
) -> Query:
    if len(args) > MOST:
        raise BadInput(f"{MOST} arguments at most, not {len(args)}")
    also = Filter(
        key=values.get("key"),
        error=values.get("error"),
        args=tuple(sorted(args.items())),
        longer=_seconds("longer", values.get("longer")),
        shorter=_seconds("shorter", values.get("shorter")),
        since=moment_of("since", values["since"], now) if "since" in values else None,
        until=moment_of("until", values["until"], now) if "until" in values else None,
        now=now,
    )
    return Query(
        statuses=_statuses(statuses),
        task=values.get("task"),
        tag=values.get("tag"),
        parent=values.get("parent"),
        text=values.get("q"),
        also=None if also == Filter(now=now) else also,
        limit=limit,
        before=before,
    )


def moment_of(name: str, text: str, now: float) -> float:
    """A moment, in seconds since the epoch: RFC 3339, or so long before ``now``.

    Raises:
        BadInput: it is neither.

    >>> moment_of("since", "15m", 1000.0)
    100.0
    """
    if ago := AGO.fullmatch(text):
        return now - float(ago[1]) * UNITS[ago[2]]
    try:
        # A "+" that was not escaped in a URL has come as a space.
        at = dt.datetime.fromisoformat(text.replace(" ", "+").upper())
        if at.tzinfo is None:
            raise ValueError
        return at.timestamp()
    except (ValueError, OverflowError):
        message = (
            f"{name} is a duration back from now (90s, 15m, 1h, 7d) or a moment with its time zone "
            f"(2030-01-31T08:00:00Z), not {text[:50]!r}"
        )
        raise BadInput(message) from None


def _seconds(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
        if not 0 <= seconds <= 1e10:
            raise ValueError
    except ValueError:
        raise BadInput(f"{name} is seconds as a number, not {text[:50]!r}") from None
    return seconds


def _statuses(names: list[Any]) -> frozenset[Status]:
    for name in names:
        if name not in STATUSES:
            raise BadInput(f"status is one of {', '.join(STATUSES)}, not {str(name)[:50]!r}")
    return frozenset(names)


def _number(name: str, value: str, least: int, most: int) -> int:
    if value.isascii() and value.isdigit() and len(value) < 20 and least <= int(value) <= most:
        return int(value)
    raise BadInput(f"{name} is a number from {least} to {most}, not {value[:50]!r}")
