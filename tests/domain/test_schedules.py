"""When a task starts by itself: what may be said, the due times, what becomes of missed ones."""

from __future__ import annotations

import datetime as dt
import inspect
import math
import re
import runpy
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quart_app.domain.schedules import (
    EXPRESSION_CHARS,
    LONGEST,
    MOST,
    SET_BACK,
    SHORTEST,
    Missed,
    Schedule,
    due_between,
    due_key,
    make_schedule,
    next_after,
    to_open,
)
from quart_app.domain.tasks import Task

HOUR = 3600.0
DAY = 86_400.0
CHANGES = {
    "Europe/Berlin": ("2025-03-30", "2025-10-26"),
    "America/New_York": ("2025-03-09", "2025-11-02"),
    "Australia/Lord_Howe": ("2025-04-06", "2025-10-05"),  # Half an hour.
    "Asia/Beirut": ("2025-03-30", "2025-10-26"),  # At midnight.
    "Asia/Kolkata": ("2025-01-01",),  # Never.
}


def scheduled(**given: Any) -> Schedule:
    schedule = make_schedule(**given)
    assert schedule is not None
    return schedule


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def shown(schedule: Schedule, after: str, until: str, zone: str) -> list[str]:
    """The due times between two, as the clock of the zone and its offset show them."""
    due = due_between(schedule, at(after, zone), at(until, zone), 1000)
    return [dt.datetime.fromtimestamp(each, ZoneInfo(zone)).isoformat()[11:] for each in due]


def minute_by_minute(cron: str, zone: str, after: float, until: float) -> list[float]:
    """What Debian's cron does, by looking at the clock of the zone once a minute."""
    rules = CronSim(cron, dt.datetime(2000, 1, 1))
    minutes, hours = cron.split()[:2]
    wild = minutes.startswith("*") or hours.startswith("*")
    due: list[float] = []
    highest = dt.datetime.min
    for minute in range(int(after // 60) * 60, int(until) + 1, 60):
        clock = dt.datetime.fromtimestamp(minute, ZoneInfo(zone)).replace(tzinfo=None)
        looked_at = [clock]
        if not wild:
            late = (clock - highest) // dt.timedelta(minutes=1) if highest > dt.datetime.min else 1
            looked_at = [clock - dt.timedelta(minutes=back) for back in range(max(0, late))]
        highest = max(highest, clock)
        if minute > after and any(
            each.minute in rules.minutes
            and each.hour in rules.hours
            and each.month in rules.months
            and rules.match_day(each.date())
            for each in looked_at
        ):
            due.append(minute)
    return due


def test_a_task_without_a_schedule_has_none() -> None:
    """Nothing is set, so nothing comes by itself."""
    assert make_schedule() is None


def test_a_schedule_says_what_was_given() -> None:
    """Missed times are skipped unless something else is said."""
    assert scheduled(cron=" 0  8 * * mon-fri ") == Schedule(cron="0 8 * * MON-FRI")
    assert scheduled(cron="0 8 L * *", timezone="Europe/Berlin", missed="all") == Schedule(
        "0 8 L * *", None, "Europe/Berlin", "all"
    )
    assert scheduled(every=dt.timedelta(minutes=5), missed="once") == Schedule(
        every=300.0, missed="once"
    )
    assert scheduled(every=1).every == SHORTEST
    assert scheduled(every=dt.timedelta(days=366)).every == LONGEST


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("60 * * * *", "its minute is 0 to 59"),
        ("*/0 * * * *", "its minute is 0 to 59"),
        ("9-5 * * * *", "its minute is 0 to 59"),
        ("² * * * *", "its minute is 0 to 59"),
        ("* 24 * * *", "its hour is 0 to 23"),
        ("* * 0 * *", "its day-of-month is 1 to 31"),
        ("* * 30 2 *", "its day-of-month is 1 to 31, or L for the last, of a month that has it"),
        ("* * * 13 *", "its month is 1 to 12, or JAN to DEC"),
        ("* * * * 8", "its day-of-week is 0 to 7, or SUN to SAT"),
        ("* * * * MONDAY", "its day-of-week is 0 to 7, or SUN to SAT"),
        ("0 0 */30 2 MON#5", "is never due: no such day comes"),
        ("* * * *", r"it is five fields \(minute hour day-of-month month day-of-week\)"),
        ("* * * * * *", r"it is five fields .* as in '\*/5 \* \* \* \*'"),
        ("@daily", "it is five fields"),
        ("", "it is five fields"),
        ("0," * EXPRESSION_CHARS + "0 * * * *", "it is five fields"),
        (5, "it is five fields"),
    ],
)
def test_what_is_no_cron_expression_is_refused_with_the_field(cron: Any, message: str) -> None:
    """And with what the field may be."""
    with pytest.raises(ValueError, match=f"^cron=.*{message}"):
        make_schedule(cron=cron)


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/passwd", "America", "a\0b", 5, ["UTC"]]
)
def test_a_time_zone_is_one_that_there_is(zone: Any) -> None:
    """And no way to another file."""
    with pytest.raises(ValueError, match=r"^timezone=.* it is as in 'Europe/Berlin'"):
        make_schedule(cron="* * * * *", timezone=zone)


@pytest.mark.parametrize(
    "every", [0, -1, 0.999, True, "60", math.nan, math.inf, LONGEST + 1, dt.timedelta(days=367)]
)
def test_an_interval_is_a_second_to_a_year(every: Any) -> None:
    """In seconds or as a timedelta."""
    with pytest.raises(ValueError, match=r"^every=.* from 1 second to 366 days"):
        make_schedule(every=every)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cron": "* * * * *", "every": 60}, "give cron or every, not both"),
        ({"every": 60, "timezone": "UTC"}, "timezone needs cron"),
        ({"timezone": "UTC"}, "timezone needs cron"),
        ({"missed": "all"}, "missed needs cron or every"),
        ({"every": 60, "missed": "some"}, "missed='some', but it is one of 'skip', 'once', 'all'"),
        ({"every": 60, "missed": ["all"]}, "missed=.* but it is one of"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    """Nothing that was said is passed over."""
    with pytest.raises(ValueError, match=message):
        make_schedule(**options)


def test_a_plan_holds_as_long_as_its_times_are_the_same() -> None:
    """What becomes of missed ones is another matter."""
    specs = [
        scheduled(every=60),
        scheduled(every=61),
        scheduled(cron="* * * * *"),
        scheduled(cron="*/2 * * * *"),
        scheduled(cron="* * * * *", timezone="Europe/Berlin"),
    ]
    assert len({each.spec for each in specs}) == len(specs)
    assert scheduled(every=60, missed="all").spec == scheduled(every=60.0).spec
    assert scheduled(cron="0 8 * * mon").spec == scheduled(cron="0  8 * * MON").spec


def test_an_interval_counts_from_the_epoch() -> None:
    """So every hour is at the full hour, and a restart moves nothing."""
    hourly = scheduled(every=HOUR)
    assert next_after(hourly, at("2025-01-01T10:00:00")) == at("2025-01-01T11:00:00")
    assert next_after(hourly, at("2025-01-01T10:59:59.999")) == at("2025-01-01T11:00:00")


@given(st.floats(SHORTEST, LONGEST), st.floats(0, 4e9))
@example(every=1.1, start=1.1 * 1_000_003)
def test_no_interval_is_left_out_or_comes_twice(every: float, start: float) -> None:
    """However its length is rounded."""
    schedule = scheduled(every=every)
    times = [start]
    for _ in range(5):
        times.append(next_after(schedule, times[-1]))
    gaps = [b - a for a, b in pairwise(times)]
    assert 0 < gaps[0] <= every * (1 + 1e-9) + 1e-6
    assert all(gap == pytest.approx(every, abs=2e-6) for gap in gaps[1:])
    assert len({due_key(each) for each in times[1:]}) == 5


def test_a_cron_expression_is_meant_in_its_zone() -> None:
    """In UTC unless another is given."""
    after = at("2025-07-01T00:00:00")
    assert next_after(scheduled(cron="0 8 * * *"), after) == at("2025-07-01T08:00:00")
    berlin = scheduled(cron="0 8 * * *", timezone="Europe/Berlin")
    assert next_after(berlin, after) == at("2025-07-01T06:00:00")


def test_the_next_due_time_is_later_by_however_little() -> None:
    """A due time is not its own next one; a moment before it, it is."""
    for zone in (None, "Europe/Berlin"):
        for cron in ("* * * * *", "0 10 * * *"):
            schedule = scheduled(cron=cron, timezone=zone)
            due = next_after(schedule, at("2025-07-01T00:00:00"))
            assert next_after(schedule, due) > due
            assert next_after(schedule, math.nextafter(due, 0)) == due


def test_in_the_hour_that_is_left_out_a_fixed_time_runs_once_right_after_it() -> None:
    """In Berlin 02:00 to 03:00 does not come on 30 March 2025, in New York not on 9 March."""
    for zone, day in (("Europe/Berlin", "2025-03-30"), ("America/New_York", "2025-03-09")):
        offset = "+02:00" if zone == "Europe/Berlin" else "-04:00"
        span = (f"{day}T00:00:00", f"{day}T05:00:00", zone)
        assert shown(scheduled(cron="30 2 * * *", timezone=zone), *span) == [f"03:00:00{offset}"]
        assert shown(scheduled(cron="0,30 2 * * *", timezone=zone), *span) == [f"03:00:00{offset}"]
        assert shown(scheduled(cron="0 3 * * *", timezone=zone), *span) == [f"03:00:00{offset}"]
        wild = scheduled(cron="30 * * * *", timezone=zone)
        assert [each[:5] for each in shown(wild, *span)] == ["00:30", "01:30", "03:30", "04:30"]
        assert shown(scheduled(cron="*/30 2 * * *", timezone=zone), *span) == []


def test_in_the_hour_that_comes_twice_a_fixed_time_runs_once() -> None:
    """The first time; an expression with a star for the minute or the hour runs both times."""
    for zone, day, hour in (
        ("Europe/Berlin", "2025-10-26", 2),
        ("America/New_York", "2025-11-02", 1),
    ):
        first, second = ("+02:00", "+01:00") if zone == "Europe/Berlin" else ("-04:00", "-05:00")
        span = (f"{day}T00:00:00", f"{day}T04:00:00", zone)
        fixed = scheduled(cron=f"30 {hour} * * *", timezone=zone)
        assert shown(fixed, *span) == [f"0{hour}:30:00{first}"]
        # Also for one who begins to count between the two.
        between = at(f"{day}T0{hour}:10:00", zone, fold=1)
        assert next_after(fixed, between) == at(f"{day}T0{hour}:30:00", zone) + 25 * HOUR
        both = [f"0{hour}:00:00{first}", f"0{hour}:30:00{first}"]
        both += [f"0{hour}:00:00{second}", f"0{hour}:30:00{second}"]
        assert shown(scheduled(cron=f"*/30 {hour} * * *", timezone=zone), *span) == both


def test_the_second_of_two_hours_is_not_forgotten_for_a_year() -> None:
    """The clock shows the same offset again then, and was moved twice meanwhile."""
    schedule = scheduled(cron="*/30 2 26 10 *", timezone="Europe/Berlin")
    last_of_first = at("2025-10-26T02:30:00", "Europe/Berlin")
    assert next_after(schedule, last_of_first) == last_of_first + HOUR / 2


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([(zone, day) for zone, days in CHANGES.items() for day in days]),
    st.sampled_from(["*", "*/5", "*/7", "0", "30", "15,45", "0-10", "10-50/20", "2"]),
    st.sampled_from(["*", "*/2", "0", "1", "2", "3", "23", "1-3", "2,3", "0-23/2", "22-23"]),
    st.booleans(),
    st.floats(0, 2 * DAY),
)
@example(("Australia/Lord_Howe", "2025-04-06"), "*/5", "2", False, 0.0)
@example(("Asia/Beirut", "2025-03-30"), "*", "1-3", True, 0.0)
def test_cron_is_right_around_every_change_of_the_clock(
    place: tuple[str, str], minutes: str, hours: str, on_day: bool, begin: float
) -> None:
    """As someone who looks at the clock each minute would do it, and from any moment on."""
    zone, day = place
    start = at(day) - DAY
    cron = f"{minutes} {hours} {int(day[-2:]) if on_day else '*'} * *"
    schedule = scheduled(cron=cron, timezone=zone)
    after, until = start + begin, start + 3 * DAY
    expected = [d for d in minute_by_minute(cron, zone, start - DAY, until) if d > after]
    assert due_between(schedule, after, until, 10_000) == expected
    assert due_between(schedule, after, until, 5) == expected[-5:]
    if expected:
        assert next_after(schedule, after) == expected[0]


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(
        [
            scheduled(every=1.5),
            scheduled(every=DAY),
            scheduled(cron="*/10 * * * *", timezone="Europe/Berlin"),
            scheduled(cron="0 8 * * MON-FRI"),
            scheduled(cron="30 2 * * *", timezone="America/New_York"),
        ]
    ),
    st.floats(1.74e9, 1.75e9),
    st.integers(0, 60),
    st.integers(1, 80),
)
def test_the_newest_due_times_are_the_end_of_all(
    schedule: Schedule, after: float, count: int, most: int
) -> None:
    """However many there are, and also up to and with the last moment."""
    times = [after]
    for _ in range(count):
        times.append(next_after(schedule, times[-1]))
    assert due_between(schedule, after, times[-1], most) == times[1:][-most:]


def test_there_are_no_due_times_of_no_time() -> None:
    """Nor where the end is before the beginning, nor where none are wanted of many."""
    hourly = scheduled(every=HOUR)
    assert due_between(hourly, HOUR, HOUR, 10) == []
    assert due_between(hourly, 2 * HOUR, HOUR, 10) == []


def test_ten_years_of_minutes_are_not_looked_through_for_the_newest() -> None:
    """It would hold up the event loop for a minute."""
    for schedule in (scheduled(cron="* * * * *"), scheduled(every=1)):
        due = due_between(schedule, 1.4e9, 1.7e9, 3)
        assert due == due_between(schedule, 1.7e9 - 300, 1.7e9, 3)
        assert len(due) == 3


HOURLY: dict[Missed, Schedule] = {
    "skip": scheduled(every=HOUR),
    "once": scheduled(every=HOUR, missed="once"),
    "all": scheduled(every=HOUR, missed="all"),
}


@pytest.mark.parametrize("missed", list(HOURLY))
def test_a_due_time_that_has_come_gets_its_job(missed: Missed) -> None:
    """Up to a minute late."""
    for late in (0.0, 0.5, 60.0):
        assert to_open(HOURLY[missed], HOUR, HOUR + late) == ([HOUR], 2 * HOUR)


@pytest.mark.parametrize("missed", list(HOURLY))
def test_before_the_due_time_nothing_is_opened(missed: Missed) -> None:
    """And the plan stays."""
    assert to_open(HOURLY[missed], HOUR, HOUR - 0.001) == ([], HOUR)


@pytest.mark.parametrize(("missed", "opened"), [("skip", []), ("once", [HOUR]), ("all", [HOUR])])
def test_a_due_time_is_missed_after_a_minute(missed: Missed, opened: list[float]) -> None:
    """Then the task says what becomes of it."""
    assert to_open(HOURLY[missed], HOUR, HOUR + 60.1) == (opened, 2 * HOUR)


def test_of_a_short_interval_a_due_time_is_missed_after_half_of_it() -> None:
    """The next one is nearer then."""
    schedule = scheduled(every=10)
    assert to_open(schedule, 100.0, 105.0) == ([100.0], 110.0)
    assert to_open(schedule, 100.0, 105.1) == ([], 110.0)
    assert to_open(schedule, 100.0, 102.1, tolerance=2.0) == ([], 110.0)


@pytest.mark.parametrize(
    ("missed", "opened"),
    [("skip", []), ("once", [3 * HOUR]), ("all", [HOUR, 2 * HOUR, 3 * HOUR])],
)
def test_several_missed_times_get_no_job_or_one_or_all(missed: Missed, opened: list[float]) -> None:
    """None of them is near."""
    assert to_open(HOURLY[missed], HOUR, 3.5 * HOUR) == (opened, 4 * HOUR)


@pytest.mark.parametrize(
    ("missed", "opened"),
    [("skip", [3 * HOUR]), ("once", [2 * HOUR, 3 * HOUR]), ("all", [HOUR, 2 * HOUR, 3 * HOUR])],
)
def test_one_who_comes_just_in_time_has_missed_the_earlier_ones(
    missed: Missed, opened: list[float]
) -> None:
    """The last gets its job in any case."""
    assert to_open(HOURLY[missed], HOUR, 3 * HOUR + 1) == (opened, 4 * HOUR)


def test_of_very_many_missed_times_the_newest_thousand_get_a_job() -> None:
    """A year of downtime does not fill the queue with seconds."""
    opened, following = to_open(scheduled(every=1, missed="all"), 1e9, 1e9 + 1e6 + 0.75)
    assert opened == [1e9 + 1e6 - back for back in reversed(range(MOST))]
    assert following == 1e9 + 1e6 + 1


@pytest.mark.parametrize(
    ("missed", "opened"), [("skip", []), ("once", [2 * HOUR]), ("all", [HOUR, 2 * HOUR])]
)
def test_what_came_due_in_a_pause_is_missed(missed: Missed, opened: list[float]) -> None:
    """However short ago that is."""
    held = 2 * HOUR
    assert to_open(HOURLY[missed], HOUR, held + 1, held=held) == (opened, 3 * HOUR)
    kept = [*opened, 3 * HOUR] if missed != "skip" else [3 * HOUR]
    assert to_open(HOURLY[missed], HOUR, 3 * HOUR, held=held) == (kept, 4 * HOUR)


def test_a_plan_whose_time_is_due_no_more_gets_no_job() -> None:
    """The rules of a zone have changed since: what is due by the new ones counts."""
    opened, following = to_open(HOURLY["all"], HOUR + 600, HOUR + 601)
    assert (opened, following) == ([], 2 * HOUR)


def test_a_clock_that_is_set_back_a_little_repeats_nothing() -> None:
    """What ran already does not come again: the plan waits for the clock."""
    for every in (HOUR, DAY):
        schedule = scheduled(every=every)
        ran = 10 * every
        assert to_open(schedule, 11 * every, ran - SET_BACK) == ([], 11 * every)
        assert to_open(schedule, 11 * every, ran - SET_BACK - 1)[1] <= ran


def test_a_clock_that_was_years_ahead_does_not_stop_a_schedule_for_years() -> None:
    """It is planned anew, once the clock is right."""
    assert to_open(HOURLY["skip"], 1.9e9, 1.7e9) == ([], next_after(HOURLY["skip"], 1.7e9))


def test_the_key_of_a_due_time_is_its_moment() -> None:
    """In UTC, to the microsecond where it is no full second."""
    assert due_key(at("2025-10-26T02:30:00", "Europe/Berlin")) == "schedule/2025-10-26T00:30:00Z"
    assert due_key(1.5) == "schedule/1970-01-01T00:00:01.500000Z"


@pytest.mark.parametrize(
    ("cron", "after", "due"),
    [
        ("*/15 8-18/2 * * *", "2025-10-01T09:00:00", "2025-10-01T10:00:00"),
        ("0,30 * * * *", "2025-10-01T09:00:00", "2025-10-01T09:30:00"),
        ("0 0 1 JAN *", "2025-10-01T00:00:00", "2026-01-01T00:00:00"),
        ("0 0 L * *", "2025-02-01T00:00:00", "2025-02-28T00:00:00"),
        ("0 0 LW * *", "2025-08-02T00:00:00", "2025-08-29T00:00:00"),
        ("0 0 * * 5L", "2025-10-01T00:00:00", "2025-10-31T00:00:00"),
        ("0 0 * * MON#1", "2025-09-02T00:00:00", "2025-10-06T00:00:00"),
        ("0 0 * * 0", "2025-10-01T00:00:00", "2025-10-05T00:00:00"),
        ("0 0 * * 7", "2025-10-01T00:00:00", "2025-10-05T00:00:00"),
        ("0 0 13 * FRI", "2025-10-10T00:00:00", "2025-10-13T00:00:00"),
        ("0 0 13 * *", "2025-10-10T00:00:00", "2025-10-13T00:00:00"),
        ("0 0 29 2 *", "2025-10-01T00:00:00", "2028-02-29T00:00:00"),
    ],
)
def test_the_fields_of_an_expression_mean_what_they_do_in_cron(
    cron: str, after: str, due: str
) -> None:
    """With the last day and the last weekday, and one day of two where both are given."""
    assert next_after(scheduled(cron=cron), at(after)) == at(due)


def test_the_page_for_users_shows_what_there_is(tmp_path: Path) -> None:
    """Its example can be imported and started without arguments; each option and each expression
    that it names can be."""
    page = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "example.py").write_text(f"from quart_app import task\n{example}")
    tasks = [t for t in runpy.run_path(f"{tmp_path}/example.py").values() if isinstance(t, Task)]
    for each in tasks:
        each.check()
    assert [t.control.schedule is not None and t.control.schedule.spec for t in tasks] == [
        "0 8 * * MON-FRI Europe/Berlin",
        "every 300.0",
    ]
    options = re.findall(r"^\| `([a-z]+)[=`]", page, re.M)
    assert {*options} == {*inspect.signature(make_schedule).parameters}
    expressions = re.findall(r"`(?:cron=\")?((?:\S+ ){4}[^\s`\"]+)\"?`", page)
    assert len(expressions) > 1
    for cron in expressions:
        assert scheduled(cron=cron)
