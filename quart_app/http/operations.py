"""What each route takes and answers, as data: the tables behind the OpenAPI document.

Only descriptions may live here, keyed by the name of the route's function.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from quart_app.core.many import Canceled
from quart_app.domain.options import FAR, MOST_URGENT
from quart_app.domain.status import STATUSES
from quart_app.http import streams
from quart_app.http.documents import JobDocument, Link, TaskDocument
from quart_app.http.story import Timeline

Schema = dict[str, Any]
Answer = tuple[Schema, str, dict[str, Schema]]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error (RFC 9457): ``type`` says which, ``detail`` what to do next, ``errors`` names each
    argument that does not fit by its place."""

    type: str
    title: str
    status: int
    detail: str | None = None
    errors: list[dict[str, str]] = []


class JobList(msgspec.Struct, frozen=True):
    """A page of jobs; ``next`` is the URL of the following page."""

    jobs: list[JobDocument]
    next: Link | None


class TaskList(msgspec.Struct, frozen=True):
    """The catalog."""

    tasks: list[TaskDocument]


class Started(msgspec.Struct, frozen=True):
    """The tutorial's answer."""

    status: Literal["Task started"]
    id: str
    url: Link


COMPONENTS: tuple[Any, ...] = (JobDocument, JobList, TaskList, Started, Canceled, Problem, Timeline)


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One route: its parameters (path parameters come from the route), answers and problems."""

    group: str
    answers: dict[int, Answer]
    problems: dict[int, str]
    parameters: tuple[Schema, ...] = ()
    body: Schema | None = None
    body_required: bool = False
    media: str = "application/json"


def ref(model: type) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def header(name: str, description: str) -> Schema:
    """An optional request header."""
    schema = {"type": "string"}
    return {"name": name, "in": "header", "description": description, "schema": schema}


def query(name: str, schema: Schema, description: str) -> Schema:
    """An optional query parameter."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


TEXT: Schema = {"type": "string"}
URL: Schema = {"type": "string", "format": "uri"}
SECONDS: Schema = {"type": "integer", "minimum": 0}
LASTED: Schema = {"type": "number", "minimum": 0, "maximum": 1e10}
SINCE: Schema = {
    "anyOf": [
        {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,3})?[smhd]$"},
        {"type": "string", "format": "date-time"},
    ]
}
EVERY: Schema = {"type": "number", "minimum": streams.EVERY[0], "maximum": streams.EVERY[1]}
SEQ: Schema = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
STATUS: Schema = {"enum": list(STATUSES)}
OBJECT: Schema = {"type": "object"}
LATER = {"Retry-After": SECONDS}
LOCATED = {"Location": URL, "Operation-Location": URL, **LATER}
APPLIED = {"Preference-Applied": TEXT}
STARTED = {**APPLIED, "Idempotency-Replayed": {"enum": ["true"]}}
WAIT = header("Prefer", "wait=N: answer when the job is over, after N seconds at the latest")
PREFER = header("Prefer", "wait=N as in RFC 7240, or respond-async: do not wait at all")
BARE = '[!-~]|[!#-~][ -~]{0,253}[!-~]|"[ -~]{0,253}[!#-~]'
"""What is not quoted: one character, or more that do not begin and end with a quotation mark."""
KEY: Schema = {
    **header("Idempotency-Key", "A repeated request with the same key starts nothing new"),
    "schema": {"type": "string", "pattern": f'^[ \\t]*("[ -~]{{1,255}}"|{BARE})[ \\t]*$'},
}

DURATION: Schema = {"type": "number", "minimum": 0, "maximum": FAR}
MOMENT: Schema = {
    "type": "string",
    "format": "date-time",
    "pattern": "^(19[7-9][0-9]|[2-9][0-9]{3})-",
}
"""Of the years 1970 to 9999."""
HOW = (
    query("delay", DURATION, "Begin so many seconds later; not with run_at"),
    query("run_at", MOMENT, "Begin at this moment; at once where it is past. Not with delay"),
    query(
        "expires",
        {"anyOf": [DURATION, MOMENT]},
        "Fail with the reason expired unless begun within so many seconds, or by this moment",
    ),
    query(
        "priority",
        {"type": "integer", "minimum": -MOST_URGENT, "maximum": MOST_URGENT},
        "A higher one begins first; the task's own unless given",
    ),
)
"""How a job is started, besides its arguments."""

BAD = {400: "The request cannot be understood"}
OTHER = {403: "A page of another site sent this"}
MISSING = {404: "There is no such job or task"}
DOWN = {503: "The queue is full, the service shuts down, or the store is down"}
BUSY = {429: "As many requests wait for jobs as may"}
TASK_FULL = {429: "As many jobs of this task wait as may"}
EVENTS = "text/event-stream"
LAST = header("Last-Event-ID", "The id of the last event that was seen: the stream goes on there")
BODY = {
    408: "The body did not come in time",
    413: "The body is too large",
    415: "The body is not application/json",
    422: "The arguments do not fit",
}
WRONG = {400: "The body, the Idempotency-Key, delay, run_at, expires or priority is not right"}
STARTING = {**BAD, **OTHER, **MISSING, **BODY, **TASK_FULL, **DOWN}
JOB: Answer = (ref(JobDocument), "The job", {})
ENDED: Answer = (ref(JobDocument), "It ended while the request waited, or before", STARTED)
ACCEPTED: Answer = (ref(JobDocument), "Accepted; it goes on in the background", LOCATED)
STARTS: dict[int, Answer] = {200: ENDED, 202: (*ACCEPTED[:2], {**LOCATED, **STARTED})}
CANCELING: Answer = (ref(JobDocument), "Canceling is under way", LOCATED)

FILTERS = (
    query("status", {"type": "array", "items": STATUS}, "Only jobs in one of these statuses"),
    query("task", TEXT, "Only jobs of this task"),
    query("tag", TEXT, "Only jobs with this tag"),
    query("parent", TEXT, "Only jobs that this job has started"),
    query("q", TEXT, "Only jobs with this text in id, task, tags, arguments or error"),
    query("key", TEXT, "Only jobs that were started with this key"),
    query("error", TEXT, "Only failed jobs with this in their error, or with this fingerprint"),
    query("longer", LASTED, "Only jobs that have run longer, in seconds"),
    query("shorter", LASTED, "Only jobs that have run shorter, in seconds"),
    query("since", SINCE, "Only jobs opened since then: 15m, 1h, 7d ago, or a date-time"),
    query("until", SINCE, "Only jobs opened before then"),
)
LISTING = (
    *FILTERS,
    query("limit", {"type": "integer", "minimum": 1, "maximum": 100}, "Jobs a page"),
    query("cursor", {"type": "integer", "minimum": 1, "maximum": 2**62}, "From the page before"),
)

MATCH: Schema = {
    "type": "object",
    "properties": {
        "status": {"anyOf": [STATUS, {"type": "array", "items": STATUS, "minItems": 1}]},
        "task": TEXT,
        "tag": TEXT,
        "parent": TEXT,
        **dict.fromkeys(("q", "key", "error"), TEXT),
        **dict.fromkeys(("since", "until"), SINCE),
        **dict.fromkeys(("longer", "shorter"), LASTED),
        "args": {
            "type": "object",
            "description": "Names of arguments, each with its value",
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            "maxProperties": 10,
        },
    },
    "additionalProperties": False,
}


def _exactly(name: str, schema: Schema, **others: Schema) -> Schema:
    properties = {name: schema, **others}
    return {
        "type": "object",
        "properties": properties,
        "required": [name],
        "additionalProperties": False,
    }


CANCEL: Schema = {
    "anyOf": [
        _exactly("id", TEXT),
        _exactly("ids", {"type": "array", "items": TEXT}),
        _exactly("match", MATCH, dry_run={"type": "boolean"}),
    ]
}

RETRY: Schema = {
    "anyOf": [
        _exactly("ids", {"type": "array", "items": TEXT}),
        _exactly("match", MATCH, dry_run={"type": "boolean"}),
    ]
}

OPERATIONS: dict[str, Operation] = {
    "tutorial_start": Operation(
        group="start",
        answers={200: (ref(Started), "Started; it goes on in the background", LOCATED)},
        problems={
            **OTHER,
            **MISSING,
            405: "Switched off",
            422: "It needs arguments",
            **TASK_FULL,
            **DOWN,
        },
    ),
    "start_default": Operation(
        group="start",
        answers=STARTS,
        problems={**STARTING, **WRONG},
        parameters=(PREFER, KEY, *HOW),
        body={"anyOf": [OBJECT, {"type": "array", "items": OBJECT}]},
    ),
    "start": Operation(
        group="start",
        answers=STARTS,
        problems={**STARTING, **WRONG},
        parameters=(PREFER, KEY, *HOW),
    ),
    "cancel": Operation(
        group="cancel",
        answers={200: JOB, 202: CANCELING},
        problems={**OTHER, **MISSING, **DOWN},
    ),
    "cancel_many": Operation(
        group="cancel",
        answers={
            200: ({"anyOf": [ref(Canceled), ref(JobDocument)]}, "What became of it", {}),
            202: CANCELING,
        },
        problems={**BAD, **OTHER, **MISSING, **BODY, **DOWN},
        body=CANCEL,
        body_required=True,
    ),
    "list_jobs": Operation(
        group="jobs",
        answers={200: (ref(JobList), "A page, newest first", {})},
        problems={**BAD, **DOWN},
        parameters=LISTING,
    ),
    "get_job": Operation(
        group="jobs",
        answers={200: (*JOB[:2], {**LATER, **APPLIED})},
        problems={**MISSING, **DOWN},
        parameters=(WAIT,),
    ),
    "get_result": Operation(
        group="jobs",
        answers={
            200: ({}, "Exactly what the function returned", {}),
            202: (*ACCEPTED[:2], {**LOCATED, **APPLIED}),
        },
        problems={**MISSING, 409: "It failed or was canceled", **DOWN},
        parameters=(WAIT,),
    ),
    "job_events": Operation(
        group="jobs",
        answers={
            200: (TEXT, "Each version of the job as one event, until it is over", {}),
            204: ({}, "It is over, and its last event was seen", {}),
        },
        problems={**MISSING, **BUSY, **DOWN},
        parameters=(LAST,),
        media=EVENTS,
    ),
    "all_events": Operation(
        group="jobs",
        answers={200: (TEXT, "Each version of every job as one event, without end", {})},
        problems={**BAD, **BUSY, **DOWN},
        parameters=(LAST, query("every", EVERY, "Only the newest of each job, at most so often")),
        media=EVENTS,
    ),
    "job_log": Operation(
        group="jobs",
        answers={200: (TEXT, "The lines of the job's log, a JSON object each", {})},
        problems={**BAD, **MISSING, **DOWN},
        parameters=(query("after", SEQ, "Only lines after this seq"),),
        media="application/jsonl",
    ),
    "job_timeline": Operation(
        group="jobs",
        answers={200: (ref(Timeline), "What happened, the oldest first", {})},
        problems={**MISSING, **DOWN},
    ),
    "retry": Operation(
        group="jobs",
        answers={202: ACCEPTED},
        problems={**STARTING, 409: "It is not over yet"},
        body=OBJECT,
    ),
    "count_jobs": Operation(
        group="jobs",
        answers={200: (OBJECT, "How many pass, by status; capped where there may be more", {})},
        problems={**BAD, **DOWN},
        parameters=FILTERS,
    ),
    "retry_many": Operation(
        group="jobs",
        answers={200: (OBJECT, "How many matched, how many were started, and the new ids", {})},
        problems={**BAD, **OTHER, **BODY, **TASK_FULL, **DOWN},
        body=RETRY,
        body_required=True,
    ),
    "job_stack": Operation(
        group="jobs",
        answers={200: (OBJECT, "Where its code is, the innermost line last", {})},
        problems={**MISSING, 409: "It is not running", **DOWN},
    ),
    "errors": Operation(
        group="jobs",
        answers={200: (OBJECT, "The kinds of errors, those that came last first", {})},
        problems={**BAD, **DOWN},
        parameters=(
            query("since", SINCE, "1h where it is not given"),
            query("task", TEXT, "Only of this task"),
        ),
    ),
    "list_schedules": Operation(
        group="tasks", answers={200: (OBJECT, "When tasks start by themselves", {})}, problems=DOWN
    ),
    "run_schedule": Operation(
        group="tasks",
        answers={202: ACCEPTED},
        problems={**OTHER, **MISSING, 422: "It needs arguments", **TASK_FULL, **DOWN},
    ),
    "stats": Operation(
        group="service", answers={200: (OBJECT, "How it does now", {})}, problems=DOWN
    ),
    "list_settings": Operation(
        group="service",
        answers={200: (OBJECT, "Each setting, and where it came from", {})},
        problems=DOWN,
    ),
    "list_tasks": Operation(
        group="tasks", answers={200: (ref(TaskList), "The catalog", {})}, problems=DOWN
    ),
    "get_task": Operation(
        group="tasks",
        answers={200: (ref(TaskDocument), "The task", {})},
        problems={**MISSING, **DOWN},
    ),
    "pause_task": Operation(
        group="tasks",
        answers={200: (ref(TaskDocument), "The task, paused", {})},
        problems={**OTHER, **MISSING, **DOWN},
    ),
    "resume_task": Operation(
        group="tasks",
        answers={200: (ref(TaskDocument), "The task, not paused any more", {})},
        problems={**OTHER, **MISSING, **DOWN},
    ),
    "metrics": Operation(
        group="service",
        answers={200: (TEXT, "The figures for Prometheus", {})},
        problems={501: "prometheus-client is not installed", **DOWN},
        media="text/plain",
    ),
    "list_workers": Operation(
        group="service", answers={200: (OBJECT, "Each with what it last said", {})}, problems=DOWN
    ),
    "healthz": Operation(group="service", answers={200: (OBJECT, "Alive", {})}, problems=DOWN),
    "readyz": Operation(
        group="service", answers={200: (OBJECT, "Ready for new jobs", {})}, problems=DOWN
    ),
}
