"""The rules of shared stores: each can fail, and says which it is."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from quart_app.checks import shared as shared_rules
from quart_app.core.ports import SharedStore
from quart_app.domain.jobs import (
    Change,
    Draft,
    Heard,
    Job,
    JobEvent,
    JobLine,
    LogLine,
    Note,
    RequestKey,
    apply,
)
from quart_app.domain.workers import Worker
from quart_app.testing import check_shared_store
from tests.core.twin import Place, Twin

pytestmark = pytest.mark.virtual


class Remembers(Twin):
    """Believes what it has read once."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.seen: dict[str, Job] = {}

    async def get(self, job_id: str) -> Job | None:
        job = await super().get(job_id)
        return None if job is None else self.seen.setdefault(job_id, job)

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        kept, new = await super().add(jobs, max_waiting, key, max_of_task)
        self.seen |= {job.id: job for job in kept}
        return kept, new


class CountsItsOwn(Twin):
    """Counts what it has written."""

    async def counts(self) -> dict[Any, int]:
        return {"queued": self.calls["add"], "running": self.calls["move"]}


class ReadsThenWrites(Twin):
    """Lets others in between its look and its write."""

    async def move(self, job_id: str, change: Change) -> Job | None:
        before = self.place.kept._jobs[job_id]
        await asyncio.sleep(0)
        job = apply(before, change, self.place.kept._seq + 1)
        if job is not None:
            self.place.kept._jobs[job_id] = job
        return job


class WritesOver(Remembers):
    """Makes the next version of the one that it has in mind, and puts that over the newest."""

    async def move(self, job_id: str, change: Change) -> Job | None:
        job = apply(self.seen[job_id], change, self.place.kept._seq + 1)
        if job is not None:
            self.place.kept._seq = job.seq
            self.place.kept._jobs[job_id] = self.seen[job_id] = job
        return job


class IsStopped(Remembers):
    """Refuses what another has made possible since it has read the job."""

    async def move(self, job_id: str, change: Change) -> Job | None:
        before = self.seen.get(job_id)
        if before is not None and before != self.place.kept._jobs[job_id]:
            return None
        job = await super().move(job_id, change)
        if job is not None:
            self.seen[job_id] = job
        return job


class FencesNobody(Twin):
    """Lets the dead write, if the status fits."""

    async def move(self, job_id: str, change: Change) -> Job | None:
        return await super().move(job_id, replace(change, attempt=None))


class NotesOfTheDead(Twin):
    """Takes an earlier attempt's word."""

    async def note(self, job_id: str, note: Note) -> Job | None:
        return await super().note(job_id, replace(note, attempt=None))


class Anonymous(Twin):
    """Does not say where a job runs."""

    async def move(self, job_id: str, change: Change) -> Job | None:
        return await super().move(job_id, replace(change, worker=None))


class StaysWhereItWas(Twin):
    """Says where a job runs also when it runs nowhere."""

    async def move(self, job_id: str, change: Change) -> Job | None:
        before = self.place.kept._jobs[job_id]
        job = await super().move(job_id, change)
        return None if job is None else replace(job, worker=job.worker or before.worker)


class Immortal(Twin):
    """Who was alive once is."""

    async def beat(self, worker: Worker, seconds: float) -> None:
        await super().beat(worker, 1e9)


class SaysItOnce(Twin):
    """What a process said first is what it says."""

    async def beat(self, worker: Worker, seconds: float) -> None:
        known = self.place.alive.get(worker.id)
        await super().beat(worker if known is None else known[0], seconds)


class Stays(Twin):
    """Nobody leaves."""

    async def leave(self, worker_id: str) -> None:
        return


class KnowsItsOwn(Twin):
    """Sees only those that said so here."""

    mine: frozenset[str] = frozenset()

    async def beat(self, worker: Worker, seconds: float) -> None:
        self.mine |= {worker.id}
        await super().beat(worker, seconds)

    async def workers(self) -> list[Worker]:
        return [each for each in await super().workers() if each.id in self.mine]


class AllLead(Twin):
    """Nobody is refused."""

    async def lead(self, worker_id: str, seconds: float) -> bool:
        return True


class LeadsForEver(Twin):
    """Who leads once leads until it leaves."""

    async def lead(self, worker_id: str, seconds: float) -> bool:
        return await super().lead(worker_id, 1e9)


class LeadsOnce(Twin):
    """Who leads cannot keep the lead."""

    async def lead(self, worker_id: str, seconds: float) -> bool:
        return self.place.led_by() is None and await super().lead(worker_id, seconds)


class KeepsTheLead(Twin):
    """Who leaves leads."""

    async def leave(self, worker_id: str) -> None:
        leader = self.place.leader
        await super().leave(worker_id)
        self.place.leader = leader


class HearsItself(Twin):
    """Tells what was written here, and nothing else."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.written: set[int] = set()

    async def move(self, job_id: str, change: Change) -> Job | None:
        job = await super().move(job_id, change)
        self.written.add(0 if job is None else job.seq)
        return job

    async def listen(self, after: int | None) -> AsyncGenerator[list[Heard] | None]:
        async for batch in super().listen(after):
            yield [each for each in batch or () if each.seq in self.written]


class Retells(Twin):
    """What it tells is changed by ``retell``."""

    def retell(self, batch: list[Heard]) -> list[Heard]:
        raise NotImplementedError

    async def listen(self, after: int | None) -> AsyncGenerator[list[Heard] | None]:
        async for batch in super().listen(after):
            yield None if batch is None else self.retell(batch)


class TellsNoLines(Retells):
    """Tells of jobs alone."""

    def retell(self, batch: list[Heard]) -> list[Heard]:
        return [each for each in batch if not isinstance(each, JobLine)]


class TellsTwice(Retells):
    """Tells everything again."""

    def retell(self, batch: list[Heard]) -> list[Heard]:
        return batch * 2


class TellsOneKind(Retells):
    """Does not say what has happened."""

    def retell(self, batch: list[Heard]) -> list[Heard]:
        return [replace(e, kind="newest") if isinstance(e, JobEvent) else e for e in batch]


class TellsOthersLines(Twin):
    """Tells lines that are not as they are kept."""

    async def log(
        self, job_id: str, drafts: Sequence[Draft], keep_lines: int, keep_bytes: int
    ) -> list[LogLine]:
        lines = await super().log(job_id, drafts, keep_lines, keep_bytes)
        return [replace(line, number=line.number + 1) for line in lines]


class TellsFromNow(Twin):
    """Cannot go on from where somebody was."""

    async def listen(self, after: int | None) -> AsyncGenerator[list[Heard] | None]:
        async for batch in super().listen(None):
            yield batch


class TellsFromTheBeginning(Twin):
    """Tells all that ever was."""

    async def listen(self, after: int | None) -> AsyncGenerator[list[Heard] | None]:
        async for batch in super().listen(0):
            yield batch


class TellsTheNewest(Twin):
    """Keeps no versions: of what is told late there is the newest only."""

    async def listen(self, after: int | None) -> AsyncGenerator[list[Heard] | None]:
        async for batch in super().listen(after):
            newest = {getattr(each, "job", each): each for each in batch or ()}
            yield [each for each in newest.values() if not self._is_old(each)]
            await asyncio.sleep(0.01)

    def _is_old(self, each: Heard) -> bool:
        return isinstance(each, JobEvent) and self.place.kept._jobs[each.job.id].seq > each.seq


class Misses(Twin):
    """Says again and again that something was missed."""

    async def listen(self, after: int | None) -> AsyncGenerator[list[Heard] | None]:
        async for batch in super().listen(after):
            yield batch
            yield None


class TellsAnyOrder(Retells):
    """Tells the newest first."""

    def retell(self, batch: list[Heard]) -> list[Heard]:
        return batch[::-1]


class NumbersItsOwn(Twin):
    """Two processes give the same ``seq``."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.numbers = itertools.count(1)

    async def move(self, job_id: str, change: Change) -> Job | None:
        job = await super().move(job_id, change)
        return None if job is None else replace(job, seq=next(self.numbers))


class EndsAll(Twin):
    """Who closes it ends it for all."""

    async def close(self) -> None:
        await super().close()
        self.place.lost = -1

    async def move(self, job_id: str, change: Change) -> Job | None:
        return None if self.place.lost else await super().move(job_id, change)


class EndsListening(EndsAll):
    """Who closes it ends the listening of all."""

    async def move(self, job_id: str, change: Change) -> Job | None:
        return await Twin.move(self, job_id, change)

    async def listen(self, after: int | None) -> AsyncGenerator[list[Heard] | None]:
        async for batch in super().listen(after):
            if self.place.lost:
                return
            yield batch


BROKEN: list[tuple[type[Twin], str]] = [
    (Remembers, "shows_the_same_everywhere"),
    (CountsItsOwn, "shows_the_same_everywhere"),
    (ReadsThenWrites, "lets_one_process_win"),
    (WritesOver, "goes_on_from_what_others_wrote"),
    (IsStopped, "goes_on_from_what_others_wrote"),
    (FencesNobody, "fences_the_dead"),
    (NotesOfTheDead, "fences_the_dead"),
    (Anonymous, "names_the_process"),
    (StaysWhereItWas, "names_the_process"),
    (Immortal, "knows_who_is_alive"),
    (SaysItOnce, "knows_who_is_alive"),
    (Stays, "knows_who_is_alive"),
    (KnowsItsOwn, "knows_who_is_alive"),
    (AllLead, "has_one_leader"),
    (LeadsForEver, "has_one_leader"),
    (LeadsOnce, "has_one_leader"),
    (KeepsTheLead, "has_one_leader"),
    (HearsItself, "tells_what_others_do"),
    (TellsNoLines, "tells_what_others_do"),
    (TellsTwice, "tells_what_others_do"),
    (TellsOneKind, "tells_what_others_do"),
    (TellsOthersLines, "tells_what_others_do"),
    (TellsFromNow, "tells_what_others_do"),
    (TellsFromTheBeginning, "tells_what_others_do"),
    (TellsTheNewest, "tells_what_others_do"),
    (Misses, "tells_what_others_do"),
    (TellsAnyOrder, "loses_nothing_among_many_writers"),
    (NumbersItsOwn, "loses_nothing_among_many_writers"),
    (TellsTheNewest, "loses_nothing_among_many_writers"),
    (EndsAll, "goes_on_without_the_other"),
    (EndsListening, "goes_on_without_the_other"),
]


@pytest.mark.parametrize(("broken", "name"), BROKEN)
async def test_a_shared_store_that_breaks_a_rule_is_told_which(
    broken: type[Twin], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name and its sentence; each rule notices what it is there for."""
    one = next(rule for rule in shared_rules.RULES if getattr(rule, "__name__", "") == name)
    monkeypatch.setattr(shared_rules, "RULES", [one])

    def pair() -> tuple[SharedStore, SharedStore]:
        place = Place()
        return broken(place), broken(place)

    with pytest.raises(AssertionError) as caught:
        await check_shared_store(pair)
    assert str(caught.value) == f"{name}: {one.__doc__}"
    assert isinstance(caught.value.__cause__, AssertionError | TimeoutError)


def names(rules: Sequence[Callable[..., Awaitable[None]]]) -> set[str]:
    """The rules by name."""
    return {getattr(rule, "__name__", "") for rule in rules}


def test_every_rule_of_a_shared_store_is_broken_by_one_above() -> None:
    """No rule is there that cannot fail."""
    assert {name for _, name in BROKEN} == names(shared_rules.RULES)


async def test_each_rule_has_two_stores_of_a_fresh_place_which_are_closed() -> None:
    """So that no rule depends on another."""
    made: list[tuple[Twin, Twin]] = []

    def pair() -> tuple[SharedStore, SharedStore]:
        place = Place()
        made.append((place.store(), place.store()))
        return made[-1]

    await check_shared_store(pair)
    assert len(made) == len(shared_rules.RULES)
    assert len({id(store) for each in made for store in each}) == 2 * len(made)
    assert not any(store._open for each in made for store in each)


async def test_what_is_listened_to_is_let_go_of() -> None:
    """Also where the listening ends with an error: it is raised, and no task is left."""
    place = Place()
    store = place.store()
    with pytest.raises(Exception, match="closed"):
        async with shared_rules.Ear(store):
            raise AssertionError("it has begun")  # pragma: no cover - it does not begin
    await store.open()
    async with shared_rules.Ear(store):
        assert len(place.ears) == 1
    assert not place.ears
    assert asyncio.all_tasks() == {asyncio.current_task()}
