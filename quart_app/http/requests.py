"""Reading requests strictly: the body, the JSON, the preferences, where it came from.

Nothing may live here that answers; what cannot be read is raised as an error of `domain.errors`.
"""

from __future__ import annotations

import asyncio
import functools
import json
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn
from urllib.parse import urlsplit

import msgspec
from quart import Request
from werkzeug.exceptions import RequestTimeout

from quart_app.domain.errors import BadInput, BodyTooLarge, NotJSON, OtherSite
from quart_app.http.site import Limits

STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A string, also one that does not end: then the pattern goes over the body once all the same."""
BRACKETS = re.compile(rb"[\[\]{}]")
HOST = re.compile(r"(?:[A-Za-z0-9._~-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class Fields(dict[str, str]):
    """A request's header fields by their lower-case names.

    Read in one pass from the ASGI scope: a look-up in the framework's own headers costs a scan of
    all of them, and a start needs nine look-ups. Several of one name are joined (RFC 9110, 5.3).

    >>> Fields([(b"prefer", b"wait=1"), (b"prefer", b"respond-async")])
    {'prefer': 'wait=1, respond-async'}
    """

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__()
        for raw_name, raw_value in headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            self[name] = f"{self[name]}, {value}" if name in self else value


async def read_body(request: Request, fields: Fields, limits: Limits) -> bytes:
    """The whole body, bounded in size and time.

    Raises:
        BodyTooLarge: more than ``limits.max_body`` bytes.
        RequestTimeout: it did not come within ``limits.body_timeout`` seconds.
    """
    length = fields.get("content-length", "")
    if length == "0":
        return b""
    message = f"The body may have {limits.max_body} bytes"
    if length.isdigit() and int(length) > limits.max_body:
        raise BodyTooLarge(message)
    complete = getattr(request.body, "_complete", None)
    if complete is not None and complete.is_set():  # It is here already, as nearly always.
        # A timer costs more than reading a small body, and its entry in the loop keeps the
        # request's context, and so the body, until the time is over, even when it is canceled.
        whole: bytes = await request.body
        if len(whole) > limits.max_body:
            raise BodyTooLarge(message)
        return whole
    body = b""
    try:
        async with asyncio.timeout(limits.body_timeout):
            async for part in request.body:
                body += part
                if len(body) > limits.max_body:
                    raise BodyTooLarge(message)
    except TimeoutError:
        raise RequestTimeout(f"The body did not come within {limits.body_timeout:g} s") from None
    return body


async def read_json(request: Request, fields: Fields, limits: Limits) -> tuple[bytes, Any]:
    """The body as it came and as checked JSON; an empty one is an empty object.

    Raises:
        NotJSON: a content type other than ``application/json``: a form of another site's page
            could send that without asking (RFC 9110, 8.3); or one that is packed (8.4).
        BadInput: not strictly JSON.
    """
    body = await read_body(request, fields, limits)
    if not body:
        return b"{}", {}
    kind = fields.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise NotJSON(f"Send the body as application/json, not {kind or 'without a type'!r}")
    if (coding := fields.get("content-encoding", "identity")).lower() != "identity":
        raise NotJSON(f"Send the body as it is, not with Content-Encoding: {coding[:50]}")
    return body, strict_json(body, limits.max_depth)


def strict_json(body: bytes, max_depth: int = 64) -> Any:
    """Parse JSON as RFC 8259 has it, and refuse what readers understand differently.

    That is NaN and Infinity, numbers that become infinite, duplicate keys, lone surrogates, NUL and
    deep nesting (RFC 8259, 4, 6, 8 and 9 leave each to the reader).

    Raises:
        BadInput: saying which of them.

    >>> strict_json(b'{"month": 3}')
    {'month': 3}
    """
    _check_depth(body, max_depth)
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadInput("The body is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The body is not JSON: {error}") from None
    if b"\\u" in body:
        _check_text(value)
    return value


def _check_depth(body: bytes, max_depth: int) -> None:
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return
    depth = 0
    for bracket in BRACKETS.findall(STRINGS.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > max_depth:
            raise BadInput(f"The JSON is nested more than {max_depth} deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:50]} is too large")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
)


def _check_text(value: Any) -> None:
    """Refuse what only ``\\u`` can write: half a character, and NUL."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_text(item)
    elif isinstance(value, list):
        for item in value:
            _check_text(item)
    elif isinstance(value, str):
        if "\0" in value:
            raise BadInput("A string contains NUL")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadInput("A string contains half of a surrogate pair") from None


class Preference(msgspec.Struct, frozen=True):
    """What ``Prefer`` asks for (RFC 7240): ``wait`` in seconds, and ``respond-async``."""

    wait: float | None = None
    respond_async: bool = False

    @property
    def applied(self) -> str:
        """The value of ``Preference-Applied``."""
        parts = ["respond-async"] if self.respond_async else []
        return ", ".join(parts + ([] if self.wait is None else [f"wait={self.wait:g}"]))


NO_PREFERENCE = Preference()


def read_preference(fields: Fields, max_wait: float) -> Preference:
    """The preferences of a request; unknown and malformed ones are ignored (RFC 7240, 2)."""
    header = fields.get("prefer")
    if header is None:
        return NO_PREFERENCE
    wait, respond_async = None, False
    for part in header.split(","):
        name, _, value = part.partition(";")[0].partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "respond-async":
            respond_async = True
        elif name == "wait" and wait is None and value.isascii() and value.isdigit():
            wait = min(float(value), max_wait)
    return Preference(wait, respond_async)


def read_key(fields: Fields) -> str | None:
    """The Idempotency-Key, quoted or bare.

    Raises:
        BadInput: empty, longer than 255 characters, or not printable ASCII.
    """
    header = fields.get("idempotency-key")
    if header is None:
        return None
    key = header.strip(" \t")
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 0 < len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise BadInput("Idempotency-Key is 1 to 255 printable ASCII characters, quoted or bare")
    return key


def refuse_other_site(fields: Fields, limits: Limits) -> None:
    """Refuse what a browser says was sent by another site's page, or fetched ahead of a click.

    Sources: Fetch Metadata (``Sec-Fetch-Site``), RFC 6454 (``Origin``), ``Sec-Purpose``. Clients
    that are not browsers send none of them and pass.

    Raises:
        OtherSite: with the setting that would allow it.
    """
    origin, site = fields.get("origin"), fields.get("sec-fetch-site")
    if origin is not None and origin in limits.trusted_origins:
        return
    if site is not None:
        other = site not in ("same-origin", "none")
    else:
        # Hosts are compared and not schemes: a proxy that ends TLS changes the scheme we see.
        other = origin is not None and not _is_host(origin, fields.get("host"))
    if other:
        message = (
            f"A page of another site ({origin or site}) sent this; if that is wanted, name its "
            "origin in QUART_APP_TRUSTED_ORIGINS"
        )
        raise OtherSite(message)
    if "prefetch" in fields.get("sec-purpose", fields.get("purpose", "")):
        raise OtherSite("A browser asked for this ahead of any click; nothing was started")


def _is_host(origin: str, host: str | None) -> bool:
    """Whether an origin is that of a Host field: that may name the scheme's own port, which no
    origin does, and write the name in capitals (RFC 9110, 4.2.3)."""
    try:
        parts = urlsplit(origin)
    except ValueError:  # Not a URL, and so not this site.
        return False
    if host is None or not parts.netloc:
        return False
    usual = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return parts.netloc.lower() == host.lower().removesuffix(usual)


@functools.lru_cache(maxsize=1024)
def base_url(scheme: str, host: str, root: str) -> str:
    """The absolute URL of this site, as its client named it.

    Raises:
        BadInput: the Host field is not a host (RFC 9110, 7.2).

    >>> base_url("http", "127.0.0.1:8000", "/app")
    'http://127.0.0.1:8000/app'
    """
    if HOST.fullmatch(host) is None:
        raise BadInput("The Host field is not a host with an optional port")
    return f"{scheme}://{host}{root}"


def address_of(server: tuple[str, int | None] | None) -> str:
    """What stands for the Host field of a client that sent none (HTTP/1.0): our own address.

    >>> address_of(("::1", 8000)), address_of(("127.0.0.1", 80)), address_of(("/run/it", None))
    ('[::1]:8000', '127.0.0.1:80', '')
    """
    if server is None or server[1] is None:  # A socket that is a file.
        return ""
    name = f"[{server[0]}]" if ":" in server[0] else server[0]
    return f"{name}:{server[1]}"


def base_of(request: Request, prefix: str) -> str:
    """The absolute URL under which we are mounted, as the request was sent to it."""
    host = Fields(request.scope["headers"]).get("host") or address_of(request.scope["server"])
    return base_url(request.scheme, host, request.root_path) + prefix
