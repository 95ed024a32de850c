"""``quart-app backup`` and ``check``: looking after the database, beside the service.

Only reading their command lines and writing what was found may live here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import msgspec

from quart_app.app import STANDALONE_STORE
from quart_app.cli.ends import USAGE, Stop, stop
from quart_app.domain.errors import InvalidSetting, StoreRefused, without_password
from quart_app.settings import SQLITE, Settings
from quart_app.stores.sqlite import care
from quart_app.stores.sqlite.store import path_of

STORE = click.option(
    "--store",
    metavar="sqlite:///FILE",
    help="The database; QUART_APP_STORE, else quart_app.db here, unless given.",
)


@click.command()
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


@click.command()
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
        Stop: what was given is not a file.
        InvalidSetting: what is set is not.
    """
    if store is not None:
        if not store.startswith(SQLITE) or store == SQLITE:
            shown = without_password(store)
            raise Stop(f"--store is {shown!r}: it has to be sqlite:///FILE", USAGE)
        return path_of(store)
    settings = Settings.load(os.environ, store=STANDALONE_STORE)
    if settings.store == "memory" or settings.shared:
        source = settings.sources["store"]
        raise InvalidSetting("QUART_APP_STORE", settings.store, "a file, sqlite:///FILE", source)
    return path_of(settings.store)
