"""Every error that the package raises on purpose, and the hint each carries for the HTTP edge.

Only errors may live here: what happened, which status and which problem type the edge answers,
and what the caller can do next. No formatting of responses. The tree::

    Exception
    ├── JobsError                 answered as application/problem+json
    │   ├── BadInput              400  not JSON, a wrong filter, a wrong cursor
    │   ├── OtherSite             403  a browser says that another site sent this
    │   ├── NoSuchJob             404
    │   ├── NoSuchTask            404
    │   ├── NotFinished           409  the job is not over yet
    │   ├── NotRunning            409  asked for the code of a job that does not run
    │   ├── JobFailed             409  asked for the result of a failed job
    │   ├── JobCanceled           409  asked for the result of a canceled job
    │   ├── BodyTooLarge          413
    │   ├── NotJSON               415  the content type is not application/json
    │   ├── InvalidArguments      422  the arguments do not fit the task
    │   ├── InvalidRequest        422  the request's own fields do not fit
    │   ├── KeyReused             422  an Idempotency-Key with another payload
    │   ├── TooManyRequests       429  as many requests wait for jobs as may
    │   │   └── TaskFull          429  as many jobs of this task wait as may
    │   ├── NotInstalled          501  this needs a library that is not installed
    │   ├── QueueFull             503  try again later
    │   ├── Draining              503  this process is shutting down
    │   └── StoreUnavailable      503  the store does not answer
    │       └── StoreClosed       503  the store was closed, and will not answer any more
    ├── NotServing(RuntimeError)  a task was started where no service runs
    ├── InvalidTask(TypeError)    a decorated function cannot be a task
    ├── InvalidSetting(ValueError) a setting is wrong; the start is refused
    └── StoreRefused(RuntimeError) the store's file cannot be used; the start is refused
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

PROBLEM_PREFIX = "urn:quart-app:problem:"
"""Problem types are URNs: fixed, and not tied to a host that could go away (RFC 9457, 3.1.1)."""


class JobsError(Exception):
    """What the HTTP edge answers as a problem document (RFC 9457).

    Args:
        detail: one sentence for people: what is wrong and what to do next.
        retry_after: seconds after which the same request may succeed, or None.
        extra: further members of the problem document.
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str | None] = None
    title: ClassVar[str] = "Internal Server Error"

    def __init__(self, detail: str, *, retry_after: float | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.extra = extra

    @property
    def type(self) -> str:
        """The problem type: ``about:blank``, or a URN that the docs explain."""
        return "about:blank" if self.slug is None else PROBLEM_PREFIX + self.slug


class BadInput(JobsError):
    """The request cannot be understood: malformed JSON, an unknown filter, a wrong cursor."""

    status = 400
    title = "Bad Request"


class OtherSite(JobsError):
    """A browser sent this from another site's page; starting jobs that way is refused."""

    status = 403
    slug = "other-site"
    title = "Request from another site"


class NoSuchJob(JobsError):
    """No job has this id, or its record has expired."""

    status = 404
    title = "Not Found"


class NoSuchTask(JobsError):
    """The catalog offers no task of this name."""

    status = 404
    slug = "no-such-task"
    title = "No such task"


class NotFinished(JobsError):
    """The request needs a job that is over, and this one is not."""

    status = 409
    slug = "not-finished"
    title = "The job is not over yet"


class NotRunning(JobsError):
    """The request is about the code of a job, and none of it runs."""

    status = 409
    slug = "not-running"
    title = "The job is not running"


class JobFailed(JobsError):
    """There is no result: the job failed. 409 and never 5xx, which clients would retry."""

    status = 409
    slug = "job-failed"
    title = "The job failed"


class JobCanceled(JobsError):
    """There is no result: the job was canceled."""

    status = 409
    slug = "job-canceled"
    title = "The job was canceled"


class BodyTooLarge(JobsError):
    """The request's body is larger than the limit."""

    status = 413
    title = "Content Too Large"


class NotJSON(JobsError):
    """The body's content type is not ``application/json``."""

    status = 415
    title = "Unsupported Media Type"


class InvalidArguments(JobsError):
    """The arguments do not fit the task's parameters.

    Args:
        detail: one sentence.
        errors: one ``{"pointer": "#/month", "detail": "..."}`` for each misfit.
    """

    status = 422
    slug = "invalid-arguments"
    title = "The arguments do not fit the task"

    def __init__(self, detail: str, errors: list[dict[str, str]]) -> None:
        super().__init__(detail, errors=errors)
        self.errors = errors


class InvalidRequest(JobsError):
    """The JSON is well formed, but its fields are not those that this route takes."""

    status = 422
    title = "Unprocessable Content"


class KeyReused(JobsError):
    """The Idempotency-Key was used before with another payload.

    Args:
        key: the caller's.
        job_id: the first job that it started.
    """

    status = 422
    slug = "idempotency-key-reused"
    title = "The Idempotency-Key was used with another payload"

    def __init__(self, key: str, job_id: str) -> None:
        message = (
            f"The key {key!r} started job {job_id} with another payload: "
            "use a new key for a new request"
        )
        super().__init__(message)


class TooManyRequests(JobsError):
    """As many requests wait for jobs as may."""

    status = 429
    slug = "too-many-requests"
    title = "Too many requests"


class TaskFull(TooManyRequests):
    """As many jobs of this task wait as may."""


class NotInstalled(JobsError):
    """What was asked for needs a library that is not installed."""

    status = 501
    title = "Not Implemented"


class QueueFull(JobsError):
    """As many jobs wait as may wait; nothing was accepted."""

    status = 503
    slug = "queue-full"
    title = "The queue is full"


class Draining(JobsError):
    """This process is shutting down and takes no new jobs."""

    status = 503
    slug = "draining"
    title = "The service is shutting down"


class StoreUnavailable(JobsError):
    """The store does not answer. Nothing was accepted, unless the detail says that this is unknown;
    then the same start with the same key tells."""

    status = 503
    slug = "store-unavailable"
    title = "The store is unavailable"


class StoreClosed(StoreUnavailable):
    """The store has been closed: there is no use in trying again."""


class NotServing(RuntimeError):
    """A task was started where no service runs, or where several offer it."""


class InvalidTask(TypeError):
    """The decorated function cannot be a task; the message says which part, and what would do."""


def without_password(url: str) -> str:
    """A URL as it may be shown and logged.

    >>> without_password("redis://me:secret@host:6379/0")
    'redis://me:...@host:6379/0'
    >>> without_password("postgresql://host/jobs?user=me&password=secret&sslmode=require")
    'postgresql://host/jobs?user=me&password=...&sslmode=require'
    >>> without_password("redis://me:of/any#sign@all@host:6379/0")
    'redis://me:...@host:6379/0'
    """
    url = re.sub(r"([?&][^=&@\s]*password)=[^&\s]*", r"\1=...", url, flags=re.IGNORECASE)
    # Up to the last @: a password may have any sign, also where it should not.
    return re.sub(r"(://[^:/@\s]*):\S*@", r"\1:...@", url)


def why_unreadable(url: str, error: Exception) -> str:
    """Why a URL cannot be read, for people; the error itself may have a part of the password.

    >>> why_unreadable("redis://me:a/b@host", ValueError("'a' is no port"))
    'in a user or password / is written %2F, # %23, ? %3F and @ %40'
    >>> why_unreadable("redis://host:x/0", ValueError("'x' is no port"))
    "'x' is no port"
    """
    who = url.partition("://")[2].rpartition("@")[0]
    if re.search("[/?#@]", who):
        return "in a user or password / is written %2F, # %23, ? %3F and @ %40"
    return str(error)


class InvalidSetting(ValueError):
    """A setting is wrong.

    Args:
        name: the setting as the operator wrote it, e.g. ``QUART_APP_DRAIN``.
        value: what it was.
        expected: what it may be.
        source: where the value came from.
    """

    def __init__(self, name: str, value: object, expected: str, source: str) -> None:
        if isinstance(value, str):
            value = without_password(value)
        super().__init__(f"{name}={value!r} (from {source}) is not valid: it must be {expected}")
        self.name = name
        self.value = value
        self.expected = expected


class StoreRefused(RuntimeError):
    """The store cannot be used: the start is refused. The message says why and what to do next."""
