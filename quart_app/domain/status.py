"""The status machine: one table of moves, and nothing that is not a rule of it.

A job has one status; a reason stands beside it, since two reasons may lead to one status. Retrying,
canceling and progress are facts on the job, not statuses. Nothing else in the package may decide
which status may follow which: code that needs to know asks a `Move` for its sources.

>>> Move.CLAIM.sources, Move.CLAIM.target
(frozenset({'queued'}), 'running')
>>> sorted(TERMINAL)
['canceled', 'failed', 'succeeded']
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

Status = Literal["scheduled", "queued", "running", "succeeded", "failed", "canceled"]

Reason = Literal[
    "requested", "timeout", "error", "retry", "shutdown", "lost", "poison", "expired", "rejected"
]

STATUSES: tuple[Status, ...] = (
    "scheduled",
    "queued",
    "running",
    "succeeded",
    "failed",
    "canceled",
)
TERMINAL: frozenset[Status] = frozenset({"succeeded", "failed", "canceled"})
WAITING: frozenset[Status] = frozenset({"scheduled", "queued"})
FIRST: frozenset[Status] = WAITING
"""The statuses in which a job may be opened."""


class Move(Enum):
    """Every change of status there is: from which statuses, to which.

    Terminal is final: no move starts there. "Run again" opens a new job with ``retry_of``.
    """

    DUE = ("due", frozenset({"scheduled"}), "queued")
    CLAIM = ("claim", frozenset({"queued"}), "running")
    SUCCEED = ("succeed", frozenset({"running"}), "succeeded")
    RETRY = ("retry", frozenset({"running"}), "scheduled")
    FAIL = ("fail", frozenset({"running"}), "failed")
    INTERRUPT = ("interrupt", frozenset({"running"}), "queued")
    RESCUE = ("rescue", frozenset({"running"}), "queued")
    WITHDRAW = ("withdraw", WAITING, "canceled")
    EXPIRE = ("expire", WAITING, "failed")
    CANCEL = ("cancel", frozenset({"running"}), "canceled")

    def __init__(self, label: str, sources: frozenset[Status], target: Status) -> None:
        self.label = label
        self.sources = sources
        self.target = target
        self.terminal = target in TERMINAL


def diagram() -> str:
    """The table as a Mermaid state diagram, as it stands in the documentation.

    >>> print(diagram().splitlines()[1])
        [*] --> scheduled
    """
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {status}" for status in STATUSES if status in FIRST]
    lines += [
        f"    {source} --> {move.target}: {move.label}"
        for move in Move
        for source in STATUSES
        if source in move.sources
    ]
    lines += [f"    {status} --> [*]" for status in STATUSES if status in TERMINAL]
    return "\n".join(lines)
