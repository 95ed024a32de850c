"""A server with an hour behind it: python -m scripts.rehearse PORT, where there is a `shop.py`.

The jobs' clock begins an hour ago and is moved on between jobs that really run, so that there is a
history to be seen; then it shows the wall's time, and after a minute some jobs run, wait and are
retried.
Nothing may live here that looks at what the dashboard makes of it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from quart_app import create_app
from quart_app.app import get_jobs
from quart_app.domain.tasks import Catalog
from quart_app.parts import Parts
from quart_app.settings import Settings
from tests.servers import listens

HOUR = 3600.0
BEGUN, SET = "an hour is over", "all is set"
"""What is said when the clock shows the wall's time, and a minute later."""
LUCK = random.Random(20)  # noqa: S311 - which jobs there were
PEOPLE = ("ann", "bela", "chen", "dana", "emil", "fatou", "gita", "hugo")
SHELVES = ("history", "science", "travel", "cooking", "poetry", "maps")
ALBUMS = ("spring", "harbour", "mountains", "market")


class Clock:
    """The wall's time, less what it is behind."""

    behind = HOUR

    def __call__(self) -> float:
        return time.time() - self.behind


class Rehearsal:
    """What happened in the hour, and what goes on.

    Args:
        shop: the module of tasks.
        clock: what the jobs go by.
    """

    def __init__(self, shop: Any, clock: Clock) -> None:
        self._shop = shop
        self._clock = clock
        self._order = 1030

    def _charge(self, more: float = 0.0) -> Any:
        self._order += 1
        amount = round(9 + 90 * LUCK.random() + more, 2)
        return self._shop.charge.start(order=self._order, amount=amount, card="4000 0000 0000 0002")

    def _mail(self) -> Any:
        person = LUCK.choice(PEOPLE)
        template = LUCK.choice(("welcome", "invoice", "shipped"))
        return self._shop.send_mail.start(to=f"{person}@example.com", template=template)

    def _any(self) -> Any:
        """A job such as there are many."""
        kinds: list[tuple[int, Callable[[], Any]]] = [
            (9, self._charge),
            (7, self._mail),
            (2, lambda: self._shop.report.start(month=LUCK.randint(1, 12))),
            (2, lambda: self._shop.resize_photos.start(album=LUCK.choice(ALBUMS))),
            (3, lambda: self._shop.reindex.start(shelf=LUCK.choice(SHELVES))),
        ]
        [make] = LUCK.choices([make for _, make in kinds], [weight for weight, _ in kinds])
        return make()

    async def run(self) -> None:
        """The hour, a minute after the other."""
        for place, moment in enumerate(range(3540, 30, -65)):
            self._clock.behind = moment
            many = 1 + place % 5 + LUCK.randint(0, 3)
            handles = [await self._any() for _ in range(many)]
            if place % 11 == 4:
                await self._shop.send_mail.start(to=f"{LUCK.choice(PEOPLE)}@old.example")
            await asyncio.gather(*(each.result(60) for each in handles), return_exceptions=True)
        self._clock.behind = 0.0

    async def go_on(self) -> None:
        """A minute as it is, with jobs of each status at its end."""
        shop = self._shop
        await shop.import_orders.start(shop="north", pages=20)
        await shop.reindex.start(shelf="biography", books=140)
        await shop.resize_photos.start(album="wedding", photos=80)
        for number in range(4):
            await shop.pack.start(order=self._order - number)
            await asyncio.sleep(9)
        later = datetime.now(UTC) + timedelta(hours=2)
        await shop.report.options(run_at=later).start(month=11, kind="csv")
        await shop.send_mail.start(to="ivo@old.example", template="invoice")
        await shop.resize_photos.start(album="archive", photos=60)
        await asyncio.sleep(14)
        await self._charge(more=2000)
        await self._charge()
        await shop.resize_photos.start(album="winter", photos=80)


async def main(port: int) -> None:
    """Serve until the process is ended."""
    logging.basicConfig(level=logging.INFO)  # So that what the tasks say is in their logs.
    sys.path.insert(0, ".")
    clock = Clock()
    app = create_app()
    jobs = get_jobs(app)

    def parts(settings: Settings, catalog: Catalog) -> Parts:
        return Parts(settings, catalog, clock=clock)

    jobs.make_parts = parts
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    serving = asyncio.create_task(serve(app, config))
    while not listens(port):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)
    rehearsal = Rehearsal(import_module("shop"), clock)
    await rehearsal.run()
    print(BEGUN, flush=True)  # noqa: T201
    await rehearsal.go_on()
    print(SET, flush=True)  # noqa: T201
    await serving


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
