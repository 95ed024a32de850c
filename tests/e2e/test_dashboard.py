"""The dashboard in a real browser, on a real server."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.conftest import Durable, Server, Servers, poll
from tests.servers import needs

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PAGES = ("now", "jobs", "errors", "tasks", "schedules", "system")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>\u202e\x1b[31m\nend"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    chromium = shutil.which("chromium")
    needs(chromium, "Debian's chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


class Looked:
    """A page, and what its console has said."""

    def __init__(self, browser: Browser, server: Server, scheme: str = "light", wide: int = 1280):
        self.server = server
        context = browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport={"width": wide, "height": 900},
        )
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.page.on("console", lambda message: self._said(message.type, message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.errors.append(text)

    def open(self, name: str) -> Page:
        """One of its pages."""
        self.page.goto(f"{self.server.url}/#/{name}")
        expect(self.page.get_by_role("heading", level=1)).to_be_visible()
        return self.page

    def close(self) -> None:
        """It was quiet: no error, and no violation of its policy."""
        self.page.context.close()
        assert self.errors == []


@pytest.fixture
def server(servers: Servers) -> Server:
    """A few jobs, one of which has failed."""
    server = servers("serve", tasks="tests.e2e.durable_jobs,tests.e2e.shown_jobs")
    server.start("moves")
    server.job(server.start("once", traces="/nowhere/at/all"), wait=5)
    return server


@pytest.mark.parametrize(("scheme", "wide"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_every_page_is_shown_without_an_error(
    browser: Browser, server: Server, scheme: str, wide: int
) -> None:
    """In both schemes and on a telephone, where nothing is wider than the screen."""
    looked = Looked(browser, server, scheme, wide)
    for name in PAGES:
        page = looked.open(name)
        expect(page.get_by_role("heading", level=1)).to_have_text(name.capitalize())
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    looked.close()


def test_the_pages_are_reached_by_keys(browser: Browser, server: Server) -> None:
    """g and a letter; / is the filter; ? is the help, and Escape closes it."""
    looked = Looked(browser, server)
    page = looked.open("now")
    for letter, name in (("j", "Jobs"), ("e", "Errors"), ("t", "Tasks"), ("s", "Schedules")):
        page.keyboard.press("g")
        page.keyboard.press(letter)
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
    page.keyboard.press("g")
    page.keyboard.press("j")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Control+k")
    expect(page.get_by_role("dialog")).to_be_visible()
    looked.close()


def test_a_job_is_seen_to_move_to_its_end(browser: Browser, server: Server, tmp_path: Path) -> None:
    """Live, from its progress to its end."""
    looked = Looked(browser, server)
    gate = tmp_path / "gate"
    job = server.start("moves", gate=str(gate))
    page = looked.open(f"jobs/{job}")
    title = page.locator(".title .status")
    expect(title).to_have_text("running")
    expect(page.get_by_text("step 4").first).to_be_visible()
    gate.touch()
    expect(title).to_have_text("succeeded", timeout=20_000)
    looked.close()


def test_the_failed_ones_are_found_and_retried(browser: Browser, server: Server) -> None:
    """By the filter box, all that match, after it was said how many those are."""
    for _ in range(2):
        server.job(server.start("once", traces="/nowhere/at/all"), wait=5)
    looked = Looked(browser, server)
    page = looked.open("jobs")
    page.keyboard.press("/")
    box = page.get_by_role("combobox", name="Filter jobs")
    expect(box).to_be_focused()
    box.fill("status:failed task:once")
    page.keyboard.press("Enter")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    assert "filter=" in page.url
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name=re.compile("^Retry")).first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("3")
    dialog.get_by_role("button", name=re.compile("^Retry")).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    poll(lambda: server.counts()["failed"] == 6, "three more have failed")
    looked.close()


def test_a_job_is_started_from_a_form(browser: Browser, server: Server) -> None:
    """The form is made from the task's schema."""
    looked = Looked(browser, server)
    page = looked.open("tasks/says")
    page.get_by_label(re.compile("^note")).first.fill("from the form")
    page.get_by_role("button", name=re.compile("^Start")).last.click()
    poll(lambda: any(job["task"] == "says" for job in server.all_jobs()), "it is started")
    [job] = [job for job in server.all_jobs() if job["task"] == "says"]
    assert job["args"] == {"note": "from the form"}
    looked.close()


def test_hostile_text_is_only_text(browser: Browser, server: Server) -> None:
    """In arguments, tags, errors: on every page that shows it."""
    looked = Looked(browser, server)
    job = server.start("says", note=HOSTILE)
    server.job(server.start("once", traces=HOSTILE), wait=5)
    server.job(job, wait=5)
    for name in ("now", "jobs", "errors", f"jobs/{job}"):
        page = looked.open(name)
        if name != "now":  # Where it does not stand.
            expect(page.get_by_text(re.compile("window.hacked")).first).to_be_visible()
        assert page.evaluate("window.hacked === undefined")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    looked.close()


def test_it_heals_when_the_server_comes_back(
    browser: Browser, durable: Durable, servers: Servers
) -> None:
    """The stream goes on by itself after a kill and a restart, and shows what happens since."""
    first = durable("serve")
    port = first.port
    looked = Looked(browser, first)
    page = looked.open("jobs")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    first.stop()
    expect(page.get_by_text("reconnecting", exact=True)).to_be_visible(timeout=20_000)
    bind = ["--bind", f"127.0.0.1:{port}"]
    command = [sys.executable, "-m", "quart_app", "serve", *bind]
    again = servers.launch(command, **durable.settings()).wait_listening()
    expect(page.get_by_text("live", exact=True)).to_be_visible(timeout=30_000)
    job = again.start("once", traces=str(durable.traces), number=7)
    again.job(job, wait=5)
    page.goto(f"{again.url}/#/jobs/{job}")
    expect(page.locator(".title .status")).to_have_text("succeeded")
    page.context.close()


def test_it_is_at_a_path_of_its_own_too(browser: Browser, servers: Servers) -> None:
    """Where the root is somebody else's."""
    server = servers("serve", tasks="quart_app.demo")
    looked = Looked(browser, server)
    looked.page.goto(f"{server.url}/dashboard#/tasks")
    expect(looked.page.get_by_role("heading", level=1)).to_have_text("Tasks")
    looked.close()
