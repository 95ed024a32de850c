"""The types that users see: checked by mypy, and run as well."""

from __future__ import annotations

import inspect
from typing import assert_type

import pytest

from quart_app.core.context import Context
from quart_app.core.handles import JobHandle
from quart_app.core.start import StartableTask, task
from quart_app.domain.status import Status
from tests.core.support import Core


@task
async def report(month: int, *, words: list[str] | None = None) -> dict[str, int]:
    return {"month": month}


@task
async def with_context(ctx: Context, month: int) -> str:
    return str(month)


@task(timeout=60, tags=["cpu"])
def in_thread(size: int = 1) -> bytes:
    return b"x" * size


@task(run="thread", name="contextual")
def in_thread_with_context(ctx: Context) -> float:
    return 0.5


@pytest.mark.virtual
async def test_start_takes_what_the_function_takes_and_a_handle_gives_what_it_returns() -> None:
    """The context is left out; what does not fit is an error of the type checker."""
    tasks = (report, with_context, in_thread, in_thread_with_context)
    async with Core(*tasks) as core:
        handle = await report.start(3, words=["a"])
        assert_type(handle, JobHandle[dict[str, int]])
        assert_type(await handle.result(timeout=5), dict[str, int])
        assert_type(await handle.status(), Status)
        assert_type(await handle.cancel(), Status)
        assert_type(handle.id, str)
        assert_type(await (await with_context.start(month=3)).result(), str)
        assert_type(await (await in_thread.start()).result(), bytes)
        assert_type(await (await in_thread_with_context.start()).result(), float)
        await core.engine.idle()


def test_wrong_arguments_are_errors_of_the_type_checker() -> None:
    """mypy reports each of these lines: an ignore that is not needed would be one, too."""

    async def wrong() -> None:  # pragma: no cover - for the type checker only
        await report.start("March")  # type: ignore[arg-type]
        await report.start()  # type: ignore[call-arg]
        await report.start(3, year=1)  # type: ignore[call-arg]
        await with_context.start(Context, 3)  # type: ignore[call-arg,arg-type]
        handle: JobHandle[int] = await in_thread.start()  # type: ignore[assignment]
        await handle.result("soon")  # type: ignore[arg-type]

        @task(run="fork")  # type: ignore[call-overload,untyped-decorator]
        def unused() -> None: ...

    assert inspect.iscoroutinefunction(wrong)
    assert_type(in_thread, StartableTask[[int], bytes])  # type: ignore[assert-type]
