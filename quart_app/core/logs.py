"""Where a job's ``logging`` and ``print`` are heard: both also go to the log of the job.

What is heard goes on to where it always went. Which job it is of, the context variable `REPORTER`
says. Nothing may live here that keeps a line.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, ClassVar, TextIO

from quart_app.core.reporter import LINE_CHARS, REPORTER

Sink = Callable[[str, str], None]
"""Takes the level and the text of what was said."""

OURS = "quart_app"
FORMATTER = logging.Formatter()


def _sink() -> Sink | None:
    """Who takes what is said here, if it is said in a job."""
    reporter = REPORTER.get()
    return None if reporter is None else reporter.log


class JobLogHandler(logging.Handler):
    """Puts what is logged in a job into its log. Never raises: a job must not fail by its log.

    Args:
        find: who takes what is said in the current code.
    """

    def __init__(self, find: Callable[[], Sink | None] = _sink) -> None:
        super().__init__()
        self._find = find

    def emit(self, record: logging.LogRecord) -> None:
        ours = record.name == OURS or record.name.startswith("quart_app.")
        sink = None if ours else self._find()  # What we say of a job is no part of what it says.
        if self._alone(record):
            # Without this handler the library would have shown it; with it, it counts as shown.
            logging.lastResort.handle(record)  # type: ignore[union-attr]
        if sink is None:
            return
        try:
            text = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                text = f"{text}\n{FORMATTER.formatException(record.exc_info)}"
        except Exception:  # noqa: BLE001 - the arguments do not fit the message, or worse
            text = str(record.msg)
        sink(_level(record.levelno), text)

    def _alone(self, record: logging.LogRecord) -> bool:
        """Whether nobody else is there to show a record that has to be shown."""
        if logging.lastResort is None or record.levelno < logging.lastResort.level:
            return False
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return True


def _level(number: int) -> str:
    """The standard level at or below a number."""
    for least, name in (
        (logging.CRITICAL, "critical"),
        (logging.ERROR, "error"),
        (logging.WARNING, "warning"),
        (logging.INFO, "info"),
    ):
        if number >= least:
            return name
    return "debug"


class JobStream(io.TextIOBase):
    """A standard stream: passes everything on, and whole lines of a job also to its log.

    Args:
        stream: where everything goes, as before.
        level: of the lines in the log.
        find: who takes what is said in the current code.
    """

    def __init__(self, stream: TextIO, level: str, find: Callable[[], Sink | None] = _sink) -> None:
        self.stream = stream
        self._level = level
        self._find = find
        self._begun: dict[Any, str] = {}
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Write, and tell the job's log of each line that is now complete."""
        # What a handler of logging shows here has been heard as a record.
        by_logging = sys._getframe(1).f_globals.get("__name__") == "logging"
        sink = None if by_logging else self._find()
        if sink is not None:
            with self._lock:
                text_so_far = self._begun.pop(sink, "") + text
                complete, newline, rest = text_so_far.rpartition("\n")
                if len(rest) > LINE_CHARS:
                    complete, newline, rest = text_so_far, "\n", ""
                if rest:
                    self._begun[sink] = rest
                    if len(self._begun) > 1_000:  # Of jobs that ended in the middle of a line.
                        del self._begun[next(iter(self._begun))]
            if newline:
                sink(self._level, complete)
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

    def fileno(self) -> int:
        return self.stream.fileno()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def writable(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Capture:
    """Hears what jobs say, while it is installed. Several apps of one process share it."""

    _installed: ClassVar[int] = 0
    _handler: ClassVar[JobLogHandler | None] = None
    _streams: ClassVar[dict[str, JobStream]] = {}

    @classmethod
    def on(cls) -> bool:
        """Whether anybody hears."""
        return cls._installed > 0

    @classmethod
    def install(cls, find: Callable[[], Sink | None] = _sink) -> None:
        """Begin to hear."""
        cls._installed += 1
        if cls._installed > 1:
            return
        cls._handler = JobLogHandler(find)
        logging.getLogger().addHandler(cls._handler)
        for name, level in (("stdout", "info"), ("stderr", "error")):
            stream = getattr(sys, name)
            if stream is not None:
                cls._streams[name] = JobStream(stream, level, find)
                setattr(sys, name, cls._streams[name])

    @classmethod
    def remove(cls) -> None:
        """Hear no more. A stream that somebody has replaced since stays as it is."""
        cls._installed -= 1
        if cls._installed > 0:
            return
        if cls._handler is not None:
            logging.getLogger().removeHandler(cls._handler)
        for name, ours in cls._streams.items():
            if getattr(sys, name) is ours:
                setattr(sys, name, ours.stream)
        cls._streams.clear()
        cls._handler = None
