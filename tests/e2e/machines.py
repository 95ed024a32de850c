"""Several web and worker processes on one store, each started as operators start them.

Only starting, killing and asking them may live here.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from tests.e2e.conftest import COMMANDS, Server

WORKER = [sys.executable, "-m", "quart_app", "worker"]
LEASE = 2.0
"""Seconds after which a killed process counts as dead."""
DRAIN, GRACE = 2.0, 1.0
"""Seconds that jobs have at a shutdown."""
LEADS, FOLLOWS = "this process leads", "this process does not lead any more"


class Machines:
    """Web processes and workers that share a store.

    Args:
        url, namespace: the store.
        settings: of each process.
    """

    def __init__(self, url: str, namespace: str, **settings: Any) -> None:
        self.settings: dict[str, Any] = {
            "tasks": "tests.e2e.durable_jobs",
            "store": url,
            "namespace": namespace,
            "lease": LEASE,
            "drain": DRAIN,
            "grace": GRACE,
            "threads": 4,
            "processes": 1,
            **settings,
        }
        self.webs: list[Server] = []
        self.workers: list[Server] = []
        self._all: list[Server] = []

    def web(self, **settings: Any) -> Server:
        """One more web process, when it answers; it runs no jobs unless that is asked for."""
        server = self._launch(COMMANDS["serve"], **{"work": "off", **settings})
        self.webs.append(server.wait_listening())
        return server

    def worker(self, *options: str, **settings: Any) -> Server:
        """One more worker, when it takes jobs."""
        server = self._launch([*WORKER, *options], **settings)
        deadline = time.monotonic() + 30
        while not any("worker: runs" in line for line in server.log):
            assert server.process.poll() is None, server.log
            assert time.monotonic() < deadline, server.log
            time.sleep(0.02)
        self.workers.append(server)
        return server

    def _launch(self, command: list[str], **settings: Any) -> Server:
        server = Server(command, **{**self.settings, **settings})
        self._all.append(server)
        return server

    def leader(self, seconds: float = 3 * LEASE) -> Server:
        """The process that leads, by its own log; waits until there is one."""
        deadline = time.monotonic() + seconds
        while True:
            for server in (*self.webs, *self.workers):
                said = [line for line in list(server.log) if LEADS in line or FOLLOWS in line]
                if said and LEADS in said[-1]:
                    return server
            assert time.monotonic() < deadline, "nobody leads"
            time.sleep(0.02)

    def again(self, server: Server) -> Server:
        """Kill a process, and start another one in its place."""
        is_web = server in self.webs
        self.kill(server)
        return self.web() if is_web else self.worker()

    def kill(self, server: Server) -> None:
        """End a process with SIGKILL."""
        server.stop()
        for kind in (self.webs, self.workers):
            if server in kind:
                kind.remove(server)

    def logs(self) -> list[str]:
        """What all of them have said, also those that are dead."""
        return [line for server in self._all for line in list(server.log)]

    def stop(self) -> None:
        """End all."""
        for server in self._all:
            server.stop()
