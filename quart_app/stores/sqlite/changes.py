"""Rows of jobs that are written together, many by one statement.

With each statement Python lets its other threads on, and the thread that writes then waits until
the event loop lets it on again: with a statement for each row most of a group's time went by in
waiting. So what a group changes in jobs waits here until somebody asks for it or the group ends.
Nothing may live here that decides what is written.

For NULL stands what cannot be a value of its column, a text for a number and a number for a text:
to bind None, `sqlite3` looks for an adapter, which takes it five times as long.
"""

from __future__ import annotations

import functools

from quart_app.domain.jobs import Job
from quart_app.stores.sqlite.file import Connection
from quart_app.stores.sqlite.rows import Row, text
from quart_app.stores.sqlite.verbs import sql

MOST = 64
"""Rows of one statement, at most."""
NO_NUMBER = ""
NO_TEXT = 0


class Changes:
    """What waits to be written.

    Args:
        connection: the one that writes.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._added: list[Row] = []
        self._changed: dict[int, Row] = {}

    def __bool__(self) -> bool:
        return bool(self._added or self._changed)

    def add(self, job: Job) -> None:
        """A job is new."""
        self._added.append(_added(job))

    def change(self, job: Job, size: int) -> None:
        """A job has a newer version; of several of a group the last one is written.

        Args:
            job: its newest version.
            size: bytes that its retention counts, where it is over; else 0.
        """
        self._changed[job.order] = _changed(job, size)

    def write(self) -> None:
        """Write them, in the transaction that is open."""
        added, changed = self._added, list(self._changed.values())
        self.forget()
        # What is changed may be new, and nothing that is new hangs on what is changed: whoever
        # adds a job of which there may be one only has looked for it, and so had all written.
        for verb, rows in (("add", added), ("change", changed)):
            for place in range(0, len(rows), MOST):
                some = rows[place : place + MOST]
                values = [value for row in some for value in row]
                self._connection.execute(_statement(verb, len(some), len(some[0])), values)

    def forget(self) -> None:
        """Write nothing of it."""
        self._added, self._changed = [], {}


def _added(job: Job) -> Row:
    """The values of ``add.sql``."""
    return (
        job.order,
        job.id,
        job.seq,
        job.task,
        job.status,
        job.args.decode(),
        text(job.tags) or "[]",
        job.attempt,
        job.max_attempts,
        job.created_at,
        job.updated_at,
        int(job.unresponsive),
        job.priority,
        NO_NUMBER if job.run_at is None else job.run_at,
        NO_NUMBER if job.expires_at is None else job.expires_at,
        NO_NUMBER if job.started_at is None else job.started_at,
        NO_NUMBER if job.finished_at is None else job.finished_at,
        NO_NUMBER if job.cancel_requested_at is None else job.cancel_requested_at,
        NO_TEXT if job.reason is None else job.reason,
        text(job.progress) or NO_TEXT,
        NO_TEXT if job.retry_of is None else job.retry_of,
        NO_TEXT if job.parent is None else job.parent,
        NO_TEXT if job.key is None else job.key,
        NO_TEXT if job.result is None else job.result.decode(),
        text(job.error) or NO_TEXT,
        text(job.history) or NO_TEXT,
        NO_TEXT if job.turn is None else job.turn,
        NO_TEXT if job.unique is None else job.unique,
    )


def _changed(job: Job, size: int) -> Row:
    """The values of ``change.sql``."""
    return (
        job.order,
        job.seq,
        job.status,
        job.attempt,
        job.updated_at,
        int(job.unresponsive),
        size,
        0 if job.unique is None else 1,
        NO_NUMBER if job.run_at is None else job.run_at,
        NO_NUMBER if job.started_at is None else job.started_at,
        NO_NUMBER if job.finished_at is None else job.finished_at,
        NO_NUMBER if job.cancel_requested_at is None else job.cancel_requested_at,
        NO_TEXT if job.reason is None else job.reason,
        text(job.progress) or NO_TEXT,
        NO_TEXT if job.result is None else job.result.decode(),
        text(job.error) or NO_TEXT,
        text(job.history) or NO_TEXT,
    )


@functools.lru_cache(2 * MOST)
def _statement(verb: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return sql(verb).replace("{rows}", ", ".join([row] * rows))
