"""Every key, with what it does to the server; and the same by mouse."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browsing import DARK, LIGHT, PHONE, Look, Person, Visit
from tests.e2e.conftest import Server, poll

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PLACES = {
    "n": "Now", "j": "Jobs", "e": "Errors", "t": "Tasks", "s": "Schedules", "y": "System",
}  # fmt: skip


@pytest.fixture(params=[LIGHT, DARK, PHONE], ids=str)
def page(request: pytest.FixtureRequest, visit: Callable[..., Visit], shown: Server) -> Page:
    """A page, in each look."""
    look: Look = request.param
    return visit(shown, look).open("now")


def press(page: Page, *keys: str) -> None:
    """One after the other."""
    for key in keys:
        page.keyboard.press(key)


def title(page: Page, name: str) -> None:
    """Wait for a page."""
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def focused_row(page: Page) -> str | None:
    """The id in whose row the focus is."""
    row: str | None = page.evaluate("document.activeElement.dataset.row ?? null")
    return row


def test_g_and_a_letter_go_to_a_page(page: Page) -> None:
    """To each; g and another letter go nowhere."""
    for letter, name in PLACES.items():
        press(page, "g", letter)
        title(page, name)
    press(page, "g", "q")
    title(page, "System")


def test_a_link_goes_to_each_page(person: Person) -> None:
    """As the keys do."""
    page = person.open("now")
    for name in PLACES.values():
        person.press(page.get_by_role("navigation", name="Pages").get_by_role("link", name=name))
        title(page, name)
        expect(page).to_have_title(f"{name} · Jobs")
    page.go_back()
    title(page, "Schedules")


def test_j_and_k_move_and_enter_opens(page: Page, shown: Server) -> None:
    """On each page that has rows; they stop at both ends."""
    jobs = [shown.start("queues", number=number) for number in range(3)][::-1]
    press(page, "g", "j")
    expect(page.locator("tbody tr")).to_have_count(3)
    moved = []
    for key in "jjjjkkkk":
        press(page, key)
        moved.append(focused_row(page))
    first, second, third = jobs
    assert moved == [first, second, third, third, second, first, first, first]
    press(page, "j", "Enter")
    expect(page).to_have_url(re.compile(second))
    for letter in "ts":
        press(page, "g", letter)
        expect(page.locator("[data-row]").first).to_be_visible()
        press(page, "j", "Enter")
        expect(page).to_have_url(re.compile("#/tasks/."))


def test_x_selects_c_cancels_and_escape_clears(page: Page, shown: Server) -> None:
    """After a question; with nothing selected, the row in which the focus is."""
    jobs = [shown.start("queues", number=number) for number in range(4)][::-1]
    press(page, "g", "j")
    expect(page.locator("tbody tr")).to_have_count(4)
    press(page, "j", "x", "j", "x", "Escape")
    expect(page.get_by_role("checkbox", checked=True)).to_have_count(0)
    press(page, "x", "j", "x")
    expect(page.get_by_text("2 jobs selected")).to_be_visible()
    press(page, "c")
    expect(page.get_by_role("dialog")).to_contain_text("2 jobs of 2 selected")
    press(page, "Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert shown.counts()["canceled"] == 0
    press(page, "c", "Tab", "Tab", "Enter")
    poll(lambda: shown.counts()["canceled"] == 2, "both are canceled")
    assert [shown.job(job)["status"] for job in jobs[1:3]] == ["canceled", "canceled"]
    expect(page.get_by_role("dialog")).to_have_count(0)
    press(page, "k", "k", "k", "c")
    expect(page.get_by_role("dialog")).to_contain_text("1 job of 1 selected")
    press(page, "Tab", "Tab", "Enter")
    poll(lambda: shown.job(jobs[0])["status"] == "canceled", "the row's job is canceled")


def test_r_retries(page: Page, shown: Server) -> None:
    """The row's job on the page of many, and the job itself on its own page."""
    job = shown.start("breaks", note="x")
    shown.job(job, wait=5)
    press(page, "g", "j")
    expect(page.locator("tbody tr")).to_have_count(1)
    press(page, "j", "r")
    expect(page.get_by_role("dialog")).to_contain_text("1 job of 1 selected can be retried")
    press(page, "Tab", "Tab", "Enter")
    poll(lambda: shown.counts()["failed"] == 2, "it has run again")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.goto(page.url.partition("#")[0] + f"#/jobs/{job}")
    expect(page.locator(".title .status")).to_have_text("failed")
    press(page, "r")
    poll(lambda: shown.counts()["failed"] == 3, "it has run once more")
    retried = [each["retry_of"] for each in shown.all_jobs() if each["retry_of"]]
    assert retried == [job, job]


def test_c_cancels_the_job_of_the_page(page: Page, shown: Server) -> None:
    """At once, as its button does."""
    job = shown.start("moves", gate="/nowhere/at/all")
    shown.until(job, "running")
    page.goto(page.url.partition("#")[0] + f"#/jobs/{job}")
    expect(page.locator(".title .status")).to_have_text("running")
    press(page, "c")
    poll(lambda: shown.job(job)["status"] == "canceled", "it is canceled")


def test_slash_goes_to_the_filter_and_escape_leaves_it(page: Page) -> None:
    """Letters are text there, and keys again afterwards."""
    press(page, "g", "j", "/")
    box = page.get_by_role("combobox", name="Filter jobs")
    expect(box).to_be_focused()
    page.keyboard.type("gx")
    expect(box).to_have_value("gx")
    press(page, "Enter")
    expect(page).to_have_url(re.compile("filter=gx"))
    press(page, "Escape")
    expect(box).not_to_be_focused()
    press(page, "g", "n")
    title(page, "Now")


def test_p_pauses(page: Page, shown: Server) -> None:
    """And goes on."""
    expect(page.locator(".live")).to_have_text("live")
    press(page, "p")
    expect(page.locator(".live")).to_have_text("paused")
    poll(lambda: shown.get("/stats").json()["watchers"] == 0, "nobody follows")
    press(page, "p")
    expect(page.locator(".live")).to_have_text("live")


def test_the_palette_finds_everything(person: Person, shown: Server) -> None:
    """Pages, tasks, jobs by their id, words; it is a key and a button."""
    job = shown.start("says", note="x")
    shown.job(job, wait=5)
    page = person.open("now")
    field, options = (
        page.get_by_role("combobox", name="Page, task or job"),
        page.get_by_role("option"),
    )
    wanted = {
        "sched": ("Schedules", "#/schedules"),
        "start says": ("Start says", "#/tasks/says"),
        job: (f"Job {job}", f"#/jobs/{job}"),
        "some words": ("Jobs with", "#/jobs?filter=some"),
    }
    for text, (name, address) in wanted.items():
        person.press(person.button(re.compile("^Find")))
        expect(field).to_be_focused()
        page.keyboard.type(text)
        person.pick(field, options.filter(has_text=name).first)
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page).to_have_url(re.compile(re.escape(address)))


def test_control_k_opens_the_palette_anywhere(page: Page) -> None:
    """In a field as well; Escape closes it and nothing else."""
    press(page, "Control+k")
    expect(page.get_by_role("combobox", name="Page, task or job")).to_be_focused()
    press(page, "ArrowDown", "ArrowUp", "ArrowUp", "ArrowDown", "ArrowDown", "Enter")
    title(page, "Jobs")
    press(page, "/", "Control+k")
    expect(page.get_by_role("dialog")).to_be_visible()
    press(page, "Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("combobox", name="Filter jobs")).to_be_focused()


def test_the_help_tells_the_keys_and_turns_them_off(person: Person, shown: Server) -> None:
    """That is kept; Control+K works all the same."""
    page = person.open("now")
    press(page, "?")
    expect(page.get_by_role("dialog")).to_contain_text("next / previous row")
    press(page, "Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    for on in (False, True):
        person.press(person.button("Keys and help"))
        person.press(page.get_by_label("Single letters work as keys"))
        person.press(person.button("Close"))
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.reload()
        title(page, "Now")
        press(page, "g", "t")
        title(page, "Tasks" if on else "Now")
        press(page, "g", "n")
    press(page, "Control+k")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_the_first_stop_skips_to_the_content(page: Page) -> None:
    """For who has only Tab."""
    press(page, "Tab")
    skip = page.get_by_role("link", name="To the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    press(page, "Enter")
    expect(page.locator("main")).to_be_focused()
    title(page, "Now")


def test_a_dialog_keeps_the_focus_and_gives_it_back(page: Page) -> None:
    """To whoever had it."""
    help_button = page.get_by_role("button", name="Keys and help")
    help_button.focus()
    press(page, "Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    for _ in range(6):
        press(page, "Tab")
        inside = (
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
        assert page.evaluate(inside)
    press(page, "Escape")
    expect(help_button).to_be_focused()
