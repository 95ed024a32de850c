"""The engine on PostgreSQL keeps the rules of every engine and of every broker; jobs may be given
to it in the user's own transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from quart_app.checks.engine import Ran
from quart_app.engines.pgqueuer import PgqueuerEngine
from quart_app.testing import wait_until
from tests.engines.brokers import (
    ROOMS,
    Kind,
    OfABrokerThatDies,
    OfEveryBroker,
    connecting_may_block,
    engine_of,
)
from tests.servers import PostgresServer, Server


class Pgqueuer:
    """What is particular about it."""

    name = "pgqueuer"
    refusal = "read-only transaction"

    async def refuse(self, server: Server, refuses: bool) -> None:
        """Every transaction only reads unless it says otherwise."""
        connection = await asyncpg.connect(server.url)
        try:
            value = "on" if refuses else "off"
            await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()

    def start(self) -> PostgresServer:
        """A PostgreSQL of a test's own."""
        return PostgresServer()

    async def left(self, url: str, namespace: str) -> int:
        """The rows of its queue; its log stays empty in any case."""
        connection, count = await asyncpg.connect(url), "SELECT count(*) FROM {}"
        try:
            for table in ("pgqueuer_log", "pgqueuer_statistics"):
                assert await connection.fetchval(count.format(f"{namespace}.{table}")) == 0
            rows: int = await connection.fetchval(count.format(f"{namespace}.pgqueuer"))
            return rows
        finally:
            await connection.close()


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop() -> Iterator[None]:
    """As everywhere, but for connecting."""
    with connecting_may_block():
        yield


@pytest.fixture
def kind() -> Kind:
    """The broker of this file."""
    return Pgqueuer()


@pytest.mark.slow
class TestPgqueuer(OfEveryBroker):
    """As every broker."""

    @pytest.fixture
    def url(self, postgres_server: PostgresServer) -> str:
        """That of the run's PostgreSQL."""
        return postgres_server.url


@pytest.mark.slow
class TestPgqueuerThatDies(OfABrokerThatDies):
    """As every broker."""


@pytest.mark.slow
async def test_a_job_is_submitted_in_the_users_own_transaction(
    postgres_server: PostgresServer, namespace: str
) -> None:
    """It is delivered when that is committed, and never where it is rolled back."""
    ran = Ran()
    ran.gate.set()
    async with engine_of("pgqueuer", postgres_server.url, namespace) as engine:
        assert isinstance(engine, PgqueuerEngine)
        await engine.prepare()
        await engine.work(ran.run)
        connection = await asyncpg.connect(
            postgres_server.url, server_settings={"search_path": "pg_catalog"}
        )
        try:
            transaction = connection.transaction()
            await transaction.start()
            await engine.enqueue_within(connection, [("never", "loop")])
            await transaction.rollback()
            async with connection.transaction():
                await engine.enqueue_within(
                    connection, [("a", "loop"), ("b", "thread"), ("a", "loop")]
                )
                await engine.enqueue_within(connection, [("a", "loop")])
                assert ran.ids == []
            await ran.until(2)
        finally:
            await connection.close()
        await engine.close()
        await engine.idle()
    assert sorted(ran.ids) == ["a", "b"]


@pytest.mark.slow
async def test_many_processes_make_the_tables_at_once(
    postgres_server: PostgresServer, namespace: str
) -> None:
    """One does, the others wait for it; and it is done again without harm."""
    engines = [PgqueuerEngine(postgres_server.url, ROOMS, namespace=namespace) for _ in range(8)]
    await asyncio.gather(*(engine.prepare() for engine in engines))
    assert await Pgqueuer().left(postgres_server.url, namespace) == 0


@pytest.mark.slow
async def test_the_tables_of_two_namespaces_know_nothing_of_each_other(
    postgres_server: PostgresServer, namespace: str
) -> None:
    """In one database: neither jobs nor what wakes the workers."""
    ran, other = Ran(), Ran()
    async with (
        engine_of("pgqueuer", postgres_server.url, namespace) as one,
        engine_of("pgqueuer", postgres_server.url, f"{namespace}x") as two,
    ):
        await two.work(other.run)
        await one.submit("a", "loop")
        await one.work(ran.run)
        await ran.until(1)
        assert other.ids == []
        ran.gate.set()


@pytest.mark.slow
async def test_a_lost_connection_is_replaced(
    postgres_server: PostgresServer, namespace: str
) -> None:
    """Whoever ends it, the server goes on: the next submit and the next job do not notice."""
    ran = Ran()
    ran.gate.set()
    async with engine_of("pgqueuer", postgres_server.url, namespace, worker=namespace) as engine:
        await engine.work(ran.run)
        await engine.submit("a", "loop")
        await ran.until(1)
        connection = await asyncpg.connect(postgres_server.url)
        try:
            ended = await connection.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = $1",
                f"quart-app {namespace}",
            )
        finally:
            await connection.close()
        assert len(ended) == 2
        await engine.submit("b", "loop")
        await wait_until(lambda: "b" in ran.ids, "it is delivered", timeout=5)


def test_a_namespace_is_the_name_of_a_schema() -> None:
    """It goes into statements as it is."""
    with pytest.raises(ValueError, match="db_schema"):
        PgqueuerEngine("postgresql://x", ROOMS, namespace="a; DROP TABLE b")
