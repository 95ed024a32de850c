"""kill -9 at any moment: nothing acknowledged is lost, nothing runs that may not (S1 to S3)."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import Durable, Server, poll
from tests.rounds import rounds

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROUNDS = rounds(20)
CLIENTS = 50
ATTEMPTS = {"once": 1, "thrice": 3, "once_in_a_thread": 1}
KILLED = -signal.SIGKILL
NO_TLS: dict[str, Any] = {"verify": False, "timeout": 30}
"""Fifty clients share one connection pool, and read no certificates that they do not need."""


class Clients:
    """Clients that start jobs, and what they were told.

    Args:
        durable: where the jobs leave their traces.
        seed: makes what they do repeatable, as far as the machine is.
    """

    def __init__(self, durable: Durable, seed: int) -> None:
        self._traces = str(durable.traces)
        self.random = random.Random(seed)  # noqa: S311 - not for secrets
        self._numbers = itertools.count()
        self.acknowledged: dict[str, str] = {}
        """The task of every job that was answered with its id."""
        self.asked: dict[str, tuple[str, Any]] = {}
        """What was asked with each key, whether or not there was an answer."""
        self.keyed: dict[str, list[str]] = {}
        """The ids that a key was answered with."""
        self.numbers: dict[int, str] = {}
        """The key with which a number was sent."""

    async def storm(self, url: str, seconds: float, kill: Callable[[], None]) -> None:
        """Start jobs from all clients at once, and kill the server in the middle of it."""
        limits = httpx2.Limits(max_connections=CLIENTS)
        async with httpx2.AsyncClient(base_url=url, limits=limits, **NO_TLS) as client:
            clients = [asyncio.create_task(self._client(client)) for _ in range(CLIENTS)]
            await self._answered()
            await asyncio.sleep(seconds)
            kill()
            await asyncio.gather(*clients)

    async def _answered(self) -> None:
        before, end = len(self.acknowledged), time.monotonic() + 30
        while len(self.acknowledged) == before:
            assert time.monotonic() < end, "nothing is answered"
            await asyncio.sleep(0.002)

    async def _client(self, client: httpx2.AsyncClient) -> None:
        while True:
            try:
                await self._start(client)
            except httpx2.TransportError:  # It is dead.
                return

    async def _start(self, client: httpx2.AsyncClient) -> None:
        if self.asked and self.random.random() < 0.2:  # Of this round, or of one before a kill.
            return await self.repeat(client, self.random.choice(list(self.asked)))
        task = self.random.choice(list(ATTEMPTS))
        many = self.random.random() < 0.15
        body = [self._arguments() for _ in range(3)] if many else self._arguments()
        if self.random.random() < 0.4:
            key = f"key {next(self._numbers)}"
            self.asked[key] = task, body
            for each in body if isinstance(body, list) else [body]:
                self.numbers[each["number"]] = key
            return await self.repeat(client, key)
        self._note(task, await client.post(f"/start/{task}", json=body))
        return None

    def _arguments(self) -> dict[str, Any]:
        seconds = self.random.choice([0, 0.002, 0.03])
        return {"traces": self._traces, "number": next(self._numbers), "seconds": seconds}

    async def repeat(self, client: httpx2.AsyncClient, key: str) -> None:
        """Send what was sent with a key once more."""
        task, body = self.asked[key]
        known = self.keyed.get(key)
        answer = await client.post(f"/start/{task}", json=body, headers={"Idempotency-Key": key})
        ids = self._note(task, answer)
        assert ids == self.keyed.setdefault(key, ids)
        if known is not None:
            assert answer.headers["Idempotency-Replayed"] == "true"

    def _note(self, task: str, answer: httpx2.Response) -> list[str]:
        assert answer.status_code in (200, 202), answer.text
        document = answer.json()
        ids = [each["id"] for each in document.get("jobs", [document])]
        self.acknowledged.update(dict.fromkeys(ids, task))
        return ids


def is_lost(server: Server) -> None:
    """The process was killed, and ended by nothing else."""
    assert server.wait(10) == KILLED, "".join(server.log)
    server.stop()


def check(server: Server, durable: Durable, clients: Clients) -> Counter[str]:
    """Every job is over, and its status is what its traces say."""
    jobs = {job["id"]: job for job in server.all_jobs()}
    assert clients.acknowledged.keys() <= jobs.keys(), "acknowledged jobs were lost"
    begun = Counter((each.job, each.attempt) for each in durable.traces.read() if is_begin(each))
    begins, ends = durable.traces.by_job("before"), durable.traces.by_job("after")
    assert begins.keys() <= jobs.keys(), "a job ran that was never on record"
    assert set(begun.values()) == {1}, "an attempt began twice"
    endings: Counter[str] = Counter()
    for job_id, job in jobs.items():
        told = (job, begins[job_id], ends[job_id])
        assert begins[job_id] <= job["attempt"] <= job["max_attempts"], told
        assert job["max_attempts"] == ATTEMPTS[job["task"]], told
        assert all(each["reason"] == "lost" for each in job.get("attempts", [])), told
        assert len(job.get("attempts", [])) == job["attempt"] - 1, told
        if job["status"] == "succeeded":
            assert ends[job_id] >= 1, told
            assert job["result"] == job["args"]["number"], told
        else:  # Nobody has canceled any, and none raises.
            assert job["status"] == "failed", told
            poison = job["attempt"] == job["max_attempts"] == 3
            assert job["reason"] == ("poison" if poison else "lost"), told
            assert poison or job["max_attempts"] == 1, told
        endings[f"{job['status']} {job['reason']} at attempt {job['attempt']}"] += 1
    return endings


def is_begin(trace: Any) -> bool:
    """Whether a trace is that of a beginning."""
    return bool(trace.what == "before")


@pytest.mark.parametrize("seed", range(5))
def test_kill_9_loses_no_acknowledged_job_and_runs_none_that_may_not(
    durable: Durable, seed: int
) -> None:
    """Twenty kills under fifty clients: each job reaches one true end, keys stay keys."""
    clients = Clients(durable, seed)
    settings: dict[str, Any] = {"max_running": 20, "threads": 4, "max_queued": 100_000}
    settings["retain_count"] = 1_000_000
    for number in range(ROUNDS):
        if number % 4 == 3:  # Also while it takes over what the last one has left.
            server = durable.launch(**settings)
            time.sleep(clients.random.uniform(0.2, 0.9))
            server.process.kill()
            is_lost(server)
        server = durable(**settings)
        moment = clients.random.uniform(0.05, 0.3)
        asyncio.run(clients.storm(server.url, moment, server.process.kill))
        is_lost(server)
    server = durable(**settings)
    asyncio.run(repeat_all(server.url, clients))
    poll(lambda: is_quiet(server), "every job reaches an end", 60)
    endings = check(server, durable, clients)
    # What this is about has happened.
    assert len(clients.acknowledged) > 10 * ROUNDS
    assert endings["failed lost at attempt 1"] > 0
    assert endings["succeeded None at attempt 2"] > 0
    # Whatever became of the first answer, one key has run as one start.
    assert all(len(ids) in (1, 3) for ids in clients.keyed.values())
    jobs_of_number: dict[int, set[str]] = {}
    for each in durable.traces.read():
        jobs_of_number.setdefault(each.number, set()).add(each.job)
    assert all(len(jobs_of_number.get(n, ())) <= 1 for n in clients.numbers)


def is_quiet(server: Server) -> bool:
    """Whether every job is over."""
    counts = server.counts()
    return counts["queued"] == counts["scheduled"] == counts["running"] == 0


async def repeat_all(url: str, clients: Clients) -> None:
    """Every key once more, after all the kills."""
    async with httpx2.AsyncClient(base_url=url, **NO_TLS) as client:
        for key in list(clients.asked):
            await clients.repeat(client, key)


def cut(durable: Durable, server: Server, job_id: str, number: int) -> None:
    """Wait until a job stands in a step."""
    durable.traces.wait("begin", job_id, number)
    server.process.kill()
    is_lost(server)


def check_steps(durable: Durable, job_id: str, cuts: list[int]) -> None:
    """Each step has ended once, and only one that was cut has begun twice."""
    for number in range(1, 11):
        assert durable.traces.count("end", job_id, number) == 1
        assert durable.traces.count("begin", job_id, number) == (2 if number in cuts else 1)


def test_a_job_of_ten_steps_goes_on_at_the_step_in_which_it_was_killed(durable: Durable) -> None:
    """Ten jobs, each killed at another step: finished steps ran once, the cut one twice."""
    server = durable()
    jobs: list[str] = []
    for number in range(1, 11):
        task = "ten_steps" if number % 2 else "ten_steps_in_a_thread"
        jobs.append(server.start(task, traces=str(durable.traces), cuts=[number]))
        cut(durable, server, jobs[-1], number)
        server = durable()
        server.until(jobs[-1], "succeeded")
    for number, job_id in enumerate(jobs, 1):
        ended = server.job(job_id)
        assert ended["result"] == [each * each for each in range(1, 11)]
        assert ended["attempt"] == 2
        check_steps(durable, job_id, [number])


def test_one_job_that_is_cut_in_each_of_its_steps_comes_to_its_end(durable: Durable) -> None:
    """Kills, and a shutdown where a third kill in a row would make it poison: each step ran once,
    except for its cut."""
    settings: dict[str, Any] = {"drain": 0, "grace": 5}
    server = durable(**settings)
    cuts = list(range(1, 11))
    job_id = server.start("ten_steps", traces=str(durable.traces), cuts=cuts)
    for number in cuts:
        if number % 3:
            cut(durable, server, job_id, number)
        else:
            durable.traces.wait("begin", job_id, number)
            server.signal_group()
            assert server.wait(20) == 0, "".join(server.log)
            server.stop()
        server = durable(**settings)
    ended = server.until(job_id, "succeeded")
    assert ended["result"] == [each * each for each in cuts]
    check_steps(durable, job_id, cuts)
    assert [each["reason"] for each in ended["attempts"]].count("lost") == 7
    assert ended["attempt"] == 8, "an attempt that a shutdown has cut is not counted"


def test_a_kill_while_the_file_is_made_leaves_nothing_in_the_way(durable: Durable) -> None:
    """Ten first starts that are killed at random moments, and then one that serves."""
    moments = random.Random(7)  # noqa: S311 - not for secrets
    for _ in range(10):
        for path in durable.file.parent.glob("jobs.db*"):
            path.unlink()
        server = durable.launch()
        time.sleep(moments.uniform(0.2, 0.8))
        server.process.kill()
        is_lost(server)
        server = durable()
        server.until(server.start("once", traces=str(durable.traces)), "succeeded")
        server.stop()


def test_a_job_that_kills_its_server_three_times_in_a_row_is_poison(durable: Durable) -> None:
    """Whatever attempts it has left, it is not tried a fourth time; the service lives."""
    server = durable()
    job_id = server.start("kill_the_server", traces=str(durable.traces))
    is_lost(server)
    for _ in range(2):
        server = durable.launch()
        is_lost(server)
    server = durable()
    ended = server.job(job_id)
    assert (ended["status"], ended["reason"]) == ("failed", "poison")
    assert ended["error"]["code"] == "Poison"
    assert ended["attempt"] == durable.traces.count("before", job_id) == 3
    other = server.start("once", traces=str(durable.traces))
    assert server.until(other, "succeeded")["attempt"] == 1
    assert server.get("/readyz").status_code == 200
