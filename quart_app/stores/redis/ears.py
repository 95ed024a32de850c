"""Listening to what changes: a connection waits for news, the script tells what they are.

So a great many events cost one answer, and one that waits costs nobody anything. Only listening may
live here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MovedError, RedisError

from quart_app.domain.errors import StoreClosed, StoreUnavailable
from quart_app.domain.jobs import Heard, JobEvent
from quart_app.stores.redis.address import Address
from quart_app.stores.redis.health import Health, meaning
from quart_app.stores.redis.line import CLOSED, drop
from quart_app.stores.redis.rows import Raw, heard_of, number_of

BLOCK = 1.0
"""Seconds that the server waits for news; after them a network that fell silent is seen."""
MARGIN = 1.5
"""Seconds more until it is taken to be gone."""
EVENTS = 1_000
"""Events of one answer."""
BYTES = 4 * 2**20
"""Bytes of one answer, about."""

Read = Callable[..., Awaitable[Raw]]


class Ears:
    """All that listen to one store.

    Args:
        address: of the server.
        stream: the key of the events.
        health: its name of the server is told.
        read: asks the script.
        remember: told of each job that is heard of.
    """

    def __init__(
        self,
        address: Address,
        stream: str,
        health: Health,
        read: Read,
        remember: Callable[[Any], object],
    ) -> None:
        self._address = address
        self._stream = stream
        self._health = health
        self._read = read
        self._remember = remember
        self._open: set[AbstractConnection] = set()
        self._closed = False

    async def listen(self, after: int | None) -> AsyncGenerator[list[Heard] | None]:
        """As `quart_app.core.ports.SharedStore.listen`."""
        last = number_of(await self._read("position")) if after is None else after
        connection = await self._connect()
        try:
            yield []
            while True:
                missed, last, told = heard_of(await self._read("heard", last, EVENTS, BYTES))
                if missed:
                    yield None
                if told:
                    heard = [each.heard() for each in told]
                    for each in heard:
                        if isinstance(each, JobEvent):
                            self._remember(each.job)
                    yield heard
                elif not missed:
                    await self._news(connection, last)
        finally:
            self._open.discard(connection)
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

    async def _connect(self) -> AbstractConnection:
        try:
            connection = await self._address.connect()
        except (RedisError, OSError) as error:
            raise self._lost(error) from error
        self._open.add(connection)
        if self._closed:
            await self.close()
        return connection

    async def _news(self, connection: AbstractConnection, last: int) -> None:
        """Wait until there is something after this seq, or a while."""
        if self._closed:
            raise StoreClosed(CLOSED)
        block = ("XREAD", "BLOCK", int(BLOCK * 1000), "COUNT", 1)
        try:
            async with asyncio.timeout(BLOCK + MARGIN):
                await connection.send_command(*block, "STREAMS", self._stream, f"{last}-0")
                await connection.read_response(disable_decoding=True)
        except MovedError as error:
            self._address.moved(error)
            raise self._lost(error) from error
        except (RedisError, OSError) as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> StoreUnavailable:
        if self._closed:
            return StoreClosed(CLOSED)
        sentence = self._health.sentence(meaning(error))
        return StoreUnavailable(f"{sentence}; listen again", retry_after=1.0)

    async def close(self) -> None:
        """End what listens."""
        self._closed = True
        for connection in list(self._open):
            await connection.disconnect(nowait=True)

    def drop(self) -> None:
        """The same without an event loop."""
        self._closed = True
        for connection in self._open:
            drop(connection)
