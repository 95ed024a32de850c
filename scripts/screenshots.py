"""Makes the pictures of the dashboard for the documentation: python -m scripts.screenshots

A server with an hour behind it (`scripts.rehearse`) runs on loopback, and Chromium shows each page
of its dashboard in light and in dark: docs/screenshots/PAGE-SCHEME.webp. Where this machine would
be seen (folders of code, its name) what the API answers is replaced before the page has it; the
pictures are otherwise as they come. Nothing may live here that says what jobs there are.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import msgspec
from playwright.sync_api import Browser, Page, Route, sync_playwright

from scripts.rehearse import BEGUN, SET
from tests.servers import free_port

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "screenshots"
SHOP = Path(__file__).with_name("shop.py")
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
WIDE, TALL, NARROW = (1280, 800), (1280, 1080), (390, 844)
QUALITY = 88
"""Of WebP, of 100: no blur is seen around letters."""
MOST = 100_000
"""Bytes of a picture."""
MEASURED = 30_000
"""Milliseconds for the page of the system to have a line of the loop's lag."""
TELLING = re.compile(r"/(stack|settings|workers|healthz)$")
"""Answers in which this machine may be seen."""
UP = "(found) => scrollTo(0, found.closest('section, .panel').offsetTop - 70)"
SETTINGS = {
    "QUART_APP_TASKS": "shop",
    "QUART_APP_STORE": "sqlite:///shop.db",
    "QUART_APP_MAX_RUNNING": "200",
    "QUART_APP_RETAIN_AGE": "succeeded=86400,failed=2592000",
    "QUART_APP_BLOCKED": "1",
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


class Shot(msgspec.Struct, frozen=True):
    """A picture, in each scheme.

    Attributes:
        name: of the file.
        address: of the page, after the ``#``.
        shown: a text that stands there when it is whole.
        top: what is at the upper edge, as a CSS selector; the beginning of the page unless given.
        wait: milliseconds in which the page measures.
    """

    name: str
    address: str
    shown: str
    top: str = ""
    wait: int = 0
    size: tuple[int, int] = WIDE


NOW = Shot("now", "/now", "Jobs that ended", size=TALL)
"""Taken when the others may be: lanes are of the jobs that a page has heard of."""


def shots(job: str) -> list[Shot]:
    """All others."""
    return [
        Shot("jobs", "/jobs", "How long they ran"),
        Shot("jobs-narrow", "/jobs", "How long they ran", size=NARROW),
        Shot("job", f"/jobs/{job}", "The way it took"),
        Shot("job-story", f"/jobs/{job}", "Attempts and steps", top=".log"),
        Shot("errors", "/errors", "Newest"),
        Shot("tasks", "/tasks/report", "Start a job"),
        Shot("schedules", "/schedules", "Run now"),
        Shot("system", "/system?only=1", "Event loop", wait=MEASURED),
    ]


class Server:
    """The server, as a context manager: ``url`` is its address when its hour is over."""

    def __enter__(self) -> Server:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._folder = tempfile.TemporaryDirectory()
        shutil.copy(SHOP, self._folder.name)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("QUART_APP_")}
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "scripts.rehearse", str(port)], cwd=self._folder.name, text=True,
            env={**environ, **SETTINGS, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.until(BEGUN)
        return self

    def until(self, said: str) -> None:
        """Wait until it has said something; what its tasks print comes between.

        Raises:
            RuntimeError: it has ended instead.
        """
        if not any(line == f"{said}\n" for line in self._process.stdout or ()):
            raise RuntimeError(f"the server has not said {said!r}")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


class View:
    """A page in both schemes, open at once.

    Args:
        browser: Chromium.
        url: of the server.
        shot: which page.
    """

    def __init__(self, browser: Browser, url: str, shot: Shot) -> None:
        self._shot = shot
        self._pages = {scheme: self._open(browser, url, scheme) for scheme in SCHEMES}

    def _open(self, browser: Browser, url: str, scheme: Scheme) -> Page:
        width, height = self._shot.size
        context = browser.new_context(
            color_scheme=scheme, timezone_id="UTC", locale="en-GB",
            viewport={"width": width, "height": height},
        )  # fmt: skip
        context.route(TELLING, _elsewhere)
        page = context.new_page()
        page.goto(f"{url}/#{self._shot.address}")
        page.get_by_text("live", exact=True).wait_for()
        page.get_by_text(self._shot.shown).first.wait_for()
        return page

    def take(self) -> None:
        """Both pictures.

        Raises:
            RuntimeError: one is too large to be kept.
        """
        next(iter(self._pages.values())).wait_for_timeout(2500 + self._shot.wait)
        for scheme, page in self._pages.items():
            if self._shot.top:
                page.locator(self._shot.top).first.evaluate(UP)
                page.wait_for_timeout(500)
            path = FOLDER / f"{self._shot.name}-{scheme}.webp"
            path.write_bytes(_webp(page))
            page.context.close()
            size = path.stat().st_size
            print(f"{path.relative_to(ROOT)}: {size:,} bytes")  # noqa: T201
            if size > MOST:
                raise RuntimeError(f"{path.name} is too large")


def _webp(page: Page) -> bytes:
    session = page.context.new_cdp_session(page)
    options = {"format": "webp", "quality": QUALITY}
    return base64.b64decode(session.send("Page.captureScreenshot", options)["data"])


def _elsewhere(route: Route) -> None:
    """Answer as a machine would whose folders are the usual ones."""
    response = route.fetch()
    body = response.text().replace(str(Path(os.__file__).parent), "/usr/lib/python3")
    body = re.sub(re.escape(tempfile.gettempdir()) + r"/\w+", "/srv/shop", body)
    route.fulfill(response=response, body=body.replace(socket.gethostname(), "shop-1"))


def _job(browser: Browser, url: str) -> str:
    """The id of the job that has a page of its own."""
    page = browser.new_page()
    query = "task=import_orders&status=running"
    found: dict[str, Any] = page.request.get(f"{url}/jobs?{query}").json()
    page.close()
    return str(found["jobs"][0]["id"])


def main() -> None:
    """Make all pictures."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("Chromium is not there (Debian: apt install chromium)")
    FOLDER.mkdir(exist_ok=True)
    with Server() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        now = View(browser, server.url, NOW)
        server.until(SET)
        now.take()
        for shot in shots(_job(browser, server.url)):
            View(browser, server.url, shot).take()
        browser.close()


if __name__ == "__main__":
    main()
