"""The time that jobs live by: what the wall showed at the start, carried on by a clock that never
jumps.

A wall clock that is set while the service runs must not make a thousand delayed jobs due at once,
or hold them back for an hour; a restart takes over what the wall shows then. Nothing may live here
that waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def make_clock() -> Callable[[], float]:
    """A clock: seconds since the epoch. It goes on while the machine sleeps, where the system can
    tell (CLOCK_BOOTTIME of Linux).

    >>> clock = make_clock()
    >>> clock() <= clock(), abs(clock() - time.time()) < 1
    (True, True)
    """
    number = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    gettime = time.clock_gettime
    offset = time.time() - gettime(number)
    return lambda: gettime(number) + offset
