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
from zlib import crc32

from quart_app.core.drafts import LEVELS, dropped
from quart_app.domain.jobs import Progress

NOTHING, ASKED, KILLED = 0, 1, 2
MESSAGE_BYTES = 256
RING_BYTES = 64 * 1024
"""Lines of the log on their way from a process to its parent."""
CHECK, LINE = struct.Struct("=I"), struct.Struct("=IdB")
"""A record of it: a checksum, then bytes of text, moment and level, then the text."""


class Slot(ctypes.Structure):
    """One process job: ``pid`` (child's) while its function runs, ``stop`` (parent's), progress.

    ``version`` is odd while the child writes progress, so that a reader can tell a torn one.
    ``head`` (child's) and ``tail`` (parent's) are bytes written to and read from the ring of lines;
    a line is there when ``head`` has passed it, so that one torn by a kill is never read.
    ``dropped`` counts lines for which there was no room.
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
        self._said = 0

    def clear(self) -> None:
        """Make the slot ready for the next job."""
        ctypes.memset(ctypes.addressof(self.slot), 0, ctypes.sizeof(Slot))
        self._said = 0

    def write_progress(self, progress: Progress) -> None:
        """Called by the child."""
        slot = self.slot
        slot.version += 1
        slot.current, slot.total = progress.current, progress.total
        text = (progress.message or "").encode(errors="replace")[: MESSAGE_BYTES - 1]
        slot.message = text.decode(errors="ignore").encode()
        slot.version += 1

    def write_line(self, level: str, text: str, at: float) -> bool:
        """Called by the child, by one thread at a time: whether there was room for the line."""
        slot, body = self.slot, text.encode(errors="replace")
        record = LINE.pack(len(body), at, LEVELS.index(level)) + body
        record = CHECK.pack(crc32(record)) + record
        head = slot.head
        if head - slot.tail + len(record) > RING_BYTES:
            return False
        place = head % RING_BYTES
        first = record[: RING_BYTES - place]
        self.ring[place : place + len(first)] = first
        self.ring[: len(record) - len(first)] = record[len(first) :]
        slot.head = head + len(record)
        return True

    def read_lines(self) -> list[tuple[str, str, float]]:
        """Called by the parent: level, text and moment of each line that has come.

        A record that is not as it was written is left for the next time: one core may see the
        other's ``head`` before its bytes. If a function has scribbled here, its lines end there.
        """
        slot, lines = self.slot, []
        head, tail = slot.head, slot.tail
        while 0 < head - tail <= RING_BYTES:
            (check,) = CHECK.unpack(self._bytes(tail, CHECK.size))
            start = self._bytes(tail + CHECK.size, LINE.size)
            size, at, level = LINE.unpack(start)
            if size > RING_BYTES:
                break
            body = self._bytes(tail + CHECK.size + LINE.size, size)
            if crc32(start + body) != check:
                break
            lines.append((LEVELS[level], body.decode(errors="replace"), at))
            tail += CHECK.size + LINE.size + size
        slot.tail = tail
        if (count := slot.dropped - self._said) > 0:
            self._said += count
            lines.append(("warning", dropped(count), time.time()))
        return lines

    def _bytes(self, start: int, count: int) -> bytes:
        place = start % RING_BYTES
        first = bytes(self.ring[place : place + count])
        return first + bytes(self.ring[: count - len(first)])

    def read_progress(self, seen: int) -> tuple[int, Progress] | None:
        """Called by the parent: the version and the progress, or None where nothing is new."""
        slot = self.slot
        version = slot.version
        if version == seen or version % 2:
            return None
        message = slot.message.decode(errors="replace")
        progress = Progress(slot.current, slot.total, message or None)
        return (version, progress) if slot.version == version else None
