"""Serving from the command line: what it refuses, it refuses in one sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypercorn.config import Config
from quart import Quart

from quart_app.cli import main, serving


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Quart, Config]]:
    """What would have been served; nothing listens."""
    calls: list[tuple[Quart, Config]] = []

    def run(app: Quart, config: Config) -> int:
        calls.append((app, config))
        return 0

    monkeypatch.setattr(serving, "run", run)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return calls


def invoke(*words: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, list(words))


def test_serve_listens_on_loopback_unless_told_otherwise(
    served: list[tuple[Quart, Config]],
) -> None:
    """`quart-app serve` is the standalone app on 127.0.0.1:8000."""
    assert invoke("serve").exit_code == 0
    assert invoke("serve", "--bind", "0.0.0.0:9000").exit_code == 0
    assert [config.bind for _, config in served] == [["127.0.0.1:8000"], ["0.0.0.0:9000"]]
    assert served[0][0].name == "quart_app"


def test_serve_takes_an_app_of_the_users(
    served: list[tuple[Quart, Config]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--app MODULE:NAME` is looked for in the working directory; NAME is `app` unless given."""
    (tmp_path / "shop_of_a_test.py").write_text(
        "from quart import Quart\nfrom quart_app import Jobs\n"
        "app = Quart('shop')\njobs = Jobs(app)\nbare = Quart('bare')\n"
    )
    monkeypatch.chdir(tmp_path)
    assert invoke("serve", "--app", "shop_of_a_test").exit_code == 0
    assert served[0][0].name == "shop"
    without = invoke("serve", "--app", "shop_of_a_test:bare")
    assert without.exit_code == os.EX_CONFIG
    assert "a Quart app with Jobs(app)" in without.output


def test_serve_takes_more_settings_of_hypercorn(
    served: list[tuple[Quart, Config]], tmp_path: Path
) -> None:
    """`--config FILE` is Hypercorn's own format; where it listens is still `--bind`."""
    file = tmp_path / "more.toml"
    file.write_text('bind = "127.0.0.1:1"\nkeep_alive_timeout = 7\nerrorlog = "x"\n')
    assert invoke("serve", "--config", str(file)).exit_code == 0
    [(_, config)] = served
    assert (config.keep_alive_timeout, config.errorlog) == (7, "x")
    assert config.bind == ["127.0.0.1:8000"]


@pytest.mark.parametrize("name", ["no_such_module_at_all", "quart_app:nothing"])
def test_an_app_that_is_not_there_is_refused(name: str, served: list[tuple[Quart, Config]]) -> None:
    """The sentence names the option, what it was, and why."""
    refused = invoke("serve", "--app", name)
    assert refused.exit_code == os.EX_CONFIG
    assert f"--app='{name}'" in refused.output
    assert served == []


def test_a_wrong_setting_is_refused_before_anything_listens(
    served: list[tuple[Quart, Config]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit status 78 and one sentence."""
    monkeypatch.setenv("QUART_APP_MAX_QUEUED", "0")
    refused = invoke("serve")
    assert refused.exit_code == os.EX_CONFIG
    assert refused.output == (
        "quart-app: QUART_APP_MAX_QUEUED='0' (from environment) is not valid: "
        "it must be a whole number from 1 to 10000000\n"
    )
    assert served == []


@pytest.mark.parametrize(
    "bind", ["8000", "127.0.0.1:99999", "[::1]:65536", "127.0.0.1:", "127.0.0.1:http", ":999999"]
)
def test_an_address_that_cannot_be_is_refused(
    bind: str, served: list[tuple[Quart, Config]]
) -> None:
    """The sentence says how one is written."""
    refused = invoke("serve", "--bind", bind)
    assert refused.exit_code == os.EX_CONFIG
    [line] = refused.output.splitlines()
    assert line.startswith(f"quart-app: --bind='{bind}' (from option) is not valid: ")
    assert "HOST:PORT" in line
    assert served == []


@pytest.mark.parametrize(
    "bind", ["localhost", "127.0.0.1:0", ":8000", "[::1]:8000", "[::]", "unix:/tmp/x", "fd://3"]
)
def test_what_hypercorn_can_listen_on_goes_through(
    bind: str, served: list[tuple[Quart, Config]]
) -> None:
    """A host alone, any host, IPv6, sockets."""
    assert invoke("serve", "--bind", bind).exit_code == 0
    assert served[0][1].bind == [bind]


@pytest.mark.parametrize("text", [b"x = [1\n", b"x = '\xff'\n"])
def test_a_file_of_settings_that_cannot_be_read_is_refused(
    text: bytes, served: list[tuple[Quart, Config]], tmp_path: Path
) -> None:
    """Exit status 78 and one sentence that names the file."""
    file = tmp_path / "more.toml"
    file.write_bytes(text)
    refused = invoke("serve", "--config", str(file))
    assert refused.exit_code == os.EX_CONFIG
    [line] = refused.output.splitlines()
    assert line.startswith(f"quart-app: --config='{file}' (from option) is not valid: ")
    assert served == []


def test_an_address_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port in use, or another machine's address, is one sentence and no traceback."""

    def run(app: Quart, config: Config) -> int:
        raise OSError("Address already in use")

    monkeypatch.setattr(serving, "run", run)
    refused = invoke("serve", "--bind", "127.0.0.1:1")
    assert refused.exit_code == os.EX_CONFIG
    assert refused.output == "quart-app: cannot listen on 127.0.0.1:1: Address already in use\n"
