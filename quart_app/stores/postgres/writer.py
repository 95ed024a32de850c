"""The one task of this process that writes, in groups: a group is what came while the last one was
committed. Nothing may live here that knows what is written.

So a caller alone waits for one way to the server and one flush of its disk, and a hundred callers
share them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from quart_app.core.ports import OnAdd
from quart_app.domain.errors import StoreClosed, StoreUnavailable
from quart_app.stores.postgres.groups import MOST_EVENTS, Answers, Group, Start, Write
from quart_app.stores.postgres.links import CALL, CLOSED, COMMAND, Connection, drop, part
from quart_app.stores.postgres.verbs import sql
from quart_app.stores.postgres.wrongs import Health, is_lost, is_of_one, is_spoilt, reason

logger = logging.getLogger("quart_app.store")

T = TypeVar("T")

GROUP = 500
"""Writes of one transaction, at most."""
END = 2.0
"""Seconds to write what has come, at `Writer.close`."""
NOTHING = "Nothing was kept. "
UNKNOWN = (
    "Whether it has kept this is unknown, and the same start with the same Idempotency-Key tells. "
)
GIVEN_UP = "The store was closed before it had answered; whether it has kept this is unknown"

Alone = Callable[[Connection], Awaitable[Any]]
"""A transaction of its own."""


class Ticket:
    """Something to be written, and the future of whoever waits for it."""

    __slots__ = ("future", "sent", "timer", "write")

    def __init__(self, write: Write | Alone) -> None:
        loop = asyncio.get_running_loop()
        self.write = write
        self.sent = False
        self.future: asyncio.Future[Any] = loop.create_future()
        self.timer = loop.call_later(CALL, self.expire)

    def expire(self) -> None:
        """It took too long."""
        said = UNKNOWN if self.sent else NOTHING
        message = (
            f"The store does not answer within {CALL:.1f} s: see whether it runs, its load, and "
            f"whether this machine reaches it. {said}"
        )
        self.fail(StoreUnavailable(message.strip(), retry_after=2.0))

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits."""
        self.timer.cancel()
        if not self.future.done():
            self.future.set_exception(error)

    def settle(self, value: Any) -> None:
        """The same where it is well."""
        self.timer.cancel()
        if not self.future.done():
            self.future.set_result(value)


class Writer:
    """Writes.

    Args:
        make: makes a connection.
        health: told how it goes.
        most_events: numbers of events that are kept.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[Connection]],
        health: Health,
        most_events: int = MOST_EVENTS,
    ) -> None:
        self._make = make
        self._health = health
        self._most_events = most_events
        self._queue: deque[Ticket] = deque()
        self._news = asyncio.Event()
        self._group: list[Ticket] = []
        self._connection: Connection | None = None
        self._closed = False
        self.on_add: OnAdd | None = None
        self.on_commit: Callable[[float], object] = lambda seconds: None
        self._task = asyncio.create_task(self._run(), name="quart-app-store-writer")

    async def write(self, write: Write | Alone) -> Any:
        """Write something; returns when it is committed.

        Raises:
            StoreUnavailable: it is not, as far as anybody knows.
            Whatever of `quart_app.domain.errors` it is refused with.
        """
        if self._closed:
            raise StoreClosed(CLOSED)
        ticket = Ticket(write)
        self._queue.append(ticket)
        self._news.set()
        return await ticket.future

    async def close(self) -> None:
        """Take nothing any more, write what has come, and end."""
        self._closed = True
        self._news.set()
        done, _ = await asyncio.wait({self._task}, timeout=END)
        if not done:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for ticket in [*self._group, *self._queue]:
            ticket.fail(StoreClosed(GIVEN_UP if ticket.sent else CLOSED))
        self._queue.clear()
        if self._connection is not None:
            await part(self._connection)

    def abandon(self) -> None:
        """End without an event loop."""
        self._closed = True
        if self._connection is not None:
            drop(self._connection)

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._queue:
                self._group = self._next()
                try:
                    await self._write(self._group)
                except Exception as error:  # noqa: BLE001 - nobody is left waiting
                    for ticket in self._group:
                        ticket.fail(error)
                self._group = []
            if self._closed:
                return

    def _next(self) -> list[Ticket]:
        """The next group; what is a transaction of its own is alone."""
        group: list[Ticket] = []
        while self._queue and len(group) < GROUP:
            alone = callable(self._queue[0].write)
            if alone and group:
                break
            ticket = self._queue.popleft()
            if ticket.future.done():  # Nobody waits any more, and nothing of it was sent.
                ticket.timer.cancel()
            else:
                group.append(ticket)
            if alone:
                break
        return group

    async def _write(self, group: list[Ticket]) -> None:
        """Write a group; one that spoils it for the others is written by itself."""
        group = [ticket for ticket in group if not ticket.future.done()]
        if not group:
            return
        sent = False
        try:
            connection = await self._link()
            sent = True
            for ticket in group:
                ticket.sent = True
            began = time.perf_counter()
            async with asyncio.timeout(COMMAND):
                answers = await self._commit(connection, group)
            self.on_commit(time.perf_counter() - began)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody is left waiting
            self._let_go(error, sent)
            if sent and len(group) > 1 and is_of_one(error):
                for ticket in group:
                    ticket.sent = False
                    await self._write([ticket])
                return
            self._fail(group, error, sent)
        else:
            self._health.well(True)
            for ticket, (value, refusal) in zip(group, answers, strict=True):
                if refusal is not None:
                    ticket.fail(refusal)
                else:
                    ticket.settle(value)

    async def _link(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = None
            self._connection = await self._make()
        return self._connection

    async def _commit(self, connection: Connection, tickets: list[Ticket]) -> Answers:
        """One transaction."""
        alone = tickets[0].write
        if not isinstance(alone, tuple):
            return [(await alone(connection), None)]
        writes = [each.write for each in tickets]
        group = Group([write for write in writes if isinstance(write, tuple)])
        values = group.values(self._most_events)
        if self.on_add is None or not any(isinstance(write, Start) for write in writes):
            return group.answer(await connection.fetchrow(sql("write"), *values))[0]
        async with connection.transaction():
            row = await connection.fetchrow(sql("write"), *values)
            answers, fresh = group.answer(row)
            queued = [job for job in fresh if job.status == "queued"]
            if queued:
                await self.on_add(connection, queued)
        return answers

    def _let_go(self, error: Exception, sent: bool) -> None:
        connection = self._connection
        if connection is not None and sent and (is_spoilt(error) or connection.is_in_transaction()):
            drop(connection)
            self._connection = None

    def _fail(self, group: list[Ticket], error: Exception, sent: bool) -> None:
        kept = UNKNOWN if sent and is_lost(error) else NOTHING
        fault = self._health.fault(error, "written", kept)
        if fault is error and reason(error) is None:
            logger.error("one write was refused: %s", error, exc_info=error)
        for ticket in group:
            ticket.fail(fault)
