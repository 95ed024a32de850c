"""The engine whose jobs wait in Redis: each lane is a docket of its own, with a worker where it has
room. Only what is docket's may live here: it never gets more than a job's id.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from docket import Docket, Worker
from docket.dependencies import AdmissionBlocked, Dependency, current_execution, current_worker
from redis.exceptions import ConnectionError as RedisGone
from redis.exceptions import RedisError, ResponseError

from quart_app.domain.tasks import LANES, Lane
from quart_app.engines.delivery import ANSWER, BrokerEngine, Gone, first_of, logger
from quart_app.engines.docket_connections import FewConnections

POLL = timedelta(seconds=0.2)
"""How long one read waits for a job: what stopping may take. A job that comes ends the wait."""
POLL_FULL = timedelta(seconds=0.01)
"""How often a lane without room looks whether it has some."""
DUE = timedelta(seconds=0.25)
"""How often it looks for what is to be delivered again."""
FORGOTTEN = 3600.0
"""Seconds after which Redis forgets a worker that has not asked for jobs any more."""
TASK = "job"


class DocketEngine(BrokerEngine):
    """Delivers what waits in Redis (or Valkey).

    Args:
        url: where it is, as ``redis://host:6379/0``; or ``redis+sentinel://``, ``redis+cluster://``.
        rooms: how many jobs of each lane run here at once; a lane without room is not worked.
        namespace: what the names of its keys begin with.
        lease: seconds after which a job is delivered elsewhere whose process has died.
        worker: a name for this process that no other has.
        context: what the jobs' context variables begin with; empty unless given.
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
        super().__init__("Redis", rooms, lease, worker, context)
        self._url = url
        self._namespace = namespace
        self._commands = dict[str, Any]()
        self._dockets: dict[Lane, Docket] = {}
        self._stack = contextlib.AsyncExitStack()
        self._opening = asyncio.Lock()
        self._workers: dict[Lane, _LaneWorker] = {}
        _keep_quiet()

    async def prepare(self) -> None:
        """Nothing: what docket needs is made with the first job."""

    def _parts(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        places = self._deliveries.places
        return [functools.partial(self._work, lane) for lane in LANES if places[lane] > 0]

    async def _docket(self, lane: Lane) -> Docket:
        async with self._opening:
            if lane not in self._dockets:
                docket = Docket(
                    name=f"{self._namespace}:{lane}",
                    url=self._url,
                    heartbeat_interval=timedelta(seconds=30),
                    execution_ttl=timedelta(0),  # The store knows what became of a job.
                )
                docket._redis = FewConnections(self._url, self._commands)
                # Who strikes jobs would take them away behind the store's back, so nobody
                # listens for that: it would be one connection more for each lane.
                docket.url = cast(str, None)
                docket.tasks.clear()
                docket.register(functools.partial(self._deliver, lane), names=[TASK])
                self._dockets[lane] = await self._stack.enter_async_context(docket)
            return self._dockets[lane]

    async def _put(self, pairs: list[tuple[str, Lane]]) -> None:
        by_lane: dict[Lane, list[str]] = {}
        for job_id, lane in pairs:
            by_lane.setdefault(lane, []).append(job_id)
        for lane, ids in by_lane.items():
            docket = await self._docket(lane)
            try:
                await _add(docket, ids)
            except RedisGone:  # Perhaps since long ago; the next connection is a new one.
                await _add(docket, ids)

    async def _work(self, lane: Lane) -> None:
        docket = await self._docket(lane)
        async with asyncio.timeout(ANSWER):
            await _forget_workers(docket)
        self._outage.may_be_over()
        places = self._deliveries.places
        worker = _LaneWorker(docket, f"{self._worker}:{lane}", places[lane], self._lease)
        closing = asyncio.create_task(self._closing.wait())
        self._workers[lane] = worker
        try:
            async with worker:
                works = asyncio.create_task(worker.run_forever())
                works.add_done_callback(lambda task: task.cancelled() or task.exception())
                try:
                    await first_of(works, worker.gone, closing)
                    if self._closing.is_set():
                        await worker.finish()
                except asyncio.CancelledError:  # At once: it does not wait for what runs.
                    worker.give_up()
                    works.cancel()
                    raise
            await works
        finally:
            closing.cancel()
            del self._workers[lane]
        if not self._closing.is_set():
            raise worker.error or ConnectionError("the connection was lost")

    async def _deliver(self, lane: Lane) -> None:
        """What docket runs: the job's id is the key of its execution."""
        execution, worker = current_execution.get(), cast(_LaneWorker, current_worker.get())
        worker.hold()
        again = await self._deliveries.deliver(execution.key, lane, worker.gone)
        if again is None:
            return
        execution.when = datetime.now(UTC) + timedelta(seconds=again)
        try:
            await execution.schedule(reschedule_message=execution.message_id)
        except RedisError as error:  # Then it comes again after the lease.
            logger.error("job %s could not be given back: %s", execution.key, error)
        # Not acknowledged by docket's worker: that has been done, or must not be.
        raise AdmissionBlocked(execution, "what the job said", handled=True)

    def _more_room(self, lane: Lane) -> None:
        if lane in self._workers and not self._closing.is_set():
            self._workers[lane].concurrency = self._deliveries.places[lane]

    def step_back(self, lane: Lane) -> None:
        """It goes on, and takes a place again, also where there is none."""
        super().step_back(lane)
        self._more_room(lane)

    async def _let_go(self) -> None:
        async with self._opening:
            self._dockets.clear()
            await self._stack.aclose()


class _Session(Dependency[None]):
    """Docket enters and leaves ``worker_lifecycle`` around one stretch of work."""

    async def __aenter__(self) -> None:
        return None

    @classmethod
    @contextlib.asynccontextmanager
    async def worker_lifecycle(cls, docket: Docket, worker: _LaneWorker) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            worker.give_up()


class _LaneWorker(Worker):
    """Works one lane until the connection breaks."""

    def __init__(self, docket: Docket, name: str, concurrency: int, lease: float) -> None:
        self._taken: set[asyncio.Task[Any]] = set()
        self.gone: Gone = asyncio.get_running_loop().create_future()
        self.error: Exception | None = None
        """What ended it, where that is known."""
        super().__init__(
            docket,
            name=name,
            concurrency=concurrency,
            redelivery_timeout=timedelta(seconds=lease),
            reconnection_delay=timedelta(seconds=0.1),
            scheduling_resolution=DUE,
            schedule_automatic_tasks=False,
            dependencies=[_Session()],
        )

    @property
    def minimum_check_interval(self) -> timedelta:
        """How long a read waits; where there is no room, how long it is until the next look."""
        return POLL if len(self._tasks_by_key) < self.concurrency else POLL_FULL

    @minimum_check_interval.setter
    def minimum_check_interval(self, value: timedelta) -> None:
        """It is as it is."""

    async def _worker_loop(self, redis: Any, forever: bool = False) -> Any:
        try:
            return await super()._worker_loop(redis, forever)
        except Exception as error:
            self.error = error
            raise

    def hold(self) -> None:
        """The current task is docket's for one job; it ends when that has been acknowledged."""
        task = asyncio.current_task()
        if task is not None:
            self._taken.add(task)
            task.add_done_callback(self._taken.discard)

    def give_up(self) -> None:
        """Nobody waits any longer for what runs."""
        if not self.gone.done():
            self.gone.set_result(None)

    async def finish(self) -> None:
        """Take no more; returns when what was taken is acknowledged, or the connection breaks.

        The worker goes on meanwhile: one that is told to stop renews no leases.
        """
        self.concurrency = 0
        while self._taken and not self.gone.done():
            await first_of(*self._taken, self.gone)


async def _add(docket: Docket, ids: list[str]) -> None:
    for added in await docket.add_many([docket.call(TASK, key=job_id)() for job_id in ids]):
        if added.schedule_exception is not None:
            raise added.schedule_exception


async def _forget_workers(docket: Docket) -> None:
    """Redis remembers every name under which jobs were taken: those that are long gone, and have
    left nothing, are forgotten."""
    stream, group = docket.stream_key, docket.worker_group_name
    async with docket.redis() as redis:
        try:
            known = await redis.xinfo_consumers(stream, group)
        except ResponseError:  # There is no stream yet.
            return
        for each in known:
            if each["pending"] == 0 and each["idle"] > FORGOTTEN * 1000:
                await cast(Any, redis).xgroup_delconsumer(stream, group, each["name"])


def _keep_quiet() -> None:
    """Docket tells of each execution, and of an outage again and again; we do once."""
    top = logging.getLogger("docket")
    if top.level == logging.NOTSET:
        top.setLevel(logging.WARNING)
    for name in ("docket.worker", "docket.strikelist", "docket._redelivery"):
        logging.getLogger(name).addFilter(_is_no_outage)  # Twice the same one is once.


def _is_no_outage(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not (_is_of_redis(error) or str(record.msg).startswith("Redis "))


def _is_of_redis(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(RedisError)[1] is None
    return isinstance(error, RedisError)
