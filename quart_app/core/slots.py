"""The few numbers that a job's process and its parent share without a pipe.

Shared memory and not messages: a process killed in mid-write can leave a pipe's lock held for ever,
a slot it can only leave stale. Nothing may live here but the layout and its reading and writing.
"""

from __future__ import annotations

import ctypes
from multiprocessing.context import SpawnContext
from typing import Any

from quart_app.domain.jobs import Progress

NOTHING, ASKED, KILLED = 0, 1, 2
MESSAGE_BYTES = 256


class Slot(ctypes.Structure):
    """One process job: ``pid`` (child's) while its function runs, ``stop`` (parent's), progress.

    ``version`` is odd while the child writes progress, so that a reader can tell a torn one.
    """

    _fields_ = (
        ("pid", ctypes.c_int64),
        ("stop", ctypes.c_int64),
        ("version", ctypes.c_int64),
        ("current", ctypes.c_double),
        ("total", ctypes.c_double),
        ("message", ctypes.c_char * MESSAGE_BYTES),
    )


class Slots:
    """The slot of one process, and a flag that says that the parent is closing the pool.

    Args:
        context: the multiprocessing context (spawn) whose children will share it.
    """

    def __init__(self, context: SpawnContext) -> None:
        self.slot: Any = context.RawValue(Slot)
        self.closing: Any = context.RawValue(ctypes.c_int64, 0)

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

    def read_progress(self, seen: int) -> tuple[int, Progress] | None:
        """Called by the parent: the version and the progress, or None where nothing is new."""
        slot = self.slot
        version = slot.version
        if version == seen or version % 2:
            return None
        message = slot.message.decode(errors="replace")
        progress = Progress(slot.current, slot.total, message or None)
        return (version, progress) if slot.version == version else None
