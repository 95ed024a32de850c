"""One connection to the server: what is asked while an answer is awaited goes together in the next
round trip. So a caller alone waits for one, and a hundred callers share one.

Nothing may live here that knows what is asked. Nothing is sent twice: redis-py's retries are off.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MovedError, NoScriptError, RedisError, ResponseError

from quart_app.domain.errors import StoreClosed, StoreUnavailable
from quart_app.stores.redis.address import Address
from quart_app.stores.redis.health import NOT_DONE, UNKNOWN, Health, before_any, meaning, said
from quart_app.stores.redis.rows import Raw, answers_of
from quart_app.stores.redis.script import SCRIPT, SHA

ANSWER = 1.5
"""Seconds for an answer."""
WHOLE = 1.75
"""Seconds to connect and for an answer."""
PER_JOB = 0.0002
"""Seconds more for each job of a great many that are added at once."""
BATCH = 200
"""What is asked in one round trip, at most: the server does nothing else meanwhile."""
BYTES = 4 * 2**20
"""Bytes of one round trip; a larger thing goes alone."""
ELSEWHERE = re.compile(r"\b(READONLY|NOREPLICAS)\b")
"""What a server says that is the primary no more, or soon will not be."""
CLOSED = "The store is closed; start the app before it takes jobs"


class Asked:
    """Something that is asked, and who waits for the answer."""

    __slots__ = ("future", "verb", "weight")

    def __init__(self, verb: bytes, weight: int, future: asyncio.Future[Raw]) -> None:
        self.verb = verb
        self.weight = weight
        self.future = future

    def fail(self, error: Exception) -> None:
        """Tell whoever waits, if anybody still does."""
        if not self.future.done():
            self.future.set_exception(error)


class Line:
    """Asks the script.

    Args:
        address: of the server.
        key: one that the script derives all others from.
        health: told of what goes wrong.
        writes: whether what is asked may write: then an answer that is lost leaves that unknown.
        on_commit: told of the seconds of each round trip that wrote.
        on_connect: called when there is a new connection, perhaps to another server.
    """

    def __init__(
        self,
        address: Address,
        key: str,
        health: Health,
        writes: bool,
        on_commit: Callable[[float], object],
        on_connect: Callable[[], object] = lambda: None,
    ) -> None:
        self._address = address
        self._key = key
        self._health = health
        self._writes = writes
        self._on_commit = on_commit
        self._on_connect = on_connect
        self._waiting: deque[Asked] = deque()
        self._connection: AbstractConnection | None = None
        self._pump: asyncio.Task[None] | None = None
        self._sent = False
        self._closed = False

    def ask(self, verb: bytes, weight: int = 1) -> asyncio.Future[Raw]:
        """Ask for something.

        Args:
            verb: MessagePack of the verb's name and arguments.
            weight: how many jobs it is about.

        Raises:
            StoreUnavailable: in the future; the sentence says whether that is unknown.
        """
        if self._closed:
            raise StoreClosed(CLOSED)
        loop = asyncio.get_running_loop()
        asked = Asked(verb, weight, loop.create_future())
        self._waiting.append(asked)
        if self._pump is None:
            self._pump = loop.create_task(self._run())
        return asked.future

    async def _run(self) -> None:
        batch: list[Asked] = []
        try:
            while self._waiting:
                batch = self._next()
                await self._answer(batch)
        except asyncio.CancelledError:
            for asked in (*batch, *self._waiting):
                asked.fail(StoreClosed(f"The store was closed; {UNKNOWN}"))
            self._waiting.clear()
            raise
        finally:
            self._pump = None

    def _next(self) -> list[Asked]:
        batch: list[Asked] = []
        size = 0
        while self._waiting and len(batch) < BATCH:
            size += len(self._waiting[0].verb)
            if batch and size > BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _answer(self, batch: list[Asked]) -> None:
        """Ask for a batch and tell those who wait."""
        began = time.perf_counter()
        try:
            answers, wrong = answers_of(await self._exchange(batch))
        except Exception as error:  # noqa: BLE001 - nobody is to wait for ever
            # Of Redis, the network, an answer that is none; and asyncio's own: on Python 3.13.0
            # writing to a connection that has just been cut is an AttributeError.
            await self._lost(batch, error)
            return
        if self._writes:
            self._on_commit(time.perf_counter() - began)
        for asked, answer in zip(batch, answers, strict=True):
            if not wrong and not asked.future.done():
                asked.future.set_result(answer)
        self._health.well(self._writes and not wrong)
        if wrong:
            await self._refused(batch, answers, wrong)

    async def _exchange(self, batch: list[Asked]) -> bytes:
        """One round trip; once more where the server says that it did nothing."""
        head = struct.pack(">BH", 0xDC, len(batch))
        message = b"".join((head, *[asked.verb for asked in batch]))
        more = PER_JOB * sum(asked.weight for asked in batch if asked.weight > BATCH)
        self._sent = False
        async with asyncio.timeout(WHOLE + more):
            for _ in range(3):
                try:
                    connection = await self._connected()
                    self._sent = True
                    async with asyncio.timeout(ANSWER + more):
                        command = connection.pack_command("EVALSHA", SHA, 1, self._key, message)
                        await connection.send_packed_command(command, check_health=False)
                        answer: bytes = await connection.read_response(disable_decoding=True)
                        return answer
                except NoScriptError:
                    await self._load(connection)
                except MovedError as error:
                    self._address.moved(error)
                    await self._disconnect()
                self._sent = False
        raise ResponseError("the cluster sends us from node to node")

    async def _connected(self) -> AbstractConnection:
        if (connection := self._connection) is not None:
            if not ended(connection):
                return connection
            await self._disconnect()  # It was ended while nobody looked.
        self._connection = connection = await self._address.connect()
        self._on_connect()
        await self._load(connection)
        return connection

    async def _load(self, connection: AbstractConnection) -> None:
        await connection.send_command("SCRIPT", "LOAD", SCRIPT)
        await connection.read_response()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

    async def _lost(self, batch: list[Asked], error: Exception) -> None:
        """There is no answer, also for those who came meanwhile: each would wait as long again."""
        answered = isinstance(error, ResponseError)
        unknown = self._writes and self._sent and not answered
        await self._disconnect()
        sentence = self._health.lost = self._health.sentence(meaning(error))
        rest, self._waiting = self._waiting, deque()
        for asked in batch:
            message = f"{sentence}; {UNKNOWN if unknown else NOT_DONE}"
            asked.fail(StoreUnavailable(message, retry_after=1.0))
        for asked in rest:
            asked.fail(StoreUnavailable(f"{sentence}; {NOT_DONE}", retry_after=1.0))

    async def _refused(
        self, batch: list[Asked], answers: list[Raw], wrong: list[tuple[int, str]]
    ) -> None:
        """Some of a batch were refused by the server while it did the others."""
        reasons = dict(wrong)
        for at, (asked, answer) in enumerate(zip(batch, answers, strict=True), 1):
            if (reason := reasons.get(at)) is None:
                if not asked.future.done():
                    asked.future.set_result(answer)
                continue
            sentence = self._health.sentence(said(reason) or f"refuses: {reason}")
            if self._writes:
                self._health.refused = sentence
            unknown = self._writes and not before_any(reason)
            message = f"{sentence}; {UNKNOWN if unknown else NOT_DONE}"
            asked.fail(StoreUnavailable(message, retry_after=1.0))
        if any(ELSEWHERE.search(reason) for reason in reasons.values()):
            await self._disconnect()  # Its name may lead to the new primary.

    async def close(self) -> None:
        """Take nothing any more, wait for what was asked, and let go."""
        self._closed = True
        if self._pump is not None:
            pump = self._pump
            _, late = await asyncio.wait({pump}, timeout=WHOLE)
            if late:
                pump.cancel()
                await asyncio.wait({pump})
        await self._disconnect()

    def drop(self) -> None:
        """The same without an event loop."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            drop(connection)


def ended(connection: AbstractConnection) -> bool:
    """Whether the other side has ended a connection while nobody looked."""
    reader, writer = connection._reader, connection._writer
    return reader is None or reader.at_eof() or writer is None or writer.is_closing()


def drop(connection: AbstractConnection) -> None:
    """End a connection whose event loop has gone: no call of the loop's works any more."""
    writer, connection._writer, connection._reader = connection._writer, None, None
    if writer is None:
        return
    transport: Any = writer.transport
    with contextlib.suppress(RuntimeError):
        transport.abort()
    if (sock := getattr(transport, "_sock", None)) is not None:
        sock.close()
        transport._sock = None
