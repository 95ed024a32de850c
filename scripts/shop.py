"""The tasks of a shop that does not exist, for the pictures of the dashboard.

They wait instead of working, and fail as real ones do. Nothing may live here that knows of pictures
or of the clock: it is copied to where the server of `scripts.screenshots` runs.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from datetime import timedelta
from typing import Annotated, Literal

from msgspec import Meta

from quart_app import Context, Retry, Secret, task

logger = logging.getLogger("shop")
LUCK = random.Random(7)  # noqa: S311 - how long a pause is
Template = Literal["welcome", "invoice", "shipped"]
Month = Annotated[int, Meta(ge=1, le=12, description="1 is January")]


class NoAnswer(ConnectionError):
    """Somebody does not answer."""


class NotAPhoto(Exception):
    """It ends in .jpg, and is something else."""


class CardDeclined(Exception):
    """The bank says no."""


async def answer(seconds: float) -> None:
    """What takes time elsewhere."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_later(seconds, done.set_result, None)
    await done


@task(tags=["finance"], timeout=600)
async def report(
    job: Context, month: Month, year: int = 2026, kind: Literal["pdf", "csv"] = "pdf"
) -> dict[str, int | str]:
    """Add up the orders of a month, day by day."""
    for day in range(1, 31):
        await answer(0.01 + 0.02 * LUCK.random())
        job.progress(day, 30, f"day {day} of 30")
    orders = 1211 + 37 * month
    return {"month": month, "year": year, "orders": orders, "file": f"{year}-{month:02}.{kind}"}


@task(
    tags=["warehouse"], max_attempts=5,
    retry=Retry(initial=2, factor=2, maximum=60, on=(OSError, TimeoutError)),
)  # fmt: skip
async def import_orders(job: Context, shop: str, pages: int = 12) -> int:
    """Import the orders of a shop, page by page. What is done is not done again."""
    logger.info("orders of %s, %d pages", shop, pages)
    orders = 0
    for number in range(1, pages + 1):
        orders += await job.step(f"page {number}", fetch, shop, number)
        if number % 3 == 0:
            await job.start(label_parcels, orders=[1000 + number, 1001 + number])
        if number == 5 and job.attempt == 1:
            logger.warning("%s.example.com answers slowly", shop)
            raise NoAnswer(f"{shop}.example.com did not answer within 10 s")
        job.progress(number, pages, f"page {number} of {pages}")
    return orders


async def fetch(shop: str, number: int) -> int:
    """A page of orders."""
    await answer(2.4 if number < 8 else 12)
    found = 40 + number % 3
    logger.info("page %d: %d orders", number, found)
    return found


@task(tags=["warehouse"])
async def label_parcels(orders: list[int]) -> int:
    """Print the labels of some parcels."""
    for number in orders:
        logger.info("label of order %d", number)
        await answer(0.15)
    return len(orders)


@task(tags=["finance"])
async def charge(order: int, amount: float, card: Secret) -> str:
    """Charge the customer's card."""
    await answer(0.03 + 0.09 * LUCK.random())
    if LUCK.random() < 0.14:
        logger.error("order %d: declined", order)
        raise CardDeclined(
            f"card ending in {order * 37 % 10_000:04} was declined for order {order}"
        )
    return f"charge-{order}"


@task(tags=["mail"], max_attempts=3, retry=Retry(initial=240, factor=3, jitter=0, on=(OSError,)))
async def send_mail(
    to: str, template: Literal["welcome", "invoice", "shipped"] = "welcome"
) -> None:
    """Send a letter."""
    await answer(0.02 + 0.05 * LUCK.random())
    if to.endswith("@old.example"):
        raise NoAnswer(f"no mail server of {to.partition('@')[2]} answers")


@task(tags=["images"], limit=2)
def resize_photos(job: Context, album: str, photos: int = 24) -> int:
    """Make the small pictures of an album, in a thread."""
    for _ in job.track(range(photos), message="photo {n} of {total}"):
        time.sleep(0.02 if photos <= 24 else 3)
    if LUCK.random() < 0.3:
        raise NotAPhoto(f"photo {LUCK.randint(1, photos)} of {album!r} is not a JPEG file")
    return photos


@task(tags=["warehouse"])
async def pack(job: Context, order: int) -> str:
    """Wait until a parcel is packed."""
    whole = 3 + 14 * LUCK.random()
    for part in range(4):
        job.progress(part, 4, ("picked", "checked", "wrapped", "closed")[part])
        await answer(whole / 4)
    return f"parcel-{order}"


@task(tags=["search"], limit_key="{shelf}", limit=1)
async def reindex(job: Context, shelf: str, books: int = 60) -> int:
    """Index every book of a shelf anew."""
    async for book in job.track(range(books), message="book {n} of {total}"):
        if book % 20 == 0:
            logger.info("%s: %d books are done", shelf, book)
        await answer(0.012 if books <= 100 else 2)
    return books


@task(cron="30 3 * * *", timezone="Europe/Berlin", missed="once", timeout=3600)
async def backup() -> str:
    """Copy the database to the other house."""
    await answer(0.8)
    return "shop-2026-11-29.tar.zst"


@task(every=timedelta(minutes=15), unique=True)
async def clean_up(days: int = 30) -> int:
    """Forget baskets that nobody came back for."""
    await answer(0.2)
    return 17 + days


@task(cron="0 8 * * MON-FRI", timezone="Europe/Berlin", tags=["mail"])
async def digest() -> int:
    """What happened yesterday, for the owners."""
    await answer(0.2)
    return 4
