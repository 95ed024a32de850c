"""The few numbers, and the lines, that a job's process and its parent share without a pipe.

Shared memory and not messages: a process killed in mid-write can leave a pipe's lock held for ever,
a slot it can only leave stale. Nothing may live here but the layout and its reading and writing.
"""

from __future__ import annotations

import ctypes
import struct
import time
from multiprocessing.context import SpawnContext
from typing import Any

from quart_app.domain.jobs import Progress

NOTHING, ASKED, KILLED = 0, 1, 2
MESSAGE_BYTES = 256
RING_BYTES = 64 * 1024
"""Lines of the log on their way from a process to its parent."""
LINE = struct.Struct("=IdB")
LINE_BYTES = 16 * 1024
FULL = 1.0
"""Seconds that a process waits for its parent to read."""
LEVELS = ("debug", "info", "warning", "error", "critical")


class Slot(ctypes.Structure):
    """One process job: ``pid`` (child's) while its function runs, ``stop`` (parent's), progress.

    ``version`` is odd while the child writes progress, so that a reader can tell a torn one.
    ``head`` (child's) and ``tail`` (parent's) are bytes written to and read from the ring of lines;
    a line is there when ``head`` has passed it, so that one torn by a kill is never read.
    """

    _fields_ = (
        ("pid", ctypes.c_int64),
        ("stop", ctypes.c_int64),
        ("version", ctypes.c_int64),
        ("current", ctypes.c_double),
        ("total", ctypes.c_double),
        ("message", ctypes.c_char * MESSAGE_BYTES),
        ("head", ctypes.c_int64),
        ("tail", ctypes.c_int64),
        ("dropped", ctypes.c_int64),
    )


class Slots:
    """The slot of one process, and a flag that says that the parent is closing the pool.

    Args:
        context: the multiprocessing context (spawn) whose children will share it.
    """

    def __init__(self, context: SpawnContext) -> None:
        self.slot: Any = context.RawValue(Slot)
        self.closing: Any = context.RawValue(ctypes.c_int64, 0)
        self.ring: Any = context.RawArray(ctypes.c_char, RING_BYTES)

    def clear(self) -> None:
        """Make the slot ready for the next job."""
        ctypes.memset(ctypes.addressof(self.slot), 0, ctypes.sizeof(Slot))

    def write_progress(self, progress: Progress) -> None:
        """Called by the child."""
        slot = self.slot
        slot.version += 1
        slot.current, slot.total = progress.current, progress.total
        text = (progress.message or "").encode()[: MESSAGE_BYTES - 1]
        slot.message = text.decode(errors="ignore").encode()
        slot.version += 1

    def write_line(self, level: str, text: str, at: float) -> None:
        """Called by the child, by one thread at a time. Waits a while where the parent is behind;
        then the line is dropped, and counted."""
        body = text.encode(errors="replace")[:LINE_BYTES]
        record = LINE.pack(len(body), at, LEVELS.index(level)) + body
        slot, waited = self.slot, 0.0
        while slot.head + len(record) - slot.tail > RING_BYTES:
            if waited >= FULL:
                slot.dropped += 1
                return
            time.sleep(0.002)
            waited += 0.002
        place = slot.head % RING_BYTES
        first = record[: RING_BYTES - place]
        self.ring[place : place + len(first)] = first
        if len(first) < len(record):
            self.ring[: len(record) - len(first)] = record[len(first) :]
        slot.head += len(record)

    def read_lines(self) -> list[tuple[str, str, float]]:
        """Called by the parent: level, text and moment of each line that has come."""
        slot, lines = self.slot, []
        head = slot.head
        while slot.tail < head:
            size, at, level = LINE.unpack(self._bytes(slot.tail, LINE.size))
            text = self._bytes(slot.tail + LINE.size, size).decode(errors="replace")
            slot.tail += LINE.size + size
            lines.append((LEVELS[level], text, at))
        if slot.dropped:
            dropped, slot.dropped = slot.dropped, 0
            lines.append(
                ("warning", f"{dropped} lines were dropped: they came too fast", time.time())
            )
        return lines

    def _bytes(self, start: int, count: int) -> bytes:
        place = start % RING_BYTES
        first = self.ring[place : place + count]
        return bytes(first) + bytes(self.ring[: count - len(first)])

    def read_progress(self, seen: int) -> tuple[int, Progress] | None:
        """Called by the parent: the version and the progress, or None where nothing is new."""
        slot = self.slot
        version = slot.version
        if version == seen or version % 2:
            return None
        message = slot.message.decode(errors="replace")
        progress = Progress(slot.current, slot.total, message or None)
        return (version, progress) if slot.version == version else None
