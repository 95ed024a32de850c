"""Tasks that do to the loop what tasks should not."""

from __future__ import annotations

import time

from quart_app import Context, task
from tests.e2e.durable_jobs import once, thrice, trace

__all__ = ["blocks", "once", "thrice"]


@task(max_attempts=3)
async def blocks(job: Context, traces: str, number: int = 0, seconds: float = 0) -> int:
    """Block the event loop so long."""
    trace(traces, "before", job, number)
    time.sleep(seconds)  # noqa: ASYNC251 - that is what this task is for
    trace(traces, "after", job, number)
    return number
