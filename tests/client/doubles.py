"""Doubles of a service and of time: what a flow asks for is answered from a list, at once."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx2

from quart_app.client.flows import Broken, Effect, Flow, Give, Head, Open, Pace, Read, Shut, Sleep

LOST = Broken("lost", "cut")
UNSENT = Broken("unsent", "refused")
HOPELESS = Broken("hopeless", "no such scheme")


class Played:
    """A flow that was played to its end against a list of answers, in virtual time.

    Each answer is a `Broken`, or a status with headers and parts of a body; a part that is a
    `Broken` breaks the body there.

    Attributes:
        now: the virtual time, seconds.
        opened: what was asked for.
        slept: each pause, seconds.
        given: what the flow gave.
    """

    def __init__(self, answers: Iterable[Any], chance: float = 1.0, each: float = 0.0) -> None:
        self._answers = iter(answers)
        self._parts: Iterator[Any] = iter(())
        self._each = each
        self.now = 1_000.0
        self.opened: list[Open] = []
        self.slept: list[float] = []
        self.given: list[Any] = []
        self.open = False
        self.pace = Pace(clock=lambda: self.now, wall=lambda: self.now, chance=lambda: chance)

    def run(self, flow: Flow[Any]) -> Any:
        """Play it; what it returns."""
        try:
            effect = next(flow)
            while True:
                effect = flow.send(self._do(effect))
        except StopIteration as done:
            assert not self.open, "a connection was left open"
            return done.value

    def _do(self, effect: Effect) -> Any:
        match effect:
            case Open():
                assert not self.open
                self.opened.append(effect)
                self.now += self._each
                answer = next(self._answers)
                if isinstance(answer, Broken):
                    return answer
                status, headers, *parts = answer
                self._parts, self.open = iter(parts), True
                return Head(status, headers)
            case Read():
                part = next(self._parts, b"")
                if callable(part):
                    part = part()
                if isinstance(part, Broken):
                    self.open = False
                return part
            case Shut():
                self.open = False
            case Sleep():
                assert not self.open
                self.slept.append(effect.seconds)
                self.now += effect.seconds
            case Give():
                self.given.append(effect.item)
        return None


class Droppy(httpx2.AsyncBaseTransport):
    """A network that loses what it is told to lose.

    Args:
        inner: what it leads to.
        fate: says of each request ``"pass"``, ``"request"`` (it never arrives) or ``"answer"`` (the
            service did it, and nobody hears of that).
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, fate: Callable[[], str]) -> None:
        self._inner = inner
        self._fate = fate
        self.lost = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        fate = self._fate()
        if fate != "pass":
            self.lost += 1
        if fate == "request":
            raise httpx2.WriteError("the request was lost")
        response = await self._inner.handle_async_request(request)
        if fate == "answer":
            await response.aread()
            raise httpx2.ReadError("the answer was lost")
        return response


@contextlib.contextmanager
def saying(*answers: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """A server of bare sockets: to each connection in turn it says these bytes, as they are, and
    closes it; with None it closes at once. Its URL, and what it was sent."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        for answer in answers:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(10)
                    heard.append(_request(connection))
                    if answer is not None:
                        connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
    finally:
        listener.close()
        thread.join(15)


def _request(connection: socket.socket) -> bytes:
    """A whole request."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65_536)
        if not part:
            return data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    ]
    while len(body) < sum(lengths):
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A response as it goes over the wire."""
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{lines}Connection: close\r\n\r\n".encode() + body
