"""Tasks that start by themselves: one job for each due time, over restarts, failures and pauses."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
from collections import Counter
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quart_app.core.schedules import OFTEN, PREFIX, Planned, Schedules
from quart_app.domain.errors import (
    Draining,
    JobsError,
    KeyReused,
    QueueFull,
    StoreUnavailable,
    TaskFull,
)
from quart_app.domain.schedules import MOST, due_between, due_key
from quart_app.domain.tasks import Task
from quart_app.testing import virtual_run
from tests.domain.test_schedules import at

pytestmark = pytest.mark.virtual

HOUR = 3600.0
DAY = 86_400.0
SUNDAY = at("2025-03-30T00:00:00")
"""When a test begins unless it says more: the day on which the clock is moved in Berlin."""


def tick(name: str = "tick", **options: Any) -> Task:
    """A task with a schedule."""

    async def job() -> None: ...

    return Task(job, name=name, **options)


class World:
    """What outlives a process: the wall clock, the facts and the jobs; and what goes wrong.

    Args:
        begin: what the wall shows when the test begins.
    """

    def __init__(self, begin: float = SUNDAY) -> None:
        self.begin = begin
        self.kept: dict[str, bytes] = {}
        self.opened: list[tuple[str, str, float]] = []
        """Task, key and moment of each job; a key that came before opens none."""
        self.asked: Counter[str] = Counter()
        self.refuse: Exception | None = None
        """What the opens raise."""
        self.fail: Exception | None = None
        """What the facts raise."""
        self.paused: set[str] = set()
        self.takes = 0.0
        """Seconds that an open or a write takes; the crash may come before and after it."""

    def clock(self) -> float:
        return self.begin + asyncio.get_running_loop().time()

    async def facts(self, prefix: str) -> dict[str, bytes]:
        if self.fail is not None:
            raise self.fail
        return {name: value for name, value in self.kept.items() if name.startswith(prefix)}

    async def keep_fact(self, name: str, value: bytes | None) -> None:
        await self._work()
        if self.fail is not None:
            raise self.fail
        if value is None:
            del self.kept[name]
        else:
            self.kept[name] = value
        await self._work()

    async def open(self, task: Task, key: str) -> None:
        await self._work()
        self.asked[key] += 1
        if self.refuse is not None:
            raise self.refuse
        if (task.name, key) not in [(name, known) for name, known, _ in self.opened]:
            self.opened.append((task.name, key, self.clock()))
        await self._work()

    async def _work(self) -> None:
        if self.takes:
            await asyncio.sleep(self.takes)

    def schedules(self, *tasks: Task) -> Schedules:
        return Schedules(
            tasks, self, self, self.open, paused=self.paused.__contains__, clock=self.clock
        )

    async def run(self, seconds: float, *tasks: Task) -> None:
        """A process that lives so long, and ends at whatever it does then."""
        async with Running(self, *tasks):
            await asyncio.sleep(seconds)

    def keys(self, task: str = "tick") -> list[str]:
        """The keys of a task's jobs, in the order in which they were opened."""
        return [key for name, key, _ in self.opened if name == task]

    def moments(self, task: str = "tick") -> list[float]:
        """Seconds from the beginning until each job was opened."""
        return [round(moment - self.begin, 3) for name, _, moment in self.opened if name == task]

    def planned(self, task: str = "tick") -> float:
        """The persisted due time, in seconds from the beginning."""
        return msgspec.json.decode(self.kept[PREFIX + task], type=Planned).next - self.begin


class Running:
    """A process with the schedules of some tasks."""

    def __init__(self, world: World, *tasks: Task) -> None:
        self.schedules = world.schedules(*tasks)

    async def __aenter__(self) -> Schedules:
        await self.schedules.start()
        return self.schedules

    async def __aexit__(self, *args: object) -> None:
        await self.schedules.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_task_starts_by_itself_when_it_is_due() -> None:
    """To the moment; the first time is the next one, and not at the start."""
    world = World(SUNDAY + 100)
    await world.run(2 * HOUR, tick(every=HOUR), tick("other", cron="30 * * * *"))
    assert world.moments() == [3500.0, 7100.0]
    assert world.moments("other") == [1700.0, 5300.0]
    assert world.keys() == [due_key(SUNDAY + HOUR), due_key(SUNDAY + 2 * HOUR)]
    assert set(world.asked.values()) == {1}


async def test_a_task_without_a_schedule_is_left_alone() -> None:
    """Nothing is opened for it, and nothing is said of it."""
    world = World()
    async with Running(world, tick()) as schedules:
        await asyncio.sleep(DAY)
        assert schedules.next_of("tick") is None
        schedules.look("tick")
    assert (world.opened, world.kept) == ([], {})


async def test_the_next_due_time_can_be_seen_and_is_kept() -> None:
    """At once, so that a process that ends before it has not forgotten it."""
    world = World()
    async with Running(world, tick(every=HOUR)) as schedules:
        assert schedules.next_of("tick") == SUNDAY + HOUR
        await asyncio.sleep(1)
        assert world.planned() == HOUR
        await asyncio.sleep(HOUR)
        assert schedules.next_of("tick") == SUNDAY + 2 * HOUR
        assert world.planned() == 2 * HOUR
        world.paused.add("tick")
        assert schedules.next_of("tick") is None
    assert schedules.next_of("tick") is None


def shown(moment: float, zone: str) -> tuple[str, str]:
    """Day and time as the clock of a zone shows them."""
    clock = dt.datetime.fromtimestamp(round(moment), ZoneInfo(zone))
    return clock.date().isoformat(), clock.strftime("%H:%M")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zone", "day", "left_out"),
    [
        ("Europe/Berlin", "2025-03-29", True),
        ("Europe/Berlin", "2025-10-25", False),
        ("America/New_York", "2025-03-08", True),
        ("America/New_York", "2025-11-01", False),
    ],
)
async def test_each_day_has_one_job_however_the_clock_is_moved(
    zone: str, day: str, left_out: bool
) -> None:
    """Each of three, at eight in the morning, and at half past one and at half past two."""
    world = World(at(f"{day}T00:00:00", zone))
    times = {"08:00": "0 8 * * *", "01:30": "30 1 * * *", "02:30": "30 2 * * *"}
    tasks = [tick(f"at-{time[:2]}", cron=cron, timezone=zone) for time, cron in times.items()]
    await world.run(2.9 * DAY, *tasks)
    for time in times:
        clock = [
            shown(moment, zone) for name, _, moment in world.opened if name == f"at-{time[:2]}"
        ]
        assert len({on for on, _ in clock}) == len(clock) == 3
        moved = "03:00" if left_out and time == "02:30" else time
        assert [when for _, when in clock] == [time, moved, time]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2025-03-30", 23),
        ("Europe/Berlin", "2025-10-26", 25),
        ("America/New_York", "2025-03-09", 23),
        ("America/New_York", "2025-11-02", 25),
    ],
)
async def test_a_quarter_of_an_hour_stays_one_when_the_clock_is_moved(
    zone: str, day: str, hours: int
) -> None:
    """The day has 23 or 25 hours, and four jobs in each of them."""
    world = World(at(f"{day}T00:00:00", zone))
    await world.run(hours * HOUR + 1, tick(cron="*/15 * * * *", timezone=zone))
    moments = [0.0, *world.moments()]
    assert [b - a for a, b in pairwise(moments)] == pytest.approx([900.0] * 4 * hours, abs=0.01)


def missed_by(missed: str) -> tuple[World, Coroutine[Any, Any, None]]:
    """A process, three and a half hours without one, and another."""
    world = World()
    task = tick(every=HOUR, missed=missed)

    async def story() -> None:
        await world.run(1.5 * HOUR, task)
        await asyncio.sleep(3.4 * HOUR)
        await world.run(1.2 * HOUR, task)

    return world, story()


@pytest.mark.parametrize(
    ("missed", "hours"),
    [("skip", [1, 5, 6]), ("once", [1, 4, 5, 6]), ("all", [1, 2, 3, 4, 5, 6])],
)
async def test_what_was_missed_without_a_process_is_opened_as_the_task_says(
    missed: str, hours: list[int]
) -> None:
    """At the start of the next one, oldest first; none, one for all, or one for each."""
    world, story = missed_by(missed)
    await story
    assert world.keys() == [due_key(SUNDAY + hour * HOUR) for hour in hours]
    assert world.moments() == [HOUR] + [4.9 * HOUR] * (len(hours) - 3) + [5 * HOUR, 6 * HOUR]


async def test_a_short_restart_misses_nothing() -> None:
    """What came due up to a minute before is in time."""
    world = World()
    task = tick(every=HOUR)
    await world.run(HOUR - 1, task)
    await asyncio.sleep(50)
    await world.run(1, task)
    assert world.moments() == [HOUR + 49]


@pytest.mark.slow
def test_restarts_at_any_moment_open_one_job_for_each_due_time() -> None:
    """Never two, and with ``missed="all"`` never none: also where a process ends between the
    opening of a job and the note of it, or before either has come to its end."""
    pauses = st.lists(
        st.tuples(st.floats(0, 400), st.one_of(st.just(0.0), st.floats(0, 400))), max_size=12
    )

    @settings(deadline=None, max_examples=60)
    @example(60.0, [(60.1, 0.0), (0.1, 0.0), (0.1, 0.0), (0.2, 0.0)], 0.1)
    @example(1.0, [(1.05, 0.0)] * 8, 0.1)
    @example(1.0, [(300.0, 400.0), (300.0, 1.0), (300.0, 400.0), (100.0, 2.0), (200.0, 0.0)], 0.4)
    @given(st.sampled_from([10.0, 12.5, 60.0, 100.0]), pauses, st.sampled_from([0.0, 0.1, 0.4]))
    def run(every: float, pauses: list[tuple[float, float]], takes: float) -> None:
        world = World()
        world.takes = takes
        task = tick(every=every, missed="all")

        async def story() -> float:
            await world.run(2 * takes + 0.1, task)  # Until it has noted when it begins.
            for lives, rests in pauses:
                await world.run(lives, task)
                await asyncio.sleep(rests)
            world.takes = 0.0
            await world.run(every / 4, task)
            return world.clock()

        end = virtual_run(story())
        expected = due_between(task.control.schedule, SUNDAY, end, 10**6)  # type: ignore[arg-type]
        assert sorted(world.keys()) == sorted(map(due_key, expected))

    run()


@pytest.mark.slow
@pytest.mark.parametrize("missed", ["skip", "once", "all"])
def test_restarts_at_any_moment_open_nothing_twice(missed: str) -> None:
    """Whatever becomes of missed times: a due time has one job at most."""

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.tuples(st.floats(0, 300), st.floats(0, 300)), max_size=10))
    def run(pauses: list[tuple[float, float]]) -> None:
        world = World()
        world.takes = 0.1
        task = tick(cron="* * * * *", timezone="Europe/Berlin", missed=missed)

        async def story() -> None:
            for lives, rests in pauses:
                await world.run(lives, task)
                await asyncio.sleep(rests)

        virtual_run(story())
        assert len(world.keys()) == len(set(world.keys()))
        assert world.moments() == sorted(world.moments())

    run()


async def test_the_opening_of_many_goes_on_where_it_was_ended() -> None:
    """It is noted now and then how far it has come."""
    world = World()
    task = tick(every=1, missed="all")
    await world.run(1.5, task)
    await asyncio.sleep(500)
    world.takes = 0.1
    await world.run(50, task)
    opened = len(world.keys())
    await world.run(50, task)
    assert opened > 200
    assert len(world.keys()) > 400
    assert world.asked.total() - len(world.keys()) <= OFTEN


async def test_very_many_missed_times_get_a_thousand_jobs() -> None:
    """The newest of them; other tasks do not wait for that."""
    world = World()
    world.takes = 0.01
    slow, quick = tick(every=1, missed="all"), tick("quick", every=10)
    await world.run(1.5, slow, quick)
    await asyncio.sleep(10 * DAY)
    world.opened.clear()
    resumed = world.clock()
    await world.run(5, slow, quick)
    assert world.keys()[0] == due_key(math.floor(resumed) - MOST + 1)
    await world.run(60, slow, quick)
    assert MOST + 60 < len(world.keys()) < MOST + 67
    late = [moment % 10 for moment in world.moments("quick")]
    assert late == pytest.approx([1.51, *[0.01] * 6], abs=0.005)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (QueueFull("full"), 1),
        (TaskFull("full of it"), 1),
        (StoreUnavailable("down"), 0),
        (Draining("closing"), 0),
    ],
)
async def test_an_open_that_is_refused_is_tried_again(
    error: JobsError, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each second, and what came due meanwhile is not forgotten though nothing is made up for."""
    world = World()
    world.refuse = error
    async with Running(world, tick(every=10)):
        await asyncio.sleep(34.5)
        assert world.opened == []
        world.refuse = None
        await asyncio.sleep(10)
    assert world.keys() == [due_key(SUNDAY + due) for due in (10, 20, 30, 40)]
    assert world.moments()[:3] == [pytest.approx(35, abs=0.1)] * 3
    assert world.asked[due_key(SUNDAY + 10)] == pytest.approx(26, abs=1)
    assert len(caplog.records) == said
    assert all("is due, and will be tried again: full" in each for each in caplog.messages)


async def test_what_was_refused_is_planned_still_when_the_process_ends() -> None:
    """The next one opens it, as one that it has missed."""
    world = World()
    world.refuse = QueueFull("full")
    task = tick(every=10, missed="all")
    await world.run(25, task)
    assert world.planned() == 10
    world.refuse = None
    await world.run(6, task)
    assert world.keys() == [due_key(SUNDAY + due) for due in (10, 20, 30)]


async def test_a_store_that_fails_for_a_while_is_written_to_later() -> None:
    """The jobs are opened once; what is noted in the end is the newest."""
    world = World()
    async with Running(world, tick(every=10)):
        await asyncio.sleep(5)
        world.fail = StoreUnavailable("down")
        await asyncio.sleep(30)
        assert world.planned() == 10
        world.fail = None
        await asyncio.sleep(2)
        assert world.planned() == 40
    assert world.moments() == [10, 20, 30]
    assert set(world.asked.values()) == {1}


async def test_a_plan_that_cannot_be_read_stops_the_start() -> None:
    """To go on without it could miss something."""
    world = World()
    world.fail = StoreUnavailable("down")
    schedules = world.schedules(tick(every=10))
    with pytest.raises(StoreUnavailable):
        await schedules.start()
    await schedules.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_of_ours_does_not_end_a_schedule(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, and tried again within a minute."""
    world = World()
    world.refuse = ValueError("ours")
    async with Running(world, tick(every=HOUR)):
        await asyncio.sleep(HOUR + 1)
        world.refuse = None
        await asyncio.sleep(HOUR)
    assert world.moments() == [HOUR + 60, 2 * HOUR]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].exc_info is not None


async def test_a_key_that_is_taken_means_that_the_job_is_there() -> None:
    """It was opened before a crash, and the task has other defaults since."""
    world = World()
    world.refuse = KeyReused("schedule", "1")
    await world.run(25, tick(every=10))
    assert world.asked == {due_key(SUNDAY + 10): 1, due_key(SUNDAY + 20): 1}
    assert world.planned() == 30


@pytest.mark.parametrize(
    ("missed", "due"),
    [("skip", []), ("once", [3 * HOUR]), ("all", [HOUR, 2 * HOUR, 3 * HOUR])],
)
@pytest.mark.parametrize("nudged", [True, False])
async def test_what_comes_due_in_a_pause_is_missed(
    missed: str, due: list[float], nudged: bool
) -> None:
    """However short before its end; what becomes of it is seen at once, or within a minute."""
    world = World()
    async with Running(world, tick(every=HOUR, missed=missed)) as schedules:
        await asyncio.sleep(10)
        world.paused.add("tick")
        await asyncio.sleep(3 * HOUR)
        assert world.opened == []
        world.paused.remove("tick")
        if nudged:
            schedules.look("tick")
        await asyncio.sleep(HOUR)
    late = 3 * HOUR + 10 if nudged else pytest.approx(3 * HOUR + 35, abs=30)
    assert world.keys() == [due_key(SUNDAY + each) for each in [*due, 4 * HOUR]]
    assert world.moments() == [late] * len(due) + [4 * HOUR]


async def test_what_comes_due_after_a_pause_is_not_missed() -> None:
    """Though nobody has said that it is over."""
    world = World()
    async with Running(world, tick(every=10)):
        await asyncio.sleep(1)
        world.paused.add("tick")
        await asyncio.sleep(30.5)
        world.paused.remove("tick")
        await asyncio.sleep(20)
    assert world.moments() == [40, 50]


async def test_a_task_that_is_paused_opens_nothing_that_was_missed() -> None:
    """The rest of it waits for the end of the pause; nothing of it is lost."""
    world = World()
    world.takes = 0.1
    task = tick(every=HOUR, missed="all")
    await world.run(1, task)
    await asyncio.sleep(10.5 * HOUR)
    async with Running(world, task) as schedules:
        await asyncio.sleep(0.5)
        world.paused.add("tick")
        await asyncio.sleep(100)
        assert 0 < len(world.opened) < 10
        assert world.planned() == HOUR * (len(world.opened) + 1)
        world.paused.remove("tick")
        schedules.look("tick")
        await asyncio.sleep(100)
        assert world.planned() == 11 * HOUR
    assert world.keys() == [due_key(SUNDAY + hour * HOUR) for hour in range(1, 11)]


async def test_a_restart_in_a_pause_knows_what_was_missed() -> None:
    """The plan stays where it was when the pause began."""
    world = World()
    task = tick(every=HOUR, missed="all")
    await world.run(1, task)
    world.paused.add("tick")
    await world.run(1.5 * HOUR, task)
    await world.run(0.5 * HOUR, task)
    world.paused.clear()
    await world.run(0.5 * HOUR, task)
    assert world.keys() == [due_key(SUNDAY + HOUR), due_key(SUNDAY + 2 * HOUR)]


async def test_a_clock_that_is_set_ahead_is_seen_within_a_minute() -> None:
    """What it has passed over is missed."""
    world = World()
    async with Running(world, tick(every=HOUR, missed="once")):
        await asyncio.sleep(1)
        world.begin += 3.5 * HOUR
        await asyncio.sleep(65)
        assert world.keys() == [due_key(SUNDAY + 3 * HOUR)]
        await asyncio.sleep(0.5 * HOUR)
    assert world.keys()[1:] == [due_key(SUNDAY + 4 * HOUR)]


async def test_a_clock_that_is_set_back_repeats_nothing() -> None:
    """Also not by a restart; the schedule goes on when the clock has come there again."""
    world = World()
    task = tick(every=HOUR)
    async with Running(world, task):
        await asyncio.sleep(2 * HOUR + 1)
        world.begin -= 1.5 * HOUR
        await asyncio.sleep(HOUR)
    await world.run(1.6 * HOUR, task)
    assert world.keys() == [due_key(SUNDAY + hour * HOUR) for hour in (1, 2, 3)]
    assert set(world.asked.values()) == {1}


async def test_a_clock_that_was_years_ahead_does_not_stop_a_schedule() -> None:
    """Also where the task was paused then."""
    world = World()
    world.begin += 3000 * DAY
    world.paused.add("tick")
    async with Running(world, tick(every=HOUR)) as schedules:
        await asyncio.sleep(1.5 * HOUR)
        world.begin -= 3000 * DAY
        world.paused.clear()
        schedules.look("tick")
        await asyncio.sleep(HOUR)
    assert world.keys() == [due_key(SUNDAY + 2 * HOUR)]


async def test_another_schedule_is_planned_anew() -> None:
    """From now on; what the old one has missed is nobody's any more."""
    world = World()
    await world.run(1, tick(every=HOUR, missed="all"))
    await asyncio.sleep(5.5 * HOUR)
    await world.run(HOUR, tick(cron="45 * * * *", missed="all"))
    assert world.keys() == [due_key(SUNDAY + 5.75 * HOUR)]
    assert world.planned() == 6.75 * HOUR


async def test_another_policy_is_no_other_schedule() -> None:
    """One who wants what was missed after all may say so."""
    world = World()
    await world.run(1, tick(every=HOUR))
    await asyncio.sleep(2.5 * HOUR)
    await world.run(1, tick(every=HOUR, missed="all"))
    assert world.keys() == [due_key(SUNDAY + HOUR), due_key(SUNDAY + 2 * HOUR)]


async def test_a_schedule_that_was_taken_away_is_forgotten() -> None:
    """With one again, the task has missed nothing; a task that is not offered keeps its plan."""
    world = World()
    task, other = tick(every=HOUR, missed="all"), tick("other", every=HOUR, missed="all")
    await world.run(1, task, other)
    await world.run(1, tick())
    assert set(world.kept) == {PREFIX + "other"}
    await asyncio.sleep(2.5 * HOUR)
    await world.run(1, task, other)
    assert world.keys() == []
    assert world.keys("other") == [due_key(SUNDAY + HOUR), due_key(SUNDAY + 2 * HOUR)]


@pytest.mark.parametrize(
    "fact", [b"", b"[]", b'{"next": "soon", "spec": "every 3600.0"}', b'{"next": 1e999}']
)
async def test_a_plan_that_makes_no_sense_is_made_anew(
    fact: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """And said."""
    world = World()
    world.kept[PREFIX + "tick"] = fact
    await world.run(1.5 * HOUR, tick(every=HOUR, missed="all"))
    assert world.keys() == [due_key(SUNDAY + HOUR)]
    assert caplog.messages == ["what was planned for the task 'tick' cannot be read"]


async def test_names_that_begin_alike_are_told_apart() -> None:
    """Each task has its own plan."""
    world = World()
    tasks = tick("report", every=HOUR), tick("report2", every=DAY)
    await world.run(1, *tasks)
    assert world.planned("report") == HOUR
    assert world.planned("report2") == DAY
