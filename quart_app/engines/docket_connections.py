"""Docket's connections to Redis, made to be few and to fail soon. Nothing of jobs may live here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from docket._redis import RedisConnection
from docket._redis_sentinel import OwnedSentinelConnectionPool
from redis._parsers import AsyncCommandsParser
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisGone

from quart_app.engines.delivery import ANSWER

CONNECTIONS = 16
"""Connections of one lane: four are always in use."""


class FewConnections(RedisConnection):
    """Docket claims each job over a connection of its own, and a pool that has none left fails:
    a hundred jobs at once cut the worker off. Here they wait for one.

    A network that fell silent must not be waited for: TCP sends again later and later. Only who
    listens may hear nothing for long.

    Args:
        url: where it is.
        commands: what is known of a cluster's commands; see `AsksOnce`.
    """

    def __init__(self, url: str, commands: dict[str, Any] | None = None) -> None:
        super().__init__(url)
        self._commands = {} if commands is None else commands

    async def _connection_pool_from_url(
        self, decode_responses: bool = False, protocol: int | None = None
    ) -> ConnectionPool:
        pool = await super()._connection_pool_from_url(decode_responses, protocol)
        answer = ANSWER if protocol is None else None  # Where it names one, docket listens.
        limits = {"socket_connect_timeout": ANSWER, "socket_timeout": answer}
        few = _FewOfAPool(
            max_connections=CONNECTIONS,
            timeout=ANSWER,
            connection_class=_says_it_is_cut(pool.connection_class),
            **{**pool.connection_kwargs, **limits},
        )
        if isinstance(pool, OwnedSentinelConnectionPool):
            _ask_soon(pool.sentinel_clients)
            few.through = pool
        else:
            await pool.aclose()
        return few

    async def _create_cluster_client(self) -> RedisCluster:
        # As docket's, but for what waits and for how long.
        made = FewAtOnce.from_url(
            self._normalized_url(), socket_timeout=ANSWER, socket_connect_timeout=ANSWER
        )
        made.commands_parser = AsksOnce(self._commands)
        try:
            await made.initialize()
        except BaseException:  # It may have connected to some of the nodes.
            await made.aclose()
            raise
        return made

    @contextlib.asynccontextmanager
    async def _cluster_pubsub(self) -> AsyncGenerator[PubSub]:
        # Docket's connects to one node for as long as it lives: where that dies, nobody listens.
        pool = self._create_node_pool()
        pool.connection_kwargs["socket_connect_timeout"] = ANSWER
        pubsub = Redis(connection_pool=pool).pubsub()
        try:
            yield pubsub
        finally:
            try:
                await pubsub.aclose()  # type: ignore[no-untyped-call]
            finally:  # Also where that is canceled.
                await pool.aclose()


class _FewOfAPool(BlockingConnectionPool):
    """The connections of a pool, and what tells them where to connect to."""

    through: ConnectionPool | None = None
    """Who asks the Sentinels; the connections have but a weak reference to it."""

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            if self.through is not None:
                await self.through.aclose()


class FewAtOnce(RedisCluster):
    """A client of a cluster that never has more connections to a node than a pool would."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        kind = self.connection_kwargs["connection_class"]
        self.connection_kwargs["connection_class"] = _says_it_is_cut(kind)
        self._room = asyncio.Semaphore(CONNECTIONS)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        async with self._room:
            return await super().execute_command(*args, **options)


class AsksOnce(AsyncCommandsParser):
    """Where the keys are in each command is asked of a cluster once, and not by each client again
    whenever it looks for the nodes: redis-py reads that answer in 60 ms, and nothing else goes on
    meanwhile. What is not known, a newer server's command, it asks for itself.

    Args:
        commands: what is known; it is shared, and filled by who asks first.
    """

    __slots__ = ()

    def __init__(self, commands: dict[str, Any]) -> None:
        self.commands = commands

    async def initialize(self, node: ClusterNode | None = None) -> None:
        known = self.commands
        if node is None or not known:
            await super().initialize(node)
            known.update(self.commands)
            self.commands = known
        else:
            self.node = node


def _ask_soon(sentinels: Sequence[Redis]) -> None:
    """They are asked one after the other: also where all but the last are gone, there has to be
    time for it, and whoever answered is asked first from then on."""
    seconds = ANSWER / (len(sentinels) + 1)
    for each in sentinels:
        each.connection_pool.connection_kwargs |= {
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            "retry": Retry(NoBackoff(), 0),
        }


def _says_it_is_cut(kind: type[Any]) -> type[Any]:
    """A connection of redis-py that is told to be cut as one: asyncio of Python 3.13.0 raises an
    AttributeError where it is written to, which neither docket nor redis-py take for that."""

    class Cut(kind):  # type: ignore[misc]
        async def send_packed_command(self, *args: Any, **options: Any) -> None:
            try:
                await super().send_packed_command(*args, **options)
            except AttributeError as error:
                await self.disconnect(nowait=True)
                raise RedisGone(f"the connection was cut ({error})") from error

    return Cut
