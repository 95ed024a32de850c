"""The Python way to start a task: ``await report.start(month=3)``.

Nothing may live here that HTTP could not do as well: it is the same service, called by name.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, Unpack, overload

from quart_app.core.children import Children, until_stopped
from quart_app.core.context import Context
from quart_app.core.handles import JobHandle
from quart_app.core.outbox import OUTBOX
from quart_app.core.service import SERVICE, Service
from quart_app.domain.arguments import pointer
from quart_app.domain.control import Control
from quart_app.domain.errors import Draining, InvalidArguments, NotServing
from quart_app.domain.options import NO_OPTIONS, Duration, Moment, Options, make_options
from quart_app.domain.retries import Retry
from quart_app.domain.tasks import Lane, Task

P = ParamSpec("P")
R = TypeVar("R")


class StartableTask(Task, Generic[P, R]):
    """A `Task` that can be called by name or started as a job; what ``@task`` makes."""

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, JobHandle[R]]:
        """Open a job in the service of the running app. Returns at once.

        Inside a request the job begins when the answer has left, when somebody waits for it, or
        after a quarter of a second.

        Raises:
            InvalidArguments: they do not fit the function's parameters.
            NotServing: no app on this event loop offers the task.
            Draining, QueueFull, StoreUnavailable: nothing was started. A job is not told of
                Draining before it has been asked to stop.
        """
        return self.start_with(NO_OPTIONS, args, kwargs)  # One coroutine, not two.

    def options(
        self,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        run_at: Moment | None = None,
        expires: Duration | dt.datetime | None = None,
        priority: int | None = None,
        connection: Any = None,
    ) -> Optioned[P, R]:
        """The same task with options for the next start; see `make_options` for what each may be.

        ``await report.options(key="march", delay=60).start(month=3)``

        Args:
            key: a second start with the same key and arguments gives the same job.
            delay: the job begins so much later; or
            run_at: it begins then.
            expires: by when it must have begun; otherwise it fails, reason ``expired``.
            priority: -100 to 100, instead of the task's own; a higher one begins first.
            connection: an asyncpg connection in a transaction, to the database in which the jobs
                are kept: the job is started when that is committed, and only then.

        Raises:
            InvalidRequest: naming the option that cannot be.
        """
        options = make_options(
            key=key, delay=delay, run_at=run_at, expires=expires, priority=priority
        )
        return Optioned(self, options, connection)

    async def start_with(
        self,
        options: Options,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        connection: Any = None,
    ) -> JobHandle[R]:
        """`start` with options; what both ways to start call."""
        service = find_service(self)
        values = self._by_name(args, kwargs) if args else kwargs
        payload = self.arguments.write(values)
        job = service.start_now(self, payload) if options is NO_OPTIONS else None
        if job is None:
            try:
                job, _ = await service.start(self, payload, options, connection=connection)
            except Draining:
                await until_stopped(service)
                raise
        if (outbox := OUTBOX.get()) is not None and not outbox.closed:
            outbox.hold_briefly()
        return JobHandle(service, self, job.id)

    async def start_child(
        self, children: Children, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> JobHandle[R]:
        """`start` as a child of the job whose children these are; what `Context.start` calls."""
        values = self._by_name(args, kwargs) if args else kwargs
        service = find_service(self)
        return JobHandle(service, self, await children.start(self, self.arguments.write(values)))

    def _by_name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        names = list(self.arguments.parameters)
        if len(args) > len(names):
            detail = f"{self.name!r} takes {len(names)} arguments, {len(args)} were given"
            raise InvalidArguments(detail, [{"pointer": "#", "detail": detail}])
        by_place = dict(zip(names, args, strict=False))
        twice = [
            {"pointer": pointer(name), "detail": "This argument is given twice: by place and name"}
            for name in by_place
            if name in kwargs
        ]
        if twice:
            detail = "; ".join(f"{each['pointer']}: {each['detail']}" for each in twice)
            raise InvalidArguments(detail, twice)
        return {**by_place, **kwargs}


class Optioned(Generic[P, R]):
    """A task and how its next job is started; what `StartableTask.options` makes."""

    __slots__ = ("_connection", "_options", "_task")

    def __init__(self, task: StartableTask[P, R], options: Options, connection: Any) -> None:
        self._task = task
        self._options = options
        self._connection = connection

    async def start(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """As `StartableTask.start`, and:

        Raises:
            KeyReused: the key came before with other arguments or options.
        """
        return await self._task.start_with(self._options, args, kwargs, self._connection)


_serving: list[tuple[asyncio.AbstractEventLoop, int, Service]] = []
"""The services that run in this process, nearly always one; each with its event loop, and the
thread in which that runs."""


ELSEWHERE = (
    "the app that offers the task {!r} runs on another event loop: start it in an `async def` "
    "task, or there, with asyncio.run_coroutine_threadsafe"
)


def serve(service: Service) -> None:
    """Let tasks find a service that now runs on this event loop."""
    service.thread = threading.get_ident()
    _serving.append((asyncio.get_running_loop(), service.thread, service))


def unserve(service: Service) -> None:
    """The opposite of `serve`."""
    _serving[:] = [each for each in _serving if each[2] is not service]


def find_service(task: Task) -> Service:
    """The service that a start of this task means: this request's or job's, else the only one.

    Raises:
        NotServing: there is none, or more than one.
    """
    current = SERVICE.get()
    if current is not None and current.catalog.by_name.get(task.name) is task:
        # A thread has the context of its job, and may run an event loop of its own.
        if current.thread is None or current.thread == threading.get_ident():
            return current
        raise NotServing(ELSEWHERE.format(task.name))
    if len(_serving) == 1:  # As nearly always.
        # Which loop runs here is not asked for: before Python 3.12 that is a system call.
        its_loop, thread, only = _serving[0]
        here = threading.get_ident() == thread and its_loop.is_running()
        if here and only.catalog.by_name.get(task.name) is task:
            return only
    loop = asyncio.get_running_loop()
    offering = [service for its_loop, _, service in _serving if its_loop is loop]
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
        **control: Unpack[Control],
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
        **control: Unpack[Control],
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
                **control,
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
