"""The page of /docs in a real browser, under its own strict policy."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Servers
from tests.servers import needs

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CHROMIUM = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--virtual-time-budget=8000",
]  # fmt: skip


def test_docs_shows_an_operation_for_each_task_and_loads_nothing_from_elsewhere(
    servers: Servers, tmp_path: Path
) -> None:
    """Chromium shows a form for each task, and no violation of the page's policy."""
    chromium = shutil.which("chromium")
    needs(chromium, "Debian's chromium")
    assert chromium is not None
    server = servers("serve", tasks="quart_app.demo")
    page, log = tmp_path / "page", tmp_path / "log"
    address = server.url + "/docs"
    command = [chromium, *CHROMIUM, f"--user-data-dir={tmp_path}", "--dump-dom", address]
    with page.open("w") as stdout, log.open("w") as stderr:
        # Files and not pipes: a process of its own that is left over would hold a pipe open.
        browser = subprocess.Popen(command, stdout=stdout, stderr=stderr, start_new_session=True)
        try:
            assert browser.wait(120) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(browser.pid, signal.SIGKILL)
            browser.wait(10)
    for task in server.get("/tasks").json()["tasks"]:
        assert f'data-path="/start/{task["name"]}"' in page.read_text()
    console = [line for line in log.read_text().splitlines() if "CONSOLE" in line]
    assert console == []
