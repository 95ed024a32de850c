"""From one machine to many, as an operator does it: `quart-app migrate`, with real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quart_app.stores.sqlite.store import SQLiteStore
from tests.e2e.conftest import Durable, poll
from tests.e2e.machines import Machines
from tests.servers import Server as Broker

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

JOBS = 300
WAITING = 1_000
"""More than a look at what got lost on its way to the engine hands over."""
KILLS = 4


@pytest.fixture(params=["redis", "postgres"])
def machines(request: pytest.FixtureRequest, namespace: str) -> Iterator[Machines]:
    """Processes on a store that is empty."""
    broker: Broker = request.getfixturevalue(f"{request.param}_server")
    made = Machines(broker.url, namespace)
    yield made
    made.stop()


def command(machines: Machines, file: Path) -> list[str]:
    """What the operator types."""
    store, namespace = machines.settings["store"], machines.settings["namespace"]
    words = ["migrate", f"sqlite:///{file}", store, "--namespace", namespace]
    return [sys.executable, "-m", "quart_app", *words]


def test_jobs_go_on_elsewhere(durable: Durable, machines: Machines, tmp_path: Path) -> None:
    """The service is killed, and the move, too, several times: what waited runs, what was cut off
    begins again where it may, what was over is as it was, and no start with its key is another."""
    gate = tmp_path / "gate"
    traces = {"traces": str(durable.traces)}
    one = durable(max_running=10)
    over = [one.start("once", **traces, number=number) for number in range(JOBS)]
    poll(lambda: one.counts()["succeeded"] == JOBS, "all are over")
    cut_off = one.start("thrice", **traces, seconds=0.1, gate=str(gate))
    lost = one.start("once", **traces, gate=str(gate))
    filler = [one.start("once", **traces, gate=str(gate)) for _ in range(8)]
    for each in (cut_off, lost, *filler):
        one.until(each, "running")
    key = {"Idempotency-Key": "again"}
    waiting = one.post("/start/once", {**traces, "number": 7}, **key).json()["id"]
    for _ in range(WAITING // 100):
        assert one.post("/start/once", [traces] * 100).status_code == 202
    later = one.post("/start/once?delay=1", {**traces, "number": 8}).json()["id"]
    before = {job["id"]: job for job in one.all_jobs()}
    assert len(before) == JOBS + 12 + WAITING
    one.stop()

    words = command(machines, durable.file)
    for place in range(KILLS):
        with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
            time.sleep(0.5 + 0.25 * place)
            process.kill()
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"{len(before):,} jobs are in" in done.stderr
    assert f"succeeded: {JOBS}" in done.stdout

    gate.touch()
    web = machines.web()
    machines.worker()
    poll(lambda: web.counts()["running"] + web.counts()["queued"] == 0, "nothing is left", 25)
    after = {job["id"]: job for job in web.all_jobs()}
    same = {"task", "args", "status", "attempt", "created", "started", "finished", "result"}
    for job_id in over:
        assert {name: after[job_id][name] for name in same} == {
            name: before[job_id][name] for name in same
        }
    assert web.counts()["succeeded"] == JOBS + WAITING + 3
    assert list(after)[-JOBS:] == list(before)[-JOBS:]
    assert (after[waiting]["status"], after[later]["status"]) == ("succeeded", "succeeded")
    assert (after[cut_off]["status"], after[cut_off]["attempt"]) == ("succeeded", 2)
    assert (after[lost]["status"], after[lost]["reason"]) == ("failed", "lost")
    again = web.post("/start/once", {**traces, "number": 7}, **key)
    assert again.json()["id"] == waiting
    for job_id in over:
        assert durable.traces.count("before", job_id) == 1
    assert durable.traces.count("before", waiting) == 1


async def test_who_works_elsewhere_is_named(durable: Durable, machines: Machines) -> None:
    """And nothing is moved: the exit status says so."""
    store = SQLiteStore(durable.file)
    await store.open()
    await store.close()
    machines.worker()
    done = subprocess.run(  # noqa: ASYNC221 - nobody else is on this loop
        command(machines, durable.file), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "somebody works with the store" in done.stderr
    assert "worker process" in done.stderr
