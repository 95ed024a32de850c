"""Connections to the server: how one is made, and the few that read. Nothing may live here that
knows what is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from quart_app.domain.errors import StoreClosed
from quart_app.stores.postgres.wrongs import FAULTS, Health, is_spoilt

T = TypeVar("T")
Connection = Any
"""An `asyncpg.Connection`, which has no types."""

CLOSED = "The store is closed; start the app before it takes jobs"
CONNECT = 1.0
"""Seconds to wait for a connection."""
COMMAND = 1.5
"""Seconds to wait for an answer."""
CALL = 1.8
"""Seconds that a whole call takes at most."""
END = 0.5
"""Seconds to say goodbye."""
SETTINGS = {
    "application_name": "quart-app",
    # What a group reads after the heads are locked has to be what is committed by then.
    "default_transaction_isolation": "read committed",
    # The tables change too fast for what the planner believes about them: indexes fit all queries.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    # Whoever falls silent in the middle of a transaction must not stop all the others.
    "lock_timeout": "1000",
    "idle_in_transaction_session_timeout": "3000",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

_WORDS = """
all analyse analyze and any array as asc asymmetric authorization binary both case cast check
collate collation column concurrently constraint create cross current_catalog current_date
current_role current_schema current_time current_timestamp current_user default deferrable
desc distinct do else end except false fetch for foreign freeze from full grant group having
ilike in initially inner intersect into is isnull join lateral leading left like limit
localtime localtimestamp natural not notnull null offset on only or order outer overlaps
placing primary references returning right select session_user similar some symmetric
system_user table tablesample then to trailing true union unique user using variadic verbose
when where window with
"""
RESERVED = frozenset(_WORDS.split())
"""Words that SQL has for itself (``pg_get_keywords``, R and T): not all that writes the name of a
schema puts it into quotes."""


def quoted(namespace: str) -> str:
    """The name of a schema as SQL has it.

    Raises:
        ValueError: it is none.
    """
    name = re.fullmatch(r"(?!pg_)[a-z_][a-z0-9_]{0,50}", namespace)
    if name is None or namespace in RESERVED:
        raise ValueError(
            f"the namespace {namespace!r} cannot be a schema's name: it is small letters, digits "
            "and underscores, 51 at most, does not begin with a digit or pg_, and is no word that "
            "SQL has reserved; choose another"
        )
    return f'"{namespace}"'


async def connect(url: str, namespace: str) -> Connection:
    """A new connection, with the namespace as its search_path.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError: there is none; see `wrongs.reason`.
    """
    settings = {**SETTINGS, "search_path": quoted(namespace)}
    async with asyncio.timeout(CONNECT):
        return await asyncpg.connect(
            url, command_timeout=COMMAND, server_settings=settings, timeout=CONNECT
        )


def drop(connection: Connection) -> None:
    """End a connection at once; also where its event loop is gone."""
    transport: Any = getattr(connection, "_transport", None)
    try:
        connection.terminate()
    except RuntimeError:  # The loop has closed, and with it what would close the socket.
        inner = getattr(transport, "_ssl_protocol", None)
        transport = transport if inner is None else inner._transport
        if (sock := getattr(transport, "_sock", None)) is not None:
            sock.close()
            transport._sock = None


async def part(connection: Connection) -> None:
    """End a connection in peace where the server answers."""
    with contextlib.suppress(Exception):
        await connection.close(timeout=END)
    if not connection.is_closed():
        drop(connection)


class Links:
    """The connections that read.

    Args:
        make: makes one.
        health: told how it goes.
        most: connections at once.
    """

    def __init__(
        self, make: Callable[[], Awaitable[Connection]], health: Health, most: int = 3
    ) -> None:
        self._make = make
        self._health = health
        self._room = asyncio.Semaphore(most)
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()
        self.closed = False

    async def run(self, work: Callable[[Connection], Awaitable[T]], write: bool = False) -> T:
        """Do something that may be done twice: where a connection has died meanwhile, on another.

        Args:
            work: what to do.
            write: whether it writes.

        Raises:
            StoreUnavailable: there is no answer.
        """
        if self.closed:
            raise StoreClosed(CLOSED)
        try:
            async with asyncio.timeout(CALL), self._room:
                value = await self._try(work)
        except FAULTS as error:
            if self.closed:
                raise StoreClosed(CLOSED) from None
            fault = self._health.fault(error, "written" if write else "read")
            raise fault from (error if fault is not error else error.__cause__)
        self._health.well(write)
        return value

    async def _try(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                try:
                    return await self._on(connection, work)
                except FAULTS as error:
                    if not is_spoilt(error) or isinstance(error, TimeoutError):
                        raise
        if self.closed:
            raise StoreClosed(CLOSED)
        return await self._on(await self._make(), work)

    async def _on(self, connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T:
        self._used.add(connection)
        whole = False
        try:
            value = await work(connection)
            whole = True
        except FAULTS as error:
            whole = not is_spoilt(error)
            raise
        finally:
            self._used.discard(connection)
            if whole and not self.closed and not connection.is_closed():
                self._idle.append(connection)
            else:  # What was given up in the middle may still be under way.
                drop(connection)
        return value

    async def close(self) -> None:
        """Take nothing any more, and end."""
        self.closed = True
        idle, self._idle = self._idle, []
        for connection in list(self._used):
            drop(connection)
        await asyncio.gather(*(part(connection) for connection in idle))

    def abandon(self) -> None:
        """The same without an event loop."""
        self.closed = True
        for connection in [*self._idle, *self._used]:
            drop(connection)
        self._idle.clear()
