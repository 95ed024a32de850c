"""What a running function is given of its job.

Nothing may live here that reaches the store or the engine: a context reads a flag and hands its
reports to whoever made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from quart_app.domain.jobs import Progress

Report = Callable[[Progress], None]


class Context:
    """The job that a function is working for. Annotate a parameter with it to receive it.

    It may be used from the loop, from threads and in the processes of ``run="process"``.

    Args:
        id: the job's id.
        attempt: which try this is, from 1.
        stopping: says whether the job has been asked to stop.
        report: takes progress.

    >>> context = Context("a", 1, stopping=lambda: False, report=print)
    >>> context.progress(1, 2, "half")
    Progress(current=1, total=2, message='half')
    """

    __job_context__: ClassVar[bool] = True
    __slots__ = ("_report", "_stopping", "attempt", "id")

    def __init__(
        self, id: str, attempt: int, *, stopping: Callable[[], bool], report: Report
    ) -> None:
        self.id = id
        self.attempt = attempt
        self._stopping = stopping
        self._report = report

    @property
    def canceled(self) -> bool:
        """Whether the function should stop: a cancel, a timeout or a shutdown has asked for it.

        A flag for code that nobody can interrupt: poll it in a thread, between two steps.
        """
        return self._stopping()

    def check_canceled(self) -> None:
        """Stop here if the function should stop.

        Raises:
            asyncio.CancelledError: let it pass; the job then ends canceled.
        """
        if self._stopping():
            raise asyncio.CancelledError(f"job {self.id} was asked to stop")

    def progress(self, current: float, total: float, message: str | None = None) -> None:
        """Say how far the job is. Cheap: what comes faster than ten times a second is left out,
        but never the newest for long.

        Args:
            current: units done.
            total: units in all; 0 while that is not known.
            message: a line for people, at most 200 characters of it are kept.
        """
        self._report(Progress(current, total, None if message is None else message[:200]))
