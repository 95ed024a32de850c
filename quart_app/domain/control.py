"""What a task says about how much of it runs, and when: limits, schedule, unique, debounce.

Only reading and checking the options may live here; who keeps to them is in the rooms above.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable
from typing import Any, TypedDict

import msgspec

from quart_app.domain.jobs import DEBOUNCED
from quart_app.domain.limits import KeyTemplate, Limits, Rate, make_limits
from quart_app.domain.schedules import Missed, Schedule, make_schedule


class Control(TypedDict, total=False):
    """The options of ``@task`` that bound or schedule its jobs.

    Args:
        limit: jobs that run at once; with ``limit_key``, of each key.
        rate: jobs that begin within a time, as in ``"100/minute"``; with ``limit_key``, of each
            key. Exact: no window of that length has more.
        limit_key: what jobs are counted by, as in ``"user:{user_id}"``; keys take turns, so that
            none starves another.
        limit_total, rate_total: the same of all keys together.
        priority: -100 to 100; a higher one begins first.
        max_waiting: jobs of the task that may wait; a start beyond that is refused (429).
        cron: when it starts by itself, as in ``"*/5 * * * *"``.
        every: or how often, in seconds.
        timezone: the zone in which ``cron`` is meant; UTC unless given.
        missed: what becomes of the times at which no process was there: ``skip`` (none), ``once``
            (one job for all), ``all`` (one for each).
        unique: one unfinished job: of the same arguments (True), or of the same key, as in
            ``"user:{user_id}"``. Another start gives that one.
        debounce: seconds that a start waits for another one with the same ``unique``, which takes
            its place; at most ten times as long in all.
    """

    limit: int | None
    rate: str | None
    limit_key: str | None
    limit_total: int | None
    rate_total: str | None
    priority: int
    max_waiting: int | None
    cron: str | None
    every: float | dt.timedelta | None
    timezone: str | None
    missed: Missed | None
    unique: bool | str
    debounce: float | None


LIMITS = ("limit", "rate", "limit_key", "limit_total", "rate_total", "priority", "max_waiting")
SCHEDULE = ("cron", "every", "timezone", "missed")
LONGEST = 86_400.0
"""Seconds of the longest debounce."""


class Controls(msgspec.Struct, frozen=True):
    """The options as they were checked."""

    limits: Limits
    schedule: Schedule | None
    unique: KeyTemplate | bool
    debounce: float | None

    @property
    def plain(self) -> bool:
        """Whether a start has nothing to look at."""
        return self.limits.plain and not self.unique and self.debounce is None

    @property
    def guarded(self) -> bool:
        """Whether a start may be refused, or may give another job."""
        return bool(self.unique) or self.debounce is not None or self.limits.max_waiting is not None

    @property
    def names(self) -> set[str]:
        """The arguments that the templates name."""
        keys = (self.limits.key, self.unique)
        return {name for key in keys if isinstance(key, KeyTemplate) for name in key.names}

    def describe(self) -> dict[str, Any]:
        """What was set, for the catalog."""
        limits, schedule = self.limits, self.schedule
        said: dict[str, Any] = {
            "limit": limits.running,
            "rate": _said(limits.rate),
            "limit_key": None if limits.key is None else limits.key.text,
            "limit_total": limits.total_running,
            "rate_total": _said(limits.total_rate),
            "priority": limits.priority or None,
            "max_waiting": limits.max_waiting,
            "unique": self.unique.text if isinstance(self.unique, KeyTemplate) else self.unique,
            "debounce": self.debounce,
            "schedule": None if schedule is None else msgspec.to_builtins(schedule),
        }
        return {name: value for name, value in said.items() if value not in (None, False)}

    def turn_of(self, args: bytes) -> str | None:
        """The key by which a job with these arguments (JSON) is limited."""
        key = self.limits.key
        return None if key is None else key.key(msgspec.json.decode(args))

    def unique_of(self, args: bytes) -> str | None:
        """The key of which there is one unfinished job."""
        if isinstance(self.unique, KeyTemplate):
            key = self.unique.key(msgspec.json.decode(args))
        elif self.unique:
            key = hashlib.blake2b(_canonical(args), digest_size=16).hexdigest()
        else:
            return None
        return DEBOUNCED + key if self.debounce is not None else key


def is_number(value: object) -> bool:
    """Whether an option may be a number of seconds."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _canonical(args: bytes) -> bytes:
    """Arguments whose objects have their keys in one order; these themselves are in theirs."""
    values: dict[str, Any] = msgspec.json.decode(args)
    written = {
        name: msgspec.Raw(msgspec.json.encode(value, order="deterministic"))
        for name, value in values.items()
    }
    return msgspec.json.encode(written)


def _said(rate: Rate | None) -> str | None:
    return None if rate is None else f"{rate.count}/{rate.period:g} seconds"


def make_control(given: Control, known: Iterable[str] = Control.__optional_keys__) -> Controls:
    """Check the options.

    Raises:
        ValueError: naming the one that cannot be, and what it may be.
        TypeError: for an option that there is not.

    >>> make_control({"limit": 2, "rate": "100/minute"}).limits.running
    2
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise TypeError(f"there is no option {unknown[0]!r}")
    options: dict[str, Any] = dict(given)
    limits = make_limits(**{name: options[name] for name in LIMITS if name in options})
    schedule = make_schedule(**{name: options[name] for name in SCHEDULE if name in options})
    unique = given.get("unique", False)
    debounce = given.get("debounce")
    if unique is not None and not isinstance(unique, (bool, str)):
        raise ValueError(f"unique={unique!r}, but it is True or a key, as in 'user:{{user_id}}'")
    if debounce is not None:
        if not is_number(debounce) or not 0 < debounce <= LONGEST:
            raise ValueError(f"debounce={debounce!r}, but it is seconds, at most {LONGEST:.0f}")
        unique = unique or True
    return Controls(
        limits,
        schedule,
        KeyTemplate.parse(unique) if isinstance(unique, str) else unique,
        debounce,
    )
