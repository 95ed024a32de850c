"""The schema: made where it is not there, and refused where it is not ours or too new.

Every refusal says what was found and what to do next. Nothing may live here that a running service
calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from quart_app.domain.errors import StoreRefused, why_unreadable
from quart_app.stores.postgres.links import Connection, drop, part, quoted
from quart_app.stores.postgres.verbs import sql
from quart_app.stores.postgres.wrongs import FAULTS, place_of, reason

T = TypeVar("T")

VERSIONS: tuple[tuple[str, ...], ...] = (
    (
        "0001_jobs",
        "slot",
        "keep_new",
        "start_each",
        "start_all",
        "start_within",
        "swap_all",
        "grow",
        "log_each",
        "step_each",
        "write_group",
        "publish_new",
        "prune_ended",
    ),
)
"""The files of each version of the schema, in order. Add, never change."""
OLDEST = 130_000
"""PostgreSQL 13."""
ENCODINGS = frozenset({"UTF8", "SQL_ASCII"})
PATIENCE = 20.0
"""Seconds to wait for another process that makes the schema."""


async def prepare(make: Callable[[], Awaitable[Connection]], url: str, namespace: str) -> None:
    """Bring the schema up to date.

    Raises:
        StoreRefused: it cannot be used, and why.
    """
    place = place_of(url)
    connection: Connection = None
    try:
        connection = await make()
        await _look(connection, place)
        async with asyncio.timeout(PATIENCE):
            await _migrate(connection, place, namespace)
    except asyncpg.InsufficientPrivilegeError as error:
        raise StoreRefused(
            f"{place} does not let this user make the schema {namespace!r} ({error}): let its "
            f"administrator say CREATE SCHEMA {namespace} AUTHORIZATION with the user's name, or "
            "GRANT CREATE ON DATABASE to it"
        ) from error
    except (*FAULTS, ValueError) as error:
        why = reason(error) or why_unreadable(url, error)
        # One of the URL may have a part of the password.
        cause = None if isinstance(error, ValueError) else error
        raise StoreRefused(f"{place} cannot be opened: {why}") from cause
    finally:
        if connection is not None:
            if connection.is_in_transaction():
                drop(connection)
            else:
                await part(connection)


async def _look(connection: Connection, place: str) -> None:
    """Whether this server can do what we need."""
    number = int(await connection.fetchval("SHOW server_version_num"))
    if number < OLDEST:
        raise StoreRefused(
            f"{place} is PostgreSQL {number // 10_000}, which is too old: use 13 or newer"
        )
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding not in ENCODINGS:
        raise StoreRefused(
            f"{place} has the encoding {encoding}, which cannot keep every text: create a database "
            "with ENCODING 'UTF8'"
        )
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        raise StoreRefused(f"{place} is a standby, which only reads: name the primary server")


async def _migrate(connection: Connection, place: str, namespace: str) -> None:
    lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
    # Another process may need its time; a lock of a row is waited for less long.
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = 0")
        await connection.fetchval(lock, f"quart-app schema {namespace}", timeout=PATIENCE)
        version = await _version(connection, place, namespace)
        if version > len(VERSIONS):
            raise StoreRefused(
                f"{place} has version {version} of the schema {namespace!r}, and this version of "
                f"quart-app knows {len(VERSIONS)}: start the newer quart-app, or restore a backup"
            )
        if version == len(VERSIONS):
            return
        if version == 0 and not await _exists(connection, namespace):
            await connection.execute(f"CREATE SCHEMA {quoted(namespace)}")
        for files in VERSIONS[version:]:
            for file in files:
                await connection.execute(sql(file), timeout=PATIENCE)
        await connection.execute(sql("keep_version"), len(VERSIONS))


async def _exists(connection: Connection, namespace: str) -> bool:
    asked = "SELECT count(*) FROM pg_namespace WHERE nspname = $1"
    return bool(await connection.fetchval(asked, namespace))


async def _version(connection: Connection, place: str, namespace: str) -> int:
    """The version of the schema; 0 where there is nothing yet."""
    tables: list[str] = [row["relname"] for row in await connection.fetch(sql("tables"), namespace)]
    if not tables:
        return 0
    if "version" not in tables or "heads" not in tables:
        raise StoreRefused(
            f"{place} has a schema {namespace!r} of another program (with a table {tables[0]!r}): "
            "choose another namespace"
        )
    number = await connection.fetchval("SELECT number FROM version")
    if number is None:
        raise StoreRefused(f"{place}: the schema {namespace!r} is damaged: restore a backup")
    return int(number)
