"""One attempt of a job: claimed, called, and written once, whatever the function does."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from quart_app.core.context import Context
from quart_app.core.invoke import Invoker
from quart_app.core.processes import Processes
from quart_app.core.registry import Registry
from quart_app.core.reporter import Reporter
from quart_app.core.start import StartableTask
from quart_app.core.threads import Threads
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.ids import new_id
from quart_app.domain.jobs import Change, Failure, Job
from quart_app.domain.status import Move
from quart_app.domain.tasks import Task
from quart_app.stores.memory import MemoryStore
from tests.core.support import Core

pytestmark = pytest.mark.virtual


async def test_a_job_goes_from_queued_over_running_to_succeeded() -> None:
    """With its times, its attempt and its result as JSON."""

    async def double(number: int) -> dict[str, int]:
        await asyncio.sleep(3)
        return {"number": 2 * number}

    async with Core(double) as core:
        await asyncio.sleep(1)
        job = await core.run(double, number=21)
        assert (job.status, job.result, job.attempt, job.reason) == (
            "succeeded",
            b'{"number":42}',
            1,
            None,
        )
        assert (job.created_at, job.started_at, job.finished_at) == (1.0, 1.0, 4.0)
        assert core.story(job.id) == ["open", "claim", "succeed"]


async def test_a_waiting_job_is_not_garbage() -> None:
    """The loop keeps its tasks weakly; we keep them, also when nothing else holds what they wait
    for."""

    async def forgotten() -> str:
        future = asyncio.get_running_loop().create_future()
        waiting.append(weakref.ref(future))
        return str(await future)

    waiting: list[weakref.ref[asyncio.Future[str]]] = []
    async with Core(forgotten) as core:
        ids = [await core.start(forgotten) for _ in range(50)]
        for _ in range(5):
            gc.collect()
            await asyncio.sleep(0)
        assert len(waiting) == 50
        for each in waiting:
            future = each()
            assert future is not None
            future.set_result("kept")
            del future
        assert [(await core.ended(each)).result for each in ids] == [b'"kept"'] * 50


async def test_a_failed_job_is_recorded_and_logged_in_the_same_moment(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No exception waits for somebody who asks for it."""

    async def fails() -> None:
        await asyncio.sleep(1)
        raise ValueError("no such month")

    async with Core(fails) as core:
        job = await core.run(fails)
        assert core.now() == 1.0
        assert (job.status, job.reason) == ("failed", "error")
        assert job.error == Failure("ValueError", "no such month")
    [record] = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "task fails failed: ValueError: no such month" in record.getMessage()
    assert "in fails" in record.getMessage()
    assert record.exc_info is None


async def test_with_debug_the_record_has_the_traceback() -> None:
    """As text of at most 16 KiB."""

    async def fails(depth: int) -> None:
        if depth:
            await fails(depth - 1)
        raise ValueError("x" * 50_000)

    async with Core(fails, debug=True) as core:
        job = await core.run(fails, depth=20)
        assert job.error is not None
        assert job.error.traceback is not None
        assert len(job.error.traceback) == 16_384
        assert job.error.message == "x" * 2_000


async def fails_with_much_in_its_hands() -> None:
    data = bytearray(2**20)
    await asyncio.sleep(0)
    raise ValueError(len(data))


@pytest.mark.slow
async def test_a_failed_job_keeps_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 failures with a megabyte in their local variables: nothing of it stays."""
    monkeypatch.setattr("quart_app.core.invoke.logger.disabled", True)
    async with Core(fails_with_much_in_its_hands, room=10) as core:
        await core.run(fails_with_much_in_its_hands)
        gc.disable()  # Not even in cycles that wait for the collector.
        tracemalloc.start()
        try:
            for _ in range(20):
                for _ in range(50):
                    await core.start(fails_with_much_in_its_hands)
                await core.engine.idle()
                assert tracemalloc.get_traced_memory()[0] < 5 * 2**20
        finally:
            tracemalloc.stop()
            gc.enable()
        assert (await core.store.counts())["failed"] == 1_001


async def test_a_swallowed_cancel_is_no_cancel() -> None:
    """The function goes on and returns: it has succeeded, and the record says what was asked."""

    async def stubborn() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        return "done anyway"

    async with Core(stubborn) as core:
        job_id = await core.start(stubborn)
        await asyncio.sleep(1)
        asked = await core.service.cancel(job_id)
        assert (asked.status, asked.cancel_requested_at) == ("running", 1.0)
        job = await core.ended(job_id)
        assert (job.status, job.result, job.cancel_requested_at) == (
            "succeeded",
            b'"done anyway"',
            1.0,
        )
        assert core.now() == 2.0


async def test_a_cleanup_is_not_cut_by_a_second_cancel() -> None:
    """Ten cancels in 50 ms: the function sees one, its cleanup comes to its end."""
    seen: list[str] = []

    async def careful() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            seen.append("cancel")
            await asyncio.sleep(0.5)
            seen.append("clean")
            raise

    async with Core(careful) as core:
        job_id = await core.start(careful)
        await asyncio.sleep(1)
        answers = []
        for _ in range(10):
            answers.append(await core.service.cancel(job_id))
            await asyncio.sleep(0.005)
        assert {(each.status, each.cancel_requested_at) for each in answers} == {("running", 1.0)}
        assert len({each.seq for each in answers}) == 1
        job = await core.ended(job_id)
        assert (job.status, job.reason, core.now()) == ("canceled", "requested", 1.5)
    assert seen == ["cancel", "clean"]


async def test_a_cancel_before_the_first_step_ends_the_job() -> None:
    """None of its code runs, not even its ``finally``, and there is one ending."""
    ran: list[str] = []

    async def never() -> None:
        ran.append("begun")  # pragma: no cover - it must not run

    async with Core(never) as core:
        job_id = await core.start(never)
        job = await core.service.cancel(job_id)
        assert (job.status, job.reason) == ("canceled", "requested")
        await core.engine.idle()
        assert core.story(job_id) == ["open", "withdraw"]
    assert ran == []


async def test_a_cancel_between_the_claim_and_the_first_line_ends_the_job() -> None:
    """A store that takes its time leaves such a moment."""
    ran: list[str] = []

    async def never() -> None:
        ran.append("begun")  # pragma: no cover - it must not run

    class Slow(MemoryStore):
        instant = False

        async def move(self, job_id: str, change: Change) -> Job | None:
            job = await super().move(job_id, change)
            await asyncio.sleep(change.move is Move.CLAIM)
            return job

    async with Core(never, store=Slow()) as core:
        job_id = await core.start(never)
        await asyncio.sleep(0.5)
        await core.service.cancel(job_id)
        job = await core.ended(job_id)
        assert (job.status, job.reason) == ("canceled", "requested")
    assert ran == []


async def test_what_an_ended_job_shielded_is_its_own_affair() -> None:
    """Its children of a TaskGroup end with it; a raw shield goes on, and no cancel is lost."""
    after: list[str] = []

    async def child(name: str) -> None:
        await asyncio.sleep(5)
        after.append(name)

    async def parent() -> None:
        kept = asyncio.ensure_future(child("shielded"))
        async with asyncio.TaskGroup() as group:
            group.create_task(child("grouped"))
            await asyncio.shield(kept)

    async with Core(parent) as core:
        job_id = await core.start(parent)
        await asyncio.sleep(1)
        await core.service.cancel(job_id)
        assert (await core.ended(job_id)).status == "canceled"
        left = {task.get_name() for task in asyncio.all_tasks()}
        assert len([name for name in left if not name.startswith("backlog-")]) == 2
        await asyncio.sleep(5)
    assert after == ["shielded"]


async def test_a_timeout_ends_the_attempt() -> None:
    """The job fails with the reason timeout, and the message says how long it had."""

    async def slow() -> None:
        await asyncio.sleep(100)

    async with Core(Task(slow, timeout=2.5)) as core:
        job = await core.run(slow)
        assert (job.status, job.reason, core.now()) == ("failed", "timeout", 2.5)
        assert job.error == Failure(
            "TimeoutError", "it did not end within its timeout of 2.5 seconds"
        )


async def test_a_timeout_does_not_hide_an_error_of_the_cleanup() -> None:
    """It is the error that is shown, the reason stays timeout."""

    async def slow() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            raise OSError("disk full")

    async with Core(Task(slow, timeout=1)) as core:
        job = await core.run(slow)
        assert (job.reason, job.error) == ("timeout", Failure("OSError", "disk full"))


async def test_a_job_that_ends_in_time_hears_nothing_of_its_timeout() -> None:
    """Its timer is gone with it."""

    async def quick() -> None:
        await asyncio.sleep(1)

    async with Core(Task(quick, timeout=5)) as core:
        assert (await core.run(quick)).status == "succeeded"
        assert not asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]


@pytest.mark.parametrize("first", ["cancel", "timeout"])
async def test_a_cancel_wins_over_a_timeout_in_the_same_tick(first: str) -> None:
    """Whichever is heard of first: a person has asked."""

    async def slow() -> None:
        await asyncio.sleep(100)

    async with Core(slow) as core:
        job_id = await core.start(slow)
        await asyncio.sleep(1)
        handle = core.registry.get(job_id)
        assert handle is not None
        if first == "timeout":
            handle.ask("timeout")
        await core.service.cancel(job_id)
        handle.ask("timeout")
        job = await core.ended(job_id)
        assert (job.status, job.reason) == ("canceled", "requested")


async def test_a_swallowed_cancel_does_not_hide_a_later_error() -> None:
    """A failing TaskGroup behind it (3.13.0 lost its error): the job failed, with that error."""

    async def breaks() -> None:
        raise ValueError("lost?")

    async def job() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            async with asyncio.TaskGroup() as group:
                group.create_task(breaks())

    async with Core(job) as core:
        job_id = await core.start(job)
        await asyncio.sleep(1)
        await core.service.cancel(job_id)
        ended = await core.ended(job_id)
        assert (ended.status, ended.reason) == ("failed", "error")
        assert ended.error is not None
        assert ended.error.code == "ExceptionGroup"
        assert ended.cancel_requested_at == 1.0


async def test_an_error_in_the_cleanup_of_a_canceled_job_is_a_failure() -> None:
    """With the request beside it."""

    async def job() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            raise OSError("no")

    async with Core(job) as core:
        job_id = await core.start(job)
        await asyncio.sleep(1)
        await core.service.cancel(job_id)
        ended = await core.ended(job_id)
        assert (ended.status, ended.reason, ended.error) == (
            "failed",
            "error",
            Failure("OSError", "no"),
        )
        assert ended.cancel_requested_at == 1.0


async def test_a_cancel_that_nobody_asked_for_is_a_failure() -> None:
    """A library may raise CancelledError; the job was not canceled."""

    async def raises() -> None:
        raise asyncio.CancelledError

    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    async def cancels_itself_last() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "end"

    async with Core(raises, cancels_itself, cancels_itself_last) as core:
        for function in (raises, cancels_itself):
            job = await core.run(function)
            assert (job.status, job.reason) == ("failed", "error")
            assert job.error is not None
            assert job.error.code == "CancelledError"
        assert (await core.run(cancels_itself_last)).status == "succeeded"


@pytest.mark.parametrize("run", ["loop", "thread"])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
async def test_an_exception_that_ends_programs_ends_only_the_job(
    error: BaseException, run: Any
) -> None:
    """``sys.exit()`` in a task leaves the service standing, and the next hundred jobs run."""

    def leaves() -> None:
        if isinstance(error, SystemExit):
            sys.exit(3)
        raise error

    async def fine() -> None: ...

    async with Core(Task(leaves, run=run), fine) as core:
        job = await core.run(leaves)
        assert (job.status, job.reason) == ("failed", "error")
        assert job.error is not None
        assert job.error.code == type(error).__name__
        for _ in range(100):
            assert (await core.run(fine)).status == "succeeded"


async def test_a_coroutine_that_exits_ends_only_the_job() -> None:
    """The same on the loop, in a coroutine."""

    async def leaves() -> None:
        await asyncio.sleep(1)
        sys.exit("bye")

    async with Core(leaves) as core:
        job = await core.run(leaves)
        assert job.error == Failure("SystemExit", "bye")


async def test_a_job_whose_loop_is_gone_writes_nothing() -> None:
    """Its coroutine is closed without a loop: it is no error of the function, and nothing waits."""

    async def job() -> None:
        await asyncio.sleep(1)

    async def begin() -> Coroutine[Any, Any, Any]:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        threads = Threads()
        invoker = Invoker(threads, Processes(1, threads), max_result=9, debug=False)
        handle = Registry().open("a", task)
        assert handle is not None
        record = Job(id="a", task="job", status="running", attempt=1)
        call = invoker.call(Task(job), record, handle, cast("Reporter", None))
        call.send(None)
        handle.ask("cancel")
        task.uncancel()
        with contextlib.suppress(asyncio.CancelledError):  # From 3.13 on, uncancel takes it back.
            await asyncio.sleep(0)
        return call

    call = await asyncio.create_task(begin())
    elsewhere = threading.Thread(target=call.close)  # Where no loop runs.
    elsewhere.start()
    elsewhere.join()
    assert inspect.getcoroutinestate(call) == inspect.CORO_CLOSED


REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request")


@pytest.mark.parametrize("run", ["loop", "thread"])
async def test_a_job_knows_nothing_of_the_request_that_started_it(run: Any) -> None:
    """Its context is fresh, so the request's headers and body are free when it is answered."""

    def look() -> str | None:
        return REQUEST.get(None)

    async def alook() -> str | None:
        return REQUEST.get(None)

    class Body:
        """Five megabytes that somebody sent."""

    body: Any = Body()
    freed = weakref.ref(body)
    async with Core(Task(look, run=run), alook, room=1) as core:
        token = REQUEST.set(body)
        ids = [await core.start(look), await core.start(alook), await core.start(look)]
        REQUEST.reset(token)
        del body, token
        gc.collect()
        assert freed() is None
        assert {(await core.ended(each)).result for each in ids} == {b"null"}


async def test_what_one_job_sets_no_other_job_sees() -> None:
    """Each has a context of its own."""

    async def job() -> str:
        before = REQUEST.get("fresh")
        REQUEST.set("used")
        await asyncio.sleep(1)
        return before

    async with Core(job) as core:
        ids = [await core.start(job) for _ in range(3)]
        assert [(await core.ended(each)).result for each in ids] == [b'"fresh"'] * 3


async def test_awaiting_another_job_does_not_cancel_it() -> None:
    """A cancel stays where it was asked for."""

    async def inner() -> str:
        await asyncio.sleep(5)
        return "inner"

    inner_task: StartableTask[[], str] = StartableTask(inner)

    async def outer() -> str:
        handle = await inner_task.start()
        ids.append(handle.id)
        return await handle.result()

    ids: list[str] = []
    async with Core(inner_task, outer) as core:
        outer_id = await core.start(outer)
        await asyncio.sleep(1)
        await core.service.cancel(outer_id)
        await asyncio.sleep(0)
        assert (await core.service.wait(outer_id, None)).status == "canceled"
        assert core.now() == 1.0
        assert (await core.ended(ids[0])).status == "succeeded"
        core.check_stories()


async def test_a_job_may_cancel_itself_by_its_id() -> None:
    """It sees one CancelledError, at its next wait."""
    seen: list[str] = []

    async def job(ctx: Context) -> None:
        await core.service.cancel(ctx.id)
        seen.append("asked")
        try:
            await asyncio.sleep(1)
        finally:
            await asyncio.sleep(1)
            seen.append("clean")

    async def last(ctx: Context) -> str:
        await core.service.cancel(ctx.id)
        return "came to its end"

    async with Core(job, last) as core:
        assert (await core.run(job)).status == "canceled"
        assert (await core.run(last)).status == "succeeded"
        core.check_stories()
    assert seen == ["asked", "clean"]


async def test_a_job_that_does_not_stop_is_called_unresponsive_until_it_does() -> None:
    """Past the grace it is still running, with that flag; at its end the flag is gone."""

    async def stubborn() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(4)
            except asyncio.CancelledError:
                continue

    async with Core(stubborn, grace=2.0) as core:
        job_id = await core.start(stubborn)
        await asyncio.sleep(1)
        await core.service.cancel(job_id)
        await asyncio.sleep(1.9)
        assert (await core.job(job_id)).unresponsive is False
        await asyncio.sleep(0.2)
        job = await core.job(job_id)
        assert (job.status, job.unresponsive, job.updated_at) == ("running", True, 3.0)
        job = await core.ended(job_id)
        assert (job.status, job.unresponsive) == ("succeeded", False)
        assert core.story(job_id) == ["open", "claim", "note", "note", "succeed"]


async def test_arguments_that_no_longer_fit_are_rejected_before_any_code_runs() -> None:
    """As where a kept job meets a new version of its task."""

    async def job(x: int) -> None: ...

    async with Core(job) as core:
        old = Job(id=new_id(), task="job", args=b'{"x":"old"}')
        await core.ledger.open([old])
        await core.engine.submit(old.id, "loop")
        ended = await core.ended(old.id)
        assert (ended.status, ended.reason) == ("failed", "rejected")
        assert ended.error is not None
        assert ended.error.code == "InvalidArguments"


async def test_a_job_of_a_task_that_is_not_offered_is_rejected() -> None:
    """The message names it."""
    async with Core() as core:
        await core.ledger.open([Job(id="a", task="gone")])
        await core.engine.submit("a", "loop")
        ended = await core.ended("a")
        assert (ended.status, ended.reason) == ("failed", "rejected")
        assert ended.error == Failure("NoSuchTask", "this process offers no task 'gone'")


async def test_a_job_that_is_delivered_twice_runs_once() -> None:
    """The second delivery finds a handle, or no queued job, and goes away."""

    async def job() -> None:
        ran.append(1)
        await asyncio.sleep(1)

    ran: list[int] = []
    async with Core(job) as core:
        job_id = await core.start(job)
        await asyncio.sleep(0)
        await core.runner.run(job_id)
        assert (await core.ended(job_id)).status == "succeeded"
        await core.runner.run(job_id)
        await core.runner.run("unknown")
    assert ran == [1]


async def test_a_cancel_from_before_this_attempt_is_kept() -> None:
    """Asked while a job was between two attempts: the next one does not begin."""

    async def job() -> None:
        ran.append(1)  # pragma: no cover - it must not run

    ran: list[int] = []
    async with Core(job) as core:
        await core.ledger.open([Job(id="a", task="job", cancel_requested_at=0.5)])
        await core.engine.submit("a", "loop")
        assert (await core.ended("a")).status == "canceled"
    assert ran == []


async def test_a_store_that_fails_at_the_claim_leaves_the_job_to_upkeep(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The handle is closed, the job stays queued, the log says so."""

    class Failing(MemoryStore):
        instant = False
        broken = True

        async def move(self, job_id: str, change: Change) -> Job | None:
            if self.broken:
                raise StoreUnavailable("the disk is full")
            return await super().move(job_id, change)

    async def job() -> None: ...

    store = Failing()
    async with Core(job, store=store) as core:
        job_id = await core.start(job)
        await core.engine.idle()
        assert (await core.job(job_id)).status == "queued"
        assert core.is_clean()
        store.broken = False
        await core.engine.submit(job_id, "loop")
        assert (await core.ended(job_id)).status == "succeeded"
    assert f"job {job_id} could not be run to its end" in caplog.text


async def test_a_late_outcome_is_refused() -> None:
    """What was given up meanwhile stays as it is: somebody else was first."""

    async def slow() -> None:
        await asyncio.sleep(2)

    async with Core(slow) as core:
        job_id = await core.start(slow)
        await asyncio.sleep(1)
        await core.ledger.move(job_id, Move.FAIL, attempt=1, reason="lost")
        await core.engine.idle()
        assert (await core.job(job_id)).reason == "lost"
        core.check_stories()


async def test_retries_are_attempts_of_one_job() -> None:
    """The attempt is passed on, and an interrupted one is not counted."""

    async def job(ctx: Context) -> int:
        await asyncio.sleep(1)
        return ctx.attempt

    async with Core(job) as core:
        job_id = await core.start(job)
        await asyncio.sleep(0.5)
        await core.ledger.move(job_id, Move.RESCUE, attempt=1, reason="lost")
        await core.engine.idle()
        await core.engine.submit(job_id, "loop")
        ended = await core.ended(job_id)
        assert (ended.attempt, ended.result) == (2, b"2")
