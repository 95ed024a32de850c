"""What an ending of the function means: one row of the status table, for each combination."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from quart_app.domain.jobs import Failure, Job
from quart_app.domain.outcomes import Ended, Kind, Outcome, Stopped, decide
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


def ended(kind: Kind) -> Ended:
    """An ending as the invoker reports it."""
    if kind == "returned":
        return Ended(kind, result=b"1")
    return Ended(kind, failure=FAILURE if kind in ("raised", "rejected", "lost") else None)


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
    job = Job(id="a", task="t", status="running", attempt=1, max_attempts=max_attempts)
    assert set(ONE_ATTEMPT) == set(get_args(Kind))
    for kind, stopped in product(ONE_ATTEMPT, STOPPED):
        expected = ONE_ATTEMPT[kind][stopped]
        if (kind, stopped) == ("canceled", "shutdown") and max_attempts > 1:
            expected = AGAIN
        outcome = decide(ended(kind), stopped, job, 2.5)
        assert row(outcome) == expected, (kind, stopped)
        assert outcome.result == (b"1" if kind == "returned" else None)


def test_only_an_asked_cancel_makes_a_job_canceled() -> None:
    """Our own flag decides, never the function's word."""
    job = Job(id="a", task="t", status="running", attempt=1)
    for kind, stopped in product(ONE_ATTEMPT, STOPPED):
        if decide(ended(kind), stopped, job, 1.0).move is Move.CANCEL:
            assert stopped == "cancel"


def test_every_outcome_can_be_written() -> None:
    """Each is a move that begins where a running job is."""
    job = Job(id="a", task="t", status="running", attempt=1)
    for kind, stopped in product(ONE_ATTEMPT, STOPPED):
        assert "running" in decide(ended(kind), stopped, job, 1.0).move.sources
