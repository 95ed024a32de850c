"""What the tests of the demo's tasks share: a watched job, and jobs over HTTP to their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quart_app import Context
from quart_app.domain.jobs import Progress
from tests.http.support import Api


class Watched:
    """The context of a job that nobody runs, and what was reported through it.

    Args:
        stopping: is asked whether the job should stop.
    """

    def __init__(self, stopping: Callable[[], bool] = lambda: False) -> None:
        self.reports: list[Progress] = []
        self.context = Context("a", 1, stopping=stopping, report=self.reports.append)


async def run(api: Api, name: str, /, **args: Any) -> dict[str, Any]:
    """Start a task and wait for its end; the job's document."""
    document = await api.start(name, args)
    while document["finished"] is None:
        document = await api.job(document["id"], wait=10)
    return document


async def failure(api: Api, name: str, /, **args: Any) -> tuple[str, str]:
    """Start a task that fails; the error's code and message."""
    document = await run(api, name, **args)
    assert document["status"] == "failed", document
    return document["error"]["code"], document["error"]["message"]
