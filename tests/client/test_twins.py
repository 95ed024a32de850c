"""Both clients are one: they offer the same, and ask for the same."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from quart_app import task
from quart_app.client import AsyncClient, AsyncJobHandle, BadAnswer, Client, JobHandle
from quart_app.client.documents import Canceled, Counts, ErrorReport, Retried, Stats

JOB = {"id": "7", "task": "report", "status": "queued", "newer": {"member": 1}}
TASK = {"name": "report", "newer": True}
AT = "2026-11-22T15:53:41.414Z"
ANSWERS: dict[str, Any] = {
    "/start/report": JOB,
    "/jobs": {"jobs": [JOB], "next": None},
    "/jobs/count": {"counts": {"queued": 3}, "total": 3, "capped": True},
    "/jobs/7": JOB,
    "/jobs/7/result": {"orders": 30},
    "/jobs/7/retry": JOB,
    "/jobs/7/timeline": {
        "timeline": [{"step": 1, "time": AT, "since": 0, "action": "opened", "newer": 1}]
    },
    "/cancel/7": {**JOB, "status": "canceled"},
    "/cancel": {"matched": 3, "canceled": 2, "canceling": 1},
    "/retry": {"matched": 3, "retried": 1, "jobs": ["8"]},
    "/tasks": {"tasks": [TASK]},
    "/tasks/report": TASK,
    "/tasks/report/pause": {**TASK, "paused": True},
    "/tasks/report/resume": TASK,
    "/schedules": {"schedules": [{"task": "report", "cron": "* * * * *", "next": [AT]}]},
    "/schedules/report/run": JOB,
    "/stats": {"now": AT, "tasks": {"report": {"counts": {"queued": 1}, "run": {"p50": 1.5}}}},
    "/errors": {"errors": [{"fingerprint": "ab", "count": 3, "first": AT}], "scanned": 9},
    "/workers": {"workers": [{"id": "a", "started_at": AT}]},
}


@task
async def report(month: int = 1) -> dict[str, int]:
    return {"orders": month}


async def value(found: Any) -> Any:
    """What a method gives, of either client."""
    if inspect.isawaitable(found):
        found = await found
    if hasattr(found, "__anext__"):
        return [each async for each in found]
    return list(found) if hasattr(found, "__next__") else found


USES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], bool]]] = {
    "start": (lambda c: c.start(report, 3), lambda it: it.id == "7"),
    "options": (
        lambda c: c.options(key="k", delay=1.5, priority=-3).start("report", month=3),
        lambda it: it.id == "7",
    ),
    "jobs": (
        lambda c: c.jobs(status=["queued", "running"], args={"a.b": 1}, longer=3),
        lambda it: [each.id for each in it] == ["7"],
    ),
    "count": (
        lambda c: c.count(error="ValueError", until="1h"),
        lambda it: it == Counts(counts={"queued": 3}, total=3, capped=True),
    ),
    "cancel": (
        lambda c: c.cancel(task=report, dry_run=True),
        lambda it: it == Canceled(matched=3, canceled=2, canceling=1),
    ),
    "cancel ids": (lambda c: c.cancel(["7", "8"]), lambda it: it.matched == 3),
    "retry": (
        lambda c: c.retry(status="failed", key="k"),
        lambda it: it == Retried(matched=3, retried=1, jobs=("8",)),
    ),
    "tasks": (lambda c: c.tasks(), lambda it: [each.name for each in it] == ["report"]),
    "task": (lambda c: c.task("report"), lambda it: it.name == "report"),
    "pause": (lambda c: c.pause(report), lambda it: it.paused),
    "resume": (lambda c: c.resume("report"), lambda it: not it.paused),
    "schedules": (lambda c: c.schedules(), lambda it: it[0].next[0].year == 2026),
    "run_schedule": (lambda c: c.run_schedule("report"), lambda it: it.id == "7"),
    "stats": (lambda c: c.stats(), lambda it: isinstance(it, Stats) and it.lag == 0),
    "errors": (
        lambda c: c.errors(task=report, since=3600),
        lambda it: isinstance(it, ErrorReport) and it.errors[0].count == 3,
    ),
    "all errors": (lambda c: c.errors(), lambda it: it.scanned == 9),
    "workers": (lambda c: c.workers(), lambda it: it[0].id == "a"),
    "document": (lambda c: c.job("7").document(), lambda it: it.task == "report"),
    "status": (lambda c: c.job("7").status(), lambda it: it == "queued"),
    "result": (lambda c: c.job("7", report).result(timeout=9), lambda it: it == {"orders": 30}),
    "cancel one": (lambda c: c.job("7").cancel(), lambda it: it == "canceled"),
    "retry one": (lambda c: c.job("7").retry(month=4), lambda it: it.id == "7"),
    "timeline": (lambda c: c.job("7").timeline(), lambda it: it[0].action == "opened"),
}


@pytest.mark.parametrize("name", USES)
def test_both_ask_for_the_same_and_give_the_same(name: str) -> None:
    """Members that only a newer service has are passed over."""
    use, right = USES[name]
    asked: list[tuple[Any, ...]] = []

    def service(request: httpx2.Request) -> httpx2.Response:
        headers = dict(request.headers)
        key = headers.pop("idempotency-key", None)
        assert (key is not None) == ("/start/" in request.url.path)
        asked.append((request.method, str(request.url), request.content, headers))
        return httpx2.Response(200, json=ANSWERS[request.url.path])

    async def main() -> Any:
        async with AsyncClient(transport=httpx2.MockTransport(service)) as client:
            return await value(use(client))

    with Client(transport=httpx2.MockTransport(service)) as client:
        found = asyncio.run(value(use(client)))
    other = asyncio.run(main())
    assert right(found)
    assert right(other)
    assert asked[0] == asked[1]
    assert len(asked) == 2


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (JobHandle, AsyncJobHandle)])
def test_both_offer_the_same(one: type, other: type) -> None:
    """Each method with the same parameters."""

    def offered(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in methods
            if not name.startswith("_")
        }

    assert offered(one) == offered(other)


def test_what_a_handle_says_of_itself() -> None:
    """Its id, and neither the service nor the result."""
    with Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200))) as client:
        assert repr(client) == "<Client http://127.0.0.1:8000>"
        assert repr(client.job("7")) == "<JobHandle 7>"
        with pytest.raises(BadAnswer, match="a result"):
            client.job("7").result()
