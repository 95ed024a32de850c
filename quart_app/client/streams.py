"""Streams of events: the parser (WHATWG, Server-sent events), and going on where a stream broke.

Nothing may live here that opens a connection; that is asked for, as in `flows`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import msgspec

from quart_app.client.calls import Answer, Call, decode, part
from quart_app.client.documents import JobDocument, LogLine
from quart_app.client.errors import BadAnswer, ClientError, Unreachable
from quart_app.client.flows import (
    AGAIN,
    Broken,
    Flow,
    Give,
    Head,
    Open,
    Pace,
    Read,
    Shut,
    Sleep,
    judge,
    over,
    rest,
)  # fmt: skip

SILENCE = (20.0, 45.0)
"""Seconds without a byte after which a stream is dead, the least and the most: the service says
something every 15."""
MOST = 64 * 2**20
"""Bytes of one event."""
RECENT = 10_000
"""Ids that are remembered, so that nothing is told twice."""


class Event(msgspec.Struct, frozen=True):
    """One event as it came."""

    id: str
    name: str
    data: bytes


class Parser:
    """Makes events of bytes, wherever they were cut. What is not whole is not an event.

    Attributes:
        retry: milliseconds that the service asks to be left alone before a reconnect.

    >>> parser = Parser()
    >>> list(parser.feed(b"id: 7\\ndata: on")), list(parser.feed(b"e\\n\\n"))
    ([], [Event(id='7', name='message', data=b'one')])
    """

    def __init__(self) -> None:
        self.retry: int | None = None
        self._rest: list[bytes] = []
        self._id = ""
        self._fresh()

    def _fresh(self) -> None:
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that are whole with these bytes.

        Raises:
            BadAnswer: an event is larger than any of the service's.
        """
        self._size += len(data)
        if self._size > MOST:
            raise BadAnswer(f"an event has more than {MOST} bytes")
        held = bool(self._rest) and self._rest[-1].endswith(b"\r")
        self._rest.append(data)
        if not held and b"\n" not in data and b"\r" not in data:
            return  # Joined once, when the line is whole.
        *lines, last = _split(b"".join(self._rest))
        self._rest = [last]
        for line in lines:
            if line:
                self._take(line)
                continue
            if self._data:
                yield Event(self._id, self._name or "message", b"\n".join(self._data))
            self._fresh()

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            self.retry = int(value[:9])


def _split(data: bytes) -> list[bytes]:
    """Lines that end with CR LF, LF or CR; the last is not whole. A CR at the very end may be the
    half of one, and waits there for what follows."""
    held = b"\r" if data.endswith(b"\r") else b""
    body = data[:-1] if held else data
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = body.split(b"\n")
    lines[-1] += held
    return lines


class Follower:
    """Follows one job, or all, over as many connections as it takes: no gap, no repeat.

    Args:
        job_id: whose story it is; all jobs' where there is none.
        pace: after ``timeout`` seconds without a connection it gives up.
    """

    def __init__(self, job_id: str | None, pace: Pace) -> None:
        self._path = "/events" if job_id is None else f"/jobs/{part(job_id)}/events"
        self._one = job_id is not None
        self._pace = pace
        self._last = ""
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._retry = 0.0
        self._tries = 0
        self._end = 0.0
        self._done = False

    def flow(self) -> Flow[None]:
        """Give each version (`JobDocument`) and, of one job, each line (`LogLine`) as it comes.

        Raises:
            NoSuchJob: there is no such job (any more).
            Unreachable: the service could not be reached for too long.
        """
        self._end = self._pace.clock() + self._pace.timeout
        while True:
            error = yield from self._connection()
            if self._done:
                return
            pause = self._pace.pause(self._tries, error.retry_after)
            if error.retry_after is None:
                pause = max(pause, self._retry * (1 + self._pace.chance()) / 2)
            self._tries += 1
            if self._pace.clock() + pause >= self._end:
                raise error
            yield Sleep(pause)

    def _connection(self) -> Flow[ClientError]:
        """Read one stream to its end, however that comes; why it has ended."""
        call = self._call()
        left = self._end - self._pace.clock()
        head = yield Open(call, min(SILENCE[1], max(SILENCE[0], left)))
        if isinstance(head, Broken):
            return self._unless_hopeless(head)
        if head.status == 204:
            yield Shut()
            self._done = True
            return Unreachable("the job is over")
        if head.status != 200:
            return (yield from self._refused(head, call))
        if not head.headers.get("content-type", "").startswith("text/event-stream"):
            raise BadAnswer(f"{self._path} is no stream of events: is the base URL right?")
        self._end = self._pace.clock() + self._pace.timeout
        broken = yield from self._events()
        yield Shut()
        self._end = self._pace.clock() + self._pace.timeout
        return broken

    def _unless_hopeless(self, broken: Broken) -> ClientError:
        error = Unreachable(f"GET {self._path}: {broken.why}")
        if broken.how == "hopeless":
            raise error
        return error

    def _call(self) -> Call[bytes]:
        headers = [("Accept", "text/event-stream"), ("Cache-Control", "no-store")]
        if self._last:
            headers.append(("Last-Event-ID", self._last))
        return Call("GET", self._path, lambda answer: answer.body, headers)

    def _refused(self, head: Head, call: Call[bytes]) -> Flow[ClientError]:
        answer = yield from rest(head, self._pace.clock() + self._pace.each, self._pace)
        yield Shut()
        error = judge(answer, call, self._pace)
        if isinstance(error, Answer):
            raise BadAnswer(f"{self._path}: {head.status} is no stream of events")
        if isinstance(answer, Broken) or head.status in AGAIN:
            return error
        raise error

    def _events(self) -> Flow[ClientError]:
        parser = Parser()
        while True:
            data: bytes | Broken = yield Read()
            if isinstance(data, Broken):
                return self._unless_hopeless(data)
            if not data:
                return Unreachable(f"GET {self._path}: the stream has ended")
            for event in parser.feed(data):
                self._tries = 0
                self._retry = (parser.retry or 0) / 1000
                news = read(event)
                # A store that has lost its last writes gives lower ids; an end is the end.
                if self._is_new(event) or (self._one and over(news)):
                    if news is not None:
                        yield Give(news)
                    self._done = self._one and over(news)
                if self._done:
                    return Unreachable("the job is over")

    def _is_new(self, event: Event) -> bool:
        """Whether this was not given yet; one job's ids only grow, those of all nearly."""
        last, self._last = self._last, event.id or self._last
        if self._one and event.id.isdigit() and last.isdigit():
            if int(event.id) > int(last):
                return True
            self._last = last
            return False
        if not event.id or event.id not in self._seen:
            self._seen[event.id] = None
            if len(self._seen) > RECENT:
                self._seen.popitem(last=False)
            return True
        return False


def read(event: Event) -> Any:
    """What an event tells; None for one of a kind that is not known here."""
    if event.name == "message":
        return decode(event.data, JobDocument)
    return decode(event.data, LogLine) if event.name == "log" else None
