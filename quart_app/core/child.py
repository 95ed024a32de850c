"""What runs inside a process of ``run="process"``: only this module is imported there first.

The function, its module and its arguments come in by name and as JSON; a result or a failure goes
back as bytes and text. Nothing of the parent (store, engine, loop) may be reached from here.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing import connection, parent_process
from typing import Any, NamedTuple

from quart_app.core.context import Context
from quart_app.core.drafts import Log, lines_of
from quart_app.core.logs import Capture
from quart_app.core.slots import ASKED, KILLED, NOTHING, Slots
from quart_app.domain.arguments import ENCODER, Arguments, parameters_of
from quart_app.domain.jobs import Progress
from quart_app.domain.retries import SPOKEN, RetryAfter, kinds_of
from quart_app.domain.secrets import redact, secrets_in
from quart_app.domain.tasks import load_function
from quart_app.domain.texts import text_of

TRACEBACK_BYTES = 16_384
PR_SET_PDEATHSIG = 1
ROOM, LOOK = 1.0, 0.002
"""Seconds that a line waits for room, and between two looks whether there is."""


class Call(NamedTuple):
    """What a job's process is asked to do.

    ``level`` is that of the parent's root logger where its log is captured, else 0.
    """

    module: str
    qualname: str
    task: str
    args: bytes
    job_id: str
    attempt: int
    level: int = 0


class Answer(NamedTuple):
    """How it ended: ``kind`` is ``returned`` (with ``payload``), ``raised`` or ``canceled``.

    Of an exception its classes' names come along: whether it is tried again the parent decides.
    """

    kind: str
    payload: bytes = b""
    code: str = ""
    message: str = ""
    traceback: str = ""
    kinds: tuple[str, ...] = ()
    after: float | None = None


class ProcessLog(Log):
    """What the function says, on its way to the parent: that reads it from the slots.

    The slots have one writer, so threads take turns. What is said by the thread that is just
    writing (a signal may come at any moment) is dropped, and so is what a fork of us says.

    Args:
        slots: shared with the parent.
        secrets: hidden here already, since here lines are cut.
    """

    def __init__(self, slots: Slots, secrets: tuple[str, ...]) -> None:
        self.secrets = secrets
        self._slots = slots
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._busy = False
        self._given_up = -1

    def log(self, level: str, text: str, at: float | None = None) -> None:
        if os.getpid() != self._pid:
            return
        moment = time.time() if at is None else at
        lines = lines_of(text, self.secrets)
        with self._lock:
            if self._busy or self.closed:
                return
            self._busy = True
            try:
                for line in lines:
                    if not self._put(level, line, moment):
                        self._slots.slot.dropped += 1
            finally:
                self._busy = False

    def _put(self, level: str, line: str, at: float) -> bool:
        """Write, where there is room soon. A parent that did not read in time is waited for again
        only when it has read something."""
        until = time.monotonic() + ROOM
        while not self._slots.write_line(level, line, at):
            read = self._slots.slot.tail
            if read == self._given_up or time.monotonic() > until:
                self._given_up = read
                return False
            time.sleep(LOOK)
        return True

    def close(self) -> None:
        """The function has ended: what its threads say from now on is of no job."""
        self.end_lines()
        with self._lock:
            self.closed = True


class _Here:
    """The state of this process, read by its signal handler."""

    slots: Slots
    inside = False
    interrupted = False
    log: ProcessLog | None = None


def start(slots: Slots) -> None:
    """Make a new process ready: signals, and the end together with its parent.

    A signal to the whole process group or service is for the parent, which drains. The parent
    stops one job by setting its slot and sending SIGTERM.
    """
    _Here.slots = slots
    signal.signal(signal.SIGTERM, _on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # Also for a call of C that lets no thread run meanwhile.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed can not stop its children: each watches for itself."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)


def _on_signal(*_: object) -> None:
    """Stop the function once if its slot says so; leave if the pool or the job is to end."""
    here = _Here
    stop = here.slots.slot.stop if here.inside else NOTHING
    if here.slots.closing.value or stop == KILLED:
        os._exit(1)
    if stop == ASKED and not here.interrupted:
        here.interrupted = True
        raise asyncio.CancelledError("the job was asked to stop")


def run(call: Call) -> Answer:
    """Call the function; every way in which it can end becomes an answer, and what it says goes to
    the job's log where that is wanted."""
    if not call.level:
        return _run(call)
    logging.getLogger().setLevel(call.level)
    if not Capture.on():
        Capture.install(lambda: _Here.log)
    _Here.log = log = ProcessLog(_Here.slots, secrets_in(call.args))
    try:
        return _run(call)
    finally:
        _Here.log = None
        log.close()


def _run(call: Call) -> Answer:
    here = _Here
    slot = here.slots.slot
    try:
        try:
            here.interrupted = False
            here.inside = True
            slot.pid = os.getpid()
            if slot.stop or here.slots.closing.value:  # Before the pid was known: no signal came.
                here.interrupted = True
                return Answer("canceled")
            function = load_function(call.module, call.qualname)
            parameters, context_parameter, _ = parameters_of(function)
            values = Arguments(call.task, parameters).read(call.args)
            if context_parameter is not None:
                values[context_parameter] = _context(call)
            result = function(**values)
        finally:
            here.inside = False
            slot.pid = 0
        return _returned(result)
    except asyncio.CancelledError as error:
        here.inside = False
        slot.pid = 0
        return Answer("canceled", message=str(error), kinds=kinds_of(error))
    except BaseException as error:  # noqa: BLE001 - the edge of user code
        text = "" if isinstance(error, SPOKEN) else traceback.format_exc()[-TRACEBACK_BYTES:]
        after = error.seconds if isinstance(error, RetryAfter) else None
        code = type(error).__name__
        return Answer("raised", b"", code, text_of(error), text, kinds_of(error), after)


def _returned(result: Any) -> Answer:
    try:
        return Answer("returned", ENCODER.encode(result))
    except Exception as error:  # noqa: BLE001 - whatever a model's own encoding raises
        message = f"the result cannot be written as JSON: {text_of(error)}"
        return Answer("raised", b"", "InvalidResult", message)


def _context(call: Call) -> Context:
    slots, secrets = _Here.slots, secrets_in(call.args)

    def report(progress: Progress) -> None:
        if progress.message is not None and secrets:
            message = redact(progress.message, secrets)
            progress = Progress(progress.current, progress.total, message)
        slots.write_progress(progress)

    def stopping() -> bool:
        return bool(slots.slot.stop)

    return Context(call.job_id, call.attempt, stopping=stopping, report=report)
