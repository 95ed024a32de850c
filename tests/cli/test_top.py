"""The full screen: what it shows, what its keys do, and that the terminal is given back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from quart_app.cli.screen import split_keys
from tests.cli.terminals import SEQUENCE, Terminal, screen
from tests.e2e.conftest import Server, Servers, poll

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
OPEN = Callable[..., Terminal]
LEFT = "\x1b[?1049l"


def until(shown: Terminal, *texts: str, seconds: float = 20) -> str:
    """Read until the newest frame has all of these texts; the frame."""
    end = time.monotonic() + seconds
    while True:
        shown.read(0.05)
        frame = "\n".join(screen(shown.output))
        if all(text in frame for text in texts):
            return frame
        assert time.monotonic() < end, (texts, frame)


def given_back(shown: Terminal) -> bool:
    """Whether the terminal is as it was."""
    return (
        LEFT in shown.output
        and "\x1b[?25h" in shown.output
        and (shown.attributes() == shown.before)
    )


def test_what_runs_and_what_has_ended(server: Server, terminal: OPEN) -> None:
    """Counts, a bar for each that runs, the newest ends; q leaves."""
    ended = server.start("noop")
    server.until(ended, "succeeded")
    running = server.start("steps", count=400, pause=0.1)
    shown = terminal("top", "--url", server.url, columns=160)
    frame = until(shown, "running 1", running, ended, "step ", "%", "oldest wait", "lag")
    assert frame.index(running) < frame.index(ended)
    assert shown.attributes() != shown.before
    shown.type("q")
    assert shown.wait() == 0
    assert given_back(shown)
    server.post(f"/cancel/{running}")
    server.until(running, "canceled")


def test_keys(server: Server, terminal: OPEN) -> None:
    """Filter, move, look, cancel after a question, run again."""
    first = server.start("nap", seconds=71.5)
    second = server.start("nap", seconds=72)
    for each in (first, second):
        server.until(each, "running")
    shown = terminal("top", "--url", server.url)
    until(shown, first, second)
    shown.type("/task:nap args.seconds:71.5x\x7f\r")
    frame = until(shown, "filter: task:nap args.seconds:71.5")
    end = time.monotonic() + 10
    while second in frame:
        assert time.monotonic() < end
        frame = until(shown, first)
    shown.type("\r")
    until(shown, f"job       {first} of nap", '"seconds"', "where it is", "cli_jobs.py")
    shown.type("q")
    until(shown, "TASK")
    shown.type("c")
    until(shown, f"cancel {first}? (y/n)")
    shown.type("n")
    until(shown, "nothing was done")
    shown.type("cy")
    until(shown, "canceled", "requested")
    server.until(first, "canceled")
    shown.type("r")
    until(shown, "started again as ")
    again = server.get("/jobs?task=nap").json()["jobs"][0]
    assert again["retry_of"] == first
    shown.type("/")
    until(shown, "/task:nap")
    shown.type("\x7f" * 40 + "\r")
    until(shown, second)
    shown.type("jjk\x1b[A\x1b[B")
    shown.type("/taks:x\r")
    until(shown, "did you mean task:")
    shown.type("\x1b")
    until(shown, "j/k move")
    shown.type("q")
    assert shown.wait() == 0
    for each in (second, again["id"]):
        server.post(f"/cancel/{each}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_the_terminal_is_given_back_at_a_signal(
    server: Server, terminal: OPEN, number: signal.Signals
) -> None:
    """Whatever ends it, but for SIGKILL."""
    shown = terminal("top", "--url", server.url)
    until(shown, "quart-app top")
    os.kill(shown.process.pid, number)
    assert shown.wait() in (130, 128 + number)
    assert given_back(shown)
    assert "Traceback" not in shown.output


def test_the_terminal_is_given_back_while_it_is_stopped(server: Server, terminal: OPEN) -> None:
    """Ctrl-Z, and on again with fg."""
    shown = terminal("top", "--url", server.url)
    until(shown, "quart-app top")
    os.kill(shown.process.pid, signal.SIGTSTP)
    shown.until(LEFT)
    stat = Path(f"/proc/{shown.process.pid}/stat")
    poll(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it has stopped")
    assert shown.attributes() == shown.before
    os.kill(shown.process.pid, signal.SIGCONT)
    until(shown, "quart-app top")
    shown.type("q")
    assert shown.wait() == 0
    assert given_back(shown)


def test_a_service_that_goes_away_is_said(servers: Servers, terminal: OPEN) -> None:
    """What was seen last stays; keys go on."""
    server = servers(tasks="tests.cli.cli_jobs")
    ended = server.start("noop")
    server.until(ended, "succeeded")
    shown = terminal("top", "--url", server.url)
    until(shown, ended)
    server.stop()
    until(shown, "no answer for", ended)
    shown.type("q")
    assert shown.wait() == 0


def test_a_small_terminal_and_no_color(server: Server, terminal: OPEN) -> None:
    """Every line fits; without colours the cursor is still to be seen."""
    server.until(server.start("noop"), "succeeded")
    shown = terminal("top", "--url", server.url, columns=40, rows=10, NO_COLOR="1")
    until(shown, "noop"[:1], "succ")
    assert all(len(line) <= 40 for line in screen(shown.output, 99))
    assert len(screen(shown.output, 99)) == 10
    body = SEQUENCE.sub("", shown.output)
    assert "\x1b" not in body
    assert "\x1b[3" not in shown.output
    assert any(line.startswith(">") for line in screen(shown.output, 99))
    shown.type("q")
    assert shown.wait() == 0


def test_keys_that_mean_nothing_are_left_out() -> None:
    """Unknown sequences, halves of characters."""
    assert split_keys(b"\x1b[1;5C") == []
    assert split_keys(b"a\xff") == ["a", "\ufffd"]
