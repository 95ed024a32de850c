"""Bounded, truthful shutdown: promise E4, with real signals to real process groups."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import COMMANDS, Server, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DRAIN, GRACE, SLACK = 1.0, 1.0, 1.0
CONNECTIONS = {"serve": 0.0, "hypercorn": 3.0}
"""Seconds that plain Hypercorn gives to open connections first (graceful_timeout)."""
ROUNDS = 10
AT_ONCE = 5
LOAD = 1.0
"""Seconds that starting processes on a busy machine may add to what is measured from outside."""


def alive(pids: list[int]) -> list[str]:
    """What is left of these processes; one that is dead and only waits to be reaped is gone."""
    left = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if state != "Z":
            left.append(f"{pid} {state} {command}")
    return left


def wait_gone(pids: list[int], seconds: float) -> None:
    """Wait until none of these processes lives."""
    end = time.monotonic() + seconds
    while left := alive(pids):
        assert time.monotonic() < end, f"children outlived the service: {left}"
        time.sleep(0.02)


def load(server: Server, note: Path) -> None:
    """Jobs of every kind: polite, deaf and long ones."""
    jobs = [
        server.start("nap", seconds=60, note=str(note)),
        server.start("stubborn", seconds=60),
        server.start("thread_nap", seconds=60),
        server.start("process_nap", seconds=60),
        server.start("deaf_process", pid_file=str(note) + ".pid"),
    ]
    for job_id in jobs:
        server.until(job_id, "running")
    end = time.monotonic() + 20
    while not Path(str(note) + ".pid").exists():
        assert time.monotonic() < end, "the process of a job did not start"
        time.sleep(0.02)


def shut_down(server: Server, note: Path, connections: float) -> None:
    """One round: SIGTERM to the group, and everything that E4 says of it."""
    load(server, note)
    children = server.children()
    assert children
    began = time.monotonic()
    server.signal_group()
    status = server.wait(20)
    took = time.monotonic() - began
    assert status == 0, "".join(server.log)
    assert took <= connections + DRAIN + GRACE + SLACK + LOAD, took
    assert took >= DRAIN, "the jobs had their time to end"
    assert note.read_text() == "cleaned up"
    wait_gone(children, 2.0)


def test_sigterm_to_the_group_ends_every_kind_of_job_in_time(
    servers: Servers, kind: str, tmp_path: Path
) -> None:
    """Ten of ten: drained, asked once, left in time, no process left behind."""
    for first in range(0, ROUNDS, AT_ONCE):
        failures: list[BaseException] = []

        def one_round(number: int, failures: list[BaseException] = failures) -> None:
            try:
                server = servers(kind, drain=DRAIN, grace=GRACE, processes=2)
                shut_down(server, tmp_path / str(number), CONNECTIONS[kind])
            except BaseException as error:  # noqa: BLE001  # pragma: no cover - told below
                failures.append(error)

        rounds = [
            threading.Thread(target=one_round, args=(number,))
            for number in range(first, first + AT_ONCE)
        ]
        for thread in rounds:
            thread.start()
        for thread in rounds:
            thread.join()
        if failures:  # pragma: no cover - only when a round fails
            raise failures[0]


def test_jobs_that_end_within_the_drain_are_not_disturbed(
    servers: Servers, kind: str, tmp_path: Path
) -> None:
    """A job that needs half of the drain ends by itself, and then the service ends at once."""
    server = servers(kind, drain=20, grace=5)
    note = tmp_path / "note"
    server.until(server.start("nap", seconds=1.0, note=str(note)), "running")
    began = time.monotonic()
    server.signal_group()
    assert server.wait(20) == 0
    assert time.monotonic() - began < 10
    assert note.read_text() == "ended"


def test_status_is_readable_and_starts_are_refused_while_draining(servers: Servers) -> None:
    """With our own launcher the service answers until its jobs have ended."""
    server = servers("serve", drain=20, grace=1)
    job_id = server.start("nap", seconds=2)
    waiting = server.start("nap", seconds=2)
    server.until(waiting, "running")
    server.process.send_signal(signal.SIGTERM)
    end = time.monotonic() + 5
    while server.get("/readyz").status_code != 503:
        assert time.monotonic() < end
    refused = server.post("/start/noop", {})
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["type"] == "urn:quart-app:problem:draining"
    assert server.job(job_id)["status"] == "running"
    assert server.get("/healthz").status_code == 200
    assert server.wait(20) == 0


def test_a_stream_of_the_apps_own_does_not_hold_up_the_shutdown(servers: Servers) -> None:
    """One open stream keeps Hypercorn from ever exiting on Python 3.12; our launcher leaves."""
    command = [*COMMANDS["serve"], "--app", "tests.e2e.endless"]
    server = servers.launch(command, drain=5, grace=1).wait_listening()
    with server.client.stream("GET", server.url + "/stream") as stream:
        assert next(stream.iter_lines()) == "line"
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
        assert time.monotonic() - began < 2.0 + LOAD


def test_another_signal_is_not_a_shutdown(servers: Servers) -> None:
    """A signal that the app itself handles leaves the service alone."""
    server = servers("serve")
    server.process.send_signal(signal.SIGUSR1)
    assert all(server.get("/readyz").status_code == 200 for _ in range(20))
    server.process.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0


def test_a_port_that_is_taken_stops_the_start(servers: Servers) -> None:
    """A second service on the same port says so and ends."""
    first = servers("serve")
    bind = first.url.removeprefix("http://")
    second = servers.launch([sys.executable, "-m", "quart_app", "serve", "--bind", bind])
    assert second.wait(30) == os.EX_CONFIG
    assert f"cannot listen on {bind}" in second.log[-1]


def test_a_second_signal_skips_the_drain(servers: Servers, kind: str, tmp_path: Path) -> None:
    """Whoever presses Ctrl-C twice does not wait: jobs are asked to stop at once."""
    server = servers(kind, drain=60 if kind == "serve" else 50, grace=2)
    note = tmp_path / "note"
    server.until(server.start("nap", seconds=300, note=str(note)), "running")
    server.process.send_signal(signal.SIGINT)
    time.sleep(0.5)  # Two signals at once are one to the kernel.
    server.process.send_signal(signal.SIGINT)
    assert server.wait(15) == 0
    assert note.read_text() == "cleaned up"


def test_a_request_that_waits_for_a_job_does_not_hold_up_the_shutdown(
    servers: Servers, kind: str
) -> None:
    """A long poll is answered within half a second of the signal, on every Python."""
    server = servers(kind, drain=1, grace=1)
    job_id = server.start("nap", seconds=300)
    answers: list[tuple[float, httpx2.Response]] = []

    def poll() -> None:
        answer = httpx2.get(
            f"{server.url}/jobs/{job_id}", headers={"Prefer": "wait=20"}, timeout=30
        )
        answers.append((time.monotonic(), answer))

    thread = threading.Thread(target=poll)
    thread.start()
    end = time.monotonic() + 10
    while server.get("/healthz").json()["watchers"] != 1:
        assert time.monotonic() < end
    signaled = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    thread.join(20)
    [(answered, answer)] = answers
    assert answer.json()["status"] == "running"
    assert answered - signaled < 0.5 + LOAD
    assert server.wait(20) == 0


def test_a_blocked_loop_does_not_hold_up_the_shutdown(servers: Servers, kind: str) -> None:
    """A job that never gives the loop back ends with the process, at the deadline, status 1."""
    server = servers(kind, drain=0.5, grace=0.5)
    server.start("block", seconds=120)
    time.sleep(0.5)  # Nothing can be asked of a blocked loop, not even whether it is blocked.
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.wait(20) == 1
    assert time.monotonic() - began <= CONNECTIONS[kind] + 0.5 + 0.5 + SLACK + LOAD
    assert any("did not come to an end in time" in line for line in server.log)


def test_kill_9_leaves_no_process_behind(servers: Servers, kind: str, tmp_path: Path) -> None:
    """The processes of jobs end within a second of their parent, however it died."""
    server = servers(kind, processes=2)
    load(server, tmp_path / "note")
    children = server.children()
    server.process.kill()
    server.wait(5)
    wait_gone(children, 1.0 + LOAD)


def test_plain_hypercorn_refuses_what_would_break_the_promises(servers: Servers) -> None:
    """Two workers, recycled workers and too short a shutdown stop the start, with the reason."""
    base = COMMANDS["hypercorn"]
    for options, word in (
        (["--workers", "2"], "workers=2"),
        (["--workers", "1", "--max-requests", "9"], "max_requests=9"),
    ):
        server = servers.launch([*base[:-1], *options, base[-1]])
        server.wait(30)  # With a master Hypercorn's own status does not tell of the failure.
        assert any(word in line and "is not valid" in line for line in server.log), server.log
    server = servers.launch(base, drain=70)
    assert server.wait(30) != 0
    assert any("shutdown_timeout=60" in line for line in server.log)


def test_a_wrong_setting_stops_the_start_in_one_sentence(servers: Servers) -> None:
    """Its name, what it was and what it may be; exit status 78."""
    server = servers.launch(COMMANDS["serve"], drain="soon")
    assert server.wait(30) == os.EX_CONFIG
    assert server.log[-1] == (
        "quart-app: QUART_APP_DRAIN='soon' (from environment) is not valid: "
        "it must be 0 to 86400 seconds\n"
    )


def test_python_m_serves(servers: Servers) -> None:
    """`python -m quart_app` alone is `quart-app serve`: what that refuses, it refuses."""
    server = servers.launch([sys.executable, "-m", "quart_app"], drain="soon")
    assert server.wait(30) == 78
    assert any("QUART_APP_DRAIN" in line for line in server.log)
