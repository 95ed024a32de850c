"""What a job says, made into lines that can be kept: without secrets, each of one line, bounded.

Shared by the reporter of this process and by that of a job's own process. Nothing may live here
that knows where lines go, or that waits.
"""

from __future__ import annotations

import abc
import re
import threading
from collections import deque
from collections.abc import Iterable

from quart_app.domain.jobs import Draft
from quart_app.domain.secrets import redact

LINES, BYTES = 1_000, 256 * 2**10
"""How much of what a job has said is kept for the next write: more is dropped, the oldest first."""
NOTICE = 128
"""Bytes that are left for the line that says how many were dropped: a store that keeps as much as
we do would drop it first."""
LINE_CHARS = 4_096
"""Characters of a line; a longer one ends with `CUT`."""
CUT = " ... (cut)"
PARTIAL_CHARS = 4 * LINE_CHARS
"""Characters of a printed line that are kept until it ends."""
PARTIALS = 64
"""Printed lines that have not ended, of as many threads; of more the oldest counts as ended."""
LEVELS = ("debug", "info", "warning", "error", "critical")

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
"""What a terminal takes for colors, places and titles."""
_UNSHOWN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")


def lines_of(text: str, secrets: tuple[str, ...] = ()) -> list[str]:
    """A text as the lines of a log.

    Args:
        text: anything.
        secrets: what must not be seen in it; hidden before anything is cut.

    >>> lines_of("one\\x1b[31m red\\x1b[0m line\\ntwo with hunter2 and \\x00", ("hunter2",))
    ['one red line', 'two with *** and \ufffd']
    """
    if secrets:
        text = redact(text, secrets)
    line = text.removesuffix("\n")
    if len(line) <= LINE_CHARS and line.isprintable():  # As nearly all are.
        return [line]
    if "\x1b" in text:
        text = redact(_ESCAPES.sub("", text), secrets)
    return [_shown(line) for line in text.splitlines() or ("",)]


def _shown(line: str) -> str:
    if len(line) > LINE_CHARS:
        line = line[: LINE_CHARS - len(CUT)] + CUT
    return line if line.isprintable() else _UNSHOWN.sub("\ufffd", line)


def dropped(count: int) -> str:
    """The line that stands in the place of so many."""
    said = "1 line was" if count == 1 else f"{count} lines were"
    return f"{said} dropped: more than can be kept"


class Drafts:
    """Lines that wait to be written: the newest of them, and how many others there were.

    Any thread may add and take. What its own thread says meanwhile (a ``__del__`` or a signal may
    come at any moment) is dropped, since it may find us between two steps.

    >>> drafts = Drafts()
    >>> drafts.add("info", ["a", "b"], 1.0)
    >>> drafts.take(), drafts.take()
    ([(1.0, 'info', 'a'), (1.0, 'info', 'b')], [])
    """

    __slots__ = ("_busy", "_dropped", "_dropped_at", "_lines", "_lock", "_size")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._lines: deque[Draft] = deque()
        self._size = 0
        self._dropped = 0
        self._dropped_at = 0.0

    def add(self, level: str, lines: Iterable[str], at: float) -> None:
        """Keep lines, if need be in the place of the oldest."""
        with self._lock:
            if self._busy:
                return
            self._busy = True
            try:
                for line in lines:
                    self._lines.append((at, level, line))
                    self._size += 16 + len(line)
                    while self._full():
                        self._drop()
            finally:
                self._busy = False

    def _full(self) -> bool:
        if self._dropped:
            return len(self._lines) >= LINES or self._size > BYTES - NOTICE
        return len(self._lines) > LINES or self._size > BYTES

    def _drop(self) -> None:
        self._dropped_at, _, line = self._lines.popleft()
        self._size -= 16 + len(line)
        self._dropped += 1

    def take(self) -> list[Draft]:
        """All of them, in order; what was dropped is said first."""
        with self._lock:
            if self._busy or not self._lines:
                return []
            lines, self._lines, self._size = list(self._lines), deque(), 0
            if self._dropped:
                lines.insert(0, (self._dropped_at, "warning", dropped(self._dropped)))
                self._dropped = 0
            return lines


class Log(abc.ABC):
    """What one attempt of a job says. Subclasses say where whole lines go."""

    secrets: tuple[str, ...] = ()
    """Texts that no line and no progress may show, longest first."""
    used = False
    """Whether anything was said."""
    closed = False
    """Whether the attempt has ended: nothing is taken any more."""
    _partials: dict[tuple[str, int], str] | None = None

    @abc.abstractmethod
    def log(self, level: str, text: str, at: float | None = None) -> None:
        """Take a text of one or more lines, from any thread.

        Args:
            level: one of `LEVELS`.
            at: when it was said, in seconds since the epoch; now unless given.
        """

    def write(self, level: str, text: str) -> None:
        """Take a piece of what is printed, from any thread. A line that has not ended yet is kept;
        each thread has its own."""
        if self.closed:
            return
        self.used = True
        partials = self._partials
        if partials is None:  # One step: several threads may be the first.
            partials = self.__dict__.setdefault("_partials", {})
        key = (level, threading.get_ident())
        begun = partials.pop(key, "")
        end = text.rfind("\n") + 1
        if end:
            whole, text = text[:end], text[end:]
            if len(begun) >= PARTIAL_CHARS:
                begun, whole = self._known(begun), whole[whole.index("\n") :]
            self.log(level, _last_shown(begun + whole))
            begun = ""
        if not text and not begun:
            return
        if len(begun) < PARTIAL_CHARS:
            begun += text
            # What a terminal would have written over; one at the end may be half of a "\r\n".
            begun = begun[begun.rfind("\r", 0, -1) + 1 :][:PARTIAL_CHARS]
        if len(partials) >= PARTIALS:
            for oldest in list(partials)[:1]:
                self._end(partials, oldest)
        partials[key] = begun

    def end_lines(self) -> None:
        """Nothing more is printed: what was begun counts as whole lines."""
        partials = self._partials
        if partials is not None:
            for key in list(partials):
                self._end(partials, key)

    def _end(self, partials: dict[tuple[str, int], str], key: tuple[str, int]) -> None:
        begun = partials.pop(key, "")
        if len(begun) >= PARTIAL_CHARS:
            begun = self._known(begun)
        if begun:
            self.log(key[0], _last_shown(begun))

    def _known(self, begun: str) -> str:
        """The first part of a line whose end was dropped: that may have been in mid-secret."""
        longest = max(map(len, self.secrets), default=1)
        known = redact(begun, self.secrets)
        return known[: len(known) - longest + 1]


def _last_shown(text: str) -> str:
    """Lines as a terminal shows them: what comes after a "\\r" is written over the line."""
    if "\r" not in text:
        return text
    lines = (line.rstrip("\r") for line in text.split("\n"))
    return "\n".join(line[line.rfind("\r") + 1 :] for line in lines)
