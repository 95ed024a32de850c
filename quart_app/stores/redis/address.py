"""Where the server is that has the jobs: the one that a URL names, the master that Sentinels name,
or the node of a cluster that has the keys. Nothing may live here that asks for jobs.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import MovedError, ReadOnlyError, ResponseError

T = TypeVar("T")
Place = tuple[str, int]
"""A host and its port."""

CONNECT = 1.0
"""Seconds to connect, the handshake and the look for where included."""
LATE = 0.2
"""Seconds for which the other Sentinels are waited for when one has answered."""
ASKED = 5
"""Nodes of a cluster that are asked at once who has the keys."""
SENTINELS = 26379
"""The port of a Sentinel whose URL names none."""
SAYS_NO_NAME: dict[str, Any] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)
"""Else redis-py looks for its own version in files, on the event loop."""


def address_of(url: str, key: str) -> Address:
    """What a URL names.

    Args:
        url: ``redis://HOST:PORT/DB``; ``redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB``, with
            ``sentinel_username`` and ``sentinel_password`` for the Sentinels themselves;
            ``redis+cluster://HOST:PORT`` of any node. With ``rediss`` in front over TLS.
        key: one of the keys; in a cluster all have its slot.

    Raises:
        ValueError: it names none, and why.

    >>> type(address_of("redis+sentinel://a,b:26380/mymaster", "{n}:seq")).__name__
    'SentinelAddress'
    """
    scheme, _, rest = url.partition("://")
    tls, _, way = scheme.partition("+")
    if way == "sentinel":
        return SentinelAddress(tls, rest)
    if way == "cluster":
        return ClusterAddress(f"{tls}://{rest}", key)
    return Address(url)


class Address:
    """A server that the URL names.

    Args:
        url: as redis-py reads it.
    """

    mode = "standalone"
    """What the server has to call itself."""

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = dict(parse_url(url))
        self._kind: type[AbstractConnection] = options.pop("connection_class", Connection)
        for name in ("max_connections", "timeout", "protocol", "decode_responses"):
            options.pop(name, None)
        options |= {
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_timeout": False,
            "retry_on_error": [],
            "health_check_interval": 0,
            # Time is kept here, for a whole round trip.
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT,
            "socket_keepalive": True,
            **SAYS_NO_NAME,
        }
        if not issubclass(self._kind, Connection):
            del options["socket_keepalive"]
        self._options = options

    async def connect(self) -> AbstractConnection:
        """A new connection, ready; raises what redis-py raises, and TimeoutError."""
        async with asyncio.timeout(CONNECT):
            return await self._connect()

    async def _connect(self) -> AbstractConnection:
        return await self._ready(self._options)

    async def _ready(self, options: dict[str, Any]) -> AbstractConnection:
        connection = self._kind(**options)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def moved(self, error: MovedError) -> None:
        """Another node of the cluster has the keys."""


class SentinelAddress(Address):
    """The master that Sentinels name; asked anew for each connection, so a failover is followed.

    Args:
        scheme: ``redis`` or ``rediss``.
        rest: what follows it in the URL.
    """

    def __init__(self, scheme: str, rest: str) -> None:
        place, path, query = _parts(rest)
        who, at, hosts = place.rpartition("@")
        self._name, _, db = path.strip("/").partition("/")
        if not self._name:
            raise ValueError("a Sentinel's URL ends with the master's name: /mymaster")
        if not (db or "0").isdecimal():
            raise ValueError(f"{db} is no number of a database")
        sentinel = {key: value for key, value in query.items() if key.startswith("sentinel_")}
        others = urlencode({key: value for key, value in query.items() if key not in sentinel})
        super().__init__(f"{scheme}://{who}{at}master/{db or 0}?{others}")
        common = {
            name: value
            for name, value in self._options.items()
            if name not in ("db", "username", "password", "host", "port")
        } | {name.removeprefix("sentinel_"): value for name, value in sentinel.items()}
        self._sentinels = [
            common | {"host": host, "port": port} for host, port in _places(hosts, SENTINELS)
        ]
        if not self._sentinels:
            raise ValueError("it names no Sentinel")

    async def _connect(self) -> AbstractConnection:
        # The newest configuration counts: some Sentinels hear of a failover up to two seconds
        # later than others, and a master that has died may be back before them.
        answers = await _answers([self._ask(sentinel) for sentinel in self._sentinels], LATE)
        _, (host, port) = max(answers)
        connection = await self._ready(self._options | {"host": host, "port": port})
        # What Sentinels say may be old: the server itself has to agree.
        # https://redis.io/docs/latest/develop/reference/sentinel-clients/
        try:
            if b"role:master" not in await _asked(connection, "INFO", "replication"):
                raise ReadOnlyError("the master that the Sentinels name is none (yet)")
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _ask(self, sentinel: dict[str, Any]) -> tuple[int, Place]:
        """The number of a configuration, and the master in it."""
        connection = await self._ready(sentinel)
        try:
            words: list[bytes] = await _asked(connection, "SENTINEL", "MASTER", self._name)
        finally:
            await connection.disconnect(nowait=True)
        found = dict(zip(words[::2], words[1::2], strict=False))
        return int(found[b"config-epoch"]), (found[b"ip"].decode(), int(found[b"port"]))


class ClusterAddress(Address):
    """The node of a cluster that has the keys.

    Args:
        url: of any node.
        key: one of the keys.
    """

    mode = "cluster"

    def __init__(self, url: str, key: str) -> None:
        super().__init__(url)
        if self._options.pop("db", 0):
            raise ValueError("a cluster has database 0 alone")
        self._slot = key_slot(key.encode())
        first = (self._options.get("host", "localhost"), self._options.get("port", 6379))
        self._nodes: deque[Place] = deque([first])
        self._owner: Place | None = None

    async def _connect(self) -> AbstractConnection:
        if self._owner is None:
            self._owner = await self._look()
        host, port = self._owner
        try:
            return await self._ready(self._options | {"host": host, "port": port})
        except BaseException:
            self._owner = None
            raise

    async def _look(self) -> Place:
        """Who has the keys, as the first node says that answers."""
        some = [self._nodes[number] for number in range(min(ASKED, len(self._nodes)))]
        self._nodes.rotate(-len(some))  # Should none of them answer, the next are asked.
        [(owner, nodes), *_] = await _answers([self._ask(node) for node in some])
        self._nodes.extend(node for node in nodes if node not in self._nodes)
        return owner

    async def _ask(self, node: Place) -> tuple[Place, list[Place]]:
        connection = await self._ready(self._options | {"host": node[0], "port": node[1]})
        try:
            ranges = await _asked(connection, "CLUSTER", "SLOTS")
        finally:
            await connection.disconnect(nowait=True)
        owner: Place | None = None
        nodes = list[Place]()
        for first, last, *places in ranges:
            # A node that does not know its own name leaves it out.
            found = [(each[0].decode() if each[0] else node[0], int(each[1])) for each in places]
            nodes += found
            if first <= self._slot <= last:
                owner = found[0]
        if owner is None:
            raise ResponseError("CLUSTERDOWN nobody has these keys")
        return owner, nodes

    def moved(self, error: MovedError) -> None:
        host = error.host or (self._owner or self._nodes[0])[0]
        self._owner = (host, error.port)


def _parts(rest: str) -> tuple[str, str, dict[str, str]]:
    """Place, path and query of what follows a scheme; `urlsplit` takes a list of hosts with an
    IPv6 one among them for a broken one."""
    before, _, query = rest.partition("?")
    place, slash, path = before.partition("/")
    return place, slash + path, dict(parse_qsl(query, keep_blank_values=True))


def _places(hosts: str, port: int) -> list[Place]:
    """The hosts of a list, each with its port.

    >>> _places("a,b:1,[::1]:2", 26379)
    [('a', 26379), ('b', 1), ('::1', 2)]
    """
    found = [urlsplit(f"//{each.strip()}") for each in hosts.split(",") if each.strip()]
    return [(each.hostname or "", each.port or port) for each in found]


async def _asked(connection: AbstractConnection, *words: str) -> Any:
    await connection.send_command(*words)
    return await connection.read_response(disable_decoding=True)


async def _answers(asks: list[Coroutine[Any, Any, T]], late: float = 0.0) -> list[T]:
    """What those say that have an answer, the first of them first.

    Args:
        late: seconds that the others have when the first has answered.

    Raises:
        RedisError, OSError: none has, and why the last one has not.
    """
    tasks = {asyncio.ensure_future(ask) for ask in asks}
    waiting, answers, errors = tasks, list[T](), list[BaseException]()
    try:
        while waiting:
            wait = late if answers else None
            done, waiting = await asyncio.wait(
                waiting, timeout=wait, return_when=asyncio.FIRST_COMPLETED
            )
            answers += [task.result() for task in done if task.exception() is None]
            errors += [wrong for task in done if (wrong := task.exception()) is not None]
            if not done or (answers and not late):
                break
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if not answers:
        raise errors[-1] if errors else OSError("there is nobody to ask")
    return answers
