"""Now, Errors, Tasks, Schedules and System: by mouse and by keyboard only, on a screen and on a
telephone, with what each action does to the server."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.browsing import Person
from tests.e2e.conftest import Server, poll

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def field(person: Person, name: str) -> Locator:
    """A field of the form that starts a job."""
    return person.page.get_by_label(re.compile(f"^{name}"))


def started(server: Server, task: str) -> list[dict[str, Any]]:
    """The documents of a task's jobs, the newest first."""
    return [job for job in server.all_jobs() if job["task"] == task]


def task_of(server: Server, name: str) -> dict[str, Any]:
    """A task of the catalog."""
    document: dict[str, Any] = server.get(f"/tasks/{name}").json()
    return document


def test_a_job_is_started_from_a_form(person: Person, shown: Server) -> None:
    """Fields of every kind become its arguments, and the page leads to it."""
    page = person.open("tasks/chooses")
    person.choose(field(person, "color"), "green")
    person.write(field(person, "size"), "7")
    person.choose(field(person, "deep"), "yes")
    person.write(field(person, "more"), "[1, 2]")
    person.press(person.button("Start"))
    expect(page.get_by_text("Started:")).to_be_visible()
    [job] = started(shown, "chooses")
    assert job["args"] == {"color": "green", "size": 7, "deep": True, "more": [1, 2]}
    person.press(person.link(re.compile("^watch it")))
    expect(page).to_have_url(re.compile(job["id"]))


def test_a_form_says_what_does_not_fit(person: Person, shown: Server) -> None:
    """Beside the field, which gets the focus; what only the server knows is said as well."""
    page = person.open("tasks/chooses")
    person.write(field(person, "size"), "13")
    person.press(person.button("Start"))
    expect(field(person, "color")).to_be_focused()
    expect(page.get_by_text("is needed.")).to_be_visible()
    expect(page.get_by_text("is at most 12.")).to_be_visible()
    assert started(shown, "chooses") == []
    person.choose(field(person, "color"), "red")
    person.write(field(person, "size"), "3")
    person.write(field(person, "more"), '["x"]')
    person.visit.refusals = {422}
    person.press(person.button("Start"))
    expect(page.get_by_text(re.compile("Expected `int`")).first).to_be_visible()
    assert started(shown, "chooses") == []


def test_a_form_may_be_json_and_has_options(person: Person, shown: Server) -> None:
    """The same arguments both ways; a start may be later."""
    page = person.open("tasks/chooses")
    person.choose(field(person, "color"), "red")
    person.press(person.button("As JSON"))
    text = page.get_by_label("All arguments as JSON")
    expect(text).to_have_value(re.compile('"color": "red"'))
    person.write(text, '{"color": "green"}')
    person.press(person.button("As a form"))
    expect(field(person, "color").locator("option:checked")).to_have_text("green")
    person.press(page.get_by_text("When and how"))
    person.write(page.get_by_label("Start after (seconds)"), "3600")
    person.write(page.get_by_label("Idempotency-Key"), "mine")
    person.press(person.button("Copy as curl"))
    words = shlex.split(page.evaluate("navigator.clipboard.readText()"))
    assert words[-1] == f"{shown.url}/start/chooses?delay=3600"
    for _ in range(2):  # The same key starts nothing more.
        person.press(person.button("Start"))
        expect(page.get_by_text("Started:")).to_be_visible()
    [job] = started(shown, "chooses")
    assert (job["status"], job["args"]["color"]) == ("scheduled", "green")


def test_a_task_is_found_paused_and_goes_on(person: Person, shown: Server) -> None:
    """At the server: what is started waits until then."""
    page = person.open("tasks")
    person.press(person.link(re.compile("^says")))
    person.press(person.button("Pause it"))
    expect(page.get_by_text("It is paused: starts are accepted, and wait.")).to_be_visible()
    assert task_of(shown, "says")["paused"]
    job = shown.start("says", note="x")
    assert shown.job(job)["status"] == "queued"
    person.press(person.button("Let it go on"))
    expect(person.button("Pause it")).to_be_visible()
    assert not task_of(shown, "says")["paused"]
    assert shown.job(job, wait=5)["status"] == "succeeded"


def test_a_task_that_has_only_failed_is_not_said_to_have_never_run(
    person: Person, shown: Server
) -> None:
    """How long it takes is known of those that succeeded."""
    shown.job(shown.start("breaks", note="x"), wait=5)
    shown.job(shown.start("says", note="x"), wait=5)
    person.open("tasks")
    expect(person.link(re.compile("^breaks"))).to_contain_text("no success yet")
    expect(person.link(re.compile("^says"))).to_contain_text("takes ")


def test_a_schedule_is_run_now(person: Person, shown: Server) -> None:
    """The note leads to its job."""
    page = person.open("schedules")
    schedule = page.get_by_role("listitem").filter(has_text="comes_daily").first
    expect(schedule).to_contain_text("At 07:00 every day")
    expect(
        schedule.get_by_role("list", name="The next starts").get_by_role("listitem")
    ).to_have_count(5)
    person.press(person.button("Run now: comes_daily"))
    note = page.get_by_role("log", name="Notes")
    expect(note).to_contain_text("comes_daily was started as")
    [job] = started(shown, "comes_daily")
    assert shown.job(job["id"], wait=5)["result"] == "came"
    person.press(note.get_by_role("link"))
    expect(page).to_have_url(re.compile(job["id"]))


def test_a_schedule_is_paused_and_goes_on(person: Person, shown: Server) -> None:
    """At the server."""
    person.open("schedules")
    person.press(person.button("Pause: comes_daily"))
    expect(person.button("Let it go on: comes_daily")).to_be_visible()
    assert task_of(shown, "comes_daily")["paused"]
    person.press(person.button("Let it go on: comes_daily"))
    expect(person.button("Pause: comes_daily")).to_be_visible()
    assert not task_of(shown, "comes_daily")["paused"]


def test_a_note_is_dismissed(person: Person, shown: Server) -> None:
    """Before its time is over."""
    page = person.open("schedules")
    person.press(person.button("Pause: comes_daily"))
    note = page.get_by_text(re.compile("^comes_daily is paused"))
    expect(note).to_be_visible()
    person.press(person.button("Dismiss"))
    expect(note).to_have_count(0)


def test_all_of_one_error_are_retried(person: Person, shown: Server) -> None:
    """After a count, and only those."""
    for number in range(3):
        shown.start("breaks", note=f"number {number}")
    shown.start("breaks", note="x", code="Different")
    poll(lambda: shown.counts()["failed"] == 4, "they have failed")
    page = person.open("errors")
    expect(page.get_by_text("2 kinds of errors in the last hour")).to_be_visible()
    person.press(person.button("Retry all: 3 jobs with Broken"))
    expect(page.get_by_role("dialog")).to_contain_text("3 jobs match")
    assert len(started(shown, "breaks")) == 4
    person.press(person.button("Retry 3 jobs"))
    expect(page.get_by_role("dialog")).to_have_count(0)
    poll(lambda: shown.counts()["failed"] == 7, "they have failed again")
    assert len([job for job in started(shown, "breaks") if job["retry_of"]]) == 3


def test_errors_are_of_a_span_and_of_a_task(person: Person, shown: Server) -> None:
    """Both stand in the address; each leads to its jobs."""
    shown.start("breaks", note="x")
    poll(lambda: shown.counts()["failed"] == 1, "it has failed")
    page = person.open("errors")
    person.press(person.button("7d"))
    expect(page.get_by_text("1 kind of errors in the last 7 days")).to_be_visible()
    person.choose(page.get_by_label("Task"), "says")
    expect(page.get_by_text("No job has failed in the last 7 days.")).to_be_visible()
    expect(page).to_have_url(re.compile("since=7d.*task=says"))
    person.choose(page.get_by_label("Task"), "breaks")
    person.press(person.link("Broken"))
    expect(page.locator("tbody tr")).to_have_count(1)


def test_now_leads_to_what_it_counts(person: Person, shown: Server) -> None:
    """Its numbers are the server's."""
    job = shown.start("moves", gate="/nowhere/at/all")
    shown.until(job, "running")
    shown.start("breaks", note="x")
    poll(lambda: shown.counts()["failed"] == 1, "it has failed")
    page = person.open("now")
    expect(page.locator(".lanes").get_by_role("link", name="moves")).to_be_visible()
    person.press(person.button("10m"))
    expect(person.button("10m")).to_have_attribute("aria-pressed", "true")
    expect(page).to_have_url(re.compile("range=10m"))
    for name, status in {"Running 1": "running", "Failed in the last hour 1": "failed"}.items():
        page = person.open("now")
        person.press(person.link(re.compile(f"^{name}")))
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.locator("tbody .status")).to_have_text(status)
    page = person.open("now")
    person.press(page.locator(".lanes").get_by_role("link", name="moves"))
    expect(page).to_have_url(re.compile(job))


def test_system_shows_where_each_setting_came_from(person: Person, shown: Server) -> None:
    """As the API does; the defaults can be left out."""
    settings = shown.get("/settings").json()["settings"]
    page = person.open("system")
    rows = page.get_by_role("table", name="Settings").locator("tbody tr")
    expect(rows).to_have_count(len(settings))
    person.press(page.get_by_label("only those that were set"))
    changed = [each["name"] for each in settings if each["source"] != "default"]
    expect(rows).to_have_count(len(changed))
    assert rows.get_by_role("rowheader").all_inner_texts() == changed
    expect(page).to_have_url(re.compile("only=1"))
