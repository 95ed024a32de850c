"""Shell completion: the scripts, and words that only the service knows."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from quart_app.cli import COMMANDS, main
from tests.cli.conftest import Run, invoke
from tests.e2e.conftest import ROOT, Server


def words(args: list[str], incomplete: str) -> list[str]:
    """What completion offers."""
    completer = ShellComplete(main, {}, "quart-app", "_QUART_APP_COMPLETE")
    return [each.value for each in completer.get_completions(args, incomplete)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str) -> None:
    """Of each shell, and no other."""
    script = invoke("completion", shell).stdout
    assert f"_QUART_APP_COMPLETE={shell}_complete" in script
    assert invoke("completion", "csh").exit_code == 2
    none = invoke("completion")
    assert none.exit_code == 2
    [line] = none.stderr.splitlines()
    assert "Choose from: bash, zsh, fish" in line


def test_commands_are_completed_without_a_service() -> None:
    """And options."""
    assert words([], "") == list(COMMANDS)
    assert words([], "sta") == ["start", "status"]
    assert "--watch" in words(["start"], "--w")


def test_no_service_is_no_word_and_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent on failure."""
    monkeypatch.setenv("QUART_APP_URL", "http://127.0.0.1:1")
    assert words(["start"], "") == []
    monkeypatch.setenv("QUART_APP_URL", "nonsense")
    assert words(["start"], "") == []


@pytest.mark.slow
@pytest.mark.e2e
def test_names_of_tasks(run: Run) -> None:
    """Of the service that is meant."""
    assert words(["start"], "st") == ["steps", "stubborn_steps"]
    assert words(["pause"], "hou") == ["hourly"]
    assert words(["schedule", "run"], "hou") == ["hourly"]


@pytest.mark.slow
@pytest.mark.e2e
def test_bash_takes_the_script(server: Server) -> None:
    """It is sound, and completes by calling the command."""
    script = invoke("completion", "bash").stdout
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    done = subprocess.run(
        [sys.executable, "-c", "from quart_app.cli import main; main(prog_name='quart-app')"],
        cwd=ROOT, text=True, capture_output=True,
        env={
            "COMP_WORDS": "quart-app start ho", "COMP_CWORD": "2", "PATH": "/usr/bin:/bin",
            "_QUART_APP_COMPLETE": "bash_complete", "QUART_APP_URL": server.url,
        },
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("plain,hourly\n", "")
