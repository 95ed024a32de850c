"""What every engine keeps to. Only rules may live here; `RULES` is the list that is run.

Each rule is given an engine whose loop lane has room for two jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from quart_app.checks.rules import require
from quart_app.core.ports import Engine

Rule = Callable[[Engine], Awaitable[None]]


class Ran:
    """A `Run` that writes down what it is given, and holds each job until it is let go."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.gate = asyncio.Event()
        self.news = asyncio.Condition()

    async def run(self, job_id: str) -> None:
        """Called by the engine."""
        self.ids.append(job_id)
        async with self.news:
            self.news.notify_all()
        await self.gate.wait()

    async def until(self, count: int) -> None:
        """Wait until so many have been delivered."""
        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: len(self.ids) >= count)


async def delivers_in_order(engine: Engine) -> None:
    """What is submitted is delivered once, first come, first served."""
    ran = Ran()
    ran.gate.set()
    await engine.work(ran.run)
    for job_id in "abcdef":
        await engine.submit(job_id, "loop")
    await ran.until(6)
    await engine.idle()
    require(ran.ids == list("abcdef"), "each once and in order")


async def holds_back_beyond_its_room(engine: Engine) -> None:
    """Two run at once, the third waits for room."""
    ran = Ran()
    await engine.work(ran.run)
    for job_id in "abc":
        await engine.submit(job_id, "loop")
    await ran.until(2)
    await asyncio.sleep(0)
    require(ran.ids == ["a", "b"], "no more than there is room for")
    require(all(engine.holds(job_id) for job_id in "abc"), "it holds all three")
    ran.gate.set()
    await ran.until(3)
    await engine.idle()
    require(not engine.holds("c"), "it holds nothing that has ended")


async def takes_an_id_once(engine: Engine) -> None:
    """An id that it holds, waiting or running, is not taken again."""
    ran = Ran()
    await engine.work(ran.run)
    for job_id in ("a", "b", "c", "a", "c"):
        await engine.submit(job_id, "loop")
    ran.gate.set()
    await ran.until(3)
    await engine.idle()
    require(sorted(ran.ids) == ["a", "b", "c"], "each once")


async def delivers_again_when_asked_again(engine: Engine) -> None:
    """An id whose delivery has ended may be submitted anew."""
    ran = Ran()
    ran.gate.set()
    await engine.work(ran.run)
    for _ in range(2):
        await engine.submit("a", "loop")
        await engine.idle()
    require(ran.ids == ["a", "a"], "twice")


async def forgets_what_waits(engine: Engine) -> None:
    """A forgotten id is not delivered; forgetting a running or unknown one does nothing."""
    ran = Ran()
    await engine.work(ran.run)
    for job_id in "abc":
        await engine.submit(job_id, "loop")
    for job_id in ("a", "c", "unknown"):
        await engine.forget(job_id)
    ran.gate.set()
    await ran.until(2)
    await engine.idle()
    require(ran.ids == ["a", "b"], "the waiting one is not delivered")


async def survives_a_failing_run(engine: Engine) -> None:
    """A run that raises costs no room and stops nothing."""
    delivered: list[str] = []

    async def run(job_id: str) -> None:
        delivered.append(job_id)
        raise OSError(job_id)

    await engine.work(run)
    for job_id in "abcde":
        await engine.submit(job_id, "loop")
    async with asyncio.timeout(10):
        await engine.idle()
    require(delivered == list("abcde"), "every one was delivered")


async def keeps_until_work_begins(engine: Engine) -> None:
    """What is submitted before `work` is delivered after it."""
    ran = Ran()
    ran.gate.set()
    await engine.submit("a", "loop")
    require(engine.holds("a") and ran.ids == [], "it waits")
    await engine.work(ran.run)
    await ran.until(1)
    await engine.idle()


async def stops_when_closed(engine: Engine) -> None:
    """Closing gives back what waited, delivers nothing more, and leaves alone what runs."""
    ran = Ran()
    await engine.work(ran.run)
    for job_id in "abcd":
        await engine.submit(job_id, "loop")
    await ran.until(2)
    require(sorted(await engine.close()) == ["c", "d"], "it gives back what waited")
    require(engine.holds("a") and not engine.holds("c"), "what runs goes on")
    ran.gate.set()
    await engine.idle()
    require(ran.ids == ["a", "b"], "nothing more was delivered")


async def tells_of_its_room(engine: Engine) -> None:
    """How many run and how many more would; each end is told, with its lane."""
    ran, told = Ran(), list[tuple[str, str]]()
    engine.on_done = lambda job_id, lane: told.append((job_id, lane))
    require(engine.room("loop") == 0, "there is none before work begins")
    await engine.work(ran.run)
    require((engine.room("loop"), engine.running("loop")) == (2, 0), "then there is all of it")
    await engine.submit("a", "loop")
    require((engine.room("loop"), engine.running("loop")) == (1, 1), "what runs takes some")
    ran.gate.set()
    await ran.until(1)
    await engine.idle()
    require(told == [("a", "loop")], "an end is told once")
    require(engine.room("loop") == 2, "and gives its room back")
    await engine.close()
    require(engine.room("loop") == 0, "there is none after the close")


async def lets_others_have_the_place_of_who_waits(engine: Engine) -> None:
    """A job that steps aside holds no room; when it comes back it counts again."""
    ran = Ran()
    await engine.work(ran.run)
    for job_id in "abc":
        await engine.submit(job_id, "loop")
    await ran.until(2)
    engine.step_aside("loop")
    await ran.until(3)
    require(ran.ids == ["a", "b", "c"], "the next one has its place")
    engine.step_back("loop")
    require(engine.room("loop") <= 0, "it counts again, also beyond the limit")
    ran.gate.set()
    await engine.idle()
    require(engine.running("loop") == 0, "at the end nothing is held")


RULES: list[Rule] = [
    delivers_in_order,
    holds_back_beyond_its_room,
    takes_an_id_once,
    delivers_again_when_asked_again,
    forgets_what_waits,
    survives_a_failing_run,
    keeps_until_work_begins,
    stops_when_closed,
    tells_of_its_room,
    lets_others_have_the_place_of_who_waits,
]
