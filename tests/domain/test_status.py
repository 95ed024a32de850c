"""The status machine is the table of the design, and nothing else."""

from __future__ import annotations

from quart_app.domain.status import FIRST, STATUSES, TERMINAL, WAITING, Move, Status, diagram

TABLE: list[tuple[str, set[Status], Status]] = [
    ("due", {"scheduled"}, "queued"),
    ("claim", {"queued"}, "running"),
    ("succeed", {"running"}, "succeeded"),
    ("retry", {"running"}, "scheduled"),
    ("fail", {"running"}, "failed"),
    ("interrupt", {"running"}, "queued"),
    ("rescue", {"running"}, "queued"),
    ("withdraw", {"scheduled", "queued"}, "canceled"),
    ("expire", {"scheduled", "queued"}, "failed"),
    ("cancel", {"running"}, "canceled"),
]

DIAGRAM = """\
stateDiagram-v2
    [*] --> scheduled
    [*] --> queued
    scheduled --> queued: due
    queued --> running: claim
    running --> succeeded: succeed
    running --> scheduled: retry
    running --> failed: fail
    running --> queued: interrupt
    running --> queued: rescue
    scheduled --> canceled: withdraw
    queued --> canceled: withdraw
    scheduled --> failed: expire
    queued --> failed: expire
    running --> canceled: cancel
    succeeded --> [*]
    failed --> [*]
    canceled --> [*]"""


def test_the_table_is_that_of_the_design() -> None:
    """Every change of status there is, from where and to where."""
    assert [(move.label, set(move.sources), move.target) for move in Move] == TABLE


def test_the_diagram_is_drawn_from_the_table() -> None:
    """What the documentation shows is what the code does."""
    assert diagram() == DIAGRAM


def test_terminal_is_final() -> None:
    """No move begins where a job is over, and each status is over, waiting or running."""
    assert not any(move.sources & TERMINAL for move in Move)
    assert [move for move in Move if move.terminal] == [
        Move.SUCCEED,
        Move.FAIL,
        Move.WITHDRAW,
        Move.EXPIRE,
        Move.CANCEL,
    ]
    assert TERMINAL | WAITING | {"running"} == set(STATUSES)
    assert WAITING == FIRST


def test_every_status_is_reached_and_every_unfinished_one_left() -> None:
    """There is a way from being opened to each status, and from each to an end."""
    reached: set[Status] = set(FIRST)
    for _ in STATUSES:
        reached |= {move.target for move in Move if move.sources & reached}
    assert reached == set(STATUSES)
    for status in set(STATUSES) - TERMINAL:
        assert any(status in move.sources for move in Move), f"stuck in {status}"
