"""``quart-app log``: what a job has said.

Only reading its command line and writing lines may live here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from quart_app.cli.ends import CANCELED, USAGE, Stop, status_of
from quart_app.cli.looking import AS_JSON
from quart_app.cli.remote import Name, Remote, with_service
from quart_app.cli.safe import clean, clean_line
from quart_app.cli.shapes import plain
from quart_app.cli.terminal import has_color, paint, put, put_json
from quart_app.client import calls
from quart_app.client.documents import JobDocument, LogLine
from quart_app.client.streams import Follower


@click.command()
@with_service
@click.argument("job_id", type=Name(), metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Also what is still to come.")
@AS_JSON
@click.option("--raw", is_flag=True, help="The texts as they are; not to a terminal.")
def log(remote: Remote, job_id: str, follow: bool, as_json: bool, raw: bool) -> None:
    """Print a job's log.

    What could command a terminal is shown as text (\\x1b), in files, too; --raw leaves it as it is.
    With -f the exit status follows the job.
    """
    if raw and sys.stdout.isatty():
        message = "--raw could command this terminal: send it to a file or through a pipe"
        raise Stop(message, USAGE)
    end: list[JobDocument] = []
    try:
        for line in _lines(remote, job_id, follow, end):
            if as_json:
                put_json(plain(line))
            elif raw:
                put(line.text)
            else:
                put(_shown(line))
            if follow:
                sys.stdout.flush()
    except KeyboardInterrupt:
        again = f"'quart-app log -f {job_id}'"
        raise Stop(f"stopped following; the job goes on: {again}", CANCELED) from None
    if end:
        sys.exit(status_of(job.status for job in end))


def _lines(remote: Remote, job_id: str, follow: bool, end: list[JobDocument]) -> Iterator[LogLine]:
    if not follow:
        yield from remote.ask(calls.get_log(job_id))
        return
    remote.ask(calls.get_job(job_id))  # Says at once when there is no service or no job.
    for news in remote.each(Follower(job_id, remote.long).flow()):
        if isinstance(news, LogLine):
            yield news
        else:
            end[:] = [news]


def _shown(line: LogLine) -> str:
    color = has_color(sys.stdout)
    time = line.time.astimezone().strftime("%H:%M:%S.%f")[:-3]
    level = clean(line.level)
    return (
        f"{paint(time, 'dim', color)} {paint(f'{level:<8}', level, color)} {clean_line(line.text)}"
    )
