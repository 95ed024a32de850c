"""Over real sockets against a real Hypercorn: what only shows on the wire."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from typing import Any

import pytest
from quart import Quart

from quart_app import Jobs, create_app, task
from quart_app.testing import wait_until
from tests.http.listening import Listening, Wire, listening
from tests.http.support import Api

pytestmark = [pytest.mark.slow]

BEGAN: dict[str, float] = {}
SETTINGS: dict[str, Any] = {"QUART_APP_DRAIN": 0, "QUART_APP_GRACE": 2}


@task
async def echo(value: Any = None) -> Any:
    """Return what was given."""
    return value


@task
async def blocks(seconds: float) -> None:
    """Its first line holds up the event loop."""
    BEGAN["at"] = time.monotonic()
    time.sleep(seconds)  # noqa: ASYNC251 - that is what is tested


HOST = b"Host: service.example"
JSON = b"Content-Type: application/json"
GET_START = b"GET /start HTTP/1.1\r\nHost: service.example\r\n\r\n"

SMUGGLING = {
    "both, length first": [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    "both, encoding first": [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
    "both, other case": [b"content-LENGTH: 5", b"TRANSFER-encoding: Chunked"],
    "both, length 0": [b"Content-Length: 0", b"Transfer-Encoding: chunked"],
    "two encodings and a length": [b"Transfer-Encoding: chunked"] * 2 + [b"Content-Length: 5"],
    "an encoding that is not chunked": [b"Transfer-Encoding: identity", b"Content-Length: 5"],
    "two encodings": [b"Transfer-Encoding: gzip, chunked"],
    "white space before the colon": [b"Content-Length: 5", b"Transfer-Encoding : chunked"],
    "two lengths": [b"Content-Length: 5", b"Content-Length: 50"],
    "two lengths in one": [b"Content-Length: 5, 50"],
    "a length with a sign": [b"Content-Length: +5"],
    "a negative length": [b"Content-Length: -5"],
    "a hexadecimal length": [b"Content-Length: 0x5"],
}


@pytest.mark.parametrize("name", SMUGGLING)
async def test_a_request_that_two_servers_read_differently_is_refused(name: str) -> None:
    """400 or 501, the connection is closed, and nothing that was hidden in it is started."""
    app = create_app([echo], **SETTINGS)
    async with listening(app) as server, server.connect() as wire:
        first = [b"POST /start/echo HTTP/1.1", HOST, JSON, *SMUGGLING[name]]
        await wire.send(*first, body=b"0\r\n\r\n" + GET_START)
        reply = await wire.reply()
        assert reply.status in (400, 501)
        if name.startswith("both"):
            assert reply.status == 400
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.headers["cache-control"] == "no-store"
            assert json.loads(reply.body)["status"] == 400
        assert await wire.is_closed()
        assert await Api(app).count() == 0


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Fifty requests in one write: fifty answers, each its own job."""
    app = create_app([echo], **SETTINGS)
    async with listening(app) as server, server.connect() as wire:
        requests = b""
        for number in range(50):
            body = json.dumps({"value": number}).encode()
            length = f"Content-Length: {len(body)}".encode()
            lines = [b"POST /start/echo HTTP/1.1", HOST, JSON, length]
            requests += b"\r\n".join([*lines, b"", body])
        await wire.send_raw(requests)
        replies = [await wire.reply() for _ in range(50)]
        documents = [json.loads(reply.body) for reply in replies]
        assert [reply.status for reply in replies] == [202] * 50
        assert [document["args"]["value"] for document in documents] == list(range(50))
        assert len({document["id"] for document in documents}) == 50
        assert await Api(app).count() == 50


async def test_urls_name_the_host_that_the_client_named() -> None:
    """From the Host header; where there is none, from the address that was connected to."""
    app = create_app([echo], **SETTINGS)
    async with listening(app) as server:
        for lines, base in [
            ([b"GET /start HTTP/1.1", HOST], "http://service.example"),
            ([b"GET /start HTTP/1.1", b"Host: [::1]:8000"], "http://[::1]:8000"),
            ([b"GET /start HTTP/1.0"], f"http://{server.host}"),
        ]:
            async with server.connect() as wire:
                await wire.send(*lines)
                reply = await wire.reply()
                document = json.loads(reply.body)
                assert document["url"] == f"{base}/jobs/{document['id']}"
                assert reply.headers["location"] == document["url"]


@pytest.mark.parametrize("host", [b"a b", b'a"b', b"a/b", b"a@b", b"a, b", b"a<b"])
async def test_a_host_that_is_none_is_400(host: bytes) -> None:
    """It would become part of every URL in the answer; nothing is started."""
    app = create_app([echo], **SETTINGS)
    async with listening(app) as server, server.connect() as wire:
        await wire.send(b"GET /start HTTP/1.1", b"Host: " + host)
        reply = await wire.reply()
        assert reply.status == 400
        assert await Api(app).count() == 0
    async with listening(app) as server, server.connect() as wire:
        await wire.send(b"GET /tasks HTTP/1.1", b"Host: " + host)
        assert (await wire.reply()).status == 400


async def test_head_sends_no_body() -> None:
    """Neither of an error nor of a document."""
    app = create_app([echo], **SETTINGS)
    async with listening(app) as server, server.connect() as wire:
        for path, status in ((b"/start", 405), (b"/jobs", 200), (b"/nope", 404)):
            await wire.send(b"HEAD " + path + b" HTTP/1.1", HOST)
            assert (await wire.reply(head=True)).status == status
        await wire.send(b"GET /jobs HTTP/1.1", HOST)
        assert json.loads((await wire.reply()).body) == {"jobs": [], "next": None}


async def test_a_large_body_is_refused_before_it_has_come() -> None:
    """413 by its announced length, and by its chunks as they pass the limit."""
    app = create_app([echo], **SETTINGS)
    async with listening(app) as server:
        async with server.connect() as wire:
            lines = [b"POST /start/echo HTTP/1.1", HOST, JSON]
            await wire.send(*lines, b"Content-Length: 17000000", body=b"{")
            assert (await wire.reply()).status == 413
        async with server.connect() as wire:
            await wire.send(*lines, b"Transfer-Encoding: chunked")
            for _ in range(5):
                await wire.send_raw(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
            assert (await wire.reply()).status == 413
        assert await Api(app).count() == 0


async def test_a_slow_body_is_cut_off() -> None:
    """408 when its time is over, although a byte came now and then; the connection is closed."""
    app = create_app([echo], **SETTINGS)
    async with listening(app) as server, server.connect() as wire:
        await wire.send(b"GET /healthz HTTP/1.1", HOST)
        assert (await wire.reply()).status == 200
        Api(app).limit(body_timeout=0.2)
        lines = [b"POST /start/echo HTTP/1.1", HOST, JSON, b"Content-Length: 1000"]
        await wire.send(*lines, body=b"{")
        drip = asyncio.create_task(dripping(wire))
        reply = await wire.reply()
        drip.cancel()
        assert reply.status == 408
        assert reply.headers["content-type"] == "application/problem+json"
        assert await wire.is_closed()
        assert await Api(app).count() == 0


async def dripping(wire: Wire) -> None:
    """A byte every 20 ms."""
    while True:
        await wire.send_raw(b" ")
        await asyncio.sleep(0.02)


async def test_a_client_that_hangs_up_has_started_its_job_all_the_same() -> None:
    """What was accepted runs, whether or not somebody reads the answer."""
    app = create_app([echo], **SETTINGS)
    async with listening(app) as server:
        for _ in range(10):
            async with server.connect() as wire:
                await wire.send(b"POST /start/echo HTTP/1.1", HOST, b"Content-Length: 0")
        api = Api(app)

        async def all_done() -> bool:
            return (await api.service.store.counts())["succeeded"] == 10

        await wait_until(lambda: api.jobs.parts is not None, "it serves")
        await wait_until(all_done, "all ten have ended")


def ask_blocking(server: Listening, path: str, body: str) -> tuple[int, Any, float]:
    """POST from a thread, as a client elsewhere would; status, answer and when it was there."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        document = json.loads(response.read())
        return response.status, document, time.monotonic()
    finally:
        connection.close()


@pytest.mark.blocking
async def test_a_task_that_blocks_in_its_first_line_does_not_delay_its_own_202() -> None:
    """The client has the answer before any of the task's code runs."""
    app = create_app([blocks], **SETTINGS)
    async with listening(app) as server:
        body = json.dumps({"seconds": 1})
        status, document, there = await asyncio.to_thread(
            ask_blocking, server, "/start/blocks", body
        )
        assert status == 202
        assert document["status"] == "queued"
        await wait_until(lambda: "at" in BEGAN, "the task has begun")
        assert there < BEGAN.pop("at") + 0.5


@pytest.mark.blocking
async def test_nor_does_it_delay_the_answer_of_a_users_own_view() -> None:
    """``await task.start()`` in a view: the view's answer leaves first."""
    app = Quart("shop")
    app.config.update(SETTINGS)
    jobs = Jobs(app, url_prefix="/background")
    blocking = jobs.task(blocks.function)

    @app.post("/order")
    async def order() -> dict[str, str]:
        job = await blocking.start(seconds=1)
        return {"job": job.id}

    async with listening(app) as server:
        status, document, there = await asyncio.to_thread(ask_blocking, server, "/order", "")
        assert status == 200
        await wait_until(lambda: "at" in BEGAN, "the task has begun")
        assert there < BEGAN.pop("at") + 0.5
        api = Api(app, prefix="/background")
        assert (await api.job(document["job"], wait=5))["status"] == "succeeded"
