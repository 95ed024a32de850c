"""The jobs of a file, for who moves them elsewhere: its one owner meanwhile, and it only reads.

Nothing may live here that a service calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from quart_app.domain.errors import StoreRefused
from quart_app.domain.jobs import Job, KeptStep, LogLine, RequestKey
from quart_app.domain.replay import Opened
from quart_app.domain.status import Status
from quart_app.stores.sqlite.file import Owner, connect, open_writer
from quart_app.stores.sqlite.rows import job_of
from quart_app.stores.sqlite.verbs import sql

PLACES = 500
"""Places that are read at once."""
ALL = 10**9


class SQLiteSource:
    """As a context manager.

    Args:
        path: the file.

    Raises:
        StoreRefused: when it is entered; it cannot be used, and why.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = self.mark = ""

    def __enter__(self) -> SQLiteSource:
        if not self._path.is_file():
            raise StoreRefused(f"there is no file {self._path}: name the one that has the jobs")
        self.name = f"sqlite:///{self._path.resolve()}"
        self._owner = Owner(self._path)
        self._owner.acquire()
        try:
            # Brings its schema up to date, and looks through all of it.
            self._connection = open_writer(self._path, connect)
            place, seq = self._connection.execute(sql("heads")).fetchone()
            self.mark = f"{self.name} {place} {seq}"
        except BaseException:
            self._owner.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._owner.release()

    def counts(self) -> dict[Status, int]:
        """How many jobs are in each status."""
        rows = self._connection.execute(sql("counts")).fetchall()
        return {status: jobs for status, jobs, _ in rows}

    def opened(self) -> Iterator[Opened]:
        """All jobs, in the order in which they were opened; those of one key together."""
        last = self._connection.execute(sql("heads")).fetchone()[0]
        place = 0
        while place < last:
            jobs = self._between(place + 1, place + PLACES)
            place += PLACES
            while jobs:
                job = jobs.pop(0)
                key, count = self._key(job)
                while len(jobs) < count - 1 and place < last:  # An array goes on.
                    jobs += self._between(place + 1, place + PLACES)
                    place += PLACES
                together = [job, *jobs[: count - 1]]
                del jobs[: count - 1]
                ids = [each.id for each in together]
                steps = {each: kept for each in ids if (kept := self._steps(each))}
                lines = {each: said for each in ids if (said := self._lines(each))}
                yield Opened(together, key, steps, lines)

    def _between(self, first: int, last: int) -> list[Job]:
        rows = self._connection.execute(sql("opened"), (first, last)).fetchall()
        return [job_of(row) for row in rows]

    def _key(self, job: Job) -> tuple[RequestKey | None, int]:
        """The key that a job was opened with, where it is the first one of it, and of how many."""
        if job.key is None:
            return None, 1
        row = self._connection.execute(sql("known"), (job.task, job.key)).fetchone()
        if row is None or row[1] != job.order:
            return None, 1
        return RequestKey(job.key, row[0]), row[2]

    def _steps(self, job_id: str) -> dict[str, KeptStep]:
        rows = self._connection.execute(sql("steps"), (job_id,)).fetchall()
        rows.sort(key=lambda row: row[3])
        return {name: KeptStep(result.encode(), *rest) for name, result, *rest in rows}

    def _lines(self, job_id: str) -> list[LogLine]:
        rows = self._connection.execute(sql("logs"), (job_id, 0, ALL)).fetchall()
        return [LogLine(*row) for row in rows]

    def facts(self) -> dict[str, bytes]:
        """The facts that belong to no job."""
        return dict(self._connection.execute(sql("facts"), ("",)).fetchall())
