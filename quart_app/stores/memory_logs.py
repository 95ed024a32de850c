"""The logs of the jobs in memory: bounded, the oldest lines dropped. Nothing else may live here."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from quart_app.domain.jobs import Draft, LogLine


class _Log:
    """The lines of one job."""

    __slots__ = ("lines", "number", "size")

    def __init__(self) -> None:
        self.lines: deque[LogLine] = deque()
        self.number = 0
        self.size = 0


class Logs:
    """By job id; a job that has said nothing costs nothing."""

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self.any = False

    def add(
        self, job_id: str, drafts: Sequence[Draft], seq: int, keep_lines: int, keep_bytes: int
    ) -> list[LogLine]:
        """Keep lines, numbered after ``seq``, and drop the oldest that are too many."""
        log = self._logs.get(job_id)
        if log is None:
            log = self._logs[job_id] = _Log()
            self.any = True
        added = [
            LogLine(seq + count, log.number + count, at, level, text)
            for count, (at, level, text) in enumerate(drafts, 1)
        ]
        log.lines.extend(added)
        log.number += len(added)
        log.size += sum(line.size for line in added)
        # The newest stays in any case: from its number the next one's follows.
        while len(log.lines) > 1 and (len(log.lines) > keep_lines or log.size > keep_bytes):
            log.size -= log.lines.popleft().size
        return added

    def after(self, job_id: str, seq: int, limit: int) -> list[LogLine]:
        """The lines after a ``seq``, the oldest first."""
        log = self._logs.get(job_id)
        if log is None:
            return []
        return list(islice((line for line in log.lines if line.seq > seq), limit))

    def size(self, job_id: str) -> int:
        """Characters of the job's lines."""
        log = self._logs.get(job_id) if self._logs else None
        return 0 if log is None else log.size

    def forget(self, job_id: str) -> None:
        """Forget the lines of a job."""
        self._logs.pop(job_id, None)
        self.any = bool(self._logs)
