"""The two seams: where jobs are kept (`Store`) and what delivers them (`Engine`).

Only Protocols may live here, with the rules that every implementation keeps; the conformance
suites `quart_app.testing.check_store` and `check_engine` hold them to it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from quart_app.domain.jobs import (
    Change,
    Draft,
    Job,
    JobEvent,
    KeptStep,
    LogLine,
    Note,
    Page,
    Query,
    RequestKey,
    Retention,
)
from quart_app.domain.queues import Waiting
from quart_app.domain.status import Status
from quart_app.domain.tasks import Lane

Run = Callable[[str], Coroutine[Any, Any, None]]
"""What an engine calls with the id of a job whose turn has come."""


class Store(Protocol):
    """The truth about jobs. Every operation is a compare-and-set; the newest version wins nothing.

    Any method may raise `StoreUnavailable`; then nothing was written, or it is unknown whether.
    """

    volatile: bool
    """Whether jobs are gone with this process (then shutdown ends the ones that still wait)."""

    shared: bool
    """Whether other processes may work with the same jobs at the same time."""

    @property
    def trouble(self) -> str | None:
        """What is wrong at the moment, in a sentence; None where all is well."""

    async def open(self) -> None:
        """Make the store ready.

        Raises:
            StoreRefused: it cannot be, and why.
        """

    async def close(self) -> None:
        """Let go of it. Twice is fine; afterwards every call raises `StoreUnavailable`."""

    def reserve(self) -> None:
        """Code of a job goes on after `close`: where one process at a time may work with the store,
        the next one has to wait until this one has ended."""

    def abandon(self) -> None:
        """Let go without an event loop: the one that it was opened on has gone. May block a
        little."""

    async def add(
        self,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        """Keep new jobs of one task, all or none, each with its ``order`` and ``seq``.

        A key that the task knows opens nothing: the jobs that it opened come back, in their order.
        It is known as long as all of them are kept. In the place of a job whose ``unique`` another
        unfinished one of its task has, that one comes back; nothing of it is kept.

        Returns:
            the kept versions, and whether there is a new one among them.

        Raises:
            QueueFull: where more than ``max_waiting`` would wait.
            TaskFull: where more than ``max_of_task`` of this task would.
            KeyReused: the key is known with another fingerprint.
        """

    async def get(self, job_id: str) -> Job | None:
        """The newest version of a job, or None."""

    async def page(self, query: Query) -> Page:
        """One page of jobs, newest first; its cost does not depend on how many are kept."""

    async def move(self, job_id: str, change: Change) -> Job | None:
        """Make a move of the status table: `quart_app.domain.jobs.apply` on the kept version.

        Returns:
            the new version, or None where the fence refused (somebody else was first).
        """

    async def note(self, job_id: str, note: Note) -> Job | None:
        """Write a fact: `quart_app.domain.jobs.annotate` on the kept version."""

    async def events(self, after: int, limit: int) -> list[JobEvent]:
        """The newest event of each job that changed after this ``seq``, in the order of seq."""

    async def due(self, now: float, limit: int) -> list[Job]:
        """Scheduled jobs whose ``run_at`` has come, earliest first."""

    async def queued(self, task: str, limit: int, fair: bool) -> list[Waiting]:
        """Queued jobs of a task: higher priority first, then in the order in which they came to be
        queued. Where it is to be fair, the first ones of each ``turn`` and not those of one alone.
        """

    async def expired(self, now: float, limit: int) -> list[Job]:
        """Jobs that wait for their first attempt although their ``expires_at`` has come."""

    async def active(self, task: str, unique: str) -> Job | None:
        """The unfinished job of a task that has this ``unique``."""

    async def began(self, task: str, since: float) -> list[tuple[str | None, float]]:
        """The ``turn`` of each attempt of a task that began after a moment, and when it did. Only
        asked at the start; of jobs that are still kept."""

    async def steps(self, job_id: str) -> dict[str, KeptStep]:
        """A job's finished steps by name, in the order in which they were finished."""

    async def keep_step(self, job_id: str, name: str, step: KeptStep) -> bool:
        """Keep a finished step, for as long as its job; False where the job is not running the
        step's attempt (the fence of `move`). The first result of a name stays."""

    async def log(
        self, job_id: str, drafts: Sequence[Draft], keep_lines: int, keep_bytes: int
    ) -> list[LogLine]:
        """Keep lines of a job's log, and of all its lines the newest so many and so large; the
        newest one in any case.

        Returns:
            the lines as they are kept; none where the job is unknown.
        """

    async def logs(self, job_id: str, after: int, limit: int) -> list[LogLine]:
        """The lines of a job after this ``seq``, the oldest first."""

    async def keep_fact(self, name: str, value: bytes | None) -> None:
        """Keep a small fact that belongs to no job, or forget it (None)."""

    async def facts(self, prefix: str) -> dict[str, bytes]:
        """The facts whose names begin so."""

    async def prune(self, retention: Retention, now: float, limit: int) -> int:
        """Forget finished jobs beyond the retention of their status, the oldest first.

        Returns:
            how many; ``limit`` at most.
        """

    async def oldest_queued(self) -> Job | None:
        """The queued job that was opened first."""

    on_commit: Callable[[float], object]
    """Told of the seconds of each commit, from whichever thread makes it; for metrics."""

    async def counts(self) -> dict[Status, int]:
        """How many jobs are in each status, without scanning."""

    async def counts_by_task(self) -> dict[str, dict[Status, int]]:
        """The same for each task that has ever had a job, without scanning."""


class Engine(Protocol):
    """Delivery, and only that: the id of a job goes in, and `Run` is called with it in its turn.

    It never talks to the store. It may deliver an id more than once: the claim sorts that out.
    """

    async def work(self, run: Run) -> None:
        """Begin to deliver, on this event loop. Returns at once."""

    async def submit(self, job_id: str, lane: Lane) -> None:
        """Deliver a job when its lane has room. Twice the same id is once, while it is here."""

    async def forget(self, job_id: str) -> None:
        """Do not deliver a job that still waits here; an unknown or running one is no error."""

    def waiting(self, lane: Lane) -> int:
        """How many jobs wait here for room in this lane."""

    def running(self, lane: Lane) -> int:
        """How many jobs of this lane run here."""

    def room(self, lane: Lane) -> int:
        """How many more would run at once: none before `work` and after `close`."""

    on_done: Callable[[str, Lane], None]
    """Told of each job whose delivery is over: its lane has room for another."""

    def step_aside(self, lane: Lane) -> None:
        """A running job of this lane waits for others: its place is free meanwhile."""

    def step_back(self, lane: Lane) -> None:
        """It goes on, and takes a place again, also where there is none."""

    def holds(self, job_id: str) -> bool:
        """Whether this engine will deliver the job, or is doing so."""

    async def idle(self) -> None:
        """Wait until nothing runs here and nothing waits here."""

    async def close(self) -> list[str]:
        """Stop delivering. Returns the ids that still waited; what runs is left alone."""
