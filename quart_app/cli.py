"""The command line: ``quart-app serve``, ``backup`` and ``check``.

Only reading the command line and writing to the terminal may live here.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import NoReturn

import click
import msgspec
from hypercorn.config import Config
from quart import Quart

from quart_app.app import EXTENSION, STANDALONE_STORE, create_app, get_jobs
from quart_app.domain.errors import InvalidSetting, InvalidTask, StoreRefused, StoreUnavailable
from quart_app.serve import make_config, run
from quart_app.settings import Settings
from quart_app.stores.sqlite import care
from quart_app.stores.sqlite.store import path_of
from quart_app.working import run as work

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
    except (InvalidSetting, InvalidTask, StoreRefused, StoreUnavailable) as error:
        stop(str(error))
    except OSError as error:
        stop(f"cannot listen on {bind}: {error}")
    sys.exit(status)


@main.command()
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


STORE = click.option(
    "--store",
    metavar="sqlite:///FILE",
    help="The database; QUART_APP_STORE, else quart_app.db here, unless given.",
)


@main.command()
@STORE
@click.argument("target", type=click.Path(path_type=Path), metavar="FILE")
def backup(store: str | None, target: Path) -> None:
    """Copy the database to FILE, also while a service works with it.

    Restore by stopping the service and putting FILE in the place of the database; remove what
    stands beside that under its name with -wal and -shm.
    """
    try:
        count = care.backup(database(store), target)
    except (InvalidSetting, StoreRefused) as error:
        stop(str(error), status=1)
    click.echo(f"{target}: {count} jobs")


@main.command()
@STORE
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def check(store: str | None, as_json: bool) -> None:
    """Look whether the database is sound, also while a service works with it.

    The exit status is 1 where it is not.
    """
    try:
        report = care.check(database(store))
    except (InvalidSetting, StoreRefused) as error:
        stop(str(error), status=1)
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        click.echo(f"{report.path}: version {report.version}, {report.bytes:,} bytes", nl=False)
        click.echo(f" and {report.log_bytes:,} in the write-ahead log")
        click.echo(f"owner: {report.owner or 'none'}")
        for status, jobs in report.jobs.items():
            click.echo(f"{status}: {jobs:,}")
        for problem in report.problems:
            click.echo(f"PROBLEM: {problem}")
        click.echo(f"{len(report.problems)} problems" if report.problems else "sound")
    sys.exit(1 if report.problems else 0)


def database(store: str | None) -> Path:
    """The file that is meant.

    Raises:
        InvalidSetting: the store is not a file.
    """
    environ = dict(os.environ) if store is None else {**os.environ, "QUART_APP_STORE": store}
    settings = Settings.load(environ, store=STANDALONE_STORE)
    if settings.store == "memory" or settings.shared:
        source = settings.sources["store"]
        raise InvalidSetting("QUART_APP_STORE", settings.store, "a file, sqlite:///FILE", source)
    return path_of(settings.store)


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


def stop(message: str, status: int = CONFIG) -> NoReturn:
    """Say in one sentence why it cannot be done."""
    click.echo(f"quart-app: {message}", err=True)
    sys.exit(status)
