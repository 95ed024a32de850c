"""What tests of a job's log share: a core whose jobs are heard, and its lines."""

from __future__ import annotations

from types import TracebackType

from quart_app.core.logs import Capture
from quart_app.domain.jobs import Job
from tests.core.support import Tended

Said = list[tuple[str, str]]
"""Levels and texts."""


class Heard(Tended):
    """A core as it runs in the app, with its jobs' logging and printing captured."""

    async def __aenter__(self) -> Heard:
        await super().__aenter__()
        Capture.install()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        Capture.remove()
        await super().__aexit__(kind, error, tb)

    async def said(self, job: Job | str) -> Said:
        """The lines of a job's log."""
        job_id = job if isinstance(job, str) else job.id
        return [(line.level, line.text) for line in await self.store.logs(job_id, 0, 100_000)]
