"""Against real servers: threads, restarts, and connections that are cut while a job goes on."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import threading
from typing import Any

import httpx2
import pytest

from quart_app.client import AsyncClient, Client, JobDocument, LogLine, NoSuchJob
from quart_app.client.flows import Effect, Sleep
from quart_app.client.streams import Follower
from quart_app.client.wires import Wire
from tests.e2e.conftest import COMMANDS, Durable, Server, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MIB = 2**20


class Cut(httpx2.SyncByteStream):
    """A body that breaks after so many bytes."""

    def __init__(self, stream: Any, most: int) -> None:
        self._stream = stream
        self._most = most

    def __iter__(self) -> Any:
        left = self._most
        for part in self._stream:
            if len(part) >= left:
                yield part[:left]
                raise httpx2.ReadError("cut")
            left -= len(part)
            yield part

    def close(self) -> None:
        self._stream.close()


class Cutting(httpx2.HTTPTransport):
    """A network that cuts the first so many streams, each after a random number of bytes."""

    def __init__(self, times: int, most: int) -> None:
        super().__init__()
        self._chance = random.Random(7)  # noqa: S311 - the same cuts each time
        self.left = times
        self._most = most

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if self.left and request.url.path.endswith("/events"):
            self.left -= 1
            most = self._chance.randrange(1, self._most)
            response.stream = Cut(response.stream, most)
        return response


class Hasty(Wire):
    """Does not wait before it comes back."""

    def do(self, effect: Effect) -> Any:
        return None if isinstance(effect, Sleep) else super().do(effect)


def check(news: list[Any], lines: int) -> None:
    """Every line once and in order, statuses forward, one end."""
    told = [each.line for each in news if isinstance(each, LogLine)]
    assert told == list(range(1, lines + 1))
    statuses = [each.status for each in news if isinstance(each, JobDocument)]
    order = ["queued", "running", "succeeded"]
    places = [order.index(each) for each in statuses]
    assert places == sorted(places)
    assert statuses.count("succeeded") == 1
    assert news[-1].over


def test_a_stream_that_is_cut_a_hundred_times_has_no_gap_and_no_repeat(servers: Servers) -> None:
    """At random bytes, while the job speaks."""
    server = servers(tasks="tests.e2e.jobs", log_lines=10_000, log_bytes=10 * MIB)
    network = Cutting(100, 4_000)
    with Client(server.url, transport=network) as client:
        handle = client.start("speaks", lines=2_000, pause=0.001, width=20)
        flow = Follower(handle.id, client._link.pace).flow()
        news = list(Hasty(client._link.http, client._link.base).each(flow))
    check(news, 2_000)
    assert network.left == 0


def test_threads_share_a_client(servers: Servers) -> None:
    """Each gets its own results."""
    server = servers(tasks="tests.e2e.jobs")
    results: list[tuple[int, Any]] = []

    def use(client: Client, number: int) -> None:
        handle = client.start("speaks", lines=number)
        results.append((number, handle.result(timeout=30)))
        results.append((number, len(list(handle.log()))))

    with Client(server.url) as client:
        threads = [threading.Thread(target=use, args=(client, n)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert client.count(task="speaks", status="succeeded").total == 20
    assert len(results) == 40
    assert all(number == result for number, result in results)


def again(durable: Durable, server: Server, **settings: Any) -> Server:
    """Kill a server, and start the next on its port and file."""
    port = server.port
    server.signal_group(signal.SIGKILL)
    server.wait(10)
    command = [part.replace("127.0.0.1:0", f"127.0.0.1:{port}") for part in COMMANDS["serve"]]
    return durable._servers.launch(command, **durable.settings(**settings)).wait_listening()


async def test_a_handle_outlives_the_server(durable: Durable, tmp_path: Any) -> None:
    """A wait, a stream and a start go on over a kill -9 and a restart, and nothing is told twice
    or started twice."""
    server = durable()
    gate = tmp_path / "gate"
    traces = str(durable.traces)
    async with AsyncClient(server.url) as client:
        handle = await client.start("thrice", traces=traces, number=7, gate=str(gate))
        waiting = asyncio.create_task(handle.result(timeout=60))
        seen: list[Any] = []

        async def watch() -> None:
            async for each in handle.events():
                seen.append(each)
                running.set()

        running = asyncio.Event()
        watching = asyncio.create_task(watch())
        async with asyncio.timeout(20):
            await running.wait()
        await asyncio.to_thread(durable.traces.wait, "before", handle.id)
        server = await asyncio.to_thread(again, durable, server)
        other = await client.start("once", traces=traces, number=8)
        gate.touch()
        assert await waiting == 7
        assert await other.result(timeout=30) == 8
        async with asyncio.timeout(30):
            await watching
    documents = [each for each in seen if isinstance(each, JobDocument)]
    assert documents[-1].status == "succeeded"
    assert [each.over for each in documents].count(True) == 1
    # Versions differ from each other: none was told twice.
    assert all(a != b for a, b in itertools.pairwise(documents))
    assert durable.traces.count("after", handle.id) == 1
    assert durable.traces.count("before", other.id) == 1


def test_starts_while_the_server_is_killed_are_each_one_job(durable: Durable) -> None:
    """From several threads, with a kill -9 in the middle."""
    server = durable()
    traces = str(durable.traces)
    ids: list[str] = []

    def start(client: Client, numbers: range) -> None:
        for number in numbers:
            ids.append(client.start("once", traces=traces, number=number).id)  # noqa: PERF401

    with Client(server.url) as client:
        threads = [
            threading.Thread(target=start, args=(client, range(n * 100, n * 100 + 100)))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        while len(ids) < 100:
            threads[0].join(0.005)
        again(durable, server)
        for thread in threads:
            thread.join(120)
        kept = [each.id for each in client.jobs()]
        assert len(ids) == len(set(ids)) == 400
        assert sorted(kept) == sorted(ids)


async def test_the_stream_of_all_jobs_tells_each_end(servers: Servers) -> None:
    """And the service may be asked while it is followed."""
    server = servers(tasks="tests.e2e.jobs")
    async with AsyncClient(server.url) as client:
        events = client.events()
        first = asyncio.ensure_future(anext(events))
        async with asyncio.timeout(30):
            while not (await client.stats()).watchers:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.01)
        handles = await client.start_many("noop", [{}] * 20)
        left = {each.id for each in handles}
        async with asyncio.timeout(30):
            job = await first
            while True:
                left -= {job.id} if job.over else set()
                if not left:
                    break
                job = await anext(events)
        await events.aclose()
        with pytest.raises(NoSuchJob):
            await client.job("none").status()


def test_a_bar_follows_a_job(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    """To its end."""
    server = servers(tasks="tests.e2e.jobs")
    with Client(server.url) as client:
        assert client.start("nap", seconds=0.2).bar() == "succeeded"
    assert "nap [####################] succeeded" in capsys.readouterr().err
