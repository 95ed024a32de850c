"""A process that works with the jobs of a store. Only what it says of itself may live here."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["web", "worker"]


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """One process, as it last said that it is alive.

    Args:
        id: unique among all that ever were; ``host``, ``pid`` are for people.
        kind: ``web`` answers requests, ``worker`` only runs jobs.
        started_at: seconds since the epoch.
        only: the names of the tasks that it runs; all that it offers where there are none.
        running: how many jobs run in it.
        room: how many would at once.
        draining: whether it takes no more.
    """

    id: str
    host: str = ""
    pid: int = 0
    kind: Kind = "web"
    started_at: float = 0.0
    only: tuple[str, ...] = ()
    running: int = 0
    room: int = 0
    draining: bool = False
