"""A start within a transaction of the user's own, as a user writes it (PostgreSQL)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from quart import Quart

from quart_app import Jobs
from quart_app.domain.errors import InvalidRequest
from quart_app.testing import wait_until
from tests.servers import PostgresServer

# asyncpg looks for its files at each connection.
pytestmark = [pytest.mark.slow, pytest.mark.blocking]


def shop(store: str, namespace: str) -> tuple[Quart, Any]:
    """An app of a user's, and its task."""
    app = Quart("shop")
    app.config |= {"QUART_APP_STORE": store, "QUART_APP_NAMESPACE": namespace}
    jobs = Jobs(app)

    @jobs.task
    async def invoice(order: int) -> str:
        return f"invoice of {order}"

    return app, invoice


@pytest.fixture
async def connection(postgres_server: PostgresServer) -> AsyncIterator[asyncpg.Connection]:
    """The user's own, to the database of the jobs, with a table."""
    made = await asyncpg.connect(postgres_server.url)
    await made.execute("CREATE TEMP TABLE orders (id int)")
    yield made
    await made.close()


async def test_a_job_begins_when_the_users_own_data_is_committed(
    postgres_server: PostgresServer, namespace: str, connection: asyncpg.Connection
) -> None:
    """And not before: until then nobody sees it."""
    app, invoice = shop(postgres_server.url, namespace)
    async with app.test_app(), app.app_context():
        client = app.test_client()
        async with connection.transaction():
            await connection.execute("INSERT INTO orders VALUES (17)")
            handle = await invoice.options(connection=connection).start(order=17)
            assert (await client.get(f"/jobs/{handle.id}")).status_code == 404
        assert await handle.result(timeout=10) == "invoice of 17"
        assert await connection.fetchval("SELECT count(*) FROM orders") == 1

        async def is_listed() -> bool:
            jobs = (await (await client.get("/jobs")).get_json())["jobs"]
            return [job["id"] for job in jobs] == [handle.id]

        await wait_until(is_listed, "lists show it")


async def test_a_job_is_gone_with_a_transaction_that_is_rolled_back(
    postgres_server: PostgresServer, namespace: str, connection: asyncpg.Connection
) -> None:
    """Neither the data nor the job."""
    app, invoice = shop(postgres_server.url, namespace)
    async with app.test_app(), app.app_context():
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO orders VALUES (18)")
        gone = await invoice.options(connection=connection).start(order=18)
        await transaction.rollback()
        kept = await invoice.start(order=19)
        assert await kept.result(timeout=10) == "invoice of 19"
        client = app.test_client()
        assert (await client.get(f"/jobs/{gone.id}")).status_code == 404
        counts = (await (await client.get("/readyz")).get_json())["jobs"]
        assert sum(counts.values()) == 1


async def test_where_jobs_are_kept_elsewhere_it_is_refused(
    connection: asyncpg.Connection, namespace: str
) -> None:
    """With what to do about it."""
    app, invoice = shop("memory", namespace)
    async with app.test_app(), app.app_context():
        with pytest.raises(InvalidRequest, match="QUART_APP_STORE=postgresql://"):
            await invoice.options(connection=connection).start(order=1)
