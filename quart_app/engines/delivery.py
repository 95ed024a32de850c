"""What engines share whose jobs wait in a broker: which of them run here, submitting many at once,
and going on after an outage. Nothing may live here that knows which broker it is.

A job runs in an asyncio task of ours. What the broker's library runs only waits for that, so a
connection that breaks ends the waiting and never the job: delivered here again, it is waited for
again.
"""

from __future__ import annotations

import abc
import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, TypeVar

from quart_app.core.ports import Enqueue, Run
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.ids import new_id
from quart_app.domain.tasks import LANES, Lane

T = TypeVar("T")
Gone = asyncio.Future[None]
"""Done when the broker's library works no more with what it has taken."""

logger = logging.getLogger("quart_app.jobs")

AGAIN = 1.0
"""Seconds after which a job is delivered again whose `Run` raised something."""
ANSWER = 1.8
"""Seconds within which the broker has to answer; a submit is to fail within two."""
LAST_WORDS = 10.0
"""Seconds that the acknowledgements may take when all has ended: the broker may hang."""
PAUSES = (0.1, 0.2, 0.4, 0.8, 1.2)
"""Seconds between tries to reach a broker that is gone: work goes on soon after it is back."""
PLENTY = 1_000_000
"""The room that others have, too: nobody knows it, and what they cannot take waits there."""
BATCH = 100
"""How many go to the broker with one statement: a busy machine has to answer it in time, too, and
more at once save little."""


class Deliveries:
    """The jobs that run here.

    Args:
        rooms: how many of each lane at once.
        context: what their context variables begin with.
    """

    def __init__(self, rooms: Mapping[Lane, int], context: contextvars.Context | None) -> None:
        self._context = contextvars.Context() if context is None else context
        self._tasks: dict[str, asyncio.Task[float | None]] = {}
        self._quiet = asyncio.Event()
        self.places = {lane: rooms.get(lane, 0) for lane in LANES}
        self.running = dict.fromkeys(LANES, 0)
        self.run: Run | None = None
        self.on_done: Callable[[str, Lane], None] = lambda job_id, lane: None

    async def deliver(self, job_id: str, lane: Lane, gone: Gone) -> float | None:
        """Run a job, or wait for it where it runs here already.

        Returns:
            None where its delivery is over, else after how many seconds it is to come again.

        Raises:
            CancelledError: the broker's library is ``gone``; the job goes on.
        """
        task = self._tasks.get(job_id)
        if task is None:
            if self.run is None:
                return 0.0  # It was on its way when the engine was closed: others may have it.
            task = self._start(self.run, job_id, lane)
        await first_of(task, gone)
        if not task.done():
            raise asyncio.CancelledError
        return AGAIN if task.cancelled() else task.result()

    def _start(self, run: Run, job_id: str, lane: Lane) -> asyncio.Task[float | None]:
        self.running[lane] += 1
        task = self._tasks[job_id] = asyncio.get_running_loop().create_task(
            self._run(run, job_id, lane), name=job_id, context=self._context.copy()
        )
        return task

    async def _run(self, run: Run, job_id: str, lane: Lane) -> float | None:
        try:
            return await run(job_id)
        except (StoreUnavailable, asyncio.CancelledError) as error:  # Perhaps of every job.
            logger.error("job %s could not be run to its end: %r", job_id, error)
        except BaseException:
            # The store's error or ours, never the function's; it is delivered again.
            logger.exception("job %s could not be run to its end", job_id)
        finally:
            del self._tasks[job_id]
            self.running[lane] -= 1
            if not self._tasks:
                self._quiet.set()
            self.on_done(job_id, lane)
        return AGAIN

    def holds(self, job_id: str) -> bool:
        """Whether it runs here."""
        return job_id in self._tasks

    async def idle(self) -> None:
        """Wait until nothing runs here."""
        while self._tasks:
            self._quiet.clear()
            await self._quiet.wait()


async def first_of(*futures: asyncio.Future[Any]) -> None:
    """Wait until one of them is done; that raises nothing, and cancels none."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


class Batch(Generic[T]):
    """Writes what comes at the same time together; what comes meanwhile goes with the next. Where
    one write fails, or takes longer than `ANSWER`, all that wait fail with it.

    Args:
        write: writes some of them, all or none.
    """

    def __init__(self, write: Callable[[list[T]], Coroutine[Any, Any, None]]) -> None:
        self._write = write
        self._waiting: deque[tuple[T, asyncio.Future[None]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def add(self, item: T) -> None:
        """Returns when it is written.

        Raises:
            ConnectionError: it is unknown whether it is.
        """
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._waiting.append((item, written))
        if self._task is None:  # Never in the caller's context: a request's would be kept.
            self._task = loop.create_task(self._write_all(), context=contextvars.Context())
        await written

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                some = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                wanted = [pair for pair in some if not pair[1].done()]
                try:
                    async with asyncio.timeout(ANSWER):
                        await self._write([item for item, _ in wanted])
                except Exception as error:  # noqa: BLE001 - it is raised where they wait.
                    self._fail(wanted, error)
                except asyncio.CancelledError:
                    self._fail(wanted, ConnectionError("the connection was closed"))
                    raise
                else:
                    _settle(wanted, None)
        finally:
            self._task = None

    def _fail(self, pairs: list[tuple[T, asyncio.Future[None]]], error: Exception) -> None:
        pairs += self._waiting
        self._waiting.clear()
        _settle(pairs, error)

    async def close(self) -> None:
        """Give up what is not written yet."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


def _settle(pairs: Sequence[tuple[T, asyncio.Future[None]]], error: Exception | None) -> None:
    for _, written in pairs:
        if written.done():
            continue
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(ConnectionError(f"{type(error).__name__}: {error}"))


class Outage:
    """Says once that a broker is gone, and once that it is back: when nothing has failed for longer
    than the longest pause. One that answers and refuses what is asked is not back.

    Args:
        broker: its name, for people.
    """

    def __init__(self, broker: str) -> None:
        self._broker = broker
        self._tries = 0
        self._timer: asyncio.TimerHandle | None = None

    def failed(self, error: BaseException) -> float:
        """It does not answer.

        Returns:
            seconds to wait before the next try.
        """
        self.end()
        if self._tries == 0:
            logger.error(
                "%s is gone (%s: %s): no jobs come from it until it is back",
                self._broker, type(error).__name__, error,
            )  # fmt: skip
        self._tries += 1
        return PAUSES[min(self._tries, len(PAUSES)) - 1]

    def may_be_over(self) -> None:
        """It answers, as far as one can say."""
        if self._tries and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(max(PAUSES), self._over)

    def _over(self) -> None:
        logger.warning("%s is back", self._broker)
        self._timer, self._tries = None, 0

    def end(self) -> None:
        """Say nothing of it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class BrokerEngine(abc.ABC):
    """What every engine does whose jobs wait in a broker. `_parts`, `_put` and `_let_go` are those
    of one broker.

    Args:
        broker: its name, for people.
        rooms: how many jobs of each lane run here at once; a lane without room is not worked.
        lease: seconds after which a job is delivered elsewhere whose process has died.
        worker: a name for this process that no other has.
        context: what the jobs' context variables begin with; empty unless given.
    """

    shared = True

    def __init__(
        self,
        broker: str,
        rooms: Mapping[Lane, int],
        lease: float,
        worker: str | None,
        context: contextvars.Context | None,
    ) -> None:
        self._broker = broker
        self._lease = lease
        self._worker = worker or new_id()
        self._deliveries = Deliveries(rooms, context)
        self._batch = Batch(self._put)
        self._outage = Outage(broker)
        self._closing = asyncio.Event()
        self._kept: list[asyncio.Task[None]] = []
        self._open = True
        self.within: Enqueue | None = None
        self.on_done: Callable[[str, Lane], None] = lambda job_id, lane: None
        self._deliveries.on_done = lambda job_id, lane: self.on_done(job_id, lane)

    @abc.abstractmethod
    def _parts(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What is to be kept working. Each returns when the engine is closing and what ran has
        been acknowledged, and raises where the broker has gone."""

    @abc.abstractmethod
    async def _put(self, pairs: list[tuple[str, Lane]]) -> None:
        """Put jobs into the broker, those that are there already once."""

    @abc.abstractmethod
    async def _let_go(self) -> None:
        """Close every connection."""

    @abc.abstractmethod
    def _more_room(self, lane: Lane) -> None:
        """A lane may take more than before."""

    @abc.abstractmethod
    async def prepare(self) -> None:
        """Make ready what `submit` needs; `work` and the first `submit` do."""

    async def work(self, run: Run) -> None:
        """Begin to deliver, on this event loop. Returns at once, also while the broker is gone."""
        self._deliveries.run = run
        loop, nothing = asyncio.get_running_loop(), contextvars.Context
        self._kept += [
            loop.create_task(self._keep(part), context=nothing()) for part in self._parts()
        ]

    async def _keep(self, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin again, after a pause, whenever the broker was gone."""
        while not self._closing.is_set():
            try:
                await part()
            except Exception as error:  # noqa: BLE001 - whatever it is, work has to go on.
                pause = self._outage.failed(error)
                waiting = asyncio.create_task(self._closing.wait())
                await asyncio.wait({waiting}, timeout=pause)
                waiting.cancel()

    async def submit(self, job_id: str, lane: Lane) -> None:
        """Deliver a job wherever its lane has room. Twice the same id is once, while it waits or
        runs anywhere.

        Raises:
            StoreUnavailable: the broker has not answered for nearly two seconds, or refuses.
        """
        if not self._open:
            raise StoreUnavailable(f"the connection to {self._broker} was closed")
        try:
            await self._batch.add((job_id, lane))
        except ConnectionError as error:
            raise StoreUnavailable(
                f"{self._broker} does not answer ({error}); it is unknown whether it has the job"
            ) from None

    async def forget(self, job_id: str) -> None:
        """Nothing: the job is delivered in vain, since the claim refuses it. To take it out of the
        broker could meet one that runs by now, and what brokers call a cancel would end it."""
        return

    def waiting(self, lane: Lane) -> int:
        """None: they wait in the broker."""
        return 0

    def running(self, lane: Lane) -> int:
        """How many jobs of this lane run here."""
        return self._deliveries.running[lane]

    def room(self, lane: Lane) -> int:
        """Always enough: other processes take them, too."""
        return PLENTY

    def step_aside(self, lane: Lane) -> None:
        """A running job of this lane waits for others: its place is free meanwhile."""
        self._deliveries.running[lane] -= 1
        self._deliveries.places[lane] += 1
        self._more_room(lane)

    def step_back(self, lane: Lane) -> None:
        """It goes on, and takes a place again, also where there is none."""
        self._deliveries.running[lane] += 1
        self._deliveries.places[lane] -= 1

    def holds(self, job_id: str) -> bool:
        """Whether the job runs here."""
        return self._deliveries.holds(job_id)

    async def idle(self) -> None:
        """Wait until nothing runs here. After `close`, also until what ran is acknowledged; then
        the connections are closed."""
        await self._deliveries.idle()
        if self._closing.is_set():
            if self._kept:
                await asyncio.wait(self._kept, timeout=LAST_WORDS)
            await self.disconnect()

    async def close(self) -> list[str]:
        """Take no more jobs. What runs is left alone, and acknowledged when it ends; jobs can be
        submitted until `disconnect`, or until nothing runs and somebody waited for `idle`."""
        self._deliveries.run = None
        self._closing.set()
        return []

    async def disconnect(self) -> None:
        """Close everything, at once: what still runs is not acknowledged, and delivered again after
        the lease. Twice is fine."""
        await self.close()
        self._open = False
        self._outage.end()
        for task in self._kept:
            task.cancel()
        if self._kept:  # Each waits for a broker that may hang; without connections, none does.
            await asyncio.wait(self._kept, timeout=ANSWER)
        await self._batch.close()
        await self._let_go()
        if self._kept:
            await asyncio.wait(self._kept)
        self._kept.clear()
