"""Hosts on this machine: each is a network namespace with an address of its own, behind a bridge.
What runs there may be cut off by its link, as a machine whose cable is pulled.

Only making them, and starting servers and processes there, may live here.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.conftest import Server
from tests.e2e.machines import Machines
from tests.servers import PostgresServer, RedisServer, until_it_listens

CLONE_NEWNET = 0x40000000
RUN = Path("/run/netns")


def ip(*arguments: str, check: bool = True) -> None:
    """Run ``ip``.

    Raises:
        RuntimeError: it says no, and why.
    """
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def why_not() -> str | None:
    """Why there can be no hosts here, or None."""
    if os.getuid() != 0:
        return "needs root, for network namespaces"
    if shutil.which("ip") is None:
        return "needs ip (Debian's iproute2)"
    probe = f"qp{uuid.uuid4().hex[:6]}"
    try:
        ip("netns", "add", probe)
        ip("-n", probe, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        ip("-n", probe, "link", "add", "b0", "type", "bridge")
    except RuntimeError as error:
        return f"needs network namespaces, veth and bridge: {error}"
    finally:
        ip("netns", "del", probe, check=False)
    return None


class Host:
    """One host.

    Args:
        name: of its namespace; short, for names of links have 15 letters at most.
        address: on the bridge.
        hub: the namespace that has the bridge.
    """

    def __init__(self, name: str, address: str, hub: str) -> None:
        self.name, self.address = name, address
        self._hub, self._port = hub, f"p{address.rpartition('.')[2]}"
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
        pair = ("type", "veth", "peer", "name", self._port, "netns", hub)
        ip("-n", name, "link", "add", "eth0", *pair)
        ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", hub, "link", "set", self._port, "master", "bridge")
        ip("-n", hub, "link", "set", self._port, "up")

    @property
    def command(self) -> list[str]:
        """What a command that is to run here begins with."""
        return ["ip", "netns", "exec", self.name]

    def unplug(self) -> None:
        """Cut it off: nobody is told, packets are lost."""
        ip("-n", self._hub, "link", "set", self._port, "down")

    def plug(self) -> None:
        """Connect it again."""
        ip("-n", self._hub, "link", "set", self._port, "up")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes, and processes that it starts, are the host's."""
        libc = ctypes.CDLL(None, use_errno=True)
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(RUN / self.name, os.O_RDONLY)
        try:
            if libc.setns(there, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {self.name}")
            yield
        finally:
            try:
                if libc.setns(here, CLONE_NEWNET) != 0:  # pragma: no cover - it was ours before.
                    os._exit(70)  # Nothing after this would be where it believes to be.
            finally:
                os.close(there)
                os.close(here)

    def delete(self) -> None:
        """End what is left here, and remove it; harmless twice."""
        done = subprocess.run(
            ["ip", "netns", "pids", self.name], check=False, capture_output=True, text=True
        )
        for pid in done.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        ip("netns", "del", self.name, check=False)


class Network:
    """Hosts that reach each other. The test itself is outside, and enters one to ask there."""

    def __init__(self) -> None:
        self._id = f"q{uuid.uuid4().hex[:6]}"
        self._hub = f"{self._id}hub"
        self._hosts: list[Host] = []
        try:
            ip("netns", "add", self._hub)
            ip("-n", self._hub, "link", "set", "lo", "up")
            ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
            ip("-n", self._hub, "link", "set", "bridge", "up")
        except BaseException:
            self.delete()
            raise

    def host(self) -> Host:
        """One more."""
        number = len(self._hosts) + 1
        host = Host(f"{self._id}h{number}", f"10.77.0.{number}", self._hub)
        self._hosts.append(host)
        return host

    def delete(self) -> None:
        """Remove all that has been made."""
        for host in self._hosts:
            host.delete()
        ip("netns", "del", self._hub, check=False)


class RedisOn(RedisServer):
    """A Redis on a host.

    Args:
        host: where.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        super().__init__()
        self.url = self.url.replace("127.0.0.1", host.address)

    def start(self) -> None:
        """As of any, but others reach it."""
        log = self._folder / "log"
        command = ["redis-server", "--port", str(self.port), "--dir", str(self._folder)]
        command += ["--bind", f"127.0.0.1 {self._host.address}", "--protected-mode", "no"]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with self._host.inside(), log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
            until_it_listens(self._process, self.port, log)


class PostgresOn(PostgresServer):
    """A PostgreSQL on a host.

    Args:
        host: where.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        super().__init__()
        self.url = self.url.replace("127.0.0.1", host.address)

    def start(self) -> None:
        """As of any, but others reach it."""
        log, access = self._folder / "log", self._data / "pg_hba.conf"
        access.write_text("local all all trust\nhost all all 0.0.0.0/0 trust\n")
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        command += ["-c", f"listen_addresses=127.0.0.1,{self._host.address}"]
        command += ["-c", f"unix_socket_directories={self._folder}", "-c", "max_connections=200"]
        with self._host.inside(), log.open("ab") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=out, user=self._user, cwd="/"
            )
            self._until_it_answers(log)


class _Inside(httpx2.HTTPTransport):
    """Asks from a host."""

    def __init__(self, host: Host) -> None:
        super().__init__(verify=False)
        self._host = host

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        with self._host.inside():
            return super().handle_request(request)


class HostMachines(Machines):
    """Processes on hosts: ``web(host=...)`` and ``worker(host=...)``."""

    def _launch(self, command: list[str], **settings: Any) -> Server:
        host = settings.pop("host")
        with host.inside():
            server = super()._launch(command, **settings)
        server.client.close()
        server.client = httpx2.Client(timeout=30, transport=_Inside(host))
        return server


def client_on(host: Host) -> httpx2.Client:
    """A client on a host."""
    return httpx2.Client(timeout=httpx2.Timeout(5.0, read=4.0), transport=_Inside(host))
