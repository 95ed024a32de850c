"""Whose turn is next: priority, tickets, keys in turn, limits and rates, without a clock."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Callable
from random import Random
from types import FrameType
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from quart_app.core.turns import SET_BACK, Turns
from quart_app.domain.limits import Limits, Rate, make_limits

PLAIN = make_limits()
FAIR = make_limits(limit_key="{user}")


def put_all(turns: Turns, task: str, limits: Limits, *jobs: tuple[str, str | None]) -> None:
    """Put jobs with their keys."""
    for job_id, key in jobs:
        turns.put(job_id, task, limits, key, limits.priority)


def put(turns: Turns, task: str, limits: Limits, ids: str, key: str | None = None) -> None:
    """Put jobs whose ids are single letters."""
    put_all(turns, task, limits, *((job_id, key) for job_id in ids))


def taken(turns: Turns, now: float = 0.0) -> str:
    """All that may go on now, one after the other."""
    return "".join(iter(lambda: turns.next(now), None))


def thrown(seed: int) -> Random:
    """The same dice each time."""
    return Random(seed)  # noqa: S311 - no secret


def check_empty(turns: Turns) -> None:
    """Nothing of all that was is kept."""
    kept = {name: value for name, value in vars(turns).items() if hasattr(value, "__len__")}
    assert kept.pop("_ranked") == (0.0, 0.0)
    assert {name: value for name, value in kept.items() if value} == {}


# The order.


def test_who_came_first_goes_first() -> None:
    """Jobs of one task without limits, and each only once."""
    turns = Turns()
    put(turns, "t", PLAIN, "abca")
    assert (len(turns), turns.waiting("t"), turns.waiting("u")) == (3, 3, 0)
    assert [turns.holds(job_id) for job_id in "ax"] == [True, False]
    assert taken(turns) == "abc"
    assert not turns.holds("a")
    check_empty(turns)


def test_a_higher_priority_goes_first() -> None:
    """Whatever the task, and who came when."""
    turns = Turns()
    for job_id, task, priority in [("a", "t", 0), ("b", "u", 5), ("c", "t", -3), ("d", "t", 5)]:
        turns.put(job_id, task, PLAIN, None, priority)
    assert taken(turns) == "bdac"


def test_the_task_that_has_waited_longest_is_next() -> None:
    """Between tasks by tickets: as their jobs came."""
    turns = Turns()
    for job_id, task in zip("abcdef", "ttuutu", strict=True):
        turns.put(job_id, task, PLAIN, None, 0)
    assert taken(turns) == "abcdef"


def test_who_leaves_gives_back_the_newest_ticket_of_its_task() -> None:
    """So that the others of its task lose no place to another task."""
    turns = Turns()
    for job_id, task in zip("abcd", "ttut", strict=True):
        turns.put(job_id, task, PLAIN, None, 0)
    assert turns.remove("a")
    assert not turns.remove("a")
    assert taken(turns) == "bdc"
    check_empty(turns)


def test_keys_take_turns_and_within_a_key_who_came_first_goes_first() -> None:
    """However many jobs a key has."""
    turns = Turns()
    put(turns, "t", FAIR, "abcde", "one")
    put(turns, "t", FAIR, "xyz", "two")
    put(turns, "t", FAIR, "m", "three")
    assert taken(turns) == "axmbyczde"


def test_keys_of_a_task_do_not_push_back_another_task() -> None:
    """A task has as many tickets as jobs, whatever keys it has."""
    turns = Turns()
    put_all(turns, "t", FAIR, *((job_id, job_id) for job_id in "abc"))
    put(turns, "u", PLAIN, "xyz")
    put(turns, "t", FAIR, "d", "d")
    assert taken(turns) == "abcxyzd"


def test_a_key_with_ten_thousand_jobs_delays_another_by_one_job() -> None:
    """A user's single job is next but one."""
    turns = Turns()
    put_all(turns, "t", FAIR, *((f"big {n}", "big") for n in range(10_000)))
    assert [turns.next(0.0) for _ in range(3)] == ["big 0", "big 1", "big 2"]
    turns.put("small", "t", FAIR, "small", 0)
    assert "small" in {turns.next(0.0), turns.next(0.0)}


def test_a_single_job_waits_for_one_round_of_the_keys_at_most() -> None:
    """Also where all keys are limited, and slots are given back in any order."""
    limits = make_limits(limit=2, limit_key="{user}", limit_total=20)
    turns, dice = Turns(), thrown(1)
    for number in range(10_000):
        turns.put(f"{number}", "t", limits, f"{number % 100}", 0)
    running = [turns.next(0.0) for _ in range(20)]
    turns.put("small", "t", limits, "small", 0)
    for _ in range(101):
        if running[-1] == "small":
            break
        turns.done(running.pop(dice.randrange(20)) or "")
        running.append(turns.next(0.0))
    assert running[-1] == "small"


def test_a_key_is_no_key_where_the_task_has_none() -> None:
    """Jobs that were kept when it still had one are like the others."""
    turns = Turns()
    put(turns, "t", PLAIN, "ab", "old")
    put(turns, "t", PLAIN, "c")
    put(turns, "u", FAIR, "xy", None)
    assert taken(turns) == "abcxy"


# Limits.


def test_a_task_at_its_limit_holds_up_no_other() -> None:
    """It goes on when one of its jobs has ended."""
    turns, limits = Turns(), make_limits(limit=2)
    put(turns, "t", limits, "abcd")
    put(turns, "u", PLAIN, "x")
    assert taken(turns) == "abx"
    turns.done("x")
    turns.done("unknown")
    assert taken(turns) == ""
    turns.done("a")
    turns.done("a")
    assert taken(turns) == "c"
    for job_id in "bc":
        turns.done(job_id)
    assert taken(turns) == "d"
    turns.done("d")
    check_empty(turns)


def test_a_key_at_its_limit_holds_up_no_other_key() -> None:
    """The limit is of each key, the other of all together."""
    turns, limits = Turns(), make_limits(limit=1, limit_key="{user}", limit_total=2)
    put(turns, "t", limits, "ab", "one")
    put(turns, "t", limits, "x", "two")
    put(turns, "t", limits, "m", "three")
    assert taken(turns) == "ax"
    turns.done("x")
    assert taken(turns) == "m"
    turns.done("a")
    assert taken(turns) == "b"


def test_a_limit_counts_jobs_of_every_priority() -> None:
    """An urgent job has its turn first, and no slot more."""
    turns, limits = Turns(), make_limits(limit=1, limit_key="{user}")
    put(turns, "t", limits, "ab", "one")
    assert taken(turns) == "a"
    turns.put("c", "t", limits, "one", 9)
    turns.put("d", "t", limits, "one", -9)
    assert taken(turns) == ""
    for job_id, after in zip("acbd", ["c", "b", "d", ""], strict=True):
        turns.done(job_id)
        assert taken(turns) == after
    check_empty(turns)


def test_a_job_that_comes_again_before_it_was_done_has_one_slot() -> None:
    """Its second attempt takes the place of the first."""
    turns, limits = Turns(), make_limits(limit=2)
    put(turns, "t", limits, "a")
    assert taken(turns) == "a"
    put(turns, "t", limits, "a")
    assert taken(turns) == "a"
    put(turns, "t", limits, "bc")
    assert taken(turns) == "b"
    turns.done("a")
    assert taken(turns) == "c"


# Jobs that wait for others.


def test_a_suspended_job_gives_its_slots_to_others_and_takes_them_again() -> None:
    """Its children may be of its own task."""
    turns, limits = Turns(), make_limits(limit=1, limit_key="{user}", limit_total=1)
    put(turns, "t", limits, "pc", "one")
    assert taken(turns) == "p"
    turns.suspend("p")
    turns.suspend("p")
    assert turns.may_resume("p")
    assert taken(turns) == "c"
    assert not turns.may_resume("p")
    turns.done("c")
    assert turns.may_resume("p")
    turns.resume("p")
    turns.resume("p")
    assert turns.may_resume("p")
    put(turns, "t", limits, "d", "two")
    assert taken(turns) == ""
    turns.done("p")
    assert taken(turns) == "d"
    turns.done("d")
    check_empty(turns)


def test_who_wants_its_slots_back_comes_before_new_ones() -> None:
    """And before those that have not said so."""
    turns, limits = Turns(), make_limits(limit=2)
    put(turns, "t", limits, "pqabcd")
    assert taken(turns) == "pq"
    turns.suspend("p")
    turns.suspend("q")
    assert taken(turns) == "ab"
    turns.want_back("a")
    turns.want_back("p")
    turns.suspend("p")
    turns.done("a")
    assert taken(turns) == ""
    assert turns.may_resume("p")
    assert not turns.may_resume("q")
    turns.done("b")
    assert taken(turns) == "c"
    turns.resume("p")
    turns.done("c")
    turns.done("p")
    turns.want_back("q")
    turns.done("q")
    assert taken(turns) == "d"


def test_a_job_that_must_go_on_takes_a_slot_where_there_is_none() -> None:
    """A cancel does not wait; afterwards nobody begins until there are fewer than the limit."""
    turns, limits = Turns(), make_limits(limit=1)
    put(turns, "t", limits, "pab")
    assert taken(turns) == "p"
    turns.suspend("p")
    assert taken(turns) == "a"
    turns.want_back("p")
    turns.resume("p")
    turns.done("a")
    assert taken(turns) == ""
    turns.done("p")
    assert taken(turns) == "b"


def test_going_on_needs_no_rate() -> None:
    """It has begun long since."""
    turns, limits = Turns(), make_limits(rate="1/minute", limit=1)
    put(turns, "t", limits, "pa")
    assert taken(turns) == "p"
    turns.suspend("p")
    assert taken(turns, 1.0) == ""
    assert turns.may_resume("p")
    turns.resume("p")
    turns.done("p")
    assert taken(turns, 59.9) == ""
    assert taken(turns, 60.0) == "a"


def test_jobs_without_limits_are_suspended_at_no_cost() -> None:
    """Nothing is known of them, and they may always go on."""
    turns = Turns()
    put(turns, "t", PLAIN, "a")
    assert taken(turns) == "a"
    turns.suspend("a")
    turns.want_back("a")
    assert turns.may_resume("a")
    turns.resume("a")
    turns.done("a")
    check_empty(turns)


# Jobs that begin elsewhere.


def test_a_job_that_runs_already_counts_once() -> None:
    """Whoever let it go on; it waits no more, and its end frees one slot."""
    turns, limits = Turns(), make_limits(limit=2)
    put(turns, "t", limits, "abc")
    for _ in range(3):
        turns.adopt("x", "t", limits, None, 0.0)
        turns.adopt("a", "t", limits, None, 0.0)
    assert len(turns) == 2
    assert taken(turns) == ""
    turns.done("x")
    assert taken(turns) == "b"
    for job_id in "ab":
        turns.done(job_id)
    assert taken(turns) == "c"
    turns.done("c")
    check_empty(turns)


def test_adopted_jobs_count_by_their_keys_and_beyond_limits() -> None:
    """What runs runs; afterwards nobody begins until there are fewer."""
    turns, limits = Turns(), make_limits(limit=1, limit_key="{user}", limit_total=2)
    for job_id, key in (("a", "one"), ("b", "one"), ("c", "two")):
        turns.adopt(job_id, "t", limits, key, 0.0)
    put(turns, "t", limits, "x", "three")
    put(turns, "t", limits, "y", "one")
    assert taken(turns) == ""
    turns.done("a")
    assert taken(turns) == ""
    turns.done("c")
    assert taken(turns) == "x"
    turns.done("x")
    assert taken(turns) == ""
    turns.done("b")
    assert taken(turns) == "y"
    turns.done("y")
    check_empty(turns)


def test_an_adopted_job_that_waits_for_others_has_no_slot() -> None:
    """Until it goes on."""
    turns, limits = Turns(), make_limits(limit=1)
    turns.adopt("p", "t", limits, None, 0.0)
    turns.suspend("p")
    put(turns, "t", limits, "ab")
    assert taken(turns) == "a"
    turns.adopt("p", "t", limits, None, 0.0)
    turns.resume("p")
    turns.done("a")
    assert taken(turns) == ""
    turns.done("p")
    assert taken(turns) == "b"


def test_jobs_without_bounds_are_adopted_at_no_cost() -> None:
    """Nothing is kept of them."""
    turns = Turns()
    for limits in (PLAIN, FAIR):
        put(turns, "t", limits, "a", "one")
        turns.adopt("a", "t", limits, "one", 0.0)
        turns.send("b", "t", limits, "one")
        assert taken(turns) == ""
        check_empty(turns)


def test_each_begin_counts_once_for_a_rate() -> None:
    """However often it is told that the job runs; what the rate knows is not told again."""
    turns, limits = Turns(), make_limits(rate="3/minute")
    for at in (0.0, 1.0, 2.0):
        turns.adopt("a", "t", limits, None, at)
    turns.grant("t", limits, None, 5.0)
    turns.adopt("b", "t", limits, None, None)
    put(turns, "t", limits, "cd")
    assert taken(turns, 10.0) == "c"
    assert turns.wake_at(10.0) == 60.0
    assert taken(turns, 60.0) == "d"
    for job_id in "abcd":
        turns.done(job_id)
    turns.next(1_000.0)
    check_empty(turns)


def test_who_is_on_its_way_keeps_its_place_in_the_rate() -> None:
    """Until it has begun, however long that takes: then the time of the rate begins."""
    turns, limits = Turns(begin=False), make_limits(rate="2/10 seconds")
    put(turns, "t", limits, "abcde")
    assert taken(turns, 0.0) == "ab"
    assert [turns.sent(job_id) for job_id in "abc"] == [True, True, False]
    assert turns.sent_of("t") == ["a", "b"]
    assert turns.sent_of("u") == []
    assert turns.wake_at(500.0) is None
    assert taken(turns, 500.0) == ""
    turns.adopt("a", "t", limits, None, 500.0)
    assert taken(turns, 500.0) == ""
    assert turns.wake_at(500.0) == 510.0
    turns.adopt("b", "t", limits, None, 504.0)
    assert turns.wake_at(504.0) == 510.0
    assert taken(turns, 510.0) == "c"
    assert turns.wake_at(510.0) == 514.0
    assert taken(turns, 514.0) == "d"
    assert turns.wake_at(600.0) is None
    turns.adopt("c", "t", limits, None, 600.0)
    assert turns.wake_at(600.0) == 610.0


def test_who_does_not_arrive_gives_its_place_to_another_at_once() -> None:
    """It was withdrawn: nothing has begun."""
    turns, limits = Turns(begin=False), make_limits(rate="2/10 seconds", limit_key="{user}")
    put(turns, "t", limits, "abcd", "one")
    assert taken(turns, 0.0) == "ab"
    turns.adopt("a", "t", limits, "one", 0.0)
    assert taken(turns, 1.0) == ""
    turns.done("b")
    assert taken(turns, 1.0) == "c"
    turns.done("a")
    assert taken(turns, 1.0) == ""
    turns.done("c")
    assert taken(turns, 1.0) == "d"
    turns.done("d")
    turns.next(100.0)
    check_empty(turns)


def test_who_was_sent_by_another_counts_as_if_it_had_gone_on_here() -> None:
    """Once, and it waits no more."""
    turns, limits = Turns(begin=False), make_limits(limit=2, rate="9/minute")
    put(turns, "t", limits, "abc")
    for _ in range(2):
        turns.send("b", "t", limits, None)
    assert taken(turns) == "a"
    turns.adopt("b", "t", limits, None, 0.0)
    turns.send("b", "t", limits, None)
    assert not turns.sent("b")
    turns.done("b")
    assert taken(turns) == "c"
    for job_id in "ac":
        turns.done(job_id)
    turns.next(100.0)
    check_empty(turns)


def arrive(seed: int) -> list[float]:
    """Jobs that go on as a rate lets them, and begin, or are lost, some time later."""
    dice, turns, limits = thrown(seed), Turns(begin=False), make_limits(rate="5/10 seconds")
    way: list[tuple[float, str]] = []
    begun: list[float] = []
    now, number = 0.0, 0
    while len(begun) < 300:
        for _ in range(dice.randrange(4)):
            turns.put(f"{number}", "t", limits, None, 0)
            number += 1
        while (job_id := turns.next(now)) is not None:
            way.append((now + dice.choice([0.0, 0.1, 40.0]) * dice.random(), job_id))
        now += dice.random() * 3
        for at, job_id in sorted(way):
            if at <= now:
                way.remove((at, job_id))
                if dice.random() < 0.1:
                    turns.done(job_id)
                    continue
                begun.append(now)
                turns.adopt(job_id, "t", limits, None, now)
                if dice.random() < 0.5:
                    turns.done(job_id)
        assert len(turns._later) < 100
    return begun


@pytest.mark.parametrize("seed", range(5))
def test_no_window_has_more_begins_than_the_rate_however_long_they_are_on_their_way(
    seed: int,
) -> None:
    """And the rate is used: nobody waits for what will not come."""
    begun = arrive(seed)
    check_rate(begun, Rate(5, 10.0))


# Rates.


def test_no_window_has_more_than_the_rate() -> None:
    """The next job begins when the window that begins with the oldest is over."""
    turns, limits = Turns(), make_limits(rate="2/10 seconds")
    put(turns, "t", limits, "abcde")
    assert (turns.next(0.0), turns.next(4.0), turns.next(9.9)) == ("a", "b", None)
    assert turns.wake_at(9.9) == 10.0
    assert taken(turns, 10.0) == "c"
    assert turns.wake_at(10.0) == 14.0
    assert taken(turns, 13.9) == ""
    assert taken(turns, 30.0) == "de"
    assert turns.wake_at(30.0) is None


def test_a_key_out_of_its_rate_holds_up_no_other_key() -> None:
    """The rate is of each key, the other of all together."""
    turns = Turns()
    limits = make_limits(rate="1/10 seconds", limit_key="{user}", rate_total="3/minute")
    put(turns, "t", limits, "abc", "one")
    put(turns, "t", limits, "xy", "two")
    assert taken(turns, 0.0) == "ax"
    assert turns.wake_at(0.0) == 10.0
    assert taken(turns, 10.0) == "b"
    assert turns.wake_at(10.0) == 60.0
    assert taken(turns, 60.0) == "yc"
    assert turns.wake_at(60.0) is None


def test_nobody_is_woken_for_who_is_paused_or_gone() -> None:
    """Only for who waits, and only for a rate."""
    turns, limits = Turns(), make_limits(rate="1/minute", limit_key="{user}", rate_total="9/day")
    put(turns, "t", limits, "ab", "one")
    assert taken(turns) == "a"
    assert turns.wake_at(0.0) == 60.0
    turns.pause("t")
    assert turns.wake_at(0.0) is None
    turns.resume_task("t")
    assert turns.wake_at(0.0) == 60.0
    turns.remove("b")
    assert turns.wake_at(0.0) is None
    put(turns, "t", limits, "c", "one")
    assert turns.wake_at(1.0) == 60.0
    assert taken(turns, 60.0) == "c"
    turns.wake_at(60.0 + 86_400)
    check_empty(turns)


def test_who_may_go_on_at_once_needs_no_waking() -> None:
    """There is no room, then: it is its end that matters."""
    turns = Turns()
    put(turns, "t", PLAIN, "a")
    assert turns.wake_at(0.0) is None


def test_what_began_before_a_restart_counts() -> None:
    """A rate holds over it, in whatever order the begins are read."""
    turns, limits = Turns(), make_limits(rate="3/minute", limit_key="{user}", rate_total="4/minute")
    for at in (40.0, 10.0, 20.0, 30.0):
        turns.grant("t", limits, "one", at)
    turns.grant("u", make_limits(limit=1, limit_key="{user}"), "one", 40.0)
    put(turns, "t", limits, "ab", "one")
    put(turns, "t", limits, "x", "two")
    assert taken(turns, 50.0) == ""
    assert turns.wake_at(50.0) == 70.0
    assert taken(turns, 70.0) == "x"
    assert taken(turns, 80.0) == "a"
    turns.remove("b")
    turns.next(1000.0)
    check_empty(turns)


def test_a_clock_that_was_set_back_makes_nobody_wait_for_it() -> None:
    """What begins in the future by it has begun by now; a moment's step back is waited out."""
    turns, limits = Turns(), make_limits(rate="2/minute")
    put(turns, "t", limits, "abcdef")
    assert taken(turns, 10_000.0) == "ab"
    assert turns.wake_at(10_000.0 - SET_BACK) == 10_060.0
    assert taken(turns, 5_000.0) == ""
    assert turns.wake_at(5_000.0) == 5_060.0
    assert taken(turns, 5_060.0) == "cd"
    turns.grant("t", limits, None, 9_000.0)
    assert turns.wake_at(5_061.0) == 5_120.0
    assert turns.next(5_121.0) == "e"
    assert turns.next(5_121.0) is None
    assert turns.wake_at(5_121.0) == 5_181.0
    turns.remove("f")
    turns.next(20_000.0)
    check_empty(turns)


def test_a_clock_that_was_set_back_before_the_rate_was_used_up() -> None:
    """The begins stay in their order."""
    turns, limits = Turns(), make_limits(rate="2/minute")
    put(turns, "t", limits, "abc")
    assert (turns.next(1_000.0), turns.next(500.0), turns.next(500.0)) == ("a", "b", None)
    assert turns.wake_at(500.0) == 560.0


def test_idle_keys_are_forgotten_when_their_rate_is_over() -> None:
    """What is remembered is bounded by what began within the time."""
    turns, limits = Turns(), make_limits(rate="5/minute", limit_key="{user}")
    most = 0
    for second in range(1_000):
        for number in range(10):
            turns.put(f"{second}.{number}", "t", limits, f"user {second}.{number}", 0)
        while turns.next(float(second)) is not None:
            pass
        most = max(most, len(turns._tasks["t"].keys))
    assert most == 600
    turns.next(2_000.0)
    check_empty(turns)


def test_begins_that_do_not_matter_any_more_are_forgotten() -> None:
    """Also where jobs of the task still run."""
    turns, limits = Turns(), make_limits(limit=5, rate="5/minute")
    put(turns, "t", limits, "abc")
    assert taken(turns) == "abc"
    turns.next(59.0)
    assert turns._tasks["t"].begun
    turns.next(60.0)
    assert not turns._tasks["t"].begun
    for job_id in "abc":
        turns.done(job_id)
    check_empty(turns)


def test_pausing_again_and_again_leaves_nothing() -> None:
    """A task that is out of its rate is waited for once."""
    turns, limits = Turns(), make_limits(rate="1/minute")
    put(turns, "t", limits, "ab")
    assert taken(turns) == "a"
    for _ in range(20):
        turns.pause("t")
        assert turns.next(1.0) is None
        turns.resume_task("t")
        assert turns.wake_at(1.0) == 60.0
    assert len(turns._later) == 1
    assert taken(turns, 60.0) == "b"


def check_rate(begun: list[float], rate: Rate) -> None:
    """No window of the period has more begins than the count."""
    window: deque[float] = deque()
    for at in begun:
        window.append(at)
        while window[0] + rate.period <= at:
            window.popleft()
        assert len(window) <= rate.count


def simulate(
    turns: Turns, limits: Limits, jobs: list[tuple[float, str]]
) -> list[tuple[float, str, str]]:
    """Put jobs with their keys at their moments, and let them begin as `wake_at` says.

    Returns:
        When each began, its key and its id.
    """
    begun: list[tuple[float, str, str]] = []
    coming, now = deque(enumerate(jobs)), 0.0
    keys = {f"{number}": key for number, (_, key) in enumerate(jobs)}
    while coming or len(turns):
        wake = turns.wake_at(now)
        moments = [coming[0][1][0]] if coming else []
        now = min(moments + ([] if wake is None else [wake]))
        while coming and coming[0][1][0] <= now:
            number, (_, key) = coming.popleft()
            turns.put(f"{number}", "t", limits, key, 0)
        while (job_id := turns.next(now)) is not None:
            begun.append((now, keys[job_id], job_id))
    return begun


@pytest.mark.slow
def test_three_days_of_bursts_at_100_a_minute() -> None:
    """Each job begins at the first moment that the rate allows: never sooner, never later."""
    dice, turns, limits = thrown(3), Turns(), make_limits(rate="100/minute")
    arrivals = sorted(
        start + dice.random() * dice.choice([1, 60, 3600])
        for start in (hour * 3600.0 for hour in range(72))
        for _ in range(dice.choice([0, 10, 200, 8_000]))
    )
    begun = [at for at, _, _ in simulate(turns, limits, [(at, "") for at in arrivals])]
    assert len(begun) == len(arrivals) > 50_000
    check_rate(begun, Rate(100, 60.0))
    for number, (at, arrival) in enumerate(zip(begun, arrivals, strict=True)):
        assert at == max(arrival, begun[number - 100] + 60.0 if number >= 100 else 0.0)
    turns.next(begun[-1] + 60.0)
    check_empty(turns)


@pytest.mark.slow
def test_a_day_of_rates_of_keys_and_of_all_of_them() -> None:
    """Both are exact, each key's jobs begin in their order, and all begin in the end."""
    dice, turns = thrown(4), Turns()
    limits = make_limits(rate="10/hour", limit_key="{user}", rate_total="20/10 minutes")
    users = [f"{number}" for number in range(30)]
    jobs = sorted(
        (dice.random() * 86_400, dice.choice(users[: dice.choice([1, 5, 30])]))
        for _ in range(2_000)
    )
    begun = simulate(turns, limits, jobs)
    assert len(begun) == len(jobs)
    check_rate([at for at, _, _ in begun], Rate(20, 600.0))
    for user in users:
        mine = [(at, int(job_id)) for at, key, job_id in begun if key == user]
        check_rate([at for at, _ in mine], Rate(10, 3600.0))
        assert mine == sorted(mine, key=lambda each: each[1])
    turns.next(begun[-1][0] + 3600.0)
    check_empty(turns)


# Operators.


def test_a_paused_task_holds_up_no_other_and_keeps_its_place() -> None:
    """Its jobs wait; when it goes on it has the oldest tickets."""
    turns = Turns()
    put(turns, "t", PLAIN, "ab")
    put(turns, "u", PLAIN, "xyz")
    turns.pause("t")
    assert turns.paused("t")
    assert turns.next(0.0) == "x"
    turns.put("c", "t", PLAIN, None, 7)
    assert turns.next(0.0) == "y"
    turns.resume_task("t")
    turns.resume_task("unknown")
    assert not turns.paused("t")
    assert taken(turns) == "cabz"
    check_empty(turns)


def test_a_task_that_was_paused_at_its_limit_waits_for_both() -> None:
    """Whichever ends first."""
    turns, limits = Turns(), make_limits(limit=1)
    put(turns, "t", limits, "abc")
    assert taken(turns) == "a"
    turns.pause("t")
    turns.done("a")
    assert taken(turns) == ""
    turns.resume_task("t")
    assert taken(turns) == "b"
    turns.pause("t")
    turns.resume_task("t")
    assert taken(turns) == ""


def test_the_place_of_a_job_is_when_its_turn_comes() -> None:
    """Priorities, tickets and keys: as they go if only room holds them back."""
    turns, dice = Turns(), thrown(5)
    for number in range(300):
        task, limits = dice.choice([("t", PLAIN), ("u", PLAIN), ("v", FAIR)])
        turns.put(f"{number}", task, limits, dice.choice("abc"), dice.choice([0, 0, 3, -3]))
    for number in range(0, 300, 7):
        turns.remove(f"{number}")
    places = {f"{number}": turns.position(f"{number}", 0.0) for number in range(300)}
    assert places["7"] is None
    order = list(iter(lambda: turns.next(0.0), None))
    assert [places[job_id] for job_id in order] == list(range(1, len(order) + 1))
    check_empty(turns)


def test_places_are_worked_out_once_a_second() -> None:
    """Meanwhile they are old, and who is new is the last; none is beyond who waits."""
    turns = Turns()
    put(turns, "t", PLAIN, "abcd")
    assert [turns.position(job_id, 10.0) for job_id in "ad"] == [1, 4]
    assert turns.next(10.5) == "a"
    put(turns, "t", PLAIN, "ef")
    assert [turns.position(job_id, 10.9) for job_id in "abdef"] == [None, 2, 4, 5, 5]
    assert [turns.position(job_id, 11.0) for job_id in "bdef"] == [1, 3, 4, 5]
    assert turns.position("b", 5.0) == 1
    for job_id in "bcd":
        turns.remove(job_id)
    assert turns.position("f", 5.5) == 2


def test_places_have_those_that_are_held_back_too() -> None:
    """After the keys that may go on: they come later, and nobody knows when."""
    turns, limits = Turns(), make_limits(limit=1, limit_key="{user}")
    put(turns, "t", limits, "abc", "one")
    put(turns, "t", limits, "xy", "two")
    assert taken(turns) == "ax"
    turns.done("x")
    assert [turns.position(job_id, 0.0) for job_id in "ybc"] == [1, 2, 3]


# How much work it is.


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of Python run: a measure that no other process disturbs."""
    lines = 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.slow
@pytest.mark.parametrize(
    "limits",
    [
        PLAIN,
        FAIR,
        make_limits(limit=1, limit_key="{user}"),
        make_limits(rate="1/minute", limit_key="{user}"),
    ],
    ids=["plain", "fair", "limit", "rate"],
)
def test_a_job_costs_the_same_among_ten_as_among_thousands_of_keys(limits: Limits) -> None:
    """All are put, and go on as they may, and some leave."""

    def run(keys: int) -> None:
        turns = Turns()
        now, running = 0.0, deque[str]()
        for number in range(4_000):
            turns.put(f"{number}", "t", limits, f"{number % keys}", 0)
        for number in range(0, 4_000, 9):
            turns.remove(f"{number}")
        while len(turns):
            job_id = turns.next(now)
            if job_id is not None:
                running.append(job_id)
            elif running:
                turns.done(running.popleft())
            else:
                now = turns.wake_at(now) or now

    few, many = lines_run(lambda: run(10)), lines_run(lambda: run(2_000))
    assert many < 2 * few


@pytest.mark.slow
def test_nobody_looks_through_ten_thousand_keys_that_are_held_back() -> None:
    """The end of one lets one go on, and the others cost nothing."""
    turns, limits = Turns(), make_limits(limit=1, limit_key="{user}")
    for number in range(20_000):
        turns.put(f"{number}", "t", limits, f"{number % 10_000}", 0)
    while turns.next(0.0) is not None:
        pass
    turns.put("x", "u", PLAIN, None, -1)

    def work() -> None:
        assert turns.next(0.0) == "x"
        turns.done("5000")
        assert turns.next(0.0) == "15000"
        assert turns.next(0.0) is None

    assert lines_run(work) < 300


def test_tasks_that_come_and_go_leave_nothing_while_nobody_asks() -> None:
    """No room for an hour, and starts that are canceled: what is kept is bounded."""
    turns, limits = Turns(), make_limits(limit=3, limit_key="{user}")
    put(turns, "t", PLAIN, "a")
    for number in range(1_000):
        turns.put(f"{number}", f"u{number % 3}", limits, f"{number}", 0)
        turns.remove(f"{number}")
    assert len(turns._bands[0].heap) < 50
    assert len(turns._tasks) == 1
    assert taken(turns) == "a"
    check_empty(turns)


# Everything at once, beside a list that is looked through.

TASKS = {
    "plain": PLAIN,
    "other": PLAIN,
    "limit": make_limits(limit=2),
    "rate": make_limits(rate="3/10 seconds"),
    "both": make_limits(limit=2, rate="2/7 seconds"),
    "fair": FAIR,
    "keys": make_limits(limit=1, limit_key="{user}"),
    "all": make_limits(
        limit=1, rate="2/7 seconds", limit_key="{user}", limit_total=2, rate_total="5/20 seconds"
    ),
}
Line = tuple[str, str | None, int]


class Naive(RuleBasedStateMachine):
    """Jobs in lists, and the rules of turns word for word."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = Turns()
        self.now = 0.0
        self.numbers = itertools.count()
        self.lines: dict[Line, list[str]] = {}
        self.tickets: dict[tuple[str, int], list[int]] = {}
        self.slots: dict[str, tuple[str, str | None, str]] = {}
        self.begun: list[tuple[float, str, str | None]] = []
        self.paused: set[str] = set()
        # Which keys had a turn since this one could have had it.
        self.passed: dict[Line, set[str | None]] = {}

    # The rules.

    def bounds(
        self, task: str, key: str | None
    ) -> list[tuple[str | None, int | None, Rate | None]]:
        limits = TASKS[task]
        if limits.key is None:
            return [(None, limits.running, limits.rate)]
        return [(None, limits.total_running, limits.total_rate), (key, limits.running, limits.rate)]

    def open(self, task: str, key: str | None, now: float, whole: bool = True) -> bool:
        """Whether limits and rates let it go on; of the task, or only of its key."""
        bounds = self.bounds(task, key)
        for of, limit, rate in bounds if whole else bounds[1:]:
            taken = sum(
                t == task and of in (None, k) and state != "away"
                for t, k, state in self.slots.values()
            )
            recent = sum(
                t == task and of in (None, k) and rate is not None and now < at + rate.period
                for at, t, k in self.begun
            )
            if (limit is not None and taken >= limit) or (rate and recent >= rate.count):
                return False
        return True

    def ready(self, now: float) -> list[Line]:
        """Whose next job may go on."""
        return [
            line
            for line in self.lines
            if line[0] not in self.paused and self.open(line[0], line[1], now)
        ]

    def leaves(self, line: Line) -> None:
        if not self.lines[line]:
            del self.lines[line]
            self.passed.pop(line, None)

    def starts(self, job_id: str, task: str, key: str | None) -> None:
        self.slots[job_id] = (task, key, "runs")
        self.begun.append((self.now, task, key))

    @property
    def waiting(self) -> list[str]:
        return [job_id for jobs in self.lines.values() for job_id in jobs]

    # What may happen.

    @rule(
        task=st.sampled_from(sorted(TASKS)),
        key=st.sampled_from("abc"),
        priority=st.sampled_from([0, 0, 0, 5, -5]),
        count=st.integers(1, 4),
    )
    def put(self, task: str, key: str, priority: int, count: int) -> None:
        for _ in range(count):
            number = next(self.numbers)
            self.turns.put(f"{number}", task, TASKS[task], key, priority)
            line = (task, None if TASKS[task].key is None else key, priority)
            self.lines.setdefault(line, []).append(f"{number}")
            self.tickets.setdefault((task, priority), []).append(number)

    @precondition(lambda self: self.lines)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(self.waiting))
        [line] = [line for line, jobs in self.lines.items() if job_id in jobs]
        self.lines[line].remove(job_id)
        self.tickets[line[0], line[2]].pop()
        self.leaves(line)
        assert self.turns.remove(job_id)

    @rule(times=st.integers(1, 5))
    def next(self, times: int) -> None:
        for _ in range(times):
            self.watch()
            self.take_one()

    def take_one(self) -> None:
        ready = self.ready(self.now)
        job_id = self.turns.next(self.now)
        if not ready:
            assert job_id is None
            return
        urgent = max(priority for _, _, priority in ready)
        tasks = {task for task, _, priority in ready if priority == urgent}
        task = min(tasks, key=lambda task: self.tickets[task, urgent][0])
        may = [line for line in ready if (line[0], line[2]) == (task, urgent)]
        assert job_id in [self.lines[line][0] for line in may]
        assert job_id is not None
        [line] = [line for line in may if self.lines[line][0] == job_id]
        for other, keys in self.passed.items():
            if other != line and (other[0], other[2]) == (task, urgent):
                assert line[1] not in keys, f"{other} is starved"
                keys.add(line[1])
        self.passed.pop(line, None)
        self.lines[line].pop(0)
        self.tickets[task, urgent].pop(0)
        self.starts(job_id, task, line[1])
        self.leaves(line)

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.slots)))
        del self.slots[job_id]
        self.turns.done(job_id)

    @precondition(lambda self: self.slots)
    @rule(data=st.data(), state=st.sampled_from(["away", "back", "runs"]))
    def steps_aside_or_back(self, data: st.DataObject, state: str) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.slots)))
        task, key, before = self.slots[job_id]
        if state == "away":
            self.turns.suspend(job_id)
            state = "away" if before == "runs" else before
        elif state == "back":
            self.turns.want_back(job_id)
            state = "back" if before == "away" else before
        elif self.turns.may_resume(job_id) or data.draw(st.booleans()):
            self.turns.resume(job_id)
        else:
            state = before
        self.slots[job_id] = (task, key, state)

    @rule(task=st.sampled_from(sorted(TASKS)))
    def pause_or_resume(self, task: str) -> None:
        if task in self.paused:
            self.turns.resume_task(task)
        else:
            self.turns.pause(task)
        self.paused ^= {task}

    @rule(seconds=st.integers(1, 8))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def wakes(self) -> None:
        """Nobody could go on, by the time alone, before `wake_at`."""
        wake = self.turns.wake_at(self.now)
        assert wake is None or wake > self.now
        if self.ready(self.now):
            return
        moments = {at + rate for at, _, _ in self.begun for rate in (7.0, 10.0, 20.0)}
        for at in sorted(moment for moment in moments if moment > self.now):
            if self.ready(at):
                assert wake is not None
                assert wake <= at
                break
        if wake is not None:
            self.now = wake

    # What always holds.

    @invariant()
    def watch(self) -> None:
        """Who could have had a turn all the time is not passed twice by anybody."""
        for line in self.lines:
            if self.open(line[0], line[1], self.now, whole=False):
                self.passed.setdefault(line, set())
            else:
                self.passed.pop(line, None)

    @invariant()
    def the_same_jobs_wait(self) -> None:
        waiting = self.waiting
        assert len(self.turns) == len(waiting)
        assert all(self.turns.holds(job_id) for job_id in waiting)
        for task in TASKS:
            mine = [len(jobs) for line, jobs in self.lines.items() if line[0] == task]
            assert self.turns.waiting(task) == sum(mine)
        places = [self.turns.position(job_id, self.now) for job_id in waiting]
        assert all(place is not None and 1 <= place <= len(waiting) for place in places)

    def teardown(self) -> None:
        """Everything ends, and nothing is left."""
        for task in list(self.paused):
            self.turns.resume_task(task)
        self.paused.clear()
        while self.lines or self.slots:
            for job_id in list(self.slots):
                self.turns.done(job_id)
            self.slots.clear()
            self.wakes()
            self.next(3)
        self.turns.next(self.now + 20.0)
        check_empty(self.turns)


@pytest.mark.slow
def test_turns_are_what_a_list_that_is_looked_through_gives() -> None:
    """Every rule, in any order of events."""
    run_state_machine_as_test(
        Naive, settings=settings(deadline=None, max_examples=150, stateful_step_count=60)
    )
