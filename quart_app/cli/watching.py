"""``quart-app watch``: bars until the end.

Only reading its command line and writing what came of it may live here.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from quart_app.cli.bars import Silence, display_for
from quart_app.cli.ends import status_of
from quart_app.cli.following import follow
from quart_app.cli.looking import AS_JSON, check_there
from quart_app.cli.remote import Name, Remote, with_service
from quart_app.cli.safe import clean
from quart_app.cli.shapes import plain, what
from quart_app.cli.terminal import put, put_json
from quart_app.client.documents import JobDocument


@click.command()
@with_service
@click.argument("ids", nargs=-1, required=True, type=Name(), metavar="ID...")
@AS_JSON
def watch(remote: Remote, ids: tuple[str, ...], as_json: bool) -> None:
    """Follow jobs to their end.

    Bars are drawn on the standard error stream; on the standard output, unless it is the terminal,
    stands how each has ended, with --json each version. A broken connection and a restart of the
    service are waited for. Ctrl-C stops watching, and the jobs go on. The exit status follows them.
    """
    check_there(remote, ids)
    ids = tuple(dict.fromkeys(ids))
    if as_json:
        last = follow(remote, ids, Silence(), _write)
    else:
        last = follow(remote, ids, display_for(sys.stderr, ids))
        put_ends(last)
    sys.exit(status_of(job.status for job in last.values()))


def _write(news: Any) -> None:
    if isinstance(news, JobDocument):
        put_json(plain(news))
        sys.stdout.flush()


def put_ends(last: dict[str, JobDocument]) -> None:
    """How jobs have ended, where the bars do not show it."""
    if not sys.stdout.isatty():
        for job in last.values():
            put(clean(f"{job.id} {job.status} {what(job)}").rstrip())
