"""The code of one attempt: open the handle, claim, call, decide once, write once.

Nothing may live here that knows how a function is called (`invoke`) or what an ending means
(`domain.outcomes`). The same class runs in the web process and, later, in a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random

from quart_app.core.children import Children
from quart_app.core.invoke import Invoker
from quart_app.core.ledger import Ledger
from quart_app.core.patience import until_written
from quart_app.core.ports import Store
from quart_app.core.registry import Handle, Registry
from quart_app.core.reporter import REPORTER, Reporter
from quart_app.core.service import SERVICE
from quart_app.core.steps import Steps
from quart_app.domain.errors import StoreClosed, StoreUnavailable
from quart_app.domain.jobs import Failure, Job
from quart_app.domain.outcomes import SUCCEED, Outcome, decide
from quart_app.domain.status import Move
from quart_app.domain.tasks import Catalog, Task

logger = logging.getLogger("quart_app.jobs")

AGAIN = 1.0
"""Seconds between two tries to claim a job while the store does not answer."""


class Runner:
    """Runs jobs whose turn has come.

    Args:
        catalog: the tasks that this process offers.
        ledger: claims and writes outcomes.
        store: where the steps of earlier attempts are read.
        registry: where the handle of the running job is found by those who cancel it.
        invoker: calls the function.
    """

    def __init__(
        self,
        catalog: Catalog,
        ledger: Ledger,
        store: Store,
        registry: Registry,
        invoker: Invoker,
    ) -> None:
        self._tasks = catalog.by_name
        self._ledger = ledger
        self._instant = ledger.instant
        self._store = store
        self._registry = registry
        self._invoker = invoker
        self._notes: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.tries = 60
        """How often a claim is tried again while the store does not answer."""
        registry.on_overdue = self._overdue

    async def run(self, job_id: str) -> float | None:
        """Run one attempt of a job, in the current asyncio task. Harmless if it is not queued.
        Gives the seconds after which it is to be delivered again, or None."""
        # Opened before the claim: there is no moment at which a cancel would find nobody.
        loop = self._loop or self._find_loop()
        handle = self._registry.open(job_id, asyncio.current_task(loop))  # type: ignore[arg-type]
        if handle is None:
            return None
        ledger, now = self._ledger, self._instant
        try:
            try:
                job = ledger.claim_now(job_id) if now else await ledger.claim(job_id)
            except StoreUnavailable as error:
                job = await self._claim_later(handle, error)
            if job is None:
                return None
            handle.seq = job.seq
            if (task := self._tasks.get(job.task)) is None:
                outcome = _not_offered(job)
            elif task.plain and job.cancel_requested_at is None:
                reporter = Reporter(ledger, job, loop)
                REPORTER.set(reporter)
                ended = await self._invoker.call(task, job, handle, reporter)
                if reporter.used:
                    await reporter.close()
                reporter.closed = True  # What it has left running is not the job any more.
                outcome = decide(ended, handle.stop, job, task.policy, random.random())  # noqa: S311
            else:
                outcome = await self._attempt(task, job, handle)
            try:  # The one write of it; refused where somebody else was first: no error.
                if now and outcome.move is SUCCEED:
                    after = ledger.succeed_now(job, outcome.result)
                else:
                    after = await ledger.settle(job, outcome)
            except StoreUnavailable as error:
                after = await self._insist(job, outcome, error)
            return None if after is None or after.over else await self._put_back(after)
        finally:
            self._registry.close(handle)

    def _find_loop(self) -> asyncio.AbstractEventLoop:
        """Asked for once: before Python 3.12 that is as slow as a system call."""
        self._loop = loop = asyncio.get_running_loop()
        return loop

    async def _put_back(self, job: Job) -> float | None:
        """Its end was asked for too late for this attempt: then no other one follows."""
        after: Job | None = job
        if job.cancel_requested_at is not None:
            after = await self._ledger.move(job.id, Move.WITHDRAW, reason="requested")
            if after is not None and (service := SERVICE.get()) is not None:
                await service.cancel_children(after)
        return self._again(after)

    def _again(self, after: Job | None) -> float | None:
        """When the job is to be delivered again: here whoever has put it back has seen to that."""
        return None

    async def _claim_later(self, handle: Handle, error: StoreUnavailable) -> Job | None:
        """Nothing has begun. Whoever is next would fare the same: so this one keeps its turn for a
        while, unless the shutdown begins; later upkeep delivers it again."""
        for _ in range(self.tries):
            if handle.stop is not None or isinstance(error, StoreClosed):
                return None
            await asyncio.sleep(AGAIN)
            try:
                return await self._ledger.claim(handle.job_id)
            except StoreUnavailable as another:
                error = another
        raise error

    async def _insist(self, job: Job, outcome: Outcome, error: StoreUnavailable) -> Job | None:
        """Nobody else knows how it ended: that is kept until it can be written."""
        if isinstance(error, StoreClosed):
            raise error
        what = f"the end of job {job.id} ({outcome.move.label})"
        write = functools.partial(self._ledger.settle, job, outcome)
        settled = await until_written(write, what)
        if settled is None:  # Perhaps the first try was taken, and only its answer was lost.
            tell = functools.partial(self._ledger.tell_settled, job, outcome)
            settled = await until_written(tell, what)
        return settled

    async def _attempt(self, task: Task, job: Job, handle: Handle) -> Outcome:
        if job.cancel_requested_at is not None:  # While it was between two attempts.
            handle.ask("cancel")
        if task.timeout is not None:
            handle.after(task.timeout, lambda: handle.ask("timeout"))
        reporter = Reporter(self._ledger, job, handle.task.get_loop())
        REPORTER.set(reporter)
        steps = Steps(self._ledger, self._store, job, self._invoker.max_result)
        service = SERVICE.get()
        children = None if service is None else Children(service, job)
        ended = await self._invoker.call(task, job, handle, reporter, steps, children)
        if reporter.used:
            await reporter.close()
        else:
            reporter.closed = True
        return decide(ended, handle.stop, job, task.policy, random.random())  # noqa: S311 - jitter

    def _overdue(self, handle: Handle) -> None:
        """A function goes on past the grace: that is said, and its status stays what it is."""
        logger.warning("job %s does not stop: unresponsive", handle.job_id)
        self._notes.add(task := asyncio.create_task(self._note(handle)))
        task.add_done_callback(self._notes.discard)

    async def _note(self, handle: Handle) -> None:
        with contextlib.suppress(StoreUnavailable):
            job = await self._store.get(handle.job_id)
            # Not of a job that the shutdown has queued meanwhile for its next attempt.
            if job is not None and job.status == "running" and handle.inside:
                await self._ledger.note(job.id, attempt=job.attempt, unresponsive=True)


def _not_offered(job: Job) -> Outcome:
    message = f"this process offers no task {job.task!r}"
    return Outcome(Move.FAIL, "rejected", error=Failure("NoSuchTask", message))
