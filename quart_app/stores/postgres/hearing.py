"""What other processes do, heard on a connection of its own. Nothing may live here that writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from quart_app.domain.errors import StoreClosed
from quart_app.domain.jobs import Heard
from quart_app.stores.postgres.links import CALL, CLOSED, Connection, drop, part
from quart_app.stores.postgres.rows import heard_of
from quart_app.stores.postgres.verbs import sql
from quart_app.stores.postgres.wrongs import FAULTS, Health, is_lost

MOST = 1_000
"""Events of one look."""
EVERY = 1.0
"""Seconds after which it looks although nobody said that there is something."""
NEW = "new"
"""What is said of jobs that came with somebody's own transaction."""


class Hearing:
    """Those who listen.

    Args:
        make: makes a connection.
        health: told how it goes.
        namespace: the channel.
        on_new: called when jobs are there that nobody has published.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[Connection]],
        health: Health,
        namespace: str,
        on_new: Callable[[], None],
    ) -> None:
        self._make = make
        self._health = health
        self._channel = namespace
        self._on_new = on_new
        self._wakes: set[asyncio.Event] = set()
        self._connections: set[Connection] = set()
        self._closed = False

    def close(self) -> None:
        """Everybody who listens is told that it is over."""
        self._closed = True
        for wake in self._wakes:
            wake.set()

    def abandon(self) -> None:
        """The same without an event loop."""
        self._closed = True
        for connection in self._connections:
            drop(connection)

    async def listen(self, after: int | None) -> AsyncGenerator[list[Heard] | None]:
        """See `quart_app.core.ports.SharedStore.listen`."""
        wake = asyncio.Event()
        connection: Connection = None
        self._wakes.add(wake)
        try:
            self._require_open()
            connection = await self._begin(wake)
            self._connections.add(connection)
            async with contextlib.aclosing(self._tell(connection, after, wake)) as told:
                async for each in told:
                    yield each
        except FAULTS as error:
            if connection is not None and is_lost(error):
                drop(connection)
            fault = self._health.fault(error, "read")
            raise fault from (error if fault is not error else error.__cause__)
        finally:
            self._wakes.discard(wake)
            if connection is not None:
                self._connections.discard(connection)
                await part(connection)

    def _require_open(self) -> None:
        if self._closed:
            raise StoreClosed(CLOSED)

    async def _begin(self, wake: asyncio.Event) -> Connection:
        connection = await self._make()

        def said(_: Connection, pid: int, channel: str, payload: str) -> None:
            if payload == NEW:
                self._on_new()
            wake.set()

        try:
            async with asyncio.timeout(CALL):
                connection.add_termination_listener(lambda _: wake.set())
                await connection.add_listener(self._channel, said)
        except BaseException:
            drop(connection)
            raise
        return connection

    async def _tell(
        self, connection: Connection, after: int | None, wake: asyncio.Event
    ) -> AsyncGenerator[list[Heard] | None]:
        head: int = await connection.fetchval(sql("head"))
        last = head if after is None else after
        yield []
        if last > head:  # It has gone back: a backup from before was restored.
            last = head
            yield None
        while True:
            self._require_open()
            wake.clear()
            rows = await connection.fetch(sql("heard"), last, MOST)
            if last < rows[0]["kept"]:
                last = rows[0]["head"]
                yield None
                continue
            told = [row for row in rows if row["seq"] is not None]
            if told:
                last = told[-1]["seq"]
                # A large version whose job has been forgotten meanwhile cannot be told any more.
                whole = [row for row in told if row["data"] is not None]
                if whole:
                    yield [heard_of(row) for row in whole]
                if len(whole) < len(told):
                    yield None
            if len(told) < MOST:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVERY):
                        await wake.wait()
