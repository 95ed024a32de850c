"""Real servers that are more than one: a master with Sentinels, a cluster, and servers behind TLS,
all of Debian's redis-server and postgresql. Only starting, asking, stopping and killing them may
live here."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.servers import free_port, needs, scratch, until_it_listens

PASSWORD, WORD = "p@ss/word", "an other"
"""Of the servers, and of the Sentinels."""
SECONDS = 60.0
"""What they may take to agree; a few, on an idle machine."""


def until(true: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Wait until something is so; a server that does not answer says no.

    Raises:
        TimeoutError: it is not.
    """
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(RedisError, OSError):
            if true():
                return
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def catch_up(nodes: Sequence[Node]) -> None:
    """Wait until the replica of each has all that it has by now."""
    for node in nodes:
        offset = node.ask("INFO", "replication")["master_repl_offset"]
        until(
            lambda node=node, offset=offset: (  # type: ignore[misc]
                node.ask("INFO", "replication").get("slave0", {}).get("offset", 0) >= offset
            ),
            "the replica has all",
        )


class Node:
    """One redis-server.

    Args:
        folder: of its data.
        words: of its command line.
        password: what it asks for.
    """

    def __init__(self, folder: Path, *words: str, password: str | None = None) -> None:
        needs(shutil.which("redis-server"), "Debian's redis-server")
        self.port = free_port()
        self.folder = folder / str(self.port)
        self.folder.mkdir()
        self._password = password
        secret = () if password is None else ("--requirepass", password)
        flags = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder))
        # Killed, but never without power: what it has written need not be on its disk.
        lazy = ("--save", "", "--appendfsync", "no")
        self._words = ["redis-server", *words, *flags, *lazy, *secret]
        self.start()

    def start(self) -> None:
        """Start it; returns when it listens."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._words, stdout=log, stderr=log)
        until_it_listens(self._process, self.port, self.folder / "log")

    def ask(self, *words: Any) -> Any:
        """What it says to a command."""
        with Redis(port=self.port, password=self._password, socket_timeout=5) as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.wait(30)


class Sentinels:
    """A master and a replica, and three Sentinels that watch them; all ask for passwords."""

    def __init__(self) -> None:
        self._folder = scratch("sentinels-")
        of_all = (
            "--masterauth",
            PASSWORD,
            "--appendonly",
            "yes",
            "--repl-diskless-sync-delay",
            "0",
        )
        self.nodes = [Node(self._folder, *of_all, password=PASSWORD)]
        leader = ("--replicaof", f"127.0.0.1 {self.nodes[0].port}")
        self.nodes.append(Node(self._folder, *of_all, *leader, password=PASSWORD))
        self.sentinels = [self._sentinel() for _ in range(3)]
        until(self._agree, "the Sentinels know each other and the replica")

    @property
    def url(self) -> str:
        """Of the master, by its Sentinels."""
        places = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        word = WORD.replace(" ", "%20")
        return f"redis+sentinel://:p%40ss%2Fword@{places}/mymaster/0?sentinel_password={word}"

    def _sentinel(self) -> Node:
        port = self.nodes[0].port
        path = self._folder / f"{len(list(self._folder.iterdir()))}.conf"
        path.write_text(
            f'requirepass "{WORD}"\n'
            f'sentinel sentinel-pass "{WORD}"\n'
            f"sentinel monitor mymaster 127.0.0.1 {port} 2\n"
            f'sentinel auth-pass mymaster "{PASSWORD}"\n'
            "sentinel down-after-milliseconds mymaster 1000\n"
            "sentinel failover-timeout mymaster 6000\n"
        )
        node = Node.__new__(Node)
        node.port = free_port()
        node.folder = self._folder / str(node.port)
        node.folder.mkdir()
        node._password = WORD
        flags = ["--port", str(node.port), "--bind", "127.0.0.1", "--dir", str(node.folder)]
        node._words = ["redis-server", str(path), "--sentinel", *flags]
        node.start()
        return node

    def _agree(self) -> bool:
        for each in self.sentinels:
            if b"OK 3 usable" not in each.ask("SENTINEL", "CKQUORUM", "mymaster"):
                return False
            if len(each.ask("SENTINEL", "REPLICAS", "mymaster")) != 1:
                return False
        return True

    @property
    def master(self) -> Node:
        """Who is the master, as the Sentinels say."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        return next(node for node in self.nodes if node.port == int(port))

    def close(self) -> None:
        """End all."""
        for node in (*self.nodes, *self.sentinels):
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class Cluster:
    """Three primaries, each with a replica."""

    def __init__(self) -> None:
        self._folder = scratch("cluster-")
        self._bus: dict[int, int] = {}
        self.nodes = [self._node() for _ in range(6)]
        ids = {node.port: node.ask("CLUSTER", "MYID").decode() for node in self.nodes}
        for number, node in enumerate(self.nodes[:3]):
            low, high = number * 5462, min((number + 1) * 5462, 16384) - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", low, high)
        for one, other in itertools.combinations(self.nodes, 2):  # Hearsay would take longer.
            one.ask("CLUSTER", "MEET", "127.0.0.1", other.port, self._bus[other.port])
        until(lambda: all(self._knows_all(node) for node in self.nodes), "the nodes have met")
        for primary, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            replica.ask("CLUSTER", "REPLICATE", ids[primary.port])
        until(lambda: all(self._is_well(node) for node in self.nodes), "the cluster is well")

    def _node(self) -> Node:
        bus = free_port()
        flags = ("--cluster-enabled", "yes", "--cluster-port", str(bus))
        more = (
            "--cluster-node-timeout",
            "1500",
            "--repl-ping-replica-period",
            "1",
            "--repl-diskless-sync-delay",
            "0",
        )
        node = Node(self._folder, *flags, *more, "--appendonly", "yes")
        self._bus[node.port] = bus
        return node

    @property
    def url(self) -> str:
        """Of one node."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def _knows_all(self, node: Node) -> bool:
        known = node.ask("CLUSTER", "NODES").splitlines()
        return len(known) == len(self.nodes) and b"handshake" not in b"".join(known)

    def _is_well(self, node: Node) -> bool:
        """It says so, and knows of a replica of each."""
        well = b"cluster_state:ok" in node.ask("CLUSTER", "INFO")
        return well and all(len(each) == 4 for each in node.ask("CLUSTER", "SLOTS"))

    def owner(self, key: str) -> Node:
        """Who has a key, as those say that answer."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            with contextlib.suppress(RedisError, OSError):
                for first, last, (_, port, *_rest), *_replicas in node.ask("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(each for each in self.nodes if each.port == port)
        raise LookupError(key)

    def close(self) -> None:
        """End all."""
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
