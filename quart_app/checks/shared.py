"""What every `SharedStore` keeps to besides the rules of `store`. Only rules may live here; `RULES`
is the list that is run.

Each rule is given two stores that are open on the same jobs, as two processes have them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from quart_app.checks.making import add, bring, change
from quart_app.checks.rules import require
from quart_app.core.ports import SharedStore
from quart_app.domain.ids import new_id
from quart_app.domain.jobs import Heard, Job, JobEvent, JobLine, Note
from quart_app.domain.status import Move
from quart_app.domain.workers import Worker

Rule = Callable[[SharedStore, SharedStore], Awaitable[None]]


class Ear:
    """Hears what a store tells, in a task of its own."""

    def __init__(self, store: SharedStore, after: int | None = None) -> None:
        self.heard: list[Heard] = []
        self._listening = asyncio.Event()
        self._news = asyncio.Event()
        self._told = store.listen(after)

    async def _listen(self) -> None:
        async for batch in self._told:
            require(batch is not None, "nothing is missed")
            self._listening.set()
            self.heard += batch or []
            self._news.set()

    async def __aenter__(self) -> Ear:
        self._task = asyncio.create_task(self._listen())
        waiting = asyncio.create_task(self._listening.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        told: AsyncGenerator[list[Heard] | None] = self._told
        await told.aclose()

    async def until(self, count: int) -> list[Heard]:
        """What was heard, when it is so many."""
        async with asyncio.timeout(10):
            while len(self.heard) < count:
                self._news.clear()
                await self._news.wait()
        return self.heard


async def shows_the_same_everywhere(one: SharedStore, other: SharedStore) -> None:
    """What one process keeps is what another reads, at once."""
    job = await add(one, args=b'{"n":1}')
    require(await other.get(job.id) == job, "get")
    claimed = await other.move(job.id, change(Move.CLAIM))
    require(claimed is not None and await one.get(job.id) == claimed, "a version of the other's")
    require(await one.counts() == await other.counts(), "counts")


async def lets_one_process_win(one: SharedStore, other: SharedStore) -> None:
    """Of the claims of several processes exactly one holds."""
    for _ in range(20):
        job = await add(one)
        await other.get(job.id)
        stores = (one, other, one, other)
        claims = await asyncio.gather(*(each.move(job.id, change(Move.CLAIM)) for each in stores))
        require(sum(claim is not None for claim in claims) == 1, "one claim wins")


async def goes_on_from_what_others_wrote(one: SharedStore, other: SharedStore) -> None:
    """A process that has an old version in mind overwrites nothing and is not stopped by it."""
    job = await bring(one, "running")
    noted = await other.note(job.id, Note(at=3.0, cancel_requested=True))
    require(noted is not None, "another process may note")
    ended = await one.move(job.id, change(Move.CANCEL, 4.0, attempt=1))
    require(ended is not None and ended.cancel_requested_at == 3.0, "the note is not overwritten")
    require(await other.move(job.id, change(Move.SUCCEED, 5.0, attempt=1)) is None, "it is over")


async def fences_the_dead(one: SharedStore, other: SharedStore) -> None:
    """Who was taken for dead and comes back writes nothing over what followed."""
    job = await bring(one, "running", max_attempts=2)
    require(await other.move(job.id, change(Move.RESCUE, 3.0, attempt=1)), "it is rescued")
    again = await other.move(job.id, change(Move.CLAIM, 4.0))
    require(again is not None and again.attempt == 2, "and begins again")
    require(await one.move(job.id, change(Move.SUCCEED, 5.0, attempt=1)) is None, "too late")
    require(await one.note(job.id, Note(at=5.0, attempt=1, unresponsive=True)) is None, "as well")
    require(await other.get(job.id) == again, "nothing was overwritten")


async def names_the_process(one: SharedStore, other: SharedStore) -> None:
    """A running job says in which process, and its earlier attempts said so, too."""
    job = await add(one, max_attempts=2)
    claim = change(Move.CLAIM)
    claimed = await one.move(job.id, type(claim)(Move.CLAIM, 2.0, worker="w1"))
    require(claimed is not None and claimed.worker == "w1", "where it runs")
    rescued = await other.move(job.id, change(Move.RESCUE, 3.0, attempt=1))
    require(rescued is not None and rescued.worker is None, "it runs nowhere")
    require(rescued is not None and rescued.history[0].worker == "w1", "where it ran")


async def knows_who_is_alive(one: SharedStore, other: SharedStore) -> None:
    """A process is alive as long as it says so."""
    await one.beat(Worker(id="a", host="h", pid=1), 30)
    await one.beat(Worker(id="b", running=1), 0.3)
    require([each.id for each in await other.workers()] == ["a", "b"], "both are alive")
    await one.beat(Worker(id="a", host="h", pid=1, running=7), 30)
    require((await other.workers())[0].running == 7, "what it says last counts")
    async with asyncio.timeout(10):
        while len(await other.workers()) > 1:  # noqa: ASYNC110 - a clock is waited for
            await asyncio.sleep(0.05)
    require((await other.workers())[0].id == "a", "who falls silent is not alive")
    await one.leave("a")
    await one.leave("unknown")
    require(await other.workers() == [], "nor is who leaves")


async def has_one_leader(one: SharedStore, other: SharedStore) -> None:
    """At most one process leads; another takes over when it leaves or falls silent."""
    won = await asyncio.gather(*(each.lead(name, 30) for each, name in ((one, "a"), (other, "b"))))
    require(sum(won) == 1, "one of both")
    leader, follower = ("a", "b") if won[0] else ("b", "a")
    require(await one.lead(leader, 0.3), "it keeps the lead")
    require(not await other.lead(follower, 30), "the other one waits")
    async with asyncio.timeout(10):
        while not await other.lead(follower, 30):  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.05)
    require(not await one.lead(leader, 30), "who fell silent has lost it")
    await other.leave(follower)
    require(await one.lead(leader, 30), "who leaves gives it up")


async def tells_what_others_do(one: SharedStore, other: SharedStore) -> None:
    """Every version and line is heard once, in the order of seq, and again from any point on."""
    async with Ear(one) as ear:
        job = await add(other)
        claimed = await one.move(job.id, change(Move.CLAIM))
        noted = await other.note(job.id, Note(at=3.0, cancel_requested=True))
        lines = await one.log(job.id, [(3.0, "info", "a"), (3.0, "info", "b")], 100, 10_000)
        ended = await one.move(job.id, change(Move.CANCEL, 4.0))
        heard = await ear.until(6)
    jobs = [each.job for each in heard if isinstance(each, JobEvent)]
    require(jobs == [job, claimed, noted, ended], "every version")
    kinds = [each.kind for each in heard if isinstance(each, JobEvent)]
    require(kinds == ["open", "claim", "note", Move.CANCEL.label], "with its kind")
    told = [(each.job_id, each.line) for each in heard if isinstance(each, JobLine)]
    require(told == [(job.id, line) for line in lines], "every line")
    seqs = [each.seq for each in heard]
    require(seqs == sorted(set(seqs)), "in the order of seq")
    async with Ear(other, after=seqs[2]) as again:
        require(await again.until(3) == heard[3:], "the same from a point on")


async def loses_nothing_among_many_writers(one: SharedStore, other: SharedStore) -> None:
    """Whoever writes at the same time, what is heard is ascending and all of it."""

    async def write(store: SharedStore) -> list[int]:
        seqs: list[int] = []
        for _ in range(40):
            [job], _ = await store.add([Job(id=new_id(), task="t")], 1_000_000)
            claimed = await store.move(job.id, change(Move.CLAIM))
            seqs += [job.seq, 0 if claimed is None else claimed.seq]
        return seqs

    async with Ear(one) as here, Ear(other) as there:
        written = await asyncio.gather(*(write(each) for each in (one, other) * 4))
        seqs = sorted(seq for each in written for seq in each)
        for ear in (here, there):
            heard = [each.seq for each in await ear.until(len(seqs))]
            require(heard == seqs, "each once and in order")


async def goes_on_without_the_other(one: SharedStore, other: SharedStore) -> None:
    """A process that closes its store ends nothing of another's."""
    job = await add(other)
    async with Ear(one) as ear:
        await other.close()
        require(await one.move(job.id, change(Move.CLAIM)), "it goes on")
        require(len(await ear.until(1)) == 1, "and hears")


RULES: list[Rule] = [
    shows_the_same_everywhere,
    lets_one_process_win,
    goes_on_from_what_others_wrote,
    fences_the_dead,
    names_the_process,
    knows_who_is_alive,
    has_one_leader,
    tells_what_others_do,
    loses_nothing_among_many_writers,
    goes_on_without_the_other,
]
