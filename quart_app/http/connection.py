"""In which asyncio tasks a request is read and handled.

Nothing may live here that knows a route, or changes what Quart makes of a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from quart.asgi import ASGIHTTPConnection

from quart_app.http.edge import Receive, Send


class Connection(ASGIHTTPConnection):
    """One request, for `quart.Quart.asgi_http_class`: as Quart's own class, in fewer tasks.

    Quart reads each request in one task, handles it in another, and waits for both in the server's.
    Nearly always there is nothing to wait for: the body came with the request, and the answer is
    made at once. So here the server's own task reads and then handles, which costs a sixth less
    (docs/benchmarks.md). Only where it still waits when the event loop comes round, another task
    is made: to see that the client goes, which ends the handler; or, where the body is slow, to
    handle the request in Quart's own way.
    """

    _other: asyncio.Task[None] | None = None
    _interrupted = False
    _over = False

    async def __call__(self, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        mine: asyncio.Task[Any] = asyncio.current_task(loop)  # type: ignore[assignment]
        relay = _Relay(receive)
        handle = super().__call__  # In Quart's own way, all of it.
        self._other_half: Callable[[], Coroutine[Any, Any, None]]
        self._other_half = lambda: handle(relay.share(), send)
        later = loop.call_soon(self._split, mine)
        try:
            body = await relay.read()
            if self._other is not None:
                self._over = True
                await self._other
            elif body is not None:
                request = self._create_request_from_scope(send)
                request.body.set_result(body)
                self._other_half = partial(_gone, receive)
                await self.handle_request(request, send)
        except asyncio.CancelledError:
            if not self._interrupted or mine.cancelling() > 1:
                raise
        finally:
            self._over = True
            later.cancel()
            other, self._other = self._other, None
            del self._other_half  # As the task it leads back here: the collector has nothing to do.
            if other is not None:
                await self._join(other, mine)

    def _split(self, mine: asyncio.Task[Any]) -> None:
        """The loop has come round, and the server's task waits."""
        self._other = asyncio.get_running_loop().create_task(self._other_half())
        self._other.add_done_callback(lambda _: self._interrupt(mine))

    def _interrupt(self, mine: asyncio.Task[Any]) -> None:
        """The other task is over: the client has gone, or has been answered."""
        if not self._over:
            self._interrupted = mine.cancel()

    async def _join(self, other: asyncio.Task[None], mine: asyncio.Task[Any]) -> None:
        if self._interrupted:
            mine.uncancel()
        if other.cancel():
            await asyncio.wait((other,))
        if not other.cancelled():
            other.result()


class _Relay:
    """What comes from the client, until somebody else reads it, too: who begins at its beginning.

    Args:
        receive: of the server.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._news: list[Any] = []
        self._next: asyncio.Event | None = None

    async def read(self) -> bytes | None:
        """The whole body; None where the client has gone first, or somebody else reads now."""
        body = bytearray()
        while True:
            message = await self._receive()
            self._news.append(message)
            if self._next is not None:
                self._next.set()
                return None
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if not message.get("more_body", False):
                return bytes(body)

    def share(self) -> Receive:
        """From now on somebody else reads; `read` still takes the message that it waits for."""
        self._next = asyncio.Event()
        return self._receive_all

    async def _receive_all(self) -> Any:
        if not self._news and self._next is not None:
            await self._next.wait()
        return self._news.pop(0) if self._news else await self._receive()


async def _gone(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
