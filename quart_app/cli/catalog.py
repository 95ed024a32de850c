"""``quart-app tasks``, ``errors`` and ``workers``: what there is besides jobs.

Only reading their command lines and writing what the service says may live here.
"""

from __future__ import annotations

import datetime as dt
import sys
from typing import Any

import click

from quart_app.cli.arguments import words_of
from quart_app.cli.completion import complete_task
from quart_app.cli.looking import AS_JSON
from quart_app.cli.remote import Name, Remote, with_service
from quart_app.cli.safe import clean
from quart_app.cli.shapes import plain, short
from quart_app.cli.terminal import has_blocks, put, put_json, put_table, say, sparkline
from quart_app.cli.words import ago, took
from quart_app.client import calls
from quart_app.client.documents import TaskDocument


@click.command()
@with_service
@click.argument("name", required=False, type=Name(), metavar="[NAME]", shell_complete=complete_task)
@AS_JSON
def tasks(remote: Remote, name: str | None, as_json: bool) -> None:
    """Show what can be started; with a name, its arguments and its policy."""
    found = [remote.ask(calls.get_task(name))] if name else remote.ask(calls.list_tasks()).tasks
    if as_json:
        for each in found:
            put_json(plain(each))
    elif name:
        _put_task(found[0])
    else:
        rows = [
            (
                each.name,
                "paused" if each.paused else "on",
                took(each.durations.get("p50")),
                each.description.partition("\n")[0],
            )
            for each in found
        ]
        put_table(("TASK", "STATE", "TAKES", "WHAT IT DOES"), rows)


def _put_task(task: TaskDocument) -> None:
    put(clean(f"{task.name}{' (paused)' if task.paused else ''}"))
    for line in task.description.splitlines():
        put(f"  {clean(line)}".rstrip())
    properties = task.arguments.get("properties")
    required = task.arguments.get("required") or []
    rows = [
        (
            each,
            " or ".join(words_of(schema, task.arguments)) or "anything",
            "needed" if each in required else _default(schema),
            schema.get("description", "") if isinstance(schema, dict) else "",
        )
        for each, schema in (properties if isinstance(properties, dict) else {}).items()
    ]
    if rows:
        put()
        put_table(("ARGUMENT", "IS", "UNLESS GIVEN", "MEANS"), rows)
    put()
    facts = {**task.policy, **{f"takes {k}": v for k, v in task.durations.items()}}
    known = [(key, short(value)) for key, value in facts.items() if value is not None]
    put_table(("POLICY", ""), known)


def _default(schema: Any) -> str:
    return short(schema["default"]) if isinstance(schema, dict) and "default" in schema else "-"


@click.command()
@with_service
@click.option("--since", default="1h", show_default=True, metavar="1h", help="Or a moment.")
@click.option("--task", metavar="TASK", shell_complete=complete_task, help="Only of this task.")
@AS_JSON
def errors(remote: Remote, since: str, task: str | None, as_json: bool) -> None:
    """Show the kinds of errors of failed jobs, those that came last first."""
    report = remote.ask(calls.list_errors(task, since))
    if as_json:
        for each in report.errors:
            put_json(plain(each))
        return
    if not report.errors:
        say(f"no job has failed since {since}")
        return
    now = dt.datetime.now(dt.UTC)
    blocks = has_blocks(sys.stdout)
    rows = [
        (
            each.fingerprint,
            each.task,
            each.count,
            ago(each.last, now),
            sparkline(each.trend, blocks),
            f"{each.code}: {each.message}",
        )
        for each in report.errors
    ]
    put_table(("FINGERPRINT", "TASK", "COUNT", "LAST", "TREND", "ERROR"), rows)
    hint = "'quart-app list error:FINGERPRINT' shows the jobs"
    say(f"of the newest {report.scanned} failed jobs; {hint}" if report.capped else hint)


@click.command()
@with_service
@AS_JSON
def workers(remote: Remote, as_json: bool) -> None:
    """Show the processes that run jobs."""
    found = remote.ask(calls.list_workers()).workers
    if as_json:
        for each in found:
            put_json(plain(each))
        return
    now = dt.datetime.now(dt.UTC)
    rows = [
        (
            each.id,
            each.kind,
            each.host,
            each.pid,
            f"{each.running} of {each.room}",
            "draining" if each.draining else "on",
            ago(each.started_at, now),
            (", ".join(each.only) or "all tasks") if each.room else "none",
        )
        for each in found
    ]
    put_table(("ID", "KIND", "HOST", "PID", "RUNNING", "STATE", "STARTED", "RUNS"), rows)
