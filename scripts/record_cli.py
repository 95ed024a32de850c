"""Records a session of the command line for the documentation: python -m scripts.record_cli

It serves three tasks on loopback, types commands into a terminal of 100 x 24, and writes
docs/cli-session.cast (asciinema, version 2) and docs/cli-session.txt (the same without motion). Ids
and the port are replaced by fixed ones, so that a new recording differs in times only.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.cli.terminals import SEQUENCE, Terminal
from tests.servers import free_port

ROOT = Path(__file__).parents[1]
COLUMNS, ROWS = 100, 24
TYPED = 0.05
"""Seconds for each character."""
READ = 1.2
"""Seconds to read what a command has printed."""
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TASKS = '''
import asyncio
from quart_app import Context, task

@task
async def report(month: int, year: int = 2026) -> dict[str, int]:
    """Add up the orders of a month."""
    await asyncio.sleep(0.5)
    return {"month": month, "orders": 30 * month}

@task
async def reindex(job: Context, shelves: int = 40) -> int:
    """Index every book anew, shelf by shelf."""
    async for shelf in job.track(range(shelves), message="shelf {n} of {total}"):
        print(f"shelf {shelf + 1} is done")
        await asyncio.sleep(0.08)
    return shelves

@task
async def send(address: str) -> None:
    """Send a letter."""
    raise ConnectionError(f"no mail server for {address}")
'''
SESSION: list[tuple[str, list[tuple[float, str]]]] = [
    # a command, and keys that are pressed in it: after so many seconds
    ("tasks", []),
    ("start report month=three", []),
    ("start report month=3 --wait", []),
    ("start reindex --watch", []),
    ("start send address=ann@example.com --wait", []),
    ("list status:failed", []),
    ("errors", []),
    ("retry --match status:failed --dry-run", []),
    ("start reindex shelves=120", []),
    ("top", [(2.5, "\r"), (2.5, "q"), (1.0, "c"), (1.0, "y"), (2.5, "q")]),
    ("list --limit 3 --json", []),
]


class Cast:
    """What is seen, with the seconds at which it is."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str]] = []
        self.now = 0.0

    def show(self, text: str) -> None:
        """A text, now."""
        self.events.append((round(self.now, 3), text))

    def type(self, text: str) -> None:
        """A command, letter by letter."""
        self.show("\x1b[32m$\x1b[0m ")
        for each in text:
            self.now += TYPED
            self.show(each)
        self.now += 4 * TYPED
        self.show("\r\n")


def record(cast: Cast, words: str, keys: list[tuple[float, str]], url: str) -> str:
    """Run a command in a terminal; what it has printed at last."""
    cast.type(f"quart-app {words}")
    environ = {"QUART_APP_URL": url, "PYTHONPATH": str(ROOT)}
    shown = Terminal(words.split(), COLUMNS, ROWS, **environ)
    before, first = time.monotonic(), True
    pending = list(keys)
    due = time.monotonic() + (pending[0][0] if pending else 0)
    seen = ""
    while True:
        ended = shown.process.poll() is not None
        shown.read(0.05)
        passed, before = time.monotonic() - before, time.monotonic()
        # Not how long the interpreter took to start.
        cast.now += min(passed, 0.1) if first else passed
        if shown.output:
            first = False
            cast.show(shown.output)
            seen += shown.output
            shown.output = ""
        elif ended:
            break
        if pending and time.monotonic() > due and not first:
            shown.type(pending.pop(0)[1])
            due = time.monotonic() + (pending[0][0] if pending else 0)
    shown.close()
    cast.now += READ
    return seen


def still(seen: str) -> str:
    """What stands on the screen at last: the last whole frame of a full screen, else the last
    drawing of each bar."""
    frames = [part for part in seen.split("\x1b[H") if "\x1b[J" in part]
    if "\x1b[?1049h" in seen and frames:
        seen = max(frames, key=lambda part: len(SEQUENCE.sub("", part).strip()))
    lines: list[str] = []
    for line in re.split("\r*\n", seen):
        if up := re.search(r"\x1b\[(\d+)F", line):
            del lines[-int(up[1]) :]
        lines.append(SEQUENCE.sub("", line).strip("\r").rstrip())
    return "\n".join(lines).strip("\n")


class Fixed:
    """Replaces what differs from one recording to the next by what is the same in each."""

    def __init__(self, port: int, folder: str) -> None:
        self._port = str(port)
        self._paths = {folder: "/srv/shop", str(Path(os.__file__).parent): "/usr/lib/python3"}
        self._ids: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        """The text as it would be in every recording."""
        text = text.replace(self._port, "8000")
        for path, other in self._paths.items():
            text = text.replace(path, other)
        text = UUID.sub(lambda found: self._id(found[0]), text)
        for found, number in self._ids.items():  # Bars show the end of an id.
            text = text.replace(found[-8:], number)
        return text

    def _id(self, found: str) -> str:
        number = self._ids.setdefault(found, f"{len(self._ids) + 1:08x}")
        return f"01a20f4e-0000-7000-8000-0000{number}"


def main() -> None:
    """Record all, and write both files."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    cast, transcript = Cast(), ""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "shop.py").write_text(TASKS)
        environ = {"QUART_APP_TASKS": "shop", "QUART_APP_STORE": "memory", "PYTHONPATH": str(ROOT)}
        server = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "quart_app", "serve", "--bind", f"127.0.0.1:{port}"],
            cwd=folder, env={**os.environ, **environ}, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            while "Running on" not in (server.stderr.readline() if server.stderr else ""):
                if server.poll() is not None:
                    raise RuntimeError("the server does not start")
            for words, keys in SESSION:
                seen = record(cast, words, keys, url)
                transcript += f"$ quart-app {words}\n{still(seen)}\n\n"
        finally:
            server.terminate()
            server.wait(60)
    fixed = Fixed(port, folder)
    head = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "quart-app"}
    events = [json.dumps([at, "o", fixed(text)]) for at, text in cast.events]
    body = "\n".join([json.dumps(head), *events]) + "\n"
    (ROOT / "docs" / "cli-session.cast").write_text(body)
    (ROOT / "docs" / "cli-session.txt").write_text(fixed(transcript))


if __name__ == "__main__":
    main()
