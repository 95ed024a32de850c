"""What takes the jobs of one lane out of pgqueuer's tables. Only what changes how pgqueuer does it
may live here: no more than there is room for, at once when there is some, no word of an outage.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import (
    DBSettings,
    QueryBuilderEnvironment,
    QueryQueueBuilder,
    QuerySchedulerBuilder,
)
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import FailingListenerError
from pgqueuer.domain.models import Context, HealthCheckEvent, Job, TracebackRecord
from pgqueuer.domain.types import JOB_STATUS, JobId
from pgqueuer.ports.driver import NotifyCallback
from pgqueuer.ports.repository import EntrypointExecutionParameter

from quart_app.engines.delivery import AGAIN, Batch, Gone

Ended = tuple[Job, JOB_STATUS, TracebackRecord | None]


def seconds(number: float) -> timedelta:
    """So many."""
    return timedelta(seconds=number)


class LaneDriver(AsyncpgDriver):
    """A lane's share of a connection.

    Args:
        connection: whose statements go one at a time.
        one_at_a_time: the lock for that.
        gone: done as soon as a statement fails: then all begins anew with another connection.
        channel: on which PostgreSQL tells of new rows.
    """

    def __init__(
        self, connection: asyncpg.Connection, one_at_a_time: asyncio.Lock, gone: Gone, channel: str
    ) -> None:
        super().__init__(connection)
        self._lock = one_at_a_time
        self._channel = channel
        self._tell: NotifyCallback = lambda payload: None
        self.gone = gone
        self.error: Exception | None = None
        """What it was given up for, where that is known."""
        self.woken = False

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """The rows of a statement."""
        try:
            return await super().fetch(query, *args)
        except Exception as error:
            self.error = error
            self.give_up()
            raise

    async def execute(self, query: str, *args: object) -> str:
        """Make a statement."""
        try:
            return await super().execute(query, *args)
        except Exception as error:
            self.error = error
            self.give_up()
            raise

    def give_up(self) -> None:
        """Nothing more comes by this connection."""
        if not self.gone.done():
            self.gone.set_result(None)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Tell of new rows and of pgqueuer's own probes: of nothing else, and of many rows once."""
        self._tell = callback
        await super().add_listener(channel, self._heard)

    def _heard(self, payload: str | bytes | bytearray) -> None:
        said = json.loads(payload)
        if said["type"] == "health_check_event":
            self._tell(payload)
        elif said["type"] == "table_changed_event" and said["operation"] == "insert":
            self.wake()

    def wake(self) -> None:
        """Have it looked for jobs, unless that is about to be done."""
        if not self.woken:
            self.woken = True
            now = datetime.now(UTC).isoformat()
            said = {
                "type": "table_changed_event",
                "operation": "insert",
                "table": "",
                "sent_at": now,
            }
            self._tell(json.dumps({**said, "channel": self._channel}))


class LaneQueries(Queries):
    """Pgqueuer's statements, without its log; none raises for an outage, which `LaneDriver.gone`
    tells: what was not written comes again after the lease."""

    def __init__(self, driver: LaneDriver, settings: DBSettings) -> None:
        super().__init__(
            driver,
            QueryBuilderEnvironment(settings),
            QueryQueueBuilder(settings),
            QuerySchedulerBuilder(settings),
        )
        self._wire = driver
        self._done = Batch(self._delete)

    @property
    def wire(self) -> LaneDriver:
        """The driver, as what it is."""
        return self._wire

    async def _delete(self, ids: list[int]) -> None:
        table = self.qbe.qualified.queue_table
        await self.driver.execute(f"DELETE FROM {table} WHERE id = ANY($1::bigint[])", ids)  # noqa: S608

    async def log_jobs(self, job_status: list[Ended]) -> None:
        """Acknowledge what is done. What failed is delivered again: never is a job given up here.
        What was canceled is what an outage ended."""
        for job, status, _ in job_status:
            if status == "successful":
                try:
                    await self._done.add(job.id)
                except ConnectionError:
                    self._wire.give_up()
            elif status != "canceled":
                await self.retry_job(job, seconds(AGAIN), None)

    async def retry_job(
        self, job: Job, delay: timedelta, traceback_record: TracebackRecord | None
    ) -> None:
        """Deliver it again. Pgqueuer tells nobody of that, so it is looked when it will be."""
        try:
            await super().retry_job(job, delay, None)
        except Exception:  # noqa: BLE001 - `gone` tells.
            self._wire.give_up()
        self._wire.wake()

    async def update_heartbeat(self, job_ids: list[JobId]) -> None:
        """Keep the leases."""
        try:
            await super().update_heartbeat(job_ids)
        except Exception:  # noqa: BLE001 - `gone` tells.
            self._wire.give_up()


class LaneQueue(QueueManager):
    """Takes as many jobs as there are places.

    Args:
        queries: for its one entrypoint, the lane.
        places: how many jobs may run at the moment.
    """

    def __init__(self, queries: LaneQueries, places: Callable[[], int]) -> None:
        super().__init__(queries, channel=queries.qbe.settings.channel)
        self._wire = queries.wire
        self._places = places

    async def work(self, lease: float) -> None:
        """Take jobs until ``shutdown`` is set, and then wait for those that run.

        Args:
            lease: seconds after which a row that nobody keeps is taken again.
        """
        await self.run(
            dequeue_timeout=seconds(min(max(lease / 4, 0.25), 10.0)),
            batch_size=1,  # Each end is acknowledged at once; those of one moment together.
            shutdown_on_listener_failure=True,
            heartbeat_timeout=seconds(lease),
            log_aggregation_interval=seconds(0),
        )

    @property
    def error(self) -> Exception | None:
        """What a statement failed with."""
        return self._wire.error

    def wake(self) -> None:
        """Look for jobs."""
        self._wire.wake()

    def _free(self) -> int:
        return self._places() - len(self.job_context)

    async def fetch_jobs(
        self,
        batch_size: int,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> AsyncGenerator[Job, None]:
        """What waits, no more than there is room for."""
        lanes = {name: EntrypointExecutionParameter(0) for name in self.entrypoint_registry}
        while not self.shutdown.is_set():
            # Pgqueuer drops what woke it when it begins a job: whoever wakes it from here on has
            # to be heard anew, and after each that was taken it is looked again.
            self._wire.woken = False
            if (free := self._free()) <= 0:
                return
            jobs = await self.queries.dequeue(
                free, lanes, self.queue_manager_id, None, heartbeat_timeout
            )
            if not jobs:
                return
            for job in jobs:
                yield job

    async def _effective_dequeue_timeout(self, dequeue_timeout: timedelta) -> timedelta:
        """Where there is no room, there is no use in asking what waits: an end wakes it."""
        if self._free() <= 0:
            return dequeue_timeout
        return await super()._effective_dequeue_timeout(dequeue_timeout)

    def forget_job(self, job_id: JobId, context: Context, task: asyncio.Task[None]) -> None:
        """A job has ended: there is a place."""
        full = self._free() <= 0
        super().forget_job(job_id, context, task)
        if full:
            self.wake()

    async def listener_healthy(
        self, timeout: timedelta = timedelta(seconds=10)
    ) -> HealthCheckEvent:
        """Whether PostgreSQL still tells of new rows."""
        try:
            return await super().listener_healthy(timeout)
        except FailingListenerError:
            self._wire.give_up()
            raise
