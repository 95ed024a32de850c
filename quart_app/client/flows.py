"""What is done and in which order, without doing it: a flow is a generator that yields what it
needs done, and is given what came of it. The wires (`wires`) do it, with threads or with asyncio.

So everything that is decided is decided here once: what is tried again, when, and for how long.
Nothing may live here that opens a connection, sleeps, or knows an HTTP library.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar

from quart_app.client import calls
from quart_app.client.asked import Filters, filters_query
from quart_app.client.calls import Answer, Call
from quart_app.client.documents import JobDocument
from quart_app.client.errors import BadAnswer, ClientError, Unreachable, error_of

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds for all tries of a request together, unless the caller says otherwise: as long as a
service takes to shut down and start again."""
AGAIN = frozenset({429, 502, 503, 504})
"""Answers after which the same request may succeed."""
REFUSED = ("queue-full", "draining", "too-many-requests")
"""Problems that say that nothing was done, so that anything may be sent again."""
MOST = 256 * 2**20
"""Bytes of an answer. The service's own limits are far below; this is against what is not one."""
CONNECT = 5.0
"""Seconds for a connection."""
LONG_POLL = 20
"""Seconds that the service waits at most."""
POLLS = (0.1, 2.0)
"""Seconds between two looks, the first and the longest, where the service does not wait."""
OVER = 1.0
"""Seconds after its timeout at which a wait for a result ends at the latest."""


@dataclass(frozen=True, slots=True)
class Open:
    """Send a request and read the head of its answer: `Head` or `Broken`."""

    call: Call[Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class Read:
    """Read what has come of the body: bytes, empty at its end, or `Broken`."""


@dataclass(frozen=True, slots=True)
class Shut:
    """Be done with the answer."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Give:
    """Hand an item to the caller."""

    item: Any


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer; the names of headers are in small letters."""

    status: int
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Broken:
    """No whole answer came. ``how``: ``unsent``: the service has not seen the request; ``lost``: it
    may have; ``hopeless``: it would be the same the next time."""

    how: Literal["unsent", "lost", "hopeless"]
    why: str


Effect = Open | Read | Shut | Sleep | Give
Flow = Generator[Effect, Any, T]


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a client is.

    Args:
        timeout: seconds for all tries of a request together.
        each: seconds for one try, besides what the service was asked to wait.
        first, longest: seconds before the second try, and the most before a later one.
        clock, wall, chance: time for measuring, time of day, and numbers from 0 to 1.
    """

    timeout: float = TIMEOUT
    each: float = 15.0
    first: float = 0.1
    longest: float = 5.0
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    chance: Callable[[], float] = random.random

    def pause(self, number: int, asked: float | None = None) -> float:
        """Seconds before the next try: what the service asks for and a little more, else doubling;
        different for each client, so that not all come back at once.

        >>> [Pace(chance=lambda: 1.0).pause(number) for number in (0, 1, 2, 9)]
        [0.1, 0.2, 0.4, 5.0]
        """
        if asked is not None:
            return asked + self.first * self.chance()
        return min(self.longest, self.first * 2.0 ** min(number, 30)) * (1 + self.chance()) / 2


def ask(call: Call[T], pace: Pace, seconds: float | None = None) -> Flow[T]:
    """Send a request, and again where that is safe and may help, and read the answer.

    Args:
        seconds: for all tries, instead of the pace's ``timeout``.

    Raises:
        ClientError: what the service answered at last, or `Unreachable`.
    """
    end = pace.clock() + (pace.timeout + call.wait if seconds is None else seconds)
    for number in itertools.count():
        outcome = yield from exchange(call, pace, end)
        error = judge(outcome, call, pace)
        if isinstance(error, Answer):
            return call.read(error)
        pause = pace.pause(number, error.retry_after)
        if not may_repeat(outcome, error, call) or pace.clock() + pause >= end:
            raise error
        yield Sleep(pause)
    raise AssertionError("itertools.count() has ended")  # pragma: no cover - for mypy


def exchange(call: Call[Any], pace: Pace, end: float) -> Flow[Answer | Broken]:
    """One try, from the request to the last byte of the answer."""
    seconds = max(0.001, min(pace.each + call.wait, end - pace.clock()))
    last = pace.clock() + seconds
    head = yield Open(call, seconds)
    if isinstance(head, Broken):
        return head
    outcome = yield from rest(head, last, pace)
    yield Shut()
    return outcome


def rest(head: Head, last: float, pace: Pace) -> Flow[Answer | Broken]:
    """The body of an answer, and with it the whole."""
    parts: list[bytes] = []
    size = 0
    while True:
        part: bytes | Broken = yield Read()
        if isinstance(part, Broken):
            return part
        if not part:
            return Answer(head.status, head.headers, b"".join(parts))
        size += len(part)
        if size > MOST:
            return Broken("hopeless", f"the answer has more than {MOST} bytes")
        if pace.clock() > last:  # Byte after byte, without end.
            return Broken("lost", "the answer did not come to its end in time")
        parts.append(part)


def judge(outcome: Answer | Broken, call: Call[Any], pace: Pace) -> Answer | ClientError:
    """The answer of a try that is a success, else what is wrong."""
    if isinstance(outcome, Broken):
        doubt = "" if outcome.how == "unsent" or call.again else "; it may have been done"
        return Unreachable(f"{call.method} {call.path}: {outcome.why}{doubt}")
    if 200 <= outcome.status < 300:
        return outcome
    if 300 <= outcome.status < 400:
        target = outcome.headers.get("location", "elsewhere")
        message = f"{outcome.status}: redirected to {target[:200]!r}; use that as the base URL"
        return BadAnswer(message, status=outcome.status)
    return error_of(outcome.status, outcome.body, retry_after(outcome.headers, pace.wall()))


def may_repeat(outcome: Answer | Broken, error: ClientError, call: Call[Any]) -> bool:
    """Whether the same request may be sent again, and might succeed.

    >>> cancel_matching = Call("POST", "/cancel", len, again=False)
    >>> may_repeat(Broken("unsent", "refused"), Unreachable(""), cancel_matching)
    True
    >>> may_repeat(Broken("lost", "cut"), Unreachable(""), cancel_matching)
    False
    """
    if isinstance(outcome, Broken):
        return outcome.how == "unsent" or (outcome.how == "lost" and call.again)
    if outcome.status not in AGAIN:
        return False
    return call.again or outcome.status == 429 or error.type.endswith(REFUSED)


def retry_after(headers: dict[str, str], now: float) -> float | None:
    """Seconds after which an answer asks to be asked again (RFC 9110, 10.2.3).

    A moment is compared with the answer's own ``Date``, where there is one: clocks differ.

    >>> retry_after({"retry-after": "7"}, 0.0)
    7.0
    >>> retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:30 GMT"}, 60.0)
    30.0
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    moment = _moment(text)
    if moment is None:
        return None
    return max(0.0, moment - (_moment(headers.get("date", "")) or now))


def _moment(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def wait_result(job_id: str, pace: Pace, timeout: float | None) -> Flow[bytes]:
    """The result of a job as JSON, as soon as it is over.

    Args:
        timeout: seconds, or None: as long as it takes.

    Raises:
        TimeoutError: it is not over yet.
    """
    end = None if timeout is None else pace.clock() + timeout
    for number in itertools.count():
        began = pace.clock()
        left = None if end is None else max(0.0, end - began)
        wait = LONG_POLL if left is None else int(min(LONG_POLL, left))
        call = calls.get_result(job_id, wait)
        seconds = None if left is None else min(pace.timeout + wait, left + OVER)
        result = yield from ask(call, pace, seconds)
        if result is not None:
            return result
        now = pace.clock()
        if end is not None and now >= end:
            raise TimeoutError(f"job {job_id} is not over after {timeout:g} seconds")
        if now - began < wait / 2 or wait == 0:  # It did not wait for us.
            pause = min(POLLS[1], POLLS[0] * 2.0 ** min(number, 10))
            yield Sleep(pause if end is None else min(pause, end - now))
    raise AssertionError("itertools.count() has ended")  # pragma: no cover - for mypy


def all_jobs(pace: Pace, filters: Filters) -> Flow[None]:
    """Give every job that passes, page after page."""
    query, cursor = filters_query(**filters), None
    while True:
        page = yield from ask(calls.list_jobs(query, cursor), pace)
        for job in page.jobs:
            yield Give(job)
        if page.next is None:
            return
        following = calls.cursor_of(page.next)
        if following in (None, cursor):
            raise BadAnswer(f"the list does not go on: {page.next[:200]!r}")
        cursor = following


def over(news: Any) -> bool:
    """Whether this is the last that is told about a job."""
    return isinstance(news, JobDocument) and news.over
