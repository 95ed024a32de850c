"""The code of one attempt: open the handle, claim, call, decide once, write once.

Nothing may live here that knows how a function is called (`invoke`) or what an ending means
(`domain.outcomes`). The same class runs in the web process and, later, in a worker.
"""

from __future__ import annotations

import asyncio
import logging

from quart_app.core.invoke import Invoker
from quart_app.core.ledger import Ledger
from quart_app.core.registry import Handle, Registry
from quart_app.core.reporter import Reporter
from quart_app.domain.jobs import Failure, Job
from quart_app.domain.outcomes import Outcome, decide
from quart_app.domain.status import Move
from quart_app.domain.tasks import Catalog

logger = logging.getLogger("quart_app.jobs")

CLAIM = Move.CLAIM
"""Bound once: before Python 3.12 looking up a member of an enum costs as much as a call."""


class Runner:
    """Runs jobs whose turn has come.

    Args:
        catalog: the tasks that this process offers.
        ledger: claims and writes outcomes.
        registry: where the handle of the running job is found by those who cancel it.
        invoker: calls the function.
    """

    def __init__(
        self, catalog: Catalog, ledger: Ledger, registry: Registry, invoker: Invoker
    ) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._registry = registry
        self._invoker = invoker
        self._notes: set[asyncio.Task[Job | None]] = set()
        registry.on_overdue = self._overdue

    async def run(self, job_id: str) -> None:
        """Run one attempt of a job, in the current asyncio task. Harmless if it is not queued."""
        task: asyncio.Task[None] = asyncio.current_task()  # type: ignore[assignment]
        # Opened before the claim: there is no moment at which a cancel would find nobody.
        handle = self._registry.open(job_id, task)
        if handle is None:
            return
        try:
            job = await self._ledger.move(job_id, CLAIM)
            if job is not None:
                outcome = await self._attempt(job, handle)
                # The one write of the outcome; refused where somebody else was first: no error.
                await self._ledger.settle(job, outcome)
        finally:
            self._registry.close(handle)

    async def _attempt(self, job: Job, handle: Handle) -> Outcome:
        task = self._catalog.get(job.task)
        if task is None:
            message = f"this process offers no task {job.task!r}"
            return Outcome(Move.FAIL, "rejected", error=Failure("NoSuchTask", message))
        if job.cancel_requested_at is not None:  # While it was between two attempts.
            handle.ask("cancel")
        reporter = None if task.context_parameter is None else Reporter(self._ledger, job)
        if task.timeout is not None:
            handle.after(task.timeout, lambda: handle.ask("timeout"))
        ended = await self._invoker.call(task, job, handle, reporter)
        if reporter is not None and reporter.used:
            await reporter.close()
        return decide(ended, handle.stop, job, task.timeout)

    def _overdue(self, handle: Handle) -> None:
        """A function goes on past the grace: that is said, and its status stays what it is."""
        logger.warning("job %s does not stop: unresponsive", handle.job_id)
        note = self._ledger.note(handle.job_id, unresponsive=True)
        self._notes.add(task := asyncio.create_task(note))
        task.add_done_callback(self._notes.discard)
