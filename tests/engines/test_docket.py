"""The engine on Redis keeps the rules of every engine and of every broker, and leaves it tidy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any, cast

import pytest
from docket._redis import RedisConnection
from docket.strikelist import Operator, Strike
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisGone

from quart_app.checks.engine import Ran
from quart_app.domain.tasks import LANES
from quart_app.engines.docket import DocketEngine
from quart_app.engines.docket_connections import FewAtOnce, FewConnections
from tests.engines.brokers import (
    Kind,
    OfABrokerThatDies,
    OfEveryBroker,
    connecting_may_block,
    engine_of,
)
from tests.servers import RedisServer, Server
from tests.topologies import Cluster, Sentinels


class Docket:
    """What is particular about it."""

    name = "docket"
    refusal = "master -> replica"

    async def refuse(self, server: Server, refuses: bool) -> None:
        """A replica of nobody reads only."""
        async with Redis.from_url(server.url) as redis:
            if refuses:
                await redis.replicaof("127.0.0.1", "1")
            else:
                await redis.replicaof("NO", "ONE")

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

        async def begin(client: FewAtOnce) -> None:
            await RedisCluster.initialize(client)
            raise RedisGone("another node does not answer")

        monkeypatch.setattr(FewAtOnce, "initialize", begin)
        with pytest.raises(RedisGone):
            await FewConnections(cluster.url)._create_cluster_client()

    async def test_who_listens_and_is_canceled_at_the_end_leaves_no_connection(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As at a shutdown whose time is over."""

        async def canceled(pubsub: PubSub) -> None:
            raise asyncio.CancelledError

        monkeypatch.setattr(PubSub, "aclose", canceled)
        async with FewConnections(cluster.url) as connection:
            with pytest.raises(asyncio.CancelledError):
                async with connection._cluster_pubsub() as pubsub:
                    await pubsub.subscribe("a")

    async def test_what_its_commands_are_is_asked_once(
        self, cluster: Cluster, namespace: str
    ) -> None:
        """And not by each client for itself: the answer is long, and read in Python it holds up a
        start that comes at the beginning."""

        def asked() -> int:
            each = [node.ask("INFO", "commandstats") for node in cluster.nodes]
            return sum(stats.get("cmdstat_command", {"calls": 0})["calls"] for stats in each)

        before, ran = asked(), Ran()
        ran.gate.set()
        async with engine_of("docket", cluster.url, namespace) as engine:
            await engine.work(ran.run)
            for lane in LANES:
                await engine.submit(lane, lane)
            await ran.until(len(LANES))
            for docket in cast(DocketEngine, engine)._dockets.values():  # As after a failover.
                client = docket._redis._cluster_client
                assert client is not None
                client._initialize = True
                await client.ping()
            await engine.submit("after", "loop")
            await ran.until(len(LANES) + 1)
            await engine.close()
            await engine.idle()
        assert asked() - before == 1


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
async def test_nobody_listens_for_strikes(redis_server: RedisServer, namespace: str) -> None:
    """Docket's own way to hold jobs back would be a connection more for each lane, and what it
    struck would be gone where the store knows nothing of it."""
    ran = Ran()
    ran.gate.set()
    async with Redis.from_url(redis_server.url) as redis:
        strike = cast(Any, Strike("job", None, Operator.EQUAL, None).as_message())
        for lane in LANES:
            await redis.xadd(f"{namespace}:{lane}:strikes", strike)
        async with engine_of("docket", redis_server.url, namespace) as engine:
            await engine.work(ran.run)
            for lane in LANES:
                await engine.submit(lane, lane)
            await ran.until(len(LANES))
            waiting = {each["cmd"] for each in await redis.client_list()}
            assert "xreadgroup" in waiting
            assert "xread" not in waiting


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
