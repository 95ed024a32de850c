"""The SQL of the store: one verb a file, read once. Only reading may live here."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files


@functools.cache
def sql(verb: str) -> str:
    """The text of a verb.

    >>> sql("forget_worker").strip()
    'DELETE FROM workers WHERE id = $1;'
    """
    return (files("quart_app.stores.postgres") / "sql" / f"{verb}.sql").read_text("utf-8")


async def load() -> None:
    """Read all of them, in a thread: nothing on the event loop waits for a disk."""

    def read() -> None:
        for file in (files("quart_app.stores.postgres") / "sql").iterdir():
            sql(file.name.removesuffix(".sql"))

    pool = ThreadPoolExecutor(1, "quart-app-store-sql")
    try:
        await asyncio.get_running_loop().run_in_executor(pool, read)
    finally:
        pool.shutdown(wait=False)
