"""Clients: a load generator, and one connection that is kept.

`wrk` makes the load where it is installed (Debian: ``apt install wrk``), else a plain asyncio
client that is slower and flatters whoever is slow. Nothing may live here that knows what is
measured.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

import msgspec

CONNECTIONS = 16
SCRIPT = Path(__file__).with_name("load.lua")


class Call(msgspec.Struct, frozen=True):
    """One request, again and again; every answer must have the status."""

    method: str
    path: str
    status: int
    body: bytes | None = None

    def as_bytes(self) -> bytes:
        """The request as it goes over the wire (RFC 9112)."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: 127.0.0.1"]
        if self.body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(self.body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + (self.body or b"")


class Counted(msgspec.Struct, frozen=True):
    """What a load generator says."""

    requests: int
    seconds: float
    failed: int


def generator() -> str:
    """What makes the load on this machine."""
    return "asyncio" if shutil.which("wrk") is None else "wrk"


def requests_per_second(port: int, call: Call, seconds: int) -> float:
    """Answers a second with 16 connections that each have one request under way.

    Raises:
        RuntimeError: an answer had another status, or none came.
    """
    counted = (_wrk if generator() == "wrk" else _asyncio)(port, call, seconds)
    if counted.failed or not counted.requests:
        raise RuntimeError(f"{call.method} {call.path} failed: {counted}")
    return counted.requests / counted.seconds


def _wrk(port: int, call: Call, seconds: int) -> Counted:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(SCRIPT)]
    command += [f"http://127.0.0.1:{port}{call.path}", "--", call.method, str(call.status)]
    if call.body is not None:
        command.append(call.body.decode())
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Counted)


def _asyncio(port: int, call: Call, seconds: int) -> Counted:
    return asyncio.run(closed_loops(port, call, seconds))


async def closed_loops(port: int, call: Call, seconds: float) -> Counted:
    """What `wrk` does: each connection asks again as soon as it has its answer."""
    started = time.perf_counter()
    until = started + seconds
    loops = [_closed_loop(port, call, until) for _ in range(CONNECTIONS)]
    counts = await asyncio.gather(*loops)
    requests, failed = (sum(each) for each in zip(*counts, strict=True))
    return Counted(requests, time.perf_counter() - started, failed)


async def _closed_loop(port: int, call: Call, until: float) -> tuple[int, int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request, requests, failed = call.as_bytes(), 0, 0
    while time.perf_counter() < until:
        writer.write(request)
        status, length = _head(await reader.readuntil(b"\r\n\r\n"))
        await reader.readexactly(length)
        requests += 1
        failed += status != call.status
    writer.close()
    return requests, failed


def _head(head: bytes) -> tuple[int, int]:
    """Status and length of the body.

    >>> _head(b"HTTP/1.1 202 \\r\\nContent-Length: 26\\r\\n\\r\\n")
    (202, 26)
    """
    first, *lines = head.lower().split(b"\r\n")
    fields = dict(line.partition(b":")[::2] for line in lines)
    return int(first.split()[1]), int(fields[b"content-length"])


class Connection:
    """One connection that is kept, and blocks: next to nothing on the client's side of a latency.

    Args:
        port: of a server on the loopback address.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, call: Call) -> bytes:
        """Send a request and return the body of its answer.

        Raises:
            RuntimeError: it has another status.
        """
        self._socket.sendall(call.as_bytes())
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        status, length = _head(head)
        while len(body) < length:
            body += self._receive()
        if status != call.status:
            raise RuntimeError(f"{call.method} {call.path} answered {status}: {body[:200]!r}")
        return body

    def get(self, path: str) -> dict[str, object]:
        """GET a JSON object."""
        answer: dict[str, object] = json.loads(self.ask(Call("GET", path, 200)))
        return answer

    def _receive(self) -> bytes:
        part = self._socket.recv(65_536)
        if not part:
            raise RuntimeError("the server closed the connection")
        return part
