"""The engine on Redis keeps the rules of every engine and of every broker, and leaves it tidy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from docket._redis import RedisConnection
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisGone

from quart_app.checks.engine import Ran
from quart_app.engines.docket import _FewAtOnce, _FewConnections
from tests.engines.brokers import (
    Kind,
    OfABrokerThatDies,
    OfEveryBroker,
    connecting_may_block,
    engine_of,
)
from tests.servers import RedisServer
from tests.topologies import Cluster, Sentinels


class Docket:
    """What is particular about it."""

    name = "docket"

    def start(self) -> RedisServer:
        """A Redis of a test's own."""
        return RedisServer()

    async def left(self, url: str, namespace: str) -> int:
        """What waits or is taken in each lane."""
        count = 0
        async with RedisConnection(url) as connection, connection.client() as redis:
            for lane in ("loop", "thread", "process"):
                prefix = connection.prefix(f"{namespace}:{lane}")
                count += await redis.xlen(f"{prefix}:stream")
                count += await redis.zcard(f"{prefix}:queue")
        return count


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop() -> Iterator[None]:
    """As everywhere, but for connecting."""
    with connecting_may_block():
        yield


@pytest.fixture
def kind() -> Kind:
    """The broker of this file."""
    return Docket()


@pytest.mark.slow
class TestDocket(OfEveryBroker):
    """As every broker."""

    @pytest.fixture
    def url(self, redis_server: RedisServer) -> str:
        """That of the run's Redis."""
        return redis_server.url


@pytest.mark.slow
class TestDocketBySentinels(OfEveryBroker):
    """On the master that Sentinels name."""

    @pytest.fixture
    def url(self, sentinels: Sentinels) -> str:
        """As operators give it."""
        return sentinels.url


@pytest.mark.slow
class TestDocketInACluster(OfEveryBroker):
    """Each lane is where its name puts it."""

    @pytest.fixture
    def url(self, cluster: Cluster) -> str:
        """That of one node."""
        return cluster.url

    async def test_a_client_that_cannot_begin_leaves_no_connection(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may have reached some nodes before the one that does not answer."""

        async def begin(client: _FewAtOnce) -> None:
            await RedisCluster.initialize(client)
            raise RedisGone("another node does not answer")

        monkeypatch.setattr(_FewAtOnce, "initialize", begin)
        with pytest.raises(RedisGone):
            await _FewConnections(cluster.url)._create_cluster_client()

    async def test_who_listens_and_is_canceled_at_the_end_leaves_no_connection(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As at a shutdown whose time is over."""

        async def canceled(pubsub: PubSub) -> None:
            raise asyncio.CancelledError

        monkeypatch.setattr(PubSub, "aclose", canceled)
        async with _FewConnections(cluster.url) as connection:
            with pytest.raises(asyncio.CancelledError):
                async with connection._cluster_pubsub() as pubsub:
                    await pubsub.subscribe("a")


@pytest.mark.slow
class TestDocketThatDies(OfABrokerThatDies):
    """As every broker."""


@pytest.mark.slow
async def test_redis_keeps_nothing_of_what_is_done(
    redis_server: RedisServer, namespace: str
) -> None:
    """Neither of a job, nor of workers that are long gone."""
    ran = Ran()
    ran.gate.set()
    async with Redis.from_url(redis_server.url) as redis:
        for _ in range(2):
            async with engine_of("docket", redis_server.url, namespace) as engine:
                await engine.work(ran.run)
                ids = [str(number) for number in range(len(ran.ids), len(ran.ids) + 20)]
                await asyncio.gather(*(engine.submit(each, "loop") for each in ids))
                await ran.until(len(ran.ids) + 20)
                await engine.close()
                await engine.idle()
        keys = sorted([key async for key in redis.scan_iter(f"{namespace}:*")])
        streams = [f"{namespace}:{lane}:stream".encode() for lane in ("loop", "process", "thread")]
        leases = b":leases:"
        assert [key for key in keys if leases not in key] == streams


@pytest.mark.slow
async def test_workers_that_are_long_gone_are_forgotten(
    redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those that left a job behind."""
    monkeypatch.setattr("quart_app.engines.docket.FORGOTTEN", 0.0)
    ran = Ran()
    ran.gate.set()
    async with Redis.from_url(redis_server.url) as redis:
        stream = f"{namespace}:loop:stream"
        await redis.xgroup_create(stream, "docket-workers", id="0", mkstream=True)
        for name in ("gone", "killed"):
            await redis.xgroup_createconsumer(stream, "docket-workers", name)
        await redis.xadd(stream, {"key": "x"})
        await redis.xreadgroup("docket-workers", "killed", {stream: ">"})
        await asyncio.sleep(0.01)
        async with engine_of("docket", redis_server.url, namespace, worker="me") as engine:
            await engine.work(ran.run)
            await engine.submit("a", "loop")
            await ran.until(1)
        names = {each["name"] for each in await redis.xinfo_consumers(stream, "docket-workers")}
        assert names == {b"killed", b"me:loop"}


def test_what_others_set_for_dockets_log_stays(redis_server: RedisServer, namespace: str) -> None:
    """Only where nobody has said anything it is kept quiet."""
    from quart_app.engines.docket import DocketEngine

    logger = logging.getLogger("docket")
    before = logger.level
    try:
        for level, then in ((logging.NOTSET, logging.WARNING), (logging.DEBUG, logging.DEBUG)):
            logger.setLevel(level)
            DocketEngine(redis_server.url, {}, namespace=namespace)
            assert logger.level == then
    finally:
        logger.setLevel(before)
