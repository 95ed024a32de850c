"""Talking to the service: where it is, and what is said when it refuses or does not answer.

Nothing may live here that belongs to one command.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click
import httpx2

from quart_app.cli.ends import CANCELED, FAILED, UNAVAILABLE, USAGE, Stop
from quart_app.client import calls, errors, flows, wires
from quart_app.client.asynchronous import AsyncLink
from quart_app.client.errors import ClientError
from quart_app.client.sync import Link
from quart_app.domain.errors import without_password

T = TypeVar("T")

EACH = 15.0
"""Seconds for the answer to one request."""
LONG = 60.0
"""Seconds for which a job is followed without a connection: a service restarts in less."""
NEVER = 1e9
"""Seconds before a second try, where there shall be none."""
GLANCE = 3.0


class Remote:
    """The service that is meant.

    Args:
        url: of the service; QUART_APP_URL, else http://127.0.0.1:8000, where there is none.
        headers: sent with each request.
        patience: seconds for which a request is tried again; 0 tries once.
    """

    def __init__(self, url: str | None, headers: dict[str, str], patience: float) -> None:
        self.base = wires.base_of(url)
        self.headers = headers
        self.pace = (
            flows.Pace(timeout=max(patience, EACH))
            if patience
            else flows.Pace(timeout=EACH, first=NEVER, longest=NEVER)
        )
        self.long = flows.Pace(timeout=max(patience, LONG))
        self.http = httpx2.Client(**self._settings())
        self.link = Link(self.http, self.base, self.pace)

    def _settings(self) -> dict[str, Any]:
        return wires.settings(self.headers, None, True, self.base)

    @property
    def shown(self) -> str:
        """The URL as it may be shown."""
        return without_password(self.base)

    def ask(self, call: calls.Call[T], seconds: float | None = None) -> T:
        """Send a request and read the answer."""
        return self.link.ask(call, seconds)

    def each(self, flow: flows.Flow[None]) -> Iterator[Any]:
        """Do a flow that gives many things."""
        return self.link.each(flow)

    def asynchronous(self, pace: flows.Pace | None = None) -> AsyncLink:
        """The same way for asyncio; whoever takes it closes its ``http``."""
        return AsyncLink(httpx2.AsyncClient(**self._settings()), self.base, pace or self.long)

    def close(self) -> None:
        """Close the connections."""
        self.http.close()


class Name(click.ParamType[str]):
    """An id or the name of a task: one part of a path."""

    name = "name"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """The same text."""
        if value in ("", ".", ".."):
            self.fail(f"{value!r} is neither an id nor a name", param, ctx)
        return str(value)


def read_headers(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> Any:
    """``Name: value`` each."""
    headers: dict[str, str] = {}
    for each in given:
        name, colon, value = each.partition(":")
        sound = name.strip().isascii() and value.isprintable() and value.isascii()
        if not colon or not name.strip() or not sound:
            raise click.BadParameter(f"{each!r} is no header: write 'Name: value'", ctx, param)
        headers[name.strip()] = value.strip()
    return headers


def with_service(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--url``, ``--header`` and ``--patience``; it gets a `Remote` first, and what
    goes wrong with the service becomes one sentence."""

    @click.option("--url", metavar="URL", help="Of the service; QUART_APP_URL unless given.")
    @click.option(
        "--header", "headers", multiple=True, callback=read_headers, metavar="'NAME: VALUE'",
        help="Sent with each request, such as credentials.",
    )  # fmt: skip
    @click.option(
        "--patience", type=click.FloatRange(0, 86_400), default=0.0, metavar="S",
        help="Go on trying for so many seconds while the service does not answer or is full.",
    )  # fmt: skip
    @functools.wraps(command)
    def run(url: str | None, headers: dict[str, str], patience: float, **options: Any) -> Any:
        try:
            remote = Remote(url, headers, patience)
        except (ValueError, httpx2.InvalidURL) as error:
            raise Stop(f"--url: {error}", USAGE) from None
        try:
            return command(remote, **options)
        except ClientError as error:
            raise explain(error, remote) from None
        except KeyboardInterrupt:
            raise Stop("stopped", CANCELED) from None
        finally:
            remote.close()

    return run


def explain(error: ClientError, remote: Remote) -> Stop:
    """One sentence that says what to do next, and the exit status."""
    why = error.detail.rstrip(".")
    match error:
        case errors.Unreachable():
            return Stop(
                f"nothing answers at {remote.shown} ({why}): start it with 'quart-app serve', or "
                "name another with --url or QUART_APP_URL", UNAVAILABLE,
            )  # fmt: skip
        case errors.NotFound() | errors.BadAnswer():
            return Stop(
                f"{remote.shown} is not the URL of a service like this ({why}): name it with "
                "--url, with the prefix under which it is mounted", UNAVAILABLE,
            )  # fmt: skip
        case errors.Unavailable() | errors.TooManyRequests():
            return Stop(f"{why}: try again later, or with --patience 60", UNAVAILABLE)
        case errors.NoSuchJob():
            return Stop(f"{why}: 'quart-app list' shows those that are kept", USAGE)
        case errors.NoSuchTask():
            first = why.partition(";")[0]  # All their names may follow.
            hint = near_task(error, remote)
            return Stop(f"{first}: {hint}" if hint else first, USAGE)
        case errors.InvalidArguments() if error.errors:
            misfits = "; ".join(map(misfit, error.errors))
            return Stop(f"{misfits} (see 'quart-app tasks {task_meant()}')", USAGE)
        case errors.KeyReused():
            return Stop(f"{why}: give another --key, or the same arguments and options", USAGE)
        case errors.JobFailed():
            return Stop(why, FAILED)
        case errors.JobCanceled():
            return Stop(why, CANCELED)
    if error.status in (401, 403, 407):
        credentials = "send credentials with --header 'Authorization: Bearer ...'"
        return Stop(f"{remote.shown} refuses this ({why}): {credentials}", UNAVAILABLE)
    return Stop(why, USAGE if 400 <= error.status < 500 or error.status == 0 else UNAVAILABLE)


def misfit(each: dict[str, str]) -> str:
    """One argument that does not fit.

    >>> misfit({"pointer": "#/month", "detail": "Expected `int`"})
    'month: Expected `int`'
    """
    name = each.get("pointer", "").removeprefix("#").removeprefix("/").replace("/", ".")
    detail = each.get("detail", "does not fit")
    return f"{name}: {detail}" if name else detail


def task_meant() -> str:
    """The task that the command was given."""
    context = click.get_current_context(silent=True)
    return (context.params.get("task") if context else None) or "NAME"


def near_task(error: ClientError, remote: Remote) -> str:
    """Which task may have been meant; nothing where it is there, and lacks what was asked for."""
    names = task_names(remote)
    wanted = error.detail.split("'")[1] if error.detail.count("'") >= 2 else ""
    if wanted in names:
        return ""
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return "'quart-app tasks' shows those that there are"


def task_names(remote: Remote, seconds: float = GLANCE) -> list[str]:
    """The names in the catalog; none where the service does not tell."""
    try:
        return [task.name for task in remote.ask(calls.list_tasks(), seconds).tasks]
    except ClientError:
        return []
