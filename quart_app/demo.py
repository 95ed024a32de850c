"""Real tasks to start with."""

import asyncio

from quart_app.core.start import task


@task
async def long_task() -> str:
    """The tutorial's task: five seconds of waiting."""
    await asyncio.sleep(5)
    return "done"
