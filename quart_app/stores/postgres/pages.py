"""A page of a list as one query. Only putting it together may live here."""

from __future__ import annotations

from typing import Any

from quart_app.domain.queries import Query
from quart_app.domain.status import Status
from quart_app.stores.postgres.rows import escaped, short
from quart_app.stores.postgres.verbs import sql


def page_query(query: Query, before: int | None, size: int) -> tuple[str, list[Any]]:
    """The statement of a page and its values.

    Rows of each status are in their order in the index, and are put together here.

    Args:
        query: what to look for, except its text.
        before: the cursor.
        size: rows at most.
    """
    values: list[Any] = [size]
    place, source = "j.place", "jobs AS j"
    filters: list[str] = []

    def where(condition: str, value: Any) -> None:
        values.append(value)
        filters.append(condition.replace("?", f"${len(values)}"))

    if query.tag is not None:
        place, source = "t.place", "tags AS t JOIN jobs AS j ON j.place = t.place AND j.place > 0"
        where("t.tag = ?", short(query.tag))
    else:
        filters.append("j.place > 0")
    if before is not None:
        where(f"{place} < ?", before)
    if query.task is not None:
        where("j.task = ?", escaped(query.task))
    if query.parent is not None:
        where("j.parent = ?", short(query.parent))
    statuses = sorted(query.statuses)
    if statuses and (query.tag is not None or query.parent is not None):
        where("j.status = ANY (?::text[])", statuses)  # Few enough to look at each.
        statuses = []
    text = sql("page").replace("{source}", source).replace("{place}", place)
    text = text.replace("{limit}", "$1").strip()
    return _by_status(text, filters, statuses, values), values


def _by_status(text: str, filters: list[str], statuses: list[Status], values: list[Any]) -> str:
    """The statement, or one for each status and what puts their rows together."""
    if not statuses:
        return text.replace("{filters}", " AND ".join(filters))
    parts = []
    for status in statuses:
        values.append(status)
        only = [*filters, f"j.status = ${len(values)}"]
        parts.append("(" + text.replace("{filters}", " AND ".join(only)) + ")")
    if len(parts) == 1:
        return parts[0][1:-1]
    return " UNION ALL ".join(parts) + " ORDER BY place DESC LIMIT $1"
