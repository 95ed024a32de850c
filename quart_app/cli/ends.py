"""How a command ends: its exit status, and the one sentence on the standard error stream.

Nothing may live here that knows what a command does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO, Any, NoReturn

import click

from quart_app.cli.safe import clean

SUCCEEDED, FAILED, USAGE, UNFINISHED = 0, 1, 2, 3
UNAVAILABLE = 69
"""The service does not answer (EX_UNAVAILABLE of sysexits.h)."""
CONFIG = 78
"""The exit status for a wrong configuration (EX_CONFIG of sysexits.h)."""
CANCELED = 130
"""As a shell has it for what Ctrl-C has ended: a canceled job, or who stopped to watch one."""
BY_STATUS = {"succeeded": SUCCEEDED, "failed": FAILED, "canceled": CANCELED}


class Stop(click.ClickException):
    """The command ends here, with one sentence that says what to do next.

    Args:
        message: the sentence; words of others in it are made safe.
        status: the exit status.
    """

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(clean(message))
        self.exit_code = status  # type: ignore[misc]  # Of the class by click's types.

    def show(self, file: IO[Any] | None = None) -> None:
        """On the standard error stream, as all talk."""
        click.echo(f"quart-app: {self.message}", err=True)


def stop(message: str, status: int = CONFIG) -> NoReturn:
    """Say in one sentence why it cannot be done."""
    click.echo(f"quart-app: {message}", err=True)
    sys.exit(status)


def status_of(statuses: Iterable[str]) -> int:
    """The exit status for jobs: the worst of theirs.

    >>> status_of(["succeeded", "canceled", "running"]), status_of(["canceled", "failed"])
    (130, 1)
    """
    found = {BY_STATUS.get(each, UNFINISHED) for each in statuses}
    return next((each for each in (FAILED, CANCELED, UNFINISHED) if each in found), SUCCEEDED)
