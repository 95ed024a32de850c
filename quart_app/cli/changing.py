"""``quart-app cancel``, ``retry``, ``pause`` and ``resume``.

Only reading their command lines and writing what came of them may live here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from quart_app.cli.completion import complete_task
from quart_app.cli.ends import CANCELED, USAGE, Stop
from quart_app.cli.filters import HELP, parse
from quart_app.cli.remote import Name, Remote, with_service
from quart_app.cli.safe import clean
from quart_app.cli.terminal import put, say
from quart_app.client import calls
from quart_app.client.asked import Filters

IDS = click.argument("ids", nargs=-1, type=Name(), metavar="[ID]...")
MATCH = click.option("--match", metavar="FILTERS", help="All that match, such as 'task:report'.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="With --match: only count them.")
YES = click.option("--yes", is_flag=True, help="With --match: do not ask.")


@click.command(epilog=HELP)
@with_service
@IDS
@MATCH
@DRY_RUN
@YES
def cancel(
    remote: Remote, ids: tuple[str, ...], match: str | None, dry_run: bool, yes: bool
) -> None:
    """Cancel jobs.

    One that waits is canceled at once, one that runs is asked to stop; 'quart-app watch' waits for
    its end. Those that are over stay as they are.
    """
    filters = _which(ids, match, dry_run, "cancel")
    if filters is None:
        for each in ids:
            job = remote.ask(calls.cancel(each))
            word = job.status if job.over else "canceling"
            put(clean(f"{job.id} {word}"))
        return
    _many(remote, filters, dry_run, yes, "cancel", _cancel_many)


@click.command(epilog=HELP)
@with_service
@IDS
@MATCH
@DRY_RUN
@YES
def retry(
    remote: Remote, ids: tuple[str, ...], match: str | None, dry_run: bool, yes: bool
) -> None:
    """Run finished jobs again, as new ones, whose ids are printed."""
    filters = _which(ids, match, dry_run, "retry")
    if filters is None:
        for each in ids:
            put(clean(remote.ask(calls.retry(each, b"{}")).id))
        return
    _many(remote, filters, dry_run, yes, "retry", _retry_many)


def _which(ids: tuple[str, ...], match: str | None, dry_run: bool, verb: str) -> Filters | None:
    """The filters; None where ids are given."""
    if bool(ids) == (match is not None):
        example = f"quart-app {verb} --match 'task:report' --dry-run"
        raise Stop(f"give ids or --match, one of them: {example}", USAGE)
    if match is None:
        if dry_run:
            raise Stop("--dry-run goes with --match", USAGE)
        return None
    filters = parse(match)
    if not filters:
        raise Stop("--match is empty, which would be all jobs: name a task or a status", USAGE)
    return filters


def _many(
    remote: Remote,
    filters: Filters,
    dry_run: bool,
    yes: bool,
    verb: str,
    act: Callable[[Remote, dict[str, Any]], None],
) -> None:
    """Count first, ask, and act."""
    body = calls.what(None, True, filters)
    if dry_run or not yes:
        if verb == "cancel":
            matched = remote.ask(calls.cancel_many(body)).matched
        else:
            matched = remote.ask(calls.retry_many(body)).matched
        if dry_run:
            put(str(matched))
            return
        if not matched:
            say("no job matches")
            return
        if not sys.stdin.isatty():
            raise Stop(f"{_jobs(matched)} matched: --yes does it, --dry-run only counts", USAGE)
        if not click.confirm(f"{verb} {_jobs(matched)}?", err=True):
            raise Stop("nothing was done", CANCELED)
    del body["dry_run"]
    act(remote, body)


def _cancel_many(remote: Remote, body: dict[str, Any]) -> None:
    done = remote.ask(calls.cancel_many(body))
    say(f"{_jobs(done.matched)} matched: {done.canceled} canceled, {done.canceling} asked to stop")


def _retry_many(remote: Remote, body: dict[str, Any]) -> None:
    done = remote.ask(calls.retry_many(body))
    for each in done.jobs:
        put(clean(each))
    more = f", of which {len(done.jobs)} are named" if len(done.jobs) < done.retried else ""
    say(f"{_jobs(done.matched)} matched: {done.retried} started again{more}")


def _jobs(count: int) -> str:
    return f"{count} job" if count == 1 else f"{count} jobs"


@click.command()
@with_service
@click.argument("task", type=Name(), metavar="TASK", shell_complete=complete_task)
def pause(remote: Remote, task: str) -> None:
    """Let no job of a task begin; what runs goes on, and starts are accepted."""
    found = remote.ask(calls.pause(task))
    say(f"{found.name} is paused: 'quart-app resume {found.name}' lets its jobs begin again")


@click.command()
@with_service
@click.argument("task", type=Name(), metavar="TASK", shell_complete=complete_task)
def resume(remote: Remote, task: str) -> None:
    """Let the jobs of a paused task begin again."""
    say(f"{remote.ask(calls.resume(task)).name} goes on")
