"""The command line: ``quart-app serve``.

Only reading the command line and writing to the terminal may live here.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click
from hypercorn.config import Config
from quart import Quart

from quart_app.app import EXTENSION, create_app, get_jobs
from quart_app.domain.errors import InvalidSetting, InvalidTask
from quart_app.serve import make_config, run

CONFIG = 78
"""The exit status for a wrong configuration (EX_CONFIG of sysexits.h)."""


@click.group()
@click.version_option(package_name="quart-app")
def main() -> None:
    """Background jobs for asyncio web apps."""


@main.command()
@click.option("--bind", default="127.0.0.1:8000", show_default=True, metavar="HOST:PORT")
@click.option("--app", "name", metavar="MODULE:NAME", help="An app of your own with Jobs(app).")
@click.option(
    "--config",
    "file",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="More settings of Hypercorn (TLS, logs), as TOML.",
)
def serve(bind: str, name: str | None, file: str | None) -> None:
    """Serve the jobs and drain them at the end.

    Settings are QUART_APP_... variables of the environment; QUART_APP_TASKS names the modules whose
    tasks are offered.
    """
    sys.path.insert(0, os.getcwd())
    try:
        app = create_app() if name is None else load(name)
        get_jobs(app).prepare()
        status = run(app, make_config(bind, None if file is None else Config.from_toml(file)))
    except (InvalidSetting, InvalidTask) as error:
        stop(str(error))
    except OSError as error:
        stop(f"cannot listen on {bind}: {error}")
    sys.exit(status)


def load(name: str) -> Quart:
    """An app by its name, ``module:attribute``.

    Raises:
        InvalidSetting: there is no such app, or it has no jobs.
    """
    module, _, attribute = name.partition(":")
    try:
        app = getattr(importlib.import_module(module), attribute or "app")
    except (ImportError, AttributeError) as error:
        raise InvalidSetting(
            "--app", name, f"MODULE:NAME of a Quart app: {error}", "option"
        ) from error
    if EXTENSION not in getattr(app, "extensions", {}):
        raise InvalidSetting("--app", name, "a Quart app with Jobs(app)", "option")
    loaded: Quart = app
    return loaded


def stop(message: str) -> NoReturn:
    """Say in one sentence why the start is refused."""
    click.echo(f"quart-app: {message}", err=True)
    sys.exit(CONFIG)
