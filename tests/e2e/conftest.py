"""A real server in a process of its own, started as its users start it.

For a durable store also the file that outlives it, and the traces that its jobs leave.
"""

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
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from playwright.sync_api import Browser

from tests.e2e.browsing import LIGHT, WAYS, Look, Person, Visit, Way, launch

ROOT = Path(__file__).parents[2]
RUNNING = re.compile(r"Running on http://127\.0\.0\.1:(\d+)")
COMMANDS = {
    "serve": [sys.executable, "-m", "quart_app", "serve", "--bind", "127.0.0.1:0"],
    "hypercorn": [
        sys.executable, "-m", "hypercorn", "--config", "hypercorn.toml",
        "--bind", "127.0.0.1:0", "quart_app:app",
    ],
}  # fmt: skip


def poll(true: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait until something is so, or fail saying what it was."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


class Server:
    """A server that listens, and a client of it.

    Args:
        command: what starts it.
        folder: where it is started.
        settings: each ``QUART_APP_`` variable; one that is None is not set.
    """

    def __init__(self, command: list[str], folder: Path = ROOT, **settings: Any) -> None:
        self.stopped = False
        environ = {k: v for k, v in os.environ.items() if not k.startswith("QUART_APP_")}
        said = {"tasks": "tests.e2e.jobs", "store": "memory", **settings}
        environ |= {f"QUART_APP_{k.upper()}": str(v) for k, v in said.items() if v is not None}
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            text=True,
            stdout=subprocess.DEVNULL,  # What its tasks print.
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""
        # To read all certificates of the machine takes as long as some tests, and there is no TLS.
        self.client = httpx2.Client(timeout=30, verify=False)

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

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return int(self.url.rpartition(":")[2])

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
        """Wait for the end of the process and of its log; its exit status."""
        status = self.process.wait(timeout)
        self._reader.join(0.5)  # Not for ever: a child of its own may still have the pipe.
        return status

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

    def counts(self) -> dict[str, int]:
        """How many jobs are in each status."""
        counts: dict[str, int] = self.get("/readyz").json()["jobs"]
        return counts

    def all_jobs(self) -> Iterator[dict[str, Any]]:
        """The document of every job, the newest first."""
        url: str | None = f"{self.url}/jobs?limit=100"
        while url is not None:
            page = self.client.get(url).json()
            yield from page["jobs"]
            url = page["next"]

    def stop(self) -> None:
        """End it with SIGKILL, however it is; harmless twice."""
        if self.stopped:
            return
        self.stopped = True
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


class Trace(NamedTuple):
    """One line that a task of `tests.e2e.durable_jobs` has left."""

    what: str
    job: str
    attempt: int
    number: int


class Traces:
    """The file to which tasks append a line at each beginning and each end.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def read(self) -> list[Trace]:
        """All lines, in the order in which they were written."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return []
        lines = text[: text.rfind("\n") + 1].splitlines()  # Of one that is being written a part.
        words = [line.split() for line in lines]
        return [Trace(what, job, int(attempt), int(n)) for what, job, attempt, n in words]

    def count(self, what: str, job: str, number: int | None = None) -> int:
        """How often a job has left such a line."""
        return sum(
            each.what == what and each.job == job and number in (None, each.number)
            for each in self.read()
        )

    def wait(self, what: str, job: str, number: int | None = None, times: int = 1) -> None:
        """Wait until a job has left such a line so often."""
        poll(lambda: self.count(what, job, number) >= times, f"{what} of {job}, {times} times")

    def by_job(self, what: str) -> Counter[str]:
        """How often each job has left such a line."""
        return Counter(each.job for each in self.read() if each.what == what)


class Durable:
    """Servers that follow each other on one SQLite file, with the tasks that leave traces.

    Args:
        servers: starts them.
        folder: where the file and the traces are.
    """

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._servers = servers
        self.file = folder / "jobs.db"
        self.traces = Traces(folder / "traces")

    def settings(self, **settings: Any) -> dict[str, Any]:
        """What such a server is started with."""
        store = {"tasks": "tests.e2e.durable_jobs", "store": f"sqlite:///{self.file}"}
        return {**store, **settings}

    def launch(self, kind: str = "serve", **settings: Any) -> Server:
        """A process that may or may not come to listen."""
        return self._servers.launch(COMMANDS[kind], **self.settings(**settings))

    def __call__(self, kind: str = "serve", **settings: Any) -> Server:
        """A server that listens."""
        return self.launch(kind, **settings).wait_listening()


@pytest.fixture
def durable(servers: Servers, tmp_path: Path) -> Durable:
    """Starts servers on one SQLite file: ``durable("serve" | "hypercorn", drain=1, ...)``."""
    return Durable(servers, tmp_path)


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Not of the whole run: Playwright's event loop runs as long as it is there,
    and others could have none."""
    yield from launch()


@pytest.fixture
def visit(browser: Browser, servers: Servers) -> Iterator[Callable[..., Visit]]:
    """Makes visits: ``visit(server, look)``. At the end, and before the servers', none of them has
    seen anything wrong."""
    made: list[Visit] = []

    def make(server: Server, look: Look = LIGHT) -> Visit:
        made.append(Visit(browser, server.url, look))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def shown(servers: Servers) -> Server:
    """A server with the tasks of `tests.e2e.shown_jobs`."""
    return servers("serve", tasks="tests.e2e.shown_jobs")


@pytest.fixture(params=WAYS, ids=str)
def person(request: pytest.FixtureRequest, visit: Callable[..., Visit], shown: Server) -> Person:
    """Visits `shown` with a mouse or a keyboard, on a screen or a telephone."""
    way: Way = request.param
    return Person(visit(shown, way.look), way)
