"""What a job logs and prints is in its log, and still goes to where it always went."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quart_app.core import logs
from quart_app.core.context import Context
from quart_app.core.drafts import LEVELS, Log, lines_of
from quart_app.core.logs import Capture, JobLogHandler, JobStream
from quart_app.core.reporter import REPORTER
from quart_app.domain.retries import Retry
from quart_app.domain.tasks import Task
from tests.core.said import Heard

LOGGER = logging.getLogger("tests.said")
say = print


class Kept(Log):
    """A log whose lines are here."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def log(self, level: str, text: str, at: float | None = None) -> None:
        self.said += [(level, line) for line in lines_of(text)]


class Broken(Log):
    """A log that can take nothing."""

    def log(self, level: str, text: str, at: float | None = None) -> None:
        raise OSError("no log")


@contextlib.contextmanager
def hearing() -> Iterator[Kept]:
    """All that is said goes here. No fixture: pytest has streams of its own for each phase."""
    log = Kept()
    Capture.install(lambda: log)
    try:
        yield log
    finally:
        Capture.remove()
        assert not Capture.on()


@pytest.fixture
def kept() -> Iterator[Kept]:
    """All that is logged goes here."""
    with hearing() as log:
        yield log


async def logs_an_error() -> None:
    LOGGER.error("three")


def fails(number: int) -> None:
    raise ValueError(f"number {number}")


async def test_a_coroutine_and_a_thread_are_heard(capsys: pytest.CaptureFixture[str]) -> None:
    """With level and moment, in order; and stdout has it, too."""

    async def coroutine() -> None:
        LOGGER.warning("one %d", 1)
        say("two\nlines")
        await asyncio.to_thread(say, "from a thread")
        await asyncio.create_task(logs_an_error())
        say("half", end=" ")
        say("of it", file=sys.stderr)
        say("the rest", end="")

    def thread() -> None:
        say("in a thread")
        LOGGER.critical("four")

    async with Heard(coroutine, thread) as core:
        say("of no job")
        job = await core.run(coroutine)
        assert await core.said(job) == [
            ("warning", "one 1"),
            ("info", "two"),
            ("info", "lines"),
            ("info", "from a thread"),
            ("error", "three"),
            ("error", "of it"),
            ("info", "half the rest"),
        ]
        other = await core.run(thread)
        assert await core.said(other) == [("info", "in a thread"), ("critical", "four")]
        lines = await core.store.logs(job.id, 0, 100)
        assert [line.number for line in lines] == list(range(1, 8))
        assert all(0 <= line.at <= core.now() for line in lines)
    out, err = capsys.readouterr()
    assert out.startswith("of no job\ntwo\nlines\nfrom a thread\nhalf the rest")
    assert err == "of it\n"


@pytest.mark.virtual
async def test_jobs_do_not_mix() -> None:
    """Many at once, each in the middle of a line when the others print."""

    async def talks(name: str) -> None:
        for number in range(5):
            say(name, end=" ")
            await asyncio.sleep(0.01)
            say(number)
            LOGGER.warning("%s logs %d", name, number)

    async with Heard(talks) as core:
        jobs = {name: await core.start(talks, name=name) for name in "abcdef"}
        for name, job_id in jobs.items():
            said = await core.said(await core.ended(job_id))
            wanted = [
                (level, text.format(name=name, number=number))
                for number in range(5)
                for level, text in (
                    ("info", "{name} {number}"),
                    ("warning", "{name} logs {number}"),
                )
            ]
            assert said == wanted


@pytest.mark.virtual
async def test_every_line_is_there_when_the_job_is_over() -> None:
    """Whoever waits for its end finds them, also where it failed, was canceled, or begins again."""

    async def ends() -> None:
        say("the last words")
        raise ValueError("no")

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            say("cleaned up")

    async with Heard(ends, waits) as core:
        job_id = await core.start(ends)
        job = await core.service.wait(job_id, None)
        assert job.status == "failed"
        assert await core.said(job) == [("info", "the last words")]
        job_id = await core.start(waits)
        await asyncio.sleep(1)
        await core.service.cancel(job_id)
        assert await core.said(await core.ended(job_id)) == [("info", "cleaned up")]


@pytest.mark.virtual
async def test_what_a_job_leaves_running_says_nothing_more() -> None:
    """A task that outlives it has its context, and yet is not it."""
    left: list[asyncio.Task[None]] = []

    async def lingers() -> None:
        await asyncio.sleep(1)
        say("late")

    async def leaves() -> None:
        say("on time")
        left.append(asyncio.create_task(lingers()))

    async with Heard(leaves) as core:
        job = await core.run(leaves)
        await left[0]
        await asyncio.sleep(1)
        assert await core.said(job) == [("info", "on time")]


def test_an_exception_is_logged_with_its_traceback(kept: Kept) -> None:
    """Each line of it is a line; it is nobody else's business how it was formatted."""
    records: list[logging.LogRecord] = []
    watch = logging.Handler()
    watch.emit = records.append  # type: ignore[method-assign, assignment]
    logger = logging.getLogger("tests.watched")
    logger.propagate = False
    logger.addHandler(watch)
    try:
        fails(7)
    except ValueError:
        logger.exception("it failed")
    levels, texts = zip(*kept.said, strict=True)
    assert set(levels) == {"error"}
    assert texts[:2] == ("it failed", "Traceback (most recent call last):")
    assert texts[-1] == "ValueError: number 7"
    assert any(text.endswith("in fails") for text in texts)
    assert records[0].exc_text is None
    record = logging.makeLogRecord(
        {"msg": "from afar", "exc_text": "Error: far", "name": "x", "levelno": 40}
    )
    LOGGER.handle(record)
    LOGGER.warning("where", stack_info=True)
    texts = tuple(text for _, text in kept.said)
    assert texts[texts.index("from afar") :][:2] == ("from afar", "Error: far")
    assert texts[texts.index("where") + 1].startswith("Stack (most recent call last)")


@pytest.mark.parametrize(
    ("number", "level"),
    [
        *((0, "debug"), (5, "debug"), (10, "debug"), (25, "info"), (30, "warning")),
        *((45, "error"), (50, "critical"), (99, "critical")),
    ],
)
def test_a_level_of_ones_own_is_the_one_below(kept: Kept, number: int, level: str) -> None:
    """A log has five of them."""
    assert level in LEVELS
    LOGGER.handle(logging.makeLogRecord({"msg": "x", "levelno": number, "name": "x"}))
    assert kept.said == [(level, "x")]


class Mute:
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("args", [("no place for it", 1), ("%d", "x"), ("%s", Mute()), (Mute(),)])
def test_what_cannot_be_formatted_raises_nothing(kept: Kept, args: tuple[Any, ...]) -> None:
    """The job goes on; as much as can be shown is."""
    record = LOGGER.makeRecord("x", 30, "file", 1, args[0], args[1:], None)
    JobLogHandler(lambda: kept).emit(record)
    if isinstance(args[0], str):
        assert kept.said == [("warning", f"{args[0]} (its arguments do not fit)")]
    else:
        assert kept.said == []


def test_our_own_records_are_no_part_of_it(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """A job does not say that it has failed; a neighbour with a similar name may say what it
    likes, and a record may have no name at all."""
    for name in ("quart_app", "quart_app.jobs", "quart_appetite"):
        logging.getLogger(name).error("by %s", name)
    LOGGER.handle(logging.makeLogRecord({"msg": "nobody", "levelno": 30}))
    assert kept.said == [("error", "by quart_appetite"), ("warning", "nobody")]
    assert "by quart_app.jobs" in caplog.text


def test_a_log_that_fails_fails_no_job(capsys: pytest.CaptureFixture[str]) -> None:
    """What was said went to where it always goes."""
    Capture.install(Broken)
    say("printed")
    LOGGER.error("logged")
    Capture.remove()
    assert capsys.readouterr().out == "printed\n"


def test_what_is_said_while_a_line_is_taken_is_not_taken(kept: Kept) -> None:
    """Or it would never come to an end."""

    class Chatty(Log):
        def log(self, level: str, text: str, at: float | None = None) -> None:
            kept.log(level, text)
            say("again")
            LOGGER.error("and again")

    chatty = Chatty()
    JobLogHandler(lambda: chatty).emit(logging.makeLogRecord({"msg": "once", "levelno": 10}))
    JobStream(io.StringIO(), "info", lambda: chatty).write("twice\n")
    assert [text for _, text in kept.said] == ["once", "twice"]


def test_a_handler_that_writes_to_stderr_says_nothing_new(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A record is in the log once, whatever handler somebody adds; and so is one of ours not."""
    with hearing() as kept:
        handler: Any = logging.StreamHandler()  # To what sys.stderr is now.
        assert type(handler.stream) is JobStream
        for logger in (LOGGER, logging.getLogger("quart_app.jobs")):
            logger.addHandler(handler)
            logger.error("by %s", logger.name)
            logger.removeHandler(handler)
    assert kept.said == [("error", "by tests.said")]
    assert capsys.readouterr().err == "by tests.said\nby quart_app.jobs\n"


def test_logging_may_still_be_configured(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """`basicConfig` does what it says, what is not configured still warns on stderr, and no
    configuration ends the capture."""
    root = logging.getLogger()
    level = root.level
    monkeypatch.setattr(root, "handlers", [])
    err = io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    LOGGER.warning("nothing is configured")
    assert err.getvalue() == "nothing is configured\n"
    stream = io.StringIO()
    logging.basicConfig(stream=stream, format="%(message)s!", level=level)
    LOGGER.warning("basic")
    assert stream.getvalue() == "basic!\n"
    logging.basicConfig(force=True, handlers=[logging.NullHandler()], level=level)
    LOGGER.warning("forced")
    assert [text for _, text in kept.said] == ["nothing is configured", "basic", "forced"]


def test_a_logger_that_keeps_its_records_to_itself_is_heard(kept: Kept) -> None:
    """It need not propagate; its level and its filters hold."""
    logger = logging.getLogger("tests.alone")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    logger.setLevel("ERROR")
    only = logging.Filter("tests.alone")
    only.filter = lambda record: "no" not in record.getMessage()  # type: ignore[method-assign]
    logger.addFilter(only)
    logger.error("yes")
    logger.error("no")
    logger.warning("neither")
    logger.removeFilter(only)
    assert kept.said == [("error", "yes")]


def test_a_stream_is_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever else is asked of it."""
    before: Any = sys.stdout
    with hearing() as kept:
        stream: Any = sys.stdout
        assert type(stream) is JobStream
        assert isinstance(stream, io.TextIOBase)
        assert (stream.encoding, stream.errors) == (before.encoding, before.errors)
        assert stream.encoding is not None
        assert stream.isatty() is before.isatty()
        assert stream.buffer is before.buffer
        assert stream.closed is False
        assert before in {stream}
        assert stream != sys.stderr
        assert stream.write("four") == 4
        stream.writelines([" and", " more\n"])
        stream.flush()
        no_text: Any = b"bytes"
        with pytest.raises(TypeError):
            stream.write(no_text)
    assert capsys.readouterr().out == "four and more\n"
    assert kept.said == [("info", "four and more")]
    with pytest.raises(AttributeError):
        _ = JobStream.__new__(JobStream).anything


def test_a_capture_is_removed_cleanly() -> None:
    """By the last of several apps of one process."""
    before = (sys.stdout, sys.stderr, logging.Logger.callHandlers)
    handlers = list(logging.getLogger().handlers)
    Capture.install()
    Capture.install()
    assert isinstance(sys.stdout, JobStream)
    assert not isinstance(sys.stdout.stream, JobStream)
    Capture.remove()
    assert Capture.on()
    assert isinstance(sys.stdout, JobStream)
    Capture.remove()
    assert (sys.stdout, sys.stderr, logging.Logger.callHandlers) == before
    assert logging.getLogger().handlers == handlers
    Capture.remove()
    assert not Capture.on()


def test_a_stream_that_somebody_has_put_in_our_place_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And ours is silent if it comes back later, and is not wrapped again."""
    log, theirs = Kept(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    Capture.install(lambda: log)
    ours = sys.stdout
    assert isinstance(ours, JobStream)
    sys.stdout = theirs
    Capture.remove()
    assert sys.stdout is theirs
    sys.stdout = ours
    say("not heard")
    assert log.said == []
    Capture.install(lambda: log)
    assert isinstance(sys.stdout, JobStream)
    assert sys.stdout is not ours
    assert sys.stdout.stream is ours.stream
    say("heard")
    assert log.said == [("info", "heard")]
    Capture.remove()


def test_a_second_app_finds_streams_that_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a test has replaced them meanwhile; a process may also have none."""
    log, new = Kept(), io.StringIO()
    Capture.install(lambda: log)
    monkeypatch.setattr(sys, "stdout", new)
    monkeypatch.setattr(sys, "stderr", None)
    say("not heard")
    Capture.install(lambda: log)
    say("heard")
    assert sys.stderr is None
    Capture.remove()
    Capture.remove()
    assert log.said == [("info", "heard")]
    assert sys.stdout is new
    monkeypatch.undo()
    stale: Any = sys.stderr
    assert type(stale) is JobStream, "it was put back after us"
    assert not stale.heard
    sys.stderr = stale.stream


def test_another_hook_above_ours_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of error trackers: ours below it is silent then."""
    log, seen = Kept(), []
    monkeypatch.setattr(logging.Logger, "callHandlers", logging.Logger.callHandlers)
    Capture.install(lambda: log)
    below: Callable[..., None] = logging.Logger.callHandlers

    def above(logger: logging.Logger, record: logging.LogRecord) -> None:
        seen.append(record.getMessage())
        below(logger, record)

    monkeypatch.setattr(logging.Logger, "callHandlers", above)
    LOGGER.warning("one")
    Capture.remove()
    assert logging.Logger.callHandlers is above
    LOGGER.warning("two")
    assert seen == ["one", "two"]
    assert log.said == [("warning", "one")]


async def test_outside_a_job_nobody_hears(capfd: pytest.CaptureFixture[str]) -> None:
    """Nor does a thread that somebody makes without the job's context."""

    def thread() -> None:
        other = threading.Thread(target=say, args=("of another thread",))
        other.start()
        other.join()

    async with Heard(thread) as core:
        say("outside")
        assert REPORTER.get() is None
        assert await core.said(await core.run(thread)) == []
    assert capfd.readouterr().out == "outside\nof another thread\n"
    assert not logs._inside.busy


@pytest.mark.virtual
async def test_a_reporter_hears_until_its_attempt_has_ended() -> None:
    """The next attempt has its own; both are in the job's log."""

    async def again(ctx: Context) -> str:
        say("attempt", ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError("once more")
        return "done"

    task = Task(again, max_attempts=2, retry=Retry(initial=5))
    async with Heard(task) as core:
        job = await core.run("again")
        assert job.result == b'"done"'
        assert await core.said(job) == [("info", "attempt 1"), ("info", "attempt 2")]
