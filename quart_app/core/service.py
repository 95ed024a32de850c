"""What can be done with jobs: start, look, wait, cancel, retry. The one door for the edges.

The HTTP routes, the Python API and the tests call this and nothing below it. Nothing may live here
that formats an answer or calls a function of the user's.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from quart_app.core.backlog import Backlog
from quart_app.core.durations import Durations
from quart_app.core.hub import Hub
from quart_app.core.ledger import Ledger
from quart_app.core.outbox import OUTBOX, Outbox
from quart_app.core.ports import Engine, Store
from quart_app.core.registry import Registry
from quart_app.domain.errors import (
    Draining,
    InvalidArguments,
    JobCanceled,
    JobFailed,
    JobsError,
    NoSuchJob,
    NotFinished,
)
from quart_app.domain.jobs import Job, Page, Query, RequestKey, new_id
from quart_app.domain.options import NO_OPTIONS, Options
from quart_app.domain.status import STATUSES, TERMINAL, WAITING, Move, Status
from quart_app.domain.tasks import Catalog, Task

TOGETHER = 100
"""Jobs that are canceled at once, of many: they share the store's writes."""
UNFINISHED: frozenset[Status] = frozenset(STATUSES) - TERMINAL

SERVICE: contextvars.ContextVar[Service | None] = contextvars.ContextVar("service", default=None)
"""The service that a request or a job belongs to."""


class RequestScope:
    """One request of this service: what it starts waits until `close`, when it is answered."""

    __slots__ = ("_outbox", "_tokens")

    def __init__(self, service: Service) -> None:
        self._outbox = Outbox(service.backlog)
        self._tokens = (SERVICE.set(service), OUTBOX.set(self._outbox))

    async def close(self) -> None:
        """The answer has left, or nobody waits for it any more: let the jobs begin."""
        SERVICE.reset(self._tokens[0])
        OUTBOX.reset(self._tokens[1])
        await self._outbox.close()


class Canceled(msgspec.Struct, frozen=True):
    """What became of a cancel of many: matched, already canceled, being canceled."""

    matched: int
    canceled: int
    canceling: int


class Service:
    """All parts put together by `quart_app.app`.

    Args:
        catalog: the tasks on offer.
        store, ledger, hub, registry, engine, backlog: the parts.
        durations: what tasks were seen to take.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: Store,
        ledger: Ledger,
        hub: Hub,
        registry: Registry,
        engine: Engine,
        backlog: Backlog,
        durations: Durations,
    ) -> None:
        self.catalog = catalog
        self.store = store
        self.ledger = ledger
        self.hub = hub
        self.registry = registry
        self.engine = engine
        self.backlog = backlog
        self.durations = durations
        self.draining = False
        # In memory nothing comes between a job's opening and its way to the engine, which holds
        # every one that waits: the shorter way is the same way.
        self._at_once = store.volatile

    def begin_request(self) -> RequestScope:
        """Make this the service of the current context until the scope is closed."""
        return RequestScope(self)

    async def start(
        self, task: Task, args: bytes, options: Options = NO_OPTIONS, *, retry_of: str | None = None
    ) -> tuple[Job, bool]:
        """Open a job and hand it over to run.

        Args:
            task: one of the catalog's.
            args: its arguments as checked JSON (`Arguments.check` or `write`).
            options: the key that makes the start repeatable, when the job may begin, and until when
                it must have.
            retry_of: the id of the job that this one repeats.

        Returns:
            the job, and whether it is new.

        Raises:
            Draining, QueueFull, StoreUnavailable: nothing was accepted.
            KeyReused: the key came before with another payload.
        """
        if self.draining:
            self._refuse()
        job = self._new(task, args, options, retry_of)
        if self._at_once and options is NO_OPTIONS:
            await self.ledger.open((job,))
            outbox = OUTBOX.get()
            if outbox is None or outbox.closed:
                await self.engine.submit(job.id, task.run)
            else:
                outbox.hold(job.id, task.run)
            return job, True
        [job], new = await self._open(task, [job], options.request_key(b"{}", (args,)))
        return job, new

    async def start_many(
        self, task: Task, batch: Sequence[bytes], options: Options = NO_OPTIONS
    ) -> tuple[list[Job], bool]:
        """Open one job for each of the arguments, all or none; see `start`."""
        if self.draining:
            self._refuse()
        if not batch:
            return [], True
        jobs = [self._new(task, args, options, None) for args in batch]
        return await self._open(task, jobs, options.request_key(b"[]", batch))

    async def _open(
        self, task: Task, jobs: list[Job], key: RequestKey | None
    ) -> tuple[list[Job], bool]:
        """Open jobs with a store that others may read meanwhile: until their answer is on its way,
        nobody may find them in the queue and begin."""
        held = self.backlog.held
        held.update([job.id for job in jobs])
        new = False
        try:
            kept, new = await self.ledger.open(jobs, key)
        finally:
            if not new:
                held.difference_update([job.id for job in jobs])
        if new:
            for job in kept:
                await self._submit(job, task)
        return kept, new

    def check_many(self, task: Task, batch: Sequence[bytes]) -> list[bytes]:
        """Check each of a list of arguments; the errors name the index."""
        checked: list[bytes] = []
        errors: list[dict[str, str]] = []
        for index, payload in enumerate(batch):
            try:
                checked.append(task.arguments.check(payload))
            except InvalidArguments as error:
                for each in error.errors:
                    place = each["pointer"].removeprefix("#")
                    errors.append({"pointer": f"#/{index}{place}", "detail": each["detail"]})
        if errors:
            raise InvalidArguments(f"{len(errors)} arguments do not fit; none was started", errors)
        return checked

    def _new(self, task: Task, args: bytes, options: Options, retry_of: str | None) -> Job:
        now = self.ledger.clock()
        if options is NO_OPTIONS:
            return Job(
                id=new_id(),
                task=task.name,
                args=args,
                tags=task.tags,
                max_attempts=task.max_attempts,
                created_at=now,
                updated_at=now,
                retry_of=retry_of,
            )
        run_at = options.run_at if options.delay is None else now + options.delay
        later = run_at is not None and run_at > now
        return Job(
            id=new_id(),
            task=task.name,
            args=args,
            status="scheduled" if later else "queued",
            tags=task.tags,
            max_attempts=task.max_attempts,
            created_at=now,
            updated_at=now,
            run_at=run_at if later else None,
            expires_at=options.expires_at if options.ttl is None else now + options.ttl,
            key=options.key,
            retry_of=retry_of,
        )

    def _refuse(self) -> NoReturn:
        message = "This service is shutting down: try again, another may answer"
        raise Draining(message, retry_after=1.0)

    async def _submit(self, job: Job, task: Task) -> None:
        """Hand a job over to run: at once, or when the answer to the current request has left."""
        if job.status != "queued":
            self.backlog.held.discard(job.id)
            return
        outbox = OUTBOX.get()
        if outbox is None or outbox.closed:
            await self.backlog.submit(job.id, task.run)
        else:
            outbox.hold(job.id, task.run)

    async def get(self, job_id: str) -> Job:
        """The newest version of a job.

        Raises:
            NoSuchJob: also when its record has expired.
        """
        job = await self.store.get(job_id)
        if job is None:
            message = f"There is no job {job_id[:100]!r}, or its record has expired"
            raise NoSuchJob(message)
        return job

    async def page(self, query: Query) -> Page:
        """One page of jobs, newest first."""
        return await self.store.page(query)

    async def wait(self, job_id: str, seconds: float | None) -> Job:
        """The job when it is over, or as it is after so many seconds (None: however long).

        Answers at once when the service is shutting down or has as many watchers as it may have.
        """
        outbox = OUTBOX.get()
        if outbox is not None:
            await outbox.flush()
        if self.hub.full:
            return await self.get(job_id)
        with self.hub.watch(job_id) as watcher:  # Subscribe first: no ending is missed.
            job = await self.get(job_id)
            try:
                async with asyncio.timeout(seconds):
                    while not job.over and (newer := await watcher.next()) is not None:
                        job = newer
            except TimeoutError:
                pass
            newest = watcher.newest
            # What is read may be newer than what was told so far.
            return job if newest is None or newest.seq < job.seq else newest

    async def cancel(self, job_id: str) -> Job:
        """Withdraw a waiting job, or ask a running one to stop. Harmless twice.

        Returns:
            the job: over, or with ``cancel_requested_at`` while it is still running.
        """
        while True:
            # At a shutdown a job may be put back while its code goes on: that ends with the
            # process, and until then nobody may call it canceled.
            stays = self.draining and job_id in self.registry
            if not stays:
                withdrawn = await self.ledger.move(job_id, Move.WITHDRAW, reason="requested")
                if withdrawn is not None:
                    await self.engine.forget(job_id)
                    return withdrawn
            await self.ledger.note(job_id, cancel_requested=True)
            handle = self.registry.get(job_id)
            job = await self.get(job_id)
            if stays or job.status not in WAITING:
                break  # Otherwise its attempt has ended meanwhile, and another would follow.
        if handle is not None and not job.over:
            handle.ask("cancel")
        return job

    async def matching(self, query: Query) -> AsyncIterator[Job]:
        """Every job that passes the filters and is not over."""
        statuses = query.statuses & UNFINISHED if query.statuses else UNFINISHED
        before = query.before
        while statuses:
            page = await self.store.page(
                msgspec.structs.replace(query, statuses=statuses, before=before, limit=100)
            )
            for job in page.jobs:
                yield job
            if page.next is None:
                return
            before = page.next
            await asyncio.sleep(0)

    async def cancel_matching(self, query: Query, *, dry_run: bool) -> Canceled:
        """Cancel every job that passes the filters and is not over, or only count them."""
        matched = canceled = canceling = 0
        ids: list[str] = []

        async def cancel_them() -> None:
            nonlocal canceled, canceling
            done = await self.cancel_each(ids)
            canceled, canceling = canceled + done.canceled, canceling + done.canceling
            ids.clear()

        async for job in self.matching(query):
            matched += 1
            if not dry_run:
                ids.append(job.id)
                if len(ids) == TOGETHER:
                    await cancel_them()
        await cancel_them()
        return Canceled(matched, canceled, canceling)

    async def cancel_each(self, job_ids: Sequence[str]) -> Canceled:
        """Cancel the jobs of these ids; an unknown id is not counted as matched."""
        calls = (self._cancel_if_known(job_id) for job_id in dict.fromkeys(job_ids))
        known = [job for job in await asyncio.gather(*calls) if job is not None]
        canceled = sum(job.status == "canceled" for job in known)
        return Canceled(len(known), canceled, sum(not job.over for job in known))

    async def _cancel_if_known(self, job_id: str) -> Job | None:
        try:
            return await self.cancel(job_id)
        except NoSuchJob:
            return None

    async def retry(self, job_id: str, changes: Mapping[str, Any] | None = None) -> Job:
        """Run a job that is over again, as a new job.

        Args:
            changes: the arguments that are to be different.

        Raises:
            NotFinished: it is not over; cancel it first, or wait.
        """
        job = await self.get(job_id)
        if not job.over:
            message = f"Job {job_id} is {job.status}: only a job that is over can be retried"
            raise NotFinished(message, retry_after=self.retry_after(job))
        task = self.catalog.find(job.task)
        args = task.arguments.write({**json.loads(job.args), **(changes or {})})
        new, _ = await self.start(task, args, retry_of=job.id)
        return new

    def result(self, job: Job) -> bytes:
        """The result of a finished job, as JSON.

        Raises:
            JobFailed, JobCanceled: there is none, and why.
        """
        if job.status == "succeeded":
            return b"null" if job.result is None else job.result
        raise self._no_result(job)

    def _no_result(self, job: Job) -> JobsError:
        if job.status == "failed":
            error = job.error
            detail = "" if error is None else f": {error.code}: {error.message}"
            members = {} if error is None else {"code": error.code, "message": error.message}
            return JobFailed(f"Job {job.id} failed{detail}", reason=job.reason, error=members)
        if job.status == "canceled":
            return JobCanceled(f"Job {job.id} was canceled", reason=job.reason)
        return NotFinished(f"Job {job.id} is {job.status}", retry_after=self.retry_after(job))

    def retry_after(self, job: Job) -> float:
        """Seconds after which another look is worth it: what its task usually takes, or the time
        until it may begin; 1 to 60."""
        if job.status == "scheduled" and job.run_at is not None:
            return min(60.0, max(1.0, job.run_at - self.ledger.clock()))
        typical = self.durations.typical(job.task)
        if typical is None:
            return 1.0
        gone = 0.0 if job.started_at is None else self.ledger.clock() - job.started_at
        return min(60.0, max(1.0, typical - gone))

    def eta(self, job: Job) -> float | None:
        """The moment at which a running job will probably end, or None where nobody can say."""
        typical = self.durations.typical(job.task) if job.status == "running" else None
        if typical is None or job.started_at is None:
            return None
        eta = job.started_at + typical
        return eta if eta > self.ledger.clock() else None
