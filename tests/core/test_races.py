"""Start, cancel, timeout, completion and shutdown at every half-step of virtual time.

The invariant is asserted, not the path: every job reaches one end, tells of it once, and shows
``canceled`` only when none of its code runs any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import product
from typing import Any, NamedTuple

import pytest

from quart_app.core.context import Context
from quart_app.core.ports import Store
from quart_app.core.start import StartableTask
from quart_app.domain.errors import Draining
from quart_app.domain.jobs import Change, Job, JobEvent, Note, RequestKey
from quart_app.domain.tasks import Task
from quart_app.stores.memory import MemoryStore
from tests.core.support import Core

pytestmark = [pytest.mark.virtual, pytest.mark.slow]

DRAIN, GRACE = 1.0, 1.0
HALF_STEPS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
MAYBE: tuple[float | None, ...] = (None, *HALF_STEPS)


class Probe:
    """What is seen of one job's function from inside."""

    def __init__(self) -> None:
        self.inside = 0
        self.begun = 0
        self.returned = 0
        self.cancels = 0
        self.inside_when_canceled = 0
        self.asked = False
        self.let_it_pass = False


Behaviour = Callable[[Context, Probe, Core], Awaitable[object]]
Act = Callable[[Core, list[str]], Coroutine[Any, Any, None]]


async def plain(ctx: Context, probe: Probe, core: Core) -> str:
    """Waits, and lets a cancel pass."""
    await asyncio.sleep(1)
    return "plain"


async def at_once(ctx: Context, probe: Probe, core: Core) -> str:
    """Never waits."""
    return "at once"


async def swallows(ctx: Context, probe: Probe, core: Core) -> str:
    """Takes a cancel for a hint, and comes to its end."""
    try:
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        probe.cancels += 1
        await asyncio.sleep(0.5)
    return "swallowed"


async def cleans_slowly(ctx: Context, probe: Probe, core: Core) -> None:
    """Its cleanup waits too; a second cancel would cut it."""
    try:
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        probe.cancels += 1
        raise
    finally:
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            probe.cancels += 1
            raise


async def fails_in_cleanup(ctx: Context, probe: Probe, core: Core) -> None:
    """Its cleanup raises."""
    try:
        await asyncio.sleep(1)
    finally:
        raise OSError("cleanup")


async def raises_cancelled(ctx: Context, probe: Probe, core: Core) -> None:
    """Raises CancelledError by itself."""
    await asyncio.sleep(1)
    raise asyncio.CancelledError


async def cancels_its_task(ctx: Context, probe: Probe, core: Core) -> None:
    """Cancels the asyncio task in which it runs, and does not wait for what comes of it."""
    await asyncio.sleep(1)
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def cancels_its_job(ctx: Context, probe: Probe, core: Core) -> None:
    """Asks for its own end."""
    await asyncio.sleep(0.5)
    await core.service.cancel(ctx.id)
    await asyncio.sleep(0.5)


async def stubborn(ctx: Context, probe: Probe, core: Core) -> None:
    """Does not stop within the grace."""
    until = asyncio.get_running_loop().time() + 4
    while (left := until - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            probe.cancels += 1


async def uses_timeouts(ctx: Context, probe: Probe, core: Core) -> None:
    """Its own timeout may fall into the same tick as ours."""
    try:
        async with asyncio.timeout(1):
            await asyncio.sleep(9)
    except TimeoutError:
        await asyncio.sleep(0.5)


async def uses_groups(ctx: Context, probe: Probe, core: Core) -> None:
    """A child fails while a cancel may be on its way."""

    async def child() -> None:
        await asyncio.sleep(1)
        raise ValueError("child")

    async with asyncio.TaskGroup() as group:
        group.create_task(child())
        await asyncio.sleep(9)


async def waits_for_another(ctx: Context, probe: Probe, core: Core) -> object:
    """Awaits the result of another job, which must not hear of our cancel."""
    other = core.catalog["other"]
    assert isinstance(other, StartableTask)
    handle = await other.start()
    return await handle.result(timeout=1.5)


BEHAVIOURS: list[Behaviour] = [
    plain,
    at_once,
    swallows,
    cleans_slowly,
    fails_in_cleanup,
    raises_cancelled,
    cancels_its_task,
    cancels_its_job,
    stubborn,
    uses_timeouts,
    uses_groups,
    waits_for_another,
]


class Plan(NamedTuple):
    """When what happens; None is never."""

    cancels: tuple[float, ...] = ()
    timeout: float | None = None
    shutdown: float | None = None
    start: float = 0.0
    shutdown_first: bool = False


class Sweep:
    """Plays plans for one behaviour, and collects every breach of the invariant."""

    def __init__(self, behaviour: Behaviour, store: Callable[[], Store] = MemoryStore) -> None:
        self.behaviour = behaviour
        self.make_store = store
        self.breaches: list[str] = []
        self.played = 0

    async def play(self, plan: Plan, room: int = 5, acts: Sequence[Act] = ()) -> None:
        """One run of one plan, in a core of its own."""
        self.played += 1
        probes: dict[str, Probe] = {}
        wrong: list[str] = []

        async def job(ctx: Context) -> object:
            probe = probes[ctx.id]
            probe.begun += 1
            probe.inside += 1
            try:
                result = await self.behaviour(ctx, probe, core)
                probe.returned += 1
                return result
            except asyncio.CancelledError:
                probe.let_it_pass = probe.asked
                raise
            finally:
                probe.inside -= 1

        async def other() -> str:
            await asyncio.sleep(1)
            return "other"

        def told(event: JobEvent) -> None:
            probe = probes.setdefault(event.job.id, Probe())
            probe.inside_when_canceled += event.job.status == "canceled" and probe.inside

        task = Task(job, timeout=plan.timeout)
        core = Core(
            task,
            StartableTask(other),
            room=room,
            drain=DRAIN,
            grace=GRACE,
            store=self.make_store(),
        )
        core.hub.subscribe(told)
        async with core:
            await self._act(core, plan, acts, probes)
            await core.engine.idle()
            core.check_stories()
            for job_id, probe in probes.items():
                if probe.begun:
                    wrong += check(await core.job(job_id), probe, plan)
            assert core.is_clean()
        self.breaches += [f"{plan}: {each}" for each in wrong]

    async def _act(
        self,
        core: Core,
        plan: Plan,
        acts: Sequence[Act],
        probes: dict[str, Probe],
    ) -> None:
        ids: list[str] = []

        async def start() -> None:
            await asyncio.sleep(plan.start)
            for name in ("job", "job"):
                try:
                    ids.append(await core.start(name))
                except Draining:
                    assert plan.shutdown is not None

        async def cancel(moment: float) -> None:
            await asyncio.sleep(moment)
            for job_id in ids[:1]:
                await core.service.cancel(job_id)
                probes[job_id].asked = True

        async def shutdown(moment: float) -> None:
            await asyncio.sleep(moment)
            begun = core.now()
            await core.drain.finish()
            assert core.now() <= begun + DRAIN + GRACE

        async with asyncio.TaskGroup() as group:
            group.create_task(start())
            if plan.shutdown is not None and plan.shutdown_first:
                group.create_task(shutdown(plan.shutdown))
            for moment in plan.cancels:
                group.create_task(cancel(moment))
            if plan.shutdown is not None and not plan.shutdown_first:
                group.create_task(shutdown(plan.shutdown))
            for act in acts:
                group.create_task(act(core, ids))


def check(job: Job, probe: Probe, plan: Plan) -> list[str]:
    """What of the invariant one job's record breaks."""
    given_up = job.reason == "shutdown"
    unasked = job.cancel_requested_at is None
    breaches = [
        (probe.begun != 1 or job.attempt != 1, f"begun {probe.begun} times, not once"),
        (probe.cancels > 1, f"saw {probe.cancels} CancelledErrors"),
        (probe.inside, "over, and its code runs"),
        (probe.inside_when_canceled, "shown as canceled while its code ran"),
        (probe.returned and job.status != "succeeded" and not given_up, "returned, not succeeded"),
        (job.status == "succeeded" and not probe.returned, "succeeded, and did not return"),
        (job.status == "canceled" and unasked, "canceled, and nobody had asked"),
        (
            probe.let_it_pass and job.status != "canceled" and not given_up,
            "was asked to stop and stopped, and is not canceled",
        ),
        (job.reason == "timeout" and plan.timeout is None, "timed out without a timeout"),
        (given_up and plan.shutdown is None, "ended by a shutdown that was none"),
        (job.unresponsive, "over, and shown as unresponsive"),
    ]
    return [what for breach, what in breaches if breach]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_no_job_is_lost_whatever_meets_at_whichever_moment(behaviour: Behaviour) -> None:
    """Each order of cancel, timeout, completion and shutdown, ties in both orders."""
    sweep = Sweep(behaviour)
    timeouts = (None, 0.5, 1.0, 1.5)
    for cancel, timeout, shutdown in product(MAYBE, timeouts, MAYBE):
        cancels = () if cancel is None else (cancel,)
        await sweep.play(Plan(cancels, timeout, shutdown))
        if cancel is not None and cancel == shutdown:
            await sweep.play(Plan(cancels, timeout, shutdown, shutdown_first=True))
    assert sweep.breaches == []
    assert sweep.played == 7 * 4 * 7 + 6 * 4


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_a_second_cancel_changes_nothing(behaviour: Behaviour) -> None:
    """Not during the cleanup, not in the same tick, not beside a timeout."""
    sweep = Sweep(behaviour)
    for first, second, timeout in product(HALF_STEPS, HALF_STEPS, (None, 0.5, 1.0)):
        if first <= second:
            await sweep.play(Plan((first, second, second), timeout))
    assert sweep.breaches == []


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_a_job_that_is_started_beside_a_shutdown_ends_or_is_refused(
    behaviour: Behaviour,
) -> None:
    """Started at every half-step, with room for one of two."""
    sweep = Sweep(behaviour)
    for start, shutdown, cancel in product(HALF_STEPS, HALF_STEPS, (None, 1.0)):
        cancels = () if cancel is None else (cancel,)
        for first in (False, True):
            plan = Plan(cancels, None, shutdown, start, shutdown_first=first)
            await sweep.play(plan, room=1 if behaviour is not waits_for_another else 5)
    assert sweep.breaches == []


class Slow(MemoryStore):
    """Every operation waits a few turns of the loop, before and after it is done."""

    instant = False

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        await turns(2)
        return await super().add(jobs, max_waiting, key, max_of_task)

    async def get(self, job_id: str) -> Job | None:
        await turns(2)
        return await super().get(job_id)

    async def move(self, job_id: str, change: Change) -> Job | None:
        await turns(2)
        job = await super().move(job_id, change)
        await turns(2)
        return job

    async def note(self, job_id: str, note: Note) -> Job | None:
        await turns(2)
        job = await super().note(job_id, note)
        await turns(2)
        return job


async def turns(count: int) -> None:
    """Let others run so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def waits_a_turn(ctx: Context, probe: Probe, core: Core) -> None:
    """Ends within a few turns of the loop."""
    try:
        await turns(3)
    except asyncio.CancelledError:
        probe.cancels += 1
        await turns(3)
        raise


@pytest.mark.parametrize("behaviour", [waits_a_turn, at_once, cancels_its_task, cleans_slowly])
@pytest.mark.parametrize("store", [MemoryStore, Slow])
async def test_no_turn_of_the_loop_loses_a_cancel(
    behaviour: Behaviour, store: Callable[[], Store]
) -> None:
    """Two cancels and a shutdown after so many turns, also with a store that takes its time."""
    sweep = Sweep(behaviour, store)

    def cancel_after(count: int) -> Act:
        async def act(core: Core, ids: list[str]) -> None:
            await turns(count)
            for job_id in ids[:1]:
                await core.service.cancel(job_id)

        return act

    def shut_down_after(count: int) -> Act:
        async def act(core: Core, ids: list[str]) -> None:
            await turns(count)
            core.drain.hurry()
            await core.drain.finish()

        return act

    for count in range(40):
        await sweep.play(Plan(), acts=[cancel_after(count)])
        await sweep.play(Plan(), acts=[cancel_after(count), cancel_after(count + count % 5)])
        with_shutdown: list[Act] = [cancel_after(count), shut_down_after(count + count % 7)]
        await sweep.play(Plan(shutdown=0), acts=with_shutdown)
        await sweep.play(Plan(shutdown=0), room=1, acts=with_shutdown[::-1])
    assert sweep.breaches == []
