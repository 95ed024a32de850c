"""The Python way to start a task: ``await report.start(month=3)``, and the handle that it returns.

Nothing may live here that HTTP could not do as well: it is the same service, called by name.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from quart_app.core.context import Context
from quart_app.core.outbox import OUTBOX
from quart_app.core.service import SERVICE, Service
from quart_app.domain.errors import InvalidArguments, NotServing
from quart_app.domain.jobs import Job
from quart_app.domain.options import NO_OPTIONS, Duration, Moment, Options, make_options
from quart_app.domain.retries import Retry
from quart_app.domain.status import Status
from quart_app.domain.tasks import Lane, Task

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class JobHandle(Generic[R_co]):
    """A started job, as its starter holds it.

    Attributes:
        id: the job's id, as in HTTP.
    """

    __slots__ = ("_service", "_task", "id")

    def __init__(self, service: Service, task: Task, job_id: str) -> None:
        self._service = service
        self._task = task
        self.id = job_id

    def __repr__(self) -> str:
        return f"<JobHandle {self._task.name} {self.id}>"

    async def job(self) -> Job:
        """The job's whole record.

        Raises:
            NoSuchJob: its record has expired.
        """
        return await self._service.get(self.id)

    async def status(self) -> Status:
        """The job's status at this moment."""
        return (await self.job()).status

    async def result(self, timeout: float | None = None) -> R_co:
        """Wait for the job and return what its function returned.

        Canceling the caller does not cancel the job.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.

        Raises:
            TimeoutError: it is not over yet; it goes on.
            JobFailed: it failed, and why.
            JobCanceled: it was canceled.
            NotFinished: the service is shutting down, and nobody can wait any more.
        """
        job = await self._service.wait(self.id, timeout)
        if not job.over and not self._service.draining:
            raise TimeoutError(f"job {self.id} is still {job.status} after {timeout} seconds")
        return cast(R_co, self._task.read_result(self._service.result(job)))

    async def cancel(self) -> Status:
        """Ask for the job's end: ``canceled`` at once if it waits, else as `status` will tell."""
        return (await self._service.cancel(self.id)).status


class StartableTask(Task, Generic[P, R]):
    """A `Task` that can be called by name or started as a job; what ``@task`` makes."""

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, JobHandle[R]]:
        """Open a job in the service of the running app. Returns at once.

        Inside a request the job begins when the answer has left, when somebody waits for it, or
        after a quarter of a second.

        Raises:
            InvalidArguments: they do not fit the function's parameters.
            NotServing: no app on this event loop offers the task.
            Draining, QueueFull, StoreUnavailable: nothing was started.
        """
        return self.start_with(NO_OPTIONS, args, kwargs)  # One coroutine, not two.

    def options(
        self,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        run_at: Moment | None = None,
        expires: Duration | dt.datetime | None = None,
    ) -> Optioned[P, R]:
        """The same task with options for the next start; see `make_options` for what each may be.

        ``await report.options(key="march", delay=60).start(month=3)``

        Args:
            key: a second start with the same key and arguments gives the same job.
            delay: the job begins so much later; or
            run_at: it begins then.
            expires: by when it must have begun; otherwise it fails, reason ``expired``.

        Raises:
            InvalidRequest: naming the option that cannot be.
        """
        options = make_options(key=key, delay=delay, run_at=run_at, expires=expires)
        return Optioned(self, options)

    async def start_with(
        self, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> JobHandle[R]:
        """`start` with options; what both ways to start call."""
        service = find_service(self)
        values = self._by_name(args, kwargs) if args else kwargs
        payload = self.arguments.write(values)
        job, _ = await service.start(self, payload, options)
        if (outbox := OUTBOX.get()) is not None and not outbox.closed:
            outbox.hold_briefly()
        return JobHandle(service, self, job.id)

    def _by_name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        names = list(self.arguments.parameters)
        if len(args) > len(names):
            detail = f"{self.name!r} takes {len(names)} arguments, {len(args)} were given"
            raise InvalidArguments(detail, [{"pointer": "#", "detail": detail}])
        return {**dict(zip(names, args, strict=False)), **kwargs}


class Optioned(Generic[P, R]):
    """A task and how its next job is started; what `StartableTask.options` makes."""

    __slots__ = ("_options", "_task")

    def __init__(self, task: StartableTask[P, R], options: Options) -> None:
        self._task = task
        self._options = options

    async def start(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """As `StartableTask.start`, and:

        Raises:
            KeyReused: the key came before with other arguments or options.
        """
        return await self._task.start_with(self._options, args, kwargs)


_serving: list[tuple[asyncio.AbstractEventLoop, Service]] = []
"""The services that run in this process; nearly always one."""


def serve(service: Service) -> None:
    """Let tasks find a service that now runs on this event loop."""
    _serving.append((asyncio.get_running_loop(), service))


def unserve(service: Service) -> None:
    """The opposite of `serve`."""
    _serving[:] = [pair for pair in _serving if pair[1] is not service]


def find_service(task: Task) -> Service:
    """The service that a start of this task means: this request's or job's, else the only one.

    Raises:
        NotServing: there is none, or more than one.
    """
    current = SERVICE.get()
    if current is not None and current.catalog.by_name.get(task.name) is task:
        return current
    loop = asyncio.get_running_loop()
    if len(_serving) == 1:  # As nearly always.
        its_loop, only = _serving[0]
        if its_loop is loop and only.catalog.by_name.get(task.name) is task:
            return only
    offering = [service for its_loop, service in _serving if its_loop is loop]
    if len(offering) > 1 or (offering and offering[0].catalog.by_name.get(task.name) is not task):
        offering = [each for each in offering if each.catalog.by_name.get(task.name) is task]
    if len(offering) == 1:
        return offering[0]
    if offering:
        message = f"several apps on this loop offer {task.name!r}: start it inside a request of one"
        raise NotServing(message)
    message = (
        f"no running app offers the task {task.name!r}: name its module in QUART_APP_TASKS, or "
        "decorate it with @jobs.task, and start it while the app is serving"
    )
    raise NotServing(message)


class Decorator(Protocol):
    """What turns a function into a task: ``async def`` or ``def``, with or without the context."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Awaitable[R]], /
    ) -> StartableTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> StartableTask[P, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> StartableTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> StartableTask[P, R]: ...


class TaskDecorator:
    """The type of ``@task`` and ``@jobs.task``, both bare and with options.

    Args:
        register: what else happens to a new task (``@jobs.task`` puts it into its catalog).
    """

    def __init__(self, register: Callable[[Task], object] = lambda task: None) -> None:
        self._register = register

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Awaitable[R]], /
    ) -> StartableTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> StartableTask[P, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> StartableTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> StartableTask[P, R]: ...
    @overload
    def __call__(
        self,
        *,
        name: str | None = None,
        timeout: float | None = None,
        quick: float = 0.0,
        run: Lane | None = None,
        tags: Iterable[str] = (),
        max_attempts: int = 1,
        retry: Retry | None = None,
    ) -> Decorator: ...

    # mypy does not see that the positional parameter's default covers the last overload.
    def __call__(  # type: ignore[misc]
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        timeout: float | None = None,
        quick: float = 0.0,
        run: Lane | None = None,
        tags: Iterable[str] = (),
        max_attempts: int = 1,
        retry: Retry | None = None,
    ) -> Any:
        """Make a function a task; see `quart_app.domain.tasks.Task` for the options."""

        def decorate(function: Callable[..., Any]) -> StartableTask[..., Any]:
            new: StartableTask[..., Any] = StartableTask(
                function,
                name=name,
                timeout=timeout,
                quick=quick,
                run=run,
                tags=tags,
                max_attempts=max_attempts,
                retry=retry,
            )
            self._register(new)
            return new

        return decorate if function is None else decorate(function)


task = TaskDecorator()
"""Make a function a task that an app can offer.

>>> @task(timeout=60)
... async def report(month: int) -> str:
...     return f"report of month {month}"
>>> report.name, report.timeout
('report', 60)
"""
