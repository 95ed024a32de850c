"""How much runs and in which order, through the whole core: limits, rates, fairness, pauses."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from quart_app.core.lag import Lag
from quart_app.core.operate import pause, remember_pauses, resume
from quart_app.core.start import task
from quart_app.domain.control import Controls, make_control
from quart_app.domain.errors import InvalidTask, TaskFull
from quart_app.domain.options import make_options
from quart_app.domain.tasks import Catalog, Task
from tests.core.support import Core, Durable, Tended

pytestmark = pytest.mark.virtual

DAY = 86_400.0


class Watched:
    """Counts who runs at once, and when each began."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.began: list[tuple[float, str]] = []

    async def work(self, who: str, seconds: float) -> None:
        """Be counted while it lasts."""
        self.began.append((asyncio.get_running_loop().time(), who))
        self.running[who] += 1
        self.running[""] += 1
        for each in (who, ""):
            self.most[each] = max(self.most[each], self.running[each])
        await asyncio.sleep(seconds)
        self.running[who] -= 1
        self.running[""] -= 1


def watched(**control: object) -> tuple[Task, Watched]:
    """A task with these options."""
    seen = Watched()

    async def work(who: str = "", seconds: float = 1.0) -> None:
        await seen.work(who, seconds)

    return task(**control)(work), seen  # type: ignore[call-overload]


async def run_all(core: Core, whos: list[str], seconds: float = 1.0) -> None:
    """Start them in this order, and wait for all."""
    ids = [await core.start("work", who=who, seconds=seconds) for who in whos]
    for job_id in ids:
        assert (await core.ended(job_id)).status == "succeeded"


async def test_a_limit_holds_and_costs_no_other_task_a_place() -> None:
    """Two at once; what waits does not fill the rooms."""
    work, seen = watched(limit=2)
    other = Watched()

    async def quick() -> None:
        await other.work("quick", 0.1)

    async with Core(work, quick, room=3) as core:
        ids = [await core.start(work.name, who="a") for _ in range(9)]
        job = await core.service.wait(await core.start(quick), 9)
        assert (job.status, core.now() < 0.2) == ("succeeded", True)
        for job_id in ids:
            await core.ended(job_id)
    assert seen.most[""] == 2


async def test_limits_by_key_and_in_all() -> None:
    """One of each user, three of all users."""
    work, seen = watched(limit=1, limit_key="user:{who}", limit_total=3)
    async with Core(work) as core:
        await run_all(core, [who for who in "abcde" for _ in range(4)])
    assert seen.most == Counter({"": 3, **dict.fromkeys("abcde", 1)})


async def test_a_rate_holds_over_three_days_and_a_restart() -> None:
    """Never more than ten in any hour, with a restart in the middle of one."""
    work, seen = watched(rate="10/hour")
    store = Durable()
    async with Tended(work, store=store, max_waiting=10_000) as core:
        for _ in range(400):
            await core.start(work.name, seconds=0)
        await asyncio.sleep(1.5 * DAY + 60)
    half = len(seen.began)
    async with Tended(work, store=store) as core:
        await core.backlog.remember_rates()
        await asyncio.sleep(1.5 * DAY)
    moments = [at for at, _ in seen.began]
    assert half < len(moments) <= 400
    assert len(moments) == 400 or len(moments) >= 10 * 70
    for first, eleventh in zip(moments, moments[10:], strict=False):
        assert eleventh - first >= 3_600 - 1e-6


async def test_no_key_starves_another() -> None:
    """A thousand jobs of one user do not delay the one of another."""
    work, seen = watched(limit_key="{who}", limit_total=1)
    async with Core(work) as core:
        for _ in range(1_000):
            await core.start(work.name, who="many")
        await asyncio.sleep(10.5)
        await core.service.wait(await core.start(work.name, who="one"), None)
        assert core.now() < 14
        begun = [who for _, who in seen.began]
        assert begun.index("one") <= 12
        await core.drain.finish()


async def test_a_higher_priority_begins_first() -> None:
    """Of the task, or of one start."""
    work, seen = watched()
    async with Core(work, room=1) as core:
        for who in ("first", "second"):
            await core.start(work.name, who=who)
        args = work.arguments.write({"who": "urgent"})
        await core.service.start(work, args, make_options(priority=9))
        job, _ = await core.service.start(
            work, work.arguments.write({"who": "last"}), make_options(priority=-1)
        )
        await core.ended(job.id)
    assert [who for _, who in seen.began] == ["first", "urgent", "second", "last"]


async def test_a_task_has_a_queue_of_its_own_length() -> None:
    """Others are accepted meanwhile."""
    work, _ = watched(limit=1, max_waiting=2)

    async def other() -> None:
        """Waits for nobody."""

    async with Core(work, other) as core:
        for _ in range(3):
            await core.start(work.name)
            await asyncio.sleep(0)
        with pytest.raises(TaskFull) as refused:
            await core.start(work.name)
        assert refused.value.retry_after == 1.0
        assert (await core.run(other)).status == "succeeded"
        await core.drain.finish()


async def test_a_paused_task_waits_also_over_a_restart() -> None:
    """Starts are accepted; the others go on."""
    work, seen = watched()
    other = Watched()

    async def quick() -> None:
        await other.work("quick", 0)

    store = Durable()
    async with Tended(work, quick, store=store) as core:
        await pause(core.service, work)
        await core.start(work.name, who="waited", seconds=0)
        assert (await core.run(quick)).status == "succeeded"
        await asyncio.sleep(1)
    assert seen.began == []
    async with Core(work, quick, store=store) as core:
        await remember_pauses(core.service)
        await core.backlog.catch_up()
        await asyncio.sleep(1)
        assert core.backlog.paused(work)
        assert seen.began == []
        await resume(core.service, work)
        await asyncio.sleep(1)
        assert [who for _, who in seen.began] == ["waited"]
        assert await store.facts("paused/") == {}


async def test_unique_gives_the_job_that_is_there() -> None:
    """While it waits and while it runs, and of each key its own."""
    work, seen = watched(unique="{who}")
    async with Core(work) as core:
        first = await core.start(work.name, who="a")
        assert await core.start(work.name, who="a", seconds=9) == first
        await asyncio.sleep(0.5)
        assert await core.start(work.name, who="a") == first
        other = await core.start(work.name, who="b")
        await core.ended(first)
        second = await core.start(work.name, who="a")
        assert len({first, other, second}) == 3
        await core.ended(second)
    assert [who for _, who in seen.began] == ["a", "b", "a"]


def test_unique_of_the_same_arguments_does_not_look_at_the_order_of_keys() -> None:
    """The order of an object's keys says nothing, in JSON as in Python."""
    control = make_control({"unique": True})
    one = control.unique_of(b'{"of":{"a":1,"b":[{"c":2,"d":3}]},"x":1.5}')
    assert one == control.unique_of(b'{"of":{"b":[{"d":3,"c":2}],"a":1},"x":1.5}')
    assert one != control.unique_of(b'{"of":{"b":[{"d":3,"c":2}],"a":2},"x":1.5}')


async def test_debounce_waits_for_the_last_and_not_for_ever() -> None:
    """The newest arguments win; ten times the wait is the most."""
    seen = Watched()

    async def save(text: str = "") -> None:
        await seen.work(text, 0)

    saver = task(debounce=1.0, unique="one")(save)
    async with Core(saver) as core:
        core.upkeep.start()
        ids = set()
        for number in range(5):
            ids.add(await core.start(save, text=f"draft {number}"))
            await asyncio.sleep(0.5)
        [job_id] = ids
        assert (await core.ended(job_id)).status == "succeeded"
        assert [who for _, who in seen.began] == ["draft 4"]
        start = core.now()
        for number in range(40):
            await core.start(save, text=f"note {number}")
            await asyncio.sleep(0.5)
        assert seen.began[1][0] - start <= 10.1
        await asyncio.sleep(2)
        await core.upkeep.stop()


async def test_a_debounced_start_that_asks_for_a_later_moment_gets_it() -> None:
    """The one that takes another's place, as well as the first."""
    work, seen = watched(debounce=1.0, unique="one")
    async with Core(work) as core:
        core.upkeep.start()
        start = core.now()
        first = await core.start(work.name, who="first", seconds=0)
        args = work.arguments.write({"who": "second", "seconds": 0})
        again, new = await core.service.start(work, args, make_options(delay=60))
        assert (again.id, new) == (first, False)
        assert again.run_at == pytest.approx(start + 60, abs=0.5)
        await asyncio.sleep(50)
        assert seen.began == []
        soon, _ = await core.service.start(work, args, make_options(delay=0.5))
        assert soon.run_at is not None
        assert soon.run_at - start < 50  # Ten times the debounce have passed: at once.
        await core.ended(first)
        assert [who for _, who in seen.began] == ["second"]
        await core.upkeep.stop()


async def test_nothing_new_begins_on_a_loop_that_lags() -> None:
    """But one at least goes on, and the rest when it is in time again."""
    work, seen = watched()
    async with Core(work) as core:
        lag = Lag(core.backlog, 0.2)
        lag.note(0.5)
        assert core.backlog.lagging
        for _ in range(5):
            await core.start(work.name)
        await asyncio.sleep(0.5)
        assert len(seen.began) == 1
        for _ in range(10):
            lag.note(0.0)
        await asyncio.sleep(0.1)
        assert len(seen.began) == 5
        await core.drain.finish()


@pytest.mark.parametrize(
    ("control", "message"),
    [
        ({"limit": 0}, "limit"),
        ({"rate": "often"}, "rate"),
        ({"limit_total": 3}, "limit_total needs limit_key"),
        ({"limit_key": "{user.name}"}, "limit_key"),
        ({"priority": 1000}, "priority"),
        ({"max_waiting": 0}, "max_waiting"),
        ({"cron": "every day"}, "cron"),
        ({"cron": "0 8 * * *", "every": 5}, "cron or every"),
        ({"missed": "once"}, "missed needs"),
        ({"debounce": -1}, "debounce"),
        ({"limits": 3}, "no option 'limits'"),
    ],
)
async def test_an_option_that_cannot_be_is_refused(
    control: dict[str, object], message: str
) -> None:
    """When the task is defined, naming it."""

    async def work(user: str = "") -> None:
        """Does nothing."""

    with pytest.raises(InvalidTask, match=message):
        Task(work, **control)  # type: ignore[arg-type]


async def test_a_key_of_what_is_no_argument_stops_the_start() -> None:
    """As does a schedule of a task that needs arguments."""

    async def work(user: str) -> None:
        """Does nothing."""

    with pytest.raises(InvalidTask, match=r"names \{nobody\}"):
        Catalog([Task(work, limit=1, limit_key="{nobody}")]).check()
    with pytest.raises(InvalidTask, match="give it a default"):
        Catalog([Task(work, every=60)]).check()


async def test_what_was_set_is_what_the_catalog_says() -> None:
    """And nothing else."""
    control: Controls = make_control({"limit": 2, "rate": "5/minute", "unique": True})
    assert control.describe() == {"limit": 2, "rate": "5/60 seconds", "unique": True}
