"""Requests as values: for each route what is sent, whether it may be sent twice, and how its answer
is read.

Nothing may live here that sends, waits or tries again; that is `flows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, Unpack
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import msgspec

from quart_app.client import documents as shapes
from quart_app.client.asked import Filters, filters_match, filters_query, options_query
from quart_app.client.errors import BadAnswer, readable
from quart_app.domain.options import Options

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Pairs = Sequence[tuple[str, str]]

JSON = ("Content-Type", "application/json")
PAGE = 100
"""Jobs that are asked for at once."""


class Answer(msgspec.Struct, frozen=True):
    """A whole answer; the names of its headers are in small letters."""

    status: int
    headers: dict[str, str] = {}
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """A request.

    Args:
        method, path: the path is quoted, below the base URL, and has the query.
        read: makes a value of an answer that is a success.
        headers: besides those of every request.
        body: JSON, or nothing.
        again: whether it may be sent twice, since the second changes nothing.
        wait: seconds that the service was asked to wait before it answers.
    """

    method: str
    path: str
    read: Callable[[Answer], T_co]
    headers: Pairs = field(default=())
    body: bytes | None = None
    again: bool = True
    wait: float = 0.0


def start(name: str, body: bytes, options: Options) -> Call[shapes.JobDocument]:
    """Start a job. The key makes it safe to send it again.

    >>> call = start("report", b'{"month":3}', Options(key="march", delay=60.0))
    >>> call.method, call.path, dict(call.headers)["Idempotency-Key"]
    ('POST', '/start/report?delay=60.0', '"march"')
    """
    return _start(name, body, options, reader(shapes.JobDocument))


def start_many(name: str, bodies: Iterable[bytes], options: Options) -> Call[shapes.Many]:
    """Start a job for each of these arguments: all or none."""
    return _start(name, b"[%b]" % b",".join(bodies), options, reader(shapes.Many))


def _start(name: str, body: bytes, options: Options, read: Callable[[Answer], T]) -> Call[T]:
    key = options.key or ""
    headers = [JSON, ("Idempotency-Key", f'"{key}"'), ("Prefer", "respond-async")]
    path = url(f"/start/{part(name)}", options_query(options))
    return Call("POST", path, read, headers, body, again=bool(key))


def get_job(job_id: str) -> Call[shapes.JobDocument]:
    """Look at a job."""
    return _get(f"/jobs/{part(job_id)}", shapes.JobDocument)


def get_result(job_id: str, wait: int) -> Call[bytes | None]:
    """The result of a job as JSON; None where it is not over after ``wait`` seconds."""
    headers = [("Prefer", f"wait={wait}")] if wait else []
    path = f"/jobs/{part(job_id)}/result"
    return Call("GET", path, _result, headers, wait=float(wait))


def _result(answer: Answer) -> bytes | None:
    if answer.status == 202:
        return None
    if "json" not in answer.headers.get("content-type", ""):
        raise _bad("a result", answer)
    return answer.body


def cancel(job_id: str) -> Call[shapes.JobDocument]:
    """Cancel a job. Harmless twice."""
    return Call("POST", f"/cancel/{part(job_id)}", reader(shapes.JobDocument))


def retry(job_id: str, changes: bytes) -> Call[shapes.JobDocument]:
    """Run a job again, as a new one, with some arguments changed."""
    read = reader(shapes.JobDocument)
    return Call("POST", f"/jobs/{part(job_id)}/retry", read, [JSON], changes, again=False)


def get_log(job_id: str) -> Call[list[shapes.LogLine]]:
    """The lines of a job's log."""

    def read(answer: Answer) -> list[shapes.LogLine]:
        if "json" not in answer.headers.get("content-type", ""):
            raise _bad("a log", answer)
        return [decode(line, shapes.LogLine) for line in answer.body.splitlines() if line]

    return Call("GET", f"/jobs/{part(job_id)}/log", read)


def get_timeline(job_id: str) -> Call[shapes.Timeline]:
    """What happened to a job."""
    read = reader(shapes.Timeline)
    return Call("GET", f"/jobs/{part(job_id)}/timeline", read, [("Accept", "application/json")])


def list_jobs(query: Pairs, cursor: str | None) -> Call[shapes.JobPage]:
    """A page of jobs, the newest first."""
    pairs = [*query, ("limit", str(PAGE))]
    if cursor is not None:
        pairs.append(("cursor", cursor))
    return _get(url("/jobs", pairs), shapes.JobPage)


def cursor_of(link: str) -> str | None:
    """Where the next page begins. Only that is taken from the link: the service may be known under
    another address here, and what it answers must not send our password elsewhere.

    >>> cursor_of("http://inside:8000/jobs?limit=100&cursor=17")
    '17'
    """
    try:
        found = parse_qs(urlsplit(link).query).get("cursor")
    except ValueError:
        return None
    return found[0] if found else None


def count(**filters: Unpack[Filters]) -> Call[shapes.Counts]:
    """How many jobs there are."""
    return _get(url("/jobs/count", filters_query(**filters)), shapes.Counts)


def cancel_many(what: dict[str, Any]) -> Call[shapes.Canceled]:
    """Cancel those that are meant. With filters a second one could meet other jobs."""
    body, again = msgspec.json.encode(what), "ids" in what or what.get("dry_run", False)
    return Call("POST", "/cancel", reader(shapes.Canceled), [JSON], body, again=again)


def retry_many(what: dict[str, Any]) -> Call[shapes.Retried]:
    """Run those that are meant again, each as a new job."""
    body, again = msgspec.json.encode(what), bool(what.get("dry_run", False))
    return Call("POST", "/retry", reader(shapes.Retried), [JSON], body, again=again)


def what(ids: str | Iterable[str] | None, dry_run: bool, filters: Filters) -> dict[str, Any]:
    """Which jobs a request about many means: those with these ids, or those that match.

    Raises:
        ValueError: it names neither, and would mean all, or both.

    >>> what("7", False, {}), what(None, True, {"task": "report"})
    ({'ids': ['7']}, {'match': {'task': 'report'}, 'dry_run': True})
    """
    match = filters_match(**filters)
    if (ids is None) == (not match):
        raise ValueError("give ids, or filters: status=[...] with each status means all jobs")
    if ids is None:
        return {"match": match, "dry_run": True} if dry_run else {"match": match}
    if dry_run:
        raise ValueError("dry_run goes with filters")
    return {"ids": [ids] if isinstance(ids, str) else list(ids)}


def list_tasks() -> Call[shapes.TaskList]:
    """The catalog."""
    return _get("/tasks", shapes.TaskList)


def get_task(name: str) -> Call[shapes.TaskDocument]:
    """One task."""
    return _get(f"/tasks/{part(name)}", shapes.TaskDocument)


def pause(name: str) -> Call[shapes.TaskDocument]:
    """Let no job of a task begin. Harmless twice."""
    return Call("POST", f"/tasks/{part(name)}/pause", reader(shapes.TaskDocument))


def resume(name: str) -> Call[shapes.TaskDocument]:
    """Let them begin again. Harmless twice."""
    return Call("POST", f"/tasks/{part(name)}/resume", reader(shapes.TaskDocument))


def list_schedules() -> Call[shapes.ScheduleList]:
    """Which tasks start by themselves, and when."""
    return _get("/schedules", shapes.ScheduleList)


def run_schedule(name: str) -> Call[shapes.JobDocument]:
    """Start a task now, as its schedule would."""
    path = f"/schedules/{part(name)}/run"
    return Call("POST", path, reader(shapes.JobDocument), again=False)


def get_stats() -> Call[shapes.Stats]:
    """How the service does."""
    return _get("/stats", shapes.Stats)


def list_errors(task: str | None, since: Any) -> Call[shapes.ErrorReport]:
    """The errors of failed jobs, each kind once."""
    query = filters_query(task=task, since=since)
    return _get(url("/errors", query), shapes.ErrorReport)


def list_workers() -> Call[shapes.WorkerList]:
    """The processes that work with the jobs."""
    return _get("/workers", shapes.WorkerList)


def _get(path: str, kind: type[T]) -> Call[T]:
    return Call("GET", path, reader(kind))


def reader(kind: type[T]) -> Callable[[Answer], T]:
    """Reads an answer of this shape."""

    def read(answer: Answer) -> T:
        if "json" not in answer.headers.get("content-type", ""):
            raise _bad(kind.__name__, answer)
        return decode(answer.body, kind)

    return read


def decode(body: bytes, kind: type[T]) -> T:
    """JSON of this shape.

    Raises:
        BadAnswer: it is not.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadAnswer(f"expected {kind.__name__}, but {error}: {readable(body)}") from None


def _bad(name: str, answer: Answer) -> BadAnswer:
    message = f"expected {name}, got {answer.status} {readable(answer.body)!r}"
    return BadAnswer(f"{message}: is the base URL right?", status=answer.status)


def part(text: str) -> str:
    """An id or a name as one part of a path, whatever it is.

    Raises:
        ValueError: it would change the path.

    >>> part("a/b?c")
    'a%2Fb%3Fc'
    """
    if not isinstance(text, str):
        raise TypeError(f"an id or a name is a string, not {text!r}")
    if text in ("", ".", ".."):
        raise ValueError(f"{text!r} is neither an id nor a name")
    return quote(text, safe="")


def url(path: str, query: Pairs) -> str:
    """A path with its query."""
    return f"{path}?{urlencode(query)}" if query else path
