"""Lists of jobs: what is asked for, and whether a job is part of it.

Every store answers the same question; nothing may live here that knows how one finds the answer.
"""

from __future__ import annotations

import msgspec

from quart_app.domain.filters import Filter
from quart_app.domain.jobs import Job
from quart_app.domain.secrets import hide
from quart_app.domain.status import Status


class Query(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Which jobs to list: every filter that is set must hold. Newest first.

    Args:
        before: only jobs opened before this ``order`` (the cursor), exclusive.
        limit: rows a page, 1 to 100.
        text: found, ignoring case, in the id, task, tags, arguments or error.
        also: further filters.
    """

    statuses: frozenset[Status] = frozenset()
    task: str | None = None
    tag: str | None = None
    parent: str | None = None
    text: str | None = None
    also: Filter | None = None
    before: int | None = None
    limit: int = 50

    @property
    def looks(self) -> bool:
        """Whether `matches` has to look at each job: no index knows the answer."""
        return self.text is not None or self.also is not None


class Page(msgspec.Struct, frozen=True):
    """One page of a list; ``next`` is the cursor of the following one, or None at the end."""

    jobs: list[Job]
    next: int | None


def matches(job: Job, query: Query) -> bool:
    """Whether a job passes the filters of a query (not its cursor).

    >>> matches(Job(id="a", task="report"), Query(task="report", text="REP"))
    True
    """
    if query.statuses and job.status not in query.statuses:
        return False
    if query.task is not None and job.task != query.task:
        return False
    if query.tag is not None and query.tag not in job.tags:
        return False
    if query.parent is not None and query.parent != job.parent:
        return False
    if query.also is not None and not query.also.passes(job):
        return False
    if query.text is None:
        return True
    text = query.text.lower()
    error = "" if job.error is None else f"{job.error.code} {job.error.message}"
    fields = (job.id, job.task, *job.tags, hide(job.args).decode(), error)
    return any(text in field.lower() for field in fields)
