"""``quart-app serve`` and ``worker``: the processes that run jobs.

Only reading their command lines may live here; the rest is `quart_app.serve` and its like.
"""

from __future__ import annotations

import importlib
import os
import sys

import click
from hypercorn.config import Config
from quart import Quart

from quart_app.app import EXTENSION, create_app, get_jobs
from quart_app.cli.ends import stop
from quart_app.domain.errors import InvalidSetting, InvalidTask, StoreRefused, StoreUnavailable
from quart_app.serve import make_config, run
from quart_app.working import run as work

MOST_PORT = 65_535


@click.command()
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
        status = run(app, make_config(listens_on(bind), None if file is None else read(file)))
    except (InvalidSetting, InvalidTask, StoreRefused, StoreUnavailable) as error:
        stop(str(error))
    except OSError as error:
        stop(f"cannot listen on {bind}: {error}")
    sys.exit(status)


@click.command()
@click.option("--app", "name", metavar="MODULE:NAME", help="An app of your own with Jobs(app).")
@click.option("--concurrency", type=int, metavar="N", help="Jobs on the loop at once.")
@click.option("--lease", type=float, metavar="S", help="How long it counts as alive if silent.")
@click.option("--drain", type=float, metavar="S", help="What running jobs have to end at SIGTERM.")
@click.option("--grace", type=float, metavar="S", help="And then, when they were asked to stop.")
@click.option("--only", metavar="TASK,...", help="Run these tasks, and leave others to others.")
def worker(
    name: str | None,
    concurrency: int | None,
    lease: float | None,
    drain: float | None,
    grace: float | None,
    only: str | None,
) -> None:
    """Run jobs of a store that several processes share, and nothing else.

    QUART_APP_STORE names it (redis://... or postgresql://...); an option here wins over the
    environment. As many workers as you like, on as many machines.
    """
    sys.path.insert(0, os.getcwd())
    given = {
        "MAX_RUNNING": concurrency,
        "LEASE": lease,
        "DRAIN": drain,
        "GRACE": grace,
        "ONLY": only,
    }
    environ = {f"QUART_APP_{key}": str(value) for key, value in given.items() if value is not None}
    try:
        app = create_app() if name is None else load(name)
        get_jobs(app).environ = {**os.environ, **environ}
        status = work(app)
    except (InvalidSetting, InvalidTask, StoreRefused, StoreUnavailable) as error:
        stop(str(error))
    sys.exit(status)


def listens_on(bind: str) -> str:
    """Where to listen, the same text; the names that Hypercorn has for sockets go through.

    Raises:
        InvalidSetting: it is a port alone, or none that there can be.
    """
    host, colon, port = bind.rpartition(":")
    if bind.startswith(("unix:", "fd://")):
        return bind
    too_large = port.isdecimal() and int(port[:9]) > MOST_PORT
    no_number = bool(colon) and ":" not in host and not port.isdecimal()
    if bind.isdecimal() or too_large or no_number:
        expected = f"HOST:PORT, such as 127.0.0.1:8000, with a port up to {MOST_PORT}"
        raise InvalidSetting("--bind", bind, expected, "option")
    return bind


def read(file: str) -> Config:
    """Hypercorn's settings from a file.

    Raises:
        InvalidSetting: it is no TOML.
    """
    try:
        return Config.from_toml(file)
    except ValueError as error:  # Also of a wrong encoding.
        raise InvalidSetting("--config", file, f"TOML: {error}", "option") from error


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
