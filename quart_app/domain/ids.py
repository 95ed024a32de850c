"""Public ids of jobs: ordered in time, and not to be guessed. Nothing else may live here."""

from __future__ import annotations

import os
import time

RANDOM_BATCH = 64
"""Ids whose random bits are asked of the system at once: one call for each costs 1 us."""
_tails: list[str] = []
os.register_at_fork(after_in_child=_tails.clear)  # Two processes must not share what is left.
_millisecond, _prefix = 0, ""


def new_id() -> str:
    """A public job id: UUID version 7 (RFC 9562, 5.7), a millisecond and 74 random bits.

    >>> len(new_id()), new_id() != new_id()
    (36, True)
    """
    global _millisecond, _prefix
    now = time.time_ns() // 1_000_000
    if now != _millisecond:
        moment = f"{now:012x}"
        _millisecond, _prefix = now, f"{moment[:8]}-{moment[8:]}-7"
    try:
        return _prefix + _tails.pop()
    except IndexError:
        _tails.extend(_make_tails())
        return _prefix + _tails.pop()


def _make_tails() -> list[str]:
    """The random parts of many ids, 74 bits each, made by as few calls as can be."""
    ends = os.urandom(6 * RANDOM_BATCH).hex("-", 6).split("-")
    starts = memoryview(os.urandom(4 * RANDOM_BATCH)).cast("I")
    return [
        f"{start & 0xFFF:03x}-{0x8000 | start >> 12 & 0x3FFF:x}-{end}"
        for start, end in zip(starts, ends, strict=True)
    ]
