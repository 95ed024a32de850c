"""How many processes are run: the options of a worker, several workers of Hypercorn, and a new
version that comes while people start jobs."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import COMMANDS, Server, Traces, poll
from tests.e2e.machines import DRAIN, GRACE, Machines
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LOAD = 2.0
"""Seconds that this machine may take on top of what is promised."""


@pytest.fixture(params=["redis", "postgres"])
def machines(request: pytest.FixtureRequest, namespace: str) -> Iterator[Machines]:
    """Processes on a server that is shared with other tests."""
    server: RedisServer | PostgresServer = request.getfixturevalue(f"{request.param}_server")
    made = Machines(server.url, namespace)
    yield made
    made.stop()


def listed(web: Server, server: Server) -> dict[str, Any] | None:
    """What is told of a process."""
    workers: list[dict[str, Any]] = web.get("/workers").json()["workers"]
    return next((each for each in workers if each["pid"] == server.process.pid), None)


def test_what_the_options_of_a_worker_do(machines: Machines, tmp_path: Path) -> None:
    """How many at once, which tasks, how long it counts as alive, how long its jobs have to end."""
    traces, gate = Traces(tmp_path / "traces"), str(tmp_path / "gate")
    web = machines.web()
    options = ("--only", "once", "--concurrency", "3", "--drain", "0.5", "--grace", "0.5")
    worker = machines.worker(*options, "--lease", "1")
    other = web.start("thrice", traces=str(traces.path))
    ids = [web.start("once", traces=str(traces.path), gate=gate) for _ in range(6)]
    poll(lambda: web.counts()["running"] == 3, "it takes three")
    told = listed(web, worker)
    assert told is not None
    assert told["only"] == ["once"]
    poll(lambda: (listed(web, worker) or {}).get("running") == 3, "it tells of them")
    time.sleep(1)  # Nothing can be waited for that is not to happen.
    assert web.counts()["running"] == 3
    assert sum(traces.count("before", each) for each in ids) == 3
    assert (web.job(other)["status"], traces.count("before", other)) == ("queued", 0)

    began = time.monotonic()
    worker.signal_group(signal.SIGTERM)
    assert worker.wait(20) == 0, worker.log
    assert time.monotonic() - began < 0.5 + 0.5 + 1.0 + LOAD
    statuses = [(each["status"], each["reason"]) for each in map(web.job, ids)]
    assert sorted(statuses, key=str) == [("failed", "shutdown")] * 3 + [("queued", None)] * 3

    another = machines.worker(*options, "--lease", "1")
    poll(lambda: web.counts()["running"] == 3, "it takes the other three")
    machines.kill(another)
    killed = time.monotonic()
    poll(lambda: listed(web, another) is None, "it counts as dead")
    assert time.monotonic() - killed < 1.0 + LOAD


class Starters:
    """People who start jobs, and try the other web process where one refuses.

    Args:
        webs: the processes, which may change at any time.
        body: of each job.
    """

    def __init__(self, webs: list[Server], body: dict[str, Any]) -> None:
        self._webs, self._body = webs, body
        self.ids: list[str] = []
        self.wrong: list[str] = []
        self._numbers = itertools.count(1)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._start) for _ in range(4)]
        for each in self._threads:
            each.start()

    def _start(self) -> None:
        with httpx2.Client(timeout=10) as client:
            while not self._over.wait(0.02):
                number = next(self._numbers)
                self._once(client, number, {"Idempotency-Key": f"key {number}"})

    def _once(self, client: httpx2.Client, number: int, headers: dict[str, str]) -> None:
        body = {**self._body, "number": number}
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for web in list(self._webs):
                try:
                    answer = client.post(f"{web.url}/start/thrice", json=body, headers=headers)
                except httpx2.TransportError:
                    continue  # It has just ended.
                if answer.status_code == 202:
                    self.ids.append(answer.json()["id"])
                    return
                if answer.status_code != 503:
                    self.wrong.append(answer.text)
                    return
            time.sleep(0.02)
        self.wrong.append(f"nobody takes job {number}")

    def stop(self) -> None:
        """No more."""
        self._over.set()
        for each in self._threads:
            each.join()


def test_a_new_version_comes_without_a_lost_job(machines: Machines, tmp_path: Path) -> None:
    """One process after the other, while jobs are started and run: each is done, and once."""
    traces = Traces(tmp_path / "traces")
    with ThreadPoolExecutor(4) as pool:
        for made in [pool.submit(make) for make in (machines.web, machines.worker) * 2]:
            made.result()
    serving = list(machines.webs)
    people = Starters(serving, {"traces": str(traces.path), "seconds": 0.3})
    try:
        for old in list(machines.workers):
            machines.worker()
            end(old)
        for old in list(machines.webs):
            serving.append(machines.web())
            end(old)
            serving.remove(old)
    finally:
        people.stop()
    assert not people.wrong
    assert len(people.ids) > 50
    web = serving[0]
    poll(lambda: web.counts()["succeeded"] == len(people.ids), "each is done", 60)
    befores, afters = traces.by_job("before"), traces.by_job("after")
    for each in people.ids:
        # One that did not end in time, or had not begun, was handed over; none ended twice.
        assert afters[each] == 1
        attempts = web.job(each).get("attempts", [])
        assert {cut["reason"] for cut in attempts} <= {"shutdown"}
        assert 1 <= befores[each] <= len(attempts) + 1


def end(server: Server) -> None:
    """As a service manager does it."""
    server.signal_group(signal.SIGTERM)
    assert server.wait(DRAIN + GRACE + 1.0 + LOAD + 5) == 0, server.log


def test_several_workers_of_hypercorn_share_a_store(machines: Machines, tmp_path: Path) -> None:
    """Any of them answers for all jobs, and each runs some."""
    traces, gate = Traces(tmp_path / "traces"), tmp_path / "gate"
    command = [*COMMANDS["hypercorn"][:-1], "--workers", "3", COMMANDS["hypercorn"][-1]]
    server = machines._launch(command).wait_listening()

    def processes() -> list[dict[str, Any]]:
        with httpx2.Client(verify=False) as client:  # A new connection, perhaps to another of them.
            found: list[dict[str, Any]] = client.get(f"{server.url}/workers").json()["workers"]
        return found

    poll(lambda: len(processes()) == 3, "three work with the store")
    ids = []
    for number in range(30):
        body = {"traces": str(traces.path), "number": number, "gate": str(gate)}
        answer = httpx2.post(f"{server.url}/start/once", json=body, timeout=10)
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["id"])
    for each in ids:
        traces.wait("before", each)
    canceled, *others = ids
    assert httpx2.post(f"{server.url}/cancel/{canceled}", timeout=10).status_code in (200, 202)
    gate.touch()
    ran_in = set()
    for each in others:
        job = httpx2.get(f"{server.url}/jobs/{each}", headers={"Prefer": "wait=10"}, timeout=20)
        assert job.json()["status"] == "succeeded", job.text
        ran_in.add(job.json()["worker"])
    assert ran_in <= {each["id"] for each in processes()}
    assert len(ran_in) > 1
    assert server.job(canceled, wait=10)["status"] == "canceled"
    assert {traces.count("before", each) for each in ids} == {1}
