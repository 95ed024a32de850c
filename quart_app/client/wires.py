"""Doing what a flow asks for, with httpx2: one wire for threads, one for asyncio.

Nothing may be decided here: what a flow is given is what came, and errors of the library become
values.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpcore2  # noqa: F401 - httpx2 would load it on the event loop, which reads files
import httpx2

from quart_app.client.flows import (
    CONNECT,
    Broken,
    Effect,
    Flow,
    Give,
    Head,
    Open,
    Read,
    Shut,
    Sleep,
)
from quart_app.domain.errors import without_password

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
HOPELESS = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.TooManyRedirects)
FAILURES = (httpx2.RequestError, httpx2.InvalidURL, httpx2.StreamError, OSError)
LIMITS = httpx2.Limits(max_connections=1_000, max_keepalive_connections=20)
"""Each stream that is followed holds a connection."""


def base_of(url: str | None) -> str:
    """The URL of the service in the form to which paths are added; from QUART_APP_URL, or
    http://127.0.0.1:8000, unless given.

    Raises:
        ValueError: it is none of HTTP.

    >>> base_of("https://jobs.example.com/background/")
    'https://jobs.example.com/background'
    """
    url = url or os.environ.get("QUART_APP_URL") or DEFAULT_URL
    try:
        urlsplit(url)
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise ValueError(f"{without_password(url)!r} is not a URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        message = f"the URL of the service begins with http:// or https://, not {url[:100]!r}"
        raise ValueError(without_password(message))
    if parsed.query or parsed.fragment:
        raise ValueError("the URL of the service has neither a query nor a fragment")
    return url.rstrip("/")


def settings(
    headers: Mapping[str, str] | None, auth: Any, verify: ssl.SSLContext | bool, base: str
) -> dict[str, Any]:
    """What both kinds of client of the library are made with."""
    if base.startswith("http://") and verify is True:
        # There is nothing to verify, and reading all certificates takes a while.
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    own = {"User-Agent": "quart-app-client", "Accept": "application/json, application/problem+json"}
    return {
        "headers": {**own, **(headers or {})},
        "auth": auth,
        "verify": verify,
        "limits": LIMITS,
        "follow_redirects": False,  # They would lead our password elsewhere.
    }


def request_of(effect: Open, base: str) -> dict[str, Any]:
    """The arguments with which the library builds a request."""
    return {
        "method": effect.call.method,
        "url": base + effect.call.path,
        "headers": list(effect.call.headers),
        "content": effect.call.body,
        "timeout": httpx2.Timeout(effect.seconds, connect=min(CONNECT, effect.seconds)),
    }


def head_of(response: httpx2.Response) -> Head:
    """The head of an answer."""
    return Head(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}
    )


def broken(error: Exception) -> Broken:
    """An error of the library as a value."""
    why = without_password(f"{type(error).__name__}: {error}".removesuffix(": "))
    if isinstance(error, (*HOPELESS, httpx2.InvalidURL)) or _untrusted(error):
        return Broken("hopeless", why)
    return Broken("unsent" if isinstance(error, UNSENT) else "lost", why)


def _untrusted(error: BaseException | None) -> bool:
    """Whether a certificate was refused; it would be the next time."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


class Wire:
    """Does what one flow asks for, and blocks the thread.

    Args:
        http: the library's client, which many wires share.
        base: the URL below which all paths are.
    """

    def __init__(self, http: httpx2.Client, base: str) -> None:
        self._http = http
        self._base = base
        self._response: httpx2.Response | None = None
        self._parts: Iterator[bytes] = iter(())

    def run(self, flow: Flow[T]) -> T:
        """Do a flow, and return what it returns."""
        try:
            effect = next(flow)
            while True:
                effect = flow.send(self.do(effect))
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            flow.close()
            self.shut()

    def each(self, flow: Flow[None]) -> Iterator[Any]:
        """Do a flow, and yield what it gives."""
        try:
            for effect in (sent := _Sender(flow)):
                if isinstance(effect, Give):
                    yield effect.item
                else:
                    sent.value = self.do(effect)
        finally:
            flow.close()
            self.shut()

    def do(self, effect: Effect) -> Head | bytes | Broken | None:
        """One thing."""
        try:
            match effect:
                case Open():
                    request = self._http.build_request(**request_of(effect, self._base))
                    self._response = self._http.send(request, stream=True)
                    self._parts = self._response.iter_bytes()
                    return head_of(self._response)
                case Read():
                    return next(self._parts, b"")
                case Sleep():
                    time.sleep(effect.seconds)
                case Shut() | Give():
                    self.shut()
        except FAILURES as error:
            self.shut()
            return broken(error)
        return None

    def shut(self) -> None:
        """Give the connection back, or close it where not all was read."""
        response, self._response = self._response, None
        self._parts = iter(())
        if response is not None:
            response.close()


class AsyncWire:
    """Does what one flow asks for, on the event loop; as `Wire`."""

    def __init__(self, http: httpx2.AsyncClient, base: str) -> None:
        self._http = http
        self._base = base
        self._response: httpx2.Response | None = None
        self._parts: AsyncIterator[bytes] | None = None

    async def run(self, flow: Flow[T]) -> T:
        """Do a flow, and return what it returns."""
        try:
            effect = next(flow)
            while True:
                effect = flow.send(await self.do(effect))
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            flow.close()
            await self.shut()

    async def each(self, flow: Flow[None]) -> AsyncGenerator[Any]:
        """Do a flow, and yield what it gives."""
        try:
            for effect in (sent := _Sender(flow)):
                if isinstance(effect, Give):
                    yield effect.item
                else:
                    sent.value = await self.do(effect)
        finally:
            flow.close()
            await self.shut()

    async def do(self, effect: Effect) -> Head | bytes | Broken | None:
        """One thing."""
        try:
            match effect:
                case Open():
                    request = self._http.build_request(**request_of(effect, self._base))
                    self._response = await self._http.send(request, stream=True)
                    self._parts = self._response.aiter_bytes()
                    return head_of(self._response)
                case Read() if self._parts is not None:
                    return await anext(self._parts, b"")
                case Sleep():
                    await asyncio.sleep(effect.seconds)
                case _:
                    await self.shut()
        except FAILURES as error:
            await self.shut()
            return broken(error)
        return None

    async def shut(self) -> None:
        """Give the connection back, or close it where not all was read."""
        response, self._response = self._response, None
        self._parts = None
        if response is not None:
            await response.aclose()


class _Sender:
    """Iterates over a flow; ``value`` is what it is given next."""

    def __init__(self, flow: Flow[None]) -> None:
        self._flow = flow
        self.value: Any = None

    def __iter__(self) -> Iterator[Effect]:
        return self

    def __next__(self) -> Effect:
        value, self.value = self.value, None
        return self._flow.send(value)
