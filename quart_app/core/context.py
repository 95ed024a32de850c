"""What a running function is given of its job.

Nothing may live here that reaches the store or the engine: a context reads a flag, and hands its
reports and its steps' results to whoever made it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, ParamSpec, TypeVar, cast, overload

from quart_app.core.steps import Steps, read
from quart_app.core.threads import Threads
from quart_app.domain.jobs import Progress

P = ParamSpec("P")
R = TypeVar("R")

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

    >>> context = Context("a", 1, stopping=lambda: False, report=print)
    >>> context.progress(1, 2, "half")
    Progress(current=1, total=2, message='half')
    """

    __job_context__: ClassVar[bool] = True
    __slots__ = ("_report", "_steps", "_stopping", "_threads", "attempt", "id")

    def __init__(
        self,
        id: str,
        attempt: int,
        *,
        stopping: Callable[[], bool],
        report: Report,
        steps: Steps | None = None,
        threads: Threads | None = None,
    ) -> None:
        self.id = id
        self.attempt = attempt
        self._stopping = stopping
        self._report = report
        self._steps = steps
        self._threads = threads

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
        """
        self._report(Progress(current, total, None if message is None else message[:200]))

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

    def _its_steps(self) -> Steps:
        if self._steps is None:
            message = 'a run="process" function has no steps: make it a step of an async task'
            raise RuntimeError(message)
        return self._steps


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
