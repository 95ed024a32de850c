"""Watching: bars on a terminal, lines elsewhere, over restarts, and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quart_app.cli.bars import Bars, Lines, Pace
from quart_app.client.documents import JobDocument
from tests.cli.conftest import invoke
from tests.cli.terminals import SEQUENCE, Terminal
from tests.e2e.conftest import ROOT, Server, Servers, poll
from tests.hostile import HostileService
from tests.servers import free_port

OPEN = Callable[..., Terminal]


def job(**fields: Any) -> JobDocument:
    """A job that runs."""
    return JobDocument(
        **{"id": "0123456789abcdef", "task": "report", "status": "running", **fields}
    )


def command(*words: str, **options: Any) -> subprocess.Popen[str]:
    """A command whose output is no terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "quart_app", *words], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **options,
    )  # fmt: skip


def test_the_rate_is_of_what_was_seen() -> None:
    """It falls while nothing comes, and begins anew with another attempt."""
    times = [0.0]
    pace = Pace(lambda: times[0])
    pace.see(10)
    assert (pace.rate(), pace.left()) == (None, None)
    times[0] = 2.0
    pace.see(30)
    assert (pace.rate(), pace.left()) == (10.0, 7.0)
    times[0] = 4.0
    assert pace.rate() == 5.0
    pace.see(5)
    assert pace.rate() is None
    pace.see(float("nan"))
    pace.see(None)
    assert pace.rate() is None


def test_a_bar_has_what_there_is_to_see(tmp_path: Path) -> None:
    """Share, rate, the rest of the time, the message; as much as there is room for."""
    with (tmp_path / "x").open("w", encoding="utf-8") as stream:
        bars = Bars(stream, ["a", "0123456789abcdef"])
        bars.show(job(progress=42.0, message="step 3 of 7"))
        waiting, line = bars.lines(100, 10)
        assert waiting == "a"
        assert "report 89abcdef" in line
        assert "██████████" in line
        assert " 42% running" in line
        assert line.endswith("step 3 of 7")
        bars.note("the connection is lost")
        assert bars.lines(100, 10)[-1] == "the connection is lost"
        for number in range(30):
            bars.show(job(id=str(number), status="succeeded" if number < 20 else "running"))
        few = bars.lines(100, 8)
        assert len(few) == 8
        assert few[-2] == "and 26 more"


def test_lines_tell_each_change_once(tmp_path: Path) -> None:
    """Of the status, or by ten percent."""
    path = tmp_path / "x"
    with path.open("w", encoding="utf-8") as stream:
        lines = Lines(stream)
        for progress in (0, 1, 5, 11, 12, float("nan")):
            lines.show(job(progress=float(progress)))
        lines.note("lost")
        lines.note("lost")
        lines.note(None)
    assert len(path.read_text().splitlines()) == 4


@pytest.mark.slow
@pytest.mark.e2e
def test_bars_on_a_terminal(server: Server, terminal: OPEN) -> None:
    """Several at once, drawn in place, in colour."""
    ids = [server.start("steps", count=25, pause=0.1) for _ in range(2)]
    shown = terminal("watch", *ids, "--url", server.url)
    assert shown.wait() == 0
    assert "\x1b[2F" in shown.output
    assert "\x1b[36mrunning" in shown.output
    assert "%/s" in shown.output
    last = SEQUENCE.sub("", shown.output.rsplit("\x1b[2F", 1)[-1])
    assert last.count("100% succeeded") == 2


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_color_where_none_is_wanted(
    server: Server, terminal: OPEN, environ: dict[str, str]
) -> None:
    """NO_COLOR, and a terminal that cannot; that one does not draw either."""
    job_id = server.start("steps", count=3)
    for words in (["watch", job_id], ["list"], ["log", job_id]):
        shown = terminal(*words, "--url", server.url, **environ)
        shown.wait()
        assert "\x1b[3" not in shown.output
        if "TERM" in environ:
            assert "\x1b" not in shown.output


@pytest.mark.slow
@pytest.mark.e2e
def test_piped_output_has_no_escapes(server: Server) -> None:
    """Neither stream."""
    process = command("start", "steps", "--watch", "--url", server.url)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "10\n")
    assert "\x1b" not in err
    assert "steps running" in err


@pytest.mark.slow
@pytest.mark.e2e
def test_an_encoding_without_blocks(server: Server, terminal: OPEN) -> None:
    """Bars of ASCII, and no error."""
    job_id = server.start("says", text="漢字")
    shown = terminal("watch", job_id, "--url", server.url, PYTHONIOENCODING="ascii")
    assert shown.wait() == 0
    assert "####" in shown.output
    assert "\\u6f22" in shown.output


@pytest.mark.slow
@pytest.mark.e2e
def test_ctrl_c_stops_watching_only(server: Server, terminal: OPEN) -> None:
    """The job goes on; the sentence says how to go on, too."""
    for option in ("--wait", "--watch"):
        shown = terminal("start", "nap", "seconds=60", option, "--url", server.url)
        job_id = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", shown.until("\n"))[0]
        poll(lambda: server.get("/healthz").json()["watchers"] > 0, "somebody watches")
        shown.type("\x03")
        assert shown.wait() == 130
        assert f"'quart-app watch {job_id}'" in shown.output.replace("\r\n", "")
        assert "Traceback" not in shown.output
        assert server.job(job_id)["status"] == "running"
        server.post(f"/cancel/{job_id}")
        poll(lambda: server.get("/healthz").json()["watchers"] == 0, "nobody watches")


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("words", [["watch"], ["log", "-f"], ["result", "--wait", "60"]])
def test_a_restart_of_the_server_is_waited_for(
    words: list[str], servers: Servers, tmp_path: Path
) -> None:
    """Killed in mid-stream, and started again on the same port: the story goes on to its end."""
    port = free_port()
    line = [sys.executable, "-m", "quart_app", "serve", "--bind", f"127.0.0.1:{port}"]
    settings = {"tasks": "tests.cli.cli_jobs", "store": f"sqlite:///{tmp_path / 'jobs.db'}"}
    first = servers.launch(line, **settings).wait_listening()
    job_id = first.start("stubborn_steps", count=50, pause=0.1)
    process = command(words[0], job_id, *words[1:], "--url", first.url)
    try:
        poll(lambda: first.get("/healthz").json()["watchers"] > 0, "somebody watches")
        first.signal_group(signal.SIGKILL)
        first.wait(10)
        servers.launch(line, **settings).wait_listening()
        out, err = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err
    if words[0] == "watch":
        assert out == f"{job_id} succeeded 50\n"
        assert "the connection is lost; trying again" in err
    elif words[0] == "result":
        assert out == "50\n"


@pytest.mark.slow
@pytest.mark.e2e
def test_ctrl_c_stops_following_a_log(server: Server, terminal: OPEN) -> None:
    """The job goes on."""
    job_id = server.start("steps", count=600, pause=0.1)
    shown = terminal("log", "-f", job_id, "--url", server.url)
    shown.until("line 2")
    shown.type("\x03")
    assert shown.wait() == 130
    assert f"'quart-app log -f {job_id}'" in shown.output.replace("\r\n", "")
    server.post(f"/cancel/{job_id}")


@pytest.mark.slow
@pytest.mark.e2e
def test_many_are_asked_for_on_a_terminal(server: Server, terminal: OPEN) -> None:
    """Only y is a yes."""
    job_id = server.start("nap", seconds=81.5)
    words = ["cancel", "--match", "args.seconds:81.5", "--url", server.url]
    for answer, status in (("n", 130), ("y", 0)):
        shown = terminal(*words)
        shown.until("cancel 1 job? [y/N]:")
        shown.type(f"{answer}\n")
        assert shown.wait() == status
    server.until(job_id, "canceled")
    assert invoke("cancel", "--match", "task:nothing", "--url", server.url).stderr == (
        "no job matches\n"
    )


def test_who_gives_up_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so long without a connection; the job goes on."""
    monkeypatch.setattr("quart_app.cli.remote.LONG", 0.3)
    service = HostileService()
    try:
        service.text, service.events = "7", 503
        given_up = invoke("watch", "7", "--url", service.url)
    finally:
        service.close()
    assert given_up.exit_code == 69
    assert "what runs goes on" in given_up.stderr
    assert "'quart-app watch 7'" in given_up.stderr
