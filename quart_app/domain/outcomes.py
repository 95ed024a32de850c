"""How an attempt ended, and which one row of the status table that means: decided here, once.

`Ended` says what was seen of the function, `decide` what follows from it. Nothing may live here
that writes, and nobody else may decide: our own cancel flag counts, never the function's word.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from quart_app.domain.jobs import Failure, Job
from quart_app.domain.status import Move, Reason

Kind = Literal["returned", "raised", "canceled", "not begun", "rejected", "lost"]
Stopped = Literal["cancel", "timeout", "shutdown"] | None

SUCCEED = Move.SUCCEED
"""Bound once: before Python 3.12 looking up a member of an enum costs as much as a call."""


class Ended(msgspec.Struct, frozen=True, gc=False):
    """What was seen of one call of the function.

    ``returned`` (with the result as JSON), ``raised`` (with the failure), ``canceled`` (it let a
    CancelledError pass), ``not begun`` (asked to stop before its first line), ``rejected`` (it
    could not be called) or ``lost`` (its process died).
    """

    kind: Kind
    result: bytes | None = None
    failure: Failure | None = None


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The one write that follows."""

    move: Move
    reason: Reason | None = None
    result: bytes | None = None
    error: Failure | None = None


REJECTED: dict[Kind, Reason] = {"rejected": "rejected", "lost": "lost"}


def decide(ended: Ended, stopped: Stopped, job: Job, timeout: float | None) -> Outcome:
    """The outcome of an attempt.

    Args:
        ended: what was seen.
        stopped: why we asked the function to stop, or None where nobody did.
        job: the claimed job.
        timeout: the task's timeout in seconds, for the message.

    >>> job = Job(id="a", task="t", status="running", attempt=1)
    >>> decide(Ended("canceled"), "cancel", job, None).move.label
    'cancel'
    >>> decide(Ended("canceled"), None, job, None).error.code
    'CancelledError'
    """
    if ended.kind == "returned":
        return Outcome(SUCCEED, None, ended.result)
    if ended.kind in ("canceled", "not begun"):
        return _stopped(ended, stopped, job, timeout)
    if ended.kind == "raised" and stopped == "timeout":
        return Outcome(Move.FAIL, "timeout", error=ended.failure)
    return Outcome(Move.FAIL, REJECTED.get(ended.kind, "error"), error=ended.failure)


def _stopped(ended: Ended, stopped: Stopped, job: Job, timeout: float | None) -> Outcome:
    """A function that ended because it was stopped, or says so."""
    if stopped == "cancel":
        return Outcome(Move.CANCEL, "requested")
    if stopped == "timeout":
        message = f"it did not end within its timeout of {timeout:g} seconds"
        return Outcome(Move.FAIL, "timeout", error=Failure("TimeoutError", message))
    if stopped == "shutdown":
        # Begun once, it may run again only where the task allows more than one attempt.
        if ended.kind == "not begun" or job.max_attempts > 1:
            return Outcome(Move.INTERRUPT, "shutdown")
        message = "the service shut down before it ended"
        return Outcome(Move.FAIL, "shutdown", error=Failure("Shutdown", message))
    message = "the function raised CancelledError, but nobody had asked it to stop"
    return Outcome(Move.FAIL, "error", error=Failure("CancelledError", message))
