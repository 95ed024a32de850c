"""What the pictures show is what the service says: charts, bars, marks, and the status machine."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.e2e.browsing import Visit
from tests.e2e.conftest import Server, poll

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Visits = Callable[..., Visit]
ERRORS = re.compile(r"/errors\?")
HOUR = 60.0
"""How wide an hour is in a strip of 24: one for each minute."""


def heights(bars: Locator) -> float:
    """Of all of them together."""
    return sum(float(each.get_attribute("height") or 0) for each in bars.all())


def is_near(value: float, wanted: float, most: float) -> bool:
    """Whether it is as far from what is wanted as it may be."""
    return abs(value - wanted) <= most


def milliseconds(text: str) -> float:
    """A duration as pages write it."""
    found = re.fullmatch(r"([\d.]+) (ms|s)", text.strip())
    assert found is not None, text
    return float(found[1]) * (1 if found[2] == "ms" else 1_000)


def until_drawn(page: Page, drawn: Callable[[], bool], what: str) -> None:
    """Wait in the browser's own time: it draws only then."""
    for _ in range(100):
        if drawn():
            return
        page.wait_for_timeout(100)
    raise AssertionError(what)


def test_now_draws_what_has_ended_and_how_long_it_took(visit: Visits, shown: Server) -> None:
    """Bars as high as their numbers, by final status; medians and 95th percentiles by task."""
    for task, many in (("says", 3), ("breaks", 2)):
        for _ in range(many):
            shown.start(task, note="x")
    shown.post(f"/cancel/{shown.start('moves', gate='/nowhere/at/all')}")
    for _ in range(2):
        shown.start("naps", seconds=0.3)
    ended = {"succeeded": 5, "failed": 2, "canceled": 1}
    poll(lambda: {name: shown.counts()[name] for name in ended} == ended, "all have ended")
    page = visit(shown).open("now")
    chart = page.locator("svg[aria-label^='Jobs that ended']")
    expect(chart).to_have_attribute("aria-label", re.compile("5 succeeded, 2 failed, 1 canceled$"))
    each = {name: heights(chart.locator(f"rect.{name}")) for name in ended}
    assert each["canceled"] > 0
    for name, many in ended.items():
        assert is_near(each[name] / each["canceled"], many, 0.01), each
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="naps"))
    expect(row.locator("td")).to_have_count(4)
    _, runs = row.locator("td").all()[:2]
    median, high = map(milliseconds, runs.inner_text().split("/"))
    told = shown.get("/stats").json()["tasks"]["naps"]["run"]
    assert 300 <= median <= high
    assert is_near(median, 1_000 * told["p50"], 0.05 * median)
    assert is_near(high, 1_000 * told["p95"], 0.05 * high)


def test_a_schedule_has_a_mark_for_each_start_of_a_day(visit: Visits, shown: Server) -> None:
    """Where it will be, with the next five in words."""
    page = visit(shown).open("schedules")
    panel = page.locator(".schedule").filter(has_text="comes_daily")
    strip = panel.locator(".strip svg")
    expect(strip).to_have_attribute("aria-label", "1 start in the next 24 hours")
    [plan] = [
        plan for plan in shown.get("/schedules").json()["schedules"]
        if plan["task"] == "comes_daily"
    ]  # fmt: skip
    expect(panel.locator(".next li")).to_have_count(5)
    starts = [each.get_attribute("datetime") for each in panel.locator(".next time").all()]
    assert starts == plan["next"]
    away = dt.datetime.fromisoformat(plan["next"][0]) - dt.datetime.now(dt.UTC)
    place = float(strip.locator(".tick").get_attribute("x") or -1)
    assert is_near(place / HOUR, away.total_seconds() / 3_600, 0.1)


def test_an_error_has_its_course(visit: Visits, shown: Server) -> None:
    """The newest bar is that of the jobs which failed just now."""
    for _ in range(3):
        shown.start("breaks", note="x")
    poll(lambda: shown.counts()["failed"] == 3, "all have failed")
    page = visit(shown).open("errors")
    course = page.locator(".group svg.spark")
    expect(course).to_have_attribute("aria-label", re.compile(r"^3 jobs over time"))
    trend = (course.get_attribute("aria-label") or "").partition(": ")[2].split(", ")
    assert sum(map(int, trend)) == 3
    expect(course.locator("rect:not(.none)")).to_have_count(sum(each != "0" for each in trend))
    assert sum(map(int, trend[-2:])) == 3  # A new bar may begin between two of them.


def test_system_draws_the_lag(visit: Visits, shown: Server) -> None:
    """One point for each look."""
    page = visit(shown).open("system")
    line = page.locator("svg[aria-label^='Loop lag'] polyline")

    def points() -> int:
        return len((line.get_attribute("points") or "").split()) if line.count() else 0

    until_drawn(page, lambda: points() >= 2, "a line has two points")
    before = points()
    until_drawn(page, lambda: points() > before, "it goes on")


def test_the_way_of_a_job_is_drawn(visit: Visits, shown: Server) -> None:
    """Each move that it has made, each status that it was in, and how often."""
    job_id = shown.start("recovers")
    shown.until(job_id, "succeeded")
    page = visit(shown).open(f"jobs/{job_id}")
    picture = page.locator(".machine svg")
    expect(picture.locator(".state.now")).to_contain_text("succeeded")
    # To run, to wait for the second attempt, back into the queue, to the end: when that is read.
    expect(picture.locator(".move.on")).to_have_count(4)
    seen = sorted(each.text_content() or "" for each in picture.locator(".state.seen .name").all())
    twice = [name.replace("\N{MULTIPLICATION SIGN}", "x") for name in seen]
    assert twice == ["queued x2", "running x2", "scheduled", "succeeded"]
    words = page.locator(".machine + .note").inner_text()
    statuses = re.findall(r"(\w+) at ", words)
    assert statuses == ["queued", "running", "scheduled", "queued", "running", "succeeded"]


def test_a_running_job_says_when_it_will_end(visit: Visits, shown: Server) -> None:
    """As the API does, from its own pace."""
    job_id = shown.start("moves", gate="/nowhere/at/all")
    poll(lambda: shown.job(job_id)["progress"] == 80, "it has come so far")
    assert shown.job(job_id)["eta"] is not None
    page = visit(shown).open(f"jobs/{job_id}")
    expect(page.locator(".progress strong")).to_have_text("80 %")
    expect(page.locator(".progress .note").first).to_have_text(
        re.compile(r"ends|due|about|overdue")
    )


def test_updates_are_paused_from_the_palette(visit: Visits, shown: Server) -> None:
    """And go on from there."""
    page = visit(shown).open("jobs")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    for words, state in (("Pause live updates", "paused"), ("Go on with live updates", "live")):
        page.keyboard.press("Control+k")
        page.keyboard.type(words)
        expect(page.get_by_role("option").first).to_contain_text(words)
        page.keyboard.press("Enter")
        expect(page.get_by_text(state, exact=True)).to_be_visible()


def test_what_could_not_be_read_is_asked_for_again(visit: Visits, shown: Server) -> None:
    """By the button that says so, as often as it is pressed."""
    visited = visit(shown)
    visited.refusals = {503}
    page, asked = visited.page, list[str]()
    problem = '{"title": "The store is unavailable", "detail": "wait"}'

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=503, body=problem, content_type="application/problem+json")

    page.route(ERRORS, refuse)
    visited.open("errors")
    # Once the stream is there, it may ask for all once more by itself.
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    expect(page.get_by_text("The store is unavailable")).to_be_visible()
    page.wait_for_timeout(1_000)
    again, before = page.get_by_role("button", name="Try again"), len(asked)
    again.click()
    until_drawn(page, lambda: len(asked) > before, "it asks again")
    expect(page.get_by_text("The store is unavailable")).to_be_visible()
    page.unroute(ERRORS)
    again.click()
    expect(page.get_by_text("The store is unavailable")).to_have_count(0)
    expect(page.get_by_text("No job has failed in the last hour.")).to_be_visible()
