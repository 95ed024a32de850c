"""How many rounds the long sweeps take: all that are promised, or a share of them. Only counting
them may live here.

A sweep does one thing again and again, at other moments or with other dice, and its number is
what is promised ("100 kills"). One Python takes all of its rounds; on the others a share says as
much of what depends on the Python. Every test runs everywhere, and so does every case of it.
"""

from __future__ import annotations

import math
import os

SHARE = float(os.environ.get("ROUNDS") or 1)
"""Of the rounds: ``ROUNDS=0.25 make test`` takes a quarter."""


def rounds(promised: int) -> int:
    """How many of so many to take, at least one."""
    return max(1, math.ceil(promised * SHARE))


def every(promised: range) -> range:
    """As many of the numbers, from the first on, as far from each other."""
    step = max(1, len(promised) // rounds(len(promised)))
    return range(promised.start, promised.stop, promised.step * step)
