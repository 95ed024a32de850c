"""A command in a terminal (a pty) of its own, and what stands on its screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import Any

from tests.e2e.conftest import ROOT

SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command that runs on a pty.

    Args:
        words: its arguments.
        columns, rows: the size.
        environ: besides the environment of the tests.
    """

    def __init__(
        self, words: list[str], columns: int = 100, rows: int = 24, **environ: str
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        keep = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "quart_app", *words],
            cwd=ROOT,
            env={**keep, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environ},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_controlling,
        )
        self._slave = slave
        self.output = ""
        self.closed = False

    def attributes(self) -> list[Any]:
        """The terminal's settings, as they are now."""
        return termios.tcgetattr(self._slave)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def read(self, seconds: float) -> None:
        """Read what comes within this time."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if ready:
            with contextlib.suppress(OSError):
                self.output += os.read(self._master, 65536).decode("utf-8", "replace")

    def until(self, text: str, seconds: float = 20) -> str:
        """Read until this stands in what has come since the last call; all of that."""
        end = time.monotonic() + seconds
        while text not in SEQUENCE.sub("", self.output) and text not in self.output:
            assert time.monotonic() < end, f"{text!r} is not in {self.output[-3000:]!r}"
            self.read(0.05)
        seen, self.output = self.output, ""
        return seen

    def wait(self, seconds: float = 20) -> int:
        """Read until the command ends; its exit status."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it goes on: {self.output[-3000:]!r}"
            self.read(0.05)
        size = -1
        while size != len(self.output):
            size = len(self.output)
            self.read(0.1)
        return int(self.process.returncode)

    def close(self) -> None:
        """End it, however it is."""
        if not self.closed:
            self.closed = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            os.close(self._slave)
            os.close(self._master)


def _controlling() -> None:
    """The pty becomes the terminal of the new session, so that Ctrl-C is a signal; also where the
    tests themselves were started in the background, where a shell has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def screen(output: str, rows: int = 24) -> list[str]:
    """The lines of the last whole frame that was drawn."""
    frames = output.split("\x1b[H")
    whole = [each for each in frames if "\x1b[J" in each]
    return [SEQUENCE.sub("", line) for line in re.split("\r+\n", whole[-1])][:rows] if whole else []
