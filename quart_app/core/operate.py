"""What operators do to tasks: pause one and let it go on. It is kept over a restart.

Nothing may live here that is about one job.
"""

from __future__ import annotations

from quart_app.core.service import Service
from quart_app.domain.tasks import Task

PAUSED = "paused/"
"""How the names of the facts begin."""


async def pause(service: Service, task: Task) -> None:
    """Let no job of a task begin until `resume`; what runs goes on, and starts are accepted.

    Raises:
        StoreUnavailable: it is not kept, and nothing has changed.
    """
    await service.ledger.keep_fact(PAUSED + task.name, b"true")
    service.backlog.pause(task)


async def resume(service: Service, task: Task) -> None:
    """The opposite of `pause`. Harmless twice."""
    await service.ledger.keep_fact(PAUSED + task.name, None)
    service.backlog.resume(task)
    service.on_resume(task.name)


async def remember_pauses(service: Service) -> None:
    """Take over what an earlier process was told."""
    for name in await service.store.facts(PAUSED):
        task = service.catalog.get(name.removeprefix(PAUSED))
        if task is not None:
            service.backlog.pause(task)
