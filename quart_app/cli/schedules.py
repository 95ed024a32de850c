"""``quart-app schedule``: what starts by itself.

Only reading its command lines and writing what the service says may live here.
"""

from __future__ import annotations

import datetime as dt

import click

from quart_app.cli.changing import pause, resume
from quart_app.cli.completion import complete_task
from quart_app.cli.looking import AS_JSON
from quart_app.cli.remote import Name, Remote, with_service
from quart_app.cli.safe import clean
from quart_app.cli.shapes import plain
from quart_app.cli.terminal import put, put_json, put_table, say
from quart_app.cli.words import ago, clock
from quart_app.client import calls

HEADINGS = ("TASK", "STATE", "NEXT", "AT", "WHEN")


@click.group()
def schedule() -> None:
    """Show, run and pause what starts by itself."""


@schedule.command()
@with_service
@AS_JSON
def ls(remote: Remote, as_json: bool) -> None:
    """Show all schedules: in words, and when they are due."""
    schedules = remote.ask(calls.list_schedules()).schedules
    if as_json:
        for each in schedules:
            put_json(plain(each))
        return
    now = dt.datetime.now(dt.UTC)
    rows = [
        (
            each.task,
            "paused" if each.paused else "on",
            ago(each.next[0], now) if each.next else "-",
            clock(each.next[0]) if each.next else "-",
            each.words or each.cron or "",
        )
        for each in schedules
    ]
    if rows:
        put_table(HEADINGS, rows)
    else:
        say('no task has a schedule: @task(cron="0 7 * * *") or @task(every=300) gives it one')


@schedule.command()
@with_service
@click.argument("task", type=Name(), metavar="TASK", shell_complete=complete_task)
def run(remote: Remote, task: str) -> None:
    """Start a task now, as its schedule would, and print the job's id."""
    put(clean(remote.ask(calls.run_schedule(task)).id))


schedule.add_command(pause)
schedule.add_command(resume)
