"""Attempts: when a job that failed is tried again, when it is not, and what its record says."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quart_app.core.context import Context
from quart_app.core.registry import Handle
from quart_app.domain.errors import InvalidTask
from quart_app.domain.jobs import HISTORY, Attempt, Change, Failure, Job, Note
from quart_app.domain.options import Options, make_options
from quart_app.domain.retries import Fail, Retry, RetryAfter
from quart_app.domain.status import Move
from quart_app.domain.tasks import Lane, Task
from quart_app.testing import wait_until
from tests.core import process_attempts
from tests.core.process_attempts import Busy
from tests.core.support import Core, Durable, Tended

LATE = 0.05
"""Seconds that a job may begin after its moment."""
SOON = Retry(initial=0.02, jitter=0)


class Moments:
    """When each attempt began."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    def mark(self) -> None:
        self.begun.append(asyncio.get_running_loop().time())

    def are(self, *expected: float) -> None:
        """Each began at its moment: not before it, and hardly after it."""
        assert len(self.begun) == len(expected), self.begun
        for begun, moment in zip(self.begun, expected, strict=True):
            assert moment - 1e-6 <= begun <= moment + LATE, self.begun


@pytest.mark.virtual
async def test_each_delay_is_so_many_times_the_last_up_to_the_maximum() -> None:
    """Counted from the end of the attempt that failed."""
    moments = Moments()

    async def job() -> None:
        moments.mark()
        await asyncio.sleep(2)
        raise OSError("no")

    retry = Retry(initial=1, factor=3, maximum=10, jitter=0)
    async with Tended(Task(job, max_attempts=6, retry=retry)) as core:
        ended = await core.run(job)
        moments.are(0, 3, 8, 19, 31, 43)
        assert (ended.status, ended.reason, ended.attempt) == ("failed", "error", 6)


@pytest.mark.virtual
@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
async def test_jitter_takes_a_part_of_the_delay_at_random(jitter: float) -> None:
    """Jobs that failed together do not come back together, and none after the whole delay."""
    moments = Moments()

    async def job(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise OSError("no")
        moments.mark()

    retry = Retry(initial=100, jitter=jitter)
    async with Tended(Task(job, max_attempts=2, retry=retry)) as core:
        for _ in range(200):
            await core.start(job)
        await asyncio.sleep(101)
        assert len(moments.begun) == 200
        least = 100 * (1 - jitter)
        assert all(least <= each <= 100 + LATE for each in moments.begun)
        assert max(moments.begun) - min(moments.begun) >= 0.8 * 100 * jitter


@pytest.mark.virtual
async def test_an_error_may_say_when_to_try_again() -> None:
    """`RetryAfter` is taken at its word, whatever the backoff, and is an error like any other
    where no attempt is left."""
    moments = Moments()

    async def job(ctx: Context) -> None:
        moments.mark()
        raise RetryAfter(30 if ctx.attempt == 1 else 0, "busy")

    retry = Retry(initial=1, maximum=5, on=KeyError)
    async with Tended(Task(job, max_attempts=3, retry=retry)) as core:
        ended = await core.run(job)
        moments.are(0, 30, 30)
        assert (ended.status, ended.reason, ended.attempt) == ("failed", "error", 3)
        assert ended.error == Failure("RetryAfter", "busy")


@pytest.mark.virtual
async def test_an_error_may_say_that_it_is_final() -> None:
    """`Fail` ends the job, whatever attempts it has left."""

    async def job() -> None:
        raise Fail("there is no such customer")

    async with Tended(Task(job, max_attempts=9, retry=Retry(on=Exception))) as core:
        ended = await core.run(job)
        assert (ended.status, ended.reason, ended.attempt) == ("failed", "error", 1)
        assert ended.error == Failure("Fail", "there is no such customer")
        assert ended.history == ()


@pytest.mark.virtual
@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ConnectionResetError("a child of OSError"), 3),
        (KeyError("named, too"), 3),
        (ValueError("not named"), 1),
        (SystemExit(3), 1),
        (asyncio.CancelledError(), 1),
    ],
)
async def test_only_the_errors_that_are_named_are_tried_again(
    error: BaseException, attempts: int
) -> None:
    """``on=`` names classes; their children count."""

    async def job() -> None:
        raise error

    retry = Retry(initial=1, on=(OSError, KeyError))
    async with Tended(Task(job, max_attempts=3, retry=retry)) as core:
        ended = await core.run(job)
        assert (ended.status, ended.attempt) == ("failed", attempts)


@pytest.mark.virtual
async def test_with_one_attempt_nothing_is_tried_again() -> None:
    """As every task unless it says more."""
    moments = Moments()

    async def job() -> None:
        moments.mark()
        raise RetryAfter(1)

    async with Tended(job) as core:
        ended = await core.run(job)
        await asyncio.sleep(10)
        assert (ended.status, ended.attempt) == ("failed", 1)
        moments.are(0)


@pytest.mark.virtual
async def test_the_record_tells_of_every_attempt() -> None:
    """When it ran and why it ended; the job's own fields are those of the newest."""

    async def job(ctx: Context) -> str:
        ctx.progress(ctx.attempt, 3)
        await asyncio.sleep(1)
        if ctx.attempt == 1:
            raise OSError("disk")
        if ctx.attempt == 2:
            await asyncio.sleep(100)
        return "done"

    task = Task(job, max_attempts=3, timeout=4, retry=Retry(initial=10, factor=2, jitter=0))
    async with Tended(task) as core:
        await asyncio.sleep(1)
        job_id = await core.start(job)
        await asyncio.sleep(5)
        between = await core.job(job_id)
        first = Attempt(1, 1.0, 2.0, "error", Failure("OSError", "disk"))
        assert (between.status, between.reason, between.attempt) == ("scheduled", "retry", 1)
        assert (between.run_at, between.started_at, between.finished_at) == (12.0, None, None)
        assert (between.error, between.history) == (first.error, (first,))

        await asyncio.sleep(7)
        running = await core.job(job_id)
        assert (running.status, running.reason, running.attempt) == ("running", None, 2)
        assert running.started_at == pytest.approx(12.0, abs=LATE)

        ended = await core.ended(job_id)
        assert (ended.status, ended.attempt, ended.result) == ("succeeded", 3, b'"done"')
        assert (ended.reason, ended.error) == (None, None)
        assert [each.reason for each in ended.history] == ["error", "timeout"]
        second = ended.history[1]
        assert second.attempt == 2
        assert second.ended_at - second.started_at == pytest.approx(4.0)
        assert second.error is not None
        assert second.error.code == "TimeoutError"
        tries = ["claim", "note", "retry", "due"]
        assert core.story(job_id) == ["open", *tries, *tries, "claim", "note", "succeed"]
        core.check_stories()


@pytest.mark.virtual
async def test_the_record_of_many_attempts_is_bounded() -> None:
    """It has the newest of them."""

    async def job(ctx: Context) -> None:
        raise OSError(f"attempt {ctx.attempt}")

    task = Task(job, max_attempts=HISTORY + 20, retry=Retry(initial=0, jitter=0))
    async with Tended(task) as core:
        ended = await core.run(job)
        assert ended.attempt == HISTORY + 20
        assert [each.attempt for each in ended.history] == list(range(20, HISTORY + 20))


@pytest.mark.virtual
async def test_a_timeout_is_of_one_attempt_and_is_tried_again() -> None:
    """A ``TimeoutError``, for those who name errors."""
    moments = Moments()

    async def job() -> None:
        moments.mark()
        await asyncio.sleep(100)

    retry = Retry(initial=3, factor=1, jitter=0, on=TimeoutError)
    async with Tended(Task(job, timeout=5, max_attempts=3, retry=retry)) as core:
        ended = await core.run(job)
        moments.are(0, 8, 16)
        assert (ended.status, ended.reason) == ("failed", "timeout")
        assert core.now() == pytest.approx(21, abs=LATE)
        assert [each.reason for each in ended.history] == ["timeout", "timeout"]


@pytest.mark.virtual
async def test_a_timeout_is_final_where_it_is_not_named() -> None:
    """And so is what a function raises instead of it, for the reason timeout."""

    async def job() -> None:
        await asyncio.sleep(100)

    async def cleans_badly() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            raise KeyError("cleanup")

    retry = Retry(on=OSError)  # TimeoutError is one of these.
    tasks = [
        Task(job, timeout=5, max_attempts=3, retry=Retry(on=KeyError)),
        Task(cleans_badly, timeout=5, max_attempts=3, retry=retry),
    ]
    async with Tended(*tasks) as core:
        for name in ("job", "cleans_badly"):
            ended = await core.run(name)
            assert (ended.reason, ended.attempt) == ("timeout", 1)


@pytest.mark.virtual
async def test_a_cancel_between_two_attempts_withdraws_the_job_at_once() -> None:
    """Nobody waits for the next attempt to hear of it."""
    moments = Moments()

    async def job() -> None:
        moments.mark()
        raise OSError("no")

    async with Tended(Task(job, max_attempts=3, retry=Retry(initial=60, jitter=0))) as core:
        job_id = await core.start(job)
        await asyncio.sleep(10)
        canceled = await core.service.cancel(job_id)
        assert (canceled.status, canceled.reason) == ("canceled", "requested")
        assert (canceled.finished_at, canceled.error) == (10.0, None)
        assert len(canceled.history) == 1
        await asyncio.sleep(100)
        moments.are(0)
        core.check_stories()


@pytest.mark.virtual
async def test_an_error_after_a_cancel_is_not_tried_again() -> None:
    """A job that was asked to stop and fails in its cleanup has failed."""

    async def job() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            raise OSError("cleanup")

    async with Tended(Task(job, max_attempts=3)) as core:
        job_id = await core.start(job)
        await asyncio.sleep(1)
        await core.service.cancel(job_id)
        ended = await core.ended(job_id)
        assert (ended.status, ended.reason, ended.attempt) == ("failed", "error", 1)


class Slow(Durable):
    """Every write takes a second, of which so much is over before it is done."""

    before = 0.5
    slow = False

    async def pause(self, part: float) -> None:
        if self.slow:
            await asyncio.sleep(part)

    async def move(self, job_id: str, change: Change) -> Job | None:
        await self.pause(self.before)
        job = await super().move(job_id, change)
        await self.pause(1 - self.before)
        return job

    async def note(self, job_id: str, note: Note) -> Job | None:
        await self.pause(self.before)
        job = await super().note(job_id, note)
        await self.pause(1 - self.before)
        return job


@pytest.mark.virtual
@pytest.mark.parametrize("before", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("tenth", range(-25, 16))
async def test_a_cancel_that_comes_just_as_an_attempt_fails_ends_the_job(
    before: float, tenth: int
) -> None:
    """Whichever of the two writes is first: the job does not wait for an hour as if nobody had
    asked."""

    async def job() -> None:
        await asyncio.sleep(10)
        raise OSError("no")

    store = Slow()
    store.before = before
    task = Task(job, max_attempts=3, retry=Retry(initial=3_600, jitter=0))
    async with Tended(task, store=store) as core:
        job_id = await core.start(job)
        await asyncio.sleep(5)
        store.slow = True
        await asyncio.sleep(5 + tenth / 10)
        await core.service.cancel(job_id)
        await core.engine.idle()
        await asyncio.sleep(5)
        ended = await core.job(job_id)
        assert ended.over, (ended.status, ended.run_at)
        assert ended.cancel_requested_at is not None or ended.reason == "requested"
        assert [event.job.over for event in core.events].count(True) == 1


@pytest.mark.virtual
async def test_an_attempt_that_a_shutdown_interrupts_does_not_count() -> None:
    """However often the service is restarted: its errors count, and nothing else."""
    seen: list[int] = []

    async def job(ctx: Context) -> str:
        seen.append(ctx.attempt)
        if len(seen) <= 5:
            await asyncio.sleep(1_000)
        if len(seen) == 6:
            raise OSError("the one that counts")
        return "done"

    store = Durable()
    task = Task(job, max_attempts=2, retry=SOON)
    job_id = ""
    for _ in range(5):
        async with Tended(task, store=store) as core:
            job_id = job_id or await core.start(job)
            await asyncio.sleep(1)
            core.drain.hurry()
            await core.drain.finish()
            waiting = await core.job(job_id)
            assert (waiting.status, waiting.reason, waiting.attempt) == ("queued", "shutdown", 0)
    async with Tended(task, store=store) as core:
        ended = await core.ended(job_id)
        assert (ended.status, ended.result, ended.attempt) == ("succeeded", b'"done"', 2)
        assert Counter(each.reason for each in ended.history) == {"shutdown": 5, "error": 1}
    assert seen == [1, 1, 1, 1, 1, 1, 2]


@pytest.mark.virtual
@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_job_that_does_not_stop_at_the_shutdown_has_its_next_attempt(
    attempts: int,
) -> None:
    """Where its task allows one: it is left behind, and the next start runs it again."""
    seen: list[int] = []

    async def job(ctx: Context) -> str:
        seen.append(ctx.attempt)
        if len(seen) == 1:
            try:
                await asyncio.sleep(1_000)
            except asyncio.CancelledError:
                await asyncio.sleep(30)
        return "done"

    store = Durable()
    task = Task(job, max_attempts=attempts)
    async with Tended(task, store=store, drain=1, grace=1) as core:
        job_id = await core.start(job)
        await core.drain.finish()
        left = await core.job(job_id)
        assert left.reason == "shutdown"
        assert left.status == ("failed" if attempts == 1 else "queued")
        assert core.drain.left == 1
        await core.engine.idle()
        assert (await core.job(job_id)).seq == left.seq  # Its late word is refused.
    async with Tended(task, store=store) as core:
        await asyncio.sleep(1)
        ended = await core.job(job_id)
        assert (ended.status, len(seen)) == (("failed", 1) if attempts == 1 else ("succeeded", 2))


@pytest.mark.virtual
async def test_in_memory_nothing_waits_for_a_next_attempt_after_the_shutdown() -> None:
    """Nobody would ever run it: its record says so."""

    async def fails() -> None:
        raise OSError("no")

    async def waits() -> None:
        await asyncio.sleep(1_000)

    retry = Retry(initial=60)
    tasks = [Task(each, max_attempts=3, retry=retry) for each in (fails, waits)]
    async with Tended(*tasks, drain=1, grace=1) as core:
        between, running = await core.start(fails), await core.start(waits)
        await asyncio.sleep(1)
        await core.drain.finish()
        for job_id in (between, running):
            ended = await core.job(job_id)
            assert (ended.status, ended.reason) == ("canceled", "shutdown")
        core.check_stories()


@pytest.mark.virtual
async def test_a_thread_is_tried_again() -> None:
    """A ``def`` function, as a coroutine."""
    seen: list[int] = []

    def job(ctx: Context) -> str:
        seen.append(ctx.attempt)
        if ctx.attempt < 3:
            raise Busy("wait")
        return "done"

    async with Tended(Task(job, max_attempts=3, retry=Retry(initial=0, on=Busy))) as core:
        ended = await core.run(job)
        assert (ended.result, seen) == (b'"done"', [1, 2, 3])


@pytest.mark.virtual
async def test_between_two_attempts_a_job_takes_no_room() -> None:
    """Others run meanwhile."""
    done: list[float] = []

    async def fails() -> None:
        raise OSError("no")

    async def fine() -> None:
        done.append(asyncio.get_running_loop().time())

    retry = Retry(initial=100, jitter=0)
    async with Tended(Task(fails, max_attempts=2, retry=retry), fine, room=1) as core:
        await core.start(fails)
        await asyncio.sleep(1)
        await core.run(fine)
        assert done == [1.0]
        await asyncio.sleep(100)


@pytest.mark.virtual
async def test_a_job_that_is_always_tried_again_at_once_holds_up_nobody() -> None:
    """Its turn comes after that of the others."""
    attempts: list[int] = []
    done: list[int] = []

    async def hasty(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise RetryAfter(0)

    async def fine() -> None:
        done.append(len(attempts))

    async with Tended(Task(hasty, max_attempts=1_000), fine, room=1) as core:
        job_id = await core.start(hasty)
        for _ in range(10):
            await core.start(fine)
        await core.ended(job_id)
        assert len(attempts) == 1_000
        assert done == [1] * 10


@pytest.mark.virtual
@pytest.mark.parametrize("store", [None, Durable()])
async def test_a_job_that_is_too_late_is_never_run(store: Durable | None) -> None:
    """Whether it waits behind others, is delayed, or is found when its turn comes: it fails with
    the reason expired within a second."""
    begun: list[str] = []

    async def job(name: str) -> None:
        begun.append(name)
        await asyncio.sleep(10)

    async with Tended(job, room=1, store=store) as core:
        task = core.catalog["job"]

        async def start(name: str, options: Options) -> str:
            args = task.arguments.write({"name": name})
            return (await core.service.start(task, args, options))[0].id

        first = await start("first", make_options(expires=5))
        behind = await start("behind", make_options(expires=5))
        in_time = await start("in time", make_options(expires=15))
        never = await start("never", make_options(delay=3, expires=2))
        just = await start("just too late", make_options(expires=20))
        await asyncio.sleep(3.1)
        assert (await core.job(never)).reason == "expired"
        await asyncio.sleep(3)
        late = await core.job(behind)
        assert (late.status, late.reason, late.attempt) == ("failed", "expired", 0)
        assert late.error is not None
        assert late.error.code == "Expired"
        assert late.finished_at == pytest.approx(5, abs=1.1)
        await core.ended(in_time)
        await asyncio.sleep(2)
        assert (await core.job(just)).reason == "expired"
        assert (await core.job(first)).status == "succeeded"
        assert begun == ["first", "in time"]
        core.check_stories()


class Elsewhen(Tended):
    """Its clock shows an epoch's seconds: their rounding is a thousand times coarser."""

    def now(self) -> float:
        return 1_700_000_000.1 + asyncio.get_running_loop().time()


@pytest.mark.virtual
async def test_a_delayed_job_begins_at_its_moment() -> None:
    """Not before it and hardly after it, however many there are and in whichever order they were
    started; also those of the same second."""
    begun: dict[int, float] = {}

    async def job(number: int) -> None:
        begun[number] = core.now()

    dice = random.Random(7)  # noqa: S311 - numbers of a test
    delays = [dice.uniform(0.01, 20) for _ in range(300)]
    async with Elsewhen(job) as core:
        task = core.catalog["job"]
        started = core.now()
        for number, delay in enumerate(delays):
            args = task.arguments.write({"number": number})
            opened, _ = await core.service.start(task, args, make_options(delay=delay))
            assert (opened.status, opened.run_at) == ("scheduled", started + delay)
        await asyncio.sleep(21)
        assert len(begun) == len(delays)
        for number, delay in enumerate(delays):
            assert 0 <= begun[number] - (started + delay) <= LATE


@pytest.mark.virtual
async def test_a_job_that_is_due_sooner_does_not_wait_for_one_that_is_due_later() -> None:
    """And that one is not forgotten when it was canceled."""
    moments = Moments()

    async def job() -> None:
        moments.mark()

    async with Tended(job) as core:
        task = core.catalog["job"]
        ids = []
        for delay in (300.0, 10.25, 5.5, 5.75, 10.5):
            opened, _ = await core.service.start(task, b"{}", make_options(delay=delay))
            ids.append(opened.id)
        await core.service.cancel(ids[2])
        await asyncio.sleep(301)
        moments.are(5.75, 10.25, 10.5, 300)


@pytest.mark.virtual
async def test_a_moment_that_has_passed_is_now() -> None:
    """Such a job is queued, and no job of the future."""

    async def job() -> None: ...

    async with Tended(job) as core:
        await asyncio.sleep(10)
        task = core.catalog["job"]
        for options in (make_options(run_at=5.0), make_options(delay=0)):
            opened, _ = await core.service.start(task, b"{}", options)
            assert (opened.status, opened.run_at) == ("queued", None)
            assert (await core.ended(opened.id)).started_at == 10.0


def in_process(function: Callable[..., Any], **options: Any) -> Task:
    """A task of a process."""
    return Task(function, run="process", **options)


@pytest.mark.slow
@pytest.mark.blocking
async def test_a_process_is_tried_again_after_the_errors_that_its_task_names(
    tmp_path: Path,
) -> None:
    """The process itself judges its error, for its class does not leave it; `Fail` and
    `RetryAfter` count there as well."""
    retry = Retry(initial=0.02, jitter=0, on=Busy)
    tasks = [
        in_process(each, max_attempts=3, retry=retry)
        for each in (
            process_attempts.fails_once,
            process_attempts.is_wrong,
            process_attempts.says_fail,
            process_attempts.asks_for_time,
        )
    ]
    async with Tended(*tasks, room=1) as core:

        async def run(name: str) -> Job:
            return await core.run(name, path=str(tmp_path / name))

        job = await run("fails_once")
        assert (job.status, job.attempt, job.result) == ("succeeded", 2, b'"call 2"')
        assert job.history[0].error == Failure("Busy", "the first time")
        for name, code in (("is_wrong", "ValueError"), ("says_fail", "Fail")):
            job = await run(name)
            assert (job.status, job.reason, job.attempt) == ("failed", "error", 1)
            assert job.error == Failure(code, "call 1")
        job = await run("asks_for_time")
        assert (job.status, job.attempt) == ("succeeded", 2)
        assert (job.started_at or 0.0) - job.history[0].ended_at >= 0.5


@pytest.mark.slow
@pytest.mark.blocking
async def test_a_process_that_dies_is_lost_and_tried_again(tmp_path: Path) -> None:
    """With the backoff of its task."""
    task = in_process(process_attempts.dies_once, max_attempts=2, retry=SOON)
    async with Tended(task, room=1) as core:
        job = await core.run("dies_once", path=str(tmp_path / "calls"))
        assert (job.status, job.attempt, job.result) == ("succeeded", 2, b'"survived"')
        [first] = job.history
        assert first.reason == "lost"
        assert first.error is not None
        assert first.error.code == "ProcessDied"


@pytest.mark.slow
@pytest.mark.blocking
async def test_a_job_that_kills_three_processes_in_a_row_is_poison(tmp_path: Path) -> None:
    """It is not tried again, whatever attempts it has left."""
    task = in_process(process_attempts.always_dies, max_attempts=100, retry=SOON)
    async with Tended(task, room=1) as core:
        job = await core.run("always_dies", path=str(tmp_path / "calls"))
        assert (job.status, job.reason, job.attempt) == ("failed", "poison", 3)
        assert job.error is not None
        assert job.error.message == "it was running when its process died, 3 times in a row"
    assert (tmp_path / "calls").read_text() == "..."


@pytest.mark.slow
@pytest.mark.blocking
async def test_a_process_that_takes_too_long_is_tried_again(tmp_path: Path) -> None:
    """Its timeout is of one attempt."""
    task = in_process(process_attempts.is_slow_once, max_attempts=9, timeout=1.5, retry=SOON)
    async with Tended(in_process(process_attempts.count), task, room=1) as core:
        # The first job of a process waits for its making, which a busy machine draws out.
        assert (await core.run("count", path=str(tmp_path / "warm"))).result == b"1"
        job = await core.run("is_slow_once", path=str(tmp_path / "calls"))
        assert (job.status, job.result) == ("succeeded", b'"quick"')
        assert {each.reason for each in job.history} == {"timeout"}


@pytest.mark.slow
@pytest.mark.blocking
async def test_a_canceled_job_whose_process_dies_is_not_tried_again(tmp_path: Path) -> None:
    """A person has asked for its end, and that it has come to."""
    task = in_process(process_attempts.is_slow_once, max_attempts=5, retry=Retry(initial=600))
    async with Tended(task, room=1) as core:
        job_id = await core.start("is_slow_once", path=str(tmp_path / "calls"))
        await wait_until((tmp_path / "calls").exists, "the function has begun")
        handle = core.registry.get(job_id)
        assert handle is not None
        handle.enter(_kill_it(core, handle))
        await core.service.cancel(job_id)
        job = await core.ended(job_id)
        assert (job.status, job.reason) == ("canceled", "requested")
        assert [each.reason for each in job.history] in ([], ["lost"])


def _kill_it(core: Core, handle: Handle) -> Callable[[], None]:
    """Instead of an interrupt: the kernel was faster."""
    place = core.processes._places[0]

    def kill() -> None:
        assert place.slots is not None
        assert handle.stop == "cancel"
        os.kill(place.slots.slot.pid, signal.SIGKILL)

    return kill


@pytest.mark.parametrize("run", ["process", "thread", "loop"])
def test_errors_that_a_process_could_not_import_are_refused_at_the_definition(run: Lane) -> None:
    """Not found out when a job fails at night; elsewhere any class will do."""

    class Local(Exception):
        pass

    def define() -> Task:
        return Task(process_attempts.count, run=run, max_attempts=2, retry=Retry(on=Local))

    if run == "process":
        with pytest.raises(InvalidTask, match="a process imports exceptions by name"):
            define()
    else:
        assert define().policy.retry.on == (Local,)


@pytest.mark.virtual
async def test_a_job_that_was_tried_again_by_hand_starts_anew() -> None:
    """It is a new job with all its attempts; the old one's record stays."""

    async def job() -> None:
        raise OSError("no")

    async with Tended(Task(job, max_attempts=2, retry=Retry(initial=1))) as core:
        first = await core.run(job)
        second = await core.ended((await core.service.retry(first.id)).id)
        assert (second.retry_of, second.attempt, len(second.history)) == (first.id, 2, 1)
        assert await core.job(first.id) == first


@pytest.mark.virtual
async def test_a_late_word_of_an_earlier_attempt_is_refused() -> None:
    """Its number says which attempt it is of."""
    go = asyncio.Event()

    async def job(ctx: Context) -> str:
        if ctx.attempt == 1:
            await go.wait()
        await asyncio.sleep(1)
        return f"attempt {ctx.attempt}"

    async with Core(Task(job, max_attempts=2)) as core:
        job_id = await core.start(job)
        await asyncio.sleep(1)
        await core.ledger.move(job_id, Move.RESCUE, attempt=1, reason="lost")
        await core.ledger.move(job_id, Move.CLAIM)  # As another process would.
        go.set()
        await core.engine.idle()
        assert (await core.job(job_id)).status == "running"
        assert await core.ledger.move(job_id, Move.SUCCEED, attempt=1) is None
        ended = await core.ledger.move(job_id, Move.SUCCEED, attempt=2)
        assert ended is not None
        core.check_stories()
