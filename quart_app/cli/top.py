"""``quart-app top``: the keys, and what each does.

Nothing may live here that draws (`frames`), asks (`seen`) or handles the terminal (`screen`).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from quart_app.cli.ends import USAGE, Stop
from quart_app.cli.filters import HELP, BadFilter, parse
from quart_app.cli.frames import HEAD, Look, Place, frame
from quart_app.cli.remote import Remote, with_service
from quart_app.cli.seen import Looker
from quart_app.cli.terminal import has_blocks, has_color, is_terminal, put
from quart_app.client import calls
from quart_app.client.errors import ClientError

if TYPE_CHECKING:
    from quart_app.cli.screen import Screen

REDRAW = 0.25
"""Seconds between two drawings when nothing is typed: as long as a new size may be unseen."""


@click.command(epilog=HELP)
@with_service
@click.argument("filters", nargs=-1, metavar="[FILTER]...")
@click.option("--once", is_flag=True, help="Print what it shows now, and end.")
def top(remote: Remote, filters: tuple[str, ...], once: bool) -> None:
    """Watch the service, full screen: what runs, and what has ended last.

    \b
    j k       down and up (also the arrows, page up and down)
    enter     look at a job: its log, and where its code is
    c         cancel it, after a question
    r         run it again
    /         filter; an empty one shows all
    q         back, and out
    """
    looker = Looker(remote)
    place = Place(filter=" ".join(filters))
    looker.filters = parse(place.filter)
    if once:
        remote.ask(calls.get_stats())  # Says what is wrong, if something is.
        looker.look()
        _print(looker, place, remote.shown)
        return
    if not (sys.stdin.isatty() and is_terminal(sys.stdout)):
        raise Stop("top needs a terminal: --once prints what it shows, once", USAGE)
    from quart_app.cli.screen import Screen

    with Screen() as screen:
        looker.start()
        try:
            Board(remote, looker, place).run(screen)
        finally:
            looker.stop()


def _print(looker: Looker, place: Place, url: str) -> None:
    color, blocks = has_color(sys.stdout), has_blocks(sys.stdout)
    columns = 120
    if sys.stdout.isatty():
        columns = shutil.get_terminal_size((80, 24)).columns
    rows = HEAD + 2 + len(looker.seen.jobs)
    place.cursor = False
    for line in frame(looker.seen, place, Look(columns, rows, color, blocks), url)[:-1]:
        put(line)


class Board:
    """Where the user is, and what keys do there.

    Args:
        remote: the service.
        looker: sees it.
        place: where the user begins.
    """

    def __init__(self, remote: Remote, looker: Looker, place: Place) -> None:
        self._remote = remote
        self._looker = looker
        self._place = place
        self._typed: str | None = None
        self._question: Callable[[], None] | None = None
        self._room = 1
        self._done = False

    def run(self, screen: Screen) -> None:
        """Draw and obey until it is left."""
        color, blocks = has_color(sys.stdout), has_blocks(sys.stdout)
        while not self._done:
            columns, rows = screen.size()
            self._room = max(1, rows - HEAD - 1)
            look = Look(columns, rows, color, blocks)
            screen.draw(frame(self._looker.seen, self._place, look, self._remote.shown))
            try:
                keys = screen.keys(REDRAW)
            except EOFError:
                return
            for key in keys:
                self.press(key)

    def press(self, key: str) -> None:
        """A key was pressed."""
        if self._typed is not None:
            self._type(key)
        elif self._question is not None:
            self._answer(key)
        else:
            self._place.message = ""
            self._command(key)

    def _command(self, key: str) -> None:
        moves = {
            "j": 1, "down": 1, "k": -1, "up": -1, "page down": self._room,
            "page up": -self._room, "g": -(10**6), "home": -(10**6), "G": 10**6, "end": 10**6,
        }  # fmt: skip
        if key in ("q", "escape") and self._place.looking:
            self._look_at(None)
        elif key == "q":
            self._done = True
        elif key in moves and not self._place.looking:
            self._move(moves[key])
        elif key == "enter" and self._place.selected:
            self._look_at(self._place.selected)
        elif key == "c":
            self._ask_cancel()
        elif key == "r":
            self._retry()
        elif key == "/" and not self._place.looking:
            self._typed = self._place.filter
            self._show_typed()

    def _move(self, steps: int) -> None:
        jobs = self._looker.seen.jobs
        if not jobs:
            return
        at = next((n for n, job in enumerate(jobs) if job.id == self._place.selected), 0)
        self._place.selected = jobs[min(len(jobs) - 1, max(0, at + steps))].id

    def _look_at(self, job_id: str | None) -> None:
        self._place.looking = self._looker.job_id = job_id
        self._looker.order(lambda: None)

    def _chosen(self) -> str | None:
        return self._place.looking or self._place.selected

    def _ask_cancel(self) -> None:
        chosen = self._chosen()
        if not chosen:
            return

        def cancel() -> None:
            job = self._remote.ask(calls.cancel(chosen))
            self._place.message = f"{chosen}: {job.status if job.over else 'asked to stop'}"

        self._question = cancel
        self._place.prompt = f"cancel {chosen}? (y/n)"

    def _answer(self, key: str) -> None:
        action, self._question = self._question, None
        self._place.prompt = None
        if key in ("y", "Y") and action is not None:
            self._order(action)
        else:
            self._place.message = "nothing was done"

    def _retry(self) -> None:
        chosen = self._chosen()
        if not chosen:
            return

        def retry() -> None:
            job = self._remote.ask(calls.retry(chosen, b"{}"))
            self._place.message = f"started again as {job.id}"

        self._order(retry)

    def _order(self, action: Callable[[], None]) -> None:
        def safely() -> None:
            try:
                action()
            except ClientError as error:
                self._place.message = error.detail

        self._looker.order(safely)

    def _type(self, key: str) -> None:
        typed = self._typed or ""
        if key == "escape":
            self._typed = self._place.prompt = None
        elif key == "enter":
            self._set_filter(typed)
        else:
            added = key if len(key) == 1 and key.isprintable() else ""
            self._typed = typed[:-1] if key == "backspace" else typed + added
            self._show_typed()

    def _show_typed(self) -> None:
        self._place.prompt = f"/{self._typed}"

    def _set_filter(self, text: str) -> None:
        try:
            filters = parse(text)
        except BadFilter as error:
            self._place.prompt = f"/{text}   {error.message}"
            return
        self._typed = self._place.prompt = None
        self._place.filter, self._looker.filters = text, filters
        self._looker.order(lambda: None)
