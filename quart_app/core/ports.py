"""The two seams: where jobs are kept (`Store`) and what delivers them (`Engine`).

Only Protocols may live here, with the rules that every implementation keeps; the conformance
suites `quart_app.testing.check_store` and `check_engine` hold them to it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, runtime_checkable

from quart_app.domain.jobs import (
    Change,
    Draft,
    Heard,
    Job,
    JobEvent,
    KeptStep,
    LogLine,
    Note,
    RequestKey,
    Retention,
)
from quart_app.domain.queries import Page, Query
from quart_app.domain.queues import Waiting
from quart_app.domain.status import Status
from quart_app.domain.tasks import Lane
from quart_app.domain.workers import Worker

Run = Callable[[str], Coroutine[Any, Any, float | None]]
"""What an engine calls with the id of a job whose turn has come. Where it gives a number, the job
is to be delivered again after so many seconds, perhaps elsewhere; an engine of one process, whose
job nobody else could take, need not."""


OnAdd = Callable[[Any, Sequence[Job]], Awaitable[None]]
"""Told of new jobs on a connection, in the transaction that keeps them."""
Enqueue = Callable[[Any, Sequence[tuple[str, Lane]]], Awaitable[None]]
"""Takes jobs on a connection, in the transaction that was begun there."""


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

    async def head(self) -> int:
        """The ``seq`` of the last event or line; one beyond it was given before writes were lost,
        as by a backup that was restored."""

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
            how many; ``limit`` at most, and fewer where they are so large that others would have to
            wait for it. 0 where none is beyond the retention.
        """

    async def oldest_queued(self) -> Job | None:
        """The queued job that was opened first."""

    on_commit: Callable[[float], object]
    """Told of the seconds of each commit, from whichever thread makes it; for metrics."""

    async def counts(self) -> dict[Status, int]:
        """How many jobs are in each status, without scanning."""

    async def counts_by_task(self) -> dict[str, dict[Status, int]]:
        """The same for each task that has ever had a job, without scanning."""


@runtime_checkable
class InstantStore(Protocol):
    """What a volatile store does besides that never waits: what most jobs need of it, without the
    coroutine that would be made for each call."""

    instant: bool
    """Whether that is so; not where a subclass waits after all."""

    def add_now(self, job: Job, max_waiting: int) -> Job:
        """As `Store.add`, for one queued job with no ``key``, ``unique``, ``parent`` or
        ``expires_at``.

        Raises:
            QueueFull: where more than ``max_waiting`` would wait.
        """

    def move_now(self, job_id: str, change: Change) -> Job | None:
        """As `Store.move`."""


class SharedStore(Store, Protocol):
    """What a store does besides where several processes work with the same jobs.

    Whether a process is alive is said by the store's own clock: those of machines differ.
    """

    on_add: OnAdd | None
    """Told of new jobs in the transaction that keeps them, where the store has such."""

    async def beat(self, worker: Worker, seconds: float) -> None:
        """A process is alive, for so many seconds from now unless it says so again."""

    async def leave(self, worker_id: str) -> None:
        """A process ends: it is not alive any more, and does not lead. Unknown is no error."""

    async def workers(self) -> list[Worker]:
        """The processes that are alive, in the order of their ids."""

    async def lead(self, worker_id: str, seconds: float) -> bool:
        """Take the lead where nobody has it, or keep it, for so many seconds from now.

        Returns:
            whether this process leads; at any moment no other one does.
        """

    async def add_within(
        self,
        connection: Any,
        jobs: Sequence[Job],
        max_waiting: int,
        key: RequestKey | None = None,
        max_of_task: int | None = None,
    ) -> tuple[list[Job], bool]:
        """As `add`, within the transaction of somebody else's connection: nothing is kept, and
        nothing delivered, unless that is committed. Then `publish` completes it.

        Raises:
            InvalidRequest: this store has no transactions that others could begin.
        """

    async def publish(self) -> list[Job]:
        """Give the jobs that came in with somebody else's transaction their place and their event,
        where that could not be done within it.

        Returns:
            those that are queued now; none where a store has nothing of the kind.
        """

    def listen(self, after: int | None) -> AsyncGenerator[list[Heard] | None]:
        """What changes, whichever process does it, each once and in the order of ``seq``.

        Gives an empty list when it has begun to listen: nothing that is written from then on is
        missed. Gives None where something was missed that cannot be told any more; then it goes on
        with what is told now. Several may listen at once.

        Args:
            after: go on after this ``seq``; from now on for None.

        Raises:
            StoreUnavailable: it cannot go on; whoever listens begins again.
        """


class Engine(Protocol):
    """Delivery, and only that: the id of a job goes in, and `Run` is called with it in its turn.

    It never talks to the store. It may deliver an id more than once: the claim sorts that out.
    """

    shared: bool
    """Whether what waits is not here but where other processes take it, too. Then ``room`` is
    always enough, ``holds`` knows of what runs here, and ``close`` gives nothing back."""

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


@runtime_checkable
class InstantEngine(Protocol):
    """What an engine does besides that never waits."""

    def submit_now(self, job_id: str, lane: Lane) -> None:
        """As `Engine.submit`, without the coroutine."""


@runtime_checkable
class SharedEngine(Engine, Protocol):
    """What an engine does besides whose jobs wait where other processes take them, too."""

    within: Enqueue | None
    """Takes jobs in a transaction of the store's, where both are in one database."""

    async def prepare(self) -> None:
        """Make ready what `submit` and `within` need. Any number of processes may at once.

        Raises:
            StoreUnavailable: it could not be done.
        """

    async def disconnect(self) -> None:
        """Let go of the broker, after `close`: what still runs is not acknowledged, and delivered
        again after the lease. Twice is fine."""
