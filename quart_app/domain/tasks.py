"""The definition of a task, and the catalog of all that an app offers.

Nothing may live here that starts or runs a task: a definition is a value. What a task is asked to
do differently (``timeout``, ``quick``, ``run``) is a field of it, read by the rooms above.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, Literal, Unpack, get_args

import msgspec

from quart_app.domain.arguments import (
    Arguments,
    decode_custom,
    describe,
    parameters_of,
    schema_of,
)
from quart_app.domain.control import Control, is_number, make_control
from quart_app.domain.errors import InvalidTask, NoSuchTask
from quart_app.domain.outcomes import Policy
from quart_app.domain.retries import Retry

Lane = Literal["loop", "thread", "process"]
LANES: tuple[Lane, ...] = get_args(Lane)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,99}")


class Task:
    """A function that can be started as a job.

    Args:
        function: ``async def`` or ``def``; its annotations are the schema of its arguments.
        name: how HTTP and the catalog call it; the function's own name unless given.
        timeout: seconds of running after which the attempt is stopped and fails, or None.
        quick: seconds that a start waits for the end before it answers "started" (0: none).
        run: ``loop`` (awaited on the event loop), ``thread`` or ``process``. ``async def``
            functions run on the loop, ``def`` functions in a thread unless given.
        tags: words by which jobs can be listed.
        max_attempts: how often the function may begin for one job, 1 to 1000. With more than one it
            may run again after an error, a timeout, a crash or a shutdown; with one it never does.
        retry: when it is tried again, and after which errors.
        control: limits, rates, schedule and the like; see `quart_app.domain.control.Control`.

    Raises:
        InvalidTask: where the function or an option cannot work, with what would.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        timeout: float | None = None,
        quick: float = 0.0,
        run: Lane | None = None,
        tags: Iterable[str] = (),
        max_attempts: int = 1,
        retry: Retry | None = None,
        **control: Unpack[Control],
    ) -> None:
        if not inspect.isroutine(function):
            raise InvalidTask(f"@task decorates a function, not {function!r}")
        self.function = function
        self.name = function.__name__ if name is None else name
        self.timeout = timeout
        self.quick = quick
        self.tags = _tags(tags)
        self.is_async = inspect.iscoroutinefunction(function)
        self.run: Lane = run or ("loop" if self.is_async else "thread")
        self.max_attempts = max_attempts
        self.policy = Policy(timeout, Retry() if retry is None else retry)
        self._check_numbers(retry)
        self._check_options()
        try:
            self.control = make_control(control)
        except (ValueError, TypeError) as error:
            raise InvalidTask(f"task {self.name!r} ({describe(function)}): {error}") from None
        self.limits = self.control.limits
        self.schedule = self.control.schedule
        self.special = not self.control.plain
        self.unlimited = self.limits.plain
        self.guarded = self.control.guarded
        functools.update_wrapper(self, function)

    def _check_options(self) -> None:
        where = f"task {self.name!r} ({describe(self.function)})"
        on = self.policy.retry.on
        if not isinstance(self.name, str) or NAME.fullmatch(self.name) is None:
            raise InvalidTask(f"{where}: a name is letters, digits, _ . - and at most 100 long")
        if inspect.isasyncgenfunction(self.function) or inspect.isgeneratorfunction(self.function):
            message = f"{where}: it has yield, but the result of a job is what it returns"
            raise InvalidTask(message)
        if self.run not in LANES:
            raise InvalidTask(f"{where}: run={self.run!r}, but it must be one of {LANES}")
        if self.is_async and self.run != "loop":
            message = f'{where}: run="{self.run}" needs a def function, and this is async def'
            raise InvalidTask(message)
        if self.run == "process" and "<locals>" in self.function.__qualname__:
            message = (
                f"{where}: a process imports the function by name: define it at a module's top"
            )
            raise InvalidTask(message)
        if self.run == "process" and any("<locals>" in each.__qualname__ for each in on):
            message = (
                f"{where}: a process imports exceptions by name: define them at a module's top"
            )
            raise InvalidTask(message)
        if any(not isinstance(tag, str) or not 0 < len(tag) <= 100 for tag in self.tags):
            raise InvalidTask(f"{where}: tags are words of 1 to 100 characters")

    def _check_numbers(self, retry: Retry | None) -> None:
        where = f"task {self.name!r} ({describe(self.function)})"
        if self.timeout is not None and not (is_number(self.timeout) and self.timeout > 0):
            raise InvalidTask(f"{where}: timeout={self.timeout!r}, but it is seconds above 0")
        if not is_number(self.quick) or not 0 <= self.quick <= 20:
            raise InvalidTask(f"{where}: quick={self.quick!r}, but it is 0 to 20 seconds")
        if not isinstance(self.max_attempts, int) or not 1 <= self.max_attempts <= 1000:
            raise InvalidTask(f"{where}: max_attempts={self.max_attempts!r}, but it is 1 to 1000")
        if retry is not None and not isinstance(retry, Retry):
            raise InvalidTask(
                f"{where}: retry={retry!r}, but it is a Retry, as in Retry(initial=5)"
            )
        if retry is not None and self.max_attempts == 1:
            raise InvalidTask(f"{where}: retry= needs max_attempts= of more than 1")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the plain function, as if it were not decorated."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name} {describe(self.function)}>"

    @functools.cached_property
    def _signature(self) -> tuple[Any, str | None, Any]:
        # Read on first use, when the names that annotations mention are all defined.
        return parameters_of(self.function)

    @functools.cached_property
    def arguments(self) -> Arguments:
        """The checked way in: decoder and schema of the arguments."""
        return Arguments(self.name, self._signature[0])

    @functools.cached_property
    def context_parameter(self) -> str | None:
        """The name of the parameter that receives the job's context, if it has one."""
        return self._signature[1]

    @functools.cached_property
    def plain(self) -> bool:
        """Whether it needs nothing but its arguments: neither the context nor a timer."""
        return self.context_parameter is None and self.timeout is None

    def check(self) -> None:
        """Read the signature, and whether the options fit it.

        Raises:
            InvalidTask: naming the function and the parameter.
        """
        where = f"task {self.name!r} ({describe(self.function)})"
        parameters = self.arguments.parameters
        for name in sorted(self.control.names):
            if name not in parameters:
                raise InvalidTask(f"{where}: a key names {{{name}}}, which is no parameter of it")
            if name in self.arguments.secrets:
                raise InvalidTask(f"{where}: a key names {{{name}}}, which is a secret")
        if self.schedule is not None:
            for name, (_, default) in parameters.items():
                if default is inspect.Parameter.empty:
                    message = f"{where}: nobody gives a scheduled task {name!r}: give it a default"
                    raise InvalidTask(message)

    @property
    def description(self) -> str:
        """The function's docstring."""
        return inspect.getdoc(self.function) or ""

    @functools.cached_property
    def _result_decoder(self) -> msgspec.json.Decoder[Any]:
        try:
            return msgspec.json.Decoder(self._signature[2], dec_hook=decode_custom)
        except TypeError:
            return msgspec.json.Decoder(Any)

    def read_result(self, payload: bytes) -> Any:
        """A result from its JSON: as the annotated type where it can be, else as plain values."""
        try:
            return self._result_decoder.decode(payload)
        except (ValueError, TypeError, AttributeError):
            return msgspec.json.decode(payload)

    def result_schema(self) -> dict[str, Any]:
        """The JSON Schema of what the function returns; empty where it is not annotated."""
        return schema_of(self._signature[2])


def _tags(given: Any) -> tuple[Any, ...]:
    """One word, or several; what is neither is kept as it is, and refused with the task's name."""
    words = isinstance(given, Iterable) and not isinstance(given, str)
    return tuple(given) if words else (given,)


class Catalog(Mapping[str, Task]):
    """All tasks of an app by name.

    >>> def hello(name: str) -> str:
    ...     return f"hello {name}"
    >>> catalog = Catalog([Task(hello)])
    >>> list(catalog), catalog.find("hello").run
    (['hello'], 'thread')
    """

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self.by_name: dict[str, Task] = {}
        """For those who look so often that a call of ours would be felt; `add` alone writes it."""
        for task in tasks:
            self.add(task)

    def add(self, task: Task) -> None:
        """Offer a task. The same one twice is fine; another of the same name is refused."""
        other = self.by_name.setdefault(task.name, task)
        if other is not task:
            message = (
                f"two tasks are called {task.name!r}: {describe(other.function)} and "
                f'{describe(task.function)}: give one of them @task(name="...")'
            )
            raise InvalidTask(message)

    def check(self) -> None:
        """Read every signature, so that one that cannot work stops the start and not a job.

        Raises:
            InvalidTask: naming the function and the parameter.
        """
        for task in self.by_name.values():
            task.check()

    def add_module(self, module: ModuleType) -> bool:
        """Offer every task among a module's names. Whether any is of it, or has come with it."""
        offers = False
        for value in list(vars(module).values()):
            if isinstance(value, Task):
                self.add(value)
                offers = True
        # A package may import modules that register theirs by themselves.
        own = f"{module.__name__}."
        places = (f"{task.function.__module__}." for task in self.by_name.values())
        return offers or any(place.startswith(own) for place in places)

    def find(self, name: str) -> Task:
        """The task of this name.

        Raises:
            NoSuchTask: naming those that there are.
        """
        try:
            return self.by_name[name]
        except KeyError:
            known = ", ".join(sorted(self.by_name)[:20]) or "none"
            message = f"There is no task {name[:100]!r}; the tasks are: {known}"
            raise NoSuchTask(message) from None

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping; the inherited one catches an exception for each miss and is slow."""
        return self.by_name.get(name, default)

    def __getitem__(self, name: str) -> Task:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)


def load_function(module: str, qualname: str) -> Callable[..., Any]:
    """The plain function behind a name, for a process that knows it only by name."""
    value: Any = importlib.import_module(module)
    for part in qualname.split("."):
        value = getattr(value, part)
    return value.function if isinstance(value, Task) else value
