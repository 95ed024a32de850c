"""What any process does is heard here: by who watches, and by the jobs that run here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import pytest

from quart_app.core.hub import Hub
from quart_app.core.listener import Listener
from quart_app.core.registry import Handle, Registry
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Change, Job, JobEvent, Note, Progress
from quart_app.domain.status import Move
from tests.core.fleet import Machine
from tests.core.twin import Broker, Place, Twin

pytestmark = pytest.mark.virtual


class Here:
    """A process that listens, and a store of another."""

    def __init__(self) -> None:
        self.place = Place()
        self.mine, self.other = self.place.store(), self.place.store()
        self.hub, self.registry = Hub(), Registry(2.0)
        self.listener = Listener(self.mine, self.hub, self.registry, "me")
        self.events: list[JobEvent] = []
        self.gaps = 0
        self.listener.on_event = self.events.append
        self.listener.on_gap = self.gap
        self.asked: list[str] = []

    def gap(self) -> None:
        """Told by the listener."""
        self.gaps += 1

    async def claim(self, job_id: str, by: str = "me") -> Job:
        """A job that runs in a process."""
        await self.other.add([Job(id=job_id, task="t", max_attempts=3)], 100)
        job = await self.other.move(job_id, Change(Move.CLAIM, 1.0, worker=by))
        assert job is not None
        return job

    def open(self, job: Job, *, inside: bool = True, seq: int | None = None) -> Handle:
        """The handle of a job that runs here; how it is interrupted is written down."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        handle = self.registry.open(job.id, task)
        assert handle is not None
        handle.seq = job.seq if seq is None else seq
        if inside:
            handle.enter(lambda: self.asked.append(f"{handle.stop}"))
        return handle


@contextlib.asynccontextmanager
async def here() -> AsyncIterator[Here]:
    """It listens meanwhile."""
    made = Here()
    for store in (made.mine, made.other):
        await store.open()
    await made.listener.start()
    yield made
    for handle in made.registry:
        handle.leave()
        made.registry.close(handle)
    await made.listener.stop()


async def settle() -> None:
    """What was written has been heard."""
    await asyncio.sleep(0.01)


async def ask_to_cancel(store: Twin, job_id: str) -> None:
    """As a process does that does not run the job."""
    assert await store.note(job_id, Note(at=5.0, cancel_requested=True))


async def test_watchers_here_are_told_of_what_others_do() -> None:
    """Versions and lines, each once and in order."""
    async with here() as made:
        with made.hub.follow("a") as follower, made.hub.watch("a") as watcher:
            job = await made.claim("a")
            await made.other.log("a", [(1.0, "info", "hello")], 10, 1_000)
            ended = await made.other.move("a", Change(Move.SUCCEED, 2.0))
            assert await watcher.next() in (job, ended)
            await settle()
            news = await follower.next(1)
            assert news is not None
            assert [each.seq for each in news] == [1, 2, 3, 4]
            assert news[-1] == ended
        assert [event.kind for event in made.events] == ["open", "claim", "succeed"]


async def test_many_events_leave_the_loop_to_others() -> None:
    """A hundred at a time."""
    async with here() as made:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while len(made.events) < 1_000:
                turns += 1
                await asyncio.sleep(0)

        await made.other.add([Job(id=f"{n}", task="t") for n in range(1_000)], 10_000)
        await other()
        assert turns >= 10


async def test_a_cancel_by_another_process_is_asked_for_here_once() -> None:
    """However much is told of the job afterwards."""
    async with here() as made:
        made.open(await made.claim("a"))
        await ask_to_cancel(made.other, "a")
        for number in range(3):
            await made.other.note("a", Note(at=6.0, progress=Progress(number, 3)))
        await settle()
        assert made.asked == ["cancel"]


async def test_a_cancel_that_comes_before_the_function_begins_is_not_lost() -> None:
    """Between the claim and its answer, and between that and the function's first line."""
    async with here() as made:
        for job_id, seq in (("a", 0), ("b", None)):
            job = await made.claim(job_id)
            handle = made.open(job, inside=False, seq=seq)
            await ask_to_cancel(made.other, job_id)
            await settle()
            assert handle.stop == "cancel"
            handle.enter(lambda: made.asked.append("cancel"))
        assert made.asked == ["cancel", "cancel"]


async def test_what_is_older_than_the_attempt_asks_for_nothing() -> None:
    """It was known when it began."""
    async with here() as made:
        job = await made.claim("a")
        made.mine.cut = True  # It hears all of it late.
        await ask_to_cancel(made.other, "a")
        await made.other.move("a", Change(Move.RESCUE, 6.0))
        again = await made.other.move("a", Change(Move.CLAIM, 7.0, worker="me"))
        assert again is not None
        assert again.attempt == job.attempt + 1
        made.open(again)
        made.mine.cut = False
        await asyncio.sleep(3)
        assert made.events[-1].seq == again.seq
        assert made.asked == []


async def test_a_job_that_was_taken_away_is_asked_to_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Rescued, begun elsewhere, or over: its outcome here will be refused."""
    async with here() as made:
        for job_id, moves in {
            "a": [Change(Move.RESCUE, 3.0)],
            "b": [Change(Move.RESCUE, 3.0), Change(Move.CLAIM, 4.0, worker="you")],
            "c": [Change(Move.FAIL, 3.0, reason="poison")],
        }.items():
            made.open(await made.claim(job_id))
            for change in moves:
                assert await made.other.move(job_id, change)
        await settle()
        assert made.asked == ["shutdown"] * 3
    assert caplog.text.count("was taken away") >= 3


async def test_the_end_that_was_written_here_asks_for_nothing() -> None:
    """It is heard while the handle is open still."""
    async with here() as made:
        handle = made.open(await made.claim("a"))
        handle.leave()
        await made.mine.move("a", Change(Move.SUCCEED, 3.0))
        await settle()
        assert handle.stop is None


async def test_who_was_cut_off_goes_on_where_it_was() -> None:
    """Each event once, none is missed, and nobody begins anew."""
    async with here() as made:
        await made.claim("a")
        await settle()
        with made.hub.follow("a") as follower:
            made.mine.cut = True
            await made.other.move("a", Change(Move.SUCCEED, 3.0))
            await asyncio.sleep(10)
            assert len(made.events) == 2
            made.mine.cut = False
            await asyncio.sleep(2)
            assert [event.seq for event in made.events] == [1, 2, 3]
            assert not follower.ended
        assert made.gaps == 0
        assert made.mine.calls["listen"] < 20


async def test_who_had_heard_nothing_when_it_was_cut_off_reads_what_matters() -> None:
    """It cannot say from where to go on."""
    async with here() as made:
        with made.hub.watch("a") as watcher:
            made.mine.cut = True
            await made.claim("a")
            await made.other.move("a", Change(Move.SUCCEED, 3.0))
            await asyncio.sleep(5)
            made.mine.cut = False
            job = await watcher.next()
            assert job is not None
            assert job.over
        assert made.gaps == 1


async def test_after_a_gap_followers_begin_anew_and_watchers_are_told() -> None:
    """Also who waits for ends alone, and jobs that run here."""
    async with here() as made:
        ends: list[Job] = []
        for job_id in "abcd":
            await made.claim(job_id)
        made.open(cast(Job, await made.mine.get("d")))
        await settle()
        made.mine.cut = True
        await asyncio.sleep(1)
        waited = {"c"}
        with (
            made.hub.watch("a") as watcher,
            made.hub.follow("b") as follower,
            made.hub.ends(ends.append, waited),
        ):
            for job_id in "abc":
                await made.other.move(job_id, Change(Move.SUCCEED, 3.0))
            await ask_to_cancel(made.other, "d")
            made.place.forget()
            made.mine.cut = False
            await asyncio.sleep(2)
            assert follower.ended
            job = await watcher.next()
            assert job is not None
            assert job.over
            assert "c" in {job.id for job in ends}
            assert made.asked == ["cancel"]
            assert made.gaps == 1
            await made.claim("e")
            await settle()
            assert made.events[-1].job.id == "e"
        assert made.hub.watched() == []


async def test_a_gap_that_could_not_be_read_is_read_again() -> None:
    """It is cut off in the middle of the reading."""
    async with here() as made:
        await made.claim("a")
        await settle()
        with made.hub.watch("a") as watcher:
            made.mine.cut = True
            await asyncio.sleep(1)
            await made.other.move("a", Change(Move.SUCCEED, 3.0))
            made.place.forget()
            get = made.mine.get
            tries = 0

            async def fails_once(job_id: str) -> Job | None:
                nonlocal tries
                tries += 1
                if tries == 1:
                    raise StoreUnavailable("cut off again")
                return await get(job_id)

            made.mine.get = fails_once  # type: ignore[method-assign]
            made.mine.cut = False
            job = await watcher.next()
            assert job is not None
            assert job.over
            await settle()
        assert (tries >= 2, made.gaps >= 1) == (True, True)


async def test_who_raises_at_an_event_does_not_end_the_listening(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The error is logged, and the next event is heard."""
    async with here() as made:
        heard: list[str] = []

        def fails(event: JobEvent) -> None:
            heard.append(event.kind)
            if event.kind == "open":
                raise ValueError("no")

        made.listener.on_event = fails
        await made.claim("a")
        await asyncio.sleep(2)
        assert heard == ["open", "claim"]
    assert "could not be read" in caplog.text


async def test_a_store_that_cannot_be_listened_to_is_refused_at_the_start() -> None:
    """Within a few seconds, and nothing is left."""
    store = Place().store()
    await store.open()
    store.cut = True
    listener = Listener(store, Hub(), Registry(), "me")
    with pytest.raises(StoreUnavailable, match="listened"):
        await listener.start()
    assert asyncio.get_running_loop().time() < 6
    await store.close()
    with pytest.raises(StoreUnavailable, match="listened"):
        await listener.start()
    await Listener(store, Hub(), Registry(), "me").stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancel_reaches_a_job_wherever_it_runs() -> None:
    """Through the whole core: asked for in one process, it ends in the other."""

    async def sleeps() -> None:
        await asyncio.sleep(1_000)

    place, broker = Place(), Broker()
    async with (
        Machine(place, broker, sleeps, name="a") as one,
        Machine(place, broker, sleeps, name="b") as other,
    ):
        one.engine.places["loop"] = 0
        job_id = await one.start("sleeps")
        await asyncio.sleep(1)
        assert job_id in other.registry
        canceling = await one.service.cancel(job_id)
        assert canceling.cancel_requested_at is not None
        job = await one.ended(job_id)
        assert (job.status, job.reason) == ("canceled", "requested")
        assert asyncio.get_running_loop().time() < 2
