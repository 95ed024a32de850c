"""Many who watch, some who never read, and connections that are cut: over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.e2e.conftest import Durable, Server, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WATCHERS = 1_000
CUTS = 200
LINES = 10
SILENT = 100
MIB = 2**20


class Stream:
    """The events of one stream, read from a socket. HTTP/1.0, so that no chunks are in between.

    Args:
        server: who is asked.
        path: which stream.
    """

    def __init__(self, server: Server, path: str) -> None:
        self._server = server
        self._path = path
        self._writer: asyncio.StreamWriter | None = None
        self.last = ""
        self.seen: list[tuple[int, str, Any]] = []
        """Id, kind (``log`` or ``job``) and document of each event."""

    async def open(self) -> asyncio.StreamReader:
        """Connect, and go on after the last event that was seen."""
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        resume = f"Last-Event-ID: {self.last}\r\n" if self.last else ""
        self._writer.write(f"GET {self._path} HTTP/1.0\r\nHost: x\r\n{resume}\r\n".encode())
        return reader

    def close(self) -> None:
        """Cut the connection."""
        if self._writer is not None:
            self._writer.close()

    async def read(self, most: int | None = None) -> bool:
        """Read events to the end of the stream, or so many bytes of it and cut it there. Whether
        the stream has ended for good (204)."""
        reader = await self.open()
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 204 " in head.split(b"\r\n", 1)[0]:
                return True
            assert b" 200 " in head.split(b"\r\n", 1)[0], head
            rest, left = b"", most
            while left is None or left > 0:
                data = await reader.read(65_536 if left is None else min(left, 65_536))
                if not data:
                    return False
                left = None if left is None else left - len(data)
                *blocks, rest = (rest + data).split(b"\n\n")
                for block in blocks:
                    self._take(block.decode())
            return False
        finally:
            self.close()

    def _take(self, block: str) -> None:
        fields = dict(line.partition(": ")[::2] for line in block.splitlines())
        if "data" in fields:  # Otherwise it is a sign of life.
            self.last = fields["id"]
            kind = fields.get("event", "job")
            self.seen.append((int(fields["id"]), kind, json.loads(fields["data"])))


def check(stream: Stream, lines: int) -> None:
    """Every line once and in order, every id greater than the last, one end."""
    ids = [number for number, _, _ in stream.seen]
    assert ids == sorted(set(ids))
    told = [document["line"] for _, kind, document in stream.seen if kind == "log"]
    assert told == list(range(1, lines + 1))
    statuses = [document["status"] for _, kind, document in stream.seen if kind == "job"]
    order = ["queued", "running", "succeeded"]
    assert [order.index(each) for each in statuses] == sorted(map(order.index, statuses))
    assert statuses.count("succeeded") == 1
    assert stream.seen[-1][2].get("status") == "succeeded"


@contextlib.asynccontextmanager
async def starting(server: Server) -> AsyncIterator[list[int]]:
    """Somebody starts jobs all the while; the statuses of the answers."""
    answers: list[int] = []

    async def start() -> None:
        while True:
            answer = await asyncio.to_thread(server.post, "/start/noop", {})
            answers.append(answer.status_code)

    starts = asyncio.create_task(start())
    try:
        yield answers
    finally:
        starts.cancel()
        await asyncio.gather(starts, return_exceptions=True)


async def test_a_thousand_watchers_of_one_job_see_the_same_story(servers: Servers) -> None:
    """Each line and status once and in order, while others start jobs."""
    server = servers("serve", tasks="tests.e2e.jobs")
    job_id = server.start("speaks", lines=LINES, pause=0.5)
    streams = [Stream(server, f"/jobs/{job_id}/events") for _ in range(WATCHERS)]
    async with starting(server) as answers:
        await asyncio.gather(*(stream.read() for stream in streams))
    for stream in streams:
        check(stream, LINES)
    assert set(answers) == {202}


async def test_a_thousand_jobs_with_a_watcher_each_see_their_own_story(servers: Servers) -> None:
    """None sees another's."""
    server = servers("serve", tasks="tests.e2e.jobs")
    ids = [
        document["id"]
        for document in server.post(
            "/start/speaks", [{"lines": 5, "pause": 0.5} for _ in range(WATCHERS)]
        ).json()["jobs"]
    ]
    streams = {job_id: Stream(server, f"/jobs/{job_id}/events") for job_id in ids}
    async with starting(server) as answers:
        await asyncio.gather(*(stream.read() for stream in streams.values()))
    for job_id, stream in streams.items():
        check(stream, 5)
        assert {each["id"] for _, kind, each in stream.seen if kind == "job"} == {job_id}
    assert set(answers) == {202}


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_connection_that_is_cut_anywhere_is_resumed(
    store: str, servers: Servers, durable: Durable
) -> None:
    """Two hundred times, at a random byte: no gap and no repeat."""
    if store == "memory":
        server = servers("serve", tasks="tests.e2e.jobs", log_lines=10_000, log_bytes=10 * MIB)
    else:
        server = durable("serve", tasks="tests.e2e.jobs", log_lines=10_000, log_bytes=10 * MIB)
    lines = 3_000
    job_id = server.start("speaks", lines=lines, pause=0.001, width=20)
    stream = Stream(server, f"/jobs/{job_id}/events")
    chance = random.Random(7)  # noqa: S311 - the same cuts each time
    for _ in range(CUTS):
        assert not await stream.read(chance.randrange(1, 4_000)), "it was over before all cuts"
    while not await stream.read():
        continue
    check(stream, lines)


async def test_watchers_that_never_read_cost_little_and_hold_up_nobody(servers: Servers) -> None:
    """A hundred of them beside one that reads, while a job says 10 MB."""
    server = servers("serve", tasks="tests.e2e.jobs")
    server.start("speaks", lines=50)
    job_id = server.start("speaks", lines=4_000, pause=0.001, width=2_500)
    reader = Stream(server, f"/jobs/{job_id}/events")
    silent = [Stream(server, f"/jobs/{job_id}/events") for _ in range(SILENT)]
    before = server.rss()
    for stream in silent:
        await stream.open()
    most = before
    reading = asyncio.create_task(reader.read())
    while not reading.done():
        await asyncio.wait({reading}, timeout=0.1)
        most = max(most, server.rss())
    await reading
    assert (await asyncio.to_thread(server.job, job_id))["status"] == "succeeded"
    assert reader.seen[-1][2].get("status") == "succeeded"
    numbers = [document["line"] for _, kind, document in reader.seen if kind == "log"]
    assert numbers == sorted(set(numbers))
    assert most - before < 50 * MIB
    for stream in silent:
        stream.close()
