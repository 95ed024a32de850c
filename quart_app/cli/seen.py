"""What `top` sees of the service, asked for again and again in a thread, so that keys never wait.

Nothing may live here that draws.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

import msgspec

from quart_app.cli.remote import Remote
from quart_app.client import calls
from quart_app.client.asked import Filters, filters_query
from quart_app.client.calls import Call, part, reader
from quart_app.client.documents import JobDocument, LogLine, Stats
from quart_app.client.errors import ClientError

EVERY = 1.0
"""Seconds between two looks."""
PATIENCE = 5.0
VANISHED = 20
"""Jobs that are asked for one by one, since they ran a moment ago and are in no list now."""
ENDED = ["succeeded", "failed", "canceled"]


class Frame(msgspec.Struct, frozen=True):
    """A line of a stack."""

    file: str = ""
    line: int = 0
    function: str = ""
    code: str = ""


class Stack(msgspec.Struct, frozen=True):
    """Where a running job is, the innermost last."""

    where: str = ""
    stack: tuple[Frame, ...] = ()


@dataclass(frozen=True)
class Seen:
    """The service at one moment.

    Attributes:
        jobs: those that run, then those that have ended, the last first; or all that match.
        job, lines, stack: of the one that is looked at.
        trouble: why there is nothing newer, in words of others.
        at: when this was seen (monotonic).
    """

    stats: Stats | None = None
    jobs: tuple[JobDocument, ...] = ()
    job: JobDocument | None = None
    lines: tuple[LogLine, ...] = ()
    stack: tuple[Frame, ...] = ()
    trouble: str | None = None
    at: float = field(default_factory=time.monotonic)


class Looker:
    """Looks every second.

    Args:
        remote: the service.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._seen = Seen()
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ran: set[str] = set()
        self._ended: dict[str, JobDocument] = {}
        self.filters: Filters = {}
        self.job_id: str | None = None
        self._thread = threading.Thread(target=self._run, name="looker", daemon=True)

    @property
    def seen(self) -> Seen:
        """The newest."""
        return self._seen

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; waits for what is under way, not for long."""
        self._orders.put(None)
        self._thread.join(PATIENCE)

    def order(self, action: Callable[[], None]) -> None:
        """Do something at once, in the thread, and look again."""
        self._orders.put(action)

    def _run(self) -> None:
        while True:
            self.look()
            with contextlib.suppress(queue.Empty):
                action = self._orders.get(timeout=EVERY)
                if action is None:
                    return
                action()

    def look(self) -> None:
        """Ask for all once; what goes wrong is `Seen.trouble`."""
        try:
            self._seen = self._ask()
        except ClientError as error:
            self._seen = replace(self._seen, trouble=error.detail)

    def _ask(self) -> Seen:
        stats = self._remote.ask(calls.get_stats(), PATIENCE)
        job_id = self.job_id
        if job_id is not None:
            return self._ask_one(stats, job_id)
        if "status" in self.filters:
            return Seen(stats, self._list(self.filters))
        running = self._list(cast(Filters, {**self.filters, "status": ["running"]}))
        ended = self._list(cast(Filters, {**self.filters, "status": ENDED}))
        return Seen(stats, (*running, *self._newest_ends(running, ended)))

    def _list(self, filters: Filters) -> tuple[JobDocument, ...]:
        return self._remote.ask(calls.list_jobs(filters_query(**filters), None), PATIENCE).jobs

    def _newest_ends(
        self, running: tuple[JobDocument, ...], ended: tuple[JobDocument, ...]
    ) -> list[JobDocument]:
        """The list is by creation; a job that has run for long is not among its first."""
        found = {job.id: job for job in ended}
        gone = self._ran - found.keys() - {job.id for job in running}
        for job_id in list(gone)[:VANISHED]:
            with contextlib.suppress(ClientError):
                job = self._remote.ask(calls.get_job(job_id), PATIENCE)
                if job.over:
                    self._ended[job_id] = job
        self._ran = {job.id for job in running}
        found = {**(self._ended if not self.filters else {}), **found}
        by_end = sorted(
            found.values(), key=lambda job: job.finished.timestamp() if job.finished else 0.0
        )
        newest = by_end[: -calls.PAGE - 1 : -1]
        self._ended = {job.id: job for job in newest if job.id in self._ended}
        return newest

    def _ask_one(self, stats: Stats, job_id: str) -> Seen:
        job = self._remote.ask(calls.get_job(job_id), PATIENCE)
        lines = self._remote.ask(calls.get_log(job_id), PATIENCE)
        stack: tuple[Frame, ...] = ()
        if job.status == "running":
            call = Call("GET", f"/jobs/{part(job_id)}/stack", reader(Stack))
            with contextlib.suppress(ClientError):  # It has ended, or runs elsewhere.
                stack = self._remote.ask(call, PATIENCE).stack
        return Seen(stats, self._seen.jobs, job, tuple(lines), stack)
