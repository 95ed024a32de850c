"""The command line: ``quart-app``, and which module has each of its commands.

Nothing else may live here: a command's module is imported when the command is run, so that help
and completion need neither the web framework nor an HTTP client.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import Any

import click

from quart_app.cli.ends import USAGE, Stop

COMMANDS: dict[str, tuple[str, str]] = {
    # name: its module and attribute, and what the help says of it
    "serve": ("serving:serve", "Serve the jobs and drain them at the end."),
    "worker": ("serving:worker", "Run jobs of a shared store, and nothing else."),
    "start": ("starting:start", "Start a job: quart-app start report month=3"),
    "watch": ("watching:watch", "Follow jobs to their end, with bars."),
    "status": ("looking:status", "Show jobs as they are now."),
    "result": ("looking:result", "Print what a job returned."),
    "log": ("logs:log", "Print a job's log; -f follows it."),
    "list": ("looking:list_jobs", "List jobs that match filters, the newest first."),
    "cancel": ("changing:cancel", "Cancel jobs, or all that match."),
    "retry": ("changing:retry", "Run finished jobs again, as new ones."),
    "pause": ("changing:pause", "Let no job of a task begin."),
    "resume": ("changing:resume", "Let the jobs of a paused task begin again."),
    "schedule": ("schedules:schedule", "Show, run and pause what starts by itself."),
    "tasks": ("catalog:tasks", "Show what can be started."),
    "errors": ("catalog:errors", "Show the kinds of errors of failed jobs."),
    "workers": ("catalog:workers", "Show the processes that run jobs."),
    "top": ("top:top", "Watch the service, full screen."),
    "bench": ("bench:bench", "Measure how many jobs a second the service takes."),
    "doctor": ("doctor:doctor", "Look for what is wrong with this installation."),
    "backup": ("keeping:backup", "Copy the database, also while in use."),
    "check": ("keeping:check", "Look whether the database is sound."),
    "migrate": ("moving:migrate", "Move all jobs of a file to Redis or PostgreSQL."),
    "completion": ("completion:completion", "Print the completion script of a shell."),
}


class Commands(click.Group):
    """A group whose commands are imported one by one, when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, as they stand in the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        try:
            found = getattr(importlib.import_module(f"quart_app.cli.{module}"), attribute)
        except ImportError as error:
            if error.name != "httpx2":
                raise
            message = f"{cmd_name} needs httpx2: pip install 'quart-app[client]'"
            raise click.ClickException(message) from None
        command: click.Command = found
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, of which no command is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A mistake in its line is one sentence, as all that goes wrong."""
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            raise _sentence(error) from None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What stands before the command's name. A mistake in it is one sentence, too."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            message = f"{error.format_message().rstrip('.')}: options stand after the command"
            raise Stop(f"{message} (see 'quart-app --help')", USAGE) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, and the rest of its line."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else "'quart-app --help' shows them"
            raise Stop(f"there is no command {args[0]!r}: {hint}", USAGE)
        # What a stream's encoding lacks must not be the end of a command.
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return super().resolve_command(ctx, args)


def _sentence(error: click.UsageError) -> Stop:
    name = f"{error.ctx.command_path} --help" if error.ctx else "quart-app --help"
    message = " ".join(error.format_message().split())  # Click lists choices in lines of their own.
    return Stop(f"{message.rstrip('.')} (see '{name}')", USAGE)


HELP = {"help_option_names": ["-h", "--help"]}


@click.group(name="quart-app", cls=Commands, context_settings=HELP)
@click.version_option(package_name="quart-app")
def main() -> None:
    """Background jobs for asyncio web apps.

    Commands that talk to a service take --url, else QUART_APP_URL, else http://127.0.0.1:8000.
    Data goes to the standard output, talk to the standard error stream; --json is JSON Lines. The
    exit status follows the job: 0 succeeded, 1 failed, 130 canceled, 3 not over; 2 is a mistake in
    the command line, 69 a service that does not answer.
    """
