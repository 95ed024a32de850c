"""Real servers for tests: Debian's redis-server and postgresql, each on a free port of loopback
with a folder of its own. Only starting, stopping, killing and pausing them may live here.

What a server has written outlives its kill, as the kernel has it. A sync is for power cuts, and no
test cuts a server's power: none is asked for unless somebody says so, as benchmarks do.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Protocol

import pytest

POSTGRES_BIN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
NOBODY = "postgres"
"""Whom PostgreSQL runs as where we are root: it refuses to run as root."""


class Server(Protocol):
    """A server that a test may be rough with."""

    url: str

    def start(self) -> None:
        """Start it, on its port and with its data; returns when it answers."""

    def kill(self) -> None:
        """End it with SIGKILL."""

    def close(self) -> None:
        """End it and remove its data."""


def needs(found: object, what: str) -> None:
    """Skip a test where something is not there that it needs; where everything is to be there, in
    CI, that is a failure."""
    if not found:
        (pytest.fail if "CI" in os.environ else pytest.skip)(f"needs {what}, which is not there")


def free_port() -> int:
    """A port that nobody listens on at the moment, outside of those that connections are given: a
    server that is started again has to find it free."""
    for _ in range(100):
        # Not from `random` itself, which begins alike in each test: those beside it take it, too.
        port = random.SystemRandom().randint(10_000, 30_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


def listens(port: int) -> bool:
    """Whether something answers on a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until something answers on a port.

    Raises:
        RuntimeError: the process has ended instead, or takes more than 30 seconds.
    """
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if listens(port):
            return
        time.sleep(0.02)
    raise RuntimeError(f"it did not start: {log.read_text()[-2000:]}")


def scratch(prefix: str) -> Path:
    """A folder for a server that does not sync what it writes: in memory, where there is room. A
    kill leaves it there as well, and the disk of a busy machine stalls who writes for seconds."""
    memory = Path("/dev/shm")  # noqa: S108 - made by mkdtemp, for us alone
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 * 2**30
    return Path(tempfile.mkdtemp(prefix=prefix, dir=memory if roomy else None))


def _end(process: subprocess.Popen[bytes] | None, number: int) -> None:
    if process is not None and process.poll() is None:
        process.send_signal(number)
        process.wait(30)


class Certificate:
    """One that a server on loopback may show, and that is its own authority.

    Args:
        folder: where to make it.
    """

    def __init__(self, folder: Path) -> None:
        needs(shutil.which("openssl"), "Debian's openssl")
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        subject = ("-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        command = (
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            *subject,
        )
        files = ("-keyout", str(self.key), "-out", str(self.certificate))
        subprocess.run([*command, *files], check=True, capture_output=True)


class RedisServer:
    """A redis-server with an append-only file that is written at every command.

    Args:
        tls: what it shows; without, it speaks in clear.
        synced: whether what it has answered is on its disk.
    """

    def __init__(self, tls: Certificate | None = None, synced: bool = False) -> None:
        needs(shutil.which("redis-server"), "Debian's redis-server")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._listens: dict[str, str] = {"port": str(self.port)}
        if tls is not None:
            self.url = f"rediss://127.0.0.1:{self.port}/0?ssl_ca_certs={tls.certificate}"
            self._listens = {"port": "0", "tls-port": str(self.port), "tls-auth-clients": "no"}
            self._listens |= {"tls-cert-file": str(tls.certificate), "tls-key-file": str(tls.key)}
        self._syncs = "always" if synced else "no"
        self._folder = Path(tempfile.mkdtemp(prefix="redis-")) if synced else scratch("redis-")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        log = self._folder / "log"
        options = {
            **self._listens,
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": self._syncs,
            "save": "",
        }
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        with log.open("ab") as out:
            self._process = subprocess.Popen(["redis-server", *flags], stdout=out, stderr=out)
        until_it_listens(self._process, self.port, log)

    def kill(self) -> None:
        _end(self._process, signal.SIGKILL)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class PostgresServer:
    """A postgresql cluster of its own.

    Args:
        tls: what it shows, and then it refuses who comes in clear.
        synced: whether what it has answered is on its disk.
    """

    def __init__(self, tls: Certificate | None = None, synced: bool = False) -> None:
        needs(POSTGRES_BIN, "Debian's postgresql")
        self.port = free_port()
        self.url = f"postgresql://{NOBODY}@127.0.0.1:{self.port}/postgres"
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._bin = POSTGRES_BIN[-1]
        self._user = NOBODY if os.getuid() == 0 else None
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        self._data = self._folder / "data"
        command = [
            str(self._bin / "initdb"),
            "-D",
            str(self._data),
            "-U",
            NOBODY,
            "-A",
            "trust",
            "-N",
        ]
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd="/")
        self._more: dict[str, object] = {"fsync": "on" if synced else "off"}
        if tls is not None:
            self._secure(tls)
        self.start()

    def _secure(self, tls: Certificate) -> None:
        """It takes only a key that is its own and that nobody else can read."""
        for name, file in {"tls.crt": tls.certificate, "tls.key": tls.key}.items():
            shutil.copy(file, self._data / name)
            (self._data / name).chmod(0o600)
            if self._user is not None:
                shutil.chown(self._data / name, self._user)
        (self._data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
        self._more |= {"ssl": "on", "ssl_cert_file": "tls.crt", "ssl_key_file": "tls.key"}
        self.url += f"?sslmode=verify-full&sslrootcert={tls.certificate}"

    def start(self) -> None:
        log = self._folder / "log"
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "max_connections": 200,
            **self._more,
        }
        flags = [part for pair in settings.items() for part in ("-c", "{}={}".format(*pair))]
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *flags],
                stdout=out, stderr=out, user=self._user, cwd="/",
            )  # fmt: skip
        self._until_it_answers(log)

    def _until_it_answers(self, log: Path) -> None:
        """It listens before it answers: after a crash it recovers first."""
        assert self._process is not None
        until_it_listens(self._process, self.port, log)
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, check=False).returncode != 0:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"it did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        _end(self._process, signal.SIGKILL)
        # Its children end when they see that it is gone; the next start waits for that.
        deadline = time.monotonic() + 30
        while (self._data / "postmaster.pid").exists() and time.monotonic() < deadline:
            pid = (self._data / "postmaster.pid").read_text().split("\n", 1)[0]
            if not _children_of(pid):
                break
            time.sleep(0.02)

    def close(self) -> None:
        _end(self._process, signal.SIGINT)
        shutil.rmtree(self._folder, ignore_errors=True)


def _children_of(pid: str) -> bool:
    """Whether a process still works in the group of one that has ended."""
    found = subprocess.run(["pgrep", "-g", pid], check=False, capture_output=True)
    return bool(found.stdout.strip())
