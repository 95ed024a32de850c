"""The client for threads, scripts and notebooks.

Nothing may be decided here: each method names a call or a flow and the wire does it. What
`asynchronous` has is the same, to be awaited.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, cast, overload

import httpx2

from quart_app.client import asked, calls, flows, notebook, wires
from quart_app.client import documents as shapes
from quart_app.client.asked import Filters, OptionFields, P, Startable
from quart_app.client.errors import ClientError
from quart_app.client.streams import Follower
from quart_app.domain.errors import without_password
from quart_app.domain.options import NO_OPTIONS, Duration, Options
from quart_app.domain.status import Status

R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)

GLANCE = 2.0
"""Seconds that a notebook waits for what it shows of a handle."""


class Link:
    """The way to the service, which a client and all its handles share.

    Args:
        http: the library's client.
        base: the URL of the service.
        pace: how patient it is.
    """

    def __init__(self, http: httpx2.Client, base: str, pace: flows.Pace) -> None:
        self.http = http
        self.base = base
        self.pace = pace

    def ask(self, call: calls.Call[T], seconds: float | None = None) -> T:
        """Send a request and read the answer."""
        return self.run(flows.ask(call, self.pace, seconds))

    def run(self, flow: flows.Flow[T]) -> T:
        """Do a flow."""
        return wires.Wire(self.http, self.base).run(flow)

    def each(self, flow: flows.Flow[None]) -> Iterator[Any]:
        """Do a flow that gives many things."""
        return wires.Wire(self.http, self.base).each(flow)


class Starter:
    """What can start tasks: a client, or one with options.

    Args:
        link: the way to the service.
        options: how jobs are started.
    """

    def __init__(self, link: Link, options: Options) -> None:
        self._link = link
        self._options = options

    @overload
    def start(self, task: str, /, **arguments: Any) -> JobHandle[Any]: ...
    @overload
    def start(
        self, task: Startable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]: ...
    def start(self, task: Any, /, *args: Any, **kwargs: Any) -> JobHandle[Any]:
        """Start a task; returns at once. It is started once, however often it has to be sent.

        Args:
            task: what ``@task`` made, then arguments and result have its types; or its name.
            args, kwargs: the task's arguments; by their names where the task is a name.

        Raises:
            NoSuchTask, InvalidArguments, KeyReused: nothing was started.
            QueueFull, Draining, TooManyRequests: nothing was started, in all of ``timeout``.
            Unreachable: perhaps it was; with a ``key`` of your own another start will tell.
        """
        body = asked.arguments_of(task, args, kwargs)
        call = calls.start(asked.name_of(task), body, asked.with_key(self._options))
        return JobHandle(self._link, task, self._link.ask(call))

    @overload
    def start_many(
        self, task: str, batch: Iterable[Mapping[str, Any]], /
    ) -> list[JobHandle[Any]]: ...  # fmt: skip
    @overload
    def start_many(
        self, task: Startable[..., R], batch: Iterable[Mapping[str, Any]], /
    ) -> list[JobHandle[R]]: ...
    def start_many(self, task: Any, batch: Iterable[Mapping[str, Any]], /) -> list[JobHandle[Any]]:
        """Start one job for each of these arguments: all of them, or none.

        Raises:
            InvalidArguments: its message names the first that does not fit.
            BodyTooLarge: they are too many for one request.
        """
        bodies = [asked.arguments_of(task, (), each) for each in batch]
        call = calls.start_many(asked.name_of(task), bodies, asked.with_key(self._options))
        return [JobHandle(self._link, task, job) for job in self._link.ask(call).jobs]


class Client(Starter):
    """A service's tasks and jobs, for threads, scripts and notebooks. It may be shared by threads.

    Args:
        url: of the service, with the prefix under which it is mounted; from QUART_APP_URL unless
            given, else http://127.0.0.1:8000.
        headers: sent with each request.
        auth: as httpx2 takes it: a pair of user and password, or an ``httpx2.Auth``.
        timeout: seconds for all tries of a request together.
        verify: whether, or by which context, the service's certificate is checked.
        transport: an ``httpx2`` transport instead of the network, for tests.

    >>> def service(request):
    ...     job = {"id": "7", "task": "report", "status": "succeeded", "result": 30}
    ...     is_result = request.url.path.endswith("/result")
    ...     return httpx2.Response(200, json=30 if is_result else job)
    >>> with Client(transport=httpx2.MockTransport(service)) as client:
    ...     handle = client.start("report", month=3)
    ...     handle.status(), handle.result(timeout=5)
    ('succeeded', 30)
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        auth: Any = None,
        timeout: float = flows.TIMEOUT,
        verify: ssl.SSLContext | bool = True,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        base = wires.base_of(url)
        http = httpx2.Client(transport=transport, **wires.settings(headers, auth, verify, base))
        super().__init__(Link(http, base, flows.Pace(timeout=timeout)), NO_OPTIONS)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {without_password(self._link.base)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._link.http.close()

    def options(self, **options: Unpack[OptionFields]) -> Starter:
        """The same client with options for a start: ``client.options(key="march", delay=60)``.

        Args:
            options: ``key``: a second start with the same key and arguments gives the same job;
                ``delay`` or ``run_at``: when it begins; ``expires``: by when it must have begun;
                ``priority``: -100 to 100.

        Raises:
            InvalidRequest: naming the option that cannot be.
        """
        return Starter(self._link, asked.read_options(options))

    @overload
    def job(self, job_id: str) -> JobHandle[Any]: ...
    @overload
    def job(self, job_id: str, task: Startable[..., R]) -> JobHandle[R]: ...
    def job(self, job_id: str, task: Any = None) -> JobHandle[Any]:
        """The handle of a job that was started elsewhere; asks nothing yet.

        Args:
            task: for the type of its result.
        """
        return JobHandle(self._link, task, job_id)

    def jobs(self, **filters: Unpack[Filters]) -> Iterator[shapes.JobDocument]:
        """Every job that passes, the newest first, page after page."""
        return self._link.each(flows.all_jobs(self._link.pace, filters))

    def count(self, **filters: Unpack[Filters]) -> shapes.Counts:
        """How many jobs pass, by status."""
        return self._link.ask(calls.count(**filters))

    def cancel(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        dry_run: bool = False,
        **filters: Unpack[Filters],
    ) -> shapes.Canceled:
        """Cancel the jobs with these ids, or all that pass and are not over.

        Args:
            dry_run: only count those that pass.
        """
        return self._link.ask(calls.cancel_many(calls.what(ids, dry_run, filters)))

    def retry(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        dry_run: bool = False,
        **filters: Unpack[Filters],
    ) -> shapes.Retried:
        """Run jobs that are over again, each as a new one; as `cancel`."""
        return self._link.ask(calls.retry_many(calls.what(ids, dry_run, filters)))

    def tasks(self) -> list[shapes.TaskDocument]:
        """The catalog."""
        return self._link.ask(calls.list_tasks()).tasks

    def task(self, name: Any) -> shapes.TaskDocument:
        """One task of the catalog."""
        return self._link.ask(calls.get_task(asked.name_of(name)))

    def pause(self, name: Any) -> shapes.TaskDocument:
        """Let no job of a task begin; what runs goes on, and starts are accepted."""
        return self._link.ask(calls.pause(asked.name_of(name)))

    def resume(self, name: Any) -> shapes.TaskDocument:
        """Let the jobs of a paused task begin again."""
        return self._link.ask(calls.resume(asked.name_of(name)))

    def schedules(self) -> list[shapes.Schedule]:
        """The tasks that start by themselves, and when."""
        return self._link.ask(calls.list_schedules()).schedules

    def run_schedule(self, name: Any) -> JobHandle[Any]:
        """Start a task now, as its schedule would."""
        job = self._link.ask(calls.run_schedule(asked.name_of(name)))
        return JobHandle(self._link, name, job)

    def stats(self) -> shapes.Stats:
        """How the service does."""
        return self._link.ask(calls.get_stats())

    def errors(
        self, *, task: Any = None, since: str | Duration | None = None
    ) -> shapes.ErrorReport:
        """The errors of failed jobs, each kind once, the newest first."""
        name = None if task is None else asked.name_of(task)
        return self._link.ask(calls.list_errors(name, since))

    def workers(self) -> list[shapes.WorkerDocument]:
        """The processes that work with the jobs and are alive."""
        return self._link.ask(calls.list_workers()).workers

    def events(self) -> Iterator[shapes.JobDocument]:
        """Every version of every job from now on, without end; over broken connections, too."""
        return self._link.each(Follower(None, self._link.pace).flow())


class JobHandle(Generic[R_co]):
    """A started job. In a notebook it shows its bar.

    Attributes:
        id: the job's id.
    """

    def __init__(self, link: Link, task: Any, job: shapes.JobDocument | str) -> None:
        self._link = link
        self._task = task
        self._job = None if isinstance(job, str) else job
        self.id = job if isinstance(job, str) else job.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def document(self) -> shapes.JobDocument:
        """The job as it is now.

        Raises:
            NoSuchJob: its record has expired.
        """
        self._job = self._link.ask(calls.get_job(self.id))
        return self._job

    def status(self) -> Status:
        """The job's status as it is now."""
        return self.document().status

    def result(self, timeout: float | None = None) -> R_co:
        """Wait for the job and return what its function returned, in its type where the handle
        knows the task.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.

        Raises:
            TimeoutError: it is not over yet; it goes on.
            JobFailed, JobCanceled: there is no result.
        """
        payload = self._link.run(flows.wait_result(self.id, self._link.pace, timeout))
        return cast(R_co, asked.read_result(self._task, payload))

    def cancel(self) -> Status:
        """Ask for the job's end: ``canceled`` at once if it waits, else as `status` will tell."""
        self._job = self._link.ask(calls.cancel(self.id))
        return self._job.status

    def retry(self, **changes: Any) -> JobHandle[R_co]:
        """Run it again, as a new job, with some arguments changed.

        Raises:
            NotFinished: it is not over yet.
        """
        call = calls.retry(self.id, asked.arguments_of("retry", (), changes))
        return JobHandle(self._link, self._task, self._link.ask(call))

    def events(self) -> Iterator[shapes.JobDocument | shapes.LogLine]:
        """Each version of the job and each line of its log as it comes, until it is over: nothing
        is missed and nothing told twice, over broken connections and restarts of the service."""
        return self._link.each(Follower(self.id, self._link.pace).flow())

    def log(self, *, follow: bool = False) -> Iterator[shapes.LogLine]:
        """The lines of its log.

        Args:
            follow: also those that are still to come, until it is over.
        """
        if not follow:
            lines = self._link.ask(calls.get_log(self.id))
            return iter(lines)
        return (each for each in self.events() if isinstance(each, shapes.LogLine))

    def timeline(self) -> list[shapes.TimelineEntry]:
        """What happened to it, the oldest first."""
        return self._link.ask(calls.get_timeline(self.id)).timeline

    def bar(self) -> Status:
        """Show its progress until it is over, in a notebook or a terminal; its last status."""
        shown = notebook.display()
        try:
            for each in self.events():
                if isinstance(each, shapes.JobDocument):
                    self._job = each
                    shown.show(each)
        finally:
            shown.end()
        return self.status() if self._job is None else self._job.status

    def _repr_html_(self) -> str:
        # What was last known is better than an error where a handle is looked at.
        with contextlib.suppress(ClientError):
            self._job = self._link.ask(calls.get_job(self.id), GLANCE)
        return notebook.html_of(self.id, self._job)
