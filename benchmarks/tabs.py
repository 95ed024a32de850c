"""The traffic of a browser's tabs without it: what they asked is asked again, when they did.

``python -m benchmarks.tabs PORT`` takes a plan as one line of JSON, says that it is ready, and goes
on until its input ends; then it says what it was answered. Nothing may live here that measures.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import suppress
from types import TracebackType

import msgspec

from benchmarks.processes import ROOT, environment

AGAIN = 1.0
"""Seconds after which a browser opens a stream again that has ended; the server says so."""


class Asked(msgspec.Struct, frozen=True):
    """A request of a tab: so many seconds after the beginning."""

    at: float
    path: str
    headers: dict[str, str]

    def as_bytes(self) -> bytes:
        """As it goes over the wire."""
        lines = [f"GET {self.path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()


class Plan(msgspec.Struct, frozen=True):
    """What is asked, over so many connections, and how many streams of all jobs are read.

    Attributes:
        path: of the stream.
    """

    streams: int
    connections: int
    asked: list[Asked]
    path: str = "/events"


class Answered(msgspec.Struct):
    """What came back."""

    answers: int = 0
    events: int = 0
    opened: int = 0


class Replay:
    """One run, in its own process.

    Args:
        port: of the server.
        plan: what is done.
    """

    def __init__(self, port: int, plan: Plan) -> None:
        self._port = port
        self._plan = plan
        self._queue: asyncio.Queue[Asked] = asyncio.Queue()
        self.answered = Answered()

    async def run(self) -> None:
        """Until the input ends."""
        streams = [asyncio.create_task(self._stream()) for _ in range(self._plan.streams)]
        while self.answered.opened < self._plan.streams:  # noqa: ASYNC110 - of several tasks
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        askers = [asyncio.create_task(self._ask()) for _ in range(self._plan.connections)]
        feeder = asyncio.create_task(self._feed())
        await asyncio.to_thread(sys.stdin.read)
        for each in (*streams, *askers, feeder):
            each.cancel()
        await asyncio.gather(*streams, *askers, feeder, return_exceptions=True)

    async def _feed(self) -> None:
        started = time.monotonic()
        for asked in self._plan.asked:
            await asyncio.sleep(max(0.0, started + asked.at - time.monotonic()))
            self._queue.put_nowait(asked)

    async def _ask(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while True:
            writer.write((await self._queue.get()).as_bytes())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            self.answered.answers += 1

    async def _stream(self) -> None:
        while True:
            with suppress(OSError):
                await self._read_stream()
            await asyncio.sleep(AGAIN)

    async def _read_stream(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
            writer.write(Asked(0, self._plan.path, headers).as_bytes())
            await reader.readuntil(b"\r\n\r\n")
            self.answered.opened += 1
            while part := await reader.read(2**18):
                self.answered.events += part.count(b"\ndata: ")
        finally:
            writer.close()


class Tabs:
    """Such a process, as a context manager; ``answered`` is there afterwards.

    Args:
        port: of the server.
        plan: what it does.
    """

    def __init__(self, port: int, plan: Plan) -> None:
        self._port = port
        self._plan = plan
        self.answered = Answered()

    def __enter__(self) -> Tabs:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.tabs", str(self._port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), cwd=ROOT,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(self._plan) + b"\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError("no tabs")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        said, _ = self._process.communicate()
        if kind is None:
            self.answered = msgspec.json.decode(said, type=Answered)


def main(port: int) -> None:
    """The process."""
    plan = msgspec.json.decode(sys.stdin.readline(), type=Plan)
    replay = Replay(port, plan)
    asyncio.run(replay.run())
    print(msgspec.json.encode(replay.answered).decode(), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
