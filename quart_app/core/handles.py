"""A started job, as the one who started it in Python holds it.

Nothing may live here that HTTP could not do as well: it is the same service, called by name.
"""

from __future__ import annotations

from typing import Generic, TypeVar, cast

import msgspec

from quart_app.core.children import aside
from quart_app.core.service import Service
from quart_app.domain.jobs import Job
from quart_app.domain.status import Status
from quart_app.domain.tasks import Task

R_co = TypeVar("R_co", covariant=True)


class JobHandle(msgspec.Struct, Generic[R_co], eq=False):
    """A started job, as its starter holds it.

    Attributes:
        id: the job's id, as in HTTP.
    """

    # A struct: one is made for each start, and this way at the least cost.
    _service: Service
    _task: Task
    id: str

    def __repr__(self) -> str:
        return f"<JobHandle {self._task.name} {self.id}>"

    async def job(self) -> Job:
        """The job's whole record.

        Raises:
            NoSuchJob: its record has expired.
        """
        return await self._service.get(self.id)

    async def status(self) -> Status:
        """The job's status at this moment."""
        return (await self.job()).status

    async def result(self, timeout: float | None = None) -> R_co:
        """Wait for the job and return what its function returned.

        Canceling the caller does not cancel the job. A job that waits here for another holds no
        place that the other one may need; at a shutdown it waits on until it is asked to stop.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.

        Raises:
            TimeoutError: it is not over yet; it goes on.
            JobFailed: it failed, and why.
            JobCanceled: it was canceled.
            NotFinished: the service is shutting down, and nobody can wait any more.
        """
        async with aside(self._service) as waiting:
            job = await self._service.wait(self.id, timeout, lasts=waiting is not None)
        if not job.over:  # It may have ended while the job that waits had no place to go on.
            job = await self.job()
        let_go = self._service.draining if waiting is None else timeout is None
        if not job.over and not let_go:
            raise TimeoutError(f"job {self.id} is still {job.status} after {timeout} seconds")
        return self.read(self._service.result(job))

    def read(self, result: bytes) -> R_co:
        """A result of this job's task from its JSON."""
        return cast(R_co, self._task.read_result(result))

    async def cancel(self) -> Status:
        """Ask for the job's end: ``canceled`` at once if it waits, else as `status` will tell."""
        return (await self._service.cancel(self.id)).status
