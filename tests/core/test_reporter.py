"""Progress: cheap to report, at most ten notes a second, and the newest is always written."""

from __future__ import annotations

import asyncio
import threading

import pytest

from quart_app.core.context import Context
from quart_app.core.reporter import Reporter
from quart_app.domain.jobs import Job, Progress
from quart_app.domain.status import Move
from tests.core.support import Core


def notes(core: Core) -> list[tuple[float, float]]:
    """Moment and progress of each note that was told."""
    return [
        (round(event.job.updated_at, 3), event.job.progress.current)
        for event in core.events
        if event.kind == "note" and event.job.progress is not None
    ]


@pytest.mark.virtual
async def test_a_burst_is_one_note_and_then_ten_a_second() -> None:
    """What comes between two notes is left out."""

    async def busy(ctx: Context) -> None:
        for number in range(100):
            ctx.progress(number, 100)
            await asyncio.sleep(0.01)

    async with Core(busy) as core:
        await core.run(busy)
        first, *rest, last = notes(core)
        assert first == (0.0, 0.0)
        assert [moment for moment, _ in rest] == [n / 10 for n in range(1, 10)]
        assert last == (1.0, 99.0)


@pytest.mark.virtual
async def test_the_newest_is_written_before_the_end() -> None:
    """Also when it was reported in the function's last line, or a moment ago."""

    async def last(ctx: Context) -> None:
        ctx.progress(1, 3)
        await asyncio.sleep(0.02)
        ctx.progress(2, 3)
        await asyncio.sleep(0.02)
        ctx.progress(3, 3, "all")

    async def only(ctx: Context) -> None:
        ctx.progress(1, 1)

    async with Core(last, only) as core:
        job = await core.run(last)
        assert job.progress == Progress(3, 3, "all")
        assert core.story(job.id) == ["open", "claim", "note", "note", "succeed"]
        job = await core.run(only)
        assert job.progress == Progress(1, 1)
        assert core.story(job.id) == ["open", "claim", "note", "succeed"]


@pytest.mark.virtual
async def test_what_is_reported_after_the_end_is_dropped() -> None:
    """A context that outlives its function says nothing any more."""
    kept: list[Context] = []

    async def job(ctx: Context) -> None:
        ctx.progress(1, 9)
        await asyncio.sleep(1)
        kept.append(ctx)

    async with Core(job) as core:
        ended = await core.run(job)
        kept[0].progress(9, 9)
        await asyncio.sleep(1)
        assert (await core.job(ended.id)).progress == Progress(1, 9)


async def test_threads_report_too() -> None:
    """From beside the loop, as fast as they like."""
    done = threading.Event()

    def job(ctx: Context) -> None:
        for number in range(10_000):
            ctx.progress(number, 10_000)
        done.set()

    async with Core(job) as core:
        ended = await core.run(job)
        assert done.is_set()
        assert ended.progress == Progress(9_999, 10_000)
        assert core.story(ended.id).count("note") < 10


def test_a_thread_that_outlives_the_loop_reports_to_nobody() -> None:
    """It hears of no error."""

    async def make() -> Reporter:
        async with Core() as core:
            return Reporter(core.ledger, Job(id="a", task="t"), asyncio.get_running_loop())

    reporter = asyncio.run(make())
    reporter.report(Progress(1, 2))
    assert reporter.used


@pytest.mark.virtual
async def test_progress_of_a_job_that_was_given_up_is_refused() -> None:
    """A late writer changes nothing."""

    async def job(ctx: Context) -> None:
        await asyncio.sleep(1)
        ctx.progress(1, 2)
        await asyncio.sleep(1)

    async with Core(job) as core:
        job_id = await core.start(job)
        await asyncio.sleep(0.5)
        await core.ledger.move(job_id, Move.FAIL, reason="lost")
        await core.engine.idle()
        assert (await core.job(job_id)).progress is None


@pytest.mark.virtual
async def test_what_a_job_says_wrongly_is_its_error_and_no_more() -> None:
    """It fails like any other; what it has caught itself is forgotten."""

    async def wrong(ctx: Context) -> None:
        ctx.progress(1, None)  # type: ignore[arg-type]

    async def caught(ctx: Context) -> str:
        ctx.progress(1, 2, "half")
        with pytest.raises(TypeError):
            ctx.progress(2, None)  # type: ignore[arg-type]
        return "done"

    async with Core(wrong, caught) as core:
        job = await core.run(wrong)
        assert job.error is not None
        assert (job.status, job.error.code) == ("failed", "TypeError")
        job = await core.run(caught)
        assert (job.status, job.progress) == ("succeeded", Progress(1, 2, "half"))
