"""Whoever looks: axe on every page and dialog, in light, in dark and on a telephone; targets that a
finger hits; nothing that moves where that is not wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browsing import DARK, DARK_PHONE, LIGHT, PHONE, Look, Visit
from tests.e2e.conftest import Server, poll

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Visits = Callable[..., Visit]
PAGES = ("now", "jobs", "errors", "tasks", "tasks/chooses", "schedules", "system")
LOOKS = [LIGHT, DARK, PHONE, DARK_PHONE]
SMALL = """(least) => {
  const within = "a, button, input, select, textarea, summary, [role=option], label:has(input)";
  const inSentence = (each) => each.matches("p a, dd a, td a, li a.mono")
    && [...each.parentNode.childNodes].some((one) => one.nodeType === 3 && /\\w/.test(one.data));
  const small = [];
  for (const each of document.querySelectorAll(within)) {
    const target = each.matches("[type=checkbox]") ? each.closest("label") : each;
    const { width, height } = target.getBoundingClientRect();
    if (!each.checkVisibility() || inSentence(each) || each.matches(".skip")) continue;
    if (width < least - 0.1 || height < least - 0.1)
      small.push(`${each.outerHTML.slice(0, 90)}: ${width.toFixed()} x ${height.toFixed()}`);
  }
  return small;
}"""
"""Controls that are smaller; a link in a sentence may be (WCAG 2.2, 2.5.8)."""
MOVING = """() => document.getAnimations().map((each) => each.transitionProperty ?? "animation")"""


class Jobs(NamedTuple):
    """Jobs of every kind."""

    running: str
    succeeded: str
    failed: str
    recovered: str
    parent: str
    waiting: str


@pytest.fixture
def jobs(shown: Server) -> Jobs:
    """They are there, and each is in its status."""
    made = Jobs(
        shown.start("moves", gate="/nowhere/at/all"),
        shown.start("goes_in_steps", names=["first", "second"]),
        shown.start("breaks", note="number 1"),
        shown.start("recovers"),
        shown.start("starts_others", count=2),
        str(shown.client.post(f"{shown.url}/start/says?delay=3600", json={}).json()["id"]),
    )
    shown.start("breaks", note="number 2")
    for number in range(2):
        shown.start("queues", number=number)
    poll(lambda: shown.counts()["failed"] == 2, "they have failed")
    poll(lambda: shown.counts()["succeeded"] == 5, "they have succeeded")
    return made


def pages(jobs: Jobs) -> list[str]:
    """Each page of the dashboard, that of a job for each kind."""
    return [*PAGES, *(f"jobs/{job}" for job in jobs)]


def drawn(page: Page) -> None:
    """Wait until what a page asks for is there."""
    page.wait_for_load_state("networkidle")
    expect(page.get_by_text("Reading …")).to_have_count(0)


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_axe_finds_nothing_on_any_page(
    visit: Visits, shown: Server, jobs: Jobs, look: Look
) -> None:
    """WCAG 2.2 A and AA, and good practice; and nothing is wider than the screen."""
    visited = visit(shown, look)
    found = {}
    for name in pages(jobs):
        page = visited.open(name)
        expect(page.locator(".live")).to_have_text(("live", "final")[name in final(jobs)])
        found[name] = visited.axe()
        assert visited.fits(), name
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def final(jobs: Jobs) -> set[str]:
    """The pages of jobs that are over."""
    return {f"jobs/{job}" for job in (jobs.succeeded, jobs.failed, jobs.recovered, jobs.parent)}


def dialogs(page: Page) -> dict[str, Callable[[], object]]:
    """What opens over the pages, and how."""

    def cancel_all() -> None:
        page.get_by_role("checkbox", name="Select all jobs of this page").check()
        page.get_by_role("button", name="Cancel", exact=True).click()

    return {
        "now": page.get_by_role("button", name="Keys and help").click,
        "system": lambda: page.keyboard.press("Control+k"),
        "jobs": cancel_all,
        "errors": page.get_by_role("button", name="Retry all").first.click,
    }


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_axe_finds_nothing_in_any_dialog(
    visit: Visits, shown: Server, jobs: Jobs, look: Look
) -> None:
    """Help, palette, the count before a cancel and a retry, changed arguments; the fields that are
    wrong, suggestions, a note, a failed request."""
    visited = visit(shown, look)
    page = visited.page
    for name, opens in dialogs(page).items():
        visited.open(name)
        drawn(page)
        opens()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert visited.axe() == [], name
        assert visited.fits(), name
    visited.open(f"jobs/{jobs.failed}")
    page.get_by_role("button", name="Retry with changes").click()
    page.get_by_role("dialog").get_by_role("textbox").fill("{")
    page.get_by_role("button", name="Start the new job").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_be_visible()
    assert visited.axe() == []


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_axe_finds_nothing_while_one_works(
    visit: Visits, shown: Server, jobs: Jobs, look: Look
) -> None:
    """Suggestions, a selection, wrong fields, options, a note, a paused task, a failed request."""
    visited = visit(shown, look)
    page = visited.open("jobs")
    page.get_by_role("combobox", name="Filter jobs").click()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option", selected=True)).to_be_visible()
    assert visited.axe() == []
    page.keyboard.type("status:nothing")
    page.keyboard.press("Enter")
    expect(page.locator("#filter-problem")).to_be_visible()
    assert visited.axe() == []
    visited.open("jobs?filter=task:queues")
    page.get_by_role("checkbox").first.check()
    assert visited.axe() == []
    visited.open("tasks/chooses")
    page.get_by_text("When and how").click()
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("button", name="Pause it").click()
    expect(page.get_by_role("button", name="Let it go on")).to_be_visible()
    expect(page.get_by_role("log", name="Notes")).to_contain_text("is paused")
    assert visited.axe() == []
    visited.refusals = {400}
    visited.open("jobs?filter=args.:x")
    page.get_by_role("button", name="Pause", exact=True).click()
    assert visited.axe() == []


def test_nothing_is_wider_than_an_enlarged_page(visit: Visits, shown: Server, jobs: Jobs) -> None:
    """At 400 % of a screen of 1280 px (WCAG 2.2, 1.4.10)."""
    visited = visit(shown, Look("light", 320))
    wide = []
    for name in pages(jobs):
        drawn(visited.open(name))
        wide += [] if visited.fits() else [name]
    assert wide == []


def test_axe_finds_what_is_wrong(visit: Visits, shown: Server) -> None:
    """Or the tests above would say nothing."""
    visited = visit(shown)
    page = visited.open("now")
    page.locator("h1").evaluate("(each) => { each.style.color = '#eee'; }")
    page.get_by_role("button", name="Keys and help").evaluate(
        "(each) => { each.removeAttribute('aria-label'); each.textContent = ''; }"
    )
    found = visited.axe()
    assert {line.partition(":")[0] for line in found} == {"button-name", "color-contrast"}


@pytest.mark.parametrize("look", [PHONE], ids=str)
def test_targets_are_large_on_a_telephone(
    visit: Visits, shown: Server, jobs: Jobs, look: Look
) -> None:
    """44 px each way, on every page and in every dialog."""
    visited = visit(shown, look)
    page = visited.page
    small = {}
    for name in pages(jobs):
        visited.open(name)
        drawn(page)
        small[name] = page.evaluate(SMALL, 44)
    for name, opens in dialogs(page).items():
        visited.open(name)
        drawn(page)
        opens()
        expect(page.get_by_role("dialog")).to_be_visible()
        small[f"dialog of {name}"] = page.evaluate(SMALL, 44)
    assert {name: found for name, found in small.items() if found} == {}


def test_nothing_moves_where_that_is_not_wanted(visit: Visits, shown: Server) -> None:
    """Neither bars nor anything else; where it is, a bar glides to its place."""
    job = shown.start("moves", gate="/nowhere/at/all")
    moving = {}
    for still in (True, False):
        page = visit(shown, Look("light", 1280, still)).open(f"jobs/{job}")
        fill = page.get_by_role("progressbar").locator("div")
        fill.evaluate("(each) => { each.style.width = '10%'; each.getBoundingClientRect(); }")
        moving[still] = page.evaluate(MOVING)
    assert moving == {True: [], False: ["width"]}
