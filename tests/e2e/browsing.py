"""A person at a page: real Chromium, a look (light, dark, a telephone), and a hand that is either a
mouse or a keyboard. Only what any page could be looked at with may live here.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib import resources
from typing import Any, NamedTuple, Protocol

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    expect,
    sync_playwright,
)

from tests.servers import needs

BROWSERS = ("chromium-headless-shell", "chromium")
"""The first that is there. They draw and run pages alike; the shell draws no window around them,
which takes twice as long as the page in it."""
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
TRIES = 8
"""Looks at where the focus is, and presses of Tab towards a thing, until it is not reachable."""
STEPS = """(each) => {
  const all = "a[href], button, input, select, textarea, summary, [tabindex]";
  const reached = (stop) => stop.tabIndex >= 0 && !stop.disabled && stop.checkVisibility();
  const stops = [...document.querySelectorAll(all)].filter((one) => one === each || reached(one));
  const steps = stops.indexOf(each) - stops.indexOf(document.activeElement);
  return document.activeElement === each ? 0 : steps || 1;
}"""
"""About how many stops are between the focus and a thing; the keys decide."""
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WATCH = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}`));
"""
"""Chromium's own line does not come for every violation of a policy; the event does."""
REFUSED = re.compile(r"the server responded with a status of (\d+)")
RUN_AXE = """async (tags) => {
  const { violations } = await axe.run(document, {
    runOnly: tags, resultTypes: ["violations"],
  });
  return violations.flatMap(({ id, nodes }) =>
    nodes.map((node) => `${id}: ${node.target.join(" ")}: ${node.failureSummary}`));
}"""
SEEN = """(each) => {
  const { left, right, top, bottom } = each.getBoundingClientRect();
  const style = getComputedStyle(each);
  const at = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
  return {
    marked: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    uncovered: Boolean(at) && (each.contains(at) || at.contains(each)
      || Boolean(each.closest("label")?.contains(at))),
  };
}"""


class Look(NamedTuple):
    """How a page is looked at."""

    scheme: str
    wide: int
    still: bool = False

    def __str__(self) -> str:
        return f"{self.scheme}-{self.wide}"


LIGHT, DARK = Look("light", 1280), Look("dark", 1280)
PHONE, DARK_PHONE = Look("light", 390), Look("dark", 390)


def launch() -> Iterator[Browser]:
    """Debian's Chromium, and its end."""
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    needs(chromium, "Debian's chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


class Visit:
    """A visit to the pages of one server: whatever is wrong meanwhile is remembered.

    Args:
        browser: whose.
        url: where the pages are.
        look: how they are looked at.

    Attributes:
        refusals: statuses of answers that are to come: the browser says them in its console.
    """

    def __init__(self, browser: Browser, url: str, look: Look = LIGHT) -> None:
        self.url, self.look = url, look
        self.context = browser.new_context(
            color_scheme=look.scheme,  # type: ignore[arg-type]
            viewport={"width": look.wide, "height": 844 if look.wide < 500 else 900},
            has_touch=look.wide < 500,
            reduced_motion="reduce" if look.still else "no-preference",
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.context.set_default_timeout(15_000)
        self.context.add_init_script(WATCH)
        self.wrong: list[str] = []
        self.refusals: set[int] = set()
        self.context.on("page", self._watch)
        self.page = self.context.new_page()

    def _watch(self, page: Page) -> None:
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", self._asked_back)
        page.on("request", lambda request: self._asked(request.url))

    def _asked_back(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _said(self, said: ConsoleMessage) -> None:
        refused = REFUSED.search(said.text)
        status = int(refused[1]) if refused else 0
        # A job may end while it is asked where its code is.
        ended = status == 409 and said.location["url"].endswith("/stack")
        if said.type in ("error", "warning") and status not in self.refusals and not ended:
            self.wrong.append(f"{said.type}: {said.text}")

    def _asked(self, url: str) -> None:
        if not url.startswith((f"{self.url}/", "blob:", "data:")):
            self.wrong.append(f"asked elsewhere: {url}")

    def open(self, name: str, page: Page | None = None) -> Page:
        """One of its pages, drawn."""
        shown = page or self.page
        shown.goto(f"{self.url}/#/{name}")
        expect(shown.get_by_role("heading", level=1)).to_be_visible()
        return shown

    def axe(self) -> list[str]:
        """What axe finds wrong with the page as it is now, by WCAG 2.2 AA and good practice."""
        # `evaluate` is the browser's, and not the page's: its policy has nothing against it.
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(axe_source())
        found: list[str] = self.page.evaluate(RUN_AXE, TAGS)
        return found

    def fits(self) -> bool:
        """Whether nothing is wider than the screen."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))

    def close(self) -> None:
        """It was quiet: no error, no warning, and no violation of its policy."""
        self.context.close()
        assert self.wrong == [], self.wrong


def axe_source() -> str:
    """axe-core, as its package for Playwright carries it."""
    return (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


class Hand(Protocol):
    """What a person works a page with."""

    page: Page

    def press(self, target: Locator) -> None:
        """Press a button, follow a link, flip a switch."""

    def write(self, field: Locator, text: str) -> None:
        """Write into a field, instead of what is there."""

    def choose(self, field: Locator, label: str) -> None:
        """Choose from a list."""

    def pick(self, field: Locator, option: Locator) -> None:
        """Take one of the offers of the field that has been written into."""

    def span(self, bars: Locator, first: int, last: int) -> None:
        """Choose from one bar to another."""


class Mouse:
    """Moves to a thing and clicks.

    Args:
        page: where.
    """

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, target: Locator) -> None:
        """Click it where it is."""
        target.click()

    def write(self, field: Locator, text: str) -> None:
        """Click into it and drag over what is there; a text comes from a keyboard all the same."""
        field.click()
        field.select_text()
        self.page.keyboard.type(text)

    def choose(self, field: Locator, label: str) -> None:
        """The list that opens is not the page's: Playwright takes the choice."""
        field.select_option(label=label)

    def pick(self, field: Locator, option: Locator) -> None:
        """Click it."""
        option.click()

    def span(self, bars: Locator, first: int, last: int) -> None:
        """Draw over them."""
        bars.nth(first).hover()
        self.page.mouse.down()
        bars.nth(last).hover()
        self.page.mouse.up()


class Keyboard:
    """Presses keys, and nothing else.

    Args:
        page: where.
    """

    def __init__(self, page: Page) -> None:
        self.page = page

    def reach(self, target: Locator) -> None:
        """Go to a thing with Tab; it is marked then, and nothing lies over it."""
        expect(target).to_be_visible()
        for _ in range(TRIES):
            steps: int = target.evaluate(STEPS)
            if steps == 0:
                break
            for _ in range(abs(steps)):
                self.page.keyboard.press("Tab" if steps > 0 else "Shift+Tab")
        else:
            raise AssertionError(f"Tab does not reach {target}")
        seen: dict[str, Any] = target.evaluate(SEEN)
        assert seen == {"marked": True, "uncovered": True}, f"{target}: {seen}"

    def press(self, target: Locator) -> None:
        """Go to it, and press Enter, or Space where that is what flips it."""
        self.reach(target)
        flips = target.evaluate("(each) => each.matches('[type=checkbox]')")
        self.page.keyboard.press("Space" if flips else "Enter")

    def write(self, field: Locator, text: str) -> None:
        """Go to it, and type over what is there."""
        self.reach(field)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)

    def choose(self, field: Locator, label: str) -> None:
        """Go to it, and up or down to the choice."""
        self.reach(field)
        labels: list[str] = field.evaluate("(each) => [...each.options].map((one) => one.text)")
        steps = labels.index(label) - int(field.evaluate("(each) => each.selectedIndex"))
        for _ in range(abs(steps)):
            self.page.keyboard.press("ArrowDown" if steps > 0 else "ArrowUp")
        expect(field.locator("option:checked")).to_have_text(label)

    def pick(self, field: Locator, option: Locator) -> None:
        """Down to it, and Enter."""
        expect(option).to_be_visible()
        for _ in range(20):
            if option.get_attribute("aria-selected") == "true":
                break
            self.page.keyboard.press("ArrowDown")
        expect(field).to_have_attribute("aria-activedescendant", option.get_attribute("id") or "")
        self.page.keyboard.press("Enter")

    def span(self, bars: Locator, first: int, last: int) -> None:
        """Arrows to the first, with Shift to the last, and Enter."""
        self.reach(bars.nth(0))
        for _ in range(first):
            self.page.keyboard.press("ArrowRight")
        for _ in range(last - first):
            self.page.keyboard.press("Shift+ArrowRight")
        expect(bars.nth(last)).to_be_focused()
        self.page.keyboard.press("Enter")


class Way(NamedTuple):
    """A hand, and a look."""

    hand: type[Mouse] | type[Keyboard]
    look: Look

    def __str__(self) -> str:
        return f"{self.hand.__name__.lower()}-{self.look}"


WAYS = [
    Way(Mouse, LIGHT), Way(Keyboard, DARK), Way(Mouse, DARK_PHONE), Way(Keyboard, PHONE),
]  # fmt: skip
"""Each hand on a screen and on a telephone, in light and in dark."""


class Person:
    """Somebody who visits.

    Args:
        visit: the visit.
        way: how.
    """

    def __init__(self, visit: Visit, way: Way) -> None:
        self.visit, self.way = visit, way
        self.page = visit.page
        hand: Hand = way.hand(visit.page)
        self.press, self.write, self.choose = hand.press, hand.write, hand.choose
        self.pick, self.span = hand.pick, hand.span

    def open(self, name: str) -> Page:
        """One of the pages, drawn."""
        return self.visit.open(name)

    def button(self, name: str | re.Pattern[str]) -> Locator:
        """A button by its name; in the dialog where there is one."""
        inside = self.page.get_by_role("dialog")
        root = inside if inside.count() else self.page
        return root.get_by_role("button", name=name, exact=isinstance(name, str))

    def link(self, name: str | re.Pattern[str]) -> Locator:
        """A link by its name."""
        return self.page.get_by_role("link", name=name, exact=isinstance(name, str))
