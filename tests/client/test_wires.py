"""Over real sockets: a server that says anything, cut anywhere, to both kinds of client."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from quart_app.client import (
    AsyncClient,
    BadAnswer,
    Client,
    ClientError,
    JobDocument,
    LogLine,
    Unreachable,
)
from quart_app.client.wires import Wire, broken
from tests.client.doubles import reply, saying
from tests.client.test_streams import job, line, story

JOB = b'{"id": "7", "task": "t", "status": "queued"}'
AUTH = ("me", "hunter2")
Speak = Callable[[str, Callable[[Any], Any]], Any]


def speak_sync(url: str, what: Callable[[Any], Any]) -> Any:
    """Do something with a client for threads."""
    with Client(url, timeout=5) as client:
        found = what(client)
        return list(found) if hasattr(found, "__next__") else found


def speak_async(url: str, what: Callable[[Any], Any]) -> Any:
    """Do the same with one for asyncio."""

    async def main() -> Any:
        async with AsyncClient(url, timeout=5) as client:
            found = what(client)
            if hasattr(found, "__anext__"):
                return [each async for each in found]
            return await found

    return asyncio.run(main())


@pytest.fixture(params=[speak_sync, speak_async], ids=["sync", "async"])
def speak(request: pytest.FixtureRequest) -> Speak:
    """Both kinds of client."""
    speaker: Speak = request.param
    return speaker


def test_a_start_goes_on_over_lost_answers_with_one_key(speak: Speak) -> None:
    """Closed at once, cut in the middle, then answered."""
    answer = reply(202, JOB)
    with saying(None, answer[:-5], reply(503, Retry_After="0"), answer) as (url, heard):
        handle = speak(url, lambda client: client.start("t", month=3))
    assert handle.id == "7"
    keys = {each for request in heard for each in request.split(b"\r\n") if b"dempotency" in each}
    assert len(keys) == 1
    assert all(request.endswith(b'{"month":3}') for request in heard)
    assert len(heard) == 4


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\xfe", b"HTTP/9.9 200\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
    ],
)  # fmt: skip
def test_garbage_is_one_of_our_errors(speak: Speak, garbage: bytes) -> None:
    """Whatever it is; a request that may not be sent twice is not."""
    with saying(garbage) as (url, heard), pytest.raises((Unreachable, BadAnswer)):
        speak(url, lambda client: client.job("7").retry())
    assert len(heard) == 1


@pytest.mark.parametrize("seed", range(5))
def test_garbage_then_an_answer(speak: Speak, seed: int) -> None:
    """Answers cut at random bytes, with random bytes flipped, until one is whole."""
    chance = random.Random(seed)  # noqa: S311 - the same each time
    answer = reply(200, JOB)
    answers: list[bytes] = [answer[: chance.randrange(len(answer))] for _ in range(3)]
    with saying(*answers, answer) as (url, heard):
        assert speak(url, lambda client: client.job("7").status()) == "queued"
    assert len(heard) == 4


def test_nobody_listening_is_told_in_time(speak: Speak) -> None:
    """With the library's words."""
    with saying() as (url, _):
        pass  # Its port is free again.
    with pytest.raises(Unreachable, match="Connect"):
        asyncio.run(nothing(url)) if speak is speak_async else quick(url)


async def nothing(url: str) -> None:
    """Ask where nobody is."""
    async with AsyncClient(url, timeout=0.3) as client:
        await client.tasks()


def quick(url: str) -> None:
    """The same."""
    with Client(url, timeout=0.3) as client:
        client.tasks()


def chunked(data: bytes) -> bytes:
    """An event stream as it goes over the wire."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + b"%x\r\n%b\r\n" % (len(data), data) + b"0\r\n\r\n"


def test_a_stream_is_followed_over_cut_connections(speak: Speak) -> None:
    """Half an event is none, and the next connection is asked for what comes after the last."""
    parts = [job(1, "queued"), job(2), line(3, 1), line(4, 2), job(5, "succeeded")]
    first = chunked(b"".join(parts[:3]) + parts[3][:20])
    with saying(first[:-20], None, chunked(b"".join(parts[3:]))) as (url, heard):
        news = speak(url, lambda client: client.job("7").events())
    assert [each.status for each in news if isinstance(each, JobDocument)] == [
        "queued", "running", "succeeded",
    ]  # fmt: skip
    assert [each.line for each in news if isinstance(each, LogLine)] == [1, 2]
    assert [b"\r\nlast-event-id: " in request.lower() for request in heard] == [False, True, True]


def test_a_log_is_read_at_once_or_followed(speak: Speak) -> None:
    """Only its lines."""
    with saying(chunked(story(4))) as (url, _):
        lines = speak(url, lambda client: client.job("7").log(follow=True))
    assert [each.text for each in lines] == [f"line {number}" for number in (1, 2, 3, 4)]
    body = b"".join(line(n, n).partition(b"data: ")[2].strip() + b"\n" for n in (1, 2))
    with saying(reply(200, body, Content_Type="application/jsonl")) as (url, _):
        lines = speak(url, lambda client: client.job("7").log())
    assert [each.line for each in lines] == [1, 2]
    page = reply(200, b"<html>", Content_Type="text/html")
    with saying(page) as (url, _), pytest.raises(BadAnswer):
        speak(url, lambda client: client.job("7").log())


def test_who_stops_listening_closes_the_connection() -> None:
    """And the client can be used again at once."""
    stream = chunked(story(4))
    with saying(stream, reply(200, JOB)) as (url, _), Client(url) as client:
        for news in client.job("7").events():
            assert isinstance(news, JobDocument)
            break
        assert client.job("7").status() == "queued"


async def test_a_cancel_closes_the_connection_and_is_no_error_of_ours() -> None:
    """Nothing is tried again then."""
    opened = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        opened.set()
        await reader.read()  # Until the other side closes.
        closed.set()
        writer.close()

    closed = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, AsyncClient(f"http://127.0.0.1:{port}") as client:
        asking = asyncio.create_task(client.job("7").result())
        async with asyncio.timeout(10):
            await opened.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await closed.wait()


def test_certificates_are_checked_and_a_refused_one_is_not_tried_again() -> None:
    """Unless the caller says otherwise, or the URL has no TLS."""
    with Client("https://jobs.example") as client:
        pool: Any = client._link.http._transport
        assert pool._pool._ssl_context.verify_mode is ssl.CERT_REQUIRED
        assert pool._pool._ssl_context.cert_store_stats()["x509_ca"] > 0
    refused = httpx2.ConnectError("certificate verify failed")
    refused.__cause__ = ssl.SSLCertVerificationError("self-signed")
    assert broken(refused).how == "hopeless"
    assert broken(httpx2.ConnectError("refused")).how == "unsent"
    assert broken(httpx2.ReadTimeout("")).how == "lost"
    assert broken(httpx2.UnsupportedProtocol("x")).how == "hopeless"


def test_headers_and_credentials_are_sent_and_never_shown() -> None:
    """Neither in the repr, nor in an error."""
    with saying(reply(500, b"{}")) as (url, heard):
        url = url.replace("http://", "http://me:hunter2@")
        with Client(url, headers={"X-Team": "a"}, timeout=1) as client:
            with pytest.raises(ClientError) as caught:
                client.tasks()
            assert "hunter2" not in repr(client) + repr(caught.value)
    assert b"authorization: basic" in heard[0].lower()
    assert b"x-team: a" in heard[0].lower()
    with saying(reply(200, b'{"tasks": []}')) as (url, heard), Client(url, auth=AUTH) as client:
        assert client.tasks() == []
    assert b"authorization: basic" in heard[0].lower()


def test_without_the_library_the_error_says_what_to_install() -> None:
    """In a process that has none."""
    program = (
        "import sys; sys.modules['httpx2'] = None\n"
        "try: import quart_app.client\n"
        "except ImportError as error: print(error.name, error)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "httpx2 quart_app.client needs httpx2: pip install 'quart-app[client]'\n"


def test_a_closed_client_says_so() -> None:
    """And does not try for half a minute."""
    client = Client()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.tasks()
    with contextlib.closing(httpx2.Client()) as http:
        wire = Wire(http, "http://x")
        wire.shut()
        wire.shut()
