"""Fresh processes: a server, or a piece of a benchmark that must not feel what ran before it.

Nothing may live here that knows what is measured.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from benchmarks.load import Call, Connection

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
START = 30.0
"""Seconds that a server has to take its first connection."""
BATCH = 2_000
"""Jobs that one request starts: so few that the loop is not blocked for long."""

CONFIG = """\
bind = ["127.0.0.1:{port}"]
workers = 0
shutdown_timeout = 60
# One connection is kept for a whole series of latencies.
keep_alive_max_requests = 10_000_000
"""
"""Hypercorn's settings, the same for every app."""


def environment() -> dict[str, str]:
    """Ours without what the developer's shell has set for the app or for Python."""
    drop = ("QUART_APP_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(drop)}


def fresh(kind: type[T], module: str, *args: object) -> T:
    """Run a module of this package in a process of its own.

    Args:
        kind: the type of the JSON that it prints last.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, args)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment(), cwd=ROOT)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=kind)


def quiet() -> None:
    """Leave out the warnings of a loop that is blocked: a batch of starts does not give way."""
    logging.disable(logging.WARNING)


def answer(value: object) -> None:
    """What such a module says to `fresh`."""
    print(msgspec.json.encode(value).decode(), flush=True)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Server:
    """A Hypercorn with one app of `benchmarks.servers`, as a context manager.

    Args:
        app: the app's name.
        folder: where a durable app has its file; one of its own unless given.
    """

    def __init__(self, app: str, folder: Path | None = None) -> None:
        self._app = app
        self._folder = folder
        self.port = _free_port()

    def __enter__(self) -> Server:
        self._files = tempfile.TemporaryDirectory()
        folder = self._files.name if self._folder is None else str(self._folder)
        config = Path(self._files.name, "hypercorn.toml")
        config.write_text(CONFIG.format(port=self.port))
        self._log: IO[bytes] = Path(self._files.name, "log").open("w+b")
        command = [sys.executable, "-m", "hypercorn", "--config", str(config)]
        self._process = subprocess.Popen(
            [*command, f"benchmarks.servers:{self._app}"],
            env=environment() | {"BENCHMARK_FOLDER": folder},
            cwd=ROOT,
            stdout=self._log,
            stderr=self._log,
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self) -> None:
        until = time.monotonic() + START
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    self._log.seek(0)
                    raise RuntimeError(f"no server:\n{self._log.read().decode()}") from None
                time.sleep(0.02)
            else:
                return

    def __exit__(self, *_: object) -> None:
        # Nothing is worth a drain here: the jobs sleep, and their results are nobody's.
        self._process.kill()
        self._process.wait()
        self._log.close()
        self._files.cleanup()

    def fill(self, task: str, count: int) -> None:
        """Start many jobs of a task of ours, and wait until they sleep or are over."""
        with Connection(self.port) as connection:
            for place in range(0, count, BATCH):
                body = b"[" + b",".join([b"{}"] * min(BATCH, count - place)) + b"]"
                connection.ask(Call("POST", f"/start/{task}", 202, body))
            running = count if task == "sleeper" else 0
            while connection.get("/jobs?status=queued&limit=1")["jobs"]:
                time.sleep(0.05)
            while connection.get("/healthz")["running"] != running:
                time.sleep(0.05)
