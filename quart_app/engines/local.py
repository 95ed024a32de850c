"""The engine on this process's own event loop: one `asyncio.create_task` for each job.

Only room and order may live here: which waiting id is delivered next, and how many at once. Each
lane (loop, thread, process) has its own room, so that waiting threads hold up no coroutine.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping

from quart_app.core.ports import Run
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.tasks import Lane

logger = logging.getLogger("quart_app.jobs")


class _Room:
    """One lane: how many of its jobs run, and which wait (first come, first served)."""

    __slots__ = ("lane", "limit", "running", "waiting")

    def __init__(self, lane: Lane, limit: int) -> None:
        self.lane = lane
        self.limit = limit
        self.running = 0
        # Ordered and linked: taking the first of a plain dict again and again is quadratic.
        self.waiting: OrderedDict[str, None] = OrderedDict()


class LocalEngine:
    """Delivers on the loop that called `work`.

    Args:
        rooms: how many jobs of each lane run at once.
        context: what the jobs' context variables begin with; empty unless given.

    >>> async def main():
    ...     engine, ran = LocalEngine({"loop": 1, "thread": 1, "process": 1}), []
    ...     async def run(job_id): ran.append(job_id)
    ...     await engine.work(run)
    ...     await engine.submit("a", "loop")
    ...     await asyncio.sleep(0)
    ...     return ran
    >>> asyncio.run(main())
    ['a']
    """

    shared = False

    def __init__(
        self, rooms: Mapping[Lane, int], context: contextvars.Context | None = None
    ) -> None:
        self._context = contextvars.Context() if context is None else context
        self._rooms = {lane: _Room(lane, limit) for lane, limit in rooms.items()}
        self._tasks: dict[str, asyncio.Task[None]] = {}  # asyncio itself keeps tasks weakly
        self._waiting: dict[str, _Room] = {}
        self._run: Run | None = None
        self._closed = False
        self._quiet = asyncio.Event()
        self.on_done: Callable[[str, Lane], None] = lambda job_id, lane: None

    async def work(self, run: Run) -> None:
        self._run = run
        self._create_task = asyncio.get_running_loop().create_task
        for room in self._rooms.values():
            self._fill(room)

    async def submit(self, job_id: str, lane: Lane) -> None:
        self.submit_now(job_id, lane)

    def submit_now(self, job_id: str, lane: Lane) -> None:
        """As `submit`."""
        if job_id in self._tasks or job_id in self._waiting:
            return
        room, run = self._rooms[lane], self._run
        if run is not None and room.running < room.limit:
            room.running += 1
            # Never the request's context: its headers and body would live as long as the job.
            self._tasks[job_id] = self._create_task(
                self._deliver(run, job_id, room), name=job_id, context=self._context.copy()
            )
        elif not self._closed:  # Nobody would ever run it, and the shutdown would wait for it.
            room.waiting[job_id] = None
            self._waiting[job_id] = room

    async def _deliver(self, run: Run, job_id: str, room: _Room) -> None:
        try:
            await run(job_id)
        except StoreUnavailable as error:  # Perhaps of every job: so a line has to do.
            logger.error("job %s could not be run to its end: %s", job_id, error)
        except Exception:
            # The store's error or ours, never the function's; upkeep finds the job.
            logger.exception("job %s could not be run to its end", job_id)
        finally:
            del self._tasks[job_id]
            room.running -= 1
            if room.waiting:
                self._fill(room)
            self.on_done(job_id, room.lane)
            if not self._tasks and not self._waiting:
                self._quiet.set()

    def _fill(self, room: _Room) -> None:
        while self._run is not None and room.waiting and room.running < room.limit:
            job_id, _ = room.waiting.popitem(last=False)
            del self._waiting[job_id]
            self.submit_now(job_id, room.lane)

    async def forget(self, job_id: str) -> None:
        room = self._waiting.pop(job_id, None)
        if room is not None:
            del room.waiting[job_id]

    def waiting(self, lane: Lane) -> int:
        return len(self._rooms[lane].waiting)

    def running(self, lane: Lane) -> int:
        return self._rooms[lane].running

    def room(self, lane: Lane) -> int:
        room = self._rooms[lane]
        return 0 if self._run is None else room.limit - room.running

    def step_aside(self, lane: Lane) -> None:
        room = self._rooms[lane]
        room.running -= 1
        self._fill(room)

    def step_back(self, lane: Lane) -> None:
        self._rooms[lane].running += 1

    def holds(self, job_id: str) -> bool:
        return job_id in self._tasks or job_id in self._waiting

    async def idle(self) -> None:
        while self._tasks or self._waiting:
            self._quiet.clear()
            await self._quiet.wait()

    async def close(self) -> list[str]:
        self._run = None
        self._closed = True
        waiting = list(self._waiting)
        self._waiting.clear()
        for room in self._rooms.values():
            room.waiting.clear()
        if not self._tasks:
            self._quiet.set()
        return waiting
