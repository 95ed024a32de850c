"""A few threads that read, each with a connection that cannot write.

Every read fetches all its rows and ends, so that no old snapshot keeps the write-ahead log from
being taken in. Nothing may live here that knows what is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from quart_app.domain.errors import StoreClosed, StoreUnavailable
from quart_app.stores.sqlite.file import Connect, Connection, explain, open_reader
from quart_app.stores.sqlite.writer import (
    CLOSED,
    Ticket,
    drain,
    give_up,
    is_damaged,
    settle_all,
)

logger = logging.getLogger("quart_app.store")

T = TypeVar("T")


class Readers:
    """Reads.

    Args:
        path: the file; it is there.
        connect: opens it.
        count: threads.
    """

    def __init__(self, path: Path, connect: Connect, count: int = 2) -> None:
        self._path = path
        self._connect = connect
        self._queue: queue.SimpleQueue[Ticket[Any] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._busy: dict[str, Ticket[Any]] = {}
        self.damage: str | None = None
        """What was found to be damaged: that does not pass by itself."""
        self._threads = [
            threading.Thread(target=self._run, name=f"quart-app-store-reader-{number}", daemon=True)
            for number in range(1, count + 1)
        ]
        for thread in self._threads:
            thread.start()

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Read something, as of the last commit.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        if self._closed:
            raise StoreClosed(CLOSED)
        ticket = Ticket(work)
        self._queue.put(ticket)
        return await ticket.future

    def close(self) -> None:
        """Take nothing any more, and end; on the event loop, and without waiting for it."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._queue.put(None)

    def join(self, timeout: float) -> None:
        """Wait until all have ended (blocking); a disk that hangs keeps nobody who waits."""
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        hanging = [thread for thread in self._threads if thread.is_alive()]
        if hanging:
            give_up(self._loop, [*self._busy.values(), *drain(self._queue)])
            for _ in hanging:
                self._queue.put(None)

    def _run(self) -> None:
        connection: Connection | None = None
        name = threading.current_thread().name
        while (ticket := self._queue.get()) is not None:
            self._busy[name] = ticket
            try:
                if connection is None:
                    connection = open_reader(self._path, self._connect)
                ticket.value = ticket.work(connection)
            except sqlite3.Error as error:
                message = f"{self._path} cannot be read: {explain(error, self._path)}"
                logger.error("%s", message)
                if is_damaged(error):
                    self.damage = message
                ticket.error = StoreUnavailable(f"The store does not answer. {message}")
                _close(connection)
                connection = None
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                ticket.error = error
            except BaseException as error:  # noqa: BLE001 - else all would wait for a dead thread
                ticket.error = StoreUnavailable(f"The store does not answer: {error!r}")
            settle_all(self._loop, [ticket])
            del self._busy[name]
            del ticket  # A thread that waits keeps nobody's data.
        _close(connection)


def _close(connection: Connection | None) -> None:
    if connection is not None:
        with contextlib.suppress(sqlite3.Error):
            connection.close()
