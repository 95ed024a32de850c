"""What happens in a job's process: every ending is an answer, signals stop the function only."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quart_app.core import child
from quart_app.core.child import Answer, Call, ProcessLog
from quart_app.core.context import Context
from quart_app.core.drafts import dropped
from quart_app.core.logs import Capture
from quart_app.core.slots import ASKED, KILLED, NOTHING, RING_BYTES, Slots
from quart_app.domain.jobs import Progress
from quart_app.domain.secrets import Secret
from tests.core import process_tasks


class Left(BaseException):
    """What stands for the end of the process here."""


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slots]:
    """The state of a process that has begun, without one."""

    def leave(status: int) -> None:
        raise Left(status)

    monkeypatch.setattr(child.os, "_exit", leave)  # type: ignore[attr-defined]
    made = Slots(multiprocessing.get_context("spawn"))
    monkeypatch.setattr(child._Here, "slots", made, raising=False)
    monkeypatch.setattr(child._Here, "inside", False)
    monkeypatch.setattr(child._Here, "interrupted", False)
    level = logging.getLogger().level
    yield made
    logging.getLogger().setLevel(level)
    while Capture.on():
        Capture.remove()
    assert child._Here.log is None
    assert not child._Here.inside
    assert made.slot.pid == 0


def call(function: Callable[..., Any], args: bytes = b"{}") -> Call:
    """The call of a function by its name."""
    return Call(function.__module__, function.__qualname__, "task", args, "id", 2)


def looks(ctx: Context) -> list[object]:
    """What a function sees of its job."""
    ctx.progress(1, 2, "half")
    before = ctx.canceled
    child._Here.slots.slot.stop = ASKED
    inside = (child._Here.inside, child._Here.slots.slot.pid == os.getpid())
    return [ctx.id, ctx.attempt, before, ctx.canceled, inside]


def is_signaled() -> str:
    """Is interrupted once, however often the signal comes."""
    child._Here.slots.slot.stop = ASKED
    seen = 0
    for _ in range(3):
        try:
            child._on_signal()
        except asyncio.CancelledError:
            seen += 1
    return f"saw {seen}"


def is_killed() -> None:
    child._Here.slots.slot.stop = KILLED
    child._on_signal()


def is_interrupted() -> None:
    child._Here.slots.slot.stop = ASKED
    child._on_signal()


class Silent(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def raises_silently() -> None:
    raise Silent


def raises_what_is_no_text() -> None:
    raise ValueError("caf\udce9")


def raises_deeply(depth: int) -> None:
    if depth:
        raises_deeply(depth - 1)
    raise ValueError("x" * 50_000)


def talks(password: Secret) -> str:
    """Says something in every way."""
    sys.stdout.write("with " + password.reveal() + "\n")
    logging.getLogger("tests.child").info("logged")
    thread = threading.Thread(target=sys.stdout.write, args=("by a thread\n",))
    thread.start()
    thread.join()
    sys.stderr.write("no end")
    raise ValueError("no")


def progresses(ctx: Context, password: Secret) -> None:
    ctx.progress(1, 2, f"with {password.reveal()}")


def test_what_a_function_says_goes_to_the_parent(slots: Slots) -> None:
    """By logging and print, of every thread, without its secrets; only where that is wanted."""
    asked = call(talks, b'{"password":{"$secret":"hunter2"}}')
    assert child.run(asked).code == "ValueError"
    assert slots.read_lines() == []
    assert not Capture.on()
    assert child.run(asked._replace(level=logging.INFO)).code == "ValueError"
    assert [(level, text) for level, text, _ in slots.read_lines()] == [
        ("info", "with ***"),
        ("info", "logged"),
        ("info", "by a thread"),
        ("error", "no end"),
    ]
    sys.stdout.write("between two jobs\n")
    assert child.run(asked._replace(level=logging.WARNING)).code == "ValueError"
    texts = [text for _, text, _ in slots.read_lines()]
    assert texts == ["with ***", "by a thread", "no end"]


def test_progress_has_no_secrets(slots: Slots) -> None:
    """They do not even reach the parent."""
    asked = call(progresses, b'{"password":{"$secret":"hunter2"}}')
    assert child.run(asked).kind == "returned"
    assert slots.read_progress(0) == (2, Progress(1.0, 2.0, "with ***"))


def fill(slots: Slots) -> None:
    """Leave no room for a line."""
    while slots.write_line("info", "x" * 100, 1.0):
        pass


def test_a_line_waits_for_room(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent looks ten times a second."""
    log = ProcessLog(slots, ())
    fill(slots)
    read: list[str] = []

    def parent(seconds: float) -> None:
        read.extend(text for _, text, _ in slots.read_lines())

    monkeypatch.setattr(child.time, "sleep", parent)  # type: ignore[attr-defined]
    log.log("info", "one\ntwo")
    assert set(read) == {"x" * 100}
    assert [text for _, text, _ in slots.read_lines()] == ["one", "two"]


def test_a_parent_that_does_not_read_is_not_waited_for_at_every_line(
    slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, for a second; then again when it has read something."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(child.time, "sleep", sleep)  # type: ignore[attr-defined]
    monkeypatch.setattr(child.time, "monotonic", lambda: now[0])  # type: ignore[attr-defined]
    log = ProcessLog(slots, ())
    fill(slots)
    for number in range(100):
        log.log("info", f"line {number} of too many for what is left of the ring")
    assert 1 <= now[0] < 1.1
    assert slots.slot.dropped == 100
    assert slots.read_lines()[-1][:2] == ("warning", dropped(100))
    log.log("info", "there is room again")
    fill(slots)
    log.log("info", "x" * 100)
    assert 2 <= now[0] < 2.2
    assert slots.slot.head - slots.slot.tail <= RING_BYTES


def test_a_signal_may_come_while_a_line_waits(
    slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function is interrupted there; what its cleanup says is taken."""
    log = ProcessLog(slots, ())
    fill(slots)

    def interrupt(seconds: float) -> None:
        slots.read_lines()
        log.log("info", "said by the signal's handler")
        raise asyncio.CancelledError

    monkeypatch.setattr(child.time, "sleep", interrupt)  # type: ignore[attr-defined]
    with pytest.raises(asyncio.CancelledError):
        log.log("info", "x" * 100)
    log.log("info", "cleaned up")
    assert [text for _, text, _ in slots.read_lines()] == ["cleaned up"]


def test_threads_and_forks_of_an_ended_function_say_nothing(
    slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slots are the next job's then; and they have one writer only."""
    log = ProcessLog(slots, ())
    log.write("info", "no end")
    log.close()
    log.log("info", "late")
    assert [text for _, text, _ in slots.read_lines()] == ["no end"]
    fork = ProcessLog(slots, ())
    monkeypatch.setattr(child.os, "getpid", lambda: 7)  # type: ignore[attr-defined]
    fork.log("info", "of a fork")
    assert slots.read_lines() == []


def test_a_function_is_found_by_name_and_given_its_arguments(slots: Slots) -> None:
    """Its result goes back as JSON."""
    answer = child.run(call(process_tasks.double, b'{"number":21}'))
    assert answer == Answer("returned", b"42", "", "", "", (), None)


def test_a_function_sees_its_job(slots: Slots) -> None:
    """The id, the attempt and the flag of the moment; and the parent sees its progress."""
    answer = child.run(call(looks))
    assert answer.kind == "returned"
    assert answer.payload == b'["id",2,false,true,[true,true]]'
    assert slots.read_progress(0) == (2, Progress(1.0, 2.0, "half"))


@pytest.mark.parametrize(
    ("function", "args", "code", "message"),
    [
        (process_tasks.fails, b'{"message":"no"}', "ValueError", "no"),
        (process_tasks.exits, b"{}", "SystemExit", "3"),
        (raises_what_is_no_text, b"{}", "ValueError", "caf?"),
        (raises_silently, b"{}", "Silent", "(this exception cannot be shown)"),
        (process_tasks.double, b'{"number":"x"}', "InvalidArguments", "no longer fit 'task'"),
    ],
)
def test_an_error_is_an_answer_of_text(
    slots: Slots, function: Callable[..., Any], args: bytes, code: str, message: str
) -> None:
    """The class, the message and the traceback."""
    answer = child.run(call(function, args))
    assert (answer.kind, answer.code) == ("raised", code)
    assert message in answer.message
    assert answer.traceback.startswith("Traceback")


def test_a_result_that_is_no_json_is_an_answer(slots: Slots) -> None:
    """The same as beside the loop."""
    answer = child.run(call(process_tasks.is_no_json))
    assert (answer.kind, answer.code) == ("raised", "InvalidResult")
    assert answer.message.endswith("object cannot be written as JSON")


def test_a_function_that_is_not_there_is_an_answer(slots: Slots) -> None:
    """A module may have changed under a running service."""
    missing = call(process_tasks.double)._replace(qualname="nowhere")
    assert child.run(missing).code == "AttributeError"
    assert child.run(missing._replace(module="no_such_module")).code == "ModuleNotFoundError"


def test_a_traceback_is_bounded(slots: Slots) -> None:
    """16 KiB of it."""
    answer = child.run(call(raises_deeply, b'{"depth":30}'))
    assert len(answer.traceback) == 16_384


def test_a_cancel_before_the_function_begins_is_an_answer(slots: Slots) -> None:
    """None of its code runs; so too where the pool is closing."""
    slots.slot.stop = ASKED
    assert child.run(call(process_tasks.kills_itself)).kind == "canceled"
    slots.clear()
    slots.closing.value = 1
    assert child.run(call(process_tasks.kills_itself)).kind == "canceled"


def test_a_signal_interrupts_the_function_once(slots: Slots) -> None:
    """It may clean up, or go on; the next job can be interrupted again."""
    for _ in range(2):
        slots.clear()
        assert child.run(call(is_signaled)).payload == b'"saw 1"'
    slots.clear()
    answer = child.run(call(is_interrupted))
    assert (answer.kind, answer.message) == ("canceled", "the job was asked to stop")


def test_a_job_that_must_go_takes_its_process_with_it(slots: Slots) -> None:
    """Past the grace."""
    answer = child.run(call(is_killed))
    assert (answer.code, answer.message) == ("Left", "1")


def test_a_signal_between_two_jobs_does_nothing(slots: Slots) -> None:
    """It came too late; only a closing pool ends the process."""
    slots.slot.stop = ASKED
    child._on_signal()
    slots.closing.value = 1
    with pytest.raises(Left):
        child._on_signal()
    assert NOTHING == 0


def test_a_process_ends_with_its_parent(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the parent's end, and leaves; without a parent at once."""
    reader, writer = os.pipe()
    threading.Timer(0.02, os.close, [writer]).start()

    class Parent:
        sentinel = reader

    monkeypatch.setattr(child, "parent_process", Parent)
    with pytest.raises(Left):
        child._end_with_parent()
    os.close(reader)
    monkeypatch.setattr(child, "parent_process", lambda: None)
    with pytest.raises(Left):
        child._end_with_parent()


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_new_process_is_made_ready(
    slots: Slots, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    """It leaves SIGINT to the parent, which drains, hears SIGTERM, and watches the parent."""
    handlers: dict[int, object] = {}
    watches: list[str] = []
    asked: list[tuple[int, int]] = []

    class Library:
        def __init__(self, name: None) -> None: ...

        def prctl(self, option: int, value: int) -> None:
            asked.append((option, value))

    class Watch:
        def __init__(self, target: Callable[[], None], name: str, daemon: bool) -> None:
            assert target is child._end_with_parent
            assert daemon
            self.name = name

        def start(self) -> None:
            watches.append(self.name)

    monkeypatch.setattr(child.signal, "signal", handlers.__setitem__)  # type: ignore[attr-defined]
    monkeypatch.setattr(child.threading, "Thread", Watch)  # type: ignore[attr-defined]
    monkeypatch.setattr(child.ctypes, "CDLL", Library)  # type: ignore[attr-defined]
    monkeypatch.setattr(child.sys, "platform", platform)  # type: ignore[attr-defined]
    child.start(slots)
    assert handlers == {signal.SIGTERM: child._on_signal, signal.SIGINT: signal.SIG_IGN}
    assert watches == ["parent-watch"]
    assert asked == ([(1, signal.SIGKILL)] if platform == "linux" else [])
    assert child._Here.slots is slots
