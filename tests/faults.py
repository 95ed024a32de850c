"""A line that a test can break: a proxy between a process and its server, over TCP.

It runs on an event loop in a thread of its own, so that a test that waits breaks nothing. Only
moving bytes, and failing to, may live here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

T = TypeVar("T")
Way = Literal["up", "down"]
"""To the server, or from it."""
PIECE = 65_536
"""Bytes that are moved at once, at most."""
PARTS = 50
"""Into so many pieces a throttled second is cut."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a socket whose end is told by RST, as that of a process that has died."""


class Proxy:
    """Listens on a free port of loopback, and passes bytes on to a server.

    Args:
        port, host: of the server.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        # It never listens: so the port stays ours while nobody does.
        self._holder = self._bound(0)
        self.port: int = self._holder.getsockname()[1]
        self._listener: asyncio.Task[None] | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.silent = False
        self.holding = False
        self.delay = 0.0
        self.rate: float | None = None
        self.left: dict[Way, int | None] = {"up": None, "down": None}
        self.refuse_after_cut = False
        self.moved = asyncio.Event()
        """Set when what holds bytes back may have changed."""
        self._thread.start()
        self._call(self._listen)

    # What a test may do, from its own thread.

    def cut(self) -> None:
        """End every connection, with RST; new ones are passed through."""
        self._call(self._cut)

    def refuse(self) -> None:
        """End every connection, and refuse new ones, as where no server listens."""
        self._call(self._refuse)

    def black_hole(self) -> None:
        """Swallow what comes, both ways; accept new connections and never answer. When this is
        healed, the connections are cut: what they have sent is gone."""
        self._set(silent=True)

    def hold(self) -> None:
        """Pass nothing on, and lose nothing: it arrives when this is healed, however late, also
        what was sent by who has given up."""
        self._set(holding=True)

    def slow(self, seconds: float) -> None:
        """Each round trip takes so many seconds more."""
        self._set(delay=seconds / 2)

    def throttle(self, rate: float) -> None:
        """Each connection passes so many bytes a second, each way."""
        self._set(rate=rate)

    def cut_after(self, count: int, way: Way = "down", refuse: bool = False) -> None:
        """Pass so many bytes more in one way, of all connections, then cut them all.

        Args:
            refuse: whether new connections are refused from then on.
        """

        def set_() -> None:
            self.left[way] = count
            self.refuse_after_cut = refuse

        self._call(set_)

    @property
    def cuts_soon(self) -> bool:
        """Whether `cut_after` has not cut yet."""
        return any(left is not None for left in self.left.values())

    def heal(self) -> None:
        """Be a line without faults again."""

        def heal_() -> None:
            if self.silent:
                self._cut()
            self.silent = self.holding = False
            self.delay, self.rate = 0.0, None
            self.left = {"up": None, "down": None}
            self._moved()
            self._listen()

        self._call(heal_)

    def close(self) -> None:
        """End it, and every connection."""

        async def end() -> None:
            self._refuse()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._holder.close()

    # On the loop.

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    def _set(self, **values: object) -> None:
        def set_() -> None:
            for name, value in values.items():
                setattr(self, name, value)
            self._moved()

        self._call(set_)

    def _moved(self) -> None:
        self.moved.set()
        self.moved = asyncio.Event()

    def _bound(self, port: int) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        made.setblocking(False)
        return made

    def _listen(self) -> None:
        if self._listener is None:
            listener = self._bound(self.port)
            listener.listen(512)
            self._listener = self.spawn(self._accept(listener))

    async def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                client, _ = await self._loop.sock_accept(listener)
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = _Connection(self, client)
                self._connections.add(connection)
                self.spawn(connection.run(self._target))

    def spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Do something until the proxy is closed."""
        task: asyncio.Task[None] = asyncio.ensure_future(work, loop=self._loop)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _cut(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            self._listener = None
        self._cut()

    def gone(self, connection: _Connection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)

    def spend(self, way: Way, data: bytes) -> tuple[bytes, bool]:
        """What of some bytes may pass, and whether all is to be cut then."""
        left = self.left[way]
        if left is None:
            return data, False
        if len(data) < left:
            self.left[way] = left - len(data)
            return data, False
        self.left[way] = None
        return data[:left], True

    def cut_now(self) -> None:
        """The last byte that may pass has passed."""
        if self.refuse_after_cut:
            self._refuse()
        else:
            self._cut()


class _Connection:
    """One client of the proxy, and the connection to the server on its behalf."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._server: socket.socket | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, target: tuple[str, int]) -> None:
        """Pass bytes in both ways until either side ends."""
        try:
            await self._open()
            self._server = server = socket.socket()
            server.setblocking(False)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.sock_connect(server, target)
            up = self._proxy.spawn(self._pass("up", self._client, server))
            down = self._proxy.spawn(self._pass("down", server, self._client))
            self._tasks = [up, down]
            await asyncio.wait(self._tasks)
        except (OSError, ValueError):
            pass  # The server is not there, which RST tells; or the client has been cut off.
        finally:
            self.reset()

    async def _open(self) -> None:
        """A connection that begins where nothing passes has no server until it does."""
        while self._proxy.silent or self._proxy.holding:
            await self._proxy.moved.wait()

    async def _pass(self, way: Way, source: socket.socket, sink: socket.socket) -> None:
        """Read ahead, so that a delay is one of each byte and not of each answer."""
        proxy = self._proxy
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        writing = proxy.spawn(self._write(way, queue, sink))
        try:
            while data := await self._loop.sock_recv(source, PIECE):
                if not proxy.silent:
                    queue.put_nowait((self._loop.time() + proxy.delay, data))
            queue.put_nowait((self._loop.time() + proxy.delay, b""))
            await writing
        except (OSError, ValueError):
            self.reset()
        finally:
            writing.cancel()

    async def _write(
        self, way: Way, queue: asyncio.Queue[tuple[float, bytes]], sink: socket.socket
    ) -> None:
        proxy = self._proxy
        while True:
            at, data = await queue.get()
            await asyncio.sleep(at - self._loop.time())
            while proxy.holding:
                await proxy.moved.wait()
            if not data:
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return
            data, last = proxy.spend(way, data)
            try:
                await self._send(data, sink)
            except (OSError, ValueError):
                self.reset()
                return
            if last:
                proxy.cut_now()

    async def _send(self, data: bytes, sink: socket.socket) -> None:
        while data:
            rate = self._proxy.rate
            size = PIECE if rate is None else max(1, int(rate / PARTS))
            piece, data = data[:size], data[size:]
            if not self._proxy.silent:
                await self._loop.sock_sendall(sink, piece)
            if rate is not None:
                await asyncio.sleep(len(piece) / rate)

    def reset(self) -> None:
        """End both sides with RST."""
        self._proxy.gone(self)
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        for side in (self._client, self._server):
            if side is not None and side.fileno() != -1:
                with contextlib.suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self._loop.remove_reader(side)
                self._loop.remove_writer(side)
                side.close()
