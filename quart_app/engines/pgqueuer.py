"""The engine whose jobs wait in PostgreSQL, in tables of pgqueuer: one connection takes those of
every lane that has room here, each with a queue of its own; another one submits. Only what is
pgqueuer's may live here: a row holds a job's id and its lane, nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import asyncpg
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job

from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.tasks import LANES, Lane
from quart_app.engines.delivery import ANSWER, BrokerEngine, Gone, first_of
from quart_app.engines.pgqueuer_lane import LaneDriver, LaneQueries, LaneQueue, seconds
from quart_app.engines.pgqueuer_tables import INSTALL_TIME, insert_of, install, settings_of


class PgqueuerEngine(BrokerEngine):
    """Delivers what waits in PostgreSQL.

    Args:
        url: where it is, as ``postgresql://user@host/database``.
        rooms: how many jobs of each lane run here at once; a lane without room is not worked.
        namespace: the schema of its tables; made where it is missing.
        lease: seconds after which a job is delivered elsewhere whose process has died.
        worker: a name for this process that no other has.
        context: what the jobs' context variables begin with; empty unless given.

    Raises:
        ValueError: the namespace is no name of a schema.
    """

    def __init__(
        self,
        url: str,
        rooms: Mapping[Lane, int],
        *,
        namespace: str = "quart_app",
        lease: float = 30.0,
        worker: str | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        super().__init__("PostgreSQL", rooms, lease, worker, context)
        self.within = self.enqueue_within
        self._url = url
        self._settings = settings_of(namespace)
        self._insert = insert_of(self._settings)
        self._submits: asyncpg.Connection | None = None
        self._prepared = False
        self._queues: dict[Lane, LaneQueue] = {}
        top = logging.getLogger("pgqueuer")
        if top.level == logging.NOTSET:
            top.setLevel(logging.WARNING)

    def _parts(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        return [self._work] if any(self._deliveries.places.values()) else []

    async def prepare(self) -> None:
        """Make or upgrade the tables; `work` and the first `submit` do. Any number of processes may
        at once.

        Raises:
            StoreUnavailable: it could not be done.
        """
        if self._prepared:
            return
        try:
            connection = await self._connect(INSTALL_TIME)
            try:
                await install(connection, self._settings)
            finally:
                await _hang_up(connection)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            message = f"the tables of the queue could not be made in PostgreSQL: {error!r}"
            raise StoreUnavailable(message, retry_after=2.0) from error
        self._prepared = True

    async def _connect(self, answer: float) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._url,
            timeout=ANSWER,
            command_timeout=answer,
            server_settings={"application_name": f"quart-app {self._worker}"},
        )

    async def _put(self, pairs: list[tuple[str, Lane]]) -> None:
        await self.prepare()
        kept = self._submits
        if kept is not None:
            try:
                return await self._put_on(kept, pairs)
            except Exception:  # noqa: BLE001, S110 - perhaps lost since long ago: another one tells.
                pass
        self._submits = await self._connect(ANSWER)
        await self._put_on(self._submits, pairs)

    async def _put_on(self, connection: asyncpg.Connection, pairs: list[tuple[str, Lane]]) -> None:
        try:
            await self.enqueue_within(connection, pairs)
        except BaseException:  # Also where it was given up: it may still be at it.
            self._submits = None
            connection.terminate()
            raise

    async def enqueue_within(
        self, connection: asyncpg.Connection, pairs: Sequence[tuple[str, Lane]]
    ) -> None:
        """Submit jobs on a connection of asyncpg, in its transaction where one is open: they are
        delivered when that is committed. Every name is qualified: its search path does not matter.

        Call `prepare` before.

        Args:
            connection: where.
            pairs: the id and the lane of each job; one that waits or runs already is left alone.
        """
        ids, lanes = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        await connection.execute(self._insert, ids, lanes)

    async def _work(self) -> None:
        await self.prepare()
        connection = await self._connect(10.0)
        gone: Gone = asyncio.get_running_loop().create_future()
        works: set[asyncio.Task[None]] = set()
        closing = asyncio.create_task(self._closing.wait())
        try:
            connection.add_termination_listener(lambda _: _say(gone))
            works = self._begin(connection, gone)
            self._outage.may_be_over()
            await first_of(*works, gone, closing)
            if self._closing.is_set():
                for queue in self._queues.values():
                    queue.shutdown.set()
                await _until_all(works, gone)
        finally:
            closing.cancel()
            await _end(works, gone, connection)
            errors: list[BaseException | None] = [queue.error for queue in self._queues.values()]
            self._queues.clear()
        if not self._closing.is_set():
            errors += [task.exception() for task in works if not task.cancelled()]
            raise next(filter(None, errors), ConnectionError("the connection was lost"))

    def _begin(self, connection: asyncpg.Connection, gone: Gone) -> set[asyncio.Task[None]]:
        one_at_a_time = asyncio.Lock()
        works = set()
        for lane in LANES:
            if self._deliveries.places[lane] > 0:
                driver = LaneDriver(connection, one_at_a_time, gone, self._settings.channel)
                queue = LaneQueue(
                    LaneQueries(driver, self._settings),
                    functools.partial(self._deliveries.places.__getitem__, lane),
                )
                queue.entrypoint(lane)(self._entry(lane, gone))
                self._queues[lane] = queue
                works.add(asyncio.create_task(queue.work(self._lease), name=f"lane {lane}"))
        return works

    def _entry(self, lane: Lane, gone: Gone) -> Callable[[Job], Coroutine[Any, Any, None]]:
        async def entry(job: Job) -> None:
            again = await self._deliveries.deliver((job.payload or b"").decode(), lane, gone)
            if again is not None:
                raise RetryRequested(seconds(again))

        return entry

    def _more_room(self, lane: Lane) -> None:
        if lane in self._queues:
            self._queues[lane].wake()

    async def _let_go(self) -> None:
        connection, self._submits = self._submits, None
        if connection is not None:
            await _hang_up(connection)


def _say(gone: Gone) -> None:
    if not gone.done():
        gone.set_result(None)


async def _until_all(works: set[asyncio.Task[None]], gone: Gone) -> None:
    while (left := {task for task in works if not task.done()}) and not gone.done():
        await first_of(*left, gone)


async def _end(works: set[asyncio.Task[None]], gone: Gone, connection: asyncpg.Connection) -> None:
    """What is still at work is left without a connection: then it ends soon."""
    left = {task for task in works if not task.done()}
    if left or gone.done():
        _say(gone)
        for task in left:
            task.cancel()
        connection.terminate()
    else:
        await _hang_up(connection)
    if left:
        await asyncio.wait(left)


async def _hang_up(connection: asyncpg.Connection) -> None:
    with contextlib.suppress(Exception):
        await connection.close(timeout=ANSWER)
