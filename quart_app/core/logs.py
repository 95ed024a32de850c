"""Where a job's ``logging`` and ``print`` are heard: both also go to the log of the job.

What is heard goes on to where it always went, in the same order. Nothing may live here that keeps
a line, or that lets a job fail because its log does.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from quart_app.core.drafts import LEVELS, Log
from quart_app.core.reporter import REPORTER

Find = Callable[[], Log | None]
"""Says to which log belongs what is said here and now."""


class _Inside(threading.local):
    """Whether this thread is passing something on: what is said meanwhile is not the job's."""

    busy = False


_inside = _Inside()


class JobLogHandler(logging.Handler):
    """Puts what is logged in a job into the job's log. It never raises.

    Args:
        find: says to which log.

    >>> handler = JobLogHandler(find=lambda: None)
    >>> handler.emit(logging.makeLogRecord({"msg": "nobody hears this"}))
    """

    def __init__(self, find: Find = REPORTER.get) -> None:
        super().__init__()
        self._find = find

    def emit(self, record: logging.LogRecord) -> None:
        if _inside.busy or (log := self._find()) is None:
            return
        if f"{record.name}.".startswith("quart_app."):
            return  # What we say of a job is no part of what it says.
        _inside.busy = True
        try:
            log.log(LEVELS[min(max(record.levelno // 10, 1), 5) - 1], _text(record))
        except Exception:  # noqa: BLE001 - a job does not fail because its log does
            return
        finally:
            _inside.busy = False


def _text(record: logging.LogRecord) -> str:
    """Message, exception and stack. Not by a `logging.Formatter`: that would leave the exception's
    text in the record, for others who would format it in their own way."""
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - the arguments do not fit the message, or cannot be shown
        text = f"{record.msg} (its arguments do not fit)"
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + "".join(traceback.format_exception(*record.exc_info))
    elif record.exc_text:
        text += "\n" + record.exc_text
    return f"{text}\n{record.stack_info}" if record.stack_info else text


class JobStream:
    """A standard stream: passes everything on, and what a job prints also to the job's log.

    Args:
        stream: where everything goes, as before.
        level: what the lines are in a log.
        find: says to which log.

    >>> out = JobStream(io.StringIO(), "info")
    >>> out.write("hello"), out.getvalue()
    (5, 'hello')
    """

    def __init__(self, stream: Any, level: str, find: Find = REPORTER.get) -> None:
        self.stream = stream
        self.heard = True
        self._level = level
        self._find = find

    def write(self, text: str) -> int:
        """Write to the stream, and to the log if this is said in a job."""
        count: int = self.stream.write(text)
        if self.heard and not _inside.busy and (log := self._find()) is not None:
            _inside.busy = True
            try:
                log.write(self._level, text)
            except Exception:  # noqa: BLE001 - a job does not fail because its log does
                return count
            finally:
                _inside.busy = False
        return count

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "stream":  # Not yet there: as in a copy that is being made.
            raise AttributeError(name)
        return getattr(self.stream, name)

    def __eq__(self, other: object) -> bool:  # For those who ask whether a file is sys.stdout.
        return other is self or other is self.stream

    def __hash__(self) -> int:
        return hash(self.stream)


io.TextIOBase.register(JobStream)


class _Hook:
    """Shows every record to our handler, before the logger's own.

    It is no handler of the root logger: one there makes ``basicConfig`` do nothing, keeps `logging`
    from writing warnings to stderr where nothing is configured, and is gone when something is.

    Args:
        handler: ours.
    """

    def __init__(self, handler: JobLogHandler) -> None:
        self._before = before = logging.Logger.callHandlers
        self.heard = True

        def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            if self.heard:
                handler.handle(record)
            outer = _inside.busy
            _inside.busy = True  # A handler that writes to stderr says nothing new.
            try:
                before(logger, record)
            finally:
                _inside.busy = outer

        self._ours = call_handlers
        logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign, assignment]

    def remove(self) -> None:
        """Show no more. Where somebody else has done the same since, ours stays and is silent."""
        self.heard = False
        if logging.Logger.callHandlers is self._ours:
            logging.Logger.callHandlers = self._before  # type: ignore[method-assign]


class Capture:
    """Hears what jobs say, while it is installed. Several apps of one process share it.

    >>> before = sys.stdout
    >>> Capture.install()
    >>> Capture.on(), sys.stdout is before
    (True, False)
    >>> Capture.remove()
    >>> Capture.on(), sys.stdout is before
    (False, True)
    """

    _installed: ClassVar[int] = 0
    _hook: ClassVar[_Hook | None] = None
    _streams: ClassVar[list[tuple[str, JobStream]]] = []
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def on(cls) -> bool:
        """Whether anybody hears."""
        return cls._installed > 0

    @classmethod
    def install(cls, find: Find = REPORTER.get) -> None:
        """Begin to hear; call `remove` as often as this.

        Args:
            find: says to which log belongs what is said; the same for all of a process.
        """
        with cls._lock:
            cls._installed += 1
            if cls._hook is None:
                cls._hook = _Hook(JobLogHandler(find))
            for name, level in (("stdout", "info"), ("stderr", "error")):
                stream = getattr(sys, name)
                if isinstance(stream, JobStream):
                    if stream.heard:
                        continue
                    stream = stream.stream  # One of ours that somebody has put back too late.
                if stream is not None:
                    ours = JobStream(stream, level, find)
                    cls._streams.append((name, ours))
                    setattr(sys, name, ours)

    @classmethod
    def remove(cls) -> None:
        """Hear no more, if nobody else does. What was put in our place since stays there."""
        with cls._lock:
            cls._installed = max(0, cls._installed - 1)
            if cls._installed > 0 or cls._hook is None:
                return
            cls._hook.remove()
            cls._hook = None
            while cls._streams:
                name, ours = cls._streams.pop()
                ours.heard = False
                if getattr(sys, name) is ours:
                    setattr(sys, name, ours.stream)
