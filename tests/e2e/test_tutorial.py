"""The tutorial's table, against a real Hypercorn process."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Servers

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_the_tutorials_table_holds(servers: Servers, kind: str) -> None:
    """/start answers at once, the task goes on for its 5 seconds, others are served meanwhile."""
    server = servers(kind, tasks="quart_app.demo")
    server.get("/healthz")  # The connection and the first look at every module are not the answer.
    times = []
    for _ in range(5):
        began = time.monotonic()
        answer = server.get("/start")
        times.append(time.monotonic() - began)
        assert answer.status_code == 200
        assert answer.json()["status"] == "Task started"
        assert answer.headers["location"] == answer.json()["url"]
    assert min(times) < 0.05

    posted = server.post("/start", {})
    assert (posted.status_code, posted.json()["status"]) == (202, "queued")
    job_id = posted.json()["id"]
    server.until(job_id, "running")
    assert server.get("/healthz").status_code == 200
    assert len(server.get("/jobs?status=running").json()["jobs"]) == 6
    ended = server.job(job_id, wait=20)
    assert ended["status"] == "succeeded"
    assert server.get(f"/jobs/{job_id}/result").status_code == 200


def test_without_any_setting_nothing_is_lost(servers: Servers, tmp_path: Path) -> None:
    """The jobs are in a file where it was started; after a kill they are there and go on."""
    plain: dict[str, Any] = {"folder": tmp_path, "tasks": None, "store": None}
    server = servers(**plain)
    job_id = server.get("/start").json()["id"]
    waiting = server.post("/start/long_task?delay=1", {}).json()["id"]
    server.until(job_id, "running")
    server.signal_group(signal.SIGKILL)
    server.wait(10)
    assert (tmp_path / "quart_app.db").stat().st_size > 0
    again = servers(**plain)
    lost = again.job(job_id, wait=20)
    assert (lost["status"], lost["reason"]) == ("failed", "lost")
    assert again.job(waiting, wait=20)["status"] == "succeeded"


def test_a_quick_task_is_processed_at_once_on_request(servers: Servers, kind: str) -> None:
    """`Prefer: wait=N` answers 200 with the result if it is quick, else 202 after N seconds."""
    server = servers(kind)
    quick = server.post("/start/nap", {"seconds": 0.05}, Prefer="wait=5")
    assert (quick.status_code, quick.json()["result"]) == (200, "slept")
    assert quick.headers["preference-applied"] == "wait=5"
    long = server.post("/start/nap", {"seconds": 5}, Prefer="wait=1")
    assert (long.status_code, long.json()["status"]) == (202, "running")


def test_the_garbage_collector_leaves_alone_what_the_app_is_made_of(
    servers: Servers, kind: str
) -> None:
    """Else each full collection, of some ten milliseconds, would hold up every request."""
    server = servers(kind)
    assert server.post("/start/frozen", {}, Prefer="wait=5").json()["result"] > 10_000
