"""What tasks were seen to take: only successes count, and the newest hundred."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from quart_app.core.durations import Durations, Observed
from quart_app.domain.jobs import Job

DONE = Job(id="a", task="t", status="succeeded", started_at=10.0, finished_at=11.0)


def seen(*seconds: float) -> Durations:
    """Durations after jobs that took so long."""
    durations = Durations()
    for each in seconds:
        durations.on_ends([replace(DONE, finished_at=10.0 + each)])
    return durations


def test_nothing_is_known_of_a_task_that_never_succeeded() -> None:
    """Failures, cancels and half records say nothing about how long it takes."""
    durations = Durations()
    durations.on_ends([replace(DONE, status="failed")])
    durations.on_ends([replace(DONE, status="canceled", started_at=None)])
    durations.on_ends([replace(DONE, started_at=None)])
    durations.on_ends([replace(DONE, finished_at=None)])
    assert durations.observed("t") == Observed(0, None, None)
    assert durations.typical("t") is None


def test_median_and_95th_percentile_are_of_what_was_seen() -> None:
    """Both are values that did occur."""
    assert seen(3, 1, 2).observed("t") == Observed(3, 2.0, 3.0)
    assert seen(*range(1, 101)).observed("t") == Observed(100, 50.0, 95.0)
    assert seen(0.5).typical("t") == 0.5


def test_tasks_are_told_apart() -> None:
    """One's slowness is not another's."""
    durations = seen(5)
    durations.on_ends([replace(DONE, task="u")])
    assert (durations.typical("t"), durations.typical("u")) == (5.0, 1.0)


def test_only_the_newest_hundred_are_kept() -> None:
    """A task that became faster is soon known to be; all are counted."""
    durations = seen(*[100.0] * 500, *[1.0] * 100)
    assert durations.observed("t") == Observed(600, 1.0, 1.0)


def test_many_at_once_are_as_one_after_the_other() -> None:
    """Of several tasks, with failures among them, and more than are kept."""
    endings = [
        replace(
            DONE,
            task="tuv"[each % 3],
            status="failed" if each % 7 == 0 else "succeeded",
            finished_at=10.0 + each,
        )
        for each in range(1_000)
    ]
    at_once, singly = Durations(), Durations()
    at_once.on_ends(endings)
    for each in endings:
        singly.on_ends([each])
    for task in "tuv":
        assert at_once.observed(task) == singly.observed(task)
        assert at_once.observed(task).count > 250


@pytest.mark.parametrize("before", [0, 5, 100])
def test_the_typical_duration_follows_soon(before: int) -> None:
    """It is worked out anew after a few endings, however often it is asked for."""
    durations = seen(*[9.0] * before)
    durations.typical("t")
    typical: list[float | None] = []
    for _ in range(before // 2 + 17):
        durations.on_ends([DONE])
        typical.append(durations.typical("t"))
    assert typical[-1] == 1.0
