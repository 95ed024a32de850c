"""Fixtures of the command line's tests: a real server for each module, and runs of commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from quart_app.cli import main
from tests.cli.terminals import Terminal
from tests.e2e.conftest import Server, Servers, servers

__all__ = ["servers"]

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with the tasks of `cli_jobs`, for all tests of a module."""
    made = Servers()
    yield made(tasks="tests.cli.cli_jobs")
    made.stop()


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command against the server, in this process; nothing is a terminal."""
    monkeypatch.setenv("QUART_APP_URL", server.url)
    return invoke


def invoke(*words: str, input: str | None = None) -> Result:
    """Run a command. What it does not expect is raised."""
    result = CliRunner().invoke(main, list(words), input=input)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def records(result: Result) -> list[dict[str, Any]]:
    """JSON Lines."""
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Runs ``quart-app`` in terminals, which are closed at the end."""
    made: list[Terminal] = []

    def open_terminal(*words: str, **options: Any) -> Terminal:
        made.append(Terminal(list(words), **options))
        return made[-1]

    yield open_terminal
    for each in made:
        each.close()
