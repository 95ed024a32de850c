"""A task is a function with a name and a policy; the catalog is all of them by name."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import msgspec
import pytest

from quart_app.domain.errors import InvalidTask, NoSuchTask
from quart_app.domain.retries import Retry
from quart_app.domain.tasks import Catalog, Task, load_function


class Total(msgspec.Struct):
    rows: int


class Odd:
    """A class that no JSON can become."""


async def report(month: int) -> Total:
    """Count the month's rows.

    Slowly.
    """
    return Total(month)


def sync_report() -> int:
    return 1


decorated = Task(sync_report, name="decorated", max_attempts=3, retry=Retry(initial=9.0))


class Holder:
    @staticmethod
    def inner() -> str:
        return "inner"


def test_a_task_takes_its_name_and_place_from_the_function() -> None:
    """``async def`` runs on the loop and ``def`` in a thread, unless said otherwise."""
    assert (Task(report).name, Task(report).run) == ("report", "loop")
    assert (Task(sync_report).name, Task(sync_report).run) == ("sync_report", "thread")
    assert Task(sync_report, run="loop").run == "loop"
    assert Task(sync_report, run="process").run == "process"
    assert Task(report, name="monthly.report-1").name == "monthly.report-1"
    assert Task(report).context_parameter is None
    assert Task(report).description == "Count the month's rows.\n\nSlowly."
    assert Task(sync_report).description == ""
    assert repr(Task(report)).startswith("<Task report ")


async def test_a_task_can_still_be_called() -> None:
    """As the plain function, for tests and for other code."""
    assert await Task(report)(month=3) == Total(3)
    assert Task(sync_report)() == 1
    assert Task(report).__wrapped__ is report  # type: ignore[attr-defined]


def test_one_tag_or_many() -> None:
    """A word alone is one tag and not its letters."""
    assert Task(report, tags="month").tags == ("month",)
    assert Task(report, tags=["a", "b"]).tags == ("a", "b")
    assert Task(report).tags == ()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"name": ""}, "a name is letters, digits"),
        ({"name": "a/b"}, "a name is letters, digits"),
        ({"name": "1st"}, "a name is letters, digits"),
        ({"name": "x" * 101}, "a name is letters, digits"),
        ({"run": "fork"}, "run='fork', but it must be one of"),
        ({"run": "thread"}, 'run="thread" needs a def function, and this is async def'),
        ({"timeout": 0}, "timeout=0, but it is seconds above 0"),
        ({"timeout": -1.5}, "timeout=-1.5, but it is seconds above 0"),
        ({"timeout": float("nan")}, "timeout=nan, but it is seconds above 0"),
        ({"quick": -1}, "quick=-1, but it is 0 to 20 seconds"),
        ({"quick": 21}, "quick=21, but it is 0 to 20 seconds"),
        ({"name": 3}, "a name is letters, digits"),
        ({"timeout": "60"}, "timeout='60', but it is seconds above 0"),
        ({"timeout": True}, "timeout=True, but it is seconds above 0"),
        ({"quick": "2"}, "quick='2', but it is 0 to 20 seconds"),
        ({"quick": None}, "quick=None, but it is 0 to 20 seconds"),
        ({"retry": 3}, "retry=3, but it is a Retry"),
        ({"retry": 3, "max_attempts": 3}, "retry=3, but it is a Retry"),
        ({"debounce": "5"}, "debounce='5', but it is seconds"),
        ({"unique": 3}, "unique=3, but it is True or a key, as in 'user:{user_id}'"),
        ({"tags": 3}, "tags are words of 1 to 100 characters"),
        ({"tags": [""]}, "tags are words of 1 to 100 characters"),
        ({"tags": [1]}, "tags are words of 1 to 100 characters"),
        ({"tags": ["x" * 101]}, "tags are words of 1 to 100 characters"),
    ],
)
def test_an_option_that_cannot_work_is_refused(options: dict[str, Any], why: str) -> None:
    """At the definition, with the name of the function and what would do."""
    with pytest.raises(InvalidTask) as caught:
        Task(report, **options)
    assert "test_tasks.report" in str(caught.value)
    assert why in str(caught.value)


def test_a_function_that_yields_is_refused() -> None:
    """Its jobs would all fail: nobody takes what it yields."""

    async def rows() -> Any:
        yield 1

    def lines() -> Any:
        yield 1

    for function in (rows, lines):
        with pytest.raises(InvalidTask, match=f"{function.__name__}.*: it has yield"):
            Task(function)


def test_what_is_no_function_is_refused() -> None:
    """A class, a value or an object that can be called."""
    for value in (Odd, 3, Odd()):
        with pytest.raises(InvalidTask, match="@task decorates a function"):
            Task(value)  # type: ignore[arg-type]


def test_a_process_task_must_be_found_by_name() -> None:
    """A function inside another one is not."""

    def local() -> None: ...

    assert Task(local).run == "thread"
    with pytest.raises(InvalidTask, match="define it at a module's top"):
        Task(local, run="process")


def test_a_result_is_read_as_its_annotated_type() -> None:
    """Where it fits; else as plain values, for a kept result may be older than the annotation."""
    assert Task(report).read_result(b'{"rows":3}') == Total(3)
    assert Task(report).read_result(b'{"lines":3}') == {"lines": 3}
    assert Task(report).result_schema()["properties"] == {"rows": {"type": "integer"}}


def test_a_result_of_an_unknown_type_is_read_as_plain_values() -> None:
    """Also where the annotation is none that JSON has, or none at all."""

    def odd() -> Odd:  # type: ignore[empty-body]
        ...

    def mixed() -> int | Odd:  # type: ignore[empty-body]
        ...

    def bare(): ...  # type: ignore[no-untyped-def]

    for function in (odd, mixed, bare):
        assert Task(function).read_result(b'{"a":1}') == {"a": 1}
        assert Task(function).result_schema() == {}


def test_the_catalog_offers_tasks_by_name() -> None:
    """It is a mapping, and says what there is when something is not."""
    catalog = Catalog([Task(report), Task(sync_report)])
    assert list(catalog) == ["report", "sync_report"]
    assert len(catalog) == 2
    assert catalog["report"] is catalog.find("report")
    with pytest.raises(KeyError):
        catalog["unknown"]
    with pytest.raises(NoSuchTask, match="'unknown'; the tasks are: report, sync_report"):
        catalog.find("unknown")
    with pytest.raises(NoSuchTask, match="the tasks are: none"):
        Catalog().find("x" * 1_000_000)


def test_two_tasks_of_one_name_are_refused() -> None:
    """The same one twice is fine, as when two modules import it."""
    task = Task(report)
    catalog = Catalog([task])
    catalog.add(task)
    with pytest.raises(InvalidTask, match=r"two tasks are called 'report'.*sync_report: give one"):
        catalog.add(Task(sync_report, name="report"))


def test_a_module_offers_every_task_among_its_names() -> None:
    """And nothing else of it."""
    module = ModuleType("tasks")
    module.report, module.other, module.number = Task(report), report, 3  # type: ignore[attr-defined]
    catalog = Catalog()
    catalog.add_module(module)
    assert list(catalog) == ["report"]


def test_a_signature_is_checked_before_the_service_begins() -> None:
    """So that it stops the start and not a job."""

    def wrong(x: Odd) -> None: ...

    catalog = Catalog([Task(report)])
    catalog.check()
    catalog.add(Task(wrong))
    with pytest.raises(InvalidTask, match="parameter 'x'"):
        catalog.check()


def test_a_function_is_found_by_its_name() -> None:
    """By a process that knows nothing else: the plain one, or the one behind a task with its
    backoff."""
    assert load_function(__name__, "sync_report") is sync_report
    assert load_function(__name__, "decorated") is sync_report
    function = load_function(__name__, "Holder.inner")
    assert function() == "inner"
    with pytest.raises(AttributeError):
        load_function(__name__, "nowhere")
