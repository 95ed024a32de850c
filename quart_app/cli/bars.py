"""Progress as lines that are drawn over and over, or as one line for each change where nobody can
draw.

Nothing may live here that asks the service.
"""

from __future__ import annotations

import datetime as dt
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO, Any, Protocol

from quart_app.cli.safe import cells, clean, cut, pad
from quart_app.cli.shapes import seconds, what
from quart_app.cli.terminal import bar, has_blocks, has_color, is_terminal, paint
from quart_app.cli.words import took
from quart_app.client.documents import JobDocument

WIDTH = 24
SHOWN_ID = 8
"""Characters of an id, its last ones: ids of one minute begin alike."""
WINDOW = 20.0
"""Seconds over which the rate is measured."""
STEP = 10.0
"""Percent that are a line of their own where nothing can be drawn over."""


class Pace:
    """How fast a job comes on, of what was seen of it.

    Args:
        clock: time for measuring, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, float]] = deque()

    def see(self, progress: float | None) -> None:
        """Its progress is this now, in percent."""
        if progress is None or not 0 <= progress <= 100:
            return
        now = self._clock()
        if self._seen and progress < self._seen[-1][1]:  # Another attempt, from the beginning.
            self._seen.clear()
        if not self._seen or progress != self._seen[-1][1]:
            self._seen.append((now, progress))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW:
            self._seen.popleft()

    def rate(self) -> float | None:
        """Percent a second; None while nobody knows.

        >>> pace = Pace(iter([0.0, 2.0, 2.0]).__next__)
        >>> pace.see(10.0), pace.see(20.0), pace.rate()
        (None, None, 5.0)
        """
        if len(self._seen) < 2:
            return None
        (start, first), (_, last) = self._seen[0], self._seen[-1]
        # Up to now, so that who stands still becomes slower.
        passed = self._clock() - start
        return (last - first) / passed if passed > 0 else None

    def left(self) -> float | None:
        """Seconds until the end, if it goes on like this."""
        rate = self.rate()
        return (100 - self._seen[-1][1]) / rate if rate else None


class Display(Protocol):
    """Where jobs are shown while they are watched."""

    def show(self, job: JobDocument) -> None:
        """The newest version of a job."""
        ...

    def note(self, text: str | None) -> None:
        """What is to be said about the connection; None when it is well."""
        ...

    def tick(self) -> None:
        """Time has passed."""
        ...

    def end(self) -> None:
        """Nothing more will be shown."""
        ...


class Silence:
    """Shows nothing."""

    def show(self, job: JobDocument) -> None:
        """Nothing."""

    def note(self, text: str | None) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class Lines:
    """Writes a line for each change of status, and every ten percent.

    Args:
        stream: a file or a pipe.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._last: dict[str, tuple[str, int]] = {}
        self._note: str | None = None

    def show(self, job: JobDocument) -> None:
        """A line, if there is news."""
        step = int((job.progress or 0) // STEP) if job.progress == job.progress else 0
        if self._last.get(job.id) != (job.status, step):
            self._last[job.id] = (job.status, step)
            self._write(f"{job.id} {job.task} {job.status} {what(job)}")

    def note(self, text: str | None) -> None:
        """A line, once."""
        if text != self._note and text:
            self._write(text)
        self._note = text

    def _write(self, text: str) -> None:
        self._stream.write(f"{clean(text).rstrip()}\n")
        self._stream.flush()

    def tick(self) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class Bars:
    """Draws a bar for each job in the last lines of a terminal.

    Args:
        stream: the terminal.
        ids: the jobs, in the order of their lines.
    """

    def __init__(self, stream: IO[str], ids: Sequence[str]) -> None:
        self._stream = stream
        self._color = has_color(stream)
        self._blocks = has_blocks(stream)
        self._jobs: dict[str, JobDocument | None] = dict.fromkeys(ids)
        self._paces = {each: Pace() for each in ids}
        self._note: str | None = None
        self._drawn = 0

    def show(self, job: JobDocument) -> None:
        """The newest version of a job; drawn at the next tick."""
        self._jobs[job.id] = job
        self._paces.setdefault(job.id, Pace()).see(job.progress)

    def note(self, text: str | None) -> None:
        """A line below the bars."""
        self._note = text

    def tick(self) -> None:
        """Draw all anew, in the place of what was drawn."""
        columns, rows = shutil.get_terminal_size((80, 24))
        lines = self.lines(columns, max(1, rows - 1))
        up = f"\x1b[{self._drawn}F" if self._drawn else "\r"
        self._stream.write(up + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
        self._stream.flush()
        self._drawn = len(lines)

    def end(self) -> None:
        """Draw for the last time."""
        self._note = None
        self.tick()

    def lines(self, columns: int, rows: int) -> list[str]:
        """What there is to see; those that run first, where there is not room for all."""
        jobs = list(self._jobs.items())
        room = rows - bool(self._note)
        if len(jobs) > room:
            jobs.sort(key=lambda each: each[1] is not None and each[1].over)
            left = len(jobs) - (room - 1)
            jobs = jobs[: room - 1]
            lines = [self.line(each, job, columns) for each, job in jobs] + [f"and {left} more"]
        else:
            lines = [self.line(each, job, columns) for each, job in jobs]
        if self._note:
            lines.append(paint(cut(clean(self._note), columns - 1), "warning", self._color))
        return lines

    def line(self, job_id: str, job: JobDocument | None, columns: int) -> str:
        """The line of one job."""
        if job is None:
            return cut(clean(job_id), columns - 1)
        share = 100.0 if job.status == "succeeded" else job.progress
        name = f"{clean(job.task)} {clean(job.id[-SHOWN_ID:])}"
        known = share is not None and 0 <= share <= 100
        parts = [
            pad(name, min(28, max(12, columns // 4))),
            bar(share, WIDTH if columns >= 80 else 10, self._blocks),
            f"{share:3.0f}%" if known else "    ",
            clean(job.status),
            self._times(job_id, job),
        ]
        plain = " ".join(part for part in parts if part)
        line = cut(plain, columns - 1)
        left = columns - 2 - cells(line)
        message = cut(clean(_message(job)), left) if left > 3 else ""
        if line == plain:
            line = line.replace(parts[3], paint(parts[3], job.status, self._color), 1)
        return f"{line} {message}".rstrip()

    def _times(self, job_id: str, job: JobDocument) -> str:
        now = dt.datetime.now(dt.UTC)
        if job.over:
            return took(seconds(job, now))
        if job.status != "running":
            return ""
        pace = self._paces[job_id]
        rate, left = pace.rate(), pace.left()
        if job.eta is not None:  # The service has seen more jobs of this task than we have.
            left = (job.eta - now).total_seconds()
        words = [took(seconds(job, now))]
        if rate:
            words.append(f"{rate:.1f}%/s")
        if left is not None and left >= 0:
            words.append(f"eta {took(left)}")
        return " ".join(words)


def _message(job: JobDocument) -> str:
    """Without the percentage, which the bar shows."""
    return what(job) if job.over or job.status != "running" else job.message or ""


def display_for(stream: Any, ids: Sequence[str]) -> Display:
    """Bars on a terminal, else lines."""
    return Bars(stream, ids) if is_terminal(stream) else Lines(stream)
