"""Processes whose lines to their server may break, and what they have to say meanwhile and
afterwards. Only starting and asking them may live here."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.conftest import Server, Traces
from tests.e2e.machines import Machines
from tests.e2e.watches import Watch
from tests.faults import Proxy
from tests.servers import PostgresServer, RedisServer

PROMPT = 2.5
"""Seconds: two are promised for an answer, and this machine may be busy."""
BACK = 3.0
"""Seconds after which all goes on."""
ADVICE = ("check", "wait: ", "see whether", "see its log")
"""One of these is in a sentence that says what to do."""


class World:
    """Processes whose lines to their server may break.

    Args:
        kind: of the server.
        server: the server.
        namespace, folder: of the test.
    """

    def __init__(
        self, kind: str, server: RedisServer | PostgresServer, namespace: str, folder: Path
    ) -> None:
        self.kind, self.server = kind, server
        self.traces = Traces(folder / "traces")
        self.gate = folder / "gate"
        self._closing = contextlib.ExitStack()
        self.line = self.proxy()
        self.machines = Machines(self.url(self.line), namespace)
        self._closing.callback(self.machines.stop)
        self._numbers = itertools.count(1)
        self.pool = self._closing.enter_context(ThreadPoolExecutor(32))

    def proxy(self) -> Proxy:
        """One more line to the server."""
        line = Proxy(self.server.port)
        self._closing.callback(line.close)
        return line

    def url(self, line: Proxy) -> str:
        """The store, through a line."""
        return self.server.url.replace(f":{self.server.port}", f":{line.port}")

    def watch(self, server: Server, path: str) -> Watch:
        """Follow a stream."""
        watch = Watch(server.url + path)
        self._closing.callback(watch.stop)
        return watch

    def arguments(self, **others: Any) -> dict[str, Any]:
        """Of a new job."""
        return {"traces": str(self.traces), "number": next(self._numbers), **others}

    def begin(self, web: Server, task: str, **others: Any) -> str:
        """Start a job that runs until the gate opens, and wait until it runs."""
        job_id = web.start(task, **self.arguments(**{"gate": str(self.gate), **others}))
        self.traces.wait("before", job_id)
        web.until(job_id, "running")
        return job_id

    def logs(self) -> str:
        """What the processes have said."""
        servers = [*self.machines.webs, *self.machines.workers]
        return "\n---\n".join("".join(server.log[-30:]) for server in servers)

    def close(self) -> None:
        """End all."""
        self._closing.close()


def timed(call: Callable[[], httpx2.Response]) -> tuple[httpx2.Response, float]:
    """An answer, and the seconds until it came."""
    began = time.monotonic()
    answer = call()
    return answer, time.monotonic() - began


def is_problem(answer: httpx2.Response) -> None:
    """It says 503, and what to do."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1
    document = answer.json()
    assert document["type"] == "urn:quart-app:problem:store-unavailable"
    assert any(words in document["detail"] for words in ADVICE), document["detail"]


def starts_fail(world: World, web: Server) -> dict[str, tuple[dict[str, Any], str]]:
    """Twenty clients start at once, and are told in time that they cannot. By key, what each has
    asked for, and what it was told."""
    asked = {f"key {number}": world.arguments() for number in range(20)}

    def start(key: str) -> tuple[httpx2.Response, float]:
        headers = {"Idempotency-Key": key}
        return timed(lambda: web.post("/start/once", asked[key], **headers))

    answers = dict(zip(asked, world.pool.map(start, asked), strict=True))
    assert max(seconds for _, seconds in answers.values()) < PROMPT, answers
    for answer, _ in answers.values():
        is_problem(answer)
    return {key: (asked[key], answers[key][0].json()["detail"]) for key in asked}


def reads_fail(web: Server, job_id: str) -> None:
    """Whoever asks is told in time; the process itself is well."""
    for path in (f"/jobs/{job_id}", "/jobs", f"/jobs/{job_id}/events", "/readyz"):
        answer, seconds = timed(lambda path=path: web.get(path))  # type: ignore[misc]
        assert seconds < PROMPT, path
        is_problem(answer)
    answer, seconds = timed(lambda: web.get("/healthz"))
    assert (answer.status_code, seconds < 1) == (200, True)


def is_back(world: World, web: Server, healed: float) -> None:
    """Starts are accepted and jobs run, soon after the server could be reached again."""
    while (answer := web.post("/start/once", world.arguments())).status_code != 202:
        assert time.monotonic() < healed + BACK, (answer.text, world.logs())
        time.sleep(0.02)
    job_id = answer.json()["id"]
    while (job := web.job(job_id)).get("status") != "succeeded":
        assert time.monotonic() < healed + BACK + 1, (job, world.logs())
        time.sleep(0.02)
    assert web.get("/readyz").status_code == 200


def has_ended(world: World, web: Server, job_id: str) -> None:
    """A job has succeeded in its first attempt, which began once, and ended once."""
    job = web.until(job_id, "succeeded")
    assert (job["attempt"], job.get("attempts", [])) == (1, []), (job, world.logs())
    assert world.traces.count("before", job_id) == world.traces.count("after", job_id) == 1


def keys_tell(world: World, web: Server, asked: dict[str, tuple[dict[str, Any], str]]) -> None:
    """What was refused in so many words was not kept; what is repeated with its key runs once."""
    for arguments, detail in asked.values():
        if "unknown" not in detail:
            assert not any(each.number == arguments["number"] for each in world.traces.read()), (
                detail
            )
    for key, (arguments, _) in asked.items():
        headers = {"Idempotency-Key": key}
        soon = time.monotonic() + BACK  # The server may not yet have given up who has vanished.
        while (first := web.post("/start/once", arguments, **headers)).status_code == 503:
            assert time.monotonic() < soon, (first.text, world.logs())
            time.sleep(0.1)
        assert first.status_code in (200, 202), first.text
        again = web.post("/start/once", arguments, **headers)
        assert again.json()["id"] == first.json()["id"]
        has_ended(world, web, first.json()["id"])
        begun = [each.job for each in world.traces.read() if each.number == arguments["number"]]
        assert set(begun) == {first.json()["id"]}
