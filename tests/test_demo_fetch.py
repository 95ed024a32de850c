"""`fetch_all` against a server on loopback: bounded, truthful, and only to hosts on the list."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from quart_app import demo
from quart_app.demo import Answer, Fetched
from quart_app.testing import wait_until
from tests.demo_support import Watched, failure, run
from tests.http.support import serving

BODY = b"hello"
LARGE = 200_000


class Site:
    """A small HTTP server that knows who is being served.

    Attributes:
        seen: the path and headers of every request.
        now, most: requests that are being served, at this moment and at any.
        gate: while it is closed, ``/held`` does not answer.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.now = self.most = 0
        self.gate = asyncio.Event()
        self._left: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[Site]:
        """Listen on a free port."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        try:
            yield self
        finally:
            self.gate.set()
            server.close()
            left = list(self._left)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._left.add(task)
        try:
            while True:
                await self._serve_one(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            self._left.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        self.seen.append((path, head))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self._answer(path, writer)
        finally:
            self.now -= 1

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        status, headers, body = "200 OK", "", BODY
        if path == "/held":
            await self.gate.wait()
        elif path == "/slow":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst")
            await self.gate.wait()
        elif path == "/endless":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(bytes(LARGE))
                await writer.drain()
        elif path == "/cut":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst")
            raise ConnectionAbortedError
        elif path == "/nonsense":
            writer.write(b"nonsense\r\n\r\n")
            raise ConnectionAbortedError
        elif path == "/missing":
            status, body = "404 Not Found", b""
        elif path == "/zipped":
            headers, body = "Content-Encoding: gzip\r\n", gzip.compress(bytes(LARGE), mtime=0)
        elif path == "/away":
            status, headers = "302 Found", f"Location: {self.url('/')}{'x' * 600}\r\n"
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
        )


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A server that the operator allows."""
    async with Site().serve() as site:
        monkeypatch.setenv("QUART_APP_DEMO_HOSTS", site.host)
        yield site


async def fetch(*urls: str, watched: Watched | None = None, **args: Any) -> Fetched:
    """The plain function."""
    context = (watched or Watched()).context
    result = await demo.fetch_all(context, urls=list(urls), **args)
    assert isinstance(result, Fetched)
    return result


async def fetch_one(url: str, **args: Any) -> Answer:
    """The plain function with one URL, whose outcome is counted rightly."""
    result = await fetch(url, **args)
    [answer] = result.answers
    failed = answer.error is not None
    assert (answer.url, result.failed, result.answered) == (url, failed, not failed)
    assert failed == (answer.sha256 is None)
    return answer


async def test_fetch_all_over_http(site: Site) -> None:
    """Status, bytes, seconds and SHA-256 of each; one that fails does not fail the others."""
    urls = [site.url(path) for path in ("/", "/cut", "/missing", "/nonsense", "/")]
    async with serving(demo) as api:
        ended = await run(api, "fetch_all", urls=urls)
    assert (ended["status"], ended["progress"]) == ("succeeded", 100)
    assert ended["message"] == "5 of 5 URLs"
    result = msgspec.convert(ended["result"], Fetched)
    assert (result.answered, result.failed) == (3, 2)
    assert [answer.url for answer in result.answers] == urls
    hello, cut, missing, nonsense, again = result.answers
    assert (hello.status, hello.bytes, hello.error) == (200, 5, None)
    assert hello.sha256 == again.sha256 == hashlib.sha256(BODY).hexdigest()
    assert 0 <= hello.seconds < 10
    assert (cut.status, cut.bytes, cut.sha256) == (200, 5, None)
    assert (cut.error or "").startswith("RemoteProtocolError")
    assert (missing.status, missing.bytes, missing.error) == (404, 0, None)
    assert (nonsense.status, bool(nonsense.error)) == (None, True)


async def test_only_so_many_are_asked_at_once(site: Site) -> None:
    """Three of ten, as the caller has said; the others when one of these is done."""
    watched = Watched()
    job = asyncio.create_task(fetch(*[site.url("/held")] * 10, watched=watched, concurrency=3))
    await wait_until(lambda: site.now == 3, "three requests are being served")
    assert watched.reports == []
    site.gate.set()
    assert (await job).answered == 10
    assert site.most == 3
    assert [report.current for report in watched.reports] == list(range(1, 11))
    assert {report.total for report in watched.reports} == {10}


async def test_a_canceled_job_lets_go_of_every_connection(site: Site) -> None:
    """It ends as canceled while the servers have not answered."""
    async with serving(demo) as api:
        started = await api.start("fetch_all", {"urls": [site.url("/held")] * 5})
        await wait_until(lambda: site.now == 5, "five requests are being served")
        await api.post(f"/cancel/{started['id']}")
        ended = await api.job(started["id"], wait=10)
    assert ended["status"] == "canceled"


async def test_the_timeout_is_that_of_a_whole_answer(site: Site) -> None:
    """Also of one that has begun and does not go on."""
    for path, status in (("/held", None), ("/slow", 200)):
        answer = await fetch_one(site.url(path), timeout=0.05)
        assert answer.error == "TimeoutError: no whole answer within 0.05 seconds"
        assert answer.status == status
        assert 0.05 <= answer.seconds < 5


async def test_a_large_body_is_cut_off(site: Site) -> None:
    """An endless one is read no further than the limit and a little, and has no digest."""
    answer = await fetch_one(site.url("/endless"), max_bytes=LARGE)
    assert answer.error == f"ValueError: the body has more than {LARGE} bytes"
    assert (answer.status, answer.sha256) == (200, None)
    assert LARGE < answer.bytes <= LARGE + 2**16
    assert (await fetch_one(site.url("/"), max_bytes=len(BODY))).error is None


async def test_a_compressed_body_is_counted_as_it_was_sent(site: Site) -> None:
    """No compression is asked for, and nothing is unpacked: a small answer stays small."""
    answer = await fetch_one(site.url("/zipped"), max_bytes=1_000)
    assert answer.sha256 == hashlib.sha256(gzip.compress(bytes(LARGE), mtime=0)).hexdigest()
    assert "accept-encoding: identity" in site.seen[0][1].lower()


async def test_a_redirect_is_reported_and_not_followed(site: Site) -> None:
    """Nobody on the list can lead the server to somebody who is not."""
    answer = await fetch_one(site.url("/away"))
    assert (answer.status, answer.error) == (302, None)
    assert answer.location == (site.url("/") + "x" * 600)[:500]
    assert [path for path, _ in site.seen] == ["/away"]


# Whom it may ask.


async def test_no_host_is_asked_that_is_not_on_the_list(site: Site) -> None:
    """However the URL is written. Nothing is connected to, and the others are fetched."""
    port = site.port
    async with Site().serve() as other:
        urls = [
            other.url("/"),
            f"http://{site.host}@{other.host}/",
            f"http://{other.host}#@{site.host}/",
            f"http://{other.host}\\@{site.host}/",
            f"http://user:password@{site.host}/",
            f"http://127.0.0.1.evil.test:{port}/",
            f"http://localhost:{port}/",
            f"http://2130706433:{port}/",
            f"http://127.1:{port}/",
            f"http://[::ffff:127.0.0.1]:{port}/",
            f"https://127.0.0.1:{other.port}/",
            "http://127.0.0.1/",
            "http://127.0.0.1:0/",
            "http:///",
        ]
        result = await fetch(*urls, site.url("/"))
        assert other.seen == []
    for answer in result.answers[:-1]:
        assert (answer.error or "").startswith("PermissionError"), answer
        assert answer.status is None
    assert result.answers[-1].error is None
    assert [path for path, _ in site.seen] == ["/"]


@pytest.mark.parametrize(
    ("hosts", "url", "allowed"),
    [
        ("example.com", "http://example.com/", True),
        ("example.com", "https://EXAMPLE.com:443/", True),
        ("Example.COM:80", "http://example.com/", True),
        ("example.com", "http://example.com:8080/", False),
        ("example.com:80", "https://example.com/", False),
        ("example.com", "http://www.example.com/", False),
        ("a, [::1]:8000", "http://[::1]:8000/", True),
        ("[::1]", "http://[::1]:8000/", False),
        ("bücher.example", "http://xn--bcher-kva.example/", True),
        ("xn--bcher-kva.example", "http://xn--bcher-kva.example/", True),
    ],
)
async def test_a_host_without_a_port_means_the_usual_one(
    monkeypatch: pytest.MonkeyPatch, hosts: str, url: str, allowed: bool
) -> None:
    """80 for http, 443 for https; names are compared as people and as machines write them."""
    from httpx2 import URL

    monkeypatch.setenv("QUART_APP_DEMO_HOSTS", hosts)
    refused = pytest.raises(PermissionError, match="QUART_APP_DEMO_HOSTS does not allow")
    with contextlib.nullcontext() if allowed else refused:
        demo._check(URL(url), demo._allowed_hosts())


async def test_without_a_list_or_the_library_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The job fails and says what to set, or what to install."""
    expected = [
        ("", "QUART_APP_DEMO_HOSTS is not set"),
        ("http://example.com", "'http://example.com' is not host or host:port"),
        ("example.com", 'pip install "quart-app[client]"'),
    ]
    monkeypatch.setitem(sys.modules, "httpx2", None)
    async with serving(demo) as api:
        for hosts, words in expected:
            monkeypatch.setenv("QUART_APP_DEMO_HOSTS", hosts)
            code, message = await failure(api, "fetch_all", urls=["http://example.com/"])
            assert (code, words in message) == ("NotConfigured", True), message


async def test_a_failure_of_any_kind_is_that_of_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that no machine has, a name that cannot be one: reported, and short."""
    monkeypatch.setenv("QUART_APP_DEMO_HOSTS", "127.0.0.1:99999,127.0.0.1:1")
    for url in (
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:1/",
        "http://[/",
        "http://xn--/",
        "http://a:" + "9" * 500,
    ):
        answer = await fetch_one(url)
        assert answer.error
        assert len(answer.error) <= 200


def test_the_largest_result_fits() -> None:
    """A hundred URLs of two thousand characters, and answers as long as they may be."""
    answer = Answer(url='"' * 2_000, location="é" * 500, error="\x01" * 200, sha256="f" * 64)
    assert len(msgspec.json.encode(Fetched(0, 100, [answer] * 100))) < 2**20
