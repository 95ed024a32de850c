"""A file that already has many jobs, written in bulk: starting a million of them takes minutes.

Nothing may live here that measures.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

from quart_app.stores.sqlite.store import SQLiteStore

MANY = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
    INSERT INTO jobs (
        place, id, seq, task, status, args, tags, attempt, max_attempts, created_at, updated_at,
        started_at, finished_at, unresponsive, result, bytes
    )
    SELECT
        n, printf('01000000-0000-7000-8000-%012x', n), n, :task, :status, '{}', '[]', :ended, 1,
        :now, :now, iif(:ended, :now, NULL), iif(:ended, :now, NULL), 0, iif(:ended, 'null', NULL),
        iif(:ended, 6, 0)
    FROM numbers
"""


async def _make(path: Path) -> None:
    store = SQLiteStore(path)
    await store.open()
    await store.close()


def fill(path: Path, task: str, status: str, count: int) -> None:
    """Make a file with jobs of one task.

    Args:
        status: ``queued`` or ``succeeded``.
    """
    asyncio.run(_make(path))
    if not count:
        return
    values = {
        "task": task,
        "status": status,
        "count": count,
        "ended": int(status == "succeeded"),
        "now": time.time(),
    }
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(MANY, values)
        connection.execute(
            "UPDATE counts SET jobs = :count, bytes = 6 * :ended * :count WHERE status = :status",
            values,
        )
        connection.execute("UPDATE heads SET place = :count, seq = :count", values)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
