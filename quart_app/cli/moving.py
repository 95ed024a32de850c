"""``quart-app migrate``: to many machines, with all jobs.

Only reading its command line and saying what was done may live here.
"""

from __future__ import annotations

import os
import sys

import click
import msgspec

from quart_app.cli.ends import FAILED, UNAVAILABLE, USAGE, Stop
from quart_app.domain.errors import (
    InvalidSetting,
    StoreRefused,
    StoreUnavailable,
    without_password,
)
from quart_app.moving import migrate as move
from quart_app.settings import Settings
from quart_app.stores.sqlite.store import path_of


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--namespace", metavar="NAME", help="In TO; QUART_APP_NAMESPACE unless given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def migrate(source: str, target: str, namespace: str | None, as_json: bool) -> None:
    """Move all jobs of a SQLite file to Redis or PostgreSQL, with their logs, steps and keys.

    \b
    quart-app migrate sqlite:///quart_app.db redis://localhost:6379/0

    Stop the service first. The file is only read. Where this is cut off, do the same again: it
    goes on, and until it is over no process works with the new store.
    """
    settings = _settings(target, namespace)
    if not source.startswith("sqlite:///"):
        raise Stop(f"FROM is {without_password(source)!r}: it has to be sqlite:///FILE", USAGE)
    try:
        counts, written = move(path_of(source), settings, _say)
    except (InvalidSetting, StoreRefused) as error:
        raise Stop(str(error), FAILED) from None
    except StoreUnavailable as error:
        again = "it was cut off; do the same again, and it goes on"
        raise Stop(f"{error} ({again})", UNAVAILABLE) from None
    except KeyboardInterrupt:
        raise Stop("it was cut off: do the same again, and it goes on", 130) from None
    if as_json:
        click.echo(msgspec.json.encode({"jobs": counts, "written": written}))
        return
    for status, jobs in counts.items():
        click.echo(f"{status}: {jobs:,}")
    shown = without_password(target)
    click.echo(
        f"{sum(counts.values()):,} jobs are in {shown}, {written:,} of them written now. Start the "
        f"service with QUART_APP_STORE={shown} and QUART_APP_NAMESPACE={settings.namespace}",
        err=True,
    )


def _settings(target: str, namespace: str | None) -> Settings:
    environ = {**os.environ, "QUART_APP_STORE": target}
    if namespace is not None:
        environ["QUART_APP_NAMESPACE"] = namespace
    try:
        settings = Settings.load(environ)
    except InvalidSetting as error:
        raise Stop(f"TO: {error}", USAGE) from None
    if not settings.shared:
        shown = without_password(target)
        raise Stop(f"TO is {shown!r}: it has to be redis://... or postgresql://...", USAGE)
    return settings


def _say(count: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if count >= total else ""
        click.echo(f"\r{count:,} of {total:,} jobs", err=True, nl=False)
        click.echo(end, err=True, nl=False)
