"""Start, error, retry, cancel, timeout and shutdown at every half-step of virtual time.

The invariant is asserted, not the path: every job comes to one end and tells of it once, or waits
in the store for the next process, which brings it to its end; no function begins more often than it
may, and none runs while its job is shown as over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import product
from typing import NamedTuple

import pytest

from quart_app.core.context import Context
from quart_app.core.ports import Store
from quart_app.domain.errors import Draining
from quart_app.domain.jobs import Change, Job, JobEvent, Note, RequestKey
from quart_app.domain.retries import Fail, Retry, RetryAfter
from quart_app.domain.status import TERMINAL, WAITING
from quart_app.domain.tasks import Task
from quart_app.stores.memory import MemoryStore
from tests.core.support import Core, Durable, Tended

pytestmark = [pytest.mark.virtual, pytest.mark.slow]

DRAIN, GRACE, ATTEMPTS = 1.0, 1.0, 3
HALF_STEPS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.5)
MAYBE: tuple[float | None, ...] = (None, *HALF_STEPS)
BACKOFF = Retry(initial=0.5, factor=2, jitter=0)


class Probe:
    """What is seen of one job's function from inside, over all its attempts."""

    def __init__(self) -> None:
        self.inside = 0
        self.begun = 0
        self.most_inside = 0
        self.inside_when_over = 0
        self.after_its_end = 0
        self.over = False


Behaviour = Callable[[Context, Probe], Awaitable[object]]


async def fails(ctx: Context, probe: Probe) -> None:
    """Every time."""
    await asyncio.sleep(0.5)
    raise OSError("no")


async def fails_at_once(ctx: Context, probe: Probe) -> None:
    """Every time, without waiting."""
    raise OSError("no")


async def fails_once(ctx: Context, probe: Probe) -> str:
    """The second attempt is better."""
    await asyncio.sleep(0.5)
    if probe.begun == 1:
        raise OSError("no")
    await asyncio.sleep(0.5)
    return "done"


async def comes_back_at_once(ctx: Context, probe: Probe) -> None:
    """Without any delay between its attempts."""
    await asyncio.sleep(0.5)
    raise RetryAfter(0)


async def fails_in_cleanup(ctx: Context, probe: Probe) -> None:
    """Whatever stops it makes it fail."""
    try:
        await asyncio.sleep(1)
    finally:
        raise OSError("cleanup")


async def cleans_slowly(ctx: Context, probe: Probe) -> None:
    """Its cleanup waits, and then it fails or ends canceled."""
    try:
        await asyncio.sleep(1)
        raise OSError("no")
    finally:
        await asyncio.sleep(0.5)


async def swallows(ctx: Context, probe: Probe) -> str:
    """Takes a cancel for a hint."""
    try:
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        await asyncio.sleep(0.5)
        return "done anyway"
    raise OSError("no")


async def stubborn(ctx: Context, probe: Probe) -> None:
    """Does not stop within the grace, and then fails."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 3
    while (left := until - loop.time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
    raise OSError("no")


async def takes_steps(ctx: Context, probe: Probe) -> int:
    """Each of them half a step of time."""
    total = 0
    for number in range(3):
        total += await ctx.step(f"step {number}", step, probe)
    return total


async def step(probe: Probe) -> int:
    await asyncio.sleep(0.5)
    if probe.begun == 1:
        raise OSError("the first attempt fails")
    return 1


async def gives_up(ctx: Context, probe: Probe) -> None:
    """Says in the second attempt that there is no use."""
    await asyncio.sleep(0.5)
    raise OSError("no") if probe.begun == 1 else Fail("no use")


BEHAVIOURS: list[Behaviour] = [
    fails,
    fails_at_once,
    fails_once,
    comes_back_at_once,
    fails_in_cleanup,
    cleans_slowly,
    swallows,
    stubborn,
    takes_steps,
    gives_up,
]


class Plan(NamedTuple):
    """When what happens; None is never."""

    cancel: float | None = None
    timeout: float | None = None
    shutdown: float | None = None
    start: float = 0.0


class SlowDurable(Durable):
    """Every operation waits a few turns of the loop, before and after it is done."""

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        await turns()
        kept = await super().add(jobs, max_waiting, key, max_of_task)
        await turns()
        return kept

    async def get(self, job_id: str) -> Job | None:
        await turns()
        return await super().get(job_id)

    async def move(self, job_id: str, change: Change) -> Job | None:
        await turns()
        job = await super().move(job_id, change)
        await turns()
        return job

    async def note(self, job_id: str, note: Note) -> Job | None:
        await turns()
        job = await super().note(job_id, note)
        await turns()
        return job

    async def due(self, now: float, limit: int) -> list[Job]:
        jobs = await super().due(now, limit)
        await turns()
        return jobs


async def turns(count: int = 2) -> None:
    """Let others run so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


class Sweep:
    """Plays plans for one behaviour, and collects every breach of the invariant."""

    def __init__(self, behaviour: Behaviour, store: Callable[[], Store]) -> None:
        self.behaviour = behaviour
        self.make_store = store
        self.breaches: list[str] = []
        self.played = 0
        self._probes: dict[str, Probe] = {}
        self._left_behind: Callable[[], int] = int

    async def _job(self, ctx: Context) -> object:
        probe = self._probes[ctx.id]
        probe.begun += 1
        probe.inside += 1
        probe.after_its_end += probe.over
        probe.most_inside = max(probe.most_inside, probe.inside)
        try:
            return await self.behaviour(ctx, probe)
        finally:
            probe.inside -= 1

    def _core(self, plan: Plan, store: Store, room: int) -> Core:
        task = Task(
            self._job, name="job", timeout=plan.timeout, max_attempts=ATTEMPTS, retry=BACKOFF
        )
        core = Tended(task, room=room, drain=DRAIN, grace=GRACE, store=store, window=2)
        core.hub.subscribe(self._told)
        self._left_behind = lambda: core.drain.left
        return core

    def _told(self, event: JobEvent) -> None:
        probe = self._probes.setdefault(event.job.id, Probe())
        if event.job.status in TERMINAL:
            # What a shutdown leaves behind runs until the process ends, a moment later.
            given_up = self._left_behind() > 0
            probe.inside_when_over += probe.inside and not given_up
            probe.over = True

    async def play(self, plan: Plan, room: int = 5) -> None:
        """One run of one plan, in a core of its own; what waits then is the next core's."""
        self.played += 1
        self._probes = {}
        store = self.make_store()
        async with self._core(plan, store, room) as core:
            await self._act(core, plan)
            if plan.shutdown is None:
                await self._all_over(core)
            await core.engine.idle()  # What was left behind ends, too: its word is refused.
            jobs = [await core.job(job_id) for job_id in self._probes]
            self._check(plan, core, jobs, ended=plan.shutdown is None or store.volatile)
        if not all(job.over for job in jobs):
            async with self._core(plan, store, room) as core:
                await self._all_over(core)
                await core.engine.idle()
                again = [await core.job(job.id) for job in jobs]
                self._check(plan, core, again, ended=True)
                self._check_canceled(plan, jobs, again)

    async def _act(self, core: Core, plan: Plan) -> None:
        ids: list[str] = []

        async def start() -> None:
            await asyncio.sleep(plan.start)
            for _ in range(2):
                try:
                    ids.append(await core.start("job"))
                except Draining:
                    assert plan.shutdown is not None

        async def cancel(moment: float) -> None:
            await asyncio.sleep(moment)
            for job_id in ids[:1]:
                await core.service.cancel(job_id)

        async def shutdown(moment: float) -> None:
            await asyncio.sleep(moment)
            begun = core.now()
            await core.drain.finish()
            assert core.now() <= begun + DRAIN + GRACE

        async with asyncio.TaskGroup() as group:
            group.create_task(start())
            if plan.cancel is not None:
                group.create_task(cancel(plan.cancel))
            if plan.shutdown is not None:
                group.create_task(shutdown(plan.shutdown))

    async def _all_over(self, core: Core) -> None:
        async with asyncio.timeout(100):
            while True:
                counts = await core.store.counts()
                if not counts["queued"] + counts["scheduled"] + counts["running"]:
                    return
                await asyncio.sleep(0.5)

    def _check(self, plan: Plan, core: Core, jobs: list[Job], *, ended: bool) -> None:
        for job in jobs:
            probe = self._probes[job.id]
            told = [event for event in core.events if event.job.id == job.id]
            endings = [event for event in told if event.job.status in TERMINAL]
            interrupts = sum(each.reason == "shutdown" for each in job.history)
            asked = job.cancel_requested_at is not None or job.reason == "requested"
            found = [
                (ended and not job.over, "is not over"),
                (job.status not in TERMINAL | WAITING, "neither over nor waiting"),
                (len(endings) > 1, f"told {len(endings)} endings"),
                (bool(endings) and told[-1] is not endings[0], "told something after its end"),
                (bool(endings) and told[-1].job != job, "is not what was told"),
                (probe.most_inside > 1, "ran twice at the same time"),
                (probe.inside > 0, "its code runs"),
                (probe.inside_when_over > 0, "was over while its code ran"),
                (probe.after_its_end > 0, "began after its end"),
                (probe.begun > ATTEMPTS + interrupts, f"began {probe.begun} times"),
                (job.attempt > ATTEMPTS, f"has attempt {job.attempt}"),
                (len(job.history) > ATTEMPTS - 1 + interrupts and not ended, "too long a history"),
                (job.status == "canceled" and not asked and job.reason != "shutdown", "who asked?"),
                (job.unresponsive, "unresponsive"),
                (job.id in core.backlog.held, "held"),
                (job.status == "scheduled" and job.run_at is None, "scheduled for never"),
            ]
            self.breaches += [f"{plan}: {what}: {job}" for breach, what in found if breach]

    def _check_canceled(self, plan: Plan, before: list[Job], after: list[Job]) -> None:
        """One that was asked to end, and still waited, does not begin again."""
        for old, new in zip(before, after, strict=True):
            if not old.over and old.cancel_requested_at is not None:
                began = len(new.history) > len(old.history) or new.status != "canceled"
                self.breaches += [f"{plan}: asked to end, and began: {new}"] if began else []


@pytest.mark.parametrize("store", [MemoryStore, Durable, SlowDurable])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_no_attempt_is_lost_whatever_meets_at_whichever_moment(
    behaviour: Behaviour, store: Callable[[], Store]
) -> None:
    """Each order of error, retry, cancel, timeout and shutdown."""
    sweep = Sweep(behaviour, store)
    for cancel, timeout, shutdown in product(MAYBE, (None, 0.5, 1.0), MAYBE):
        await sweep.play(Plan(cancel, timeout, shutdown))
    assert sweep.breaches == []
    assert sweep.played == 8 * 3 * 8


@pytest.mark.parametrize("store", [MemoryStore, Durable])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_attempts_that_wait_for_room_are_not_lost_either(
    behaviour: Behaviour, store: Callable[[], Store]
) -> None:
    """Started at every half-step beside a shutdown, with room for one of two."""
    sweep = Sweep(behaviour, store)
    for start, shutdown, cancel in product(HALF_STEPS, HALF_STEPS, (None, 1.0, 2.0)):
        await sweep.play(Plan(cancel, None, shutdown, start), room=1)
    assert sweep.breaches == []
