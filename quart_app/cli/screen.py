"""The whole terminal: taken, drawn, and given back whatever happens.

Nothing may live here that knows what is drawn.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import IO, Any, Self

ENTER = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"
NAMES = {
    b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down",
    b"\x1b[5~": "page up", b"\x1b[6~": "page down", b"\x1b[H": "home", b"\x1b[F": "end",
    b"\x1b": "escape", b"\r": "enter", b"\n": "enter", b"\x7f": "backspace", b"\x08": "backspace",
}  # fmt: skip
ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Screen:
    """A terminal while it is ours; a context manager.

    Args:
        keyboard, screen: the terminal's two streams.
    """

    def __init__(self, keyboard: IO[Any] = sys.stdin, screen: IO[str] = sys.stdout) -> None:
        self._keys = keyboard.fileno()
        self._screen = screen
        self._saved: list[Any] = []
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._saved = termios.tcgetattr(self._keys)
        try:
            for number in ENDS:
                self._handlers[number] = signal.signal(number, _leave)
            self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._suspend)
            self._take()
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _take(self) -> None:
        tty.setcbreak(self._keys)  # Ctrl-C and Ctrl-Z stay signals.
        self._write(ENTER)

    def _give_back(self) -> None:
        # The terminal may be gone (SIGHUP): then there is nothing to give back.
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._saved)
        with contextlib.suppress(OSError, ValueError):
            self._write(LEAVE)

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)  # Goes on here after SIGCONT.
        self._take()

    def _write(self, text: str) -> None:
        self._screen.write(text)
        self._screen.flush()

    def size(self) -> tuple[int, int]:
        """Columns and rows, as they are now."""
        size = shutil.get_terminal_size((80, 24))
        return max(20, size.columns), max(6, size.lines)

    def draw(self, lines: Sequence[str]) -> None:
        """Draw all lines over what is there, without a flicker."""
        body = "\r\n".join(f"{line}\x1b[K" for line in lines)
        self._write(f"\x1b[H{body}\x1b[J")

    def keys(self, seconds: float) -> list[str]:
        """What was typed, after so many seconds at the latest; names of keys, or characters.

        Raises:
            EOFError: nobody will ever type again.
        """
        ready, _, _ = select.select([self._keys], [], [], seconds)
        if not ready:
            return []
        data = os.read(self._keys, 1024)
        if not data:
            raise EOFError
        return split_keys(data)


def split_keys(data: bytes) -> list[str]:
    """Bytes of a keyboard as keys.

    >>> split_keys(b"j\\x1b[A\\x1b"), split_keys("ü".encode())
    (['j', 'up', 'escape'], ['ü'])
    """
    keys: list[str] = []
    while data:
        length = next((n for n in (4, 3) if data[:n] in NAMES), 0)
        if not length and data[:1] == b"\x1b" and len(data) > 1:
            data = data[len(data) :]  # A sequence that means nothing here.
            continue
        length = length or (
            1 if data[0] < 0x80 else next((n for n in (2, 3, 4) if _whole(data[:n])), len(data))
        )
        part, data = data[:length], data[length:]
        keys.append(NAMES.get(part) or part.decode("utf-8", "replace"))
    return keys


def _whole(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _leave(number: int, frame: FrameType | None) -> None:
    """A signal that ends the program does so through every ``finally``."""
    raise SystemExit(128 + number)
