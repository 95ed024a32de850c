"""A long import that goes on where it was cut: ``QUART_APP_TASKS=examples.import_orders make run``.

Each page is one step. Kill the server in the middle and start it again: pages that are done are not
fetched again.
"""

from __future__ import annotations

import asyncio

from quart_app import Context, Fail, Retry, RetryAfter, task

PAGES = 10


@task(max_attempts=5, retry=Retry(initial=1, factor=2, maximum=60, on=(OSError, TimeoutError)))
async def import_orders(job: Context, shop: str, pages: int = PAGES) -> int:
    """Import the orders of a shop, page by page."""
    if not shop.isidentifier():
        raise Fail(f"{shop!r} is no shop: trying again would not help")
    orders = 0
    for number in range(pages):
        rows = await job.step(f"page {number}", fetch, shop, number)
        orders += len(rows)
        job.progress(number + 1, pages, f"page {number + 1} of {pages}")
    return orders


async def fetch(shop: str, number: int) -> list[str]:
    """One page; a real one would ask the shop, and raise RetryAfter when that says so."""
    await asyncio.sleep(0.3)
    if shop == "busy":
        raise RetryAfter(30, "the shop asks for half a minute")
    return [f"{shop}-{number}-{row}" for row in range(3)]
