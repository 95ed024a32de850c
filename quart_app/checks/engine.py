"""What every engine keeps to. Only rules may live here; `RULES` is the list that is run.

Each rule is given an engine whose loop lane has room for two jobs. What an engine cannot promise
whose jobs wait where other processes take them, too (`Engine.shared`), the rules say themselves:
the order in which two that run at once begin, what waits, and that what is forgotten never comes.
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

    async def run(self, job_id: str) -> float | None:
        """Called by the engine."""
        self.ids.append(job_id)
        async with self.news:
            self.news.notify_all()
        await self.gate.wait()
        return None

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
    ids = sorted(ran.ids) if engine.shared else ran.ids
    require(ids == list("abcdef"), "each once and in order")


async def holds_back_beyond_its_room(engine: Engine) -> None:
    """Two run at once, the third waits for room."""
    ran = Ran()
    await engine.work(ran.run)
    for job_id in "abc":
        await engine.submit(job_id, "loop")
    await ran.until(2)
    await asyncio.sleep(0.5 if engine.shared else 0)
    require(sorted(ran.ids) == ["a", "b"], "no more than there is room for")
    held = "ab" if engine.shared else "abc"
    require(all(engine.holds(job_id) for job_id in held), "it holds them all")
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
    await engine.submit("a", "loop")
    await ran.until(1)
    await engine.idle()
    await engine.submit("a", "loop")
    async with asyncio.timeout(10):
        while engine.shared and len(ran.ids) < 2:  # It may know a moment later of the end.
            await asyncio.sleep(0.05)
            if len(ran.ids) < 2:
                await engine.submit("a", "loop")
    await engine.idle()
    require(ran.ids == ["a"] * (max(len(ran.ids), 2) if engine.shared else 2), "twice")


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
    ids = [each for each in ran.ids if each != "c"] if engine.shared else ran.ids
    require(sorted(ids) == ["a", "b"], "the waiting one is not delivered")


async def survives_a_failing_run(engine: Engine) -> None:
    """A run that raises costs no room and stops nothing; where it may go elsewhere, it is delivered
    again."""
    delivered: list[str] = []
    times = 2 if engine.shared else 1

    async def run(job_id: str) -> float | None:
        delivered.append(job_id)
        if delivered.count(job_id) == 1:
            raise OSError(job_id)
        return None

    await engine.work(run)
    for job_id in "abcde":
        await engine.submit(job_id, "loop")
    async with asyncio.timeout(20):
        while len(delivered) < 5 * times:  # noqa: ASYNC110 - a second, at most two
            await asyncio.sleep(0.01)
        await engine.idle()
    require(sorted(delivered) == sorted("abcde" * times), "every one was delivered")


async def delivers_again_what_is_given_back(engine: Engine) -> None:
    """Where another process may take it, what `Run` gives back comes again after its time."""
    if not engine.shared:
        return
    loop = asyncio.get_running_loop()
    delivered: list[float] = []

    async def run(job_id: str) -> float | None:
        delivered.append(loop.time())
        return 0.3 if len(delivered) == 1 else None

    await engine.work(run)
    await engine.submit("a", "loop")
    async with asyncio.timeout(10):
        while len(delivered) < 2:  # noqa: ASYNC110 - a third of a second
            await asyncio.sleep(0.01)
        await engine.idle()
    require(delivered[1] - delivered[0] >= 0.25, "not before its time")


async def keeps_until_work_begins(engine: Engine) -> None:
    """What is submitted before `work` is delivered after it."""
    ran = Ran()
    ran.gate.set()
    await engine.submit("a", "loop")
    require(ran.ids == [] and (engine.shared or engine.holds("a")), "it waits")
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
    back = [] if engine.shared else ["c", "d"]
    require(sorted(await engine.close()) == back, "it gives back what waited here")
    require(engine.holds("a") and not engine.holds("c"), "what runs goes on")
    ran.gate.set()
    await engine.idle()
    require(sorted(ran.ids) == ["a", "b"], "nothing more was delivered")


async def tells_of_its_room(engine: Engine) -> None:
    """How many run and how many more would; each end is told, with its lane."""
    ran, told = Ran(), list[tuple[str, str]]()
    engine.on_done = lambda job_id, lane: told.append((job_id, lane))
    others = engine.shared  # Then the room of others counts, too, and nobody knows it.
    require(others or engine.room("loop") == 0, "there is none before work begins")
    await engine.work(ran.run)
    require(engine.running("loop") == 0, "nothing runs")
    require(others or engine.room("loop") == 2, "then there is all of it")
    await engine.submit("a", "loop")
    await ran.until(1)
    require(engine.running("loop") == 1, "what is delivered runs")
    require(others or engine.room("loop") == 1, "and takes some room")
    ran.gate.set()
    await engine.idle()
    require(told == [("a", "loop")], "an end is told once")
    require(engine.running("loop") == 0, "it runs no more")
    require(others or engine.room("loop") == 2, "and gives its room back")
    await engine.close()
    require(others or engine.room("loop") == 0, "there is none after the close")


async def lets_others_have_the_place_of_who_waits(engine: Engine) -> None:
    """A job that steps aside holds no room; when it comes back it counts again."""
    ran = Ran()
    await engine.work(ran.run)
    for job_id in "abc":
        await engine.submit(job_id, "loop")
    await ran.until(2)
    engine.step_aside("loop")
    await ran.until(3)
    require(sorted(ran.ids) == ["a", "b", "c"], "the next one has its place")
    engine.step_back("loop")
    require(engine.shared or engine.room("loop") <= 0, "it counts again, also beyond the limit")
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
    delivers_again_what_is_given_back,
    keeps_until_work_begins,
    stops_when_closed,
    tells_of_its_room,
    lets_others_have_the_place_of_who_waits,
]
