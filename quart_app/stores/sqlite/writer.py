"""The one thread that writes, in groups: a group is what came while the last one was committed.

So a caller alone waits for one flush of the disk, and a hundred callers share one. Nothing may live
here that knows what is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

from quart_app.domain.errors import JobsError, StoreClosed, StoreRefused, StoreUnavailable
from quart_app.stores.sqlite.file import Connect, Connection, explain, open_writer, room
from quart_app.stores.sqlite.transaction import Transaction

logger = logging.getLogger("quart_app.store")

T = TypeVar("T")

GROUP = 1_000
"""Writes of one transaction, at most."""
ROOM = 256 * 2**10
"""Bytes that a disk that was full needs to have free before the store is called well again."""
CLOSED = "The store is closed; start the app before it takes jobs"
GONE = (
    "it was removed while it was open, or another file was put in its place, and what is written "
    "would be lost: put it back, or restart the service with a backup"
)
GIVEN_UP = "The store was closed before it had answered; whether it has kept this is unknown"


class Ticket(Generic[T]):
    """One thing to do in a thread, and the future of whoever waits for it.

    Args:
        work: what to do; given what the thread has (a transaction, a connection).
    """

    __slots__ = ("error", "future", "value", "work")

    def __init__(self, work: Callable[[Any], T]) -> None:
        self.work = work
        self.value: T | None = None
        self.error: Exception | None = None
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def settle(self) -> None:
        """Tell whoever waits; on the event loop."""
        if self.future.done():  # Nobody waits any more.
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)  # type: ignore[arg-type]


def settle_all(loop: asyncio.AbstractEventLoop, tickets: list[Ticket[Any]]) -> None:
    """Tell all who wait, in one turn of the loop; from any thread."""

    def settle() -> None:
        for ticket in tickets:
            ticket.settle()

    with contextlib.suppress(RuntimeError):  # The loop has closed: nobody waits any more.
        loop.call_soon_threadsafe(settle)


def give_up(loop: asyncio.AbstractEventLoop, tickets: Iterable[Ticket[Any]]) -> None:
    """Tell all who still wait for a thread that hangs; it may itself come back and find them
    answered."""

    def refuse() -> None:
        for ticket in tickets:
            if not ticket.future.done():
                ticket.future.set_exception(StoreClosed(GIVEN_UP))

    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(refuse)


def drain(tickets: queue.SimpleQueue[Ticket[Any] | None]) -> list[Ticket[Any]]:
    """What still waits in a queue."""
    left = []
    with contextlib.suppress(queue.Empty):
        while True:
            if (ticket := tickets.get_nowait()) is not None:
                left.append(ticket)
    return left


class Writer:
    """Writes.

    Args:
        path: the file.
        connect: opens it.
    """

    def __init__(self, path: Path, connect: Connect) -> None:
        self._path = path
        self._connect = connect
        self._queue: queue.SimpleQueue[Ticket[Any] | None] = queue.SimpleQueue()
        self._connection: Connection | None = None
        self._transaction: Transaction | None = None
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._group: list[Ticket[Any]] = []
        self._changed = False
        self.jobs: dict[Any, int] = {}
        """Jobs by status, as committed."""
        self.on_commit: Callable[[float], object] = lambda seconds: None
        self.trouble: str | None = None
        """Why the last group could not be written."""
        self.damage: str | None = None
        """What was found to be damaged, whoever met it: that does not pass by itself."""
        self._full = False
        """Whether that was for want of room."""
        self._identity: tuple[int, int] | None = None
        """Of the file that is open."""

    def open(self) -> None:
        """Open the file and begin (blocking: for a thread).

        Raises:
            StoreRefused: it cannot be used, and why.
        """
        self._reopen()
        self._thread = threading.Thread(target=self._run, name="quart-app-store", daemon=True)
        self._thread.start()

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Do something in the next transaction; returns when that is on disk.

        Raises:
            StoreUnavailable: it is not, as far as anybody knows.
            Whatever of `quart_app.domain.errors` the work raises.
        """
        if self._closed:
            raise StoreClosed(CLOSED)
        ticket = Ticket(work)
        self._queue.put(ticket)
        return await ticket.future

    def close(self) -> None:
        """Take nothing any more; on the event loop, so that nothing comes after `end`."""
        self._closed = True

    def end(self, timeout: float) -> bool:
        """Write what has come, and end (blocking); returns whether it has ended.

        A disk that hangs keeps the thread, but nobody who waits for it.
        """
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                give_up(self._loop, [*self._group, *drain(self._queue)])
                self._queue.put(None)
                return False
        return True

    def _run(self) -> None:
        more = True
        while more:
            more = self._next()
            group = self._group
            try:
                if group:
                    self._write(group)
            except BaseException as error:  # noqa: BLE001 - else all would wait for a dead thread
                self._let_go()
                self._failed(group, error)
            settle_all(self._loop, group)
            del group  # A thread that waits keeps nobody's data.
            self._group = []
        self._let_go()

    def _next(self) -> bool:
        """Wait for the next group; returns whether another one follows."""
        ticket = self._queue.get()
        if ticket is not None:
            self._group = group = [ticket]
            with contextlib.suppress(queue.Empty):
                while len(group) < GROUP and (ticket := self._queue.get_nowait()) is not None:
                    group.append(ticket)
        return ticket is not None

    def _write(self, group: list[Ticket[Any]]) -> None:
        """Write a group; one that spoils it for the others is written by itself."""
        error = self._try(group)
        if error is None:
            # What changed nothing was not written, and so says nothing of the disk.
            if (
                self.trouble is not None
                and not (self._full and room(self._path) < ROOM)
                and (self._changed or self._try([], probe=True) is None)
            ):
                self.trouble = None
                logger.warning("%s can be written again", self._path)
        elif len(group) > 1 and is_of_one(error):
            for ticket in group:
                self._write([ticket])
        else:
            self._failed(group, error)

    def _try(self, group: list[Ticket[Any]], probe: bool = False) -> Exception | None:
        """One transaction. Each ticket then has its value or its error, unless all failed.

        Args:
            group: what to do in it.
            probe: write something in any case.
        """
        try:
            transaction = self._reopen()
            if identity(self._path) != self._identity:  # Kept open: it may be put back.
                return StoreRefused(GONE)
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")  # type: ignore[union-attr]
            for ticket in group:
                ticket.error = None
                try:
                    ticket.value = ticket.work(transaction)
                except JobsError as error:  # Refused before anything was written for it.
                    ticket.error = error.with_traceback(None)  # It would keep the whole group.
            self._changed = transaction.finish(probe)
            end = "COMMIT" if self._changed else "ROLLBACK"
            began = time.perf_counter()
            connection.execute(end)  # type: ignore[union-attr]
            if self._changed:
                self.on_commit(time.perf_counter() - began)
            self.jobs = dict(transaction.jobs)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody is left waiting
            self._roll_back(error)
            return error
        return None

    def _roll_back(self, error: Exception) -> None:
        """Back to what is on disk; a connection that cannot do that is replaced."""
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if not is_of_one(error):
                if is_full(error):
                    self._take_in()
                self._let_go()
            elif self._transaction is not None:
                self._transaction.reload()
        except Exception:  # noqa: BLE001 - as above
            self._let_go()

    def _failed(self, group: list[Ticket[Any]], error: BaseException) -> None:
        reason = explain(error, self._path) if isinstance(error, sqlite3.Error) else str(error)
        message = f"{self._path} cannot be written: {reason}"
        if is_damaged(error):
            self.damage = message
        if isinstance(error, Exception) and is_of_one(error):
            # Trying again would not help: so it is not called unavailable.
            logger.error("%s: one write was refused: %s", self._path, reason, exc_info=error)
            for ticket in group:
                ticket.error = error
            return
        if self.trouble is None:
            logger.error("%s", message)
        self.trouble = message
        self._full = is_full(error)
        for ticket in group:
            ticket.error = StoreUnavailable(
                f"The store cannot write at the moment; whether it has kept this is unknown, and "
                f"the same start with the same Idempotency-Key tells. {message}",
                retry_after=2.0,
            )

    def _reopen(self) -> Transaction:
        """The transaction, on a new connection where there is none."""
        if self._transaction is None:
            again = self._thread is not None
            self._connection = open_writer(self._path, self._connect, again)
            try:
                self._transaction = Transaction(self._connection)
            except sqlite3.Error as error:
                self._let_go()
                message = f"{self._path} cannot be opened: {explain(error, self._path)}"
                raise StoreRefused(message) from error
            except StoreRefused:
                self._let_go()
                raise
            self.jobs = dict(self._transaction.jobs)
            self._identity = identity(self._path)
        return self._transaction

    def _take_in(self) -> None:
        """Take the log into the database, as SQLite itself does only after a commit: it may be the
        log that fills the disk."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _let_go(self) -> None:
        connection, self._connection, self._transaction = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def identity(path: Path) -> tuple[int, int] | None:
    """Which file is at a path, whatever its name; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_damaged(error: BaseException) -> bool:
    """Whether the file is not as SQLite has written it."""
    name = str(getattr(error.__cause__ or error, "sqlite_errorname", ""))
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def is_full(error: BaseException) -> bool:
    """Whether there was no room on the disk."""
    return getattr(error.__cause__ or error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def is_of_one(error: Exception) -> bool:
    """Whether an error is that of one write and not of the file.

    >>> is_of_one(sqlite3.IntegrityError()), is_of_one(KeyError()), is_of_one(sqlite3.Error())
    (True, True, False)
    """
    one = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)
    return isinstance(error, one) or not isinstance(error, (sqlite3.Error, StoreRefused))
