"""Following jobs: every version once and in order, from any point in the past."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from quart_app.core import hub
from quart_app.core.follow import REPLAYED, follow, follow_all
from quart_app.domain.errors import NoSuchJob
from quart_app.domain.jobs import Job, News
from quart_app.domain.status import Move
from tests.core.support import Core

pytestmark = pytest.mark.virtual


async def sleeps(seconds: float = 1.0) -> None:
    """Takes a while."""
    await asyncio.sleep(seconds)


async def seen(stream: AsyncGenerator[News | None, None]) -> list[tuple[int, str]]:
    """What a reader is told until the end: seq and status."""
    return [(job.seq, job.status) async for job in stream if isinstance(job, Job)]


async def all_seen(stream: AsyncGenerator[list[Job] | None, None]) -> list[list[tuple[int, str]]]:
    """What a reader of all jobs is told until the end, and what of it at once."""
    return [[(job.seq, job.status) for job in jobs] async for jobs in stream if jobs is not None]


def together(told: list[list[tuple[int, str]]]) -> list[tuple[int, str]]:
    """The same in one list."""
    return [each for jobs in told for each in jobs]


async def test_a_reader_is_told_every_status_once_and_in_order() -> None:
    """From the first that it could see to the final one; then the stream ends."""
    async with Core(sleeps, room=1) as core:
        first = await core.start(sleeps)
        second = await core.start(sleeps)
        told = await seen(follow(core.service, second, None, 60))
        assert told == [(2, "queued"), (5, "running"), (6, "succeeded")]
        assert await seen(follow(core.service, first, None, 60)) == [(4, "succeeded")]


async def test_a_reader_that_comes_back_goes_on_where_it_was() -> None:
    """It gets the newest version if it has not seen that, and nothing that it has."""
    async with Core(sleeps) as core:
        job_id = await core.start(sleeps)
        stream = follow(core.service, job_id, None, 60)
        job = await anext(stream)
        await stream.aclose()
        assert job is not None
        await core.ended(job_id)
        assert await seen(follow(core.service, job_id, job.seq, 60)) == [(3, "succeeded")]
        assert await seen(follow(core.service, job_id, 3, 60)) == []
        assert core.hub.watchers == 0


async def test_an_unknown_job_cannot_be_followed() -> None:
    """Also one whose record has expired."""
    async with Core(sleeps) as core:
        with pytest.raises(NoSuchJob):
            await seen(follow(core.service, "nothing", None, 60))


async def test_silence_is_broken_by_signs_of_life() -> None:
    """So that nobody on the way takes the stream for dead."""
    async with Core(sleeps) as core:
        job_id = await core.start(sleeps, seconds=10)
        told = [job async for job in follow(core.service, job_id, None, 3)]
        assert [job.status if isinstance(job, Job) else None for job in told] == [
            *("queued", "running", None, None, None, "succeeded")
        ]


async def test_a_reader_of_all_is_told_of_all() -> None:
    """Each version of each job, in the order in which they came about, from now on."""
    async with Core(sleeps) as core:
        before = await core.start(sleeps, seconds=0.5)
        await core.ended(before)
        stream = follow_all(core.service, None, 60)
        reading = asyncio.create_task(all_seen(stream))
        await asyncio.sleep(0)
        ids = [await core.start(sleeps) for _ in range(2)]
        await core.ended(ids[1])
        await asyncio.sleep(0)
        core.hub.close()
        statuses = ["queued", "queued", "running", "running", "succeeded", "succeeded"]
        assert together(await reading) == list(zip(range(4, 10), statuses, strict=True))


async def test_a_reader_that_wants_less_is_told_the_newest_of_each_job() -> None:
    """The first change at once; what follows at most so often, in order, and each job once."""
    async with Core(sleeps) as core:
        reading = asyncio.create_task(all_seen(follow_all(core.service, None, 60, every=1.0)))
        await asyncio.sleep(0)
        first = await core.start(sleeps, seconds=0.25)
        await asyncio.sleep(0.1)
        second = await core.start(sleeps, seconds=0.25)
        await core.ended(first)
        await core.ended(second)
        await asyncio.sleep(1.0)
        third = await core.start(sleeps, seconds=5)
        await asyncio.sleep(1.1)
        core.hub.close()
        assert await reading == [
            [(1, "queued")],
            [(5, "succeeded"), (6, "succeeded")],
            [(8, "running")],
        ]
        await core.ended(third)


async def test_one_that_wants_less_misses_nothing_when_it_comes_back() -> None:
    """It has the seq of what it was told last; of what it missed it is told the newest."""
    async with Core(sleeps) as core:
        ids = [await core.start(sleeps) for _ in range(3)]
        for each in ids:
            await core.ended(each)
        await asyncio.sleep(0)
        stream = follow_all(core.service, 8, 60, every=0.5)
        assert [job.id for job in await anext(stream) or ()] == ids[2:]
        await stream.aclose()


async def test_one_that_wants_less_falls_behind_by_jobs_and_not_by_versions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However often a few jobs change, they are a few."""
    monkeypatch.setattr(hub, "BEHIND", 5)
    async with Core(sleeps, room=100) as core:
        with core.hub.gather() as follower:
            for _ in range(5):
                await core.start(sleeps, seconds=1)
            await core.engine.idle()
            told = await follower.next(1) or []
            assert [job.status for job in told if isinstance(job, Job)] == ["succeeded"] * 5
            for _ in range(9):  # Also of what comes after the gap nothing is told.
                await core.start(sleeps, seconds=1)
            assert follower.ended
            assert await follower.next(1) == []
            await core.engine.idle()


async def test_what_was_missed_of_all_is_told_first() -> None:
    """Each job's newest version, however many there are; then it goes on."""
    count = 2 * REPLAYED + 7
    async with Core(sleeps) as core:
        await core.ledger.open([Job(id=str(number), task="sleeps") for number in range(count)])
        for number in range(count):
            await core.ledger.move(str(number), Move.CLAIM)
        stream = follow_all(core.service, 5, 60)
        reading = asyncio.create_task(all_seen(stream))
        await asyncio.sleep(1)
        await core.ledger.move("3", Move.SUCCEED)
        core.hub.close()
        told = together(await reading)
        assert told[:-1] == [(count + number + 1, "running") for number in range(count)]
        assert told[-1] == (2 * count + 1, "succeeded")
        for number in range(count):
            await core.ledger.move(str(number), Move.SUCCEED)


async def test_a_reader_that_falls_behind_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs nobody anything, and comes back for what it missed."""
    monkeypatch.setattr(hub, "BEHIND", 10)
    async with Core(sleeps) as core:
        slow, quick = core.hub.follow(None), core.hub.follow(None)
        with slow, quick:
            told: list[News] = []
            for _ in range(20):
                await core.start(sleeps, seconds=0)
                told += await quick.next(1) or []
            assert len(told) >= 20
            assert not quick.ended
            assert await slow.next(1) == []
            assert slow.ended
        await core.engine.idle()


async def test_streams_end_at_a_shutdown() -> None:
    """What was told before is still given."""
    async with Core(sleeps) as core:
        job_id = await core.start(sleeps, seconds=5)
        reading = asyncio.create_task(seen(follow(core.service, job_id, None, 60)))
        await asyncio.sleep(1)
        core.hub.close()
        assert await reading == [(2, "running")]
        assert await seen(follow(core.service, job_id, None, 60)) == [(2, "running")]
        assert core.now() < 2
        await core.ended(job_id)


async def test_a_thousand_readers_of_one_job_are_each_told_all() -> None:
    """And none is told anything twice."""
    async with Core(sleeps, room=1) as core:
        await core.start(sleeps)
        job_id = await core.start(sleeps)
        streams = [follow(core.service, job_id, None, 60) for _ in range(1_000)]
        told = await asyncio.gather(*map(seen, streams))
        assert set(map(tuple, told)) == {((2, "queued"), (5, "running"), (6, "succeeded"))}
        assert core.hub.watchers == 0


async def test_a_reader_from_a_time_that_the_store_has_lost_begins_anew() -> None:
    """A backup was restored, or the last writes are gone: numbers come again."""
    async with Core(sleeps) as core:
        job_id = await core.start(sleeps)
        lost = await core.store.head() + 100
        assert await seen(follow(core.service, job_id, lost, 60)) == [
            (1, "queued"),
            (2, "running"),
            (3, "succeeded"),
        ]
        assert await seen(follow(core.service, job_id, lost, 60)) == [(3, "succeeded")]
        reading = asyncio.create_task(all_seen(follow_all(core.service, lost, 60)))
        await asyncio.sleep(0.1)
        await core.ended(await core.start(sleeps))
        core.hub.close()
        assert together(await reading) == [(4, "queued"), (5, "running"), (6, "succeeded")]
