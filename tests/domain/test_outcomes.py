"""What an ending of the function means: one row of the status table, for each combination."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import product
from typing import get_args

import pytest

from quart_app.domain.jobs import Attempt, Failure, Job
from quart_app.domain.outcomes import Ended, Kind, Outcome, Policy, Stopped, decide, decide_lost
from quart_app.domain.retries import Fail, Retry, RetryAfter
from quart_app.domain.status import Move, Reason

FAILURE = Failure("ValueError", "no")
STOPPED: tuple[Stopped, ...] = (None, "cancel", "timeout", "shutdown")
SHUTDOWN = Failure("Shutdown", "the service shut down before it ended")
TIMEOUT = Failure("TimeoutError", "it did not end within its timeout of 2.5 seconds")
UNASKED = Failure("CancelledError", "the function raised CancelledError, but nobody had asked")
Row = tuple[Move, Reason | None, Failure | None]

CANCELED: Row = (Move.CANCEL, "requested", None)
TIMED_OUT: Row = (Move.FAIL, "timeout", TIMEOUT)
FINAL_SHUTDOWN: Row = (Move.FAIL, "shutdown", SHUTDOWN)
AGAIN: Row = (Move.INTERRUPT, "shutdown", None)
SUCCEEDED: Row = (Move.SUCCEED, None, None)
FAILED: Row = (Move.FAIL, "error", FAILURE)
SELF_CANCELED: Row = (Move.FAIL, "error", UNASKED)
REJECTED: Row = (Move.FAIL, "rejected", FAILURE)
LOST: Row = (Move.FAIL, "lost", FAILURE)


ONE_ATTEMPT: dict[Kind, dict[Stopped, Row]] = {
    # A function that came to its end has succeeded, whatever was asked of it meanwhile.
    "returned": dict.fromkeys(STOPPED, SUCCEEDED),
    # An error during the cleanup is an error; the record says besides that a cancel was asked.
    "raised": {
        None: FAILED,
        "cancel": FAILED,
        "timeout": (Move.FAIL, "timeout", FAILURE),
        "shutdown": FAILED,
    },
    "canceled": {
        None: SELF_CANCELED,
        "cancel": CANCELED,
        "timeout": TIMED_OUT,
        "shutdown": FINAL_SHUTDOWN,
    },
    "not begun": {
        None: SELF_CANCELED,
        "cancel": CANCELED,
        "timeout": TIMED_OUT,
        "shutdown": AGAIN,  # None of its code ran: it may be run by the next process.
    },
    "rejected": dict.fromkeys(STOPPED, REJECTED),
    "lost": dict.fromkeys(STOPPED, LOST),
}


WORTH_MORE: set[tuple[Kind, Stopped]] = {
    ("raised", None), ("raised", "timeout"), ("raised", "shutdown"),
    ("canceled", "timeout"), ("not begun", "timeout"),
    ("lost", None), ("lost", "cancel"), ("lost", "timeout"), ("lost", "shutdown"),
}  # fmt: skip
"""What is tried again where the task allows another attempt."""
POLICY = Policy(2.5, Retry(initial=1, jitter=0))


def running(attempt: int = 1, max_attempts: int = 2, reasons: Sequence[Reason] = ()) -> Job:
    """A claimed job, and why its earlier attempts ended."""
    history = tuple(Attempt(n, 1.0, 2.0, reason) for n, reason in enumerate(reasons, 1))
    return Job(
        id="a",
        task="t",
        status="running",
        attempt=attempt,
        max_attempts=max_attempts,
        history=history,
    )


def ended(kind: Kind) -> Ended:
    """An ending as the invoker reports it."""
    if kind == "returned":
        return Ended(kind, result=b"1")
    if kind == "raised":
        return raised(ValueError())
    return Ended(kind, failure=FAILURE if kind in ("rejected", "lost") else None)


def raised(error: BaseException, policy: Policy = POLICY) -> Ended:
    """As the invoker reports what a task of this policy has raised."""
    return Ended("raised", failure=FAILURE, verdict=policy.retry.judge(error))


def row(outcome: Outcome) -> Row:
    """What the table says of an outcome."""
    error = outcome.error
    if error is not None and error.code == UNASKED.code:
        assert error.message.startswith(UNASKED.message)
        error = UNASKED
    return outcome.move, outcome.reason, error


@pytest.mark.parametrize("max_attempts", [1, 2])
def test_every_ending_has_one_outcome(max_attempts: int) -> None:
    """The whole table: how it ended, why we had asked it to stop, and whether it may run again."""
    job = running(max_attempts=max_attempts)
    assert set(ONE_ATTEMPT) == set(get_args(Kind))
    for kind, stopped in product(ONE_ATTEMPT, STOPPED):
        expected = ONE_ATTEMPT[kind][stopped]
        if (kind, stopped) == ("canceled", "shutdown") and max_attempts > 1:
            expected = AGAIN
        if (kind, stopped) in WORTH_MORE and max_attempts > 1:
            expected = (Move.RETRY, "retry", expected[2])
        outcome = decide(ended(kind), stopped, job, POLICY)
        assert row(outcome) == expected, (kind, stopped)
        assert outcome.result == (b"1" if kind == "returned" else None)
        assert (outcome.after is not None) == (outcome.move is Move.RETRY)
        assert outcome.cause == (ONE_ATTEMPT[kind][stopped][1] if outcome.after else None)


def test_only_an_asked_cancel_makes_a_job_canceled() -> None:
    """Our own flag decides, never the function's word."""
    for kind, stopped, attempts in product(ONE_ATTEMPT, STOPPED, (1, 2)):
        if decide(ended(kind), stopped, running(max_attempts=attempts), POLICY).move is Move.CANCEL:
            assert stopped == "cancel"


def test_every_outcome_can_be_written() -> None:
    """Each is a move that begins where a running job is."""
    for kind, stopped, attempts in product(ONE_ATTEMPT, STOPPED, (1, 2)):
        job = running(max_attempts=attempts)
        assert "running" in decide(ended(kind), stopped, job, POLICY).move.sources
        assert "running" in decide_lost(job).move.sources


class TestRetry:
    def test_an_error_is_tried_again_after_the_backoff(self) -> None:
        """Longer after each attempt; the job tells that it is a retry, the attempt why it ended."""
        policy = Policy(retry=Retry(initial=10, factor=3, maximum=50, jitter=0))
        for attempt, after in [(1, 10.0), (2, 30.0), (3, 50.0)]:
            outcome = decide(raised(ValueError()), None, running(attempt, 9), policy)
            assert outcome == Outcome(Move.RETRY, "retry", None, FAILURE, after, "error")

    def test_luck_takes_a_part_off_the_delay(self) -> None:
        """So that jobs that failed together do not come back together."""
        policy = Policy(retry=Retry(initial=10, jitter=0.5))
        delays = [
            decide(raised(ValueError()), None, running(), policy, luck).after
            for luck in (0.0, 0.5, 1.0)
        ]
        assert delays == [10.0, 7.5, 5.0]

    @pytest.mark.parametrize("max_attempts", [1, 3])
    def test_when_all_attempts_are_used_up_the_last_error_is_the_jobs(
        self, max_attempts: int
    ) -> None:
        """Failed with its reason, as if it had had one attempt."""
        job = running(max_attempts, max_attempts)
        assert row(decide(raised(ValueError()), None, job, POLICY)) == FAILED
        assert row(decide(Ended("canceled"), "timeout", job, POLICY)) == TIMED_OUT
        assert row(decide(ended("lost"), None, job, POLICY)) == LOST
        assert row(decide(raised(RetryAfter(5)), None, job, POLICY)) == FAILED

    def test_only_the_exceptions_of_on_are_tried_again(self) -> None:
        """And those that inherit from them; others fail the job at once."""
        policy = Policy(retry=Retry(on=(OSError, KeyError)))
        for error in (OSError(), ConnectionError(), KeyError()):
            assert decide(raised(error, policy), None, running(), policy).move is Move.RETRY
        for wrong in (ValueError(), LookupError(), SystemExit()):
            assert row(decide(raised(wrong, policy), None, running(), policy)) == FAILED

    def test_retry_after_sets_the_delay_itself(self) -> None:
        """Whatever the backoff, the jitter and on= say."""
        policy = Policy(retry=Retry(initial=10, maximum=10, on=KeyError))
        outcome = decide(raised(RetryAfter(77), policy), None, running(), policy, 1.0)
        assert (outcome.move, outcome.after, outcome.cause) == (Move.RETRY, 77.0, "error")
        outcome = decide(raised(RetryAfter(0), policy), None, running(), policy)
        assert (outcome.move, outcome.after) == (Move.RETRY, 0.0)

    def test_fail_ends_the_job_whatever_attempts_are_left(self) -> None:
        """Also where on= names it."""
        policy = Policy(retry=Retry(on=(Exception, Fail)))
        assert row(decide(raised(Fail("no"), policy), None, running(1, 99), policy)) == FAILED

    @pytest.mark.parametrize("kind", ["canceled", "not begun"])
    def test_a_timeout_is_tried_again_as_a_timeout_error(self, kind: Kind) -> None:
        """Where on= covers it, as it does unless told otherwise."""
        outcome = decide(Ended(kind), "timeout", running(), POLICY)
        assert row(outcome) == (Move.RETRY, "retry", TIMEOUT)
        assert (outcome.after, outcome.cause) == (1.0, "timeout")
        others = Policy(2.5, Retry(on=ValueError))
        assert row(decide(Ended(kind), "timeout", running(), others)) == TIMED_OUT

    def test_an_error_in_the_cleanup_after_a_timeout_is_judged_by_itself(self) -> None:
        """The attempt ended by its timeout all the same."""
        outcome = decide(raised(ValueError()), "timeout", running(), POLICY)
        assert (outcome.move, outcome.cause) == (Move.RETRY, "timeout")
        outcome = decide(raised(Fail()), "timeout", running(), POLICY)
        assert row(outcome) == (Move.FAIL, "timeout", FAILURE)

    def test_a_job_that_was_to_be_canceled_is_never_tried_again(self) -> None:
        """However its attempt ended, and whatever attempts are left; also not by RetryAfter."""
        for kind in ONE_ATTEMPT:
            if kind != "lost":  # Its process died before it could obey: see the runner.
                assert decide(ended(kind), "cancel", running(1, 9), POLICY).move.terminal
        for error in (ValueError(), RetryAfter(5)):
            assert row(decide(raised(error), "cancel", running(1, 9), POLICY)) == FAILED

    def test_a_cancel_that_nobody_asked_for_is_tried_again_only_where_on_names_it(self) -> None:
        """``CancelledError`` is no ``Exception``."""
        assert row(decide(Ended("canceled"), None, running(1, 9), POLICY)) == SELF_CANCELED
        policy = Policy(retry=Retry(on=asyncio.CancelledError))
        verdict = policy.retry.judge(asyncio.CancelledError())
        outcome = decide(Ended("canceled", verdict=verdict), None, running(1, 9), policy)
        assert row(outcome) == (Move.RETRY, "retry", UNASKED)

    def test_arguments_that_do_not_fit_are_never_tried_again(self) -> None:
        """They will not fit the next time either."""
        assert row(decide(ended("rejected"), None, running(1, 9), POLICY)) == REJECTED


class TestShutdown:
    @pytest.mark.parametrize(("attempt", "max_attempts"), [(1, 2), (2, 2), (7, 9)])
    def test_an_attempt_that_is_cut_off_is_followed_by_another(
        self, attempt: int, max_attempts: int
    ) -> None:
        """Also the last one: a shutdown is nobody's failure, and waits for no backoff."""
        outcome = decide(Ended("canceled"), "shutdown", running(attempt, max_attempts), POLICY)
        assert outcome == Outcome(Move.INTERRUPT, "shutdown")

    def test_an_error_during_a_shutdown_is_an_error(self) -> None:
        """It counts, and is tried again after its backoff."""
        outcome = decide(raised(ValueError()), "shutdown", running(), POLICY)
        assert (outcome.move, outcome.cause, outcome.after) == (Move.RETRY, "error", 1.0)


class TestLost:
    def test_begun_once_it_is_not_begun_again(self) -> None:
        """Nobody knows how far it came: failed, reason lost."""
        outcome = decide_lost(running(1, 1))
        assert (outcome.move, outcome.reason) == (Move.FAIL, "lost")
        assert outcome.error is not None
        assert outcome.error.code == "Lost"

    def test_with_attempts_left_it_runs_again_at_once(self) -> None:
        """After a restart nobody has to wait for a backoff."""
        outcome = decide_lost(running(1, 2))
        assert (outcome.move, outcome.reason, outcome.after) == (Move.RESCUE, "lost", None)
        outcome = decide_lost(running(2, 2))
        assert (outcome.move, outcome.reason) == (Move.FAIL, "lost")

    def test_a_process_that_dies_under_a_living_service_is_tried_again_after_the_backoff(
        self,
    ) -> None:
        """Whatever on= says: that is about what the function raises."""
        policy = Policy(retry=Retry(initial=10, jitter=0, on=KeyError))
        outcome = decide(ended("lost"), None, running(1, 2), policy)
        assert outcome == Outcome(Move.RETRY, "retry", None, FAILURE, 10.0, "lost")

    def test_three_crashes_in_a_row_are_poison(self) -> None:
        """Then it is probably the job itself, and attempts that are left are not used."""
        for crashes, poison in [(0, False), (1, False), (2, True), (3, True)]:
            job = running(crashes + 1, 99, ["lost"] * crashes)
            for outcome in (decide_lost(job), decide(ended("lost"), None, job, POLICY)):
                assert (outcome.reason == "poison") is poison, crashes
        assert outcome.move is Move.FAIL
        assert outcome.error == Failure(
            "Poison", "it was running when its process died, 4 times in a row"
        )

    @pytest.mark.parametrize("between", ["error", "timeout", "shutdown"])
    def test_crashes_count_only_in_a_row(self, between: Reason) -> None:
        """An attempt that ended in another way, or was cut off by a shutdown, begins the count
        anew."""
        job = running(4, 99, ["lost", "lost", between])
        assert decide_lost(job).move is Move.RESCUE
        assert decide(ended("lost"), None, job, POLICY).move is Move.RETRY

    def test_the_third_crash_is_poison_also_where_it_is_the_last_attempt(self) -> None:
        """The reason says more than lost."""
        assert decide_lost(running(3, 3, ["lost", "lost"])).reason == "poison"
