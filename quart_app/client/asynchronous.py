"""The client for asyncio: what `sync` has, to be awaited.

Nothing may be decided here: each method names a call or a flow and the wire does it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, cast, overload

import httpx2

from quart_app.client import asked, calls, flows, notebook, wires
from quart_app.client import documents as shapes
from quart_app.client.asked import Filters, OptionFields, P, Startable
from quart_app.client.streams import Follower
from quart_app.domain.errors import without_password
from quart_app.domain.options import NO_OPTIONS, Duration, Options
from quart_app.domain.status import Status

R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class AsyncLink:
    """The way to the service, which a client and all its handles share; as `sync.Link`."""

    def __init__(self, http: httpx2.AsyncClient, base: str, pace: flows.Pace) -> None:
        self.http = http
        self.base = base
        self.pace = pace

    async def ask(self, call: calls.Call[T]) -> T:
        """Send a request and read the answer."""
        return await self.run(flows.ask(call, self.pace))

    async def run(self, flow: flows.Flow[T]) -> T:
        """Do a flow."""
        return await wires.AsyncWire(self.http, self.base).run(flow)

    def each(self, flow: flows.Flow[None]) -> AsyncGenerator[Any]:
        """Do a flow that gives many things."""
        return wires.AsyncWire(self.http, self.base).each(flow)


class AsyncStarter:
    """What can start tasks: a client, or one with options; as `sync.Starter`."""

    def __init__(self, link: AsyncLink, options: Options) -> None:
        self._link = link
        self._options = options

    @overload
    async def start(self, task: str, /, **arguments: Any) -> AsyncJobHandle[Any]: ...
    @overload
    async def start(
        self, task: Startable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncJobHandle[R]: ...
    async def start(self, task: Any, /, *args: Any, **kwargs: Any) -> AsyncJobHandle[Any]:
        """Start a task; see `Client.start`. Canceled in the middle, it may have been started."""
        body = asked.arguments_of(task, args, kwargs)
        call = calls.start(asked.name_of(task), body, asked.with_key(self._options))
        return AsyncJobHandle(self._link, task, await self._link.ask(call))

    @overload
    async def start_many(
        self, task: str, batch: Iterable[Mapping[str, Any]], /
    ) -> list[AsyncJobHandle[Any]]: ...
    @overload
    async def start_many(
        self, task: Startable[..., R], batch: Iterable[Mapping[str, Any]], /
    ) -> list[AsyncJobHandle[R]]: ...
    async def start_many(
        self, task: Any, batch: Iterable[Mapping[str, Any]], /
    ) -> list[AsyncJobHandle[Any]]:
        """Start one job for each of these arguments; see `Client.start_many`."""
        bodies = [asked.arguments_of(task, (), each) for each in batch]
        call = calls.start_many(asked.name_of(task), bodies, asked.with_key(self._options))
        return [AsyncJobHandle(self._link, task, job) for job in (await self._link.ask(call)).jobs]


class AsyncClient(AsyncStarter):
    """A service's tasks and jobs, for asyncio. The arguments are those of `Client`.

    >>> import asyncio
    >>> def service(request):
    ...     return httpx2.Response(202, json={"id": "7", "task": "report", "status": "queued"})
    >>> async def main():
    ...     async with AsyncClient(transport=httpx2.MockTransport(service)) as client:
    ...         handle = await client.options(delay=60).start("report", month=3)
    ...         return await handle.status()
    >>> asyncio.run(main())
    'queued'
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        auth: Any = None,
        timeout: float = flows.TIMEOUT,
        verify: ssl.SSLContext | bool = True,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        base = wires.base_of(url)
        http = httpx2.AsyncClient(
            transport=transport, **wires.settings(headers, auth, verify, base)
        )
        super().__init__(AsyncLink(http, base, flows.Pace(timeout=timeout)), NO_OPTIONS)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {without_password(self._link.base)}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._link.http.aclose()

    def options(self, **options: Unpack[OptionFields]) -> AsyncStarter:
        """The same client with options for a start; see `Client.options`."""
        return AsyncStarter(self._link, asked.read_options(options))

    @overload
    def job(self, job_id: str) -> AsyncJobHandle[Any]: ...
    @overload
    def job(self, job_id: str, task: Startable[..., R]) -> AsyncJobHandle[R]: ...
    def job(self, job_id: str, task: Any = None) -> AsyncJobHandle[Any]:
        """The handle of a job that was started elsewhere; see `Client.job`."""
        return AsyncJobHandle(self._link, task, job_id)

    def jobs(self, **filters: Unpack[Filters]) -> AsyncGenerator[shapes.JobDocument]:
        """Every job that passes, the newest first, page after page."""
        return self._link.each(flows.all_jobs(self._link.pace, filters))

    async def count(self, **filters: Unpack[Filters]) -> shapes.Counts:
        """How many jobs pass, by status."""
        return await self._link.ask(calls.count(**filters))

    async def cancel(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        dry_run: bool = False,
        **filters: Unpack[Filters],
    ) -> shapes.Canceled:
        """Cancel the jobs with these ids, or all that pass; see `Client.cancel`."""
        return await self._link.ask(calls.cancel_many(calls.what(ids, dry_run, filters)))

    async def retry(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        dry_run: bool = False,
        **filters: Unpack[Filters],
    ) -> shapes.Retried:
        """Run jobs that are over again, each as a new one; see `Client.retry`."""
        return await self._link.ask(calls.retry_many(calls.what(ids, dry_run, filters)))

    async def tasks(self) -> list[shapes.TaskDocument]:
        """The catalog."""
        return (await self._link.ask(calls.list_tasks())).tasks

    async def task(self, name: Any) -> shapes.TaskDocument:
        """One task of the catalog."""
        return await self._link.ask(calls.get_task(asked.name_of(name)))

    async def pause(self, name: Any) -> shapes.TaskDocument:
        """Let no job of a task begin; see `Client.pause`."""
        return await self._link.ask(calls.pause(asked.name_of(name)))

    async def resume(self, name: Any) -> shapes.TaskDocument:
        """Let the jobs of a paused task begin again."""
        return await self._link.ask(calls.resume(asked.name_of(name)))

    async def schedules(self) -> list[shapes.Schedule]:
        """The tasks that start by themselves, and when."""
        return (await self._link.ask(calls.list_schedules())).schedules

    async def run_schedule(self, name: Any) -> AsyncJobHandle[Any]:
        """Start a task now, as its schedule would."""
        job = await self._link.ask(calls.run_schedule(asked.name_of(name)))
        return AsyncJobHandle(self._link, name, job)

    async def stats(self) -> shapes.Stats:
        """How the service does."""
        return await self._link.ask(calls.get_stats())

    async def errors(
        self, *, task: Any = None, since: str | Duration | None = None
    ) -> shapes.ErrorReport:
        """The errors of failed jobs, each kind once, the newest first."""
        name = None if task is None else asked.name_of(task)
        return await self._link.ask(calls.list_errors(name, since))

    async def workers(self) -> list[shapes.WorkerDocument]:
        """The processes that work with the jobs and are alive."""
        return (await self._link.ask(calls.list_workers())).workers

    def events(self) -> AsyncGenerator[shapes.JobDocument]:
        """Every version of every job from now on, without end; see `Client.events`."""
        return self._link.each(Follower(None, self._link.pace).flow())


class AsyncJobHandle(Generic[R_co]):
    """A started job; as `JobHandle`. In a notebook it shows the bar that was last known.

    Attributes:
        id: the job's id.
    """

    def __init__(self, link: AsyncLink, task: Any, job: shapes.JobDocument | str) -> None:
        self._link = link
        self._task = task
        self._job = None if isinstance(job, str) else job
        self.id = job if isinstance(job, str) else job.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    async def document(self) -> shapes.JobDocument:
        """The job as it is now.

        Raises:
            NoSuchJob: its record has expired.
        """
        self._job = await self._link.ask(calls.get_job(self.id))
        return self._job

    async def status(self) -> Status:
        """The job's status as it is now."""
        return (await self.document()).status

    async def result(self, timeout: float | None = None) -> R_co:
        """Wait for the job and return what its function returned; see `JobHandle.result`.

        Raises:
            TimeoutError: it is not over yet; it goes on.
            JobFailed, JobCanceled: there is no result.
        """
        payload = await self._link.run(flows.wait_result(self.id, self._link.pace, timeout))
        return cast(R_co, asked.read_result(self._task, payload))

    async def cancel(self) -> Status:
        """Ask for the job's end; see `JobHandle.cancel`."""
        self._job = await self._link.ask(calls.cancel(self.id))
        return self._job.status

    async def retry(self, **changes: Any) -> AsyncJobHandle[R_co]:
        """Run it again, as a new job, with some arguments changed."""
        call = calls.retry(self.id, asked.arguments_of("retry", (), changes))
        return AsyncJobHandle(self._link, self._task, await self._link.ask(call))

    def events(self) -> AsyncGenerator[shapes.JobDocument | shapes.LogLine]:
        """Each version and each line of its log as it comes; see `JobHandle.events`."""
        return self._link.each(Follower(self.id, self._link.pace).flow())

    async def log(self, *, follow: bool = False) -> AsyncGenerator[shapes.LogLine]:
        """The lines of its log; see `JobHandle.log`."""
        if not follow:
            for line in await self._link.ask(calls.get_log(self.id)):
                yield line
            return
        async for each in self.events():
            if isinstance(each, shapes.LogLine):
                yield each

    async def timeline(self) -> list[shapes.TimelineEntry]:
        """What happened to it, the oldest first."""
        return (await self._link.ask(calls.get_timeline(self.id))).timeline

    async def bar(self) -> Status:
        """Show its progress until it is over; see `JobHandle.bar`."""
        shown = notebook.display()
        try:
            async for each in self.events():
                if isinstance(each, shapes.JobDocument):
                    self._job = each
                    shown.show(each)
        finally:
            shown.end()
        return await self.status() if self._job is None else self._job.status

    def _repr_html_(self) -> str:
        return notebook.html_of(self.id, self._job)
