"""The log of a job: every line before its end, in order, bounded, and without its secrets."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import pytest

from quart_app.core.context import Context
from quart_app.core.drafts import LINES, dropped
from quart_app.core.ledger import Ledger
from quart_app.core.reporter import INTERVAL, MESSAGE_CHARS, REPORTER, Reporter
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Draft, Job, Progress

JOB = Job(id="a", task="t", attempt=1)


class Pen:
    """A ledger that keeps what it is given, and when; it may be slow, or out of order."""

    def __init__(self, slow: float = 0.0) -> None:
        self.loop = asyncio.get_running_loop()
        self.slow = slow
        self.down = False
        self.error: Exception = StoreUnavailable("down")
        self.writes: list[tuple[float, list[Draft]]] = []
        self.notes: list[Progress] = []
        self.contexts: list[Reporter | None] = []

    def clock(self) -> float:
        return self.loop.time()

    async def log(self, job: Job, drafts: Sequence[Draft]) -> None:
        assert job is JOB
        self.contexts.append(REPORTER.get())
        self.writes.append((round(self.clock(), 3), list(drafts)))
        await asyncio.sleep(self.slow)
        if self.down:
            raise self.error

    async def note(self, job_id: str, *, attempt: int, progress: Progress) -> None:
        assert (job_id, attempt) == ("a", 1)
        if self.down:
            raise self.error
        self.notes.append(progress)

    @property
    def texts(self) -> list[str]:
        return [text for _, drafts in self.writes for _, _, text in drafts]

    @property
    def moments(self) -> list[float]:
        return [moment for moment, _ in self.writes]


def reporter_of(pen: Pen) -> Reporter:
    """A reporter that writes with this."""
    return Reporter(cast("Ledger", pen), JOB, asyncio.get_running_loop())


@pytest.mark.virtual
async def test_lines_are_written_at_most_ten_times_a_second() -> None:
    """All of them, in order, each with its moment."""
    pen = Pen()
    reporter = reporter_of(pen)
    for number in range(100):
        reporter.log("info", str(number))
        await asyncio.sleep(0.01)
    assert not reporter.closed
    await reporter.close()
    assert pen.texts == [str(number) for number in range(100)]
    assert pen.moments == [0.0, *(round(n * INTERVAL, 3) for n in range(1, 11))]
    ats = [at for _, drafts in pen.writes for at, _, _ in drafts]
    assert ats == sorted(ats)
    assert pen.writes[0][1] == [(0.0, "info", "0")]


@pytest.mark.virtual
async def test_a_slow_store_gets_one_write_at_a_time() -> None:
    """What comes meanwhile is in the next one; the order is kept."""
    pen = Pen(slow=0.35)
    reporter = reporter_of(pen)
    for number in range(10):
        reporter.log("info", str(number))
        reporter.report(Progress(number, 10))
        await asyncio.sleep(0.1)
    await reporter.close()
    assert pen.texts == [str(number) for number in range(10)]
    assert all(after - before >= 0.35 for before, after in pairwise(pen.moments))
    assert pen.notes[-1] == Progress(9, 10)


@pytest.mark.virtual
async def test_every_line_is_written_before_the_end() -> None:
    """The last one, one that has not ended, and one for which a write is under way."""
    pen = Pen(slow=0.05)
    reporter = reporter_of(pen)
    reporter.log("info", "first")
    await asyncio.sleep(0.01)
    reporter.log("info", "second")
    reporter.write("error", "third")
    await reporter.close()
    assert pen.texts == ["first", "second", "third"]
    reporter.log("info", "late")
    reporter.write("info", "late\n")
    reporter.report(Progress(9, 9))
    await asyncio.sleep(1)
    assert pen.texts == ["first", "second", "third"]
    assert pen.notes == []


@pytest.mark.virtual
async def test_what_is_said_while_the_last_write_is_waited_for() -> None:
    """A line is late; of the progress the newest counts. Nobody is woken for it."""
    pen = Pen(slow=0.5)
    reporter = reporter_of(pen)
    reporter.log("info", "last")
    closing = asyncio.create_task(reporter.close())
    await asyncio.sleep(0.1)
    reporter.log("info", "late")
    reporter.report(Progress(1, 1))
    await closing
    await asyncio.sleep(1)
    assert (pen.texts, pen.notes) == (["last"], [Progress(1, 1)])


@pytest.mark.virtual
async def test_a_printed_piece_alone_is_something_to_wait_for() -> None:
    """`used` says so, and so the runner closes it."""
    pen = Pen()
    reporter = reporter_of(pen)
    assert reporter.used is False
    reporter.write("info", "no end")
    assert (reporter.used, pen.texts) == (True, [])
    await reporter.close()
    assert pen.texts == ["no end"]


@pytest.mark.virtual
async def test_too_many_lines_are_counted() -> None:
    """Between two writes; the newest stay."""
    pen = Pen()
    reporter = reporter_of(pen)
    for number in range(LINES + 7):
        reporter.log("debug", str(number))
    await reporter.close()
    [(_, drafts)] = pen.writes
    assert drafts[0][1:] == ("warning", dropped(8))
    assert [text for _, _, text in drafts[1:]] == [str(number) for number in range(8, LINES + 7)]


@pytest.mark.virtual
async def test_a_store_that_is_down_loses_lines_and_nothing_else() -> None:
    """They do not pile up, and what is said later is written."""
    pen = Pen()
    reporter = reporter_of(pen)
    pen.down = True
    for number in range(50):
        reporter.log("info", str(number))
        reporter.report(Progress(number, 50))
        await asyncio.sleep(0.1)
    pen.down = False
    pen.writes.clear()
    reporter.log("info", "back")
    await reporter.close()
    assert pen.texts == ["back"]
    assert pen.notes == []


@pytest.mark.virtual
async def test_nothing_that_a_job_says_keeps_it_from_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a store cannot write is in the server's log; what comes after it is written."""
    pen = Pen()
    reporter = reporter_of(pen)
    pen.down, pen.error = True, TypeError("no such number")
    reporter.report(Progress(1, 2))
    reporter.log("info", "one")
    await asyncio.sleep(0.2)
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "job a: what it said could not be written" in caplog.text
    pen.down = False
    reporter.report(Progress(2, 3))
    await asyncio.sleep(0.2)
    assert pen.notes == [Progress(2, 3)]
    pen.down = True
    reporter.report(Progress(3, 3))
    await reporter.close()
    assert len(caplog.records) == 3


@pytest.mark.virtual
async def test_secrets_are_hidden_in_lines_and_progress() -> None:
    """Before anything is cut."""
    pen = Pen()
    reporter = reporter_of(pen)
    reporter.secrets = ("hunter2",)
    reporter.log("info", "it is hunter2")
    reporter.write("info", "and hun")
    reporter.write("info", "ter2\n")
    reporter.report(Progress(1, 2, "x" * (MESSAGE_CHARS - 3) + "hunter2"))
    await reporter.close()
    assert pen.texts == ["it is ***", "and ***"]
    assert pen.notes == [Progress(1, 2, "x" * (MESSAGE_CHARS - 3) + "***")]
    reporter = reporter_of(pen)
    reporter.report(Progress(2, 2, "y" * 300))
    await reporter.close()
    assert pen.notes[1:] == [Progress(2, 2, "y" * MESSAGE_CHARS)]


async def test_threads_lose_no_line_and_never_the_newest_progress() -> None:
    """Several at once, while it is being written."""
    pen = Pen()
    reporter = reporter_of(pen)
    contexts = [contextvars.copy_context() for _ in range(3)]

    def say(name: int) -> None:
        for number in range(200):
            reporter.log("info", f"{name} {number}")
            reporter.report(Progress(number, 200))

    await asyncio.gather(
        *(asyncio.to_thread(context.run, say, name) for name, context in enumerate(contexts))
    )
    await reporter.close()
    for name in range(3):
        mine = [text for text in pen.texts if text.startswith(f"{name} ")]
        assert mine == [f"{name} {number}" for number in range(200)]
    assert pen.notes[-1].current == 199


@pytest.mark.virtual
async def test_progress_that_a_thread_reports_during_a_write_is_written() -> None:
    """Also where no other one follows."""
    pen = Pen()
    reporter = reporter_of(pen)

    class Looks(Pen):
        async def note(self, job_id: str, *, attempt: int, progress: Progress) -> None:
            pen.notes.append(progress)
            if len(pen.notes) == 1:
                reporter.report(Progress(2, 2))

    reporter._ledger = cast("Ledger", Looks())
    reporter.report(Progress(1, 2))
    await asyncio.sleep(1)
    assert pen.notes == [Progress(1, 2), Progress(2, 2)]
    reporter.report(pen.notes[-1])
    await asyncio.sleep(1)
    assert len(pen.notes) == 2, "what was written is not written again"
    await reporter.close()


@pytest.mark.virtual
async def test_lines_are_not_written_in_the_context_of_the_job() -> None:
    """Or what those say who are told of them would be the job's lines again, for ever."""
    pen = Pen()
    reporter = reporter_of(pen)
    REPORTER.set(reporter)
    reporter.log("info", "one")
    await asyncio.sleep(0.05)
    assert pen.contexts == [None]
    await reporter.close()


async def test_the_first_line_may_be_a_threads() -> None:
    """It is written by the job's loop."""
    pen = Pen()
    reporter = reporter_of(pen)
    thread = threading.Thread(target=reporter.log, args=("info", "from beside"))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert reporter.used
    await reporter.close()
    assert pen.texts == ["from beside"]


def test_a_thread_that_outlives_the_loop_says_it_to_nobody() -> None:
    """It hears of no error."""

    async def make() -> Reporter:
        return reporter_of(Pen())

    reporter = asyncio.run(make())
    reporter.log("info", "late", 1.0)
    reporter.write("info", "later")
    assert reporter.used


@pytest.mark.virtual
async def test_reporting_is_cheap_while_something_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is woken for it: a loop over a hundred thousand items is not held up."""
    pen = Pen()
    reporter = reporter_of(pen)
    wakes: list[object] = []
    loop = asyncio.get_running_loop()
    call = loop.call_soon_threadsafe

    def count(*args: Any, **options: Any) -> Any:
        wakes.append(args)
        return call(*args, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    context = Context("a", 1, stopping=lambda: False, report=reporter.report)
    for number in range(100_000):
        context.progress(number, 100_000)
    assert len(wakes) == 1
    await reporter.close()
    assert pen.notes == [Progress(99_999, 100_000)]
