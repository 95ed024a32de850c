"""Public ids of jobs: ordered in time, and not to be guessed. Nothing else may live here."""

from __future__ import annotations

import os
import time

RANDOM_BATCH = 256
"""Ids whose random bits are asked of the system at once: one call for each costs 1 us."""
LAYOUT = bytes(0x08 | byte & 0x03 for byte in range(256))
"""Sets the two bits that say which layout it is (RFC 9562, 4.1) in the lower half of a byte."""
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
    """The random parts of many ids, 74 bits each, made by as few calls as can be.

    Of each 11 bytes, written as 22 digits, the first digit is left out and two become hyphens.
    """
    drawn = bytearray(os.urandom(11 * RANDOM_BATCH))
    drawn[2::11] = drawn[2::11].translate(LAYOUT)
    text = bytearray(drawn.hex(), "ascii")
    text[4::22] = text[9::22] = b"-" * RANDOM_BATCH
    tails = text.decode()
    return [tails[at : at + 21] for at in range(1, 22 * RANDOM_BATCH, 22)]
