"""Calling the user's function: on the loop, in a thread, in a process. The edge of user code.

Whatever the function does comes back as an `Ended`: SystemExit included, so that no task can stop
the server. Nothing may live here that writes a status or knows why the function was asked to stop.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
import traceback
from collections.abc import Coroutine
from typing import Any

from quart_app.core.child import Call
from quart_app.core.children import Children
from quart_app.core.context import Context
from quart_app.core.logs import Capture
from quart_app.core.processes import ProcessDied, Processes
from quart_app.core.registry import Handle
from quart_app.core.reporter import REPORTER, Reporter
from quart_app.core.service import SERVICE
from quart_app.core.steps import Steps
from quart_app.core.threads import Threads
from quart_app.domain.arguments import ENCODER
from quart_app.domain.errors import InvalidArguments
from quart_app.domain.jobs import Failure, Job, Progress
from quart_app.domain.outcomes import Ended
from quart_app.domain.retries import SPOKEN, Verdict
from quart_app.domain.secrets import redact, secrets_in
from quart_app.domain.tasks import Task
from quart_app.domain.texts import as_text, text_of

logger = logging.getLogger("quart_app.jobs")

NOTHING = Ended("returned", b"null")
MESSAGE_CHARS = 2_000
TRACEBACK_CHARS = 16_384


class Invoker:
    """Calls functions.

    Args:
        threads: where ``def`` functions run.
        processes: where ``run="process"`` functions run.
        max_result: bytes of JSON that a result may have.
        debug: keep tracebacks in the job's record; they are in the log anyway.
    """

    def __init__(
        self, threads: Threads, processes: Processes, *, max_result: int, debug: bool
    ) -> None:
        self._threads = threads
        self._processes = processes
        self.max_result = max_result
        self._debug = debug

    def call(
        self,
        task: Task,
        job: Job,
        handle: Handle,
        reporter: Reporter,
        steps: Steps | None = None,
        children: Children | None = None,
    ) -> Coroutine[Any, Any, Ended]:
        """Run a claimed job's function to its end, when it is awaited.

        Args:
            task, job: what to call, with which arguments.
            handle: through which others ask the function to stop.
            reporter, steps, children: take what the function says, keeps and starts.
        """
        if handle.stop is not None:
            return _already(Ended("not begun"))
        arguments = task.arguments
        try:
            values = arguments.read(job.args)
        except InvalidArguments as error:
            return _already(Ended("rejected", failure=Failure("InvalidArguments", error.detail)))
        if arguments.may_have_secrets:
            reporter.secrets = secrets_in(job.args)
        if task.run == "process":
            return self._in_process(task, job, handle, reporter)
        if (parameter := task.context_parameter) is not None:
            values[parameter] = Context(
                *(job.id, job.attempt),
                stopping=lambda: handle.stopping,
                report=reporter.report,
                steps=steps,
                threads=self._threads,
                children=children if task.is_async else None,
            )
        if task.run == "thread":
            return self._in_thread(task, values, handle)
        return self._on_loop(task, values, handle)

    async def _on_loop(self, task: Task, values: dict[str, Any], handle: Handle) -> Ended:
        running = handle.task
        handle.enter(running.cancel)
        try:
            value = task.function(**values)
            if task.is_async:
                value = await value
            ended = self._returned(value)
        except BaseException as error:
            if not _inside(running):
                raise
            if handle.stop is None and running.cancelling() and _all_canceled():
                handle.stop = "shutdown"
            ended = self._raised(task, error)
        finally:
            handle.leave()
        if running.cancelling():
            await _absorb(running)
        return ended

    async def _in_thread(self, task: Task, values: dict[str, Any], handle: Handle) -> Ended:
        # Nothing can interrupt a thread: the context's flag is all there is.
        handle.enter(lambda: None)
        try:
            context = contextvars.copy_context()
            call = functools.partial(self._call_here, task, values, handle)
            return await self._threads.call(lambda: context.run(call))
        finally:
            handle.thread = None
            handle.leave()

    def _call_here(self, task: Task, values: dict[str, Any], handle: Handle) -> Ended:
        handle.thread = threading.get_ident()
        try:
            return self._returned(task.function(**values))
        except BaseException as error:  # noqa: BLE001 - the edge of user code
            return self._raised(task, error)

    async def _in_process(self, task: Task, job: Job, handle: Handle, reporter: Reporter) -> Ended:
        function = task.function
        call = Call(
            function.__module__,
            function.__qualname__,
            task.name,
            job.args,
            job.id,
            job.attempt,
            logging.getLogger().level if Capture.on() else 0,
        )
        try:
            report = _ignore if task.context_parameter is None else reporter.report
            answer = await self._processes.call(handle, call, report, reporter.log)
        except ProcessDied as error:
            return Ended("lost", failure=Failure("ProcessDied", str(error)))
        if answer.kind == "returned":
            return self._bounded(answer.payload)
        verdict = task.policy.retry.judge_kinds(answer.kinds, answer.after)
        if answer.kind == "canceled":
            return Ended("canceled", verdict=verdict)
        return self._failed(task, answer.code, answer.message, answer.traceback, verdict)

    def _returned(self, value: Any) -> Ended:
        if value is None:  # As most functions do.
            return NOTHING
        try:
            payload = ENCODER.encode(value)
        except Exception as error:  # noqa: BLE001 - whatever a model's own encoding raises
            message = f"the result cannot be written as JSON: {text_of(error)}"
            return Ended("raised", failure=Failure("InvalidResult", message))
        return self._bounded(payload)

    def _bounded(self, payload: bytes) -> Ended:
        if len(payload) > self.max_result:
            message = f"the result has {len(payload)} bytes of JSON, {self.max_result} are allowed"
            return Ended("raised", failure=Failure("ResultTooLarge", message))
        return Ended("returned", result=payload)

    def _raised(self, task: Task, error: BaseException) -> Ended:
        verdict = task.policy.retry.judge(error)
        if isinstance(error, asyncio.CancelledError):
            return Ended("canceled", verdict=verdict)
        text = ""
        if not isinstance(error, SPOKEN):
            lines = traceback.format_exception(type(error), error, error.__traceback__)
            text = "".join(lines)[-TRACEBACK_CHARS:]
        return self._failed(task, type(error).__name__, text_of(error), text, verdict)

    def _failed(self, task: Task, code: str, message: str, text: str, verdict: Verdict) -> Ended:
        text = as_text(text)
        reporter = REPORTER.get()
        if reporter is not None and reporter.secrets:
            message, text = redact(message, reporter.secrets), redact(text, reporter.secrets)
        # Text only: an exception object would keep the function's local variables in memory.
        if text:
            logger.error("task %s failed: %s: %s\n%s", task.name, code, message, text)
        else:  # The task has said so itself: where it did is of no interest.
            logger.warning("task %s: %s: %s", task.name, code, message)
        kept = text if self._debug and text else None
        return Ended("raised", None, Failure(code, message[:MESSAGE_CHARS], kept), verdict)


async def _already(ended: Ended) -> Ended:
    """What is known without a call."""
    return ended


def _ignore(progress: Progress) -> None:
    """Where a function takes no context, and so cannot report."""


def _inside(task: asyncio.Task[None]) -> bool:
    """Whether the loop is running this task. If not, the loop is gone and its coroutine is being
    closed: nothing can be awaited any more, and nothing is to be written."""
    try:
        return asyncio.current_task() is task
    except RuntimeError:
        return False


def _all_canceled() -> bool:
    """Whether somebody has canceled every asyncio task of the loop, our own ones as well, as a
    development server does when it loads the code again: then the process is about to end."""
    service = SERVICE.get()
    return service is not None and service.backlog.cut_off


async def _absorb(task: asyncio.Task[None]) -> None:
    """Take back every cancel of the function, so that none reaches the bookkeeping.

    One that came while the function did not wait any more is still under way, and is delivered
    at the next await: here, and nowhere else (before Python 3.13 `uncancel` does not undo it).
    """
    while task.cancelling():
        task.uncancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:  # pragma: no cover - before Python 3.13 only
        return
