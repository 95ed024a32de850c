"""Steps: what one attempt has finished, the next gets from the record and does not do again."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import enum
import functools
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pydantic
import pytest

from quart_app.checks.making import everything
from quart_app.core import steps
from quart_app.core.context import Context
from quart_app.core.start import StartableTask
from quart_app.core.steps import Superseded
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.jobs import Failure, Job, KeptStep
from quart_app.domain.retries import Retry
from quart_app.domain.status import Move
from quart_app.domain.tasks import Task
from quart_app.testing import wait_until
from tests.core.process_attempts import takes_a_step
from tests.core.support import Core, Durable, Tended, results

AT_ONCE = Retry(initial=0, jitter=0)


def again(function: Callable[..., Any], attempts: int = 3) -> Task:
    """A task that is tried again at once."""
    return Task(function, max_attempts=attempts, retry=AT_ONCE)


class Tally:
    """How often each thing was done."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def do(self, what: str) -> str:
        self.done.append(what)
        return what


@pytest.mark.virtual
async def test_a_finished_step_is_not_done_again_after_an_error() -> None:
    """Neither by the next attempt nor by the one after it; the failed step is."""
    tally = Tally()

    async def job(ctx: Context) -> str:
        first = await ctx.step("first", tally.do, "first")
        second = await ctx.step("second", fails_twice, ctx.attempt)
        return f"{first} {second}"

    async def fails_twice(attempt: int) -> str:
        tally.done.append("second")
        if attempt < 3:
            raise OSError("not yet")
        return f"of attempt {attempt}"

    async with Tended(again(job)) as core:
        ended = await core.run(job)
        assert (ended.status, ended.result) == ("succeeded", b'"first of attempt 3"')
    assert tally.done == ["first", "second", "second", "second"]


@pytest.mark.virtual
async def test_a_finished_step_is_not_done_again_after_a_shutdown() -> None:
    """The next process goes on where this one was interrupted."""
    tally = Tally()

    async def job(ctx: Context) -> str:
        await ctx.step("first", tally.do, "first")
        await ctx.step("second", waits_once)
        return await ctx.step("third", tally.do, "third")

    async def waits_once() -> None:
        tally.done.append("second")
        if tally.done.count("second") == 1:
            await asyncio.sleep(1_000)

    store = Durable()
    async with Tended(again(job), store=store) as core:
        job_id = await core.start(job)
        await asyncio.sleep(1)
        core.drain.hurry()
        await core.drain.finish()
        assert (await core.job(job_id)).status == "queued"
    async with Tended(again(job), store=store) as core:
        ended = await core.ended(job_id)
        assert (ended.status, ended.result, ended.attempt) == ("succeeded", b'"third"', 1)
    assert tally.done == ["first", "second", "second", "third"]


@pytest.mark.virtual
async def test_a_finished_step_is_not_done_again_after_a_crash() -> None:
    """What the process had on record when it died is not lost with it."""
    tally = Tally()

    async def job(ctx: Context) -> None:
        for page in range(5):
            await ctx.step(f"page {page}", tally.do, f"page {page}")
            if page == 2 and ctx.attempt == 1:
                await asyncio.sleep(1_000)

    store = Durable()
    async with Tended(again(job), store=store) as core:
        job_id = await core.start(job)
        await asyncio.sleep(1)
        await core.crash()
    async with Tended(again(job), store=store) as core:
        ended = await core.ended(job_id)
        assert (ended.status, ended.attempt) == ("succeeded", 2)
    assert tally.done == [f"page {page}" for page in range(5)]


@dataclass
class Row:
    number: int
    name: str


class Point(msgspec.Struct):
    x: float
    y: float


class Model(pydantic.BaseModel):
    at: dt.datetime
    rows: list[int]


class Colour(enum.Enum):
    RED = "red"


MOMENT = dt.datetime(2026, 1, 31, 8, tzinfo=dt.UTC)


async def a_dataclass() -> Row:
    return Row(1, "one")


async def a_struct() -> Point:
    return Point(0.5, 2.0)


async def a_model() -> Model:
    return Model(at=MOMENT, rows=[1, 2])


async def a_tuple() -> tuple[int, ...]:
    return (1, 2, 3)


async def a_set() -> set[str]:
    return {"a"}


async def a_moment() -> dt.datetime:
    return MOMENT


async def some_bytes() -> bytes:
    return b"\x00\xff"


async def an_enum() -> Colour:
    return Colour.RED


async def a_dict() -> dict[int, Row]:
    return {7: Row(7, "seven")}


async def some_rows() -> list[Row] | None:
    return [Row(1, "one")]


async def nothing() -> None:
    return None


def in_a_thread() -> tuple[Row, Point]:
    return (Row(2, "two"), Point(1.0, 1.5))


TYPED = [
    a_dataclass,
    a_struct,
    a_model,
    a_tuple,
    a_set,
    a_moment,
    some_bytes,
    an_enum,
    a_dict,
    some_rows,
    nothing,
    in_a_thread,
]


async def seen_twice(function: Callable[[], Any]) -> list[Any]:
    """A step's value in the attempt that does it, and in the one that gets it from the record."""
    seen: list[Any] = []

    async def job(ctx: Context) -> None:
        seen.append(await ctx.step("it", function))
        if ctx.attempt == 1:
            raise OSError("again")

    async with Tended(again(job)) as core:
        assert (await core.run(job)).status == "succeeded"
    return seen


@pytest.mark.virtual
@pytest.mark.parametrize("function", TYPED, ids=[each.__name__ for each in TYPED])
async def test_both_attempts_see_the_value_that_the_annotation_promises(
    function: Callable[[], Any],
) -> None:
    """A dataclass is one again, and no dictionary."""
    made = function()
    value = await made if asyncio.iscoroutine(made) else made
    assert await seen_twice(function) == [value, value]


@pytest.mark.virtual
async def test_without_an_annotation_both_attempts_see_plain_json() -> None:
    """Also the first, so that no difference is found in production only."""

    async def plain():  # type: ignore[no-untyped-def]
        return (Row(1, "one"), {2})

    assert await seen_twice(plain) == [[{"number": 1, "name": "one"}, [2]]] * 2


@pytest.mark.virtual
async def test_a_value_that_is_not_as_annotated_comes_as_plain_json() -> None:
    """Both times; a step is not refused for it."""

    async def says_int() -> int:
        return "text"  # type: ignore[return-value]

    async def says_nonsense() -> NoSuchName:  # type: ignore[name-defined]  # noqa: F821
        return [1]

    async def says_threads() -> threading.Thread:
        return [1]  # type: ignore[return-value]

    assert await seen_twice(says_int) == ["text", "text"]
    assert await seen_twice(says_nonsense) == [[1], [1]]
    assert await seen_twice(says_threads) == [[1], [1]]


class Shop:
    def price(self, item: str) -> tuple[str, int]:
        return (item, 3)


@pytest.mark.virtual
async def test_whatever_can_be_called_can_be_a_step() -> None:
    """A method, a partial, a lambda, a builtin, a decorated function."""

    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    async def job(ctx: Context) -> None:
        shop = Shop()
        assert await ctx.step("method", shop.price, "tea") == ("tea", 3)
        assert await ctx.step("partial", functools.partial(shop.price, "milk")) == ("milk", 3)
        assert await ctx.step("lambda", lambda: 1) == 1
        assert await ctx.step("builtin", len, "four") == 4
        assert await ctx.step("decorated", logged(a_tuple)) == (1, 2, 3)
        assert await ctx.step("decorated def", logged(in_a_thread)) == in_a_thread()

    async with Core(job) as core:
        assert (await core.run(job)).error is None


@pytest.mark.virtual
async def test_a_task_can_be_a_step() -> None:
    """What is decorated is called as the plain function that it was, and no job is started."""

    async def total(numbers: list[int]) -> tuple[int, int]:
        return (sum(numbers), len(numbers))

    def double(number: int) -> int:
        threads.append(threading.current_thread().name)
        return 2 * number

    threads: list[str] = []
    total_task: StartableTask[[list[int]], tuple[int, int]] = StartableTask(total)
    double_task: StartableTask[[int], int] = StartableTask(double)

    async def job(ctx: Context) -> None:
        assert await ctx.step("total", total_task, [1, 2]) == (3, 2)
        assert await ctx.step("double", double_task, number=4) == 8

    async with Core(job, total_task, double_task) as core:
        assert (await core.run(job)).error is None
        assert (await core.store.counts())["succeeded"] == 1
    assert threads[0].startswith("quart-app-job")


@pytest.mark.virtual
async def test_a_name_is_used_once_in_an_attempt() -> None:
    """A loop that forgets its item is told so, instead of getting the first item's result."""
    tally = Tally()

    async def job(ctx: Context) -> None:
        for _ in range(2):
            await ctx.step("page", tally.do, "page")

    async with Core(job) as core:
        ended = await core.run(job)
        assert ended.error is not None
        assert ended.error.code == "ValueError"
        assert "this job had a step 'page' already" in ended.error.message
    assert tally.done == ["page"]


@pytest.mark.virtual
@pytest.mark.parametrize("name", ["", "x" * 201, 7, None, b"bytes"])
async def test_a_name_is_a_text_of_at_most_200_characters(name: Any) -> None:
    """Anything else is refused before the step is done."""
    tally = Tally()

    async def job(ctx: Context) -> None:
        await ctx.step(name, tally.do, "it")

    async with Core(job) as core:
        ended = await core.run(job)
        assert ended.error is not None
        assert ended.error.message == "a step's name is a text of 1 to 200 characters"
    assert tally.done == []


@pytest.mark.virtual
async def test_a_name_that_cannot_be_kept_is_refused_before_the_step_is_done() -> None:
    """Such as that of a file with stray bytes."""
    tally = Tally()

    async def job(ctx: Context) -> None:
        await ctx.step("caf\udce9", tally.do, "it")

    async with Core(job) as core:
        ended = await core.run(job)
        assert ended.error is not None
        message = r"a step's name is a text, and 'caf\udce9' has bytes that are none"
        assert ended.error == Failure("ValueError", message)
    assert tally.done == []


@pytest.mark.virtual
@pytest.mark.parametrize("name", ["x" * 200, "seite ü 1/2", "'; DROP TABLE steps", " ", "\n"])
async def test_any_other_text_is_a_name(name: str) -> None:
    """It is found again by it."""
    tally = Tally()

    async def job(ctx: Context) -> None:
        await ctx.step(name, tally.do, "it")
        if ctx.attempt == 1:
            raise OSError("again")

    async with Tended(again(job)) as core:
        assert (await core.run(job)).status == "succeeded"
    assert tally.done == ["it"]


@pytest.mark.virtual
async def test_the_number_of_steps_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One job cannot fill the disk with crumbs."""
    assert steps.MOST == 10_000
    monkeypatch.setattr(steps, "MOST", 5)
    tally = Tally()

    async def job(ctx: Context) -> None:
        for number in range(9):
            await ctx.step(f"step {number}", tally.do, str(number))

    async with Core(job) as core:
        ended = await core.run(job)
        assert ended.error is not None
        assert ended.error.message.startswith("a job may have 5 steps")
    assert tally.done == list("01234")


@pytest.mark.virtual
async def test_a_result_that_is_too_large_is_refused() -> None:
    """The message has the sizes and says what to do; nothing is kept of it."""

    async def job(ctx: Context) -> None:
        await ctx.step("small", str, "x" * 98)
        await ctx.step("large", str, "x" * 99)

    async with Core(job, max_result=100) as core:
        ended = await core.run(job)
        assert ended.error is not None
        assert ended.error.code == "ValueError"
        assert ended.error.message == (
            "the result of step 'large' has 101 bytes of JSON, 100 are allowed: keep it elsewhere "
            "and return where"
        )
        assert set(await core.store.steps(ended.id)) == {"small"}


@pytest.mark.virtual
@pytest.mark.parametrize("value", [object(), {object(): 1}, "\ud800", 1j])
async def test_a_result_that_is_no_json_is_refused(value: Any) -> None:
    """With the step's name."""

    async def job(ctx: Context) -> None:
        await ctx.step("odd", lambda: value)

    async with Core(job) as core:
        ended = await core.run(job)
        assert ended.error is not None
        assert ended.error.code == "TypeError"
        assert ended.error.message.startswith("the result of step 'odd' cannot be written as JSON")
        assert await results(core.store, ended.id) == {}


async def test_a_def_step_does_not_block_the_loop() -> None:
    """It is called in a thread, an async one on the loop."""
    go = threading.Event()
    where: dict[str, int] = {}

    def blocks() -> str:
        where["def"] = threading.get_ident()
        assert go.wait(10)
        return "went on"

    async def stays() -> None:
        where["async"] = threading.get_ident()

    async def job(ctx: Context) -> str:
        await ctx.step("async", stays)
        return await ctx.step("def", blocks)

    async with Core(job) as core:
        job_id = await core.start(job)
        await wait_until(lambda: "def" in where, "the thread has begun")
        go.set()  # The loop has come here while the step stands still.
        assert (await core.ended(job_id)).result == b'"went on"'
    assert where["async"] == threading.get_ident() != where["def"]


@pytest.mark.parametrize("cancels", [1, 2])
async def test_a_job_is_not_called_canceled_while_its_thread_works(cancels: int) -> None:
    """Nothing can stop a thread: the cancel waits for it, and is not hurried by a timeout of the
    function's own."""
    begun, go = threading.Event(), threading.Event()
    after: list[str] = []

    def blocks() -> None:
        begun.set()
        assert go.wait(10)
        after.append("end of the thread")

    async def job(ctx: Context) -> None:
        async with asyncio.timeout(0.01 if cancels == 2 else None):
            await ctx.step("blocks", blocks)

    async with Core(job) as core:
        job_id = await core.start(job)
        await wait_until(begun.is_set, "the thread has begun")
        await asyncio.sleep(0.05)  # The timeout has come by then.
        await core.service.cancel(job_id)
        for _ in range(5):
            await asyncio.sleep(0.005)
            assert (await core.job(job_id)).status == "running"
        go.set()
        ended = await core.ended(job_id)
        assert (ended.status, ended.reason) == ("canceled", "requested")
        assert after == ["end of the thread"]
        core.check_stories()


@pytest.mark.virtual
async def test_an_error_of_a_def_step_is_the_functions_to_catch() -> None:
    """Its class and its message are what they were."""
    caught: list[Exception] = []

    def fails() -> None:
        raise KeyError("month")

    async def job(ctx: Context) -> str:
        try:
            await ctx.step("fails", fails)
        except KeyError as error:
            caught.append(error)
        return await ctx.step("instead", str, "instead")

    async with Core(job) as core:
        assert (await core.run(job)).result == b'"instead"'
        assert [each.args for each in caught] == [("month",)]
        caught.clear()


@pytest.mark.virtual
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
async def test_a_def_step_that_exits_ends_only_its_job(error: BaseException) -> None:
    """``sys.exit()`` in a step's thread leaves the service standing."""

    def leaves() -> None:
        if isinstance(error, SystemExit):
            sys.exit(3)
        raise type(error)

    async def job(ctx: Context) -> None:
        await ctx.step("leaves", leaves)

    async def fine() -> None: ...

    async with Core(job, fine) as core:
        ended = await core.run(job)
        assert (ended.status, ended.reason) == ("failed", "error")
        assert ended.error is not None
        assert ended.error.code == type(error).__name__
        assert (await core.run(fine)).status == "succeeded"


@pytest.mark.virtual
async def test_a_def_step_that_raises_stop_iteration_ends_its_job() -> None:
    """``next()`` on something empty: the job fails, and does not wait for ever."""

    def empty() -> int:
        return next(iter([]))

    async def job(ctx: Context) -> None:
        await ctx.step("empty", empty)

    async with Core(job) as core:
        ended = await core.run(job)
        assert ended.error is not None
        assert ended.error.code == "RuntimeError"
        assert "StopIteration" in ended.error.message


@pytest.mark.virtual
async def test_a_def_step_may_look_whether_it_is_to_stop() -> None:
    """Where it stops by that flag, the job is canceled."""
    begun = threading.Event()

    async def job(ctx: Context) -> None:
        def polls() -> None:
            begun.set()
            while True:
                ctx.check_canceled()

        await ctx.step("polls", polls)

    async with Core(job) as core:
        job_id = await core.start(job)
        await wait_until(begun.is_set, "the thread has begun")
        await core.service.cancel(job_id)
        assert (await core.ended(job_id)).status == "canceled"


VOICE: contextvars.ContextVar[str] = contextvars.ContextVar("voice", default="none")


@pytest.mark.virtual
async def test_a_def_step_sees_the_context_variables_of_its_job() -> None:
    """And what it sets there stays in it."""

    def look() -> str:
        before = VOICE.get()
        VOICE.set("of the step")
        return before

    async def job(ctx: Context) -> list[str]:
        VOICE.set("of the job")
        return [await ctx.step("look", look), VOICE.get()]

    async with Core(job) as core:
        assert (await core.run(job)).result == b'["of the job","of the job"]'


@pytest.mark.virtual
async def test_steps_may_be_taken_side_by_side() -> None:
    """With gather and with a task group; the next attempt takes only the one that failed."""
    done: list[int] = []

    async def page(number: int, attempt: int) -> int:
        await asyncio.sleep(number)
        if number == 3 and attempt == 1:
            raise OSError("page 3")
        done.append(number)
        return 10 * number

    async def job(ctx: Context) -> list[int]:
        calls = [ctx.step(f"page {n}", page, n, ctx.attempt) for n in range(5)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        async with asyncio.TaskGroup() as group:
            last = group.create_task(ctx.step("last", page, 7, ctx.attempt))
        return [await last, *(result for result in results if isinstance(result, int))]

    async with Tended(again(job)) as core:
        ended = await core.run(job)
        assert (ended.attempt, ended.result) == (2, b"[70,0,10,20,30,40]")
    assert done == [0, 1, 2, 4, 3, 7]


@pytest.mark.virtual
async def test_the_record_is_read_once_for_all_steps_of_an_attempt() -> None:
    """And not at all in the first attempt, which has none."""

    class Counted(Durable):
        reads = 0

        async def steps(self, job_id: str) -> dict[str, KeptStep]:
            self.reads += 1
            await asyncio.sleep(1)
            return await super().steps(job_id)

    async def job(ctx: Context) -> None:
        await asyncio.gather(*(ctx.step(f"step {n}", str, n) for n in range(20)))
        assert store.reads == ctx.attempt - 1
        if ctx.attempt < 3:
            raise OSError("again")

    store = Counted()
    async with Tended(again(job), store=store) as core:
        assert (await core.run(job)).error is None
    assert store.reads == 2


@pytest.mark.virtual
async def test_a_step_may_take_steps() -> None:
    """Each has its own name and its own place on the record."""

    async def outer(ctx: Context) -> int:
        return 1 + await ctx.step("inner", inner)

    async def inner() -> int:
        return 41

    async def job(ctx: Context) -> int:
        return await ctx.step("outer", outer, ctx)

    async with Core(job) as core:
        ended = await core.run(job)
        assert ended.result == b"42"
        assert await results(core.store, ended.id) == {"inner": b"41", "outer": b"42"}


@pytest.mark.virtual
async def test_a_thread_takes_steps_without_await() -> None:
    """`step_sync`: the same record, the same rules."""
    done: list[str] = []

    def part(name: str) -> tuple[str, int]:
        done.append(name)
        return (name, threading.get_ident())

    def job(ctx: Context) -> int:
        name, ident = ctx.step_sync("a", part, "a")
        assert name == "a"
        if ctx.attempt == 1:
            assert ident == threading.get_ident()  # Where it is called, and not elsewhere.
            raise OSError("again")
        with pytest.raises(ValueError, match="had a step 'a' already"):
            ctx.step_sync("a", part, "a")
        with pytest.raises(TypeError, match="cannot be written as JSON"):
            ctx.step_sync("b", object)
        return ctx.attempt

    async with Tended(again(job)) as core:
        ended = await core.run(job)
        assert (ended.error, ended.result) == (None, b"2")
    assert done == ["a"]


async def test_step_sync_on_the_loop_is_refused() -> None:
    """It would wait for the loop that waits for it; the message says what to call."""

    async def on_loop(ctx: Context) -> None:
        ctx.step_sync("it", len, "x")

    def sync_on_loop(ctx: Context) -> None:
        ctx.step_sync("it", len, "x")

    async with Core(on_loop, Task(sync_on_loop, run="loop")) as core:
        for name in ("on_loop", "sync_on_loop"):
            ended = await core.run(name)
            assert ended.error is not None
            assert ended.error.code == "RuntimeError"
            assert ended.error.message == (
                "step_sync blocks the event loop: use await ctx.step(...)"
            )


@pytest.mark.virtual
async def test_a_step_in_a_thread_may_take_steps_there() -> None:
    """A ``def`` step of an async job is in a thread, too."""

    async def job(ctx: Context) -> int:
        return await ctx.step("outer", lambda: ctx.step_sync("inner", len, "abc") + 1)

    async with Core(job) as core:
        ended = await core.run(job)
        assert ended.result == b"4"
        assert await results(core.store, ended.id) == {"inner": b"3", "outer": b"4"}


async def test_a_canceled_thread_takes_no_further_step() -> None:
    """`step_sync` stops there, as `check_canceled` does."""
    begun, go = threading.Event(), threading.Event()
    done: list[str] = []

    def job(ctx: Context) -> None:
        ctx.step_sync("first", done.append, "first")
        begun.set()
        assert go.wait(10)
        ctx.step_sync("second", done.append, "second")

    async with Core(job) as core:
        job_id = await core.start(job)
        await wait_until(begun.is_set, "the first step is done")
        await core.service.cancel(job_id)
        go.set()
        assert (await core.ended(job_id)).status == "canceled"
    assert done == ["first"]


@pytest.mark.slow
@pytest.mark.blocking
async def test_a_process_has_no_steps() -> None:
    """It cannot reach the record, and says what to do instead."""
    async with Core(Task(takes_a_step, run="process"), room=1) as core:
        ended = await core.run(takes_a_step)
        assert ended.error is not None
        assert ended.error.code == "RuntimeError"
        assert ended.error.message == (
            'a run="process" function has no steps: make it a step of an async task'
        )


@pytest.mark.virtual
async def test_an_attempt_that_was_superseded_keeps_no_step() -> None:
    """It hears so, and the newer attempt's record stays as it is."""
    heard: list[str] = []
    tally = Tally()

    async def job(ctx: Context) -> None:
        await ctx.step(f"before {ctx.attempt}", tally.do, "kept")
        await asyncio.sleep(10)
        try:
            await ctx.step("after", tally.do, f"attempt {ctx.attempt}")
        except Superseded as error:
            heard.append(str(error))
            raise

    async with Core(Task(job, max_attempts=2)) as core:
        job_id = await core.start(job)
        await asyncio.sleep(1)
        await core.ledger.move(job_id, Move.RESCUE, attempt=1, reason="lost")
        await core.engine.idle()
        assert heard == [f"attempt 1 of job {job_id} was superseded"]
        assert await results(core.store, job_id) == {"before 1": b'"kept"'}
        assert (await core.job(job_id)).status == "queued"
        await core.engine.submit(job_id, "loop")
        ended = await core.ended(job_id)
        assert (ended.status, ended.attempt) == ("succeeded", 2)
        assert (await results(core.store, job_id))["after"] == b'"attempt 2"'
        core.check_stories()


@pytest.mark.virtual
async def test_a_step_after_the_end_of_its_job_is_not_kept() -> None:
    """As from something that the function left running."""
    left: list[asyncio.Task[str]] = []

    async def job(ctx: Context) -> None:
        left.append(asyncio.create_task(late(ctx)))

    async def late(ctx: Context) -> str:
        await asyncio.sleep(1)
        return await ctx.step("late", Tally().do, "late")

    async with Core(job) as core:
        ended = await core.run(job)
        with pytest.raises(Superseded):
            await left[0]
        assert await results(core.store, ended.id) == {}


class Away(Durable):
    """Neither keeps nor reads steps until a moment."""

    back = 0.0

    def check(self) -> None:
        if asyncio.get_running_loop().time() < self.back:
            raise StoreUnavailable("the disk is full")

    async def keep_step(self, job_id: str, name: str, step: KeptStep) -> bool:
        self.check()
        return await super().keep_step(job_id, name, step)

    async def steps(self, job_id: str) -> dict[str, KeptStep]:
        self.check()
        return await super().steps(job_id)


@pytest.mark.virtual
async def test_a_step_waits_until_the_store_keeps_it(caplog: pytest.LogCaptureFixture) -> None:
    """It is done once, and its result is not lost because the disk was full for a minute."""
    tally = Tally()

    async def job(ctx: Context) -> str:
        return await ctx.step("it", tally.do, "it")

    store = Away()
    async with Core(job, store=store) as core:
        store.back = 60.0
        ended = await core.run(job)
        assert (ended.result, tally.done) == (b'"it"', ["it"])
        assert 60.0 <= core.now() <= 61.0
        assert await results(store, ended.id) == {"it": b'"it"'}
    assert f"step 'it' of job {ended.id} cannot be written" in caplog.text


@pytest.mark.virtual
async def test_a_step_is_not_done_while_nobody_knows_whether_it_was() -> None:
    """A later attempt waits until the record can be read."""
    tally = Tally()

    async def job(ctx: Context) -> None:
        await ctx.step("it", tally.do, "it")
        if ctx.attempt == 1:
            store.back = core.now() + 60
            raise OSError("again")

    store = Away()
    async with Tended(again(job), store=store) as core:
        assert (await core.run(job)).status == "succeeded"
        assert core.now() >= 60
    assert tally.done == ["it"]


@pytest.mark.virtual
async def test_a_job_can_be_canceled_while_its_step_cannot_be_kept() -> None:
    """A store in trouble holds nobody."""
    tally = Tally()

    async def job(ctx: Context) -> None:
        await ctx.step("it", tally.do, "it")

    store = Away()
    async with Core(job, store=store) as core:
        store.back = 1_000.0
        job_id = await core.start(job)
        await asyncio.sleep(5)
        await core.service.cancel(job_id)
        assert (await core.ended(job_id)).status == "canceled"
        assert core.now() == 5.0


@pytest.mark.virtual
async def test_the_steps_of_a_job_are_its_own() -> None:
    """Another job of the same task has the same names, and a repetition of a job starts anew."""
    tally = Tally()

    async def job(ctx: Context, name: str) -> str:
        return await ctx.step("it", tally.do, name)

    async with Core(job) as core:
        first = await core.run(job, name="a")
        assert (await core.run(job, name="b")).result == b'"b"'
        repeated = await core.service.retry(first.id)
        assert (await core.ended(repeated.id)).result == b'"a"'
    assert tally.done == ["a", "b", "a"]


@pytest.mark.virtual
async def test_a_job_that_is_forgotten_takes_its_steps_with_it() -> None:
    """Nothing of it stays in the store."""

    async def job(ctx: Context) -> None:
        await ctx.step("it", Tally().do, "x" * 100)

    async with Tended(job, retention=everything(0, 1e9, 2**40)) as core:
        ended: Job = await core.run(job)
        await asyncio.sleep(2)
        assert await core.store.get(ended.id) is None
        assert await results(core.store, ended.id) == {}
