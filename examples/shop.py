"""A Quart app that was there before, and its background jobs.

Run it with ``hypercorn --config hypercorn.toml examples/shop:app`` and try::

    curl -i -X POST localhost:8000/reports/3
    curl localhost:8000/background/jobs

Its own routes are as they were; those of the jobs are below ``/background``.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from msgspec import Meta
from quart import Quart

from quart_app import Context, Jobs

app = Quart(__name__)
jobs = Jobs(app, url_prefix="/background")

DAYS = 30


@jobs.task
async def report(job: Context, month: Annotated[int, Meta(ge=1, le=12)]) -> str:
    """The sales of one month, day by day."""
    for day in range(DAYS):
        await asyncio.sleep(0.1)  # Your own work.
        job.progress(day + 1, DAYS, f"day {day + 1}")
    return f"report of month {month}"


@app.get("/")
async def home() -> str:
    """A page of the shop."""
    return "The shop is open."


@app.post("/reports/<int(min=1, max=12):month>")
async def order_report(month: int) -> tuple[dict[str, str], int]:
    """Start a report and answer at once."""
    handle = await report.start(month=month)
    return {"job": handle.id, "status": f"/background/jobs/{handle.id}"}, 202
