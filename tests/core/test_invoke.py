"""The edge of user code: whatever a function does comes back as one ending."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import msgspec
import pydantic
import pytest

from quart_app.core.context import Context
from quart_app.core.invoke import _inside
from quart_app.domain.jobs import Failure
from quart_app.domain.tasks import Task
from tests.core.support import Core

pytestmark = pytest.mark.virtual


class Person(pydantic.BaseModel):
    name: str


class Broken(pydantic.BaseModel):
    """A model whose own writing fails."""

    def model_dump(self, **options: Any) -> Any:
        raise RuntimeError("half written")


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


async def test_where_a_function_runs_is_said_by_its_task() -> None:
    """On the loop or in a thread, also ``def`` functions."""

    def name() -> str:
        return threading.current_thread().name

    async with Core(Task(name, name="here", run="loop"), Task(name, name="there")) as core:
        assert (await core.run("here")).result == b'"MainThread"'
        assert b"quart-app-job" in ((await core.run("there")).result or b"")


@pytest.mark.parametrize("run", ["loop", "thread"])
async def test_a_result_is_json(run: Any) -> None:
    """Also a model's; what is none makes the job fail, with words."""

    def person() -> Person:
        return Person(name="Ann")

    def odd() -> object:
        return object()

    def broken() -> Broken:
        return Broken()

    def loop() -> list[Any]:
        items: list[Any] = []
        items.append(items)
        return items

    functions = [Task(each, run=run) for each in (person, odd, broken, loop)]
    async with Core(*functions) as core:
        assert (await core.run(person)).result == b'{"name":"Ann"}'
        for function, words in [(odd, "object cannot be"), (broken, "half written"), (loop, "")]:
            job = await core.run(function)
            assert job.error is not None
            assert (job.status, job.error.code) == ("failed", "InvalidResult")
            assert "the result cannot be written as JSON" in job.error.message
            assert words in job.error.message


@pytest.mark.parametrize("run", ["loop", "thread"])
async def test_a_result_is_bounded(run: Any) -> None:
    """What is larger than allowed makes the job fail, and is not kept."""

    def grows(count: int) -> str:
        return "x" * count

    async with Core(Task(grows, run=run), max_result=100) as core:
        assert (await core.run(grows, count=98)).status == "succeeded"
        job = await core.run(grows, count=99)
        assert (job.status, job.result) == ("failed", None)
        assert job.error == Failure(
            "ResultTooLarge", "the result has 101 bytes of JSON, 100 are allowed"
        )


@pytest.mark.parametrize("run", ["loop", "thread"])
async def test_an_error_that_cannot_be_shown_is_an_error_all_the_same(run: Any) -> None:
    """The job fails with its class."""

    def fails() -> None:
        raise Silent

    async with Core(Task(fails, run=run)) as core:
        job = await core.run(fails)
        assert job.error == Failure("Silent", "(this exception cannot be shown)")


@pytest.mark.parametrize("run", ["loop", "thread"])
async def test_an_error_of_what_is_no_text_can_be_shown(run: Any) -> None:
    """Such as the name of a file with stray bytes, in which documents cannot be written."""
    stray = "caf\udce9"

    def fails() -> None:
        raise FileNotFoundError(2, "No such file", stray)

    def says() -> None:
        raise ValueError(stray)

    def returns() -> str:
        return stray

    async with Core(*(Task(each, run=run) for each in (fails, says, returns)), debug=True) as core:
        for function, message in ((fails, "'caf\\udce9'"), (says, "caf?"), (returns, "udce9")):
            error = (await core.run(function)).error
            assert error is not None
            assert message in error.message
            assert msgspec.json.decode(msgspec.json.encode(error), type=Failure) == error


@pytest.mark.parametrize("run", ["loop", "thread"])
async def test_a_stop_iteration_is_an_error_like_any_other(run: Any) -> None:
    """It means something to the machinery below, and must not reach it."""

    def stops() -> None:
        raise StopIteration("end")

    async with Core(Task(stops, run=run)) as core:
        job = await core.run(stops)
        assert (job.status, job.error) == ("failed", Failure("StopIteration", "end"))


async def test_a_sync_function_on_the_loop_may_be_asked_to_stop_while_it_runs() -> None:
    """It sees the flag; the cancel does not reach what comes after it."""

    def job(ctx: Context) -> bool:
        handle = core.registry.get(ctx.id)
        assert handle is not None
        handle.ask("cancel")
        return ctx.canceled

    async with Core(Task(job, run="loop")) as core:
        ended = await core.run(job)
        assert (ended.status, ended.result) == ("succeeded", b"true")


def test_where_no_loop_runs_no_task_is_inside_one() -> None:
    """As when its coroutine is closed after the loop's end."""
    assert not _inside(cast("asyncio.Task[None]", None))


async def test_the_context_is_passed_by_its_own_name() -> None:
    """Wherever it stands among the parameters."""

    async def job(number: int, here: Context | None = None) -> list[object]:
        assert here is not None
        return [number, here.id, here.attempt, here.canceled]

    async with Core(job) as core:
        ended = await core.run(job, number=7)
        assert ended.result == f'[7,"{ended.id}",1,false]'.encode()


async def test_each_call_has_arguments_of_its_own() -> None:
    """One job may change its list; the next one's is as it was started."""

    async def job(words: list[str] = []) -> list[str]:  # noqa: B006
        words.append("x")
        await asyncio.sleep(1)
        return words

    async with Core(job) as core:
        ids = [await core.start(job) for _ in range(3)]
        assert {(await core.ended(each)).result for each in ids} == {b'["x"]'}
