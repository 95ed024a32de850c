"""Tasks that a page shows: one that says what it is told, and one that moves."""

from __future__ import annotations

import asyncio
import logging

from quart_app import Context, task


@task
async def says(note: str = "") -> str:
    """Say something, and return it."""
    logging.getLogger("shown").warning("%s", note)
    return note


@task
async def moves(job: Context) -> int:
    """Report five steps."""
    for step in range(5):
        job.progress(step, 5, f"step {step}")
        await asyncio.sleep(0.2)
    return 5
