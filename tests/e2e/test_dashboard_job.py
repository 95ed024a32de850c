"""The page of one job: by mouse and by keyboard only, on a screen and on a telephone."""

from __future__ import annotations

import json
import re
import shlex
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.browsing import PHONE, Person, Visit
from tests.e2e.conftest import Server, Servers, poll

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def shown() -> Iterator[Server]:
    """One server: each of these tests looks at jobs of its own."""
    servers = Servers()
    yield servers("serve", tasks="tests.e2e.shown_jobs")
    servers.stop()


def status_of(page: Page) -> Locator:
    """What the page says the job's status is."""
    return page.locator(".title .status")


def panel(page: Page, title: str | re.Pattern[str]) -> Locator:
    """A part of the page by its heading."""
    return page.get_by_role("region").filter(has=page.get_by_role("heading", name=title, level=2))


def newest(server: Server) -> dict[str, Any]:
    """The document of the newest job."""
    return next(server.all_jobs())


def test_a_running_job_is_canceled(person: Person, shown: Server) -> None:
    """At the server, and seen to be."""
    job = shown.start("moves", gate="/nowhere/at/all")
    shown.until(job, "running")
    page = person.open(f"jobs/{job}")
    expect(status_of(page)).to_have_text("running")
    person.press(person.button("Cancel"))
    poll(lambda: shown.job(job)["status"] == "canceled", "it is canceled")
    expect(status_of(page)).to_have_text("canceled")


def test_a_job_is_retried_as_it_is(person: Person, shown: Server) -> None:
    """As a new job, whose page is shown."""
    job = shown.start("says", note="again")
    shown.job(job, wait=5)
    page = person.open(f"jobs/{job}")
    person.press(person.button("Retry"))
    expect(page).not_to_have_url(re.compile(job))
    again = newest(shown)
    assert (again["retry_of"], again["args"]) == (job, {"note": "again"})
    expect(page).to_have_url(re.compile(again["id"]))
    expect(status_of(page)).to_have_text("succeeded")


def test_a_job_is_retried_with_changed_arguments(person: Person, shown: Server) -> None:
    """What is no JSON is refused, and so is what does not fit; then it is a new job."""
    job = shown.start("says", note="before")
    shown.job(job, wait=5)
    person.visit.refusals = {422}
    page = person.open(f"jobs/{job}")
    person.press(person.button("Retry with changes"))
    field = page.get_by_role("dialog").get_by_role("textbox")
    for wrong, said in {'{"note":': "not a JSON object", '{"none": 1}': "do not fit"}.items():
        person.write(field, wrong)
        person.press(person.button("Start the new job"))
        expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text(said)
    assert newest(shown)["id"] == job
    person.write(field, '{"note": "after"}')
    person.press(person.button("Start the new job"))
    expect(page.get_by_role("dialog")).to_have_count(0)
    again = newest(shown)
    assert (again["retry_of"], again["args"]) == (job, {"note": "after"})
    expect(page).to_have_url(re.compile(again["id"]))


def test_the_call_is_copied_as_curl(person: Person, shown: Server) -> None:
    """It starts such a job, whatever the arguments are."""
    note = 'it\'s "quoted" $(x) `y` \\ and\nof two lines'
    job = shown.start("says", note=note)
    shown.job(job, wait=5)
    page = person.open(f"jobs/{job}")
    person.press(person.button(re.compile("^Copy as curl")))
    expect(page.get_by_role("button", name=re.compile("^Copy as curl"))).to_have_text("Copied")
    words = shlex.split(page.evaluate("navigator.clipboard.readText()"))
    assert words[:4] == ["curl", "-X", "POST", "-H"]
    name, _, value = words[4].partition(": ")
    assert words[5] == "-d"
    answer = shown.client.post(words[7], content=words[6], headers={name: value})
    assert answer.status_code == 202
    assert (newest(shown)["id"], newest(shown)["args"]) == (answer.json()["id"], {"note": note})


def test_the_id_the_result_and_the_log_are_copied(person: Person, shown: Server) -> None:
    """As they are."""
    job = shown.start("says", note="words")
    shown.job(job, wait=5)
    page = person.open(f"jobs/{job}")
    clipboard = "navigator.clipboard.readText()"
    person.press(person.button(re.compile("^Copy id")))
    expect(page.get_by_role("button", name=re.compile("^Copy id"))).to_have_text("Copied")
    assert page.evaluate(clipboard) == job
    for title, expected in {"Result": '"words"', "Log": "warning words"}.items():
        copy = panel(page, title).get_by_role("button", name="Copy")
        person.press(copy)
        expect(panel(page, title).get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate(clipboard).endswith(expected)


def test_an_error_leads_to_its_like(person: Person, shown: Server) -> None:
    """To each of them, and to the list of all."""
    code = f"Broken{uuid.uuid4().hex[:8]}"
    jobs = [shown.start("breaks", note=f"number {number}", code=code) for number in range(3)]
    different = shown.start("breaks", note="x", code="Different")
    for each in (*jobs, different):
        shown.until(each, "failed")
    *others, job = jobs
    page = person.open(f"jobs/{job}")
    error = panel(page, "Error")
    expect(error).to_contain_text(code)
    expect(error).to_contain_text("number 2")
    like = error.get_by_role("listitem")
    expect(like).to_have_count(2)
    person.press(like.first.get_by_role("link"))
    expect(page).to_have_url(re.compile(others[1]))
    person.press(panel(page, "Error").get_by_role("link", name="All of its kind"))
    expect(page.locator("[data-row]")).to_have_count(3)
    shown_ids = {str(each.get_attribute("data-row")) for each in page.locator("[data-row]").all()}
    assert shown_ids == {*others, job}
    assert different not in shown_ids


def test_the_stack_of_a_running_job_is_shown(person: Person, shown: Server) -> None:
    """Where its coroutine stands, and nothing of it when it is over."""
    job = shown.start("moves", gate="/nowhere/at/all")
    shown.until(job, "running")
    page = person.open(f"jobs/{job}")
    stack = panel(page, "Where its code is now")
    expect(stack).to_contain_text("in moves")
    expect(stack).to_contain_text("asyncio.sleep(0.02)")
    person.press(stack.get_by_role("button", name="Look again"))
    expect(stack).to_contain_text("in moves")
    person.press(person.button("Cancel"))
    expect(stack).to_have_count(0)


def test_children_are_a_tree(person: Person, shown: Server) -> None:
    """Each leads to its page, and from there back."""
    job = shown.start("starts_others", count=2)
    shown.job(job, wait=5)
    page = person.open(f"jobs/{job}")
    tree = panel(page, "Children")
    expect(tree.get_by_role("listitem")).to_have_count(2)
    person.press(tree.get_by_role("link").first)
    expect(page.locator(".facts")).to_contain_text("Parent")
    person.press(page.locator(".facts").get_by_role("link").first)
    expect(page).to_have_url(re.compile(job))


def test_a_child_shows_its_own_children(person: Person, shown: Server) -> None:
    """When it is asked to."""
    job = shown.start("starts_families")
    shown.job(job, wait=5)
    page = person.open(f"jobs/{job}")
    tree = panel(page, "Children")
    expect(tree.get_by_role("listitem")).to_have_count(1)
    person.press(tree.get_by_role("button", name="Its children"))
    expect(tree.get_by_role("listitem")).to_have_count(3)
    person.press(tree.get_by_role("button", name="Hide its children"))
    expect(tree.get_by_role("listitem")).to_have_count(1)


def test_attempts_and_steps_are_bars_and_rows(
    visit: Callable[[Server], Visit], shown: Server
) -> None:
    """And the machine says the way in words."""
    visited = visit(shown)
    job = shown.start("recovers")
    shown.job(job, wait=5)
    page = visited.open(f"jobs/{job}")
    expect(panel(page, "The way it took")).to_contain_text("then succeeded at")
    expect(panel(page, "Attempts")).to_contain_text("error: OSError")
    timeline = shown.get(f"/jobs/{job}/timeline").json()["timeline"]
    expect(panel(page, "Timeline").locator("tbody tr")).to_have_count(len(timeline))
    other = shown.start("goes_in_steps", names=["first", "second"])
    shown.job(other, wait=5)
    page = visited.open(f"jobs/{other}")
    expect(panel(page, "Attempts and steps").locator("li.step")).to_have_count(2)


def test_a_log_is_followed_and_filtered_by_level(
    person: Person, shown: Server, tmp_path: Path
) -> None:
    """New lines come by themselves; lower levels can be left out."""
    gate = tmp_path / "gate"
    job = shown.start("chats", gate=str(gate))
    page = person.open(f"jobs/{job}")
    lines = panel(page, "Log").locator(".line")
    expect(lines).to_have_count(2)
    gate.touch()
    expect(lines).to_have_count(4)
    kept = shown.get(f"/jobs/{job}/log").text.splitlines()
    assert [json.loads(line)["text"] for line in kept] == lines.locator("> bdi").all_inner_texts()
    person.choose(panel(page, "Log").get_by_label("Level"), "error and above")
    expect(lines).to_have_count(1)
    expect(lines).to_contain_text("goes wrong")


def test_a_long_value_is_shown_in_part(person: Person, shown: Server) -> None:
    """And whole, when asked for."""
    note = "long " * 2_000
    job = shown.start("says", note=note)
    shown.job(job, wait=5)
    page = person.open(f"jobs/{job}")
    arguments = panel(page, "Arguments")
    expect(arguments).not_to_contain_text(note.strip())
    person.press(arguments.get_by_role("button", name=re.compile("^Show all")))
    expect(arguments).to_contain_text(note.strip())


def test_a_long_word_of_an_error_leaves_room_for_its_time(
    visit: Callable[..., Visit], shown: Server
) -> None:
    """On a telephone, too, the id and the time of its like stand in one line."""
    for number in range(2):
        job = shown.start("breaks", note=f"{'x' * 300} {number}")
        shown.job(job, wait=5)
    page = visit(shown, PHONE).open(f"jobs/{job}")
    like = panel(page, "Error").get_by_role("listitem").first
    for part in (like.get_by_role("link"), like.locator("time")):
        box = part.bounding_box()
        assert box is not None
        assert box["height"] <= 44  # A link is as high as a finger needs.
        assert part.evaluate("(each) => each.scrollWidth <= each.clientWidth")


def test_progress_has_a_message_and_moves(
    visit: Callable[[Server], Visit], shown: Server, tmp_path: Path
) -> None:
    """Until it is over."""
    gate = tmp_path / "gate"
    job = shown.start("moves", gate=str(gate))
    page = visit(shown).open(f"jobs/{job}")
    bar = page.get_by_role("progressbar", name="Progress")
    expect(bar).to_have_attribute("aria-valuenow", "80")
    expect(page.locator(".progress")).to_contain_text("step 4")
    gate.touch()
    expect(status_of(page)).to_have_text("succeeded")
    expect(bar).to_have_count(0)
