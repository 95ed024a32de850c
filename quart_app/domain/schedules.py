"""When a task starts by itself: by a cron expression or every so many seconds.

Only reading, checking and reckoning may live here. Nothing here looks at a clock or waits: whoever
asks says what time it is (`quart_app.core.schedules`).

All moments are seconds since the epoch.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import zoneinfo
from collections.abc import Iterator
from itertools import takewhile
from typing import Literal, get_args

import msgspec
from cronsim import CronSim, CronSimError

Missed = Literal["skip", "once", "all"]
MISSED: tuple[Missed, ...] = get_args(Missed)

SHORTEST = 1.0
LONGEST = 366 * 86_400.0
"""Seconds: what ``every`` may be."""
MOST = 1_000
"""Jobs that are opened for what was missed, the newest of it."""
TOLERANCE = 60.0
"""Seconds after which a time counts as missed; half the interval where that is shorter."""
SET_BACK = 3 * 3600.0
"""Seconds by which a clock must be set back for the plan to follow it; cron has the same three
hours. Less than that is a correction, and what ran already does not run again."""
WEEK = 7 * 86_400
"""Seconds: no zone's clock is moved twice within it."""
EXPRESSION_CHARS = 200
FIELDS = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, or L for the last, of a month that has it",
    "month": "1 to 12, or JAN to DEC",
    "day-of-week": "0 to 7, or SUN to SAT",
}
UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
YEAR_2000 = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


class Schedule(msgspec.Struct, frozen=True):
    """When a task starts by itself; made by `make_schedule`.

    Args:
        cron: five fields; or
        every: seconds between two starts.
        timezone: in which ``cron`` is meant; UTC where it is None.
        missed: what becomes of the times at which nobody was there.
    """

    cron: str | None = None
    every: float | None = None
    timezone: str | None = None
    missed: Missed = "skip"

    @property
    def spec(self) -> str:
        """What the times follow from: a plan holds as long as this is the same.

        >>> Schedule(cron="0 8 * * *", timezone="Europe/Berlin").spec
        '0 8 * * * Europe/Berlin'
        """
        return f"every {self.every!r}" if self.cron is None else f"{self.cron} {self.zone}"

    @property
    def zone(self) -> dt.tzinfo:
        """The time zone of ``cron``."""
        return dt.UTC if self.timezone is None else _zone(self.timezone)


def make_schedule(
    *,
    cron: str | None = None,
    every: float | dt.timedelta | None = None,
    timezone: str | None = None,
    missed: Missed | None = None,
) -> Schedule | None:
    """Check what a task says.

    Args:
        cron: minute, hour, day of the month, month and day of the week, as in ``"*/5 * * * *"``.
        every: seconds or a ``timedelta``, from a second to 366 days.
        timezone: a name as in ``"Europe/Berlin"``, for ``cron``.
        missed: ``skip`` (unless given), ``once`` or ``all``.

    Returns:
        the schedule, or None where nothing is set.

    Raises:
        ValueError: naming the option that cannot be, and what it may be.

    >>> make_schedule(every=dt.timedelta(minutes=5)).every
    300.0
    """
    if cron is not None and every is not None:
        raise ValueError("give cron or every, not both")
    if timezone is not None and cron is None:
        raise ValueError("timezone needs cron: every goes by the time that has passed")
    if missed is not None and missed not in MISSED:
        raise ValueError(f"missed={missed!r}, but it is one of {', '.join(map(repr, MISSED))}")
    if cron is not None:
        _check_zone(timezone)
        return Schedule(_expression(cron), None, timezone, missed or "skip")
    if every is not None:
        return Schedule(None, _seconds(every), None, missed or "skip")
    if missed is not None:
        raise ValueError("missed needs cron or every: without them nothing can be missed")
    return None


def _check_zone(name: str | None) -> None:
    if name is None:
        return
    try:
        _zone(name)
    except (LookupError, ValueError, TypeError, OSError, AttributeError):
        raise ValueError(
            f"timezone={name!r} is no time zone that this machine knows; it is as in "
            "'Europe/Berlin' (where none is known, install the package tzdata)"
        ) from None


@functools.cache  # A zone is a file: it is read when the task is defined, and never on the loop.
def _zone(name: str) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(name)


def _expression(text: str) -> str:
    fields = text.split() if isinstance(text, str) and len(text) <= EXPRESSION_CHARS else []
    if len(fields) != 5:
        raise ValueError(
            f"cron={text!r}, but it is five fields ({' '.join(FIELDS)}), as in '*/5 * * * *' "
            "or '0 8 * * MON-FRI'"
        )
    expression = " ".join(fields).upper()
    try:
        next(CronSim(expression, YEAR_2000))
    except CronSimError as error:
        field = str(error).removeprefix("Bad ")
        raise ValueError(f"cron={text!r}: its {field} is {FIELDS[field]}") from None
    except StopIteration:
        raise ValueError(f"cron={text!r} is never due: no such day comes") from None
    return expression


def _seconds(every: float | dt.timedelta) -> float:
    seconds = every.total_seconds() if isinstance(every, dt.timedelta) else every
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not SHORTEST <= seconds <= LONGEST:
        raise ValueError(
            f"every={every!r}, but it is seconds or a timedelta, from 1 second to 366 days"
        )
    return float(seconds)


def next_after(schedule: Schedule, at: float) -> float:
    """The first due time that is later.

    ``every`` counts from the epoch, so that a restart moves nothing. ``cron`` goes by the clock of
    its zone, as Debian's cron does where that clock is moved: what is due in the hour that is left
    out runs once, right after it; in the hour that comes twice an expression whose minute or hour
    begins with ``*`` runs both times, any other once.

    >>> next_after(Schedule(every=60.0), 90.0)
    120.0
    """
    return next(_after(schedule, at))


def _after(schedule: Schedule, at: float) -> Iterator[float]:
    """All due times that are later, without an end."""
    if schedule.cron is None:
        every = schedule.every or SHORTEST
        number = math.floor(at / every)  # May be one too low, or due already: floats are rounded.
        while True:
            if (due := number * every) > at:
                yield due
            number += 1
    wild = any(field.startswith("*") for field in schedule.cron.split()[:2])
    yield from (_by_time if wild else _by_clock)(schedule.cron, schedule.zone, math.floor(at))


def _by_clock(cron: str, zone: dt.tzinfo, at: int) -> Iterator[float]:
    """A fixed time of day: once each day, also where the clock does not show it, or twice."""
    last: float = at
    for moment in CronSim(cron, dt.datetime.fromtimestamp(at, zone)):
        # In the hour that comes twice a fixed time is found again, as the first of the two.
        if (due := moment.timestamp()) > last:
            last = due
            yield due


def _by_time(cron: str, zone: dt.tzinfo, at: int) -> Iterator[float]:
    """Whatever the clock shows, each time that it shows it.

    From one change of the offset to the next, because `CronSim` leaves out times where a clock is
    moved at midnight, or by half an hour.
    """
    offset = _offset(zone, at)
    moments = CronSim(cron, _local(at, offset))
    while True:
        due = round(next(moments).timestamp()) - offset
        change = _change(zone, offset, at, due)
        if change is None:
            at = due
            yield float(due)
        else:
            at, offset = change - 1, _offset(zone, change)
            moments = CronSim(cron, _local(at, offset))


def _local(at: int, offset: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at + offset, dt.UTC)


def _offset(zone: dt.tzinfo, at: int) -> int:
    """Seconds by which the zone's clock is ahead of UTC."""
    shown = dt.datetime.fromtimestamp(at, zone).replace(tzinfo=dt.UTC)
    return round(shown.timestamp()) - at


def _change(zone: dt.tzinfo, offset: int, after: int, until: int) -> int | None:
    """The first moment of those at which the zone's clock has another offset."""
    while after < until:
        later = min(after + WEEK, until)
        if _offset(zone, later) == offset:
            after = later
            continue
        while later - after > 1:
            middle = (after + later) // 2
            if _offset(zone, middle) == offset:
                after = middle
            else:
                later = middle
        return later
    return None


def in_words(schedule: Schedule) -> str:
    """When it is due, as one would say it.

    >>> in_words(Schedule(cron="30 9 * * 1-5", timezone="Europe/Berlin"))
    'At 09:30 on Monday through Friday (Europe/Berlin)'
    >>> in_words(Schedule(every=90.0))
    'every 90 seconds'
    >>> in_words(Schedule(every=900.0))
    'every 15 minutes'
    """
    if schedule.every is not None:
        for unit, size in UNITS:
            count = schedule.every / size
            if count >= 1 and count == int(count):
                return f"every {unit}" if count == 1 else f"every {count:g} {unit}s"
        return f"every {schedule.every:g} seconds"
    said = CronSim(schedule.cron or "", YEAR_2000).explain()
    return f"{said} ({schedule.timezone or 'UTC'})"


def due_between(schedule: Schedule, after: float, until: float, most: int) -> list[float]:
    """The due times that are later than ``after`` and not later than ``until``.

    Args:
        most: how many at most: the newest.

    >>> due_between(Schedule(every=60.0), 60.0, 240.0, most=2)
    [180.0, 240.0]
    """
    found: list[float] = []
    step = 60.0 * most if schedule.every is None else schedule.every * (most + 1)
    while until > after and len(found) < most:
        # Backwards, so that a year of minutes is not looked through for the newest of them.
        start = max(after, until - step)
        found[:0] = takewhile(until.__ge__, _after(schedule, start))
        until, step = start, 2 * step
    return found[-most:]


def to_open(
    schedule: Schedule,
    planned: float,
    now: float,
    *,
    held: float = -math.inf,
    tolerance: float = TOLERANCE,
) -> tuple[list[float], float]:
    """Which due times get a job now, and the next due time.

    One is missed when nobody was there for it: it is longer ago than the tolerance, or another has
    come since.

    Args:
        planned: the due time that was to be next.
        now: what time it is.
        held: what was due until then is missed, however short ago: the task was paused.
        tolerance: seconds; half of what lies between two due times where that is less.

    Returns:
        due times, oldest first, and the due time to wait for.

    >>> hourly = Schedule(every=3600.0, missed="once")
    >>> to_open(hourly, planned=3600.0, now=8000.0)
    ([7200.0], 10800.0)
    """
    if planned > now:
        # Is there one before it, far ahead, then that is over: the clock was set back.
        set_back = planned - now > SET_BACK and next_after(schedule, now + SET_BACK) < planned
        return [], next_after(schedule, now) if set_back else planned
    following = next_after(schedule, now)
    most = {"skip": 0, "once": 1, "all": MOST}[schedule.missed]
    missed = due_between(schedule, planned - 0.001, now, most + 1)
    kept: list[float] = []
    if missed and missed[-1] > held:
        newest = missed[-1]
        if now - newest <= min(tolerance, (following - newest) / 2):
            kept = [missed.pop()]
    return missed[max(0, len(missed) - most) :] + kept, following


def due_key(due: float) -> str:
    """The key of the job of a due time: however often it is opened, it is one job.

    >>> due_key(1.9e9)
    'schedule/2030-03-17T17:46:40Z'
    """
    return f"schedule/{dt.datetime.fromtimestamp(due, dt.UTC).replace(tzinfo=None).isoformat()}Z"
