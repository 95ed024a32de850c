"""A job's bar, for notebooks and terminals.

Only texts may be made here, and every word that comes from elsewhere is escaped: what a job says of
itself must not run in the page of who looks at it.
"""

from __future__ import annotations

import importlib
import sys
from html import escape
from typing import Any, Protocol

from quart_app.client.documents import JobDocument

COLORS = {
    "scheduled": "#6b7280",
    "queued": "#6b7280",
    "running": "#2563eb",
    "succeeded": "#15803d",
    "failed": "#b91c1c",
    "canceled": "#a16207",
}
LONGEST = 300
"""Characters of a message that are shown."""
CELLS = 20


def percent(job: JobDocument) -> float | None:
    """How far a job is, 0 to 100; None where nobody knows.

    >>> percent(JobDocument(id="7", task="t", status="running", progress=250.0))
    100.0
    """
    if job.status == "succeeded":
        return 100.0
    # What is no number compares as false.
    return None if job.progress is None else min(100.0, max(0.0, job.progress))


def words(job: JobDocument) -> str:
    """What there is to say besides the status: the error, or the job's own message."""
    text = job.message or ""
    if job.error is not None:
        text = f"{job.error.code}: {job.error.message}"
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def html(job: JobDocument) -> str:
    """A bar in HTML, without a link, a script or a style from elsewhere.

    >>> job = JobDocument(id="7", task="t", status="running", progress=50.0, message="<b>half</b>")
    >>> "<progress max='100' value='50'>" in html(job), "&lt;b&gt;half" in html(job)
    (True, True)
    """
    share = percent(job)
    value = "" if share is None else f" value='{share:g}'"
    bar = "" if share is None and job.over else f"<progress max='100'{value}></progress> "
    color = COLORS.get(job.status, "inherit")
    return (
        f"<div><code>{escape(job.task[:100])}</code> {bar}"
        f"<strong style='color: {color}'>{escape(job.status)}</strong> "
        f"<span>{escape(words(job))}</span> "
        f"<small><code>{escape(job.id[:100])}</code></small></div>"
    )


def html_of(job_id: str, job: JobDocument | None) -> str:
    """What a notebook shows of a handle, also of one of which nothing is known yet."""
    return f"<div><code>{escape(job_id[:100])}</code></div>" if job is None else html(job)


def text(job: JobDocument) -> str:
    """A bar in one line of text, of printable characters only.

    >>> text(JobDocument(id="7", task="t", status="running", progress=50.0, message="half"))
    't [##########..........] running half'
    """
    share = percent(job)
    done = round(CELLS * (share or 0.0) / 100)
    line = f"{job.task} [{'#' * done:.<{CELLS}}] {job.status} {words(job)}"
    return "".join(each if each.isprintable() else " " for each in line).rstrip()


class Display(Protocol):
    """Where a bar is shown."""

    def show(self, job: JobDocument) -> None:
        """Show the newest version in place of the one before."""
        ...

    def end(self) -> None:
        """Nothing more will be shown."""
        ...


class Notebook:
    """Shows a bar in the output of a cell.

    Args:
        module: ``IPython.display``.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._handle: Any = None

    def show(self, job: JobDocument) -> None:
        """Show the newest version in place of the one before."""
        content = self._module.HTML(html(job))
        if self._handle is None:
            self._handle = self._module.display(content, display_id=True)
        else:
            self._handle.update(content)

    def end(self) -> None:
        """It stays as it is."""


class Terminal:
    """Shows a bar in the last line of the terminal, on the standard error stream."""

    def show(self, job: JobDocument) -> None:
        """Show the newest version in place of the one before."""
        sys.stderr.write(f"\r\x1b[K{text(job)}" if sys.stderr.isatty() else f"{text(job)}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if sys.stderr.isatty():
            sys.stderr.write("\n")


def display() -> Display:
    """A notebook's where this runs in one, else the terminal's."""
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        return Notebook(importlib.import_module("IPython.display"))
    return Terminal()
