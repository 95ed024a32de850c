"""The doctor finds what is wrong, and says what to do."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import Result

from quart_app.cli import findings, probing
from tests.cli.conftest import Run, invoke
from tests.e2e.conftest import ROOT, Server, Servers

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def wrong(result: Result) -> list[str]:
    """What is wrong."""
    return [line for line in result.stdout.splitlines() if line.startswith("WRONG")]


def test_nothing_is_wrong_here(run: Run, server: Server) -> None:
    """And nothing is left but a canceled job."""
    result = run("doctor", "--config", str(ROOT / "hypercorn.toml"))
    assert (result.exit_code, wrong(result)) == (0, [])
    assert "events come at once" in result.stdout
    assert "shutdown_timeout=60 is enough" in result.stdout
    assert "keep in memory" not in result.stdout
    assert {job["status"] for job in server.all_jobs()} == {"canceled"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("workers = 2", "each worker would have jobs of its own"),
        ("max_requests = 9", "max_requests=9 will be refused"),
        ("shutdown_timeout = 3", "set shutdown_timeout to at least 26"),
        ('bind = ["0.0.0.0:80"]', "can be reached by other machines, and the service answers"),
        ("bind = [", "cannot be read"),
    ],
)
def test_settings_of_hypercorn_that_break_something(
    run: Run, tmp_path: Path, line: str, says: str
) -> None:
    """Exit status 1, and what to set instead."""
    file = tmp_path / "hypercorn.toml"
    base = "" if "shutdown" in line else "shutdown_timeout = 60\n"
    file.write_text(f"{base}{line}\n")
    result = run("doctor", "--config", str(file), "--read-only")
    assert result.exit_code == 1
    assert says in result.stdout
    assert "-> " in result.stdout


def test_settings_of_hypercorn_that_weaken_something(run: Run, tmp_path: Path) -> None:
    """They are no reason for an exit status."""
    file = tmp_path / "hypercorn.toml"
    file.write_text("shutdown_timeout = 60\nread_timeout = 5\nworkers = 1\n")
    result = run("doctor", "--config", str(file), "--read-only")
    assert result.exit_code == 0
    assert "read_timeout=5 cuts healthy streams" in result.stdout
    assert "a group SIGTERM ends jobs undrained" in result.stdout


def test_the_services_own_settings_count(servers: Servers, tmp_path: Path) -> None:
    """Its drain, and not the one of this shell."""
    server = servers(tasks="tests.cli.cli_jobs", drain=100)
    file = tmp_path / "hypercorn.toml"
    file.write_text("shutdown_timeout = 60\n")
    result = invoke("doctor", "--url", server.url, "--config", str(file), "--read-only")
    assert "at least 106" in result.stdout


def test_no_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It says so, and looks at this machine all the same."""
    monkeypatch.setenv("QUART_APP_STORE", f"sqlite:///{tmp_path / 'jobs.db'}")
    result = invoke("doctor", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert [line.split()[1] for line in wrong(result)] == ["service:"]
    assert "will be made at the first start" in result.stdout
    assert "GiB are free" in result.stdout


def test_stores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No directory, no database, no server, no room; a wrong setting."""
    (tmp_path / "text").write_text("This is no database, but it is long enough.")
    for store, says in (
        (f"sqlite:///{tmp_path / 'none' / 'jobs.db'}", "mkdir -p"),
        (f"sqlite:///{tmp_path / 'text'}", "is no SQLite database"),
        ("redis://user:secret@127.0.0.1:1/0", "redis://user:...@127.0.0.1:1/0: "),
        ("redis+sentinel://127.0.0.1:x/m", "no address"),
        ("nonsense", "QUART_APP_STORE='nonsense'"),
    ):
        monkeypatch.setenv("QUART_APP_STORE", store)
        result = invoke("doctor", "--offline")
        assert result.exit_code == 1
        assert says in result.stdout
        assert "secret" not in result.stdout
    assert findings.disk(tmp_path, 10**6).level == "wrong"
    assert findings.disk(tmp_path, 5 * 10**8).level == "warning"


def test_a_store_that_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is enough."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for store in (
            f"redis://127.0.0.1:{port}/0",
            f"redis+sentinel://:secret@127.0.0.1:1,127.0.0.1:{port}/mymaster",
            f"redis+cluster://127.0.0.1:{port}?password=secret",
            f"postgresql://me:secret@127.0.0.1:{port}/jobs?sslmode=require",
        ):
            monkeypatch.setenv("QUART_APP_STORE", store)
            result = invoke("doctor", "--offline")
            assert result.exit_code == 0
            assert "takes connections" in result.stdout
            assert "secret" not in result.stdout


def test_who_may_start_jobs() -> None:
    """Everybody who is not on this machine should need credentials."""
    for base, answers, level in (
        ("http://127.0.0.1:8000", True, "ok"),
        ("http://[::1]:8000", True, "ok"),
        ("http://192.0.2.7:8000", True, "wrong"),
        ("https://jobs.example.com", True, "wrong"),
        ("https://jobs.example.com", False, "ok"),
        ("https://jobs.example.com", None, "skipped"),
    ):
        [found] = probing.access(base, base, answers)
        assert found.level == level


class Collecting(BaseHTTPRequestHandler):
    """A proxy that hands an answer on when it is whole."""

    upstream = ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Any request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection(self.upstream.removeprefix("http://"), timeout=30)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        connection.request(self.command, self.path, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def proxy(server: Server) -> Iterator[str]:
    """The server behind a proxy that collects."""
    handler = type("Handler", (Collecting,), {"upstream": server.url})
    made = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()
    thread.join(10)
    end = time.monotonic() + 10
    while any("process_request" in each.name for each in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_proxy_that_collects_events_is_found(proxy: str) -> None:
    """They come in one bunch, at the end."""
    result = invoke("doctor", "--url", proxy)
    assert result.exit_code == 1
    [line] = wrong(result)
    assert line.startswith("WRONG streams: the first event came after 1.")
    assert "in a bunch" in line
    assert "proxy_buffering off" in result.stdout


def test_streams_need_a_task_that_can_be_started(run: Run) -> None:
    """Else it says so, and nothing is wrong."""
    result = run("doctor", "--probe", "typed")
    assert result.exit_code == 0
    assert "streams: #/month" in result.stdout
    assert "There is no task" in run("doctor", "--probe", "nothing").stdout
