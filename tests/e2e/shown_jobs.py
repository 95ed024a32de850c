"""Tasks that a page shows: one that says what it is told, and one that moves."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from quart_app import Context, task


@task
async def says(note: str = "") -> str:
    """Say something, and return it."""
    logging.getLogger("shown").warning("%s", note)
    return note


@task
async def moves(job: Context, gate: str = "") -> int:
    """Report five steps, and go on when there is a file at the gate."""
    for step in range(5):
        job.progress(step, 5, f"step {step}")
        await asyncio.sleep(0.01)
    while gate and not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 - of another process
        await asyncio.sleep(0.02)
    return 5
