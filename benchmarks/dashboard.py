"""The dashboard: how it moves in Chromium while jobs do, and what serving it costs the starts.

**Moving.** A page is open in a real Chromium, on a server that keeps 5,000 jobs, while a hundred
events a second arrive: seven jobs tell their progress, and ten a second begin and end. Frames are
those that the browser asks the page for; the heap is what is used after a collection.

**Serving.** Twenty visible tabs of one browser share one stream, and each asks for what it shows.
A Chromium with twenty tabs takes more than one processor for itself, which says nothing about the
server where both are on one machine with two. So the tabs are opened once while the starts go on,
and each request of theirs is written down; then a light process asks the same at the same moments,
over as many connections as a browser has, and reads the stream, in turn with nobody. Beside the
starts a second stands what the server itself has worked for each (user and system time of its
process), also for the time when Chromium was there: that is too high for the dashboard, since tabs
ask by the clock, and starts are fewer where Chromium takes the processor. Hidden tabs ask nothing,
so these are twenty windows side by side; twenty browsers, with a stream each, stand there as well.

Nothing may live here that opens or draws a page of its own: what is measured is what is shipped.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from playwright.sync_api import Browser, Page, Request, sync_playwright

from benchmarks.figures import Row, Section, Target, in_turn, row
from benchmarks.load import Call, Connection, requests_per_second
from benchmarks.processes import Server
from benchmarks.tabs import Asked, Plan, Tabs

JOBS = 5_000
MOVING = 7
PAUSE = 0.1
"""Seconds between two versions of a moving job."""
STARTS = 10
"""No-op jobs a second; each has three versions."""
EVENTS = 90
"""Events a second that must have come, or else nothing was measured."""
SETTLED = 2.0
FRAMES = 12.0
EARLY, LATER = 45.0, 60.0
"""Seconds until the heap is looked at, and from then until it is looked at again. In the first
seconds it grows by what is compiled, whatever is shown."""
LOOKS = 3
"""At a heap, of which the least counts: some of what comes ten times a second is always there."""

TABS = 20
CONNECTIONS = 6
"""Of a browser to one host over HTTP/1.1, its stream among them."""
PAGES = ("now", "jobs", "errors", "tasks", "schedules", "system")
KEPT = 12_000
ROUNDS = 6
SECONDS = 2

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
START = Call("POST", "/start/noop", 202, b"{}")
COUNT = """(seconds) => new Promise((resolve) => {
  const frames = [];
  const frame = (at) => {
    frames.push(at);
    if (at - frames[0] < 1000 * seconds) requestAnimationFrame(frame);
    else resolve(frames);
  };
  requestAnimationFrame(frame);
})"""
Figures = dict[str, list[float]]


class Observed(Server):
    """A server whose own work can be read."""

    def __enter__(self) -> Observed:
        super().__enter__()
        return self

    def worked(self) -> float:
        """Seconds of processor time until now, of all its threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window.

    Raises:
        RuntimeError: it is not there.
    """
    path = shutil.which("chromium")
    if path is None:
        raise RuntimeError("Chromium is not there (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def moving(port: int) -> Iterator[None]:
    """Jobs move and are started, as long as the ``with`` lasts."""
    done = threading.Event()

    def starts() -> None:
        due = time.monotonic()
        with Connection(port) as connection:
            while not done.wait(max(0.0, due - time.monotonic())):
                connection.ask(START)
                due += 1 / STARTS

    body = b'{"pause": %f}' % PAUSE
    with Connection(port) as connection:
        for _ in range(MOVING):
            connection.ask(Call("POST", "/start/moves", 202, body))
    thread = threading.Thread(target=starts)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def arriving(port: int, seconds: float = 3.0) -> float:
    """Events a second, as a reader of the stream of all jobs counts them.

    Raises:
        RuntimeError: they are too few for what this benchmark says.
    """
    with Tabs(port, Plan(streams=1, connections=0, asked=[])) as tabs:
        time.sleep(seconds)
    rate = tabs.answered.events / seconds
    if rate < EVENTS:
        raise RuntimeError(f"only {rate:.0f} events a second have arrived")
    return rate


def opened(browser: Browser, port: int, name: str) -> Page:
    """A page of the dashboard in a browser of its own, when it is live."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(f"http://127.0.0.1:{port}/#/{name}")
    page.get_by_text("live", exact=True).wait_for()
    return page


def per_second(frames: list[float]) -> tuple[float, float]:
    """Frames a second over all, and in the worst second, of their moments in milliseconds.

    >>> per_second([0.0, 500.0, 1000.0, 1500.0, 2500.0, 3500.0])
    (1.4285714285714286, 1.0)
    """
    begins = [at for at in frames if at + 1000 <= frames[-1]]
    worst = min(sum(begin < at <= begin + 1000 for at in frames) for begin in begins)
    return 1000 * (len(frames) - 1) / (frames[-1] - frames[0]), float(worst)


def heap(page: Page) -> float:
    """Megabytes that are used when all that nobody needs is gone."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    sizes: list[float] = []
    for _ in range(LOOKS):
        for _ in range(2):  # What only a finalizer held is gone with the second.
            session.send("HeapProfiler.collectGarbage")
        metrics: list[dict[str, Any]] = session.send("Performance.getMetrics")["metrics"]
        sizes.append(next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize"))
        page.wait_for_timeout(500)
    session.detach()
    return min(sizes) / 1e6


def framed(page: Page) -> tuple[float, float]:
    """Frames a second of a page that was just opened, and in its worst second."""
    page.wait_for_timeout(1000 * SETTLED)
    return per_second(page.evaluate(COUNT, FRAMES))


def drawing(browser: Browser) -> list[Row]:
    """The rows of both pages. The heaps are looked at together, while both go on."""
    rows: list[Row] = []
    pages: dict[str, Page] = {}
    smooth = Target(least=30, of_figure=True)
    with Observed("shown") as server:
        server.fill("noop", JOBS)
        with moving(server.port):
            rows.append(row("events that arrive", "1/s", [arriving(server.port)]))
            for name in ("jobs", "now"):
                page = pages[name] = opened(browser, server.port, name)
                frames, worst = framed(page)
                what = f"{name.capitalize()}, {JOBS:,} jobs"
                rows.append(row(what, "frames/s", [frames], target=smooth))
                rows.append(row(f"{what}, its worst second", "frames/s", [worst]))
            page.wait_for_timeout(1000 * max(0.0, EARLY - FRAMES - SETTLED))
            early = {name: heap(page) for name, page in pages.items()}
            page.wait_for_timeout(1000 * LATER)
            for name, page in pages.items():
                what = f"{name.capitalize()}, heap after {LATER:.0f} s more"
                late, peers = [heap(page)], [early[name]]
                rows.append(row(what, "MB", late, f"after {EARLY:.0f} s", peers, Target(most=1.1)))
                page.context.close()
    return rows


def recorded(browser: Browser, server: Observed) -> tuple[list[Asked], str, float]:
    """What the tabs ask while starts go on, the path of their stream, and the server's own
    microseconds for a start."""
    asked: list[Asked] = []
    streams: set[str] = set()
    begun = float("inf")

    def note(request: Request) -> None:
        at, path = time.monotonic() - begun, request.url.partition(f":{server.port}")[2]
        if path.partition("?")[0] == "/events":
            streams.add(path)
        elif at >= 0:
            asked.append(Asked(at, path, request.headers))

    context = browser.new_context()
    context.on("request", note)
    for place in range(TABS):
        tab = context.new_page()
        tab.goto(f"http://127.0.0.1:{server.port}/#/{PAGES[place % len(PAGES)]}")
        tab.get_by_text("live", exact=True).wait_for()
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(started, server, ROUNDS * SECONDS)
        while not load.done():
            tab.wait_for_timeout(100)  # Requests are told only while the browser is waited for.
    context.close()
    [stream] = streams  # One and the same, whichever tab reads it for all.
    return asked, stream, load.result()[1]


def started(server: Observed, seconds: int) -> tuple[float, float]:
    """Starts a second, and the server's own microseconds for one."""
    before = server.worked()
    rate = requests_per_second(server.port, START, seconds)
    return rate, 1e6 * (server.worked() - before) / (rate * seconds)


def _part(asked: Sequence[Asked], number: int) -> list[Asked]:
    """What was asked in a round's share of the time."""
    begin = number * SECONDS
    part = [each for each in asked if begin <= each.at < begin + SECONDS]
    return [replace(each, at=each.at - begin) for each in part]


def serving(asked: Sequence[Asked], path: str, server: Observed) -> Figures:
    """Starts a second and the server's own microseconds for one, without tabs, with those of one
    browser, and with as many browsers, each with a stream of its own.

    Args:
        asked: by the tabs.
        path: of their stream.
        server: that is asked.

    Raises:
        RuntimeError: what the tabs ask was not answered.
    """
    figures: Figures = defaultdict(list)
    streams = {"none": 0, "tabs": 1, "browsers": TABS}
    numbers = dict.fromkeys(streams, 0)
    for name in in_turn(list(streams), ROUNDS):
        part = _part(asked, numbers[name]) if streams[name] else []
        numbers[name] += 1
        tabs = Tabs(server.port, Plan(streams[name], CONNECTIONS - 1, part, path))
        with tabs:
            rate, own = started(server, SECONDS)
        if streams[name] and (tabs.answered.answers < len(part) / 2 or not tabs.answered.events):
            raise RuntimeError(f"too little of {len(part)} requests was answered: {tabs.answered}")
        figures[name].append(rate)
        figures[f"{name}, own"].append(own)
    return figures


def costs(browser: Browser) -> tuple[list[Row], str]:
    """The rows of what serving costs, and what the tabs have asked."""
    with Observed("ours") as server:
        server.fill("noop", KEPT)
        asked, path, real = recorded(browser, server)
        found = serving(asked, path, server)
    what = f"POST /start/noop, {TABS} tabs"
    none, own = found["none"], found["none, own"]
    rows = [
        row(what, "requests/s", found["tabs"], "no tab", none, Target(least=0.9)),
        row(f"{what}, the server's own time", "us", found["tabs, own"], "no tab", own),
        row(f"{what} in Chromium here, the same", "us", [real] * ROUNDS, "no tab", own),
        row(f"POST /start/noop, {TABS} browsers", "requests/s", found["browsers"], "no tab", none),
    ]
    paths = Counter(each.path.partition("?")[0] for each in asked).most_common()
    often = ", ".join(f"{path} {count / ROUNDS / SECONDS:.1f}" for path, count in paths)
    return rows, f"The tabs read one stream and asked, a second: {often}."


def run() -> Section:
    """All of it."""
    with chromium() as browser:
        drawn = drawing(browser)
        cost, asked = costs(browser)
    title = "The dashboard: how it moves, and what it costs to serve"
    return Section(name="dashboard", title=title, rows=[*drawn, *cost], notes=[asked])
