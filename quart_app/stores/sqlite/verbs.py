"""The SQL of the store: one verb a file, read once. Only reading may live here."""

from __future__ import annotations

import functools
from importlib.resources import files


@functools.cache
def sql(verb: str) -> str:
    """The text of a verb.

    >>> sql("forget").strip()
    'DELETE FROM jobs WHERE place = ?;'
    """
    return (files("quart_app.stores.sqlite") / "sql" / f"{verb}.sql").read_text("utf-8")
