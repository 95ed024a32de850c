"""``quart-app start``: arguments and options in, a job out.

Only reading its command line and writing what came of it may live here.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from typing import Any

import click

from quart_app.cli.arguments import BadArgument, convert, read_json
from quart_app.cli.bars import Silence, display_for
from quart_app.cli.completion import complete_task
from quart_app.cli.ends import FAILED, USAGE, Stop, status_of
from quart_app.cli.following import follow
from quart_app.cli.remote import Name, Remote, with_service
from quart_app.cli.safe import clean
from quart_app.cli.shapes import what
from quart_app.cli.terminal import put, put_json_text, say
from quart_app.cli.watching import put_ends
from quart_app.cli.words import Moment, Span
from quart_app.client import asked, calls
from quart_app.client.asked import OptionFields
from quart_app.client.documents import JobDocument
from quart_app.client.errors import InvalidRequest


class Expiry(click.ParamType[Any]):
    """A duration or a moment."""

    name = "duration or moment"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | dt.datetime:
        """Seconds from now, or a moment."""
        if ":" in str(value) or "-" in str(value):
            return Moment().convert(value, param, ctx)
        return Span().convert(value, param, ctx)


@click.command(no_args_is_help=True)
@with_service
@click.argument("task", type=Name(), metavar="TASK", shell_complete=complete_task)
@click.argument("pairs", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--json", "text", metavar="JSON|-", help="Arguments as JSON; - reads them.")
@click.option("--wait", is_flag=True, help="Wait for it, and print what it returned.")
@click.option("--watch", is_flag=True, help="As --wait, with a bar.")
@click.option("--key", metavar="KEY", help="A second start with it gives the same job.")
@click.option("--in", "delay", type=Span(), metavar="10m", help="Begin so much later.")
@click.option("--at", "run_at", type=Moment(), metavar="18:30", help="Begin then.")
@click.option("--expires", type=Expiry(), metavar="1h", help="Fail if it has not begun by then.")
@click.option("--priority", type=click.IntRange(-100, 100), metavar="N", help="-100 to 100.")
def start(
    remote: Remote,
    task: str,
    pairs: tuple[str, ...],
    text: str | None,
    wait: bool,
    watch: bool,
    **options: Any,
) -> None:
    """Start a job, and print its id.

    Values are read as the task's parameters ask for: month=3 is a number where month is one, and
    lists and objects are JSON. An array in --json starts a job for each of its objects, all or
    none. The exit status of a start is 0 once it is accepted; with --wait and --watch it follows
    the job.
    """
    batch = read_json(sys.stdin.read() if text == "-" else text) if text is not None else [{}]
    if pairs:
        if len(batch) > 1:
            raise BadArgument("NAME=VALUE goes with one job, not with an array in --json")
        schema = remote.ask(calls.get_task(task)).arguments
        batch[0].update(convert(task, pairs, schema))
    jobs = _start(remote, task, batch, options)
    if not wait and not watch:
        for job in jobs:
            put(clean(job.id))
        return
    ids = [job.id for job in jobs]
    say(f"started {' '.join(ids)}")
    display = display_for(sys.stderr, ids) if watch else Silence()
    _finish(remote, follow(remote, ids, display))


def _start(
    remote: Remote, task: str, batch: list[dict[str, Any]], options: Any
) -> tuple[JobDocument, ...]:
    fields: OptionFields = options
    try:
        checked = asked.with_key(asked.read_options(fields))
    except InvalidRequest as error:
        raise Stop(f"{error.detail} (--in is delay, --at is run_at)", USAGE) from None
    # Not the client's own writer: these values are JSON already, numbers of any size, too.
    bodies = [json.dumps(each).encode() for each in batch]
    if len(bodies) == 1:
        return (remote.ask(calls.start(task, bodies[0], checked)),)
    return remote.ask(calls.start_many(task, bodies, checked)).jobs


def _finish(remote: Remote, last: dict[str, JobDocument]) -> None:
    """Print what was returned, and leave with the status of the jobs."""
    status = status_of(job.status for job in last.values())
    if len(last) > 1:
        put_ends(last)
        sys.exit(status)
    (job,) = last.values()
    if job.status == "succeeded":
        payload = remote.ask(calls.get_result(job.id, 0))
        put_json_text((payload or b"null").decode())
        return
    hint = f": 'quart-app log {job.id}' may tell why" if status == FAILED else ""
    raise Stop(f"job {job.id} {job.status} ({what(job)}){hint}", status)
