"""How much runs at once, and how often, over many processes: whoever starts, runs and leads."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest

from quart_app.core.context import Context
from quart_app.core.operate import pause, resume
from quart_app.core.shared_backlog import SENT
from quart_app.core.start import task
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Change, Job
from quart_app.domain.limits import parse_rate
from quart_app.domain.queries import Query
from quart_app.domain.queues import begun
from quart_app.domain.status import Move
from quart_app.domain.tasks import Task
from quart_app.domain.workers import Worker
from quart_app.testing import virtual_run
from tests.core.fleet import Machine
from tests.core.twin import Broker, Place

pytestmark = pytest.mark.virtual


def thrown(seed: int) -> Random:
    """The same dice each time."""
    return Random(seed)  # noqa: S311 - no secret


class Seen:
    """Who runs at once, in all processes, and when each began."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.began: dict[str, list[float]] = defaultdict(list)
        self.times: Counter[str] = Counter()

    async def work(self, who: str, seconds: float) -> None:
        """Be counted while it lasts."""
        for each in (who, ""):
            self.began[each].append(asyncio.get_running_loop().time())
            self.running[each] += 1
            self.most[each] = max(self.most[each], self.running[each])
        try:
            await asyncio.sleep(seconds)
        finally:
            for each in (who, ""):
                self.running[each] -= 1

    def check_rate(self, who: str, rate: str) -> None:
        """No window has more begins than the rate allows."""
        bound = parse_rate(rate)
        began = self.began[who]
        for at, after in zip(began, began[bound.count :], strict=False):
            assert after - at >= bound.period


def seen_task(**control: Any) -> tuple[Task, Seen]:
    """A task with these options."""
    seen = Seen()

    async def work(who: str = "a", seconds: float = 1.0) -> None:
        await seen.work(who, seconds)

    made: Task = task(**control)(work)
    return made, seen


@contextlib.asynccontextmanager
async def fleet(
    *tasks: Task | Callable[..., Any], count: int = 3, room: int = 1_000, dice: Random | None = None
) -> AsyncIterator[tuple[Place, Broker, list[Machine]]]:
    """So many processes; the first one leads."""
    place, broker = Place(dice=dice), Broker(dice=dice)
    machines = [
        Machine(place, broker, *tasks, name=f"m{number}", room=room) for number in range(count)
    ]
    async with contextlib.AsyncExitStack() as stack:
        for machine in machines:
            await stack.enter_async_context(machine)
            while place.led_by() is None:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.1)
        yield place, broker, machines
    broker.close()


async def until_over(place: Place, count: int) -> list[Job]:
    """All jobs, when so many are over."""
    async with asyncio.timeout(100_000):
        while True:
            counts = await place.kept.counts()
            if counts["succeeded"] + counts["failed"] + counts["canceled"] >= count:
                break
            await asyncio.sleep(0.5)
    jobs: list[Job] = []
    before: int | None = None
    while True:
        page = await place.kept.page(Query(limit=100, before=before))
        jobs += page.jobs
        if page.next is None:
            return jobs
        before = page.next


def leader(place: Place, machines: list[Machine]) -> Machine:
    """Who leads."""
    [one] = [machine for machine in machines if machine.lead.leading]
    assert place.led_by() == one.name
    return one


# Limits, rates and pauses hold over all.


async def test_a_limit_holds_over_all_processes() -> None:
    """Whoever starts the jobs and wherever they run."""
    work, seen = seen_task(limit=2)
    async with fleet(work) as (place, broker, machines):
        for number in range(12):
            await machines[number % 3].start(work.name)
        jobs = await until_over(place, 12)
        assert {job.status for job in jobs} == {"succeeded"}
        assert seen.most[""] == 2
        assert sorted(broker.delivered) == sorted(job.id for job in jobs)
        await asyncio.sleep(1)
        assert await place.kept.facts(SENT) == {}


async def test_limits_of_keys_and_of_all_hold() -> None:
    """One of each user, three of all users."""
    work, seen = seen_task(limit=1, limit_key="{who}", limit_total=3)
    async with fleet(work) as (place, _, machines):
        for number in range(30):
            await machines[number % 3].start(work.name, who="abcde"[number % 5])
        await until_over(place, 30)
    assert seen.most == {"": 3, **dict.fromkeys("abcde", 1)}


async def test_a_rate_holds_and_is_used() -> None:
    """Each begin counts once, whatever else is told of the job."""
    rate = "5/10 seconds"
    work, seen = seen_task(rate=rate)
    async with fleet(work) as (place, _, machines):
        for number in range(20):
            await machines[number % 3].start(work.name, seconds=0.1)
        await until_over(place, 20)
    seen.check_rate("", rate)
    began = seen.began[""]
    assert began[-1] - began[0] < 31


async def test_what_is_told_of_a_running_job_is_no_begin() -> None:
    """Notes are many, and the rate is not used up by them."""

    @task(rate="2/minute")
    async def talks(context: Context) -> None:
        for number in range(20):
            context.progress(number, 20)
            await asyncio.sleep(1)

    async with fleet(talks) as (place, _, machines):
        began = asyncio.get_running_loop().time()
        for _ in range(3):
            await machines[0].start("talks")
        await until_over(place, 3)
        assert 60 < asyncio.get_running_loop().time() - began < 90


async def test_a_rate_holds_where_nobody_has_room_for_a_while() -> None:
    """What was let go on and could not begin does not begin all at once."""
    rate = "2/10 seconds"
    work, seen = seen_task(rate=rate)
    async with fleet(work, count=2) as (place, _, machines):
        places = [machine.engine.places for machine in machines]
        for each in places:
            each["loop"] = 0
        for _ in range(10):
            await machines[0].start(work.name, seconds=0.1)
        await asyncio.sleep(300)
        assert len(await place.kept.facts(SENT)) == 2
        for each in places:
            each["loop"] = 100
        machines[0].engine.broker.look()
        await until_over(place, 10)
    seen.check_rate("", rate)


async def test_jobs_without_limits_go_to_the_engine_at_once() -> None:
    """Also while nobody leads."""
    work, _ = seen_task()
    async with fleet(work, count=2) as (place, broker, machines):
        await leader(place, machines).lead.stop()
        job_id = await machines[1].start(work.name)
        assert job_id in broker.delivered
        await until_over(place, 1)


async def test_a_pause_holds_everywhere_and_ends_everywhere() -> None:
    """Whoever is asked; nothing that was refused meanwhile is lost."""
    limited, seen = seen_task(limit=2)
    plain_seen = Seen()

    async def plain(seconds: float = 1.0) -> None:
        await plain_seen.work("p", seconds)

    async with fleet(limited, plain) as (place, _, machines):
        other = machines[2]
        for name in (limited.name, "plain"):
            await pause(other.service, other.catalog[name])
        await asyncio.sleep(1.1)
        for number in range(12):
            await machines[number % 3].start([limited.name, "plain"][number % 2])
        await asyncio.sleep(60)
        assert (seen.most[""], plain_seen.most[""]) == (0, 0)
        for name in (limited.name, "plain"):
            await resume(machines[1].service, machines[1].catalog[name])
        began = asyncio.get_running_loop().time()
        await until_over(place, 12)
        assert asyncio.get_running_loop().time() - began < 8
        assert seen.most[""] == 2


async def test_what_was_let_go_on_before_a_pause_goes_on_after_it() -> None:
    """It was refused when it was delivered, and still counts."""
    work, seen = seen_task(limit=1)
    async with fleet(work) as (place, _, machines):
        for machine in machines:
            machine.engine.places["loop"] = 0
        for _ in range(3):
            await machines[0].start(work.name)
        await asyncio.sleep(1)
        await pause(machines[1].service, work)
        await asyncio.sleep(2)
        for machine in machines:
            machine.engine.places["loop"] = 10
        machines[0].engine.broker.look()
        await asyncio.sleep(30)
        assert seen.most[""] == 0
        await resume(machines[1].service, work)
        await until_over(place, 3)
        assert seen.most[""] == 1


# The lead goes to another.


async def test_what_was_let_go_on_counts_for_the_next_leader() -> None:
    """An urgent job does not get a slot that another has on its way to the engine."""
    work, seen = seen_task(limit=1)
    async with fleet(work, count=2) as (place, _, machines):
        for machine in machines:
            machine.engine.places["loop"] = 0
        first = await machines[0].start(work.name)
        await asyncio.sleep(1)
        assert list(await place.kept.facts(SENT)) == [SENT + first]
        await leader(place, machines).lead.stop()
        urgent = Job(id="urgent", task=work.name, priority=50)
        await machines[1].ledger.open([urgent])
        await asyncio.sleep(30)
        for machine in machines:
            machine.engine.places["loop"] = 10
        machines[0].engine.broker.look()
        await until_over(place, 2)
    assert seen.most[""] == 1


async def test_facts_of_what_has_begun_are_forgotten_by_the_next_leader() -> None:
    """Also of jobs that are not kept any more."""
    work, _ = seen_task(limit=1)
    async with fleet(work, count=1) as (place, _, machines):
        await machines[0].lead.stop()
        await place.kept.keep_fact(SENT + "gone", b"1")
        await place.kept.keep_fact(SENT + await machines[0].start(work.name), b"1")
        machines[0].lead.start()
        await until_over(place, 1)
        await asyncio.sleep(1)
        assert await place.kept.facts(SENT) == {}


async def test_a_job_of_a_dead_process_has_its_slot_until_it_is_rescued() -> None:
    """And an old delivery of it does not begin beside the one that has the slot then."""
    work, seen = seen_task(limit=1, max_attempts=3)
    async with fleet(work, count=2) as (place, broker, machines):
        one, other = machines
        other.engine.places["loop"] = 0
        lost = await one.start(work.name, seconds=100)
        later = await one.start(work.name, seconds=100)
        await asyncio.sleep(1)
        await one.kill()
        seen.running.clear()  # With its process.
        other.engine.places["loop"] = 10
        broker.look()
        jobs = await until_over(place, 2)
        assert seen.most[""] == 1
        assert {job.id: job.status for job in jobs} == dict.fromkeys([lost, later], "succeeded")


async def test_an_interrupted_job_waits_for_its_turn_elsewhere() -> None:
    """The limit holds although its process still says what becomes of it."""
    work, seen = seen_task(limit=1, max_attempts=3)
    async with fleet(work, count=3) as (place, _, machines):
        for machine in machines[1:]:
            machine.engine.places["loop"] = 0
        for _ in range(4):
            await machines[0].start(work.name, seconds=100)
        await asyncio.sleep(1)
        for machine in machines[1:]:
            machine.engine.places["loop"] = 10
        await machines[0].stop(drain=5)
        jobs = await until_over(place, 4)
        assert [job.status for job in jobs] == ["succeeded"] * 4
        assert sum(len(job.history) for job in jobs) == 1
    assert seen.most[""] == 1


# Who waits for others.


@task(limit=1)
async def family(context: Context, children: int = 0) -> int:
    """A parent and its children are of one task, of which one may run at once."""
    if not children:
        await asyncio.sleep(1)
        return 1
    started = [context.start(family) for _ in range(children)]
    return sum(await context.gather(*started))


async def test_a_parent_that_waits_for_its_children_does_not_block_them() -> None:
    """With one slot for all, wherever they run; also while the leader changes."""
    async with fleet(family) as (place, _, machines):
        parent = await machines[1].start("family", children=3)
        await asyncio.sleep(0.5)
        assert (await machines[0].job(parent)).waits
        gone = leader(place, machines)
        await gone.lead.stop()
        await gone.store.leave(gone.name)
        await gone.store.beat(Worker(id=gone.name), 1_000)
        job = await machines[2].ended(parent)
        assert (job.status, job.result, job.waits) == ("succeeded", b"3", False)
        await until_over(place, 4)


async def test_that_a_job_waits_is_said_until_it_is_kept() -> None:
    """Otherwise its children would wait for ever for a slot that is free."""
    async with fleet(family, count=2) as (place, _, machines):
        said: list[bool] = []
        for machine in machines:
            say = machine.backlog.say

            async def fails_twice(
                job_id: str, waits: bool, say: Callable[..., Any] = say
            ) -> object:
                said.append(waits)
                if said.count(True) <= 2 and waits:
                    raise StoreUnavailable("gone for a moment")
                return await say(job_id, waits)

            machine.backlog.say = fails_twice
        await machines[0].start("family", children=1)
        jobs = await until_over(place, 2)
        assert {job.status for job in jobs} == {"succeeded"}
        assert said == [True, True, True, False]


async def test_the_last_word_is_what_is_kept() -> None:
    """However slow the first one was: one at a time, and what is not news any more is not said."""
    work, _ = seen_task(limit=1)
    async with fleet(work, count=1) as (_, _broker, [machine]):
        said: dict[str, list[bool]] = defaultdict(list)
        backlog = machine.backlog

        async def slow(job_id: str, waits: bool) -> None:
            await asyncio.sleep(1)
            said[job_id].append(waits)

        backlog.say = slow
        for _ in range(3):
            backlog.step_aside("a", "loop")
            await backlog.step_back("a", "loop")
        backlog.step_aside("b", "loop")
        await asyncio.sleep(0.5)
        backlog.step_aside("a", "loop")
        await backlog.step_back("b", "loop")
        await asyncio.sleep(5)
        assert said == {"a": [False, True], "b": [True, False]}
        assert machine.engine.running("loop") == -1  # Of what never ran.
        await machine.store.close()
        await backlog.step_back("a", "loop")


async def test_nothing_is_said_to_a_store_that_is_closed() -> None:
    """The process ends, and does not try for ever."""
    work, _ = seen_task()
    async with fleet(work, count=1) as (_, _broker, [machine]):
        machine.backlog.step_aside("a", "loop")
        await machine.store.close()
        await asyncio.sleep(0.1)
        assert not machine.backlog._errands


# What is heard may be older than what was read, and the other way round.


async def test_what_the_leader_read_is_not_undone_by_what_it_hears_later() -> None:
    """It reads that a job waits and lets it go on; then it hears that it came."""
    work, seen = seen_task(limit=1)
    async with fleet(work, count=2) as (place, _, machines):
        one, other = machines
        await asyncio.sleep(1)
        for machine in machines:
            machine.engine.places["loop"] = 0
        tell, late = place.tell, list[Any]()
        place.tell = late.extend  # type: ignore[assignment,method-assign]
        ids = [await other.start(work.name) for _ in range(3)]
        one.backlog.missed()
        await asyncio.sleep(1)
        assert await place.kept.facts(SENT) == {SENT + ids[0]: b"1"}
        place.tell = tell  # type: ignore[method-assign]
        tell(late)
        await asyncio.sleep(1)
        assert await place.kept.facts(SENT) == {SENT + ids[0]: b"1"}
        for machine in machines:
            machine.engine.places["loop"] = 5
        one.engine.broker.look()
        await until_over(place, 3)
    assert seen.most[""] == 1


async def test_what_was_not_heard_is_found_by_the_next_look() -> None:
    """Ended, put back or begun: what counts is what the store says."""
    work, _ = seen_task(limit=2, rate="3/hour", max_attempts=5)
    async with fleet(work, count=1) as (place, _, [machine]):
        machine.engine.places["loop"] = 0
        await machine.start(work.name)
        await machine.start(work.name)
        await asyncio.sleep(0.5)
        turns = machine.backlog._turns["loop"]
        one, other = turns.runs
        place.tell = lambda heard: None  # type: ignore[method-assign]
        for job_id in (one, other):
            await place.kept.move(job_id, Change(Move.CLAIM, 1.0, worker=machine.name))
        await machine.backlog.check()
        assert [turns.sent(each) for each in (one, other)] == [False, False]
        await place.kept.move(one, Change(Move.SUCCEED, 2.0))
        await place.kept.move(other, Change(Move.INTERRUPT, 2.0))
        await machine.backlog.check()
        await asyncio.sleep(0.1)
        assert list(turns.runs) == [other]
        assert turns.sent(other)
        assert turns.wake_at(machine.now()) is None
        await place.kept.move(other, Change(Move.WITHDRAW, 3.0))
        await machine.backlog.check()
        assert not turns.runs
        await asyncio.sleep(0.1)
        assert await place.kept.facts(SENT) == {}
        machine.engine.broker.waiting.clear()


async def test_who_does_not_lead_holds_nothing() -> None:
    """Nor does who does not lead any more."""
    work, _ = seen_task(limit=1)
    async with fleet(work, count=2) as (place, _, machines):
        for _ in range(5):
            await machines[1].start(work.name, seconds=1_000.0)
        await asyncio.sleep(1)
        assert [machine.backlog.known for machine in machines] == [4, 0]
        assert [machine.backlog.position("x", "loop") for machine in machines] == [None, None]
        await machines[0].lead.stop()
        assert machines[0].backlog.known == 0
        machines[0].backlog.missed()
        for job in (await place.kept.page(Query(limit=10))).jobs:
            await machines[0].service.cancel(job.id)
        await until_over(place, 5)


CONTROLS: list[dict[str, Any]] = [
    {"limit": 3},
    {"limit": 1, "limit_key": "{who}", "limit_total": 3},
    {"rate": "4/10 seconds"},
    {"limit": 2, "rate": "3/7 seconds"},
    {"rate": "2/10 seconds", "limit_key": "{who}", "rate_total": "5/10 seconds", "limit_total": 4},
]


class Storm:
    """Processes that come, go, are killed and cut off, while jobs with limits run.

    Args:
        seed: of the dice.
        control: the options of the task.
        kills: whether processes are killed, too.
    """

    def __init__(self, seed: int, control: dict[str, Any], kills: bool) -> None:
        self.dice = thrown(seed)
        self.work, self.seen = seen_task(max_attempts=50, **control)
        self.kills = kills
        self.place = Place(dice=self.dice)
        self.broker = Broker(lease=30.0, dice=self.dice)
        self.machines: list[Machine] = []
        self.leaders: set[str] = set()
        self.killed: set[str | None] = set()
        self.count = 0

    async def more(self) -> None:
        """One more process."""
        self.count += 1
        name = f"m{self.count:02}"
        # Who is cut off and leads no more is alive: its jobs run, and count.
        shared = (self.place, self.broker, self.work)
        machine = Machine(*shared, name=name, room=4, lease=40.0, term=5.0)
        self.machines.append(machine)
        await machine.__aenter__()

    async def starts(self, jobs: int) -> None:
        """Jobs of all keys and priorities, by any process."""
        started = 0
        while started < jobs:
            await asyncio.sleep(self.dice.random())
            machine = self.dice.choice(self.machines)
            priority = self.dice.choice([0, 0, 0, 5, -5])
            who, seconds = self.dice.choice("abcd"), self.dice.random() * 4
            job = Job(
                id=f"{started}",
                task=self.work.name,
                args=self.work.arguments.write({"who": who, "seconds": seconds}),
                turn=who if self.work.limits.key else None,
                priority=priority,
                max_attempts=50,
                created_at=machine.now(),
                updated_at=machine.now(),
            )
            with contextlib.suppress(StoreUnavailable):
                if await self.place.kept.get(job.id) is None:
                    await machine.ledger.open([job])
                started += 1

    async def trouble(self) -> None:
        """Something happens to a process, again and again."""
        while True:
            await asyncio.sleep(self.dice.random() * 6)
            lead = self.place.led_by()
            self.leaders.add(lead or "")
            hit = self.dice.choice(self.machines)
            if self.dice.random() < 0.6:  # More often the one that leads.
                hit = next((each for each in self.machines if each.name == lead), hit)
            what = self.dice.choice(["stop", "cut", "broker", "kill" if self.kills else "resign"])
            if what == "cut":
                await self.cut_off(hit)
            elif what == "broker":
                hit.engine.cut = True
                await asyncio.sleep(self.dice.random() * 5)
                hit.engine.cut = False
            elif what == "resign":
                await hit.lead.stop()
                if self.place.led_by() == hit.name:
                    self.place.leader = None  # As if it had left, and is back at once.
                hit.lead.start()
            else:
                self.machines.remove(hit)
                await self.more()
                if what == "kill":
                    self.killed.add(hit.name)
                await (hit.kill() if what == "kill" else hit.stop(drain=2))

    async def cut_off(self, hit: Machine) -> None:
        """Its store cannot be reached for a while: shorter than it counts as alive."""
        hit.store.cut = True
        await asyncio.sleep(self.dice.random() * 12)
        hit.store.cut = False

    async def run(self, jobs: int) -> list[Job]:
        """All of it, until every job is over."""
        for _ in range(3):
            await self.more()
        trouble = asyncio.create_task(self.trouble())
        await self.starts(jobs)
        found = await until_over(self.place, jobs)
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)
        for machine in self.machines:
            machine.store.cut = False
            if not machine.dead:
                await machine.stop(drain=1)
        self.broker.close()
        return found


@pytest.mark.slow
@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: "-".join(control))
@pytest.mark.parametrize("seed", range(4))
def test_limits_hold_and_nothing_is_lost_whatever_becomes_of_the_leader(
    seed: int, control: dict[str, Any]
) -> None:
    """Processes come, go and die, are cut off from store or broker, and the lead wanders."""
    storm = Storm(seed, control, kills=seed % 2 == 1)
    jobs = virtual_run(storm.run(150))
    assert len(jobs) == 150
    for job in jobs:
        if job.status != "succeeded":  # The dice may kill whoever runs it three times in a row.
            ran_in = [*(attempt.worker for attempt in job.history[-2:]), job.worker]
            assert job.reason == "poison"
            assert storm.killed.issuperset(ran_in)
            assert len(set(ran_in)) == 3
    check_bounds(storm, control, jobs)
    assert len(storm.leaders) > 2


def moments(jobs: list[Job]) -> dict[str, list[float]]:
    """When attempts began, of each key and of all, as their claims say."""
    found: dict[str, list[float]] = defaultdict(list)
    for job in jobs:
        for at in begun(job, -1.0):
            for who in ("", job.turn or "-"):
                bisect.insort(found[who], at)
    return found


def check_bounds(storm: Storm, control: dict[str, Any], jobs: list[Job]) -> None:
    """What the options say, of each key and of all."""
    keyed = "limit_key" in control
    storm.seen.began = moments(jobs)
    for who in "abcd":
        if keyed and "limit" in control:
            assert storm.seen.most[who] <= control["limit"]
        if keyed and "rate" in control:
            storm.seen.check_rate(who, control["rate"])
    if (limit := control.get("limit_total" if keyed else "limit")) is not None:
        assert storm.seen.most[""] <= limit
    if (rate := control.get("rate_total" if keyed else "rate")) is not None:
        storm.seen.check_rate("", rate)
