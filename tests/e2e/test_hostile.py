"""Tasks that misbehave: the service stays healthy, status stays true, memory stays bounded."""

from __future__ import annotations

import json
import socket
import time

import pytest

from tests.e2e.conftest import Server, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_sys_exit_in_a_task_ends_that_job_only(servers: Servers, kind: str) -> None:
    """The job fails with the reason; a hundred requests later all is well."""
    server = servers(kind)
    ended = server.job(server.start("leave"), wait=10)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "SystemExit")
    assert all(server.get("/healthz").status_code == 200 for _ in range(100))


def test_a_task_that_swallows_its_cancel_is_never_shown_canceled(
    servers: Servers, kind: str
) -> None:
    """It shows cancel_requested, then unresponsive, then how it really ended."""
    server = servers(kind, grace=0.3)
    job_id = server.start("stubborn", seconds=1.5)
    server.until(job_id, "running")
    assert server.post(f"/cancel/{job_id}").status_code == 202
    end = time.monotonic() + 10
    while not (shown := server.job(job_id)).get("unresponsive"):
        assert time.monotonic() < end
        assert shown["status"] == "running"
    assert shown["cancel_requested"] is not None
    ended = server.job(job_id, wait=10)
    assert (ended["status"], ended["result"]) == ("succeeded", "stubborn")
    assert ended["cancel_requested"] is not None


def test_what_blocks_the_loop_is_named(servers: Servers, kind: str) -> None:
    """/healthz and the log name the job and the line."""
    server = servers(kind)
    job_id = server.start("block", seconds=0.5)
    server.job(job_id, wait=10)
    blocked = server.get("/healthz").json()["blocked"]
    assert blocked["count"] >= 1
    newest = blocked["newest"][0]
    assert newest["job"] == job_id
    assert "tests/e2e/jobs.py" in newest["where"]
    assert newest["seconds"] >= 0.3
    assert any("the event loop is blocked" in line and job_id in line for line in server.log)


def flood(server: Server, requests: int) -> dict[int, int]:
    """Send many starts down one connection without waiting for the answers in between."""
    body = b'{"seconds":600}'
    request = (
        b"POST /start/nap HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
    host, port = server.url.removeprefix("http://").split(":")
    statuses: dict[int, int] = {}
    left = requests
    while left:
        some = min(left, 500)  # Hypercorn closes a connection after 1,000 requests.
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(
                request * (some - 1)
                + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
            )
            answer = b""
            while part := connection.recv(1 << 20):
                answer += part
        for line in answer.split(b"HTTP/1.1 ")[1:]:
            status = int(line[:3])
            statuses[status] = statuses.get(status, 0) + 1
        left -= some
    return statuses


def test_a_flood_past_the_limit_is_refused_in_bounded_memory(servers: Servers, kind: str) -> None:
    """What is accepted is as many as may run and wait; the rest gets 503 and costs nothing."""
    server = servers(kind, max_running=100, max_queued=200, drain=0, grace=1)
    flood(server, 1_000)
    before = server.rss()
    statuses = flood(server, 5_000)
    batch = json.dumps([{"seconds": 600}] * 1_000)
    refused = 0
    for _ in range(20):
        answer = server.client.post(
            server.url + "/start/nap", content=batch, headers={"Content-Type": "application/json"}
        )
        refused += answer.status_code == 503
    assert statuses == {503: 5_000}
    assert refused == 20
    assert server.rss() - before < 30 * 2**20
    counts = server.get("/readyz").json()["jobs"]
    assert (counts["running"], counts["queued"]) == (100, 200)
    assert server.get("/healthz").status_code == 200
    canceled = server.post("/cancel", {"match": {}}).json()
    assert canceled["matched"] == 300
