"""What operators copy from examples/deploy names commands and settings that there are, and gives
them the time that a shutdown needs."""

from __future__ import annotations

import configparser
import importlib
import shlex
from typing import Any

import click
import pytest

from quart_app.cli import main
from quart_app.settings import SETTINGS, Settings
from tests.e2e.conftest import ROOT

FOLDER = ROOT / "examples" / "deploy"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
SLACK = 1.0


def check_command(words: list[str]) -> None:
    """It is parsed, and not run."""
    assert words[0].rpartition("/")[2] == "quart-app"
    command = main.get_command(click.Context(main), words[1])
    assert command is not None, words
    command.make_context(words[1], words[2:])


def check_environment(environ: dict[str, str], seconds_to_stop: float) -> None:
    """Each is a setting, and may have that value."""
    assert {name.removeprefix("QUART_APP_").lower() for name in environ} <= set(SETTINGS)
    settings = Settings.load(environ)
    assert seconds_to_stop > settings.drain + settings.grace + SLACK


@pytest.mark.parametrize("name", UNITS)
def test_the_units_start_what_there_is(name: str) -> None:
    """And systemd waits for the drain, and tries again, not so often that it gives up."""
    unit = configparser.RawConfigParser(strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(FOLDER / name)
    service = unit["Service"]
    check_command(shlex.split(service["ExecStart"]))
    environ = dict(each.split("=") for each in service["Environment"].split())
    check_environment(environ, float(service["TimeoutStopSec"]))
    assert (service["Restart"], service["RestartSec"]) == ("always", "5")


def test_the_compose_file_starts_what_there_is() -> None:
    """Redis as the promises need it, web processes and workers that have time to end."""
    yaml: Any = importlib.import_module("yaml")
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert set(services) == {"redis", "web", "worker"}
    redis = services["redis"]["command"]
    for words in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert words in redis
    for name in ("web", "worker"):
        service = services[name]
        check_command(shlex.split(service["command"]))
        environ = {name: str(value) for name, value in service["environment"].items()}
        check_environment(environ, float(service["stop_grace_period"].removesuffix("s")))
        assert service["deploy"]["replicas"] >= 2
    assert services["worker"]["ports"] == []
