"""What a running function is given of its job.

Nothing may live here that reaches the store or the engine: a context reads a flag, and hands its
reports and its steps' results to whoever made it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sized,
)
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

from quart_app.core.steps import Steps, read
from quart_app.core.threads import Threads
from quart_app.domain.jobs import Progress
from quart_app.domain.texts import as_text

if TYPE_CHECKING:  # A process imports this module too, and none of the service.
    from quart_app.core.children import Children
    from quart_app.core.handles import JobHandle

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

TURN = 0.01
"""Seconds after which a loop over items lets the others on the event loop go on."""
COUNTS = 2**53
"""Up to here every count is a number of JSON, too."""

Report = Callable[[Progress], None]


class Context:
    """The job that a function is working for. Annotate a parameter with it to receive it.

    It may be used from the loop, from threads and in the processes of ``run="process"``.

    Args:
        id: the job's id.
        attempt: which try this is, from 1.
        stopping: says whether the job has been asked to stop.
        report: takes progress.
        steps: what the job has on record; None in a process, which cannot reach it.
        threads: where a step's ``def`` function runs, so that it does not block the loop.
        children: starts jobs for this one; None where it cannot be reached.

    >>> context = Context("a", 1, stopping=lambda: False, report=print)
    >>> context.progress(1, 2, "half")
    Progress(current=1, total=2, message='half')
    """

    __job_context__: ClassVar[bool] = True
    __slots__ = ("_children", "_report", "_steps", "_stopping", "_threads", "attempt", "id")

    def __init__(
        self,
        id: str,
        attempt: int,
        *,
        stopping: Callable[[], bool],
        report: Report,
        steps: Steps | None = None,
        threads: Threads | None = None,
        children: Children | None = None,
    ) -> None:
        self.id = id
        self.attempt = attempt
        self._stopping = stopping
        self._report = report
        self._steps = steps
        self._threads = threads
        self._children = children

    @property
    def canceled(self) -> bool:
        """Whether the function should stop: a cancel, a timeout or a shutdown has asked for it.

        A flag for code that nobody can interrupt: poll it in a thread, between two steps.
        """
        return self._stopping()

    def check_canceled(self) -> None:
        """Stop here if the function should stop.

        Raises:
            asyncio.CancelledError: let it pass; the job then ends canceled.
        """
        if self._stopping():
            raise asyncio.CancelledError(f"job {self.id} was asked to stop")

    def progress(self, current: float, total: float, message: str | None = None) -> None:
        """Say how far the job is. Cheap: what comes faster than ten times a second is left out,
        but never the newest for long.

        Args:
            current: units done.
            total: units in all; 0 while that is not known.
            message: a line for people, at most 200 characters of it are kept.

        Raises:
            TypeError, ValueError, OverflowError: what should be a number is none.
        """
        # Checked here, where the function hears of it: what is kept must be readable.
        line = None if message is None else as_text(str(message))
        self._report(Progress(_number(current), _number(total), line))

    def track(
        self,
        items: Iterable[T] | AsyncIterable[T],
        total: float | None = None,
        message: str | None = None,
    ) -> Tracked[T]:
        """Go through items, and report each as progress: with ``for`` in threads and processes,
        with ``async for`` on the event loop, which then also gets its turn in between.

        ``for`` looks before each item whether the job should stop, as `check_canceled` does.

        Args:
            items: what to go through.
            total: how many there are, where ``len(items)`` does not tell.
            message: a line for people, with ``{n}`` and ``{total}`` filled in.
        """
        if total is None:
            total = len(items) if isinstance(items, Sized) else 0
        total = _number(total)
        if message is not None:
            message = str(message).replace("{total}", _shown(total))
        return Tracked(self, items, total, message)

    @overload
    async def step(
        self, name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def step(
        self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    async def step(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Do a part of the job once: its result is kept, and a later attempt gets it from there.

        What may run twice is the step in which an attempt was cut off, and what stands between
        steps. ``def`` functions are called in a thread.

        Args:
            name: unique in the job; in a loop it has the item, as in ``f"page {number}"``.
            function: called with the other arguments, unless the result is there.

        Raises:
            TypeError: the result cannot be written as JSON.
            ValueError: the name was used before, or the result is too large.
            Superseded: this attempt is not the job's any more.
        """
        steps = self._its_steps()
        payload = await steps.find(name)
        if payload is None:
            if inspect.iscoroutinefunction(inspect.unwrap(function)):
                value = await function(*args, **kwargs)
            else:
                value = await self._in_thread(function, args, kwargs)
            payload = await steps.keep(name, value)
        return read(payload, function)

    async def _in_thread(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a function in a thread. A cancel waits for its end: nothing can stop it."""
        threads = cast("Threads", self._threads)  # It comes with the steps.
        context = contextvars.copy_context()

        def outcome() -> tuple[Any, BaseException | None]:
            # Raised where the job is: a SystemExit in a task of its own would stop the loop.
            try:
                return context.run(function, *args, **kwargs), None
            except BaseException as error:  # noqa: BLE001 - the edge of user code
                return None, error

        call = asyncio.ensure_future(threads.call(outcome))
        try:
            value, error = await asyncio.shield(call)
        except asyncio.CancelledError:
            while not call.done():  # However often it is asked.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({call})
            raise
        try:
            if error is not None:
                raise error
            return await value if inspect.isawaitable(value) else value
        finally:
            del error  # Its traceback has this frame: a cycle would keep both in memory.

    def step_sync(
        self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """`step` for ``def`` functions that run in a thread: called here, without ``await``.

        Raises:
            RuntimeError: on the event loop, which it would block; use ``await ctx.step(...)``.
        """
        steps = self._its_steps()
        if _on_a_loop():
            raise RuntimeError("step_sync blocks the event loop: use await ctx.step(...)")
        self.check_canceled()
        payload = asyncio.run_coroutine_threadsafe(steps.find(name), steps.loop).result()
        if payload is None:
            value = function(*args, **kwargs)
            kept = asyncio.run_coroutine_threadsafe(steps.keep(name, value), steps.loop)
            payload = kept.result()
        result: R = read(payload, function)
        return result

    async def start(
        self, task: Startable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]:
        """Start another job for this one: a child, linked to it in its document. Canceling this
        job cancels it.

        A second attempt of this job gets the same child for the same arguments, whatever has
        become of it. A full queue is waited for; so is, when the service shuts down, that this job
        is asked to stop.

        Args:
            task: what to start, with the other arguments.

        Raises:
            InvalidArguments: they do not fit the task's function.
            Draining, StoreUnavailable: nothing was started.
        """
        if self._children is None:
            raise RuntimeError("only an async task can start children: it runs where they do")
        return await task.start_child(self._children, args, kwargs)

    async def gather(self, *children: JobHandle[R] | Awaitable[JobHandle[R]]) -> list[R]:
        """Wait for children, and return what each has returned, in their order.

        ``await ctx.gather(*(ctx.start(page, number) for number in range(10_000)))``

        While it waits, this job holds no place that a child may need. When one of them fails or
        is canceled, those that are not over are canceled, and that is raised.

        Raises:
            JobFailed, JobCanceled: of the first, in their order, that did not succeed.
        """
        if self._children is None:
            raise RuntimeError("only an async task has children: it runs where they do")
        return await self._children.gather(children)

    def _its_steps(self) -> Steps:
        if self._steps is None:
            message = 'a run="process" function has no steps: make it a step of an async task'
            raise RuntimeError(message)
        return self._steps


class Startable(Protocol[P, R_co]):
    """A task that can be started as a child."""

    def start_child(
        self, children: Children, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, JobHandle[R_co]]:
        """Start it."""


class Tracked(Generic[T]):
    """Items on their way through a job; what `Context.track` makes."""

    __slots__ = ("_context", "_items", "_message", "_total")

    def __init__(
        self,
        context: Context,
        items: Iterable[T] | AsyncIterable[T],
        total: float,
        message: str | None,
    ) -> None:
        self._context = context
        self._items = items
        self._total = total
        self._message = message

    def _report(self, done: int) -> None:
        message = self._message
        if message is not None:
            message = message.replace("{n}", str(done))
        self._context.progress(done, self._total, message)

    def __iter__(self) -> Iterator[T]:
        if not isinstance(self._items, Iterable):
            raise TypeError("these items come one by one from elsewhere: use async for")
        for done, item in enumerate(self._items, 1):
            self._context.check_canceled()
            yield item
            self._report(done)

    async def __aiter__(self) -> AsyncIterator[T]:
        done, turn = 0, time.monotonic() + TURN
        items = self._items
        async for item in items if isinstance(items, AsyncIterable) else _each(items):
            yield item
            done += 1
            self._report(done)
            if time.monotonic() >= turn:  # Others are on this loop, too.
                await asyncio.sleep(0)
                turn = time.monotonic() + TURN


async def _each(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


def _number(value: float) -> float:
    """A plain number for any kind of one; counts stay counts.

    >>> _number(True), _number(10**20), _number(0.5)
    (1, 1e+20, 0.5)
    """
    if isinstance(value, int) and -COUNTS < value < COUNTS:
        return int(value)
    return float(value)


def _shown(number: float) -> str:
    """A number for people.

    >>> _shown(1_234_567), _shown(3.0), _shown(2.5)
    ('1234567', '3', '2.5')
    """
    return f"{number:.0f}" if number % 1 == 0 else f"{number:g}"


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
