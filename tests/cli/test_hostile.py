"""Words of others never command a terminal: fifty payloads in every field that reaches one."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.shell_completion import ShellComplete

from quart_app.cli import main
from quart_app.cli.bars import Bars
from quart_app.cli.frames import Look, Place, frame
from quart_app.cli.safe import cells
from quart_app.cli.seen import Frame, Seen
from quart_app.client.documents import JobDocument, LogLine, Stats
from tests.cli.conftest import invoke
from tests.cli.terminals import SEQUENCE, Terminal
from tests.hostile import PAYLOADS, Documents, HostileService, commands

READ = [
    ["status", "x"], ["list"], ["list", "--csv"], ["log", "x"], ["log", "-f", "x"], ["result", "x"],
    ["watch", "x"], ["tasks"], ["tasks", "x"], ["errors"], ["workers"], ["schedule", "ls"],
    ["top", "--once"], ["cancel", "x"], ["retry", "x"], ["pause", "x"], ["schedule", "run", "x"],
    ["retry", "--match", "task:x", "--yes"], ["start", "x"], ["start", "x", "--wait"],
    ["doctor", "--read-only"],
]  # fmt: skip
AS_JSON = [
    ["status", "x"], ["list"], ["log", "x"], ["watch", "x"], ["tasks"], ["errors"], ["workers"],
    ["schedule", "ls"], ["doctor", "--read-only"],
]  # fmt: skip


@pytest.fixture(scope="module")
def service() -> Iterator[HostileService]:
    """The service that says payloads."""
    made = HostileService()
    yield made
    made.close()


@pytest.fixture(params=range(len(PAYLOADS)), ids=lambda number: f"payload{number}")
def payload(request: pytest.FixtureRequest, service: HostileService) -> Iterator[str]:
    """Each payload, in every field."""
    service.text = PAYLOADS[request.param]
    yield service.text
    service.problem = 0


def test_there_are_fifty() -> None:
    """All different."""
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 50


@pytest.mark.slow
def test_output_has_no_command(payload: str, service: HostileService) -> None:
    """Neither data nor talk, of any command; and no line is made by a payload."""
    for words in READ:
        result = invoke(*words, "--url", service.url)
        assert commands(result.output) == [], (words, result.output[:500])
    assert len(invoke("list", "--url", service.url).stdout.splitlines()) == 5
    assert len(invoke("log", "x", "--url", service.url).stdout.splitlines()) == 1


@pytest.mark.slow
def test_json_has_no_command_and_all_of_the_payload(payload: str, service: HostileService) -> None:
    """It is escaped as JSON does it, and read as what it was."""
    for words in AS_JSON:
        result = invoke(*words, "--json", "--url", service.url)
        assert commands(result.stdout) == [], words
        for line in result.stdout.splitlines():
            json.loads(line)
    [job] = map(
        json.loads, invoke("status", "x", "--json", "--url", service.url).stdout.splitlines()
    )
    assert job["id"] == payload


def test_problems_have_no_command(payload: str, service: HostileService) -> None:
    """Whatever the status."""
    for problem in (400, 401, 404, 409, 422, 429, 500, 503):
        service.problem = problem
        result = invoke("start", "x", "--url", service.url)
        assert result.exit_code in (1, 2, 69)
        assert commands(result.output) == []
        assert len(result.stderr.splitlines()) == 1


def test_a_status_that_there_is_not(service: HostileService) -> None:
    """What is no job is not shown as one."""
    service.text = "\x1b[31m"
    answer = Documents.answer
    try:
        Documents.answer = lambda self, path: {**self.job("running"), "status": self.text}  # type: ignore[method-assign]
        result = invoke("status", "x", "--url", service.url)
    finally:
        Documents.answer = answer  # type: ignore[method-assign]
    assert result.exit_code == 69
    assert commands(result.output) == []


def test_raw_gives_what_was_said(service: HostileService) -> None:
    """To a file; only there."""
    service.text = "\x1b[31mred"
    assert invoke("log", "x", "--raw", "--url", service.url).stdout == "\x1b[31mred\n"


def test_frames_and_bars_fit_and_have_no_command(
    payload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any width, with colours and without; with them only our own sequences."""
    # Ages are told in seconds, of which one might begin between two frames.
    monkeypatch.setattr("quart_app.cli.frames.time.monotonic", lambda: 1_000.0)
    documents = Documents(payload)
    jobs = tuple(
        msgspec.convert({**documents.job(status), "id": f"{number}{payload}"}, JobDocument)
        for number, status in enumerate(("running", "succeeded", "failed", "canceled"))
    )
    line = msgspec.convert(documents.line(), LogLine)
    stats = Stats(now=dt.datetime.now(dt.UTC))
    stack = (Frame(payload, 1, payload, payload),)
    for trouble, looking in ((None, None), (payload, None), (None, "x")):
        seen = Seen(stats, jobs, jobs[0], (line,), stack, trouble, 900.0)
        for columns in (20, 80, 200):
            place = Place(None, 0, looking, payload, None, payload, cursor=False)
            plain = frame(seen, place, Look(columns, 24, False, True), payload)
            assert len(plain) == 24
            assert all(commands(each) == [] and cells(each) <= columns for each in plain)
            colored = frame(seen, place, Look(columns, 24, True, True), payload)
            assert [commands(SEQUENCE.sub("", each)) for each in colored] == [[]] * 24
            assert [SEQUENCE.sub("", each).rstrip() for each in colored] == [
                each.rstrip() for each in plain
            ]


def test_bars_fit_and_have_no_command(payload: str, tmp_path: Path) -> None:
    """At any width."""
    with (tmp_path / "out").open("w", encoding="utf-8") as stream:
        bars = Bars(stream, [])
        for status in ("running", "succeeded", "failed", "canceled"):
            job = msgspec.convert({**Documents(payload).job(status), "id": status}, JobDocument)
            bars.show(job)
        for columns in (20, 40, 80, 200):
            lines = bars.lines(columns, 20)
            assert all(commands(each) == [] and cells(each) < columns for each in lines)


def test_completion_takes_only_words(payload: str, service: HostileService) -> None:
    """A name that is none is not given to the shell."""
    completer = ShellComplete(main, {}, "quart-app", "_X")
    items = completer.get_completions(["start", "--url", service.url], "")
    assert [each.value for each in items] in ([], [payload])
    assert all(each.value.replace("_", "").replace(".", "").isalnum() for each in items)


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("words", [["list"], ["log", "x"], ["watch", "x"], ["errors"], ["tasks"]])
def test_on_a_terminal(
    words: list[str], service: HostileService, terminal: Callable[..., Terminal]
) -> None:
    """Only our own colours and moves of the cursor; every line fits."""
    service.text = "\x1b]0;t\x07\x1b[2J\x1b[?1049h\u202e two\nlines " + "A" * 300
    shown = terminal(*words, "--url", service.url, columns=80)
    shown.wait()
    assert "\x1b]" not in shown.output
    assert "\x1b[2J" not in shown.output
    assert "1049" not in SEQUENCE.sub("", shown.output) or "\\x1b[?1049h" in shown.output
    text = SEQUENCE.sub("", shown.output).replace("\r", "")
    assert commands(text) == []
    if words[0] != "log":
        assert all(cells(line) <= 80 for line in text.splitlines())


def test_raw_is_refused_on_a_terminal(
    service: HostileService, terminal: Callable[..., Terminal]
) -> None:
    """It could command it."""
    refused = terminal("log", "x", "--raw", "--url", service.url)
    assert refused.wait() == 2
    assert "send it to a file" in refused.output.replace("\r\n", "")
