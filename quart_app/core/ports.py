"""The two seams: where jobs are kept (`Store`) and what delivers them (`Engine`).

Only Protocols may live here, with the rules that every implementation keeps; the conformance
suites `quart_app.testing.check_store` and `check_engine` hold them to it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from quart_app.domain.jobs import Change, Job, JobEvent, Note, Page, Query, Retention
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

    async def open(self) -> None:
        """Make the store ready."""

    async def close(self) -> None:
        """Let go of it. Twice is fine; afterwards every call raises `StoreUnavailable`."""

    async def add(self, jobs: Sequence[Job], max_waiting: int) -> list[tuple[Job, bool]]:
        """Keep new jobs, all or none, each with its ``order`` and ``seq``.

        A job whose (task, key) is known is not added: the known one stands in its place. Keys
        within one call are different, and either all of them are known or none.

        Returns:
            for each job the kept version, and whether it was added.

        Raises:
            QueueFull: where more than ``max_waiting`` would wait.
            KeyReused: where a known key comes with other arguments, or among unknown ones.
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

    async def prune(self, retention: Retention, now: float, limit: int) -> int:
        """Forget finished jobs beyond the retention, oldest first; returns how many."""

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

    def holds(self, job_id: str) -> bool:
        """Whether this engine will deliver the job, or is doing so."""

    async def idle(self) -> None:
        """Wait until nothing runs here and nothing waits here."""

    async def close(self) -> list[str]:
        """Stop delivering. Returns the ids that still waited; what runs is left alone."""
