"""How many jobs of a task may run, and how many may begin within a time: of all, or of each key.

Only the values, their reading and checking may live here; who counts is `quart_app.core.turns`.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Mapping
from typing import Any

import msgspec

from quart_app.domain.options import MOST_URGENT

SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
RATE = re.compile(r"\s*([0-9]+)\s*/\s*(?:([0-9]+(?:\.[0-9]+)?)\s*)?(second|minute|hour|day)s?\s*")
MOST = 100_000
"""Begins that a rate may allow within its time: each is remembered, so that it is exact."""
LONGEST = 366 * 86_400.0
"""Seconds of the longest time of a rate."""
KEY_CHARS = 200
"""A longer key is cut, and a digest of the whole follows."""
DIGEST_BYTES = 16


class Rate(msgspec.Struct, frozen=True, gc=False):
    """At most ``count`` begins in any window of ``period`` seconds."""

    count: int
    period: float


def parse_rate(text: str) -> Rate:
    """Read a rate.

    Args:
        text: as in ``"100/minute"`` or ``"100/10 seconds"``: second, minute, hour or day.

    Raises:
        ValueError: with what it may be.

    >>> parse_rate("100/minute")
    Rate(count=100, period=60.0)
    >>> parse_rate("5/10 seconds")
    Rate(count=5, period=10.0)
    """
    match = RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            f"{text!r} is no rate; it is a number, / and second, minute, hour or day, "
            "as in '100/minute' or '100/10 seconds'"
        )
    digits, times, unit = match.groups()
    # A number of thousands of digits is refused by `int` itself, in other words.
    count = int(digits) if len(digits) <= len(str(MOST)) else MOST + 1
    period = float(times or 1) * SECONDS[unit]
    if not 1 <= count <= MOST:
        raise ValueError(f"{text!r} is no rate: its number is 1 to {MOST}")
    if not 0 < period <= LONGEST:
        raise ValueError(f"{text!r} is no rate: its time is at most {LONGEST:.0f} seconds")
    return Rate(count, period)


class KeyTemplate(msgspec.Struct, frozen=True, gc=False):
    """How a key is made from a job's arguments; made by `parse`.

    Args:
        text: as it was written, e.g. ``"user:{user_id}"``.
        parts: text and the name of the argument that follows it, or None where none does.
    """

    text: str
    parts: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str) -> KeyTemplate:
        """Read a template.

        Args:
            text: argument names in braces, and nothing else in them; ``{{`` is a brace.

        Raises:
            ValueError: with what it may be.

        >>> KeyTemplate.parse("user:{user_id}").names
        ('user_id',)
        """
        if not isinstance(text, str) or not 1 <= len(text) <= KEY_CHARS:
            raise ValueError(
                f"{text!r} is no key; it is 1 to {KEY_CHARS} characters, as in 'user:{{user_id}}'"
            )
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"{text!r} is no key: {error}") from None
        for _, name, spec, conversion in parsed:
            if name is not None and (spec or conversion or not name.isidentifier()):
                raise ValueError(
                    f"{text!r} is no key: in braces is the name of an argument and nothing else, "
                    "as in 'user:{user_id}'"
                )
        return cls(text, tuple((before, name) for before, name, _, _ in parsed))

    @property
    def names(self) -> tuple[str, ...]:
        """The arguments that it names, each once."""
        return tuple(dict.fromkeys(name for _, name in self.parts if name is not None))

    def key(self, values: Mapping[str, Any]) -> str:
        """The key of a job with these arguments, at most `KEY_CHARS` long.

        Args:
            values: JSON values by argument. A string stands as it is, any other value as its
                JSON; one that is missing is ``null``.

        >>> KeyTemplate.parse("user:{user_id}/{zone}").key({"user_id": 7, "zone": "eu"})
        'user:7/eu'
        """
        filled: list[str] = []
        for before, name in self.parts:
            filled.append(before)
            if name is not None:
                filled.append(_text(values.get(name)))
        key = "".join(filled)
        if len(key) <= KEY_CHARS:
            return key
        digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES)
        return f"{key[: KEY_CHARS - 2 * DIGEST_BYTES - 1]}~{digest.hexdigest()}"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value, order="sorted").decode()


class Limits(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What bounds the jobs of one task; None bounds nothing.

    Args:
        running: jobs that run at once: of each key, or of the task where it has none.
        rate: jobs that begin within a time: of each key, or of the task where it has none.
        key: what jobs are counted by; keys take turns.
        total_running, total_rate: the same of all keys together.
        priority: of the task's jobs unless a start says otherwise; a higher one begins first.
        max_waiting: jobs that may wait; a start beyond that is refused.
    """

    running: int | None = None
    rate: Rate | None = None
    key: KeyTemplate | None = None
    total_running: int | None = None
    total_rate: Rate | None = None
    priority: int = 0
    max_waiting: int | None = None

    @property
    def plain(self) -> bool:
        """Whether nothing is set: then its jobs begin in the order in which they came."""
        return self == NO_LIMITS


NO_LIMITS = Limits()


def make_limits(
    *,
    limit: int | None = None,
    rate: str | None = None,
    limit_key: str | None = None,
    limit_total: int | None = None,
    rate_total: str | None = None,
    priority: int = 0,
    max_waiting: int | None = None,
) -> Limits:
    """Check what a task says.

    Args:
        limit, rate: of each key, or of the task where there is no ``limit_key``.
        limit_key: as in ``"user:{user_id}"``.
        limit_total, rate_total: of all keys together.
        priority: -100 to 100; a higher one begins first.
        max_waiting: jobs, 1 or more.

    Raises:
        ValueError: naming the option that cannot be, and what it may be.

    >>> make_limits(limit=2, limit_key="user:{user_id}", rate_total="100/minute").total_rate
    Rate(count=100, period=60.0)
    """
    key = _key(limit_key)
    for name, total in (("limit_total", limit_total), ("rate_total", rate_total)):
        if total is not None and key is None:
            word = name.removesuffix("_total")
            raise ValueError(f"{name} needs limit_key; without one, {word} is of the whole task")
    return Limits(
        running=_count("limit", limit),
        rate=None if rate is None else _option("rate", rate, parse_rate),
        key=key,
        total_running=_count("limit_total", limit_total),
        total_rate=None if rate_total is None else _option("rate_total", rate_total, parse_rate),
        priority=_priority(priority),
        max_waiting=_count("max_waiting", max_waiting),
    )


def _key(text: str | None) -> KeyTemplate | None:
    key: KeyTemplate | None = None
    if text is not None:
        key = _option("limit_key", text, KeyTemplate.parse)
        if not key.names:
            raise ValueError(
                f"limit_key={text!r} names no argument; it is as in 'user:{{user_id}}'"
            )
    return key


def _priority(value: int) -> int:
    if not _is_int(value) or abs(value) > MOST_URGENT:
        allowed = f"a whole number from -{MOST_URGENT} to {MOST_URGENT}"
        raise ValueError(f"priority={value!r}, but it is {allowed}")
    return value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(name: str, value: int | None) -> int | None:
    if value is not None and (not _is_int(value) or value < 1):
        raise ValueError(f"{name}={value!r}, but it is a whole number, 1 or more")
    return value


def _option(name: str, text: str, parse: Any) -> Any:
    """Read it, and say which option it was where it cannot be read."""
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
