"""Many processes, each killed in turn, and the store with them: nothing acknowledged is lost,
nothing runs that may not, and limits hold."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import Server, Traces, poll
from tests.e2e.limited_jobs import Did, tell, told
from tests.e2e.machines import LEASE, Machines
from tests.servers import PostgresServer, RedisServer
from tests.servers import Server as Broker

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROUNDS = 10
JOBS = 2_000
CLIENTS = 20
ATTEMPTS = {"once": 1, "thrice": 3}
WINDOW = 0.998
"""Seconds: a second of a rate, less the milliseconds that documents cut."""
NO_TLS: dict[str, Any] = {"verify": False, "timeout": 10}
BROKERS: dict[str, Any] = {"redis": RedisServer, "postgres": PostgresServer}


@pytest.fixture(params=list(BROKERS))
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A server of this test's own, that it may kill."""
    kind = BROKERS[request.param]
    server: Broker = kind()
    yield server
    server.close()


@pytest.fixture
def machines(broker: Broker, namespace: str) -> Iterator[Machines]:
    """Processes on that store."""
    made = Machines(broker.url, namespace, tasks="tests.e2e.durable_jobs,tests.e2e.limited_jobs")
    yield made
    made.stop()


class Clients:
    """Clients that start jobs at whichever web process there is, each again and again with one
    key until it is answered.

    Args:
        machines: whom they ask.
        traces: where the jobs leave theirs.
        seed: makes what they do repeatable, as far as the machine is.
    """

    def __init__(self, machines: Machines, traces: Traces, seed: int) -> None:
        self._machines = machines
        self._traces = str(traces)
        self._numbers = itertools.count()
        self.random = random.Random(seed)  # noqa: S311 - not for secrets
        self.jobs: dict[str, tuple[str, int]] = {}
        """The task and the number of every job that was answered with its id."""
        self.asked: dict[int, tuple[str, dict[str, Any]]] = {}
        """What was asked with each number, which is its key, too."""
        self.ids: dict[int, str] = {}
        """The id that a number was answered with."""
        self.failures: Counter[str] = Counter()
        """How often there was no id in the answer, and why."""

    async def storm(self, jobs: int, seconds: float) -> None:
        """Start so many from all clients, in about so many seconds."""
        async with httpx2.AsyncClient(**NO_TLS) as client:
            pause = seconds * CLIENTS / jobs

            async def one(share: int) -> None:
                for _ in range(share):
                    await asyncio.sleep(self.random.uniform(0, 2 * pause))
                    await self._start(client)

            await asyncio.gather(*(one(jobs // CLIENTS) for _ in range(CLIENTS)))

    async def _start(self, client: httpx2.AsyncClient) -> None:
        number = next(self._numbers)
        seconds = self.random.choice([0, 0.05, 0.2, 0.2])
        body = {"traces": self._traces, "number": number, "seconds": seconds}
        self.asked[number] = self.random.choice(list(ATTEMPTS)), body
        await self.ask(client, number)
        if self.random.random() < 0.1:
            await self.ask(client, number)

    async def ask(self, client: httpx2.AsyncClient, number: int) -> None:
        """Ask until there is an id; it is the one that was given before."""
        task, body = self.asked[number]
        headers = {"Idempotency-Key": f"key {number}"}
        end = time.monotonic() + 60
        while True:
            assert time.monotonic() < end, (number, self.failures)
            web = self.random.choice(self._machines.webs or [None])
            if web is not None:
                try:
                    answer = await client.post(
                        f"{web.url}/start/{task}", json=body, headers=headers
                    )
                except httpx2.TransportError as error:
                    self.failures[type(error).__name__] += 1
                else:
                    if answer.status_code in (200, 202):
                        break
                    assert answer.status_code == 503, answer.text
                    self.failures["503"] += 1
            await asyncio.sleep(0.05)
        job_id = answer.json()["id"]
        assert self.ids.setdefault(number, job_id) == job_id, "a key has given two jobs"
        self.jobs[job_id] = task, number

    async def ask_again(self, many: int) -> None:
        """Some of the numbers once more, after all the kills."""
        async with httpx2.AsyncClient(**NO_TLS) as client:
            for number in self.random.sample(sorted(self.asked), many):
                await self.ask(client, number)


async def kill_processes(machines: Machines, chance: random.Random) -> None:
    """Kill a worker and a web process, and start others."""
    await asyncio.sleep(chance.uniform(0.1, 0.6))
    await asyncio.gather(
        asyncio.to_thread(machines.again, machines.workers[0]),
        asyncio.to_thread(machines.again, machines.webs[0]),
    )


async def kill_store(broker: Broker, chance: random.Random) -> None:
    """Kill the store, and start it again."""
    await asyncio.sleep(chance.uniform(0.1, 0.6))
    await asyncio.to_thread(broker.kill)
    await asyncio.sleep(chance.uniform(0.05, 1.0))
    await asyncio.to_thread(broker.start)


def is_quiet(server: Server) -> bool:
    """Whether every job is over."""
    answer = server.get("/readyz")
    if answer.status_code != 200:
        return False
    counts = answer.json()["jobs"]
    return bool(counts["queued"] == counts["scheduled"] == counts["running"] == 0)


def check(jobs: dict[str, dict[str, Any]], clients: Clients, traces: Traces) -> Counter[str]:
    """Every job is over, and its status is what its traces say."""
    begins, ends = traces.by_job("before"), traces.by_job("after")
    begun = Counter((each.job, each.attempt) for each in traces.read() if each.what == "before")
    assert clients.jobs.keys() <= jobs.keys(), "acknowledged jobs were lost"
    assert begins.keys() <= jobs.keys(), "a job ran that was never on record"
    assert max(begun.values()) == 1, "an attempt began twice"
    endings: Counter[str] = Counter()
    for job_id, job in jobs.items():
        heard = (job, begins[job_id], ends[job_id])
        assert job["status"] in ("succeeded", "failed"), heard  # Nobody has canceled any.
        assert begins[job_id] <= ATTEMPTS[job["task"]] == job["max_attempts"], heard
        assert begins[job_id] <= job["attempt"], heard
        if job["status"] == "succeeded":
            assert ends[job_id] >= 1, heard
            assert job["result"] == job["args"]["number"], heard
        else:
            assert job["reason"] in ("lost", "poison"), heard
            assert job["attempt"] == job["max_attempts"], heard
        endings[f"{job['status']} {job['reason']} at attempt {job['attempt']}"] += 1
    return endings


def documents(server: Server) -> dict[str, dict[str, Any]]:
    """Every job by its id, as one process tells it; without what is its own guess."""
    return {job["id"]: {**job, "eta": None} for job in server.all_jobs()}


def same_host(job: dict[str, Any]) -> dict[str, Any]:
    """A document without the address of who was asked."""
    return {name: value for name, value in job.items() if name not in ("url", "children")}


async def test_two_thousand_jobs_outlive_kills_of_every_process_and_of_the_store(
    machines: Machines, broker: Broker, tmp_path: Path
) -> None:
    """Ten rounds, each with a kill -9 of a worker, of a web process and of the store: no
    acknowledged job is lost, each reaches one true end, and keys stay keys."""
    traces = Traces(tmp_path / "traces")
    clients = Clients(machines, traces, 1)
    starts = [machines.web] * 2 + [machines.worker] * 3
    await asyncio.gather(*(asyncio.to_thread(start) for start in starts))
    half = JOBS // ROUNDS // 2
    for _ in range(ROUNDS):
        # However long processes take to start, jobs are being started when the store is killed.
        await asyncio.gather(clients.storm(half, 1.0), kill_processes(machines, clients.random))
        await asyncio.gather(clients.storm(half, 1.0), kill_store(broker, clients.random))
    await asyncio.to_thread(machines.web)
    await clients.ask_again(200)
    first = machines.webs[0]
    try:
        await asyncio.to_thread(poll, lambda: is_quiet(first), "every job reaches an end", 90)
    except AssertionError:
        left = [job for job in first.all_jobs() if job["finished"] is None]
        said = "".join(machines.logs()[-40:])
        pytest.fail(
            f"{first.get('/readyz').text}\n{left[:5]}\n{first.get('/workers').text}\n{said}"
        )
    views = [await asyncio.to_thread(documents, web) for web in machines.webs]
    endings = check(views[0], clients, traces)
    print(dict(endings), dict(clients.failures))  # noqa: T201 - what it was like
    for view in views[1:]:
        assert view.keys() == views[0].keys()
        assert all(same_host(view[each]) == same_host(views[0][each]) for each in view)
    assert len(clients.jobs) == JOBS
    # Whatever became of the first answer, one key has run as one start.
    jobs_of_number: dict[int, set[str]] = {}
    for trace in traces.read():
        jobs_of_number.setdefault(trace.number, set()).add(trace.job)
    assert all(len(ids) == 1 for ids in jobs_of_number.values())
    # What this is about has happened.
    assert clients.failures["503"] > 0
    assert sum(clients.failures.values()) > clients.failures["503"]
    assert endings["failed lost at attempt 1"] > 0
    assert endings["succeeded None at attempt 2"] > 0


def most_at_once(lines: list[Did]) -> int:
    """How many ran at once, at most: what a killed process had begun ran until its kill."""
    running: dict[str, int] = {}
    most = 0
    for line in lines:
        if line.what == "killed":
            running = {job: pid for job, pid in running.items() if pid != line.pid}
        elif line.what == "begin":
            assert line.job not in running, "a job began while it ran"
            running[line.job] = line.pid
            most = max(most, len(running))
        elif running.get(line.job) == line.pid:
            del running[line.job]
    return most


def most_within(moments: list[float], seconds: float) -> int:
    """How many moments there are in any window of so many seconds, at most."""
    moments = sorted(moments)
    first = most = 0
    for last, at in enumerate(moments):
        while moments[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def moment(text: str) -> float:
    """Seconds since the epoch of a document's moment."""
    return dt.datetime.fromisoformat(text).timestamp()


def kill_and_tell(machines: Machines, server: Server, *files: Path) -> None:
    """Kill a process, say in the jobs' files that it is dead, and start another one."""
    pid = server.process.pid
    server.stop()
    for file in files:
        tell(str(file), "killed", "-", pid=pid)
    machines.again(server)


def test_limits_hold_while_the_leader_and_the_workers_are_killed(
    machines: Machines, tmp_path: Path
) -> None:
    """Never more than three at once, and no more than twenty begin in a second, whoever leads."""
    machines.web()
    for _ in range(3):
        machines.worker()
    limited, rated = tmp_path / "limited", tmp_path / "rated"
    body = [{"file": str(limited), "number": n, "seconds": 0.1} for n in range(300)]
    assert machines.webs[0].post("/start/three", body).status_code == 202
    body = [{"file": str(rated), "number": n} for n in range(300)]
    assert machines.webs[0].post("/start/rated", body).status_code == 202
    for number in range(6):
        time.sleep(0.7)
        leader = machines.leader()
        others = [each for each in machines.workers if each is not leader]
        kill_and_tell(machines, others[0] if number % 3 == 2 else leader, limited, rated)
    web = machines.web()
    poll(lambda: is_quiet(web), "every job reaches an end", 60)
    assert web.counts()["succeeded"] == 600
    lines = told(limited)
    assert {each.number for each in lines if each.what == "end"} == set(range(300))
    most = most_at_once(lines)
    jobs = [job for job in web.all_jobs() if job["task"] == "rated"]
    begins = [moment(each["started"]) for job in jobs for each in (job, *job.get("attempts", []))]
    print(f"at once: {most}, begun within a second: {most_within(begins, WINDOW)}")  # noqa: T201
    assert most == 3
    assert most_within(begins, WINDOW) <= 20


def test_an_outage_that_is_longer_than_the_lease_ends_no_job(
    machines: Machines, broker: Broker, tmp_path: Path
) -> None:
    """Who could not say that it is alive was not dead: its jobs go on, and end once."""
    traces = Traces(tmp_path / "traces")
    web = machines.web()
    for _ in range(2):
        machines.worker()
    seconds = [2 * LEASE + 3, LEASE, LEASE + 1.5]  # It ends after, and during, the outage.
    ids = [
        web.start(task, traces=str(traces), number=number, seconds=each)
        for number, each in enumerate(seconds)
        for task in ATTEMPTS
    ]
    for job_id in ids:
        traces.wait("before", job_id)
    time.sleep(0.5)  # So that none of them has ended when the store goes.
    broker.kill()
    began = time.monotonic()
    answer = web.post("/start/once", {"traces": str(traces)})
    assert answer.status_code == 503
    assert time.monotonic() - began < 2.5
    assert web.get("/readyz").status_code == 503
    time.sleep(LEASE + 1.5)
    broker.start()
    poll(lambda: is_quiet(web), "every job reaches an end", 30)
    for job_id in ids:
        job = web.job(job_id)
        assert (job["status"], job["attempt"]) == ("succeeded", 1), job
        assert traces.count("before", job_id) == traces.count("after", job_id) == 1
    later = web.start("once", traces=str(traces))
    assert web.job(later, wait=5)["status"] == "succeeded"
