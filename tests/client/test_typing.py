"""The types that users of the client see: checked by mypy, and run as well."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Iterator
from typing import Any, assert_type

import httpx2

from quart_app import Context, task
from quart_app.client import (
    AsyncClient,
    AsyncJobHandle,
    Client,
    JobDocument,
    JobHandle,
    LogLine,
)
from quart_app.client.documents import Canceled, Counts, Stats, TaskDocument
from quart_app.domain.status import Status


@task
async def report(month: int, *, words: list[str] | None = None) -> dict[str, int]:
    return {"month": month}


@task
async def with_context(ctx: Context, month: int) -> str:
    return str(month)


@task(timeout=60, tags=["cpu"])
def in_thread(size: int = 1) -> float:
    return 0.5


def service(request: httpx2.Request) -> httpx2.Response:
    """Whatever is asked for is done."""
    path = request.url.path
    if path.endswith("/result"):
        return httpx2.Response(200, json=RESULTS[path.split("/")[2]])
    if request.content.startswith(b"["):
        return httpx2.Response(202, json={"jobs": [job("many")]})
    return httpx2.Response(202, json=job(path.split("/")[-1]))


def job(job_id: str) -> dict[str, Any]:
    """A document."""
    return {"id": job_id, "task": "t", "status": "queued"}


RESULTS: dict[str, Any] = {"report": {"month": 3}, "with_context": "3", "in_thread": 0.5}


def test_start_takes_what_the_function_takes_and_a_handle_gives_what_it_returns() -> None:
    """The context is left out; what does not fit is an error of the type checker."""
    with Client(transport=httpx2.MockTransport(service)) as client:
        handle = client.start(report, 3, words=["a"])
        assert_type(handle, JobHandle[dict[str, int]])
        assert_type(handle.result(timeout=5), dict[str, int])
        assert_type(handle.status(), Status)
        assert_type(client.start(with_context, month=3).result(), str)
        assert_type(client.options(delay=60).start(in_thread).result(), float)
        assert_type(client.start("report", month=3), JobHandle[Any])
        assert_type(client.start_many(report, [{"month": 3}]), list[JobHandle[dict[str, int]]])
        assert_type(client.start_many("report", [{"month": 3}]), list[JobHandle[Any]])
        assert_type(client.job("report", report).result(), dict[str, int])
        assert_type(client.job("report"), JobHandle[Any])
        assert_type(handle.events(), Iterator[JobDocument | LogLine])


async def test_the_same_holds_for_asyncio() -> None:
    """With an await."""
    async with AsyncClient(transport=httpx2.MockTransport(service)) as client:
        handle = await client.start(report, 3, words=["a"])
        assert_type(handle, AsyncJobHandle[dict[str, int]])
        assert_type(await handle.result(timeout=5), dict[str, int])
        assert_type(await (await client.start(with_context, month=3)).result(), str)
        assert_type(await (await client.options(key="k").start(in_thread)).result(), float)
        assert_type(await client.start("report", month=3), AsyncJobHandle[Any])
        many = await client.start_many(report, [{"month": 3}])
        assert_type(many, list[AsyncJobHandle[dict[str, int]]])
        assert_type(await client.job("report", report).result(), dict[str, int])
        assert_type(handle.events(), AsyncGenerator[JobDocument | LogLine, None])
        assert_type(client.jobs(task=report), AsyncGenerator[JobDocument, None])


def test_wrong_arguments_are_errors_of_the_type_checker() -> None:
    """mypy reports each of these lines: an ignore that is not needed would be one, too."""

    async def wrong(client: Client, other: AsyncClient) -> None:  # pragma: no cover - for mypy
        client.start(report, "March")  # type: ignore[call-overload]
        client.start(report)  # type: ignore[call-overload]
        client.start(report, 3, year=1)  # type: ignore[call-arg]
        client.start("report", 3)  # type: ignore[call-overload]
        client.start(3)  # type: ignore[call-overload]
        await other.start(report, "March")  # type: ignore[call-overload]
        client.options(dealy=3)  # type: ignore[call-arg]
        client.options(key=3)  # type: ignore[arg-type]
        client.jobs(status="done")  # type: ignore[arg-type]
        client.count(month=3)  # type: ignore[call-arg]
        wanted: JobHandle[int] = client.start(in_thread)  # type: ignore[call-overload]
        wanted.result("soon")  # type: ignore[arg-type]
        assert_type(client.count(task=report), Counts)
        assert_type(client.cancel(status="queued", dry_run=True), Canceled)
        assert_type(client.stats(), Stats)
        assert_type(await other.pause(report), TaskDocument)

    assert inspect.iscoroutinefunction(wrong)
