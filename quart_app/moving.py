"""``quart-app migrate``: from a SQLite file to a store of many processes.

Only what puts the parts together may live here; what is written, and in which order, is
`quart_app.core.migration`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from quart_app.core.hub import Hub
from quart_app.core.ledger import Ledger
from quart_app.core.migration import ALL, Migration
from quart_app.domain.status import Status
from quart_app.settings import Settings
from quart_app.stores.shared import make_shared_store
from quart_app.stores.sqlite.source import SQLiteSource


def migrate(
    path: Path, settings: Settings, on_progress: Callable[[int, int], object]
) -> tuple[dict[Status, int], int]:
    """Move all jobs of a file into the store of the settings; the file stays as it is.

    Args:
        path: the file; its service has ended.
        settings: name the other store and the namespace there.
        on_progress: told how many jobs were looked at, and of how many.

    Returns:
        how many jobs there are now in each status, and how many this call has written.

    Raises:
        InvalidSetting, StoreRefused, StoreUnavailable: it was not done, or not to its end; the same
            call goes on where this one was cut off.
    """
    with SQLiteSource(path) as source:
        return asyncio.run(_migrate(source, settings, on_progress))


async def _migrate(
    source: SQLiteSource, settings: Settings, on_progress: Callable[[int, int], object]
) -> tuple[dict[Status, int], int]:
    total = sum((await asyncio.to_thread(source.counts)).values())
    store = make_shared_store(settings.store, settings.namespace)
    await store.open()
    try:
        ledger = Ledger(store, Hub(), max_waiting=ALL, log_lines=ALL, log_bytes=ALL)
        moved = Migration(source, store, ledger, lambda count: on_progress(count, total))
        return await moved.run(), moved.written
    finally:
        await store.close()
