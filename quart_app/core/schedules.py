"""The tasks that start by themselves: one loop for each, from one due time to the next.

The next due time is a persisted fact, written after the jobs of the last one are open. A crash
between the two opens them again, and their keys make that the same jobs. Which due times there are,
and which of them still count, is reckoned in `quart_app.domain.schedules`; nothing may live here
that does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import msgspec

from quart_app.domain.errors import Draining, KeyReused, QueueFull, StoreUnavailable, TaskFull
from quart_app.domain.schedules import MOST, Schedule, due_key, next_after, to_open
from quart_app.domain.tasks import Task

logger = logging.getLogger("quart_app.schedules")

PREFIX = "schedule/"
"""How the names of the facts begin."""
AGAIN = 1.0
"""Seconds after which what was refused is tried again."""
OFTEN = 64
"""Jobs after which it is noted how far the opening of many has come."""
LONGEST_WAIT = 60.0
"""Seconds: the wall clock may be set meanwhile, and that is seen with the next look."""
REFUSED = (QueueFull, TaskFull, StoreUnavailable, Draining)
"""Nothing was accepted, and the same start may be later."""


class ReadsFacts(Protocol):
    """The part of a store that is needed here."""

    async def facts(self, prefix: str) -> dict[str, bytes]:
        """The facts whose names begin so."""
        ...


class KeepsFacts(Protocol):
    """The part of a ledger that is needed here."""

    async def keep_fact(self, name: str, value: bytes | None) -> None:
        """Keep a fact, or forget it (None)."""
        ...


class Planned(msgspec.Struct, frozen=True):
    """The fact: the next due time, and what it was reckoned from."""

    next: float
    spec: str


class Plan:
    """What is planned for one task.

    Args:
        task, schedule: whose plan it is.
        next: the due time that comes next, in seconds since the epoch.
        kept: the due time that the store knows to be next, or None.
    """

    __slots__ = ("held", "kept", "next", "nudge", "owed", "schedule", "task")

    def __init__(self, task: Task, schedule: Schedule, next: float, kept: float | None) -> None:
        self.task = task
        self.schedule = schedule
        self.next = next
        self.kept = kept
        self.held = -math.inf
        """The last moment at which the task was seen to be paused."""
        self.owed: deque[float] = deque(maxlen=MOST)
        """Due times whose jobs are not open yet."""
        self.nudge = asyncio.Event()


class Schedules:
    """Opens the jobs of tasks that have a schedule.

    Args:
        tasks: of the catalog; those without a schedule are passed over.
        store: where the facts of an earlier process are.
        ledger: keeps them.
        open: opens a job of a task. It is given a key, and called again with the same key it must
            give the job that there is.
        paused: whether a task, by its name, is paused.
        clock: what the wall shows, in seconds since the epoch.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        store: ReadsFacts,
        ledger: KeepsFacts,
        open: Callable[[Task, str], Awaitable[Any]],
        *,
        paused: Callable[[str], bool] = lambda task: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tasks = tasks
        self._store = store
        self._ledger = ledger
        self._open = open
        self._paused = paused
        self._clock = clock
        self._plans: dict[str, Plan] = {}
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take over what an earlier process has planned, and begin the loops, on this event loop.

        Raises:
            StoreUnavailable: what was planned is not known, and nothing has begun.
        """
        known = await self._store.facts(PREFIX)
        for task in self._tasks:
            schedule = task.control.schedule
            if schedule is not None:
                plan = self._plan(task, schedule, known.get(PREFIX + task.name))
                self._plans[task.name] = plan
            elif PREFIX + task.name in known:
                # With a schedule again it begins anew, and has missed nothing.
                await self._ledger.keep_fact(PREFIX + task.name, None)
        self._loops = [
            asyncio.create_task(self._forever(plan), name=f"schedule-{name}")
            for name, plan in self._plans.items()
        ]

    async def stop(self) -> None:
        """End the loops and wait until they have. What is not open yet is still planned."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()
        self._plans.clear()

    def next_of(self, task: str) -> float | None:
        """The next due time of a task, in seconds since the epoch.

        Returns:
            None where it has no schedule, or is paused.
        """
        plan = self._plans.get(task)
        return None if plan is None or self._paused(task) else plan.next

    def look(self, task: str) -> None:
        """Look now and not at the next due time: the task goes on after a pause."""
        plan = self._plans.get(task)
        if plan is not None:
            plan.nudge.set()

    def _plan(self, task: Task, schedule: Schedule, fact: bytes | None) -> Plan:
        if fact is not None:
            try:
                planned = msgspec.json.decode(fact, type=Planned)
            except msgspec.DecodeError:
                logger.warning("what was planned for the task %r cannot be read", task.name)
            else:
                if planned.spec == schedule.spec and math.isfinite(planned.next):
                    return Plan(task, schedule, planned.next, planned.next)
        return Plan(task, schedule, next_after(schedule, self._clock()), None)

    async def _forever(self, plan: Plan) -> None:
        refused = False
        while True:
            try:
                wait = await self._look(plan)
                refused = False
            except REFUSED as error:
                if not (refused or isinstance(error, (StoreUnavailable, Draining))):
                    name = plan.task.name
                    logger.warning("the task %r is due, and will be tried again: %s", name, error)
                refused, wait = True, min(AGAIN, self._until_due(plan))
            except Exception:
                logger.exception("the schedule of %r failed, will be tried again", plan.task.name)
                wait = min(LONGEST_WAIT, self._until_due(plan))
            try:
                async with asyncio.timeout(min(wait, LONGEST_WAIT)):
                    await plan.nudge.wait()
            except TimeoutError:
                pass
            plan.nudge.clear()

    async def _look(self, plan: Plan) -> float:
        """Open what is due, and then keep what is next.

        Returns:
            seconds until there is something to do.
        """
        for opened in itertools.count(1):
            owes = self._owes(plan)
            if not owes or opened % OFTEN == 0:
                await self._keep(plan)
            if not owes:
                break
            # Where the task has other defaults since, the key is refused: its job is there.
            with contextlib.suppress(KeyReused):
                await self._open(plan.task, due_key(plan.owed[0]))
            plan.owed.popleft()
        return self._until_due(plan)

    async def _keep(self, plan: Plan) -> None:
        """Let the store know what is next: the first due time whose job is not open."""
        due = plan.owed[0] if plan.owed else plan.next
        if due != plan.kept:
            fact = msgspec.json.encode(Planned(due, plan.schedule.spec))
            await self._ledger.keep_fact(PREFIX + plan.task.name, fact)
            plan.kept = due

    def _owes(self, plan: Plan) -> bool:
        """See what came due, and whether a job is to be opened."""
        now = self._clock()
        if self._paused(plan.task.name):
            plan.held = now
            return False
        plan.held = min(plan.held, now)  # The clock may have been set back.
        due, following = to_open(plan.schedule, plan.next, now, held=plan.held)
        plan.owed.extend(due)
        plan.next = following
        return bool(plan.owed)

    def _until_due(self, plan: Plan) -> float:
        now = self._clock()
        due = plan.next
        if plan.held >= due:
            # A look at each due time of a pause tells them from those that come after it.
            due = next_after(plan.schedule, now)
        return max(0.001, due - now)
