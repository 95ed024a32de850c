"""The two seams: where jobs are kept (`Store`) and what delivers them (`Engine`).

Only Protocols may live here, with the rules that every implementation keeps; the conformance
suites `quart_app.testing.check_store` and `check_engine` hold them to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Protocol

from quart_app.domain.jobs import (
    Change,
    Job,
    JobEvent,
    Note,
    Page,
    Query,
    RequestKey,
    Retention,
)
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
        self, jobs: Sequence[Job], max_waiting: int, key: RequestKey | None = None
    ) -> tuple[list[Job], bool]:
        """Keep new jobs of one task, all or none, each with its ``order`` and ``seq``.

        A key that the task knows opens nothing: the jobs that it opened come back, in their order.
        It is known as long as all of them are kept.

        Returns:
            the kept versions, and whether they are new.

        Raises:
            QueueFull: where more than ``max_waiting`` would wait.
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

    async def queued(self, tasks: Collection[str], limit: int) -> list[str]:
        """The ids of queued jobs of these tasks, in the order in which they came to be queued."""

    async def expired(self, now: float, limit: int) -> list[Job]:
        """Jobs that wait for their first attempt although their ``expires_at`` has come."""

    async def steps(self, job_id: str) -> dict[str, bytes]:
        """The results of a job's finished steps by name, as JSON."""

    async def keep_step(self, job_id: str, attempt: int, name: str, result: bytes) -> bool:
        """Keep the result of a step, for as long as its job; False where the job is not running
        this attempt (the fence of `move`). The first result of a name stays."""

    async def prune(self, retention: Retention, now: float, limit: int) -> int:
        """Forget finished jobs beyond the retention of their status, the oldest first.

        Returns:
            how many; ``limit`` at most.
        """

    async def counts(self) -> dict[Status, int]:
        """How many jobs are in each status, without scanning."""


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

    def holds(self, job_id: str) -> bool:
        """Whether this engine will deliver the job, or is doing so."""

    async def idle(self) -> None:
        """Wait until nothing runs here and nothing waits here."""

    async def close(self) -> list[str]:
        """Stop delivering. Returns the ids that still waited; what runs is left alone."""
