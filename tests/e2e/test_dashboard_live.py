"""What happens while one looks: the stream of a page, of two, and of one that nobody sees."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browsing import Person, Visit
from tests.e2e.conftest import Server, poll

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
"""Playwright keeps every page visible, so that the page has to be told."""
SPOKEN = """() => {
  const region = document.querySelector("[role=status][aria-live]");
  window.spoken = [];
  new MutationObserver(() => window.spoken.push(region.textContent))
    .observe(region, { childList: true, characterData: true, subtree: true });
}"""

PERIOD = 2_500
"""Milliseconds in which a page that is not paused has asked again."""

Visits = Callable[..., Visit]


def watchers(server: Server) -> int:
    """How many follow a stream, as the server counts them."""
    return int(server.get("/stats").json()["watchers"])


def live(page: Page) -> None:
    """Wait until it follows."""
    expect(page.locator(".live")).to_have_text("live")


def rows(page: Page) -> list[str]:
    """The ids of the jobs that are shown."""
    return [str(row.get_attribute("data-row")) for row in page.locator("tbody [data-row]").all()]


def test_updates_are_paused_and_go_on(person: Person, shown: Server) -> None:
    """The server is left alone meanwhile; then the page catches up, and its rows stand still."""
    shown.job(shown.start("says", note="x"), wait=5)
    page = person.open("jobs")
    live(page)
    poll(lambda: watchers(shown) == 1, "the page follows")
    person.press(person.button("Pause"))
    expect(page.locator(".live")).to_have_text("paused")
    poll(lambda: watchers(shown) == 0, "the page does not follow")
    before = rows(page)
    shown.job(shown.start("says", note="meanwhile"), wait=5)
    person.press(person.button("Go on"))
    live(page)
    expect(person.button("1 new")).to_be_visible()
    assert rows(page) == before
    poll(lambda: watchers(shown) == 1, "the page follows")


def test_known_rows_change_in_their_place(visit: Visits, shown: Server) -> None:
    """Whatever happens to them."""
    jobs = [shown.start("queues", number=number) for number in range(4)]
    page = visit(shown).open("jobs")
    live(page)
    expect(page.locator("tbody tr")).to_have_count(4)
    before = rows(page)
    assert before == jobs[::-1]
    shown.post(f"/cancel/{jobs[2]}")
    expect(page.locator("tbody tr").nth(1).locator(".status")).to_have_text("canceled")
    assert rows(page) == before


def test_a_page_that_nobody_sees_follows_nothing(visit: Visits, shown: Server) -> None:
    """And catches up when somebody looks again."""
    page = visit(shown).open("jobs")
    live(page)
    poll(lambda: watchers(shown) == 1, "the page follows")
    page.evaluate(HIDE, True)
    poll(lambda: watchers(shown) == 0, "the page does not follow")
    job = shown.start("says", note="x")
    shown.job(job, wait=5)
    assert rows(page) == []
    page.evaluate(HIDE, False)
    live(page)
    expect(page.locator("tbody tr")).to_have_count(1)
    assert rows(page) == [job]


def test_a_page_of_a_job_that_nobody_sees_follows_nothing(visit: Visits, shown: Server) -> None:
    """It has a stream of its own."""
    job = shown.start("moves", gate="/nowhere/at/all")
    page = visit(shown).open(f"jobs/{job}")
    live(page)
    poll(lambda: watchers(shown) == 1, "the page follows")
    page.evaluate(HIDE, True)
    poll(lambda: watchers(shown) == 0, "the page does not follow")
    shown.post(f"/cancel/{job}")
    page.evaluate(HIDE, False)
    expect(page.locator(".title .status")).to_have_text("canceled")
    expect(page.locator(".live")).to_have_text("final")


def test_a_page_of_a_job_is_paused_and_goes_on(person: Person, shown: Server) -> None:
    """With its own stream, and with what has happened meanwhile."""
    job = shown.start("moves", gate="/nowhere/at/all")
    page = person.open(f"jobs/{job}")
    live(page)
    for _ in range(2):
        person.press(person.button("Pause"))
        expect(page.locator(".live")).to_have_text("paused")
        poll(lambda: watchers(shown) == 0, "the page does not follow")
        person.press(person.button("Go on"))
        live(page)
    person.press(person.button("Pause"))
    shown.post(f"/cancel/{job}")
    person.press(person.button("Go on"))
    expect(page.locator(".title .status")).to_have_text("canceled")
    expect(page.locator(".live")).to_have_text("final")


@pytest.mark.parametrize("name", ["now", "system"])
def test_a_paused_page_asks_nothing(name: str, visit: Visits, shown: Server) -> None:
    """Not even what it otherwise asks by the clock, every two seconds."""
    page = visit(shown).open(name)
    live(page)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".live")).to_have_text("paused")
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(PERIOD)
    assert asked == []
    with page.expect_request("**/*", timeout=2 * PERIOD):
        page.get_by_role("button", name="Go on").click()
    live(page)


def test_two_pages_share_one_stream(visit: Visits, shown: Server) -> None:
    """Both hear of everything; when the one that reads goes, the other reads on."""
    looked = visit(shown)
    first = looked.open("jobs")
    live(first)
    second = looked.open("jobs", looked.context.new_page())
    live(second)
    assert watchers(shown) == 1
    job = shown.start("says", note="x")
    for page in (first, second):
        expect(page.locator("tbody tr")).to_have_count(1)
        assert rows(page) == [job]
    assert watchers(shown) == 1
    first.close()
    shown.job(shown.start("says", note="y"), wait=5)
    expect(second.get_by_role("button", name="1 new")).to_be_visible()
    live(second)
    poll(lambda: watchers(shown) == 1, "the other page follows")


def test_one_of_two_pages_is_paused(visit: Visits, shown: Server) -> None:
    """The other goes on."""
    looked = visit(shown)
    first = looked.open("jobs")
    live(first)
    second = looked.open("jobs", looked.context.new_page())
    live(second)
    first.get_by_role("button", name="Pause").click()
    expect(first.locator(".live")).to_have_text("paused")
    live(second)
    poll(lambda: watchers(shown) == 1, "the other page follows")
    shown.job(shown.start("says", note="x"), wait=5)
    expect(second.locator("tbody tr")).to_have_count(1)
    expect(first.locator("tbody tr")).to_have_count(0)


def test_only_ends_are_spoken(visit: Visits, shown: Server) -> None:
    """By the live region; and nothing else on the page is one that changes with every job."""
    page = visit(shown).open("now")
    live(page)
    page.evaluate(SPOKEN)
    running = shown.start("moves", gate="/nowhere/at/all")
    expect(page.locator(".lanes li")).to_have_count(1)
    shown.job(shown.start("says", note="x"), wait=5)
    spoken = page.locator("[role=status][aria-live]")
    expect(spoken).to_have_text("Job of says succeeded")
    assert shown.job(running)["status"] == "running"
    shown.post(f"/cancel/{running}")
    shown.job(shown.start("breaks", note="x"), wait=5)
    expect(spoken).to_have_text("2 jobs ended: 1 canceled, 1 failed", timeout=10_000)
    said = page.evaluate("window.spoken")
    # An empty region says nothing.
    assert set(said) - {""} == {"Job of says succeeded", "2 jobs ended: 1 canceled, 1 failed"}
    others = page.locator("[aria-live]:not([role=status]), [role=alert], [role=log]")
    expect(others).to_have_count(1)  # The notes, of what one does oneself.
    expect(others).to_have_text("")


def test_light_and_dark_follow_the_system(visit: Visits, shown: Server) -> None:
    """At once, without a reload."""
    page = visit(shown).open("system")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    parts = [[int(part) for part in re.findall(r"\d+", each)[:3]] for each in (light, dark)]
    assert min(parts[0]) > 200
    assert max(parts[1]) < 50
