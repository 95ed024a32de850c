"""What happens before and after the framework, for every request: plain ASGI.

Here a request is refused that two servers could read differently, here the service is found, and
here the jobs of a request begin when its answer has left. No route may live here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from hypercorn.middleware import ProxyFixMiddleware

from quart_app.http.problems import CONTENT_TYPE, problem_body
from quart_app.http.site import Site

logger = logging.getLogger("quart_app.http")

STALLED = 30.0
"""Seconds for which a stream waits for its reader."""
EVENT_STREAM = b"text/event-stream"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]


class Edge:
    """An ASGI middleware.

    Args:
        app: the application inside.
        site: knows the service.
        close: ends the service; called before the application hears of the shutdown, so that jobs
            end while what they use (a database of the user's) is still open.
    """

    def __init__(self, app: ASGI, site: Site, close: Callable[[], Awaitable[None]]) -> None:
        self._inner = self._app = app
        self._site = site
        self._close = close

    def trust_proxies(self, hops: int) -> None:
        """Believe the X-Forwarded headers that the nearest so many proxies have set."""
        inner: Any = self._inner
        outer: Any = ProxyFixMiddleware(inner, "legacy", hops)
        self._app = outer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if scope["type"] == "http" and ambiguous(scope["headers"]):
            await _refuse(send)
            return
        request = (await self._site.ready()).begin_request()
        try:
            await self._app(scope, receive, Patience(send))
        except* Stalled:  # Newer frameworks send in a group of tasks, whose errors come as a group.
            logger.warning("a stream was closed: its reader has taken nothing for %g s", STALLED)
        finally:
            await request.close()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_and_close() -> Any:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._close()
            return message

        await self._app(scope, receive_and_close, send)


class Stalled(Exception):
    """Who reads a stream takes nothing from it, and the connection is to be closed."""


class Patience:
    """Sends, and does not wait for ever where a stream's reader takes nothing.

    Only for streams: elsewhere a timer would cost more than the answer, and keep the request's
    context in memory until its time is over.

    Args:
        send: of the server.
    """

    __slots__ = ("_send", "_stream")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._stream = False

    def __call__(self, message: Any) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            values = [value for _, value in message.get("headers", ())]
            self._stream = EVENT_STREAM in b"\n".join(values)
        return self._in_time(message) if self._stream else self._send(message)

    async def _in_time(self, message: Any) -> None:
        try:
            async with asyncio.timeout(STALLED):
                await self._send(message)
        except TimeoutError:
            raise Stalled from None


def ambiguous(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request gives its length in two ways (RFC 9112, 6.1: request smuggling).

    >>> ambiguous([(b"content-length", b"4"), (b"transfer-encoding", b"chunked")])
    True
    """
    names = [name for name, _ in headers]
    return b"transfer-encoding" in names and b"content-length" in names


async def _refuse(send: Send) -> None:
    body = problem_body(400, "Bad Request", "Both Content-Length and Transfer-Encoding were sent")
    headers = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
