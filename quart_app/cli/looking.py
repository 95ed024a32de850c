"""``quart-app status``, ``result`` and ``list``: jobs as they are.

Only reading their command lines and writing what the service says may live here.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
import sys
from collections.abc import Iterable

import click

from quart_app.cli.ends import UNFINISHED, Stop, status_of
from quart_app.cli.filters import HELP, parse
from quart_app.cli.remote import Name, Remote, with_service
from quart_app.cli.safe import clean
from quart_app.cli.shapes import (
    COLUMNS,
    JOB_HEADINGS,
    STATUS_COLUMN,
    job_record,
    job_row,
    plain,
)
from quart_app.cli.terminal import put, put_json, put_json_text, put_table, say
from quart_app.client import calls, flows

AS_JSON = click.option("--json", "as_json", is_flag=True, help="JSON Lines, for scripts.")


@click.command()
@with_service
@click.argument("ids", nargs=-1, required=True, type=Name(), metavar="ID...")
@AS_JSON
def status(remote: Remote, ids: tuple[str, ...], as_json: bool) -> None:
    """Show jobs as they are now.

    The exit status follows them: 0 all succeeded, 1 one failed, 130 canceled, 3 not over.
    """
    jobs = [remote.ask(calls.get_job(each)) for each in ids]
    if as_json:
        for job in jobs:
            put_json(plain(job))
    else:
        now = dt.datetime.now(dt.UTC)
        put_table(JOB_HEADINGS, [job_row(job, now) for job in jobs], STATUS_COLUMN)
    sys.exit(status_of(job.status for job in jobs))


@click.command()
@with_service
@click.argument("job_id", type=Name(), metavar="ID")
@click.option("--wait", type=click.FloatRange(0), metavar="S", help="Wait so many seconds for it.")
def result(remote: Remote, job_id: str, wait: float | None) -> None:
    """Print what a job returned, as JSON.

    The exit status is 1 where it failed, 130 where it was canceled, 3 where it is not over.
    """
    if wait is None:
        payload = remote.ask(calls.get_result(job_id, 0))
    else:
        remote.ask(calls.get_job(job_id))  # Says at once when there is no service or no job.
        try:
            payload = remote.link.run(flows.wait_result(job_id, remote.long, wait))
        except TimeoutError:
            payload = None
    if payload is None:
        raise Stop(f"job {job_id} is not over: 'quart-app watch {job_id}' waits", UNFINISHED)
    put_json_text(payload.decode())


@click.command(name="list", epilog=HELP)
@with_service
@click.argument("filters", nargs=-1, metavar="[FILTER]...")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N")
@click.option("--all", "every", is_flag=True, help="Without a limit.")
@AS_JSON
@click.option("--csv", "as_csv", is_flag=True, help="With a line of headings.")
def list_jobs(
    remote: Remote,
    filters: tuple[str, ...],
    limit: int,
    every: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List jobs that match all of the filters, the newest first."""
    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")
    jobs = remote.each(flows.all_jobs(remote.pace, parse(" ".join(filters))))
    some = jobs if every else itertools.islice(jobs, limit)
    now = dt.datetime.now(dt.UTC)
    if as_json:
        for job in some:
            put_json(plain(job))
    elif as_csv:
        put(_csv(COLUMNS))
        for job in some:
            put(_csv(job_record(job, now)))
    else:
        rows = [job_row(job, now) for job in some]
        if rows:
            put_table(JOB_HEADINGS, rows, STATUS_COLUMN)
        else:
            say("no job matches")
        if not every and len(rows) == limit and next(jobs, None) is not None:
            say(f"there are more: --limit {limit * 10} or --all shows them")


def _csv(values: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([clean(each) for each in values])
    return line.getvalue()


def check_there(remote: Remote, ids: tuple[str, ...]) -> None:
    """Say at once when there is no service, or none of these jobs."""
    for each in ids:
        remote.ask(calls.get_job(each))
