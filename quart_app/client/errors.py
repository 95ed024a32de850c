"""What a client raises: each problem of the service as an exception of the same name as in Python.

Only errors, and how one is read from an answer, may live here. The tree::

    ClientError
    ├── Unreachable        no answer came, or none that is whole (also a ConnectionError)
    ├── BadAnswer          an answer came that is not one of this service
    ├── NotFound           404  no such route: is the base URL right?
    ├── NoSuchJob, NoSuchTask                                   404
    ├── BadInput, OtherSite, BodyTooLarge, NotJSON              400, 403, 413, 415
    ├── InvalidArguments, InvalidRequest, KeyReused             422
    ├── NotFinished, NotRunning, JobFailed, JobCanceled         409
    ├── TooManyRequests                                         429
    ├── NotInstalled                                            501
    └── Unavailable        502, 503, 504
        └── QueueFull, Draining, StoreUnavailable               503
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from quart_app.domain.errors import PROBLEM_PREFIX

NO_ROUTE = "The requested URL was not found"
"""How the framework says that there is no such route; ours say which job or task there is not."""
SHOWN = 200
"""Characters that are shown of an answer that is no problem document."""


class ClientError(Exception):
    """What went wrong, as the service's problem document says it (RFC 9457).

    Args:
        detail: one sentence for people.
        type: the problem's type, ``about:blank`` where it has none of its own.
        title: the problem's title.
        status: of the answer; 0 where there was none.
        errors: one ``{"pointer": "#/month", "detail": "..."}`` for each argument that does not fit.
        retry_after: seconds after which the service asks to be asked again.
        extra: what else the document has.

    >>> raise JobFailed("Job 7 failed: ValueError: no", extra={"error": {"code": "ValueError"}})
    Traceback (most recent call last):
    quart_app.client.errors.JobFailed: Job 7 failed: ValueError: no
    """

    def __init__(
        self,
        detail: str,
        *,
        type: str = "about:blank",
        title: str = "",
        status: int = 0,
        errors: list[dict[str, str]] | None = None,
        retry_after: float | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.type = type
        self.title = title
        self.status = status
        self.errors = errors or []
        self.retry_after = retry_after
        self.extra = extra or {}


class Unreachable(ClientError, ConnectionError):
    """No whole answer came in time. Whether the service did what was asked is not known, unless the
    message says so; for a start that was tried again this means that every try failed."""


class BadAnswer(ClientError):
    """What answered is not this service, or something between changed its answer."""


class NotFound(ClientError):
    """There is no such route: the base URL may lack the prefix under which the app is mounted."""


class BadInput(ClientError):
    """A filter or an option has a value that it cannot have."""


class OtherSite(ClientError):
    """The service takes this for a request of another site's page."""


class NoSuchJob(ClientError):
    """No job has this id, or its record has expired."""


class NoSuchTask(ClientError):
    """The service offers no task of this name."""


class NotFinished(ClientError):
    """This needs a job that is over."""


class NotRunning(ClientError):
    """This needs a job that runs."""


class JobFailed(ClientError):
    """There is no result: the job failed."""

    @property
    def code(self) -> str:
        """The class of the exception that the function raised, or another short code.

        >>> JobFailed("...", extra={"error": {"code": "ValueError", "message": "no"}}).code
        'ValueError'
        """
        return self._member("code")

    @property
    def message(self) -> str:
        """What that exception said."""
        return self._member("message")

    @property
    def reason(self) -> str | None:
        """The job's reason: ``error``, ``timeout``, ``lost`` and so on."""
        reason = self.extra.get("reason")
        return reason if isinstance(reason, str) else None

    def _member(self, name: str) -> str:
        error = self.extra.get("error")
        return str(error.get(name, "")) if isinstance(error, dict) else ""


class JobCanceled(ClientError):
    """There is no result: the job was canceled."""


class BodyTooLarge(ClientError):
    """The arguments are larger than the service takes."""


class NotJSON(ClientError):
    """The service was sent something that is not JSON."""


class InvalidArguments(ClientError):
    """The arguments do not fit the task; ``errors`` names each misfit."""


class InvalidRequest(ClientError):
    """An option of a start, or the match of a cancel, cannot be."""


class KeyReused(ClientError):
    """The key was used before with other arguments or options."""


class TooManyRequests(ClientError):
    """As many jobs of this task wait, or as many requests for jobs, as may."""


class NotInstalled(ClientError):
    """The service lacks a library for this."""


class Unavailable(ClientError):
    """The service, or a proxy before it, cannot answer now."""


class QueueFull(Unavailable):
    """As many jobs wait as may; nothing was accepted."""


class Draining(Unavailable):
    """The service is shutting down; nothing was accepted."""


class StoreUnavailable(Unavailable):
    """The service's store does not answer."""


BY_SLUG: dict[str, type[ClientError]] = {
    "other-site": OtherSite,
    "no-such-task": NoSuchTask,
    "not-finished": NotFinished,
    "not-running": NotRunning,
    "job-failed": JobFailed,
    "job-canceled": JobCanceled,
    "invalid-arguments": InvalidArguments,
    "idempotency-key-reused": KeyReused,
    "too-many-requests": TooManyRequests,
    "queue-full": QueueFull,
    "draining": Draining,
    "store-unavailable": StoreUnavailable,
}
BY_STATUS: dict[int, type[ClientError]] = {
    400: BadInput,
    404: NoSuchJob,
    409: NotFinished,
    413: BodyTooLarge,
    415: NotJSON,
    422: InvalidRequest,
    429: TooManyRequests,
    501: NotInstalled,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
"""Of problems without a type of their own."""


def error_of(status: int, body: bytes, retry_after: float | None = None) -> ClientError:
    """The exception for an answer that is not a success; whatever it is, there is one.

    Args:
        status: of the answer.
        body: a problem document, or what somebody else has sent instead.
        retry_after: seconds, where the answer says so.

    >>> error_of(404, b'{"detail": "There is no job \\'x\\'", "status": 404}')
    NoSuchJob("There is no job 'x'")
    >>> error_of(502, b"<html>bad gateway</html>")
    Unavailable('502 Bad Gateway: <html>bad gateway</html>')
    """
    problem = _members(body)
    name = problem.pop("type", None)
    kind = name if isinstance(name, str) else "about:blank"
    title, detail = problem.pop("title", None), problem.pop("detail", None)
    problem.pop("status", None)
    errors = problem.pop("errors", None)
    if not isinstance(detail, str):
        rest = title if isinstance(title, str) else readable(body)
        detail = f"{status} {_phrase(status)}: {rest}" if rest else f"{status} {_phrase(status)}"
    return _class(status, kind, detail, bool(_members(body)))(
        detail,
        type=kind,
        title=title if isinstance(title, str) else _phrase(status),
        status=status,
        errors=_strings(errors),
        retry_after=retry_after,
        extra=problem,
    )


def _class(status: int, kind: str, detail: str, ours: bool) -> type[ClientError]:
    found = BY_SLUG.get(kind.removeprefix(PROBLEM_PREFIX)) if ":" in kind else None
    if found is not None:
        return found
    if status == 404 and (not ours or detail.startswith(NO_ROUTE)):
        return NotFound
    return BY_STATUS.get(status, ClientError if status >= 400 else BadAnswer)


def _members(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}


def _strings(errors: Any) -> list[dict[str, str]]:
    """The list of misfits, whatever it is."""
    given = errors if isinstance(errors, list) else []
    return [{str(k): str(v) for k, v in each.items()} for each in given if isinstance(each, dict)]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def readable(body: bytes) -> str:
    """The beginning of an answer, in one line that a terminal can be trusted with.

    >>> readable(b"one\\n  two\\x1b[31m")
    'one two?[31m'
    """
    text = " ".join(body[: 4 * SHOWN].decode("utf-8", "replace").split())[:SHOWN]
    return "".join(each if each.isprintable() else "?" for each in text)
