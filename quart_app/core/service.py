"""What can be done with jobs: start, look, wait, cancel, retry. The one door for the edges.

The HTTP routes, the Python API and the tests call this and nothing below it. Nothing may live here
that formats an answer or calls a function of the user's.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from quart_app.core.backlog import Backlog
from quart_app.core.debounce import start_debounced
from quart_app.core.durations import Durations
from quart_app.core.hub import Hub
from quart_app.core.ledger import Ledger
from quart_app.core.outbox import OUTBOX, Outbox
from quart_app.core.outlook import Outlook
from quart_app.core.ports import Engine, InstantEngine, Store
from quart_app.core.pulse import Pulse
from quart_app.core.registry import Registry
from quart_app.domain.errors import (
    Draining,
    InvalidArguments,
    InvalidRequest,
    JobCanceled,
    JobFailed,
    JobsError,
    NoSuchJob,
    NotFinished,
)
from quart_app.domain.ids import new_id
from quart_app.domain.jobs import Job, RequestKey
from quart_app.domain.options import NO_OPTIONS, Options
from quart_app.domain.queries import Page, Query
from quart_app.domain.status import STATUSES, TERMINAL, WAITING, Move, Status
from quart_app.domain.tasks import Catalog, Task

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
        self.pulse = Pulse(ledger.clock)
        self.outlook = Outlook(durations, backlog, catalog, ledger.clock)
        self.draining = False
        self.thread: int | None = None
        """In which thread its event loop runs, as long as it is served."""
        self.next_of: Callable[[str], float | None] = lambda task: None
        """When a task with a schedule is due next; of `quart_app.core.schedules`."""
        self.on_resume: Callable[[str], None] = lambda task: None
        """Told of the name of a task that is not paused any more."""
        self._instant = engine if ledger.instant and isinstance(engine, InstantEngine) else None

    async def start_scheduled(self, task: Task, key: str) -> None:
        """Start a task whose moment has come; with a known key nothing is started."""
        await self.start(task, task.arguments.check(b"{}"), Options(key=key))

    def begin_request(self) -> RequestScope:
        """Make this the service of the current context until the scope is closed."""
        return RequestScope(self)

    async def start(
        self,
        task: Task,
        args: bytes,
        options: Options = NO_OPTIONS,
        *,
        retry_of: str | None = None,
        parent: str | None = None,
        connection: Any = None,
    ) -> tuple[Job, bool]:
        """Open a job and hand it over to run.

        Args:
            task, args: of the catalog; its arguments as checked JSON (`Arguments.check`).
            options: the key that makes the start repeatable, when it may begin, and the like.
            retry_of, parent: the job that this one repeats, or that starts it; their ids.
            connection: in a transaction of the store's database, whose commit starts the job.

        Returns the job, and whether it is new.

        Raises:
            Draining, QueueFull, TaskFull, StoreUnavailable, KeyReused: nothing was accepted.
        """
        if self.draining:
            self._refuse()
        alone = options is NO_OPTIONS and retry_of is parent is connection is None
        if alone and (plain := self.start_now(task, args)) is not None:
            return plain, True
        job = self._new(task, args, options, retry_of, parent)
        key = options.request_key(b"{}", (args,))

        async def opened() -> tuple[Job, bool]:
            [kept], new = await self._open(task, [job], key, connection)
            return kept, new

        if task.control.debounce is not None:
            return await start_debounced(self.store, self.ledger, task, job, opened)
        return await opened()

    def start_now(self, task: Task, args: bytes) -> Job | None:
        """As `start`, where nothing has to be waited for: neither a store nor a limit nor room, as
        in memory nearly always. None where something has; then nothing was done."""
        instant = self._instant
        if instant is None or task.special or task.guarded or self.draining:
            return None
        outbox = OUTBOX.get()
        if outbox is None or outbox.closed:
            if not self.backlog.clear(task):
                return None
            outbox = None
        now = self.ledger.clock()
        job = Job(
            id=new_id(),
            task=task.name,
            args=args,
            tags=task.tags,
            max_attempts=task.max_attempts,
            created_at=now,
            updated_at=now,
        )
        self.ledger.open_now(job)
        if outbox is None:
            instant.submit_now(job.id, task.run)
        else:
            outbox.hold(job, task)
        return job

    async def start_many(
        self, task: Task, batch: Sequence[bytes], options: Options = NO_OPTIONS
    ) -> tuple[list[Job], bool]:
        """Open one job for each of the arguments, all or none; see `start`."""
        if self.draining:
            self._refuse()
        if not batch:
            return [], True
        if task.control.debounce is not None or (task.control.unique and options.key is not None):
            message = f"{task.name!r} starts one job at a time: give an object, not an array"
            raise InvalidRequest(message)
        jobs = [self._new(task, args, options, None, None) for args in batch]
        return await self._open(task, jobs, options.request_key(b"[]", batch))

    async def _open(
        self, task: Task, jobs: list[Job], key: RequestKey | None, connection: Any = None
    ) -> tuple[list[Job], bool]:
        """Open jobs with a store that others may read meanwhile: until their answer is on its way,
        nobody may find them in the queue and begin."""
        if connection is not None:
            most = task.limits.max_waiting
            return await self.ledger.open_within(connection, jobs, key, most)
        held = self.backlog.held
        ids = {job.id for job in jobs}
        held.update(ids)
        fresh: list[Job] = []
        try:
            kept, new = await self.ledger.open(jobs, key, task.limits.max_waiting)
            if new:
                fresh = [job for job in kept if job.id in ids]
        finally:
            held.difference_update(ids - {job.id for job in fresh})
        for job in dict.fromkeys(fresh):
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

    def _new(
        self, task: Task, args: bytes, options: Options, retry_of: str | None, parent: str | None
    ) -> Job:
        now = self.ledger.clock()
        control = task.control
        run_at = options.run_at if options.delay is None else now + options.delay
        if control.debounce is not None:
            run_at = max(run_at or 0.0, now + control.debounce)
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
            parent=parent,
            priority=task.limits.priority if options.priority is None else options.priority,
            turn=control.turn_of(args),
            unique=control.unique_of(args),
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
            await self.backlog.submit(job, task)
        else:
            outbox.hold(job, task)

    async def get(self, job_id: str) -> Job:
        """The newest version of a job.

        Raises:
            NoSuchJob: also when its record has expired.
        """
        job = await self.store.get(job_id)
        if job is None:
            raise NoSuchJob(f"There is no job {job_id[:100]!r}, or its record has expired")
        return job

    async def page(self, query: Query) -> Page:
        """One page of jobs, newest first."""
        return await self.store.page(query)

    async def wait(self, job_id: str, seconds: float | None, *, lasts: bool = False) -> Job:
        """The job when it is over, or as it is after so many seconds (None: however long).

        Answers at once when the service is shutting down; one that ``lasts``, at the end of that.
        """
        outbox = OUTBOX.get()
        if outbox is not None:
            await outbox.flush()
        if seconds == 0:
            return await self.get(job_id)
        with self.hub.watch(job_id, lasts) as watcher:  # Subscribe first: no ending is missed.
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
                    await self.backlog.forget(job_id)
                    if withdrawn.history:  # An earlier attempt may have started others.
                        await self.cancel_children(withdrawn)
                    return withdrawn
            await self.ledger.note(job_id, cancel_requested=True)
            handle = self.registry.get(job_id)
            job = await self.get(job_id)
            if stays or job.status not in WAITING:
                break  # Otherwise its attempt has ended meanwhile, and another would follow.
        if handle is not None and not job.over:
            handle.ask("cancel")
        if (handle is not None or self.store.shared) and not job.over:
            # Where it runs elsewhere that process hears of the request.
            await self.cancel_children(job)
        return job

    async def cancel_children(self, job: Job) -> None:
        """The jobs that it has started, and theirs."""
        if not self.may_start(job):
            return
        query = Query(parent=job.id, statuses=UNFINISHED, limit=100)
        while True:
            page = await self.store.page(query)
            await asyncio.gather(*(self.cancel(child.id) for child in page.jobs))
            if page.next is None:
                return
            query = msgspec.structs.replace(query, before=page.next)

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
            raise NotFinished(message, retry_after=self.outlook.retry_after(job))
        task = self.catalog.find(job.task)
        args = task.arguments.write({**json.loads(job.args), **(changes or {})})
        new, _ = await self.start(task, args, retry_of=job.id)
        return new

    def may_start(self, job: Job) -> bool:
        """Whether the job may start others."""
        task = self.catalog.get(job.task)
        return task is not None and task.is_async and task.context_parameter is not None

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
        return NotFinished(
            f"Job {job.id} is {job.status}", retry_after=self.outlook.retry_after(job)
        )
