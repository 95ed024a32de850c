"""The dashboard in a real browser, on a real server: its pages, and what befalls them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browsing import DARK, DARK_PHONE, LIGHT, PHONE, Look, Visit
from tests.e2e.conftest import Durable, Server, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Visits = Callable[..., Visit]
PAGES = ("now", "jobs", "errors", "tasks", "schedules", "system")
WRONG = """() => {
  const script = document.createElement("script");
  script.textContent = "window.hacked = 1";
  document.head.append(script);
  console.error("said");
  setTimeout(() => { throw new Error("thrown"); });
}"""


@pytest.mark.parametrize("look", [LIGHT, DARK, PHONE, DARK_PHONE], ids=str)
def test_every_page_is_shown_without_an_error(visit: Visits, shown: Server, look: Look) -> None:
    """In both schemes and on a telephone, where nothing is wider than the screen."""
    shown.start("moves")
    shown.job(shown.start("breaks", note="x"), wait=5)
    visited = visit(shown, look)
    for name in PAGES:
        page = visited.open(name)
        expect(page.get_by_role("heading", level=1)).to_have_text(name.capitalize())
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        assert visited.fits(), name


def test_the_name_of_each_page_fits_its_place(visit: Visits, shown: Server) -> None:
    """In the bar at the bottom of a telephone."""
    visited = visit(shown, PHONE)
    names = visited.open("now").get_by_role("navigation", name="Pages").get_by_role("link")
    clipped = "(all) => all.filter((each) => each.scrollWidth > each.clientWidth).length"
    expect(names).to_have_count(len(PAGES))
    assert names.evaluate_all(clipped) == 0
    assert visited.fits()


def test_what_is_wrong_is_seen(browser: Browser, shown: Server) -> None:
    """A violation of the policy, an error that is said, and one that is thrown: or a test that ends
    with none of them would say nothing."""
    visited = Visit(browser, shown.url)
    page = visited.open("now")
    page.evaluate(WRONG)
    page.evaluate("setTimeout(() => alert('asked'))")
    page.evaluate("new Promise((done) => setTimeout(done, 50))")
    found = " ".join(visited.wrong)
    for each in ("policy: script-src-elem inline", "error: said", "error: thrown", "dialog: asked"):
        assert each in found
    assert page.evaluate("window.hacked === undefined")
    visited.context.close()


def test_a_page_and_a_job_that_there_are_not(visit: Visits, shown: Server) -> None:
    """It says so, and leads elsewhere."""
    visited = visit(shown)
    page = visited.open("none")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")
    visited.refusals = {404}
    visited.open("jobs/none")
    expect(page.get_by_text("There is no job none")).to_be_visible()
    page.get_by_role("link", name="All jobs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    visited.open("tasks/none")
    expect(page.get_by_text("There is no task none")).to_be_visible()


def test_it_heals_when_the_server_comes_back(
    browser: Browser, durable: Durable, servers: Servers
) -> None:
    """The stream goes on by itself after a kill and a restart, and shows what happens since."""
    first = durable("serve")
    port = first.port
    visited = Visit(browser, first.url)
    page = visited.open("jobs")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    first.stop()
    expect(page.get_by_text("reconnecting", exact=True)).to_be_visible(timeout=20_000)
    bind = ["--bind", f"127.0.0.1:{port}"]
    command = [sys.executable, "-m", "quart_app", "serve", *bind]
    again = servers.launch(command, **durable.settings()).wait_listening()
    expect(page.get_by_text("live", exact=True)).to_be_visible(timeout=30_000)
    job = again.start("once", traces=str(durable.traces), number=7)
    expect(page.locator(f"[data-row='{job}']")).to_be_visible()
    again.job(job, wait=5)
    visited.open(f"jobs/{job}")
    expect(page.locator(".title .status")).to_have_text("succeeded")
    # What the browser says of a server that is away; and nothing else was wrong.
    away = re.compile(r"^error: Failed to load resource: net::ERR_")
    assert [said for said in visited.wrong if not away.match(said)] == []
    visited.context.close()


def test_it_is_at_a_path_of_its_own_too(visit: Visits, shown: Server) -> None:
    """Where the root is somebody else's."""
    page = visit(shown).page
    page.goto(f"{shown.url}/dashboard#/tasks")
    expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")
