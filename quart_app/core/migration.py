"""Moving all jobs from a store that nobody works with into a shared one.

Each job is opened there and brought to where it is by the ordinary moves, so that no store needs a
way of its own to take it. What was written is looked for first: a move that was cut off goes on.
Until it is over a fact (`MOVING`) keeps every process from working with the new store. Nothing may
live here that knows where the jobs come from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from quart_app.core.ledger import Ledger
from quart_app.core.ports import SharedStore
from quart_app.domain.errors import StoreRefused
from quart_app.domain.jobs import Draft, Job, KeptStep, LogLine
from quart_app.domain.replay import Opened, opened, story, told_already
from quart_app.domain.status import STATUSES, Status

T = TypeVar("T")

MOVING = "moving"
"""The name of the fact that says that a move into a store has begun and is not over."""
MOVED = "moved"
"""The name of the fact that says where its jobs have come from, and how much there was."""
UNDELIVERED = "undelivered"
"""The name of the fact that says that what waits was not handed to the engine yet."""
AT_ONCE = 200
"""Jobs that are written together."""
READS, WRITES = 8, 64
"""Calls of the store at once: each has to be answered in its time, also over a long way."""
LEAD = 60.0
"""Seconds for which nobody else may begin the same."""
ALL = 10**9


class Source(Protocol):
    """Where the jobs are; nobody else writes there meanwhile. Its methods may block: they are
    called in threads, one at a time."""

    name: str
    """What it is, in words; another source has another name. One process at a time has it open."""

    mark: str
    """The name, and how far the source has come: another one once somebody has written there."""

    def counts(self) -> dict[Status, int]:
        """How many jobs are in each status."""

    def opened(self) -> Iterator[Opened]:
        """All jobs, in the order in which they were opened."""

    def facts(self) -> dict[str, bytes]:
        """The facts that belong to no job."""


class Migration:
    """One move.

    Args:
        source: where the jobs are.
        store: where they go; open.
        ledger: writes there.
        on_progress: told how many jobs have been looked at.
    """

    def __init__(
        self,
        source: Source,
        store: SharedStore,
        ledger: Ledger,
        on_progress: Callable[[int], object] = lambda count: None,
    ) -> None:
        self._source = source
        self._store = store
        self._ledger = ledger
        self._on_progress = on_progress
        # Of this source, and not of this run: one that was cut off is gone on with at once.
        self._me = f"moved from {source.name}"
        self.written = 0
        """Jobs that were not there."""

    async def run(self) -> dict[Status, int]:
        """Move everything; how many jobs there are now in each status.

        Raises:
            StoreRefused: somebody works with the new store, or it has jobs of its own.
        """
        if not await self._begin():
            return await self._store.counts()  # It was done before.
        done = 0
        batches = _batches(self._source.opened())
        while batch := await asyncio.to_thread(next, batches, None):
            await self._write(batch)
            done += sum(len(each.jobs) for each in batch)
            self._on_progress(done)
        for name, value in (await asyncio.to_thread(self._source.facts)).items():
            await self._ledger.keep_fact(name, value)
        return await self._end()

    async def _begin(self) -> bool:
        """Whether there is something to do; from now on nobody else begins to work there."""
        name = self._source.name.encode()
        moved = (await self._store.facts(MOVED)).get(MOVED, b"")
        moving = (await self._store.facts(MOVING)).get(MOVING)
        if moved == self._source.mark.encode():
            await self._ledger.keep_fact(MOVING, None)  # It may have been cut off just before.
            return False
        if moved.startswith(name + b" "):
            raise StoreRefused(
                f"all jobs of {self._source.name} were moved into this store before, and that file "
                "has been worked with since: move it into a new --namespace, or leave it"
            )
        if moving is None and any((await self._store.counts()).values()):
            raise StoreRefused(
                "there are jobs of its own in the store to which they are to go: name another "
                "--namespace, which is made when it is first used"
            )
        if moving not in (None, name):
            other = (moving or b"").decode(errors="replace")
            raise StoreRefused(f"a move from {other} into this store is not over: finish that one")
        await self._ledger.keep_fact(MOVING, name)
        try:
            await self._stay_alone()
        except StoreRefused:
            if moving is None:  # Nothing has begun, and whoever works there may go on doing so.
                await self._ledger.keep_fact(MOVING, None)
            raise
        return True

    async def _stay_alone(self) -> None:
        if workers := await self._store.workers():
            names = ", ".join(f"{each.kind} process {each.pid} on {each.host}" for each in workers)
            raise StoreRefused(
                f"somebody works with the store to which the jobs are to go ({names}): stop all, "
                "wait until their lease is over, and do the same again"
            )
        if not await self._store.lead(self._me, LEAD):
            raise StoreRefused(
                "somebody else works with the store to which the jobs are to go, or did within the "
                "last minute: wait, and do the same again"
            )

    async def _write(self, batch: Sequence[Opened]) -> None:
        """Open what is not there, in order, then bring each to where it is."""
        await self._stay_alone()
        jobs = [job for each in batch for job in each.jobs]
        there = {job.id: job for job in await self._all(jobs) if job is not None}
        for together in _united(batch):
            fresh = [opened(job) for job in together.jobs if job.id not in there]
            if fresh:
                self.written += len(fresh)
                kept, _ = await self._ledger.open(fresh, together.key)
                there |= {job.id: job for job in kept}
        bringing = (
            self._bring(job, there.get(job.id), each) for each in batch for job in each.jobs
        )
        await _some_at_once(bringing, WRITES)

    async def _all(self, jobs: Iterable[Job]) -> list[Job | None]:
        return await _some_at_once((self._store.get(job.id) for job in jobs), READS)

    async def _bring(self, job: Job, now: Job | None, beside: Opened) -> None:
        if now is None:
            raise StoreRefused(f"another job stands in the place of {job.id}: it was not moved")
        told = story(job, self._me)
        begin = told_already(job, told, now)
        steps, lines = beside.steps.get(job.id, {}), beside.lines.get(job.id, [])
        await self._keep_steps(now, steps)
        for place in range(begin, len(told)):
            if job.over and place == len(told) - 1:  # As it was: first the line, then the end.
                await self._keep_lines(now, lines)
            after = await self._ledger.replay(job.id, told[place])
            if after is None:
                raise StoreRefused(f"job {job.id} cannot be brought to where it is ({told[place]})")
            now = after
            await self._keep_steps(now, steps)
        await self._keep_lines(now, lines)

    async def _keep_steps(self, now: Job, steps: dict[str, KeptStep]) -> None:
        if now.status == "running":
            for name, step in steps.items():
                if step.attempt == now.attempt:
                    await self._ledger.replay_step(now.id, name, step)

    async def _keep_lines(self, now: Job, lines: list[LogLine]) -> None:
        if lines:
            kept = len(await self._store.logs(now.id, 0, ALL))
            drafts: list[Draft] = [(line.at, line.level, line.text) for line in lines[kept:]]
            if drafts:
                await self._ledger.log(now, drafts)

    async def _end(self) -> dict[Status, int]:
        counts = await self._store.counts()
        expected = await asyncio.to_thread(self._source.counts)
        for status in STATUSES:
            if counts[status] != expected[status]:
                raise StoreRefused(
                    f"{expected[status]} {status} jobs were to be moved, and {counts[status]} are "
                    "there: nothing may begin with them; do the same again, and tell us"
                )
        await self._ledger.keep_fact(UNDELIVERED, b"true")
        await self._ledger.keep_fact(MOVED, self._source.mark.encode())
        await self._ledger.keep_fact(MOVING, None)
        await self._store.leave(self._me)
        return counts


async def _some_at_once(calls: Iterable[Coroutine[Any, Any, T]], most: int) -> list[T]:
    """What they give, in their order; so many are under way."""
    free = asyncio.Semaphore(most)

    async def one(call: Coroutine[Any, Any, T]) -> T:
        async with free:
            return await call

    return await asyncio.gather(*(one(call) for call in calls))


def _batches(all_of_them: Iterable[Opened]) -> Iterator[list[Opened]]:
    """What is written together: of two with one unique key the first has to be over before the
    second is opened."""
    batch: list[Opened] = []
    size, named = 0, set[tuple[str, str]]()
    for each in all_of_them:
        names = {(job.task, job.unique) for job in each.jobs if job.unique is not None}
        if batch and (names & named or size + len(each.jobs) > AT_ONCE):
            yield batch
            batch, size, named = [], 0, set()
        batch.append(each)
        size += len(each.jobs)
        named |= names
    if batch:
        yield batch


def _united(batch: Sequence[Opened]) -> Iterator[Opened]:
    """The same in the same order, with neighbours of one task together where nothing speaks against
    it: each call of the store is a flush of its disk."""
    last: Opened | None = None
    for each in batch:
        if last is not None and _plain(last) and _plain(each) and _task(last) == _task(each):
            last = last._replace(jobs=[*last.jobs, *each.jobs])
            continue
        if last is not None:
            yield last
        last = each
    if last is not None:
        yield last


def _plain(each: Opened) -> bool:
    return each.key is None and all(job.unique is None for job in each.jobs)


def _task(each: Opened) -> str:
    return each.jobs[0].task
