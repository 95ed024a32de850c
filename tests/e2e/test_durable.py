"""A service with a SQLite file: what it promises while all goes well, and while the file does not.

S1 to S5 and E4, with real processes, signals, locks and a disk that is really full.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import signal
import sqlite3
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import Durable, Server, Servers, poll
from tests.rounds import rounds
from tests.servers import needs

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DRAIN, GRACE, SLACK = 1.0, 2.0, 1.0
CONNECTIONS = {"serve": 0.0, "hypercorn": 3.0}
"""Seconds that plain Hypercorn gives to open connections first (graceful_timeout)."""
LOAD = 1.0
"""Seconds that a busy machine may add to what is measured from outside."""
NO_TLS: dict[str, Any] = {"verify": False, "timeout": 30}


def seconds_of(moment: str) -> float:
    """Seconds since the epoch of a document's moment."""
    return dt.datetime.fromisoformat(moment).timestamp()


def shut_down(server: Server, kind: str) -> None:
    """SIGTERM to the group, as a service manager does; ends in time and well."""
    began = time.monotonic()
    server.signal_group()
    assert server.wait(20) == 0, "".join(server.log)
    assert time.monotonic() - began <= CONNECTIONS[kind] + DRAIN + GRACE + SLACK + LOAD
    server.stop()


# One owner


def test_a_second_service_on_the_same_file_names_its_owner_and_ends(durable: Durable) -> None:
    """One line, exit status 78, at once; the first one goes on, and its kill frees the file."""
    first = durable()
    began = time.monotonic()
    second = durable.launch()
    assert second.wait(30) == os.EX_CONFIG
    assert time.monotonic() - began < 3.0 + LOAD
    second.stop()
    [line] = second.log
    assert f"process {first.process.pid} " in line
    assert str(durable.file) in line
    job_id = first.start("once", traces=str(durable.traces))
    first.until(job_id, "succeeded")
    first.stop()
    assert durable().job(job_id)["status"] == "succeeded"


def test_plain_hypercorn_on_the_same_file_names_the_owner_and_ends(durable: Durable) -> None:
    """Its own traceback comes along, but it ends, and says by whom the file is used."""
    first = durable()
    began = time.monotonic()
    second = durable.launch("hypercorn")
    assert second.wait(30) != 0
    assert time.monotonic() - began < 3.0 + LOAD
    second.stop()
    assert any(f"process {first.process.pid} " in line for line in second.log), second.log
    assert first.get("/readyz").status_code == 200


def test_another_name_of_the_file_is_no_way_around_its_owner(durable: Durable) -> None:
    """A symbolic link leads to the same file, and so to the same owner."""
    first = durable()
    link = durable.file.with_name("link.db")
    link.symlink_to(durable.file)
    second = durable.launch(store=f"sqlite:///{link}")
    assert second.wait(30) == os.EX_CONFIG
    second.stop()
    assert f"process {first.process.pid} " in second.log[-1]


# Shutdown


def test_a_shutdown_keeps_what_waits_and_what_may_run_again(durable: Durable, kind: str) -> None:
    """SIGTERM: queued jobs stay queued, a running one with attempts left is put back uncounted, one
    without ends failed, a delayed one stays where it is; all that may runs after the restart."""
    settings: dict[str, Any] = {"drain": DRAIN, "grace": GRACE, "max_running": 2}
    traces, gate = str(durable.traces), str(durable.file.with_name("gate"))
    server = durable(kind, **settings)
    once = server.start("once", traces=traces, gate=gate)
    thrice = server.start("thrice", traces=traces, gate=gate)
    for job_id in (once, thrice):
        durable.traces.wait("before", job_id)
    queued = [server.start(task, traces=traces) for task in ("once", "thrice")]
    delayed = server.post("/start/once?delay=6", {"traces": traces}).json()
    assert delayed["status"] == "scheduled"
    shut_down(server, kind)
    assert not durable.traces.by_job("after")
    with contextlib.closing(sqlite3.connect(durable.file)) as file:
        on_record = dict(file.execute("SELECT id, status FROM jobs").fetchall())
    assert on_record == {
        once: "failed",
        thrice: "queued",
        **dict.fromkeys(queued, "queued"),
        delayed["id"]: "scheduled",
    }
    Path(gate).touch()
    server = durable(kind, **settings)
    listened = time.time()
    again = server.until(thrice, "succeeded")
    assert again["attempt"] == 1, "the attempt that the shutdown cut off is not counted"
    assert [each["reason"] for each in again["attempts"]] == ["shutdown"]
    for job_id in queued:
        assert server.until(job_id, "succeeded")["attempt"] == 1
    ended = server.job(once)
    assert (ended["status"], ended["reason"]) == ("failed", "shutdown")
    assert ended["error"]["code"] == "Shutdown"
    begins = durable.traces.by_job("before")
    assert [begins[each] for each in (once, thrice, *queued)] == [1, 2, 1, 1]
    on_time = server.until(delayed["id"], "succeeded")
    assert on_time["run_at"] == delayed["run_at"]
    due = seconds_of(on_time["run_at"])
    assert due <= seconds_of(on_time["started"]) < max(due, listened) + 1.0 + LOAD


@pytest.mark.parametrize("task", ["polite_thread", "deaf_thread", "in_a_process"])
def test_a_job_of_any_lane_with_attempts_left_runs_again_after_a_shutdown(
    durable: Durable, kind: str, task: str
) -> None:
    """In a thread or a process, and also where it does not hear that it should stop."""
    settings: dict[str, Any] = {"drain": 0, "grace": GRACE}
    gate = durable.file.with_name("gate")
    server = durable(kind, **settings)
    job_id = server.start(task, traces=str(durable.traces), gate=str(gate))
    durable.traces.wait("before", job_id)
    shut_down(server, kind)
    server = durable(kind, **settings)
    durable.traces.wait("before", job_id, times=2)
    gate.touch()
    ended = server.until(job_id, "succeeded")
    assert [each["reason"] for each in ended["attempts"]] == ["shutdown"]
    assert ended["attempt"] == 1
    assert durable.traces.count("after", job_id) == 1


# Somebody else's lock


class Pulse:
    """Asks for a path again and again, in a thread; how long each answer took.

    Args:
        url: what to ask.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.took: list[float] = []
        self.statuses: Counter[int] = Counter()

    def _run(self) -> None:
        with httpx2.Client(**NO_TLS) as client:
            while not self._stop.wait(0.01):
                began = time.perf_counter()
                self.statuses[client.get(self._url).status_code] += 1
                self.took.append(time.perf_counter() - began)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self, answers: int) -> None:
        """Wait until there are so many answers."""
        poll(lambda: len(self.took) >= answers, f"{answers} answers")

    @property
    def p99(self) -> float:
        """Seconds within which 99 of 100 answers came."""
        return statistics.quantiles(self.took, n=100)[-1]


def hold_up(server: Server, durable: Durable, seconds: float) -> list[str]:
    """Hold a write lock on the file for so long, and start jobs meanwhile; the keys of those."""
    keys: list[str] = []
    running = next(server.all_jobs())["id"]
    with contextlib.closing(sqlite3.connect(durable.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            keys.append(f"key {len(keys)}")
            arguments = {"traces": str(durable.traces), "number": len(keys)}
            began = time.monotonic()
            headers = {"Idempotency-Key": keys[-1]}
            refused = server.post("/start/once", arguments, **headers)
            assert time.monotonic() - began < 2.5
            assert refused.status_code == 503, refused.text
            assert int(refused.headers["Retry-After"]) >= 1
            assert refused.json()["type"] == "urn:quart-app:problem:store-unavailable"
            assert server.job(running)["status"] == "running", "what is on record is still told"
            assert len(server.get("/jobs").json()["jobs"]) == 1
        assert server.get("/readyz").status_code == 503
        assert "lock" in server.get("/healthz").json()["store"]
        other.execute("ROLLBACK")
    return keys


def test_a_lock_of_another_program_delays_nothing_but_writes(durable: Durable) -> None:
    """Ten seconds: health and reads answer as ever, starts are refused in time, the end of a job is
    recorded afterwards, and then all is well without a restart."""
    server = durable()
    job_id = server.start("once", traces=str(durable.traces), seconds=4)
    durable.traces.wait("before", job_id)
    with Pulse(server.url + "/healthz") as before:
        before.wait(100)
    with Pulse(server.url + "/healthz") as pulse:
        keys = hold_up(server, durable, 10)
    assert durable.traces.count("after", job_id) == 1, "it has ended while nobody could write"
    assert set(pulse.statuses) == {200}
    assert pulse.p99 < 0.1 + before.p99, "0.1 s, and what this machine adds without the lock"
    ended = server.until(job_id, "succeeded")
    assert durable.traces.count("before", job_id) == ended["attempt"] == 1
    poll(lambda: server.get("/readyz").status_code == 200, "ready again", 5)
    assert server.get("/healthz").json()["store"] == "ok"
    for number, key in enumerate(keys, 1):
        arguments = {"traces": str(durable.traces), "number": number}
        again = server.post("/start/once", arguments, **{"Idempotency-Key": key})
        assert again.status_code in (200, 202), again.text
        server.until(again.json()["id"], "succeeded")
    numbers = Counter(each.number for each in durable.traces.read() if each.what == "after")
    assert numbers == dict.fromkeys(range(len(keys) + 1), 1), "each key made one job"


def queue_up(durable: Durable, count: int) -> None:
    """A file with so many queued jobs, and no service."""
    server = durable(max_running=1, drain=0)
    traces = str(durable.traces)
    blocker = server.start("once", traces=traces, number=count, seconds=3600)
    durable.traces.wait("before", blocker)
    batch = [{"traces": traces, "number": number} for number in range(count)]
    assert server.post("/start/once", batch).status_code == 202
    server.signal_group()
    assert server.wait(20) == 0
    server.stop()


def test_a_start_under_somebody_elses_lock_keeps_the_queue_in_its_order(durable: Durable) -> None:
    """The service listens and says what is wrong, jobs keep their turns, the log stays short; when
    the lock is gone they run."""
    queue_up(durable, 200)
    with contextlib.closing(sqlite3.connect(durable.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        server = durable(max_running=1)
        poll(lambda: server.get("/readyz").status_code == 503, "it says that it cannot write")
        assert len(list(server.all_jobs())) == 201
        with Pulse(server.url + "/healthz") as pulse:  # It goes on like that for a while.
            pulse.wait(200)
        other.execute("ROLLBACK")
    poll(lambda: server.get("/readyz").status_code == 200, "ready again", 10)
    poll(lambda: server.counts()["succeeded"] == 200, "all have run")
    numbers = [each.number for each in durable.traces.read() if each.what == "before"]
    assert numbers == [200, *range(200)]
    assert len(server.log) < 20, "".join(server.log)
    assert not any("Traceback" in line for line in server.log)


def test_a_start_after_a_crash_under_somebody_elses_lock_takes_over_later(durable: Durable) -> None:
    """What was running is decided when that can be written; the service is there meanwhile."""
    server = durable()
    job_id = server.start("once", traces=str(durable.traces), seconds=3600)
    again = server.start("thrice", traces=str(durable.traces), seconds=0.1)
    for each in (job_id, again):
        durable.traces.wait("before", each)
    server.stop()
    with contextlib.closing(sqlite3.connect(durable.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        server = durable()
        poll(lambda: server.get("/readyz").status_code == 503, "it says that it cannot write")
        assert server.job(job_id)["status"] == "running"
        other.execute("ROLLBACK")
    poll(lambda: server.get("/readyz").status_code == 200, "ready again", 10)
    poll(lambda: server.job(job_id)["status"] == "failed", "it is decided", 10)
    assert server.job(job_id)["reason"] == "lost"
    server.until(again, "succeeded")
    assert any("wait to be taken over" in line for line in server.log)


def test_a_shutdown_under_somebody_elses_lock_ends_in_time(durable: Durable, kind: str) -> None:
    """The end of a job cannot be written, and still the process leaves; the next one tells that
    nobody knows, and runs what waits."""
    settings: dict[str, Any] = {"drain": 0, "grace": 1, "max_running": 1}
    server = durable(kind, **settings)
    running = server.start("once", traces=str(durable.traces), seconds=3600)
    durable.traces.wait("before", running)
    waiting = server.start("once", traces=str(durable.traces))
    with contextlib.closing(sqlite3.connect(durable.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        server.signal_group()
        server.wait(20)
        assert time.monotonic() - began <= CONNECTIONS[kind] + 1 + SLACK + LOAD
        server.stop()
        other.execute("ROLLBACK")
    server = durable(kind, **settings)
    server.until(waiting, "succeeded")
    ended = server.job(running)
    assert (ended["status"], ended["reason"]) == ("failed", "lost")
    assert durable.traces.by_job("before") == {running: 1, waiting: 1}


# A disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of three megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, text=True
    )
    needs(not mounted.returncode, f"a small disk, to be mounted: {mounted.stderr.strip()}")
    assert mounted.returncode == 0, mounted.stderr
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(server: Server, durable: Durable, gate: Path) -> list[str]:
    """Start jobs until there is no room for one more; the ids of those that were acknowledged."""
    arguments = {"traces": str(durable.traces), "gate": str(gate), "text": "x" * 8_000}
    ids: list[str] = []
    while True:
        own = {"number": len(ids), **({} if ids else {"gate": f"{gate} of the first"})}
        answer = server.post("/start/once", {**arguments, **own})
        if answer.status_code == 503:
            assert answer.headers["Retry-After"] == "2"
            assert answer.json()["type"] == "urn:quart-app:problem:store-unavailable"
            return ids
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["id"])
        assert len(ids) < 1_000, "the disk does not get full"


def test_a_full_disk_stops_starts_and_nothing_else(
    servers: Servers, tmp_path: Path, small_disk: Path
) -> None:
    """503 that says why, reads go on; with room again all goes on without a restart, and nothing
    that was acknowledged is lost."""
    durable = Durable(servers, tmp_path)
    durable.file = small_disk / "jobs.db"
    ballast, gate = small_disk / "ballast", tmp_path / "gate"
    ballast.write_bytes(b"x" * 1_400_000)
    server = durable(max_queued=100_000, max_running=1)
    ids = fill(server, durable, gate)
    assert len(ids) > 20
    ready = server.get("/readyz")
    assert ready.status_code == 503
    assert "the disk is full" in ready.json()["detail"]
    health = server.get("/healthz")
    assert health.status_code == 200
    assert "the disk is full" in health.json()["store"]
    assert server.job(ids[0])["status"] == "running"
    Path(f"{gate} of the first").touch()
    durable.traces.wait("after", ids[0])  # A job ends while the disk is full.
    assert {each["id"] for each in server.all_jobs()} == set(ids), "all of it can be read"
    ballast.unlink()
    started = {"traces": str(durable.traces), "number": len(ids), "gate": str(gate)}
    poll(lambda: server.post("/start/once", started).status_code == 202, "starts again", 10)
    assert server.get("/readyz").status_code == 200
    assert server.get("/healthz").json()["store"] == "ok"
    gate.touch()
    poll(lambda: server.counts()["succeeded"] == len(ids) + 1, "every job has ended", 60)
    assert durable.traces.by_job("after").keys() >= set(ids)
    assert set(durable.traces.by_job("before").values()) == {1}
    assert not any("Traceback" in line for line in server.log), "".join(server.log)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0


# Keys and queues


async def at_once(url: str, count: int, task: str, arguments: object, key: str) -> list[Any]:
    """The answers to so many simultaneous starts with one key."""
    limits = httpx2.Limits(max_connections=count)
    async with httpx2.AsyncClient(base_url=url, limits=limits, **NO_TLS) as client:
        starts = [
            client.post(f"/start/{task}", json=arguments, headers={"Idempotency-Key": key})
            for _ in range(count)
        ]
        return await asyncio.gather(*starts)


def test_two_hundred_starts_with_one_key_are_one_job(durable: Durable) -> None:
    """At once, and two hundred more after a restart: one job, which ran once."""
    arguments = {"traces": str(durable.traces)}
    server = durable()
    first = asyncio.run(at_once(server.url, 200, "once", arguments, "march"))
    assert {answer.status_code for answer in first} <= {200, 202}
    replayed = Counter("Idempotency-Replayed" in answer.headers for answer in first)
    assert replayed == {False: 1, True: 199}
    server.process.kill()
    server.stop()
    server = durable()
    second = asyncio.run(at_once(server.url, 200, "once", arguments, "march"))
    assert {answer.headers.get("Idempotency-Replayed") for answer in second} == {"true"}
    [job_id] = {answer.json()["id"] for answer in (*first, *second)}
    assert server.job(job_id, wait=10)["status"] in ("succeeded", "failed")
    assert len(list(server.all_jobs())) == 1
    assert durable.traces.count("before", job_id) <= 1


def test_two_hundred_starts_of_many_with_one_key_are_one_batch(durable: Durable) -> None:
    """An array of arguments is one start, and its jobs come back in their order."""
    batch = [{"traces": str(durable.traces), "number": number} for number in range(5)]
    server = durable()
    answers = asyncio.run(at_once(server.url, 200, "once", batch, "all"))
    orders = {tuple(each["id"] for each in answer.json()["jobs"]) for answer in answers}
    [ids] = orders
    for number, job_id in enumerate(ids):
        assert server.until(job_id, "succeeded")["result"] == number
    assert durable.traces.by_job("before") == dict.fromkeys(ids, 1)


BATCH = 2_000
QUEUE = BATCH * rounds(10)


@pytest.fixture
def fast_disk() -> Iterator[Path]:
    """A folder in memory where there is such a disk: one job at a time is two flushes for each."""
    memory = Path("/dev/shm")  # noqa: S108 - made by mkdtemp, for us alone
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        yield Path(folder)


def test_a_restart_with_twenty_thousand_queued_jobs_runs_them_in_order(
    durable: Durable, fast_disk: Path
) -> None:
    """The service listens as if they were few, and works them off one by one as they came."""
    durable.file = fast_disk / "jobs.db"
    settings: dict[str, Any] = {"max_running": 1, "max_queued": 2 * QUEUE, "max_body": 2**20}
    traces = str(durable.traces)
    server = durable(**settings)
    blocker = server.start("once", traces=traces, number=QUEUE, seconds=3600)
    for first in range(0, QUEUE, BATCH):
        batch = [{"traces": traces, "number": first + each} for each in range(BATCH)]
        assert server.post("/start/once", batch).status_code == 202
    durable.traces.wait("before", blocker)
    assert server.counts()["queued"] == QUEUE
    server.process.kill()
    server.stop()
    began = time.monotonic()
    server = durable(**settings)
    assert server.get("/readyz").status_code == 200
    assert time.monotonic() - began < 3.0 + LOAD
    assert server.job(blocker)["reason"] == "lost"
    poll(lambda: server.counts()["queued"] == 0, "the queue is worked off", 120)
    poll(lambda: server.counts()["running"] == 0, "the last one ends")
    numbers = [each.number for each in durable.traces.read() if each.what == "before"]
    assert numbers == [QUEUE, *range(QUEUE)]
