"""Where the server is: named by Sentinels, by any node of a cluster, or behind TLS. The store keeps
the same rules, finds the primary again after a failover, and says what is wrong with a name."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection
from redis.exceptions import MovedError

from quart_app.checks import shared as shared_rules
from quart_app.checks import store as store_rules
from quart_app.checks.making import Rule, add
from quart_app.domain.errors import StoreRefused, StoreUnavailable
from quart_app.stores.redis.address import ClusterAddress, SentinelAddress, address_of
from quart_app.stores.redis.opening import misnamed
from quart_app.testing import wait_until
from tests.servers import Certificate, RedisServer
from tests.stores.test_redis import opened
from tests.topologies import Cluster, Sentinels, catch_up

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sentinels", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    """Of each."""
    found: str = request.getfixturevalue(request.param).url
    return found


async def refusal(url: str, namespace: str) -> str:
    """Why a store is not opened."""
    with pytest.raises(StoreRefused) as refused:
        async with opened(url, namespace):
            pass
    return str(refused.value)


@pytest.mark.parametrize("rule", store_rules.RULES, ids=lambda rule: rule.__name__)
async def test_a_rule_of_every_store_is_kept(url: str, namespace: str, rule: Rule) -> None:
    """As with one server."""
    async with opened(url, namespace) as store:
        await rule(store)


@pytest.mark.parametrize("rule", shared_rules.RULES, ids=lambda rule: rule.__name__)
async def test_a_rule_of_every_shared_store_is_kept(url: str, namespace: str, rule: Any) -> None:
    """Two processes that use the same address."""
    async with opened(url, namespace) as store, opened(url, namespace) as twin:
        await rule(store, twin)


async def test_a_namespace_is_on_one_node_of_a_cluster(cluster: Cluster) -> None:
    """Whichever node the URL names, a replica as well, and wherever the namespace is."""
    names = [f"n{number}" for number in range(8)]
    owners = {name: cluster.owner(f"{{{name}}}:seq") for name in names}
    assert len(set(owners.values())) > 1
    for name, node in zip(names, (*cluster.nodes, *cluster.nodes), strict=False):
        url = f"redis+cluster://127.0.0.1:{node.port}"
        async with opened(url, name) as store, opened(cluster.url, name) as twin:
            job = await add(store)
            assert await twin.get(job.id) == job
        keys = owners[name].ask("KEYS", f"{{{name}}}:*")
        assert keys
        assert all(key.startswith(f"{{{name}}}:".encode()) for key in keys)


async def test_the_primary_is_found_again_after_a_failover(namespace: str) -> None:
    """It is asked for anew with each connection; what its replica has is still there."""
    place = Sentinels()
    try:
        async with opened(place.url, namespace) as store:
            job = await add(store)
            catch_up([place.master])
            dead = place.master
            dead.kill()

            async def is_back() -> bool:
                with contextlib.suppress(StoreUnavailable):
                    await add(store)
                    return True
                return False

            await wait_until(is_back, "the replica has taken over", 30)
            assert place.master is not dead
            assert await store.get(job.id) == job
            # It comes back as what it was, and is told by and by; nobody takes it for the master.
            dead.start()
            async with opened(place.url, namespace) as twin:
                assert await twin.get(job.id) == job
    finally:
        place.close()


async def test_sentinels_that_are_gone_are_not_waited_for(
    sentinels: Sentinels, namespace: str
) -> None:
    """One that answers is enough, wherever it stands in the list."""
    async with _silence() as (silent, nobody):
        for at in range(3):
            living = [each.port for each in sentinels.sentinels]
            places = [silent, nobody]
            places.insert(at, living[at])
            url = _named(sentinels, places)
            async with asyncio.timeout(3), opened(url, namespace) as store:
                await store.counts()
    said = await refusal(_named(sentinels, [nobody, nobody]), namespace)
    assert "cannot be reached: check that it runs" in said


def _named(sentinels: Sentinels, ports: list[int]) -> str:
    """The URL with other Sentinels in it."""
    before, _, rest = sentinels.url.partition("@")
    places = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"{before}@{places}/{rest.partition('/')[2]}"


@contextlib.asynccontextmanager
async def _silence() -> AsyncIterator[tuple[int, int]]:
    """The port of one who never answers, and one where nobody listens."""
    held = list[asyncio.StreamWriter]()
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    gone = await asyncio.start_server(lambda _, __: None, "127.0.0.1", 0)
    port = gone.sockets[0].getsockname()[1]
    gone.close()
    await gone.wait_closed()
    yield server.sockets[0].getsockname()[1], port
    for writer in held:
        writer.close()
    server.close()


async def test_the_newest_configuration_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Sentinels that have not heard of a failover yet, the first may be one."""
    address = address_of("redis+sentinel://a,b,c/m", "{n}:seq")
    assert isinstance(address, SentinelAddress)
    asked = list[int]()

    async def ask(sentinel: dict[str, Any]) -> tuple[int, tuple[str, int]]:
        number = "abc".index(sentinel["host"])
        await asyncio.sleep(number * 0.01)
        return [(1, ("old", 1)), (2, ("new", 2)), (1, ("old", 1))][number]

    async def ready(options: dict[str, Any]) -> Any:
        asked.append(options["port"])
        raise ConnectionError("enough")

    monkeypatch.setattr(address, "_ask", ask)
    monkeypatch.setattr(address, "_ready", ready)
    with pytest.raises(ConnectionError):
        await address.connect()
    assert asked == [2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace("mymaster", "another"), "name no master of this name"),
        (lambda url: url.replace("p%40ss%2Fword", "wrong"), "refuses the user or password"),
        (lambda url: url.replace("an%20other", "wrong"), "refuses the user or password"),
        (lambda url: url.partition("?")[0], "asks for a password"),
        (lambda url: url.replace("/mymaster/0", ""), "ends with the master's name"),
        (lambda url: url.replace("/mymaster/0", "/mymaster/x"), "is no URL of a Redis"),
    ],
)
async def test_what_is_wrong_with_a_name_of_sentinels(
    sentinels: Sentinels, namespace: str, change: Any, said: str
) -> None:
    """The refusal says it, and no password."""
    refused = await refusal(change(sentinels.url), namespace)
    assert said in refused
    assert "p%40ss" not in refused
    assert "an%20other" not in refused


async def test_a_server_of_another_kind_is_refused(
    sentinels: Sentinels, cluster: Cluster, redis_server: RedisServer, namespace: str
) -> None:
    """With the kind of URL that it needs."""
    node, sentinel = cluster.nodes[0].port, sentinels.sentinels[0].port
    said = await refusal(f"redis://127.0.0.1:{node}/0", namespace)
    assert "the URL is redis+cluster://HOST:PORT" in said
    said = await refusal(redis_server.url.replace("redis:", "redis+cluster:"), namespace)
    assert "the URL is redis://HOST:PORT/DB" in said
    said = await refusal(f"redis://:an%20other@127.0.0.1:{sentinel}/0", namespace)
    assert "the URL is redis+sentinel://" in said
    said = await refusal(f"redis+cluster://127.0.0.1:{node}/1", namespace)
    assert "database 0 alone" in said


def test_how_a_server_calls_itself() -> None:
    """Valkey has a word of its own; what says nothing is taken as it is."""
    assert misnamed({"server_mode": "cluster"}, "standalone")
    assert misnamed({"server_mode": "standalone"}, "standalone") is None
    assert misnamed({}, "cluster") is None


async def test_keys_that_have_moved_are_followed(cluster: Cluster) -> None:
    """Whoever had them says who has; a name that is left out is the same host."""
    key = "{a}:seq"
    address = address_of(cluster.url, key)
    assert isinstance(address, ClusterAddress)
    address.moved(MovedError(f"1 :{cluster.nodes[1].port}"))
    connection = await address.connect()
    assert (connection.host, connection.port) == ("127.0.0.1", cluster.nodes[1].port)  # type: ignore[attr-defined]
    await connection.disconnect(nowait=True)


async def test_other_nodes_are_asked_where_one_is_gone(namespace: str) -> None:
    """Also the one that the URL names: all that were heard of are known."""
    place = Cluster()
    try:
        dead = place.nodes[0]
        name = next(
            name
            for name in (f"{namespace}{number}" for number in range(100))
            if place.owner(f"{{{name}}}:seq") is dead
        )
        async with opened(place.url, name) as store:
            job = await add(store)
            catch_up([dead])
            dead.kill()

            async def is_back() -> bool:
                with contextlib.suppress(StoreUnavailable):
                    return await store.get(job.id) == job
                return False

            await wait_until(is_back, "the replica has taken over", 30)
    finally:
        place.close()


async def test_over_tls(tmp_path: Path, namespace: str) -> None:
    """With the authority that the URL names; without one, or in clear, it is refused."""
    server = RedisServer(Certificate(tmp_path))
    try:
        async with opened(server.url, namespace) as store:
            job = await add(store)
            assert await store.get(job.id) == job
        said = await refusal(server.url.partition("?")[0], namespace)
        assert "certificate verify failed" in said
        await refusal(server.url.replace("rediss", "redis").partition("?")[0], namespace)
    finally:
        server.close()


def test_tls_goes_to_all() -> None:
    """To Sentinels and nodes as to the server itself, with the same authority."""
    key, query = "{n}:seq", "ssl_cert_reqs=required&ssl_ca_certs=/x"
    for url in (f"rediss+sentinel://a/m/3?{query}", f"rediss+cluster://a:1?{query}"):
        address = address_of(url, key)
        assert address._kind is SSLConnection
        assert address._options["ssl_ca_certs"] == "/x"
    sentinel = address_of(f"rediss+sentinel://u:p@a/m/3?{query}&sentinel_username=s", key)
    assert isinstance(sentinel, SentinelAddress)
    assert (sentinel._options["db"], sentinel._options["username"]) == (3, "u")
    [one] = sentinel._sentinels
    assert (one["host"], one["port"], one["username"]) == ("a", 26379, "s")
    assert "db" not in one
    assert "password" not in one
    assert one["ssl_cert_reqs"] in ("required", ssl.CERT_REQUIRED)


def test_a_list_of_hosts_may_have_ipv6_ones() -> None:
    """`urlsplit` would refuse it."""
    address = address_of("redis+sentinel://[::1]:1,b,[fe80::1]/m", "{n}:seq")
    assert isinstance(address, SentinelAddress)
    assert [(each["host"], each["port"]) for each in address._sentinels] == [
        ("::1", 1), ("b", 26379), ("fe80::1", 26379),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="names no Sentinel"):
        address_of("redis+sentinel://,/m", "{n}:seq")
