"""Bars: right, and inert whatever a job says of itself."""

from __future__ import annotations

import io
import sys
from html.parser import HTMLParser
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quart_app.client import AsyncClient, Client, JobDocument
from quart_app.client.documents import Failure
from quart_app.client.notebook import html, html_of, text

ALLOWED = {"div", "code", "strong", "span", "small", "progress"}
HOSTILE = [
    "<script>alert(1)</script>", "'><img src=x onerror=alert(1)>", '"/><svg onload=x>', "</div>",
    "&lt;script&gt;", "\x1b[2J\x1b]0;x\x07", "\u202egnp", "x" * 10_000,
]  # fmt: skip


class Tags(HTMLParser):
    """What a browser would make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)


@given(
    st.sampled_from(HOSTILE) | st.text(),
    st.sampled_from(["scheduled", "queued", "running", "succeeded", "failed", "canceled"]),
    st.none() | st.floats(),
)  # fmt: skip
def test_a_bar_is_inert_whatever_a_job_says(said: str, status: Any, progress: float | None) -> None:
    """No tag or attribute comes from outside, and a terminal is told only printable text."""
    job = JobDocument(
        id=said, task=said, status=status, progress=progress, message=said,
        error=Failure(code=said, message=said) if status == "failed" else None,
    )  # fmt: skip
    tags = Tags()
    tags.feed(html(job))
    assert set(tags.tags) <= ALLOWED
    assert len(tags.tags) == len(set(tags.tags)) + 1  # Only code is there twice.
    assert tags.attributes <= {"style", "max", "value"}
    assert text(job).isprintable()
    assert "<script" not in html_of(said, None)


def handler(statuses: list[str]) -> Any:
    """A service with one job, whose story is told at once."""

    def service(request: httpx2.Request) -> httpx2.Response:
        jobs = [
            {"id": "7", "task": "report", "status": status, "progress": 50.0, "message": "<b>"}
            for status in statuses
        ]
        if not request.url.path.endswith("/events"):
            return httpx2.Response(200, json=jobs[0])
        blocks = [
            b"id: %d\ndata: %b\n\n" % (number, msgspec.json.encode(job))
            for number, job in enumerate(jobs)
        ]
        headers = {"Content-Type": "text/event-stream"}
        return httpx2.Response(200, content=b"".join(blocks), headers=headers)

    return httpx2.MockTransport(service)


def test_a_handle_shows_its_bar_and_what_was_last_known_when_nobody_answers() -> None:
    """An error would be of no use where somebody only looks at it."""
    answers = handler(["running"])
    with Client(transport=answers) as client:
        handle = client.job("7")
        shown = handle._repr_html_()
        assert "running" in shown
        assert "&lt;b&gt;" in shown
        client._link.http._transport = httpx2.MockTransport(lambda request: httpx2.Response(404))
        assert handle._repr_html_() == shown
        assert "7" in client.job("7")._repr_html_()


async def test_an_asynchronous_handle_shows_what_was_last_known() -> None:
    """It cannot ask where it is only looked at."""
    async with AsyncClient(transport=handler(["running"])) as client:
        handle = client.job("7")
        assert "running" not in handle._repr_html_()
        await handle.document()
        assert "running" in handle._repr_html_()


def test_a_bar_in_a_notebook_is_one_display_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what IPython offers."""
    shown: list[str] = []

    def display(content: str, display_id: bool) -> Any:
        assert display_id
        shown.append(content)
        return SimpleNamespace(update=shown.append)

    package, module = ModuleType("IPython"), ModuleType("IPython.display")
    vars(package).update(get_ipython=object, display=module)
    vars(module).update(HTML=str, display=display)
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with Client(transport=handler(["queued", "running", "succeeded"])) as client:
        assert client.job("7").bar() == "succeeded"
    assert [each.count("<progress") for each in shown] == [1, 1, 1]
    assert "value='100'" in shown[-1]


@pytest.mark.parametrize("tty", [True, False])
async def test_a_bar_in_a_terminal_is_one_line_and_elsewhere_a_line_each(
    monkeypatch: pytest.MonkeyPatch, tty: bool
) -> None:
    """On the standard error stream, so that results can be piped."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: tty)
    monkeypatch.setattr(sys, "stderr", stream)
    async with AsyncClient(transport=handler(["running", "failed"])) as client:
        assert await client.job("7").bar() == "failed"
    lines = [
        "report [##########..........] running <b>",
        "report [##########..........] failed <b>",
    ]
    if tty:
        assert stream.getvalue() == "".join(f"\r\x1b[K{line}" for line in lines) + "\n"
    else:
        assert stream.getvalue() == "".join(f"{line}\n" for line in lines)
