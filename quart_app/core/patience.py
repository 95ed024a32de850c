"""Trying again until the store answers, for what must not be lost because it does not.

How a job has ended is known only here once its function has: it is kept until it can be written.
Nothing may live here that decides what is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from quart_app.domain.errors import StoreClosed, StoreUnavailable

logger = logging.getLogger("quart_app.jobs")

T = TypeVar("T")

FIRST, LONGEST = 0.05, 1.0
"""Seconds before the second try, and at most between two."""


async def until_written(write: Callable[[], Awaitable[T]], what: str) -> T:
    """Make a write until the store takes it.

    Args:
        write: makes it; fenced, so that a second time does no harm.
        what: for the log, e.g. "the end of job x".

    Raises:
        StoreClosed: nobody will take it any more.
    """
    wait = FIRST
    while True:
        try:
            return await write()
        except StoreClosed:
            raise
        except StoreUnavailable as error:
            if wait == FIRST:
                logger.warning("%s cannot be written, and is tried again: %s", what, error)
        await asyncio.sleep(wait)
        wait = min(2 * wait, LONGEST)
