"""The tables of pgqueuer, in a schema of their own. Only making and filling them may live here."""

from __future__ import annotations

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import DBSettings, QueryBuilderEnvironment, QueryQueueBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.adapters.persistence.schema_ddl import spelled
from pgqueuer.domain.schema.queue import dedupe_predicate
from pgqueuer.domain.settings import Durability
from pgqueuer.domain.types import Channel

INSTALL_TIME = 30.0
"""Seconds that one statement of the installation may take; it waits for other processes' ones."""
LOCK = 0x71756172745F6170
"""Whoever installs holds this advisory lock."""


def settings_of(namespace: str) -> DBSettings:
    """Names of pgqueuer's objects; nothing of them is taken from the environment."""
    return DBSettings(
        db_schema=namespace,
        prefix="",
        channel=Channel(f"{namespace.lower()}.jobs"),
        function="fn_pgqueuer_changed",
        statistics_table="pgqueuer_statistics",
        queue_status_type="pgqueuer_status",
        queue_table="pgqueuer",
        queue_table_log="pgqueuer_log",
        trigger="tg_pgqueuer_changed",
        schedules_table="pgqueuer_schedules",
        durability=Durability.balanced,  # The queue itself is durable.
        widen_id=False,
    )


def queries_of(driver: AsyncpgDriver, settings: DBSettings) -> Queries:
    """Pgqueuer's statements for these names."""
    return Queries(driver, QueryBuilderEnvironment(settings), QueryQueueBuilder(settings))


def insert_of(settings: DBSettings) -> str:
    """The statement that puts ids (first argument) into lanes (second), each once.

    Pgqueuer's own one takes JSON, which means something else on a connection with a codec for it.
    """
    names = settings.qualified
    return f"""
        INSERT INTO {names.queue_table} (priority, entrypoint, dedupe_key, payload, status)
        SELECT 0, lane, id, convert_to(id, 'UTF8'), 'queued'::{names.queue_status_type}
        FROM unnest($1::text[], $2::text[]) AS given (id, lane)
        ON CONFLICT (dedupe_key) WHERE {spelled(dedupe_predicate(settings), settings)} DO NOTHING
    """  # noqa: S608 - names only, which the settings have checked.


async def install(connection: asyncpg.Connection, settings: DBSettings) -> None:
    """Make the tables, or upgrade those of an older pgqueuer. Any number of processes may at once.

    Pgqueuer writes down what becomes of each row and never deletes that, and no setting turns it
    off. The store knows it all, so a trigger keeps that table empty.
    """
    queries = queries_of(AsyncpgDriver(connection), settings)
    schema, log = settings.db_schema, settings.queue_table_log
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
    try:
        if await queries.schema_is_installed():
            await queries.upgrade()
        else:
            async with connection.transaction():
                there = await connection.fetchval("SELECT to_regnamespace($1)", schema)
                await queries.install(create_schema=there is None)
        if await connection.fetchval("SELECT to_regproc($1)", f"{schema}.keep_empty") is None:
            await connection.execute(
                f"""
                CREATE FUNCTION {schema}.keep_empty() RETURNS trigger LANGUAGE plpgsql
                AS 'BEGIN RETURN NULL; END';
                CREATE TRIGGER keep_empty BEFORE INSERT ON {schema}.{log}
                FOR EACH ROW EXECUTE FUNCTION {schema}.keep_empty();
                """
            )
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)
