"""Crashes on order: an attempt ends in the middle of a step as if its process had been killed.

What becomes of the job is decided where it always is (`quart_app.domain.outcomes.decide_lost`);
only the cutting off may live here.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import types
from collections.abc import Coroutine, Generator
from typing import Any, Literal, cast

from quart_app.core.backlog import Backlog
from quart_app.core.children import Children
from quart_app.core.invoke import Invoker
from quart_app.core.ledger import Ledger
from quart_app.core.ports import Store
from quart_app.core.processes import Processes
from quart_app.core.registry import Handle, Registry
from quart_app.core.reporter import Reporter
from quart_app.core.runner import Runner
from quart_app.core.steps import Steps
from quart_app.core.threads import Threads
from quart_app.domain.jobs import Job
from quart_app.domain.outcomes import Ended, Outcome, decide_lost
from quart_app.domain.tasks import Catalog, Task
from quart_app.testing.virtual import VirtualTimeLoop

When = Literal["begins", "ends"]


class Killed(BaseException):
    """Stops what cannot be left standing: a thread, and what is called after the crash."""


class Crash:
    """A crash that is planned.

    Args:
        task, step: where.
        when: ``begins`` (the step's function is not called) or ``ends`` (it has run, and what it
            returned is not on record).
        times: in how many attempts.
    """

    def __init__(self, task: Task, step: str, when: When, times: int) -> None:
        self.task = task
        self.step = step
        self.when = when
        self.left = times

    def __repr__(self) -> str:
        return f"crash_at({self.task.name}, {self.step!r})"


class Crashes:
    """All that are planned, and what came of them."""

    def __init__(self) -> None:
        self.planned: list[Crash] = []
        self.steps: list[tuple[str, str]] = []
        """The task and the name of each step that was come to."""
        self.lost: set[tuple[str, int]] = set()
        """The job and the number of each attempt that was cut off."""
        self.frozen: list[Coroutine[Any, Any, Any]] = []
        """Where they stood."""

    def due(self, task: str, step: str, when: When) -> bool:
        """Whether this is the place; then there is one less to come."""
        for crash in self.planned:
            if (crash.task.name, crash.step, crash.when) == (task, step, when) and crash.left > 0:
                crash.left -= 1
                return True
        return False

    def close(self) -> None:
        """Let go of what was cut off. Only now its ``finally`` blocks run, for nobody to see."""
        for coroutine in self.frozen:
            with contextlib.suppress(Exception, asyncio.CancelledError):
                coroutine.close()
        self.frozen.clear()

    def check(self) -> None:
        """A test that planned a crash which never came has proved nothing.

        Raises:
            AssertionError: naming the crash, and the steps that there were.
        """
        for crash in self.planned:
            if crash.left > 0:
                seen = [step for task, step in self.steps if task == crash.task.name]
                steps = ", ".join(map(repr, dict.fromkeys(seen))) or "none"
                raise AssertionError(f"{crash} never came; the steps that did: {steps}")


class DoomedAttempt:
    """One attempt of a task for which a crash is planned.

    Args:
        crashes: where it is planned.
        task, job, handle: whose attempt it is.
    """

    def __init__(self, crashes: Crashes, task: Task, job: Job, handle: Handle) -> None:
        self.crashes = crashes
        self._task = task
        self._key = (job.id, job.attempt)
        self._handle = handle

    @property
    def lost(self) -> bool:
        """Whether it was cut off."""
        return self._key in self.crashes.lost

    async def die_at(self, step: str, when: When) -> None:
        """End here, if that is planned. A coroutine is left standing: it sees no exception, and
        its ``finally`` blocks do not run. A thread cannot be, and sees one."""
        if self.lost:
            raise Killed
        if not self.crashes.due(self._task.name, step, when):
            return
        self.crashes.lost.add(self._key)
        if not self._task.is_async:
            raise Killed
        self._handle.task.cancel()  # Which `_drive` sees, and not the function.
        await asyncio.get_running_loop().create_future()

    def come_to(self, step: str) -> None:
        """A step is to be done."""
        self.crashes.steps.append((self._task.name, step))

    def watched(self) -> Task:
        """The task with a function that can be left standing."""
        task = self._task
        if not task.is_async:
            return task
        _ = task.plain, task.arguments  # Read from the function itself, before it has another.
        watched = copy.copy(task)

        def function(**values: Any) -> Any:
            return self._drive(task.function(**values))

        watched.function = cast(Any, function)
        return watched

    @types.coroutine
    def _drive(self, function: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        error: BaseException | None = None
        while True:
            try:
                awaited = function.send(None) if error is None else function.throw(error)
            except StopIteration as stop:
                return stop.value
            try:
                error = None
                yield awaited
            except BaseException as raised:  # noqa: BLE001 - it is the function's
                if self.lost:
                    self.crashes.frozen.append(function)
                    raise Killed from None
                error = raised


class WatchedSteps(Steps):
    """Steps at which an attempt may end.

    Args:
        steps: what is watched.
        attempt: whose they are.
    """

    def __init__(self, steps: Steps, attempt: DoomedAttempt) -> None:
        self._steps = steps
        self._attempt = attempt
        self.loop = steps.loop

    async def find(self, name: str) -> bytes | None:
        payload = await self._steps.find(name)
        if payload is None:
            self._attempt.come_to(name)
            await self._attempt.die_at(name, "begins")
        return payload

    async def keep(self, name: str, value: Any) -> bytes:
        await self._attempt.die_at(name, "ends")
        return await self._steps.keep(name, value)


class CrashingInvoker(Invoker):
    """Calls functions so that they can be cut off, and lets time be real outside the loop.

    Args:
        crashes: what is planned.
        threads, processes, max_result, debug: as of every invoker.
    """

    def __init__(
        self,
        crashes: Crashes,
        threads: Threads,
        processes: Processes,
        *,
        max_result: int,
        debug: bool,
    ) -> None:
        super().__init__(threads, processes, max_result=max_result, debug=debug)
        self._crashes = crashes

    def call(
        self,
        task: Task,
        job: Job,
        handle: Handle,
        reporter: Reporter,
        steps: Steps | None = None,
        children: Children | None = None,
    ) -> Coroutine[Any, Any, Ended]:
        if steps is not None and any(each.task.name == task.name for each in self._crashes.planned):
            attempt = DoomedAttempt(self._crashes, task, job, handle)
            steps, task = WatchedSteps(steps, attempt), attempt.watched()
        return super().call(task, job, handle, reporter, steps, children)

    async def _in_process(self, task: Task, job: Job, handle: Handle, reporter: Reporter) -> Ended:
        with real_time():
            return await super()._in_process(task, job, handle, reporter)

    def _raised(self, task: Task, error: BaseException) -> Ended:
        return Ended("lost") if isinstance(error, Killed) else super()._raised(task, error)


class CrashingRunner(Runner):
    """Runs jobs, and settles those that were cut off as the next start would.

    Args:
        crashes: what is planned.
        backlog: to which a job goes that may run again.
        catalog, ledger, store, registry, invoker: as of every runner.
    """

    def __init__(
        self,
        crashes: Crashes,
        backlog: Backlog,
        catalog: Catalog,
        ledger: Ledger,
        store: Store,
        registry: Registry,
        invoker: CrashingInvoker,
    ) -> None:
        super().__init__(catalog, ledger, store, registry, invoker)
        self._crashes = crashes
        self._backlog = backlog

    async def run(self, job_id: str) -> None:
        await super().run(job_id)
        if any(job_id == lost for lost, _ in self._crashes.lost):
            job = await self._store.get(job_id)
            if job is not None and (job.status, job.reason) == ("queued", "lost"):
                # When the engine has forgotten this attempt: until then it takes no other.
                asyncio.get_running_loop().call_soon(self._submit, job)

    def _submit(self, job: Job) -> None:
        submit = self._backlog.submit(job, self._tasks[job.task])
        self._notes.add(task := asyncio.create_task(submit))
        task.add_done_callback(self._notes.discard)

    async def _attempt(self, task: Task, job: Job, handle: Handle) -> Outcome:
        outcome = await super()._attempt(task, job, handle)
        lost = (job.id, job.attempt) in self._crashes.lost
        return decide_lost(job) if lost else outcome


def real_time() -> contextlib.AbstractContextManager[None]:
    """Something outside the loop works: where time is virtual it does not jump meanwhile."""
    loop = asyncio.get_running_loop()
    return loop.real_time() if isinstance(loop, VirtualTimeLoop) else contextlib.nullcontext()
