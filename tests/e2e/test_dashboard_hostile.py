"""Words of others are only words on a page: fifty payloads in every field that reaches one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browsing import LIGHT, PHONE, Look, Visit
from tests.e2e.conftest import Server, Servers, poll
from tests.e2e.hostile_pages import HostilePages
from tests.hostile import LONG, PAYLOADS

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

RTL = "\u05d0\u05d1\u05d2 123 (x)"
"""Letters that are written from right to left, and what would move around them."""
LESS = LONG[:2_000]
"""Twenty such fields of 20,000 letters would only try how fast Chromium breaks lines."""
WIDE = [LESS, RTL, "漢" * 500, "e" + "\u0301" * 200]
"""What needs room."""
LISTS = ["now", "jobs", "errors", "tasks", "schedules", "system"]
JOBS = ["jobs/2x", "jobs/3x", "jobs/4x"]
"""One that runs, one that has succeeded, one that has failed: each is asked for by its number."""
PARTS = 4
COUNT = """
const real = window.fetch;
window.asked = 0;
window.fetch = async (...what) => {
  window.asked += 1;
  try { return await real(...what); } finally { window.asked -= 1; }
};
"""
"""How many questions of the page have no answer yet."""
LOOK = """async () => {
  for (let quiet = 0; quiet < 4; quiet = window.asked ? 0 : quiet + 1)
    await new Promise(requestAnimationFrame);
  const wrong = [];
  const active = "script:not([src^='/static/']), link:not([href^='/static/']), img, iframe, object,"
    + "embed, base, style, foreignObject, [action], [srcdoc], [onerror], [onload], [onclick]";
  for (const each of document.querySelectorAll(active)) wrong.push(each.outerHTML.slice(0, 200));
  for (const each of document.querySelectorAll("a"))
    if (!each.getAttribute("href").startsWith("#")) wrong.push(each.outerHTML.slice(0, 200));
  const hidden = /(?![\\t\\n])[\\p{Cc}\\p{Cf}\\p{Co}\\p{Cs}\\p{Zl}\\p{Zp}]/u;
  const marks = /\\p{M}{9}/u; // They would be drawn over what stands above.
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const place = node.parentElement;
    if (!place.matches("textarea") && (hidden.test(node.data) || marks.test(node.data)))
      wrong.push(`hidden in ${place.parentElement.outerHTML.slice(0, 200)}`);
  }
  for (const name of ["aria-label", "title", "placeholder"])
    for (const each of document.querySelectorAll(`[${name}]`))
      if (hidden.test(each.getAttribute(name))) wrong.push(`${name} of ${each.className}`);
  if (document.documentElement.scrollWidth > innerWidth)
    wrong.push(`${document.documentElement.scrollWidth} px wide`);
  if (window.hacked !== undefined) wrong.push("a script has run");
  return wrong;
}"""
SHOWN = """async (job) => {
  await import("/static/dashboard/job-progress.js");
  const element = document.createElement("job-progress");
  element.setAttribute("job", job);
  const over = new Promise((resolve) => element.addEventListener("end", resolve));
  document.querySelector("main").append(element);
  await over;
  const root = element.shadowRoot, text = root.querySelector(".text").textContent;
  const texts = [text, root.querySelector(".bar").getAttribute("aria-label")];
  const hidden = /(?![\\t\\n])[\\p{Cc}\\p{Cf}\\p{Co}\\p{Cs}\\p{Zl}\\p{Zp}]|\\p{M}{9}/u;
  const wrong = texts.filter((each) => hidden.test(each));
  wrong.push(...[...root.querySelectorAll("*")].map((each) => each.localName)
    .filter((name) => !["div", "p", "strong", "bdi", "span"].includes(name)));
  if (document.documentElement.scrollWidth > innerWidth) wrong.push("too wide");
  if (window.hacked !== undefined) wrong.push("a script has run");
  element.remove();
  return { text, wrong };
}"""
LEAKS = """() => {
  const cellOf = (each) => {
    let cell = each;
    while (getComputedStyle(cell).unicodeBidi === "normal") cell = cell.parentElement;
    return cell;
  };
  const textsIn = (root) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) found.push(walker.currentNode);
    return found;
  };
  const rtl = /[\\u0590-\\u05ff]/, apart = "textarea, option, [hidden], .sr";
  const ours = /^(?=.*\\p{L})[^\\u0590-\\u05ff]*$/su;
  const leaks = new Set();
  for (const text of textsIn(document.body)) {
    if (!rtl.test(text.data) || text.parentElement.closest(apart)) continue;
    const cell = cellOf(text.parentElement);
    // What the bidi algorithm would see in one run with it.
    for (const other of textsIn(cell))
      if (cellOf(other.parentElement) === cell && ours.test(other.data))
        leaks.add(`${cell.outerHTML.slice(0, 300)} beside ${other.data.slice(0, 50)}`);
  }
  return [...leaks];
}"""


@pytest.fixture(scope="module")
def service() -> Iterator[HostilePages]:
    """The service that says payloads."""
    made = HostilePages()
    yield made
    made.close()


class Looking:
    """Looks at one page after the other.

    Args:
        visit: to whom.
    """

    def __init__(self, visit: Visit) -> None:
        self.visit, self.page = visit, visit.page
        self.wrong: list[str] = []
        visit.context.add_init_script(COUNT)

    def load(self, place: str) -> None:
        """A page anew."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.visit.url}/#/{place}")

    def go(self, place: str) -> None:
        """Another page, without a reload."""
        self.page.evaluate("(place) => { location.hash = `#/${place}`; }", place)

    def look(self, what: str) -> None:
        """Whether all is as it should be, when all has come that was asked for."""
        found: list[str] = self.page.evaluate(LOOK)
        self.wrong += [f"{what}: {each}" for each in found]

    def tour(self, what: str, *places: str) -> None:
        """Look at several pages."""
        for place in places:
            self.go(place)
            self.look(f"{what} on {place[:10]}")


@pytest.fixture
def looking(browser: Browser, service: HostilePages) -> Iterator[Callable[[Look], Looking]]:
    """Makes a visit; at the end it has seen no error."""
    made: list[Looking] = []

    def make(look: Look) -> Looking:
        made.append(Looking(Visit(browser, service.url, look)))
        return made[-1]

    yield make
    service.problem = 0
    for each in made:
        each.visit.close()


def form_of(text: str) -> str:
    """Where a task with this name is started."""
    return f"tasks/{quote(text, safe='')}"


@pytest.mark.parametrize("look", [PHONE, LIGHT], ids=str)
def test_lists_of_all_payloads(
    looking: Callable[[Look], Looking], service: HostilePages, look: Look
) -> None:
    """An item for each, on every page that has a list: no script, no element, no mark that is not
    seen, nothing wider than the screen."""
    looked = looking(look)
    service.texts = [*PAYLOADS[:: 1 if look is PHONE else 6], *WIDE]
    looked.load("now")
    looked.tour("all", *LISTS)
    expect(looked.page.get_by_role("table", name="Settings")).to_contain_text("alert(1)")
    assert looked.wrong == []


@pytest.mark.parametrize("part", range(PARTS))
def test_every_field_of_one_job_and_one_task(
    looking: Callable[[Look], Looking], service: HostilePages, part: int
) -> None:
    """And of the note that lies over them."""
    looked = looking(PHONE)
    looked.load("now")
    for number, payload in list(enumerate(PAYLOADS))[part::PARTS]:
        text = LESS if payload == LONG else payload
        service.texts = [text]
        looked.tour(f"payload {number}", form_of(text), *JOBS)
        looked.page.get_by_role("button", name="Retry", exact=True).click()
        expect(looked.page.locator(".toast").last).to_contain_text("was started again as")
        looked.look(f"payload {number} in a note")
    assert looked.wrong == []


def test_the_palette(looking: Callable[[Look], Looking], service: HostilePages) -> None:
    """Some tasks at a time, for it shows no more."""
    looked = looking(PHONE)
    for first in range(0, len(PAYLOADS), 6):
        service.texts = PAYLOADS[first : first + 6]
        looked.load("none")
        looked.page.keyboard.press("Control+k")
        looked.page.keyboard.type("start")
        expect(looked.page.get_by_role("option").first).to_contain_text("Start")
        looked.look(f"payloads from {first}")
    assert looked.wrong == []


def test_problems(looking: Callable[[Look], Looking], service: HostilePages) -> None:
    """What the service refuses is said in its words."""
    looked = looking(PHONE)
    looked.visit.refusals = {500}
    service.problem = 500
    looked.load("now")
    for number, payload in enumerate(PAYLOADS):
        service.texts = [payload]
        looked.tour(f"payload {number}", ("jobs", "errors")[number % 2])
        expect(looked.page.get_by_role("alert").first).to_be_visible()
    assert looked.wrong == []


def test_dialogs(looking: Callable[[Look], Looking], service: HostilePages) -> None:
    """The arguments that may be changed, and the count before many are touched."""
    looked = looking(PHONE)
    page = looked.page
    looked.load("now")
    for number, payload in enumerate(PAYLOADS[:-1:3]):
        service.texts = [payload]
        looked.go("jobs/4x")
        page.get_by_role("button", name="Retry with changes").click()
        looked.look(f"payload {number} in a dialog")
        looked.go("errors")
        page.get_by_role("button", name="Retry all").click()
        expect(page.get_by_role("dialog")).to_contain_text("1 job")
        looked.look(f"payload {number} in a count")
    assert looked.wrong == []


def test_other_directions_stay_in_their_cell(
    looking: Callable[[Look], Looking], service: HostilePages
) -> None:
    """Letters that are written from right to left move nothing of ours."""
    looked = looking(LIGHT)
    service.texts = [RTL]
    looked.load("now")
    leaks: list[str] = []
    for place in [*LISTS, *JOBS, form_of(RTL)]:
        looked.tour("letters", place)
        leaks += [f"{place}: {each}" for each in looked.page.evaluate(LEAKS)]
    assert leaks == []
    assert looked.wrong == []


def test_a_real_server_brings_no_more_to_life(
    visit: Callable[[Server, Look], Visit], servers: Servers
) -> None:
    """Arguments, progress, lines, steps, results, errors, tags and descriptions, all the way
    through."""
    server = servers("serve", tasks="tests.e2e.hostile_jobs")
    jobs = [
        server.start("tells", text=payload, fails=number % 2 == 0)
        for number, payload in enumerate(PAYLOADS)
    ]
    failing = (len(jobs) + 1) // 2
    poll(lambda: server.counts()["failed"] == failing, "half of them have failed")
    poll(lambda: server.counts()["succeeded"] == len(jobs) - failing, "the others have not")
    looked = Looking(visit(server, PHONE))
    looked.load("now")
    looked.tour("all", "jobs", "errors", "tasks/tells", "schedules", "system", "now")
    for number, job in enumerate(jobs):
        looked.tour(f"payload {number}", f"jobs/{job}")
        expect(looked.page.locator(".title .status")).to_be_visible()
    assert looked.wrong == []


def test_the_element_for_other_pages_brings_nothing_to_life(
    visit: Callable[[Server, Look], Visit], servers: Servers
) -> None:
    """What jobs say of their progress and of what went wrong, in `<job-progress>`."""
    server = servers("serve", tasks="tests.e2e.hostile_jobs")
    jobs = [
        server.start("tells", text=payload, fails=number % 2 == 0)
        for number, payload in enumerate(PAYLOADS)
    ]
    poll(lambda: server.counts()["running"] + server.counts()["queued"] == 0, "all are over")
    looked = Looking(visit(server, PHONE))
    looked.load("system")
    for job in jobs:
        said = looked.page.evaluate(SHOWN, job)
        assert said["wrong"] == []
        assert said["text"].startswith(("\N{CHECK MARK} succeeded", "\N{MULTIPLICATION X} failed"))
