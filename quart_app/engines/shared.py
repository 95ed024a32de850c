"""Which engine belongs to which store where several processes work. Nothing else may live here: an
engine's own packages are imported only where it is used.
"""

from __future__ import annotations

import contextvars
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from quart_app.core.ports import SharedEngine, SharedStore
from quart_app.core.shared_backlog import SharedBacklog
from quart_app.domain.jobs import Job
from quart_app.domain.tasks import Catalog, Lane


def make_shared_engine(
    url: str,
    rooms: Mapping[Lane, int],
    *,
    namespace: str,
    lease: float,
    worker: str,
    context: contextvars.Context,
) -> SharedEngine:
    """The engine that delivers the jobs of a store, by its URL."""
    name = ("docket", "DocketEngine") if url.startswith("redis") else ("pgqueuer", "PgqueuerEngine")
    module = importlib.import_module(f"quart_app.engines.{name[0]}")
    made: SharedEngine = getattr(module, name[1])(
        url, rooms, namespace=namespace, lease=lease, worker=worker, context=context
    )
    return made


def share_transactions(
    store: SharedStore, engine: SharedEngine, backlog: SharedBacklog, catalog: Catalog
) -> None:
    """Put new jobs into the queue in the transaction that keeps them, where store and engine can:
    there is no moment at which a job is kept and not delivered."""
    within = engine.within
    if within is None:
        return

    async def on_add(connection: Any, jobs: Sequence[Job]) -> None:
        tasks = [(job, catalog.get(job.task)) for job in jobs if job.status == "queued"]
        pairs = [(job.id, task.run) for job, task in tasks if task and backlog.clear(task)]
        if pairs:
            await within(connection, pairs)

    store.on_add = on_add
    backlog.with_add = True
