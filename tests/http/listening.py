"""A real Hypercorn in the test's own event loop, on a free port of the loopback address."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import NamedTuple

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart


class Reply(NamedTuple):
    """One response as it came over a socket."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A bare connection: what is written is sent as it is."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *lines: bytes, body: bytes = b"") -> None:
        """Send lines of a header, the empty line, and a body."""
        self._writer.write(b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body)
        await self._writer.drain()

    async def send_raw(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def reply(self, *, head: bool = False) -> Reply:
        """Read the next response."""
        async with asyncio.timeout(10):
            top = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = top.strip().split("\r\n")
            fields = (line.partition(":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in fields}
            length = 0 if head else int(headers.get("content-length", "0"))
            return Reply(int(first.split()[1]), headers, await self._reader.readexactly(length))

    async def is_closed(self) -> bool:
        """Whether the server closes the connection, and sends nothing more before that."""
        rest = b""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                rest = await self._reader.read()
        return rest == b""

    async def close(self) -> None:
        """Close it from this side."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Listening:
    """A server that listens.

    Attributes:
        host: ``127.0.0.1:PORT``.
        port: the port.
        stop: ends the server.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.host = f"127.0.0.1:{port}"
        self.stop = asyncio.Event()

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Wire]:
        """A bare connection."""
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port))
        try:
            yield wire
        finally:
            await wire.close()


@contextlib.asynccontextmanager
async def listening(app: Quart) -> AsyncIterator[Listening]:
    """Serve an app; at the end its jobs have what ``drain`` and ``grace`` give them."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Listening(listener.getsockname()[1])
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = None
    config.graceful_timeout = 0.5
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=server.stop.wait))
    try:
        yield server
    finally:
        server.stop.set()
        await serving
