"""The page of many jobs: by mouse and by keyboard only, on a screen and on a telephone."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote_plus

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.browsing import Person, Visit
from tests.e2e.conftest import Server, poll

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MORE = 53
"""More jobs than one page shows."""


def box_of(person: Person) -> Locator:
    """Where the filter is written."""
    return person.page.get_by_role("combobox", name="Filter jobs")


def rows_of(person: Person) -> Locator:
    """The jobs that are shown."""
    return person.page.locator("tbody tr")


def ids_of(person: Person) -> list[str]:
    """Their ids, in order."""
    links = person.page.locator("tbody [data-row]")
    return [str(link.get_attribute("data-row")) for link in links.all()]


def shows(person: Person, ids: list[str]) -> None:
    """Wait until these are the rows, in this order."""
    expect(rows_of(person)).to_have_count(len(ids))
    for link, job in zip(person.page.locator("tbody [data-row]").all(), ids, strict=True):
        expect(link).to_have_attribute("data-row", job)


def found(server: Server, **filters: str) -> list[str]:
    """The ids that the API finds, in order."""
    answer = server.client.get(f"{server.url}/jobs", params=filters).json()
    return [job["id"] for job in answer["jobs"]]


def count(server: Server, **filters: str) -> int:
    """How many the API counts."""
    answer = server.client.get(f"{server.url}/jobs/count", params=filters).json()
    return int(answer["total"])


def batch(server: Server, task: str, many: int, **arguments: object) -> list[str]:
    """Start many at once; their ids."""
    answer = server.post(f"/start/{task}", [arguments] * many)
    return [job["id"] for job in answer.json()["jobs"]]


def fail(server: Server, many: int, **arguments: object) -> None:
    """So many jobs have failed."""
    before = server.counts()["failed"]
    batch(server, "breaks", many, **arguments)
    poll(lambda: server.counts()["failed"] == before + many, "they have failed")


def test_a_filter_is_made_of_suggestions(person: Person, shown: Server) -> None:
    """What is typed is completed, and the page shows what the API finds; so does its address."""
    shown.job(shown.start("says", note="x"), wait=5)
    fail(shown, 2)
    page = person.open("jobs")
    expect(rows_of(person)).to_have_count(3)
    box, options = box_of(person), page.get_by_role("option")
    person.write(box, "st")
    person.pick(box, options.filter(has_text="status:"))
    person.pick(box, options.filter(has_text="status:failed"))
    page.keyboard.type("ta")
    person.pick(box, options.filter(has_text="task:"))
    page.keyboard.type("br")
    person.pick(box, options.filter(has_text="task:breaks"))
    expect(box).to_have_value("status:failed task:breaks ")
    person.press(person.button("Filter"))
    expect(rows_of(person)).to_have_count(2)
    shows(person, found(shown, status="failed", task="breaks"))
    page.reload()
    expect(rows_of(person)).to_have_count(2)
    expect(box).to_have_value("status:failed task:breaks")
    person.press(person.button("Clear the filter"))
    expect(rows_of(person)).to_have_count(3)


def test_a_filter_that_cannot_be_read_finds_nothing(
    visit: Callable[[Server], Visit], shown: Server
) -> None:
    """It says what is wrong, and neither shows nor touches all jobs."""
    shown.job(shown.start("says", note="x"), wait=5)
    page = visit(shown).open("jobs?filter=status:nothing")
    expect(page.locator("#filter-problem")).to_contain_text("status: is one of")
    expect(page.locator("tbody tr")).to_have_count(0)


WORDS: dict[str, dict[str, str]] = {
    "args.note:one": {"args.note": "one"},
    "tag:broken since:1h": {"tag": "broken", "since": "1h"},
    "key:mine": {"key": "mine"},
    "error:Special": {"error": "Special"},
    "<10s >0.2s": {"shorter": "10", "longer": "0.2"},
    "one": {"q": "one"},
}


def test_every_word_of_the_filter_is_the_apis(person: Person, shown: Server) -> None:
    """The rows are those that the API finds."""
    shown.job(shown.start("says", note="one"), wait=5)
    key = {"Idempotency-Key": "mine"}
    shown.client.post(f"{shown.url}/start/says", json={"note": "two"}, headers=key)
    fail(shown, 1, code="Special")
    shown.job(shown.start("naps", seconds=0.3), wait=5)
    person.open("jobs")
    for text, filters in WORDS.items():
        expected = found(shown, **filters)
        assert 0 < len(expected) < 4, text
        person.write(box_of(person), text)
        person.press(person.button("Filter"))
        shows(person, expected)


def test_the_tabs_have_counts_and_filter(person: Person, shown: Server) -> None:
    """As many as the API counts; the filter box stays."""
    shown.job(shown.start("says", note="x"), wait=5)
    fail(shown, 2, note="x")
    page = person.open("jobs?filter=x")
    tabs = page.get_by_role("navigation", name="Status")
    for name, value in {"All": 3, "failed": 2, "succeeded": 1, "canceled": 0}.items():
        tab = tabs.get_by_role("link", name=re.compile(f"^{name}"))
        expect(tab.locator(".count")).to_have_text(str(value))
        person.press(tab)
        expect(tab).to_have_attribute("aria-current", "true")
        expect(rows_of(person)).to_have_count(value)
    assert "filter=status:canceled x" in unquote_plus(page.url)


def test_bars_of_durations_filter(person: Person, shown: Server) -> None:
    """Those that are drawn over stay."""
    shown.job(shown.start("says", note="x"), wait=5)
    shown.job(shown.start("naps", seconds=0.15), wait=5)
    page = person.open("jobs")
    bars = page.get_by_role("group", name=re.compile("^Durations")).get_by_role("button")
    expect(bars.filter(has_text="100 ms")).to_have_count(1)
    labels = [str(bar.get_attribute("aria-label")) for bar in bars.all()]
    [first] = [place for place, label in enumerate(labels) if label.startswith("30 ms")]
    person.span(bars, first, len(labels) - 1)
    expect(box_of(person)).to_have_value(re.compile("^>30ms <"))
    shows(person, found(shown, longer="0.03"))
    person.press(person.link("Any duration"))
    expect(rows_of(person)).to_have_count(2)


def test_all_that_match_are_canceled_after_a_count(person: Person, shown: Server) -> None:
    """Also those that are on no page; the count touches nothing."""
    batch(shown, "queues", MORE)
    other = shown.start("moves", gate="/nowhere/at/all")
    page = person.open("jobs?filter=task:queues")
    expect(rows_of(person)).to_have_count(50)
    person.press(page.get_by_role("checkbox", name="Select all jobs of this page"))
    person.press(person.button(f"Select all {MORE} jobs that match"))
    person.press(person.button("Cancel"))
    expect(page.get_by_role("dialog")).to_contain_text(f"{MORE} jobs match task:queues")
    assert count(shown, task="queues", status="canceled") == 0
    person.press(person.button(f"Cancel {MORE} jobs"))
    expect(page.get_by_role("dialog")).to_have_count(0)
    poll(lambda: count(shown, task="queues", status="canceled") == MORE, "all are canceled")
    assert shown.job(other)["status"] == "running"


def test_all_that_match_are_retried_after_a_count(person: Person, shown: Server) -> None:
    """Each once, as a new job."""
    fail(shown, MORE, note="again")
    fail(shown, 1, note="not this")
    page = person.open("jobs?filter=status:failed+args.note:again")
    expect(rows_of(person)).to_have_count(50)
    person.press(page.get_by_role("checkbox", name="Select all jobs of this page"))
    person.press(person.button(f"Select all {MORE} jobs that match"))
    person.press(person.button("Retry"))
    expect(page.get_by_role("dialog")).to_contain_text(f"{MORE} jobs match")
    assert count(shown) == MORE + 1
    person.press(person.button(f"Retry {MORE} jobs"))
    expect(page.get_by_role("dialog")).to_have_count(0)
    poll(lambda: shown.counts()["failed"] == 2 * MORE + 1, "all have run again")
    retried = [job["retry_of"] for job in shown.all_jobs() if job["retry_of"]]
    assert len(set(retried)) == len(retried) == MORE


def test_some_are_selected_and_canceled(person: Person, shown: Server) -> None:
    """Those that are over are left out of the count; Back does nothing."""
    over = shown.start("says", note="x")
    shown.job(over, wait=5)
    kept, first, second = batch(shown, "queues", 3)
    page = person.open("jobs")
    expect(rows_of(person)).to_have_count(4)
    for job in (over, first, second):
        person.press(page.get_by_role("checkbox", name=re.compile(f"^Select job {job}")))
    expect(page.get_by_text("3 jobs selected")).to_be_visible()
    person.press(person.button("Cancel"))
    expect(page.get_by_role("dialog")).to_contain_text("2 jobs of 3 selected can be canceled")
    person.press(person.button("Back"))
    assert count(shown, status="canceled") == 0
    person.press(person.button("Cancel"))
    person.press(person.button("Cancel 2 jobs"))
    poll(lambda: count(shown, status="canceled") == 2, "they are canceled")
    assert shown.job(kept)["status"] == "running"
    expect(page.get_by_text("jobs selected")).to_have_count(0)


def test_a_selection_is_cleared(person: Person, shown: Server) -> None:
    """And nothing is done."""
    shown.job(shown.start("says", note="x"), wait=5)
    page = person.open("jobs")
    person.press(page.get_by_role("checkbox", name=re.compile("^Select job")))
    person.press(person.button("Clear"))
    expect(page.get_by_role("checkbox", checked=True)).to_have_count(0)


def test_older_jobs_are_on_further_pages(person: Person, shown: Server) -> None:
    """And back."""
    batch(shown, "queues", MORE)
    page = person.open("jobs")
    expect(rows_of(person)).to_have_count(50)
    newest = ids_of(person)
    person.press(person.link("Older"))
    expect(rows_of(person)).to_have_count(MORE - 50)
    assert not set(ids_of(person)) & set(newest)
    person.press(person.button("Newer"))
    expect(rows_of(person)).to_have_count(50)
    person.press(person.link("Older"))
    expect(rows_of(person)).to_have_count(MORE - 50)
    person.press(person.link("Newest"))
    expect(rows_of(person)).to_have_count(50)
    assert "cursor" not in page.url


def test_what_happens_on_other_pages_is_not_new(visit: Callable[..., Visit], shown: Server) -> None:
    """A job that is older than those that are shown changes: nobody finds it behind the pill."""
    jobs = [shown.start("queues", number=number) for number in range(50 + 3)]
    page = visit(shown).open("jobs")
    expect(page.locator(".live")).to_have_text("live")
    expect(page.locator("tbody tr")).to_have_count(50)
    shown.post(f"/cancel/{jobs[0]}")
    shown.post(f"/cancel/{jobs[-1]}")
    expect(page.locator("tbody tr").first.locator(".status")).to_have_text("canceled")
    shown.start("queues", number=99)
    expect(page.get_by_role("button", name="1 new", exact=True)).to_be_visible()


def test_new_ones_wait_behind_a_pill(person: Person, shown: Server) -> None:
    """The rows stand still until it is pressed."""
    shown.job(shown.start("says", note="x"), wait=5)
    page = person.open("jobs")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    expect(rows_of(person)).to_have_count(1)
    before = ids_of(person)
    batch(shown, "queues", 3)
    pill = person.button("3 new")
    expect(pill).to_be_visible()
    assert ids_of(person) == before
    person.press(pill)
    expect(rows_of(person)).to_have_count(4)
    shows(person, found(shown))
    expect(pill).to_have_count(0)
