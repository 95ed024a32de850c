"""Jobs for the rules of stores. Only making them, and looking at them, may live here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from quart_app.checks.rules import require
from quart_app.core.ports import Store
from quart_app.domain.ids import new_id
from quart_app.domain.jobs import Change, Failure, Job, Keep, KeptStep, RequestKey, Retention
from quart_app.domain.status import TERMINAL, Move, Status

Rule = Callable[[Store], Awaitable[None]]

PATHS: dict[Status, list[Move]] = {
    "queued": [],
    "scheduled": [Move.CLAIM, Move.RETRY],
    "running": [Move.CLAIM],
    "succeeded": [Move.CLAIM, Move.SUCCEED],
    "failed": [Move.CLAIM, Move.FAIL],
    "canceled": [Move.WITHDRAW],
}
"""How a queued job comes into each status."""


def request(key: str, asked: bytes = b"") -> RequestKey:
    """A key, with a digest of what is asked."""
    return RequestKey(key, asked)


def everything(count: int, age: float, size: int) -> Retention:
    """The same retention for each final status."""
    return dict.fromkeys(sorted(TERMINAL), Keep(count, age, size))


async def add(store: Store, **fields: object) -> Job:
    """Keep one new job."""
    job = Job(id=new_id(), **{"task": "t", "created_at": 1.0, "updated_at": 1.0, **fields})  # type: ignore[arg-type]
    key = None if job.key is None else request(job.key)
    [kept], new = await store.add([job], max_waiting=1_000_000, key=key)
    require(new, "a new job counts as new")
    return kept


async def bring(store: Store, status: Status, at: float = 2.0, **fields: object) -> Job:
    """Keep one new job and bring it into a status."""
    job = await add(store, **fields)
    for move in PATHS[status]:
        moved = await store.move(job.id, change(move, at))
        if moved is None:
            raise AssertionError(f"{move.label} holds on the way to {status}")
        job = moved
    return job


def change(move: Move, at: float = 2.0, attempt: int | None = None) -> Change:
    """A change with all that its move may set."""
    failed = move is Move.FAIL
    return Change(
        move=move,
        at=at,
        attempt=attempt,
        reason="error" if failed else None,
        result=b'{"n":1}' if move is Move.SUCCEED else None,
        error=Failure("ValueError", "no") if failed else None,
        run_at=at + 10 if move is Move.RETRY else None,
    )


async def queue(store: Store, task: str, limit: int = 10, fair: bool = False) -> list[str]:
    """The ids of a task's queue."""
    return [each.id for each in await store.queued(task, limit, fair)]


def step(attempt: int, result: bytes) -> KeptStep:
    """A step that an attempt has finished."""
    return KeptStep(result, attempt, 2.0)
