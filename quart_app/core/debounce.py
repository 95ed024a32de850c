"""Starting a task with ``debounce``: a start that comes while one waits takes its place.

Only that may live here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from quart_app.core.ledger import Ledger
from quart_app.core.ports import Store
from quart_app.domain.jobs import Job, Postponed
from quart_app.domain.tasks import Task

LONGEST = 10
"""How many times its debounce a job that is asked for again and again waits in all."""

Open = Callable[[], Awaitable[tuple[Job, bool]]]
"""Opens the new job, or says which one is there in its place."""


async def start_debounced(
    store: Store, ledger: Ledger, task: Task, job: Job, opened: Open
) -> tuple[Job, bool]:
    """Open a job, or put the one that waits off, with what is asked for now.

    A key comes first: the start that opened the waiting job, sent once more because its answer was
    lost, puts nothing off and brings no older arguments back.
    """
    if job.key is not None:
        kept, new = await opened()
        if new or kept.key == job.key:
            return kept, new
    later = await _postpone(store, ledger, task, job)
    return await opened() if later is None else (later, False)


async def _postpone(store: Store, ledger: Ledger, task: Task, job: Job) -> Job | None:
    """The job that waits, as it is then; None if there is none."""
    wait = task.control.debounce or 0.0
    active = await store.active(task.name, job.unique or "")
    if active is None:
        return None
    bounded = min(ledger.clock() + wait, active.created_at + LONGEST * wait)
    # The bound is of the debounce: a later moment that is asked for with `delay` or `run_at` holds.
    asked = job.run_at or 0.0
    run_at = asked if asked > job.created_at + wait else bounded
    return await ledger.note(active.id, postponed=Postponed(job.args, run_at))
