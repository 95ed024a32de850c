"""What a server writes to its standard error: words of others forge no line of it, and command no
terminal that shows it."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Server, Servers, poll
from tests.hostile import PAYLOADS, commands

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FORGED = "2026-11-22 15:53:41,414 CRITICAL quart_app forged"


@pytest.fixture
def told(servers: Servers) -> Server:
    """A server whose jobs have said every payload, and failed with it."""
    server = servers("serve", tasks="tests.e2e.hostile_jobs")
    texts = [*PAYLOADS, f"x\n{FORGED}", f"x\r{FORGED}", f"x\u2028{FORGED}"]
    for text in texts:
        server.start("tells", text=text, fails=True)
    poll(lambda: server.counts()["failed"] == len(texts), "all have failed")
    poll(lambda: sum("failed: " in line for line in server.log) >= len(texts), "all is written")
    return server


def test_the_log_has_no_command(told: Server) -> None:
    """Neither for a terminal nor for who reads it there."""
    wrong = {line: found for line in told.log if (found := commands(line.replace("\t", "")))}
    assert wrong == {}


def test_no_line_of_the_log_is_forged(told: Server) -> None:
    """A line that begins as ours do is ours."""
    assert [line for line in told.log if line.startswith(FORGED)] == []
