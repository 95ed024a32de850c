"""In which asyncio tasks a request is read and handled.

Nothing may live here that knows a route, or changes what Quart makes of a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from quart import Request
from quart.asgi import ASGIHTTPConnection

from quart_app.http.edge import Receive, Send


class Connection(ASGIHTTPConnection):
    """One request, for `quart.Quart.asgi_http_class`: as Quart's own class, in fewer tasks.

    Quart reads each request in one task, handles it in another, and waits for both in the server's.
    Nearly always there is nothing to wait for: the body came with the request, and the answer is
    made at once. So here the server's own task reads and then handles, which costs a sixth less
    (docs/benchmarks.md). Only where it still waits when the event loop comes round, another task
    does the other half: so a handler begins before a slow body has ended, and ends when its client
    has gone.
    """

    _other: asyncio.Task[None] | None = None
    _interrupted = False
    _over = False

    async def __call__(self, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        mine: asyncio.Task[Any] = asyncio.current_task(loop)  # type: ignore[assignment]
        request = self._create_request_from_scope(send)
        self._other_half: Callable[[], Coroutine[Any, Any, None]]
        self._other_half = partial(self.handle_request, request, send)
        later = loop.call_soon(self._split, mine)
        try:
            if not await _read(request, receive):
                return  # The client has gone; if a handler has begun, it is ended below.
            if self._other is None:
                self._other_half = partial(self.handle_messages, request, receive)
                await self.handle_request(request, send)
            else:
                await self.handle_messages(request, receive)
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
        """The other half is over: the client has gone, or has been answered."""
        if not self._over:
            self._interrupted = mine.cancel()

    async def _join(self, other: asyncio.Task[None], mine: asyncio.Task[Any]) -> None:
        if self._interrupted:
            mine.uncancel()
        if other.cancel():
            await asyncio.wait((other,))
        if not other.cancelled():
            other.result()


async def _read(request: Request, receive: Receive) -> bool:
    """Read the whole body; whether the client is still there."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        if message["type"] == "http.request":
            request.body.append(message.get("body", b""))
            if not message.get("more_body", False):
                request.body.set_complete()
                return True
