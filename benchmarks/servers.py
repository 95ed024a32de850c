"""The apps that the benchmarks put under load, for ``hypercorn benchmarks.servers:NAME``.

`bare` and `reading` are what people write without this package; `raw` is the least that any ASGI
app can do. Nothing may live here that measures.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
from quart import Quart, Response, request

from benchmarks.tasks import NO_LIMITS, free, limited, moves, noop, sleeper, stamps
from quart_app import create_app
from quart_app.http.documents import JobDocument

FILE = Path(os.environ.get("BENCHMARK_FOLDER", ".")) / "jobs.db"
STORES = {"memory": "memory", "durable": f"sqlite:///{FILE}"}
KEEP = {"QUART_APP_RETAIN_COUNT": 10_000_000, "QUART_APP_RETAIN_BYTES": 2**40}


def _ours(store: str, **settings: int) -> Quart:
    tasks = [noop, sleeper]
    return create_app(
        tasks, QUART_APP_DEFAULT_TASK="noop", QUART_APP_STORE=STORES[store], **NO_LIMITS, **settings
    )


ours = _ours("memory")
"""As users have it, except that the limits refuse nothing: 10,000 finished jobs are kept."""

durable = _ours("durable")
"""The same in a file."""

keeping = _ours("memory", **KEEP)
"""Forgets nothing."""

keeping_durable = _ours("durable", **KEEP)
"""Forgets nothing, in a file."""

million = _ours("durable", QUART_APP_RETAIN_COUNT=1_000_000, QUART_APP_RETAIN_BYTES=2**40)
"""Forgets one for each that ends, once it has a million."""

few_at_once = create_app(
    [noop, sleeper], QUART_APP_STORE=STORES["durable"], QUART_APP_MAX_RUNNING=4, QUART_APP_DRAIN=0
)
"""Most of its jobs wait."""

watched = create_app([noop, stamps], QUART_APP_STORE="memory", **NO_LIMITS)
"""Its jobs say what time it is."""

shown = create_app([noop, moves], QUART_APP_STORE="memory", **NO_LIMITS)
"""Its jobs move, for who looks at the dashboard."""

controlled = create_app([free, limited], QUART_APP_STORE="memory", **NO_LIMITS)
"""A task under limits, and one without."""

bare = Quart("bare", static_folder=None)
"""The tutorial's app: start an asyncio task, keep it in a set, answer."""

reading = Quart("reading", static_folder=None)
"""The same, and it reads the request's JSON as a route with arguments must."""

telling = Quart("telling", static_folder=None)
"""The same, and it tells what ours does: where the job is, when to look, and a document as long."""

DOCUMENT = msgspec.json.decode(
    msgspec.json.encode(
        JobDocument(
            id="", task="noop", status="queued", reason=None, args=msgspec.Raw(b"{}"), tags=(),
            attempt=0, max_attempts=1, created="", run_at=None, started=None, finished=None,
            updated="", progress=None, message=None, eta=None, position=None,
            cancel_requested=None, retry_of=None, parent=None, url="",
        )
    )
)  # fmt: skip

_tasks: set[asyncio.Task[None]] = set()


def _start() -> dict[str, str]:
    task = asyncio.create_task(noop.function())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return {"status": "Task started"}


@bare.get("/start")
async def _get() -> dict[str, str]:
    return _start()


@bare.post("/start/noop")
async def _post() -> tuple[dict[str, str], int]:
    return _start(), 202


@reading.post("/start/noop")
async def _read() -> tuple[dict[str, str], int]:
    arguments = await request.get_json()
    if arguments != {}:
        return {"status": "These arguments do not fit"}, 422
    return _start(), 202


def _tell() -> Response:
    job_id = str(uuid.uuid4())
    url = f"http://{request.host}/jobs/{job_id}"
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    document = DOCUMENT | {"id": job_id, "created": now, "updated": now, "url": url}
    headers = {"Cache-Control": "no-store", "Retry-After": "1"}
    headers |= {"Location": url, "Operation-Location": url, "Content-Type": "application/json"}
    return Response(msgspec.json.encode(document), 202, headers)


@telling.post("/start/noop")
async def _read_and_tell() -> Response | tuple[dict[str, str], int]:
    arguments = await request.get_json()
    if arguments != {}:
        return {"status": "These arguments do not fit"}, 422
    _start()
    return _tell()


async def raw(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    """Answers 202 to whatever comes."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b'{"status": "Task started"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
