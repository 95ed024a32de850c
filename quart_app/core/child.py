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
from quart_app.core.logs import Capture
from quart_app.core.slots import ASKED, KILLED, NOTHING, Slots
from quart_app.domain.arguments import ENCODER, Arguments, parameters_of
from quart_app.domain.retries import SPOKEN, RetryAfter, kinds_of
from quart_app.domain.tasks import load_function

TRACEBACK_BYTES = 16_384
PR_SET_PDEATHSIG = 1


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


class _Here:
    """The state of this process, read by its signal handler."""

    slots: Slots
    inside = False
    heard = False
    interrupted = False


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
    """Call the function; every way in which it can end becomes an answer."""
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
            if call.level:
                _hear(call.level)
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
        return Answer("raised", b"", code, _text(error), text, kinds_of(error), after)


def _hear(level: int) -> None:
    """Let what the function says go to the job's log; once for all jobs of this process."""
    if _Here.heard:
        return
    _Here.heard = True
    slots, lock = _Here.slots, threading.Lock()

    def sink(level: str, text: str) -> None:
        if not _Here.inside:
            return
        with lock:
            for line in text.splitlines() or [""]:
                slots.write_line(level, line, time.time())

    logging.getLogger().setLevel(level)
    Capture.install(lambda: sink)


def _returned(result: Any) -> Answer:
    try:
        return Answer("returned", ENCODER.encode(result))
    except Exception as error:  # noqa: BLE001 - whatever a model's own encoding raises
        message = f"the result cannot be written as JSON: {_text(error)}"
        return Answer("raised", b"", "InvalidResult", message)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception whose own __str__ fails
        return "(this exception cannot be shown)"


def _context(call: Call) -> Context:
    slots = _Here.slots

    def report(progress: Any) -> None:
        slots.write_progress(progress)

    def stopping() -> bool:
        return bool(slots.slot.stop)

    return Context(call.job_id, call.attempt, stopping=stopping, report=report)
