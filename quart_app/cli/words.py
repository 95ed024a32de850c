"""Times and amounts in words, and words read as such.

Nothing may live here that knows a job or a terminal.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import click

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|[smhd])?")


def seconds_of(text: str) -> float | None:
    """A duration in seconds; None where it is none.

    >>> seconds_of("10m"), seconds_of("1.5h"), seconds_of("250ms"), seconds_of("7"), seconds_of("x")
    (600.0, 5400.0, 0.25, 7.0, None)
    """
    total, place = 0.0, 0
    text = text.strip()
    while place < len(text):
        found = DURATION.match(text, place)
        if found is None or (found[2] is None and (place or found.end() < len(text))):
            return None
        total += float(found[1]) * UNITS[found[2] or "s"]
        place = found.end()
    return total if text else None


def took(seconds: float | None) -> str:
    """A duration in words, in six columns at most for all that is less than a year.

    >>> [took(each) for each in (0.0042, 0.42, 4.2, 62, 3_700, 90_000, None)]
    ['4ms', '420ms', '4.2s', '1m02s', '1h01m', '1d01h', '-']
    """
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3_600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3_600}h{whole % 3_600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3_600:02}h"


def between(start: dt.datetime | None, end: dt.datetime | None) -> float | None:
    """Seconds from one moment to another, where there are both."""
    return None if start is None or end is None else (end - start).total_seconds()


def ago(moment: dt.datetime | None, now: dt.datetime) -> str:
    """How long ago a moment is, or how far ahead."""
    seconds = between(moment, now)
    if seconds is None:
        return "-"
    return f"{took(seconds)} ago" if seconds >= 0 else f"in {took(-seconds)}"


def clock(moment: dt.datetime | None) -> str:
    """A moment in the local time of who looks."""
    return "-" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def moment_text(moment: dt.datetime) -> str:
    """A moment as the service writes it.

    >>> moment_text(dt.datetime(2026, 11, 22, 15, 53, 41, 414999, tzinfo=dt.UTC))
    '2026-11-22T15:53:41.414Z'
    """
    text = moment.astimezone(dt.UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


class Span(click.ParamType[Any]):
    """An option that is a duration: ``90``, ``90s``, ``10m``, ``1h30m``, ``2d``."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        if isinstance(value, float | int):
            return float(value)
        seconds = seconds_of(str(value))
        if seconds is None:
            self.fail(f"{value!r} is no duration: write 90s, 10m, 1h30m or 2d", param, ctx)
        return seconds


class Moment(click.ParamType[Any]):
    """An option that is a moment: ``18:30`` (the next), ``2026-11-22T18:30``, with or without a
    time zone; without one it is local time."""

    name = "moment"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.datetime:
        """A moment with a time zone."""
        if isinstance(value, dt.datetime):
            return value
        moment = moment_of(str(value), dt.datetime.now().astimezone())
        if moment is None:
            expected = "write 18:30, 2026-11-22T18:30 or 2026-11-22T18:30:00Z"
            self.fail(f"{value!r} is no moment: {expected}", param, ctx)
        return moment


def moment_of(text: str, now: dt.datetime) -> dt.datetime | None:
    """A moment with a time zone; None where it is none.

    Args:
        now: local time, from which the next ``18:30`` is found.

    >>> moment_of("18:30", dt.datetime(2026, 11, 22, 20, 0, tzinfo=dt.UTC)).isoformat()
    '2026-11-23T18:30:00+00:00'
    """
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text):
            time = dt.time.fromisoformat(text.zfill(5 if text.count(":") == 1 else 8))
            moment = now.replace(
                hour=time.hour, minute=time.minute, second=time.second, microsecond=0
            )
            return moment if moment > now else moment + dt.timedelta(days=1)
        moment = dt.datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)
    except ValueError:
        return None
