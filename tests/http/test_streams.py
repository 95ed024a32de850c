"""Streams of events over a real connection, as EventSource reads them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from quart import Quart

from quart_app import create_app, task
from quart_app.app import get_jobs
from quart_app.domain.jobs import Job, LogLine
from quart_app.http import edge, streams
from quart_app.testing import wait_until
from tests.http.listening import Listening, listening

GATE = asyncio.Event()


@task
async def gated() -> int:
    """Ends when it may."""
    await GATE.wait()
    return 1


@task(name="quick")
async def ends() -> int:
    """Ends at once."""
    return 1


@pytest.fixture
async def app() -> Quart:
    """An app whose jobs end when the test says so."""
    global GATE
    GATE = asyncio.Event()
    return create_app([gated, ends], QUART_APP_DRAIN=0, QUART_APP_GRACE=1)


@pytest.fixture
async def server(app: Quart) -> AsyncIterator[Listening]:
    """It listens."""
    async with listening(app) as server:
        yield server


class Reader:
    """Reads a stream block by block."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._chunks = response.aiter_bytes()
        self._rest = b""

    async def block(self) -> dict[str, str]:
        """The next block's fields; empty at the end of the stream."""
        while b"\n\n" not in self._rest:
            async with asyncio.timeout(10):
                chunk = await anext(self._chunks, b"")
            if not chunk:
                return {}
            self._rest += chunk
        block, _, self._rest = self._rest.partition(b"\n\n")
        return dict(line.split(": ", 1) for line in block.decode().splitlines())

    async def document(self) -> dict[str, Any]:
        """The job document of the next block."""
        data: dict[str, Any] = json.loads((await self.block())["data"])
        return data


def get(client: httpx2.AsyncClient, server: Listening, path: str, last: object = None) -> Any:
    """Open a stream."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    return client.stream("GET", f"http://{server.host}{path}", headers=headers)


async def start(client: httpx2.AsyncClient, server: Listening, name: str = "gated") -> str:
    """Start a job; its id."""
    answer = await client.post(f"http://{server.host}/start/{name}", json={})
    return str(answer.json()["id"])


async def test_a_page_sees_a_job_move_and_the_stream_end(app: Quart, server: Listening) -> None:
    """Each status is the document that GET would give, in a block without a name."""
    async with httpx2.AsyncClient() as client:
        job_id = await start(client, server)
        parts = get_jobs(app).parts
        assert parts is not None
        await wait_until(lambda: len(parts.registry), "it runs")
        async with get(client, server, f"/jobs/{job_id}/events") as response:
            assert response.headers["content-type"] == "text/event-stream"
            assert response.headers["cache-control"] == "no-store"
            assert response.headers["x-accel-buffering"] == "no"
            reader = Reader(response)
            first = await reader.block()
            assert sorted(first) == ["data", "id", "retry"]
            shown = await client.get(f"http://{server.host}/jobs/{job_id}")
            assert json.loads(first["data"]) == shown.json()
            GATE.set()
            last = await reader.block()
            assert sorted(last) == ["data", "id"]
            assert int(last["id"]) > int(first["id"])
            shown = await client.get(f"http://{server.host}/jobs/{job_id}")
            assert json.loads(last["data"]) == shown.json()
            assert await reader.block() == {}, "a finished stream ends by itself"


async def test_a_reader_that_has_seen_the_end_is_told_not_to_come_back(server: Listening) -> None:
    """204 ends an EventSource; before the end it goes on where it was."""
    async with httpx2.AsyncClient() as client:
        job_id = await start(client, server, "quick")
        await client.get(f"http://{server.host}/jobs/{job_id}", headers={"Prefer": "wait=5"})
        async with get(client, server, f"/jobs/{job_id}/events") as response:
            last = int((await Reader(response).block())["id"])
        async with get(client, server, f"/jobs/{job_id}/events", last) as response:
            assert response.status_code == 204
            assert "content-type" not in response.headers
        lost = last + 1_000  # Of a time that the store has lost: a backup was restored.
        for before in (last - 1, lost, "nonsense", "9" * 40, "-1"):
            async with get(client, server, f"/jobs/{job_id}/events", before) as response:
                assert (await Reader(response).document())["status"] == "succeeded"


async def test_who_asks_for_the_head_of_a_stream_begins_none(app: Quart, server: Listening) -> None:
    """It could not be told that nobody reads, and would be counted for ever."""
    async with httpx2.AsyncClient() as client:
        job_id = await start(client, server)
        parts = get_jobs(app).parts
        for path in ("/events", f"/jobs/{job_id}/events"):
            answer = await client.head(f"http://{server.host}{path}")
            assert answer.headers["content-type"] == "text/event-stream"
            assert (await client.get(f"http://{server.host}/healthz")).status_code == 200
            assert parts is not None
            assert parts.hub.watchers == 0
        GATE.set()


async def test_an_event_is_not_told_as_another_one_of_the_same_number(app: Quart) -> None:
    """A store that has lost its last writes gives their numbers to others."""
    async with app.test_app():
        routes = streams.StreamRoutes(get_jobs(app)._site)
        one, other = Job(id="one", task="quick", seq=7), Job(id="other", task="quick", seq=7)
        blocks = [routes._block(each, "http://h") for each in (one, other, one)]
        assert [json.loads(each.partition(b"data: ")[2])["id"] for each in blocks] == [
            "one", "other", "one",
        ]  # fmt: skip
        line = LogLine(7, 1, 1.0, "info", "said")
        assert b"event: log" in routes._block(line, "http://h")


async def test_a_page_with_many_jobs_has_one_stream(server: Listening) -> None:
    """All jobs' versions, and what was missed since the last that it saw."""
    async with httpx2.AsyncClient() as client:
        first = await start(client, server)
        async with get(client, server, "/events", 0) as response:
            reader = Reader(response)
            block = await reader.block()
            assert json.loads(block["data"])["id"] == first
            second = await start(client, server, "quick")
            told = [await reader.document() for _ in range(3)]
            while told[0]["id"] == first:  # Its claim, where the first block was its opening.
                told = [*told[1:], await reader.document()]
            assert [each["status"] for each in told] == ["queued", "running", "succeeded"]
            assert {each["id"] for each in told} == {second}
        GATE.set()


async def test_a_page_that_draws_now_and_then_is_told_now_and_then(server: Listening) -> None:
    """Of each job the newest version, ten times a second at most: the others are left out."""
    async with httpx2.AsyncClient() as client:
        first = await start(client, server)
        async with get(client, server, "/events?every=1", 0) as response:
            reader = Reader(response)
            assert (await reader.document())["id"] == first
            ids = [await start(client, server, "quick") for _ in range(3)]
            told: list[dict[str, Any]] = []
            while len([each for each in told if each["status"] == "succeeded"]) < len(ids):
                told.append(await reader.document())
            assert {each["id"] for each in told if each["status"] == "succeeded"} == set(ids)
            assert len([each for each in told if each["id"] in ids]) < 3 * len(ids)
        GATE.set()


@pytest.mark.parametrize("every", ["0", "2", "often", "nan", ""])
async def test_how_often_is_a_number_of_seconds(server: Listening, every: str) -> None:
    """What cannot be is refused, with what can."""
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"http://{server.host}/events?every={every}")
        assert answer.status_code == 400
        assert answer.json()["detail"] == "every is a number of seconds from 0.05 to 1"


async def test_an_unknown_job_has_no_stream(server: Listening) -> None:
    """404, as everywhere."""
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"http://{server.host}/jobs/nothing/events")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_silent_stream_shows_signs_of_life(
    server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comment now and then, which no reader takes for an event."""
    monkeypatch.setattr(streams, "KEEP_ALIVE", 0.05)
    async with httpx2.AsyncClient() as client:
        job_id = await start(client, server)
        async with get(client, server, f"/jobs/{job_id}/events") as response:
            reader = Reader(response)
            await reader.block()
            blocks = [await reader.block() for _ in range(3)]
            assert {"": "keep-alive"} in blocks
        GATE.set()


async def test_more_streams_than_may_be_are_429(app: Quart) -> None:
    """With the time to come back; and a stream that is closed makes room."""
    app.config["QUART_APP_MAX_WATCHERS"] = 2
    async with listening(app) as server, httpx2.AsyncClient() as client:
        job_id = await start(client, server)
        path = f"/jobs/{job_id}/events"
        async with get(client, server, path) as one, get(client, server, "/events", 0) as two:
            readers = Reader(one), Reader(two)  # Kept: one that is forgotten closes its stream.
            for reader in readers:
                await reader.block()
            refused = await client.get(f"http://{server.host}{path}")
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "5"
            assert refused.json()["type"].endswith(":too-many-requests")
        parts = get_jobs(app).parts
        assert parts is not None
        await wait_until(lambda: parts.hub.watchers == 0, "both are gone")
        async with get(client, server, path) as again:
            assert again.status_code == 200
        GATE.set()


@pytest.mark.slow
async def test_a_reader_that_takes_nothing_is_let_go(
    app: Quart, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connection is closed after a while; nobody else notices."""
    monkeypatch.setattr(edge, "STALLED", 0.3)
    app.config["QUART_APP_MAX_QUEUED"] = 100_000
    async with (
        listening(app) as server,
        httpx2.AsyncClient(timeout=30) as client,
        server.connect() as wire,
    ):
        await wire.send(b"GET /events HTTP/1.1", b"Host: x")
        parts = get_jobs(app).parts
        assert parts is not None
        await wait_until(lambda: parts.hub.watchers == 1, "it reads")
        wire._reader._transport.pause_reading()  # type: ignore[attr-defined]
        # So few at once that it does not fall behind, which would end the stream as well.
        body = "[" + ",".join(["{}"] * 50) + "]"
        headers = {"Content-Type": "application/json"}
        for _ in range(500):
            url = f"http://{server.host}/start/quick"
            answer = await client.post(url, content=body, headers=headers)
            assert answer.status_code == 202
            if parts.hub.watchers == 0:
                break
        await wait_until(lambda: parts.hub.watchers == 0, "it is let go", 20)
        await wait_until(lambda: "has taken nothing for 0.3 s" in caplog.text, "that is said")


async def test_streams_end_before_the_server_does(app: Quart) -> None:
    """A stream never holds up a shutdown."""
    async with listening(app) as server, httpx2.AsyncClient() as client:
        job_id = await start(client, server)
        async with get(client, server, f"/jobs/{job_id}/events") as response:
            reader = Reader(response)
            while (await reader.document())["status"] != "running":
                pass
            get_jobs(app).begin_close()
            async with asyncio.timeout(0.5):
                assert await reader.block() == {}
        GATE.set()
