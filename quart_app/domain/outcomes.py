"""How an attempt ended, and which one row of the status table that means: decided here, once.

`Ended` says what was seen of the function, `decide` what follows from it, `decide_lost` what
follows where nothing was seen. Nothing may live here that writes, and nobody else may decide: our
own cancel flag counts, never the function's word.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from quart_app.domain.jobs import Failure, Job
from quart_app.domain.retries import NEVER, Retry, Verdict
from quart_app.domain.status import Move, Reason

Kind = Literal["returned", "raised", "canceled", "not begun", "rejected", "lost"]
Stopped = Literal["cancel", "timeout", "shutdown"] | None

SUCCEED = Move.SUCCEED
"""Bound once: before Python 3.12 looking up a member of an enum costs as much as a call."""
CRASHES = 3
"""A job that took its process with it so often in a row is poison: it is not tried again."""


UNBEGUN = "NotBegun"
"""The code of what stands for an attempt that was none."""


class Ended(msgspec.Struct, frozen=True, gc=False):
    """What was seen of one call of the function.

    ``returned`` (with the result as JSON), ``raised`` (with the failure, and whether it is worth
    another attempt), ``canceled`` (it let a CancelledError pass), ``not begun`` (asked to stop
    before its first line), ``rejected`` (it could not be called) or ``lost`` (its process died).
    """

    kind: Kind
    result: bytes | None = None
    failure: Failure | None = None
    verdict: Verdict = NEVER


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The one write that follows.

    ``after`` is the delay of a retry in seconds, ``cause`` why the attempt ended where the job's
    reason does not say that.
    """

    move: Move
    reason: Reason | None = None
    result: bytes | None = None
    error: Failure | None = None
    after: float | None = None
    cause: Reason | None = None


class Policy(msgspec.Struct, frozen=True, gc=False):
    """What of a task counts for the outcome: its timeout (for the message), and its backoff."""

    timeout: float | None = None
    retry: Retry = Retry()


SUCCEEDED = Outcome(SUCCEED, None, b"null")
"""As most functions end."""
TIMEOUT = TimeoutError()


def decide(ended: Ended, stopped: Stopped, job: Job, policy: Policy, luck: float = 0.0) -> Outcome:
    """The outcome of an attempt.

    Args:
        ended: what was seen.
        stopped: why we asked the function to stop, or None where nobody did.
        job: the claimed job.
        policy: of its task.
        luck: 0 to 1, for the jitter of a retry.

    >>> job = Job(id="a", task="t", status="running", attempt=1)
    >>> decide(Ended("canceled"), "cancel", job, Policy()).move.label
    'cancel'
    >>> decide(Ended("canceled"), None, job, Policy()).error.code
    'CancelledError'
    """
    if ended.kind == "returned":
        return SUCCEEDED if ended.result == b"null" else Outcome(SUCCEED, None, ended.result)
    if ended.kind in ("canceled", "not begun"):
        return _stopped(ended, stopped, job, policy, luck)
    if ended.kind == "rejected":
        return Outcome(Move.FAIL, "rejected", error=ended.failure)
    if ended.kind == "lost":
        return _lost(job, policy, luck, ended.failure)
    reason: Reason = "timeout" if stopped == "timeout" else "error"
    verdict = NEVER if stopped == "cancel" else ended.verdict
    return _failed(job, policy, luck, reason, ended.failure, verdict)


def decide_lost(job: Job) -> Outcome:
    """The outcome of an attempt whose end nobody saw: its process is gone.

    >>> decide_lost(Job(id="a", task="t", status="running", attempt=1, max_attempts=2)).move.label
    'rescue'
    """
    error = Failure("Lost", "what worked for this job is gone; nobody knows how far it came")
    return _lost(job, Policy(), 0.0, error, at_once=True)


def decide_unbegun() -> Outcome:
    """The outcome of a claim that was taken although whoever made it was not told: nothing has
    begun, so it counts as no attempt.

    >>> decide_unbegun().move.label
    'interrupt'
    """
    error = Failure(UNBEGUN, "its process had no answer to its claim: nothing of it had begun")
    return Outcome(Move.INTERRUPT, "lost", error=error)


def _lost(
    job: Job, policy: Policy, luck: float, error: Failure | None, at_once: bool = False
) -> Outcome:
    """Begun once, it runs again only where its task allows more than one attempt; and not for ever,
    where it is probably the job itself that kills what runs it."""
    crashes = 1
    for attempt in reversed(job.history):
        if attempt.reason != "lost":
            break
        if attempt.error is not None and attempt.error.code == UNBEGUN:
            continue
        crashes += 1
    if crashes >= CRASHES:
        message = f"it was running when its process died, {crashes} times in a row"
        return Outcome(Move.FAIL, "poison", error=Failure("Poison", message))
    if at_once and job.attempt < job.max_attempts:
        return Outcome(Move.RESCUE, "lost", error=error)
    return _failed(job, policy, luck, "lost", error, Verdict(True))


def _failed(
    job: Job, policy: Policy, luck: float, reason: Reason, error: Failure | None, verdict: Verdict
) -> Outcome:
    """An attempt failed: another one, if the task allows it and the error is worth it."""
    if not verdict.again or job.attempt >= job.max_attempts:
        return Outcome(Move.FAIL, reason, error=error)
    after = policy.retry.delay(job.attempt, luck) if verdict.after is None else verdict.after
    return Outcome(Move.RETRY, "retry", error=error, after=after, cause=reason)


def _stopped(ended: Ended, stopped: Stopped, job: Job, policy: Policy, luck: float) -> Outcome:
    """A function that ended because it was stopped, or says so."""
    if stopped == "cancel":
        return Outcome(Move.CANCEL, "requested")
    if stopped == "timeout":
        message = f"it did not end within its timeout of {policy.timeout or 0:g} seconds"
        error = Failure("TimeoutError", message)
        return _failed(job, policy, luck, "timeout", error, policy.retry.judge(TIMEOUT))
    if stopped == "shutdown":
        # Begun once, it may run again only where the task allows more than one attempt.
        if ended.kind == "not begun" or job.max_attempts > 1:
            return Outcome(Move.INTERRUPT, "shutdown")
        message = "the service shut down before it ended"
        return Outcome(Move.FAIL, "shutdown", error=Failure("Shutdown", message))
    message = "the function raised CancelledError, but nobody had asked it to stop"
    error = Failure("CancelledError", message)
    return _failed(job, policy, luck, "error", error, ended.verdict)
