"""A real server in a process of its own, started as its users start it."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
RUNNING = re.compile(r"Running on http://127\.0\.0\.1:(\d+)")
COMMANDS = {
    "serve": [sys.executable, "-m", "quart_app", "serve", "--bind", "127.0.0.1:0"],
    "hypercorn": [
        sys.executable, "-m", "hypercorn", "--config", "hypercorn.toml",
        "--bind", "127.0.0.1:0", "quart_app:app",
    ],
}  # fmt: skip


class Server:
    """A server that listens, and a client of it."""

    def __init__(self, command: list[str], **settings: Any) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("QUART_APP_")}
        environ["QUART_APP_TASKS"] = "tests.e2e.jobs"
        environ |= {f"QUART_APP_{name.upper()}": str(value) for name, value in settings.items()}
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            text=True,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""
        self.client = httpx2.Client(timeout=30)

    def _read(self) -> None:
        stderr = self.process.stderr
        assert stderr is not None
        for line in stderr:
            self.log.append(line)
            self._lines.put(line)
        self._lines.put("")

    def wait_listening(self) -> Server:
        """Wait for the line that says where it listens."""
        while line := self._lines.get(timeout=30):
            if found := RUNNING.search(line):
                self.url = f"http://127.0.0.1:{found[1]}"
                return self
        raise AssertionError("the server ended at its start:\n" + "".join(self.log))

    def post(self, path: str, value: object = None, **headers: str) -> httpx2.Response:
        """POST JSON."""
        return self.client.post(self.url + path, json=value, headers=headers)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        """GET."""
        return self.client.get(self.url + path, headers=headers)

    def start(self, task: str, **arguments: object) -> str:
        """Start a job; its id."""
        response = self.post(f"/start/{task}", arguments)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def job(self, job_id: str, wait: int = 0) -> dict[str, Any]:
        """A job's document."""
        document: dict[str, Any] = self.get(f"/jobs/{job_id}", Prefer=f"wait={wait}").json()
        return document

    def until(self, job_id: str, status: str) -> dict[str, Any]:
        """Wait until a job has a status."""
        end = time.monotonic() + 20
        while (document := self.job(job_id))["status"] != status:
            assert time.monotonic() < end, document
            time.sleep(0.02)
        return document

    def signal_group(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to the process and all its children, as a service manager does."""
        os.killpg(self.process.pid, number)

    def wait(self, timeout: float) -> int:
        """Wait for the end of the process; its exit status."""
        return self.process.wait(timeout)

    def children(self) -> list[int]:
        """The process ids of all descendants, by their process group or parent."""
        found: list[int] = []
        parents = {self.process.pid}
        for _ in range(3):
            for path in Path("/proc").glob("[0-9]*/stat"):
                with contextlib.suppress(OSError):
                    fields = path.read_text().rpartition(")")[2].split()
                    pid, parent = int(path.parent.name), int(fields[1])
                    if parent in parents and pid not in found:
                        found.append(pid)
            parents |= set(found)
        return found

    def rss(self) -> int:
        """Bytes of memory in use by the process."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        """End it, however it is."""
        self.client.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # Whoever still holds its pipe.
        self.process.wait(10)
        self._reader.join(10)
        if self.process.stderr is not None:
            self.process.stderr.close()


class Servers:
    """Starts servers, and stops all of them at the end of a test."""

    def __init__(self) -> None:
        self._servers: list[Server] = []

    def launch(self, command: list[str], **settings: Any) -> Server:
        """A process that may or may not come to listen."""
        server = Server(command, **settings)
        self._servers.append(server)
        return server

    def __call__(self, kind: str = "serve", **settings: Any) -> Server:
        """A server that listens."""
        return self.launch(COMMANDS[kind], **settings).wait_listening()

    def stop(self) -> None:
        """Stop all."""
        for server in self._servers:
            server.stop()


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Makes servers: ``servers("serve" | "hypercorn", drain=1, ...)``."""
    made = Servers()
    yield made
    made.stop()


@pytest.fixture(params=list(COMMANDS))
def kind(request: pytest.FixtureRequest) -> str:
    """Both ways to start the service."""
    return str(request.param)
