"""The clock that jobs live by: the wall's at the start, and steady from then on."""

from __future__ import annotations

import time

import pytest

from quart_app.core.clock import make_clock

HOUR = 3600.0


def set_the_wall(monkeypatch: pytest.MonkeyPatch, change: float) -> None:
    """As where somebody, or NTP, sets the machine's clock."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + change)


@pytest.mark.parametrize("change", [HOUR, -HOUR, 400 * 24 * HOUR])
def test_a_clock_that_is_set_moves_no_job(monkeypatch: pytest.MonkeyPatch, change: float) -> None:
    """What is due in an hour is neither due at once nor in two hours."""
    clock = make_clock()
    before = clock()
    set_the_wall(monkeypatch, change)
    assert 0 <= clock() - before < 60


@pytest.mark.parametrize("change", [HOUR, -HOUR])
def test_a_new_start_follows_the_wall(monkeypatch: pytest.MonkeyPatch, change: float) -> None:
    """A restart takes over what the wall shows then, also where it was set meanwhile."""
    before = make_clock()
    set_the_wall(monkeypatch, change)
    assert make_clock()() - before() == pytest.approx(change, abs=60)


def test_it_shows_seconds_since_the_epoch() -> None:
    """As every moment of a job's record."""
    assert make_clock()() == pytest.approx(time.time(), abs=60)


def test_it_never_goes_back() -> None:
    """Of two moments the later one is not the smaller."""
    clock = make_clock()
    moments = [clock() for _ in range(1_000)]
    assert moments == sorted(moments)


def test_it_also_works_where_the_system_does_not_count_its_sleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without CLOCK_BOOTTIME (macOS) it is the monotonic clock that carries on."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    clock = make_clock()
    before = clock()
    assert before == pytest.approx(time.time(), abs=60)
    assert clock() >= before
