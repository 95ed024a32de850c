"""What a caller asks for, as the service reads it: tasks and their arguments, options, filters.

Nothing may live here that sends anything.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypedDict, TypeVar, Unpack

import msgspec

from quart_app.client.errors import BadAnswer, InvalidArguments, InvalidRequest
from quart_app.domain import errors as domain
from quart_app.domain.arguments import encode_custom
from quart_app.domain.options import NO_OPTIONS, Duration, Moment, Options, make_options
from quart_app.domain.secrets import Secret
from quart_app.domain.status import Status
from quart_app.domain.tasks import Task

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Promise(Protocol[R_co]):
    """What a task's own ``start`` gives; here for the type of its result."""

    async def result(self, timeout: float | None = None) -> R_co:
        """The result."""
        ...


class Startable(Protocol[P, R_co]):
    """What ``@task`` makes. Only its types and its name are used: it is not started in this
    process."""

    name: str

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Promise[R_co]]:
        """Its parameters are those of the task."""
        ...


class OptionFields(TypedDict, total=False):
    """How a job is started, besides its arguments; as `quart_app.domain.options.make_options`."""

    key: str | None
    delay: Duration | None
    run_at: Moment | None
    expires: Duration | dt.datetime | None
    priority: int | None


class Filters(TypedDict, total=False):
    """Which jobs: each that is given must hold. ``since`` and ``until`` are moments, or a duration
    back from now (seconds, a ``timedelta``, or ``"15m"``); ``longer`` and ``shorter`` are seconds
    of running; ``args`` compares arguments by their (dotted) names."""

    status: Status | Iterable[Status]
    task: Any  # A task, or its name.
    tag: str
    parent: str
    q: str
    key: str
    error: str
    args: Mapping[str, Any]
    longer: Duration
    shorter: Duration
    since: str | Duration | dt.datetime
    until: str | Duration | dt.datetime


def name_of(task: Any) -> str:
    """The name of a task, given as one or by name."""
    name = task if isinstance(task, str) else getattr(task, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"a task is what @task makes, or its name, not {task!r}")
    return name


def arguments_of(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """The arguments of a start as JSON. Where the task itself is known they are checked here, and
    only those that were given are sent: the defaults are the service's.

    Raises:
        InvalidArguments: they do not fit.

    >>> arguments_of("report", (), {"month": 3})
    b'{"month":3}'
    """
    if not isinstance(task, Task):
        if args:
            raise InvalidArguments(f"the arguments of {name_of(task)!r} are given by their names")
        return _write(kwargs)
    names = list(task.arguments.parameters)
    if len(args) > len(names):
        message = f"{task.name!r} takes {len(names)} arguments, {len(args)} were given"
        raise InvalidArguments(message)
    twice = sorted(set(names[: len(args)]) & set(kwargs))
    if twice:
        raise InvalidArguments(f"{task.name!r} was given {twice[0]!r} twice")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    try:
        checked = task.arguments.write(given)
    except domain.InvalidArguments as error:
        raise InvalidArguments(
            error.detail, type=error.type, title=error.title, status=error.status,
            errors=error.errors,
        ) from None  # fmt: skip
    values = msgspec.json.decode(checked, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({name: values[name] for name in given})


def read_result(task: Any, payload: bytes) -> Any:
    """A result from its JSON: in the type of its task where that is known, else plain values.

    >>> read_result("report", b'{"orders":30}')
    {'orders': 30}
    """
    if isinstance(task, Task):
        return task.read_result(payload)
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadAnswer(f"the result is not JSON: {error}") from None


def _write(values: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(values, enc_hook=_reveal)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArguments(str(error)) from None


def _reveal(value: Any) -> Any:
    """A secret is sent as the text that it is; anything else as results are written."""
    if isinstance(value, Secret):
        return value.reveal()
    return encode_custom(value)


def read_options(fields: OptionFields) -> Options:
    """Check the options of a start.

    Raises:
        InvalidRequest: naming the one that cannot be.
    """
    try:
        return make_options(**fields)
    except domain.InvalidRequest as error:
        raise InvalidRequest(error.detail, title=error.title, status=error.status) from None


def with_key(options: Options = NO_OPTIONS) -> Options:
    """The options with a key, a new one unless there is one: so a start may be sent again."""
    if options.key is not None:
        return options
    return msgspec.structs.replace(options, key=uuid.uuid4().hex)


def options_query(options: Options) -> list[tuple[str, str]]:
    """The options of a start as they stand in its URL; the key is in a header.

    >>> options_query(make_options(delay=90, priority=-1))
    [('delay', '90.0'), ('priority', '-1')]
    """
    pairs: list[tuple[str, str | None]] = [
        ("delay", _number(options.delay)),
        ("run_at", _moment(options.run_at)),
        ("expires", _number(options.ttl) or _moment(options.expires_at)),
        ("priority", None if options.priority is None else str(options.priority)),
    ]
    return [(name, value) for name, value in pairs if value is not None]


def _number(value: float | None) -> str | None:
    return None if value is None else repr(value)


def _moment(value: float | None) -> str | None:
    if value is None:
        return None
    return dt.datetime.fromtimestamp(value, dt.UTC).isoformat().replace("+00:00", "Z")


def filters_match(**filters: Unpack[Filters]) -> dict[str, Any]:
    """Filters as the object that a cancel or retry of many takes.

    >>> filters_match(status=["queued", "running"], args={"month": 3}, since=dt.timedelta(hours=1))
    {'status': ['queued', 'running'], 'args': {'month': 3}, 'since': '3600s'}
    """
    match: dict[str, Any] = {k: v for k, v in filters.items() if v is not None}
    unknown = set(match) - Filters.__annotations__.keys()
    if unknown:
        known = ", ".join(Filters.__annotations__)
        raise TypeError(f"there is no filter {sorted(unknown)[0]!r}; the filters are {known}")
    if "status" in match:
        status = match["status"]
        match["status"] = [status] if isinstance(status, str) else list(status)
        if not match["status"]:  # Perhaps by accident, and all would be meant.
            raise ValueError("status is empty: name at least one, or leave it out")
    if "task" in match:
        match["task"] = name_of(match["task"])
    if "args" in match:
        match["args"] = dict(match["args"])
    for name in ("longer", "shorter"):
        if name in match:
            match[name] = _seconds(match[name])
    for name in ("since", "until"):
        if name in match:
            match[name] = _when(name, match[name])
    return match


def filters_query(**filters: Unpack[Filters]) -> list[tuple[str, str]]:
    """Filters as they stand in a URL.

    >>> filters_query(task="report", args={"user": "ann", "paid": True})
    [('task', 'report'), ('args.user', 'ann'), ('args.paid', 'true')]
    """
    pairs: list[tuple[str, str]] = []
    for name, value in filters_match(**filters).items():
        if name == "status":
            pairs += [("status", each) for each in value]
        elif name == "args":
            pairs += [(f"args.{key}", _text(each)) for key, each in value.items()]
        else:
            pairs.append((name, _text(value)))
    return pairs


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _seconds(value: Duration) -> float:
    return value.total_seconds() if isinstance(value, dt.timedelta) else float(value)


def _when(name: str, value: str | Duration | dt.datetime) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            raise ValueError(f"{name} needs a time zone")
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    seconds = _seconds(value)
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{seconds:.3f}s"
