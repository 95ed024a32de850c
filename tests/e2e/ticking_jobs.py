"""A task that starts by itself."""

from __future__ import annotations

import os

from quart_app import task


@task(every=1)
async def tick() -> int:
    """Where it ran."""
    return os.getpid()
