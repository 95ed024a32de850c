"""Which error is worth another attempt, and when: a value of the task's, and nothing that waits.

Nothing may live here that reads a clock or rolls dice: the moment and the luck come from outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from quart_app.domain.errors import InvalidTask

LONGEST = 366 * 86_400.0
"""Seconds: a delay beyond a year is a mistake."""


class Fail(Exception):
    """Raise it to end the job as failed, whatever attempts it has left.

    >>> raise Fail("the customer does not exist")
    Traceback (most recent call last):
    quart_app.domain.retries.Fail: the customer does not exist
    """


class RetryAfter(Exception):
    """Raise it to be tried again after so many seconds, if the task allows another attempt.

    Args:
        seconds: from now until the next attempt, at least.
        message: why, for people.

    >>> raise RetryAfter(30, "the service asked for half a minute")
    Traceback (most recent call last):
    quart_app.domain.retries.RetryAfter: the service asked for half a minute
    """

    def __init__(self, seconds: float, message: str = "") -> None:
        super().__init__(message or f"to be tried again after {seconds:g} seconds")
        if not 0 <= seconds <= LONGEST:
            raise ValueError(f"RetryAfter({seconds!r}): seconds are 0 to {LONGEST:.0f}")
        self.seconds = float(seconds)


SPOKEN = (Fail, RetryAfter)
"""What a task raises to say how it is to go on: no accident, and no traceback for the log."""


class Verdict(NamedTuple):
    """Whether an error is worth another attempt; ``after`` is a delay that the error asked for."""

    again: bool
    after: float | None = None


NEVER = Verdict(False)


def _name(kind: type) -> str:
    # What a program defines is in `__main__`; a process that has imported it says `__mp_main__`.
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}.{kind.__qualname__}"


def kinds_of(error: BaseException) -> tuple[str, ...]:
    """The full names of an exception's class and its bases.

    >>> kinds_of(KeyError("x"))[:2]
    ('builtins.KeyError', 'builtins.LookupError')
    """
    return tuple(_name(kind) for kind in type(error).__mro__)


class Retry:
    """When a failed attempt is followed by another: exponential backoff with jitter.

    Jitter takes up to that part off each delay at random, so that many jobs that failed together do
    not come back together, and ``maximum`` stays a bound (Marc Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015).

    Args:
        initial: seconds until the second attempt.
        factor: each further delay is so many times the last.
        maximum: no delay is longer, in seconds.
        jitter: 0 (none) to 1 (anything from at once to the whole delay).
        on: the exceptions that are tried again; others fail the job at once. A timeout is a
            ``TimeoutError``.

    Raises:
        InvalidTask: a value that cannot work.

    >>> retry = Retry(initial=1, factor=2, maximum=5, jitter=0)
    >>> [retry.delay(attempt, luck=0.5) for attempt in (1, 2, 3, 4)]
    [1.0, 2.0, 4.0, 5.0]
    """

    __slots__ = ("factor", "initial", "jitter", "maximum", "on")

    def __init__(
        self,
        initial: float = 1.0,
        factor: float = 2.0,
        maximum: float = 300.0,
        jitter: float = 0.25,
        on: type[BaseException] | tuple[type[BaseException], ...] = (Exception,),
    ) -> None:
        self.initial, self.factor, self.maximum = float(initial), float(factor), float(maximum)
        self.jitter = float(jitter)
        self.on = on if isinstance(on, tuple) else (on,)
        if not 0 <= self.initial <= LONGEST or not 0 <= self.maximum <= LONGEST:
            raise InvalidTask(f"Retry: initial and maximum are 0 to {LONGEST:.0f} seconds")
        if not 1 <= self.factor < math.inf or not 0 <= self.jitter <= 1:
            raise InvalidTask("Retry: factor is at least 1, and jitter is 0 to 1")
        if not all(isinstance(each, type) and issubclass(each, BaseException) for each in self.on):
            raise InvalidTask(f"Retry: on={on!r}, but it names exception classes")

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in sorted(self.__slots__))
        return f"Retry({fields})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Retry) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def delay(self, attempt: int, luck: float) -> float:
        """Seconds from the end of an attempt until the next.

        Args:
            attempt: the one that has failed, from 1.
            luck: 0 to 1; how much of the jitter is taken off.
        """
        try:
            whole = min(self.maximum, self.initial * self.factor ** (attempt - 1))
        except OverflowError:
            whole = self.maximum
        return whole * (1.0 - self.jitter * luck)

    def judge_kinds(self, kinds: Sequence[str], after: float | None = None) -> Verdict:
        """`judge` for an error of another process, of which the names are here.

        Args:
            kinds: of the exception's class and its bases (`kinds_of`).
            after: the seconds of a `RetryAfter`.

        >>> Retry(on=OSError).judge_kinds(kinds_of(FileNotFoundError()))
        Verdict(again=True, after=None)
        """
        if _name(Fail) in kinds:
            return NEVER
        if after is not None:
            return Verdict(True, after)
        return Verdict(any(_name(kind) in kinds for kind in self.on))

    def judge(self, error: BaseException) -> Verdict:
        """Whether an error is worth another attempt.

        >>> Retry(on=OSError).judge(ValueError())
        Verdict(again=False, after=None)
        >>> Retry(on=OSError).judge(RetryAfter(3))
        Verdict(again=True, after=3.0)
        """
        if isinstance(error, Fail):
            return NEVER
        if isinstance(error, RetryAfter):
            return Verdict(True, error.seconds)
        return Verdict(isinstance(error, self.on))

    def describe(self) -> dict[str, Any]:
        """For the catalog: the numbers, and the exceptions' names."""
        names = [each.__name__ for each in self.on]
        return {
            "initial": self.initial,
            "factor": self.factor,
            "maximum": self.maximum,
            "jitter": self.jitter,
            "on": names,
        }
