"""Which error is worth another attempt, and when: numbers and exceptions, no clock and no dice."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_app.domain.errors import InvalidTask
from quart_app.domain.retries import (
    LONGEST,
    NEVER,
    Fail,
    Retry,
    RetryAfter,
    Verdict,
    kinds_of,
)
from quart_app.domain.tasks import Task


async def work() -> None: ...


def test_each_delay_is_longer_by_the_factor_up_to_the_maximum() -> None:
    """Without jitter they are exactly that."""
    retry = Retry(initial=0.5, factor=4, maximum=30, jitter=0)
    assert [retry.delay(attempt, 0.7) for attempt in range(1, 6)] == [0.5, 2.0, 8.0, 30.0, 30.0]


def test_the_delays_of_a_retry_that_says_nothing() -> None:
    """One second, doubled each time, five minutes at most; a quarter may be taken off."""
    retry = Retry()
    assert [retry.delay(attempt, 0.0) for attempt in (1, 2, 3, 9, 10)] == [1, 2, 4, 256, 300]
    assert retry.delay(1, 1.0) == 0.75


def test_the_same_delay_each_time() -> None:
    """A factor of 1."""
    retry = Retry(initial=7, factor=1, jitter=0)
    assert {retry.delay(attempt, 0.0) for attempt in range(1, 1001)} == {7.0}


def test_no_delay_at_all() -> None:
    """initial=0: the next attempt is due at once, however often."""
    assert {Retry(initial=0).delay(attempt, 0.5) for attempt in (1, 10, 1000)} == {0.0}


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.floats(0, LONGEST),
    st.floats(1, 1e300),
    st.floats(0, LONGEST),
    st.floats(0, 1),
    st.integers(1, 1000),
    st.floats(0, 1),
)
def test_a_delay_is_never_negative_nor_above_the_maximum(
    initial: float, factor: float, maximum: float, jitter: float, attempt: int, luck: float
) -> None:
    """Whatever the numbers: jitter only takes off, and never more than its part."""
    retry = Retry(initial, factor, maximum, jitter)
    delay, whole = retry.delay(attempt, luck), retry.delay(attempt, 0.0)
    assert 0 <= delay <= whole <= maximum
    assert delay >= retry.delay(attempt, 1.0) >= whole * (1 - jitter) * (1 - 1e-9)


@pytest.mark.parametrize(
    "fields",
    [
        {"initial": -1}, {"initial": LONGEST + 1}, {"initial": float("nan")},
        {"maximum": -0.1}, {"maximum": float("inf")},
        {"factor": 0.5}, {"factor": float("inf")}, {"factor": float("nan")},
        {"jitter": -0.1}, {"jitter": 1.1}, {"jitter": float("nan")},
        {"on": ValueError()}, {"on": (OSError, "ValueError")}, {"on": int},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_work_is_refused_where_the_task_is_defined(fields: dict[str, object]) -> None:
    """And not when the first job fails; the message names what was wrong."""
    with pytest.raises(InvalidTask, match=rf"Retry: .*{next(iter(fields))}"):
        Retry(**fields)  # type: ignore[arg-type]


def test_any_exception_is_tried_again_unless_on_says_which() -> None:
    """One class or several; those that inherit count; what is no ``Exception`` must be named."""
    assert Retry().judge(ValueError()) == Verdict(True)
    for spared in (KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()):
        assert Retry().judge(spared) == NEVER
        assert Retry(on=type(spared)).judge(spared) == Verdict(True)
    assert Retry(on=OSError).judge(TimeoutError()) == Verdict(True)
    assert Retry(on=OSError).judge(ValueError()) == NEVER
    assert Retry(on=(OSError, ValueError)).judge(ValueError()) == Verdict(True)
    assert Retry(on=()).judge(ValueError()) == NEVER


def test_an_exception_of_the_main_program_is_the_same_in_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There its module has another name."""

    class Flaky(Exception):
        """Of a program that is run as it is."""

    monkeypatch.setattr(Flaky, "__module__", "__mp_main__")
    kinds = kinds_of(Flaky())
    monkeypatch.setattr(Flaky, "__module__", "__main__")
    assert Retry(on=Flaky).judge_kinds(kinds) == Verdict(True)
    assert Retry(on=KeyError).judge_kinds(kinds) == NEVER


def test_fail_and_retry_after_speak_for_themselves() -> None:
    """Whatever on= says."""
    for retry in (Retry(), Retry(on=KeyError), Retry(on=(Fail, RetryAfter))):
        assert retry.judge(Fail("no")) == NEVER
        assert retry.judge(RetryAfter(2.5)) == Verdict(True, 2.5)


@pytest.mark.parametrize("seconds", [-1, LONGEST + 1, float("nan"), float("inf")])
def test_retry_after_takes_no_seconds_that_cannot_be(seconds: float) -> None:
    """A ``ValueError``, which fails the attempt like any other."""
    with pytest.raises(ValueError, match="seconds are 0 to"):
        RetryAfter(seconds)


def test_retry_after_says_something_when_nothing_was_said() -> None:
    """Its message is what the job's document shows."""
    assert str(RetryAfter(30, "half a minute, please")) == "half a minute, please"
    assert str(RetryAfter(30)) == "to be tried again after 30 seconds"
    assert RetryAfter(0).seconds == 0.0


def test_the_same_numbers_are_the_same_retry() -> None:
    """It is a value: equal, hashable, and readable where it is printed."""
    one, same, other = Retry(2, on=OSError), Retry(2.0, on=(OSError,)), Retry(3, on=OSError)
    assert one == same
    assert one not in (other, "Retry")
    assert len({one, same, other}) == 2
    assert repr(Retry(on=KeyError)) == (
        "Retry(factor=2.0, initial=1.0, jitter=0.25, maximum=300.0, on=(<class 'KeyError'>,))"
    )


def test_the_catalog_shows_the_numbers_and_the_names() -> None:
    """As JSON can carry them."""
    assert Retry(2, 3, 60, 0.5, on=(OSError, KeyError)).describe() == {
        "initial": 2.0,
        "factor": 3.0,
        "maximum": 60.0,
        "jitter": 0.5,
        "on": ["OSError", "KeyError"],
    }


def test_a_task_has_one_attempt_unless_it_says_more() -> None:
    """Then its backoff is the usual one, or its own."""
    assert Task(work).max_attempts == 1
    assert Task(work, max_attempts=3).policy.retry == Retry()
    task = Task(work, max_attempts=1000, retry=Retry(5), timeout=9)
    assert (task.policy.timeout, task.policy.retry) == (9, Retry(5))


@pytest.mark.parametrize("max_attempts", [0, -1, 1001, 2.0, "3", None])
def test_a_number_of_attempts_that_cannot_be_is_refused(max_attempts: object) -> None:
    """Naming the task, what it was and what it may be."""
    with pytest.raises(InvalidTask, match=r"task 'work'.*max_attempts=.*it is 1 to 1000"):
        Task(work, max_attempts=max_attempts)  # type: ignore[arg-type]


def test_a_backoff_without_a_second_attempt_is_refused() -> None:
    """Somebody has forgotten something, and would find out when it fails."""
    with pytest.raises(InvalidTask, match="retry= needs max_attempts= of more than 1"):
        Task(work, retry=Retry())
