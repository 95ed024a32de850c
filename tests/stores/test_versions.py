"""Changing a job that others write, too: nothing is overwritten, and nothing old is believed."""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random

import pytest
from msgspec.structs import replace

from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Change, Job, Note, Progress, annotate, apply
from quart_app.domain.status import Move
from quart_app.stores import versions
from quart_app.stores.versions import LARGE, TRIES, Versions

pytestmark = pytest.mark.virtual


class Row:
    """The one job that is kept, and how often it was read and swapped.

    Args:
        dice: makes each step take a moment; at once where there are none.
    """

    def __init__(self, job: Job | None, dice: Random | None = None) -> None:
        self.job = job
        self.dice = dice
        self.reads = 0
        self.swaps = 0
        self.kinds: list[str] = []

    async def _wait(self) -> None:
        if self.dice is not None:
            await asyncio.sleep(self.dice.random())

    async def read(self, job_id: str) -> Job | None:
        """The newest version."""
        self.reads += 1
        await self._wait()
        job = self.job if self.job is not None and self.job.id == job_id else None
        await self._wait()
        return job

    async def swap(self, before: Job, after: Job, kind: str) -> Job | None:
        """Only in the place of the version that it was made from."""
        self.swaps += 1
        await self._wait()
        if self.job is None or self.job.seq != before.seq:
            return None
        self.job = kept = replace(after, seq=before.seq + 1)
        self.kinds.append(kind)
        await self._wait()
        return kept

    def versions(self) -> Versions:
        """As one process has them."""
        return Versions(self.read, self.swap)


def claims(job: Job) -> Job | None:
    """It begins."""
    return apply(job, Change(Move.CLAIM, 2.0), 0)


def ends(job: Job) -> Job | None:
    """It succeeds."""
    return apply(job, Change(Move.SUCCEED, 3.0, attempt=1), 0)


def notes(job: Job, number: int) -> Job | None:
    """It is so far."""
    return annotate(job, Note(at=4.0, progress=Progress(number, 100)), 0)


QUEUED = Job(id="a", task="t", seq=1)


async def test_a_version_that_is_remembered_is_not_read() -> None:
    """From its first change to its last there is one read."""
    row = Row(QUEUED)
    mine = row.versions()
    for make, kind in ((claims, "claim"), (partial(notes, number=1), "note"), (ends, "succeed")):
        assert await mine.change("a", make, kind) == row.job
    assert (row.reads, row.swaps, row.kinds) == (1, 3, ["claim", "note", "succeed"])
    assert mine.known("a") is None


async def test_a_version_that_was_overtaken_costs_one_more_read() -> None:
    """What another has written is kept, and followed."""
    row = Row(QUEUED)
    mine, other = row.versions(), row.versions()
    assert await mine.change("a", claims, "claim")
    assert await other.change("a", partial(notes, number=7), "note")
    reads = row.reads
    ended = await mine.change("a", ends, "succeed")
    assert ended is not None
    assert (ended.status, ended.progress) == ("succeeded", Progress(7, 100))
    assert row.reads == reads + 1


async def test_an_old_version_refuses_nothing() -> None:
    """What cannot follow the remembered one may well follow the newest."""
    row = Row(QUEUED)
    mine, other = row.versions(), row.versions()
    mine.remember(QUEUED)
    assert await other.change("a", claims, "claim")
    assert await mine.change("a", ends, "succeed") == row.job


async def test_what_cannot_follow_the_newest_is_refused() -> None:
    """After one look at it; a remembered one is looked at once more."""
    row = Row(replace(QUEUED, status="running", attempt=1))
    mine = row.versions()
    assert await mine.change("a", claims, "claim") is None
    assert (row.reads, row.swaps) == (1, 0)
    assert mine.known("a") == row.job
    assert await mine.change("a", claims, "claim") is None
    assert (row.reads, row.swaps) == (2, 0)


async def test_a_job_that_is_not_there_is_changed_by_nobody() -> None:
    """Unknown, or forgotten since it was remembered."""
    row = Row(None)
    mine = row.versions()
    assert await mine.change("a", claims, "claim") is None
    mine.remember(QUEUED)
    assert await mine.change("a", claims, "claim") is None


async def test_of_many_that_make_the_same_move_one_wins() -> None:
    """Whatever each of them remembers."""
    for seed in range(20):
        row = Row(QUEUED, Random(seed))  # noqa: S311 - no secret
        many = [row.versions() for _ in range(8)]
        for each in many[:4]:
            each.remember(QUEUED)
        won = await asyncio.gather(*(each.change("a", claims, "claim") for each in many))
        assert [each for each in won if each is not None] == [row.job]


async def test_many_writers_lose_nothing() -> None:
    """Each of forty changes is made on top of the one before it."""

    def counts(job: Job) -> Job:
        before = 0.0 if job.progress is None else job.progress.current
        return replace(job, progress=Progress(before + 1, 40))

    row = Row(replace(QUEUED, status="running"), Random(1))  # noqa: S311 - no secret
    many = [row.versions() for _ in range(4)]
    calls = (each.change("a", counts, "note") for each in many * 10)
    kept = await asyncio.gather(*calls)
    assert row.job is not None
    assert row.job.progress == Progress(40, 40)
    assert sorted(each.seq for each in kept if each is not None) == list(range(2, 42))


async def test_who_is_always_too_late_gives_up() -> None:
    """After a hundred tries, and nothing was written."""
    row = Row(QUEUED)

    async def never(before: Job, after: Job, kind: str) -> Job | None:
        row.swaps += 1
        return None

    with pytest.raises(StoreUnavailable, match="written by others"):
        await Versions(row.read, never).change("a", claims, "claim")
    assert row.swaps == TRIES
    assert row.job == QUEUED


async def test_what_reading_and_swapping_raise_is_raised() -> None:
    """And what is remembered stays what it was."""

    async def fails(before: Job, after: Job, kind: str) -> Job | None:
        raise StoreUnavailable("gone")

    mine = Versions(Row(QUEUED).read, fails)
    mine.remember(QUEUED)
    with pytest.raises(StoreUnavailable, match="gone"):
        await mine.change("a", claims, "claim")
    assert mine.known("a") == QUEUED


def test_the_newest_is_remembered_and_never_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is over, nothing large, nothing older than what is known."""
    monkeypatch.setattr(versions, "KEPT", 3)
    row = Row(None)
    mine = row.versions()
    mine.remember(replace(QUEUED, seq=5))
    mine.remember(replace(QUEUED, seq=4))
    assert mine.known("a") == replace(QUEUED, seq=5)
    for job_id in "bcd":
        mine.remember(replace(QUEUED, id=job_id))
    assert [mine.known(job_id) is None for job_id in "abcd"] == [True, False, False, False]
    mine.remember(replace(QUEUED, id="b", seq=9, args=b"1" * (LARGE + 1)))
    mine.remember(replace(QUEUED, id="c", seq=9, status="failed"))
    assert [mine.known(job_id) is None for job_id in "bcd"] == [True, True, False]
