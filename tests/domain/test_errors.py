"""Every error that is raised on purpose carries its hint for the edge."""

from __future__ import annotations

import inspect
import re

from quart_app.domain import errors
from quart_app.domain.errors import (
    InvalidArguments,
    InvalidSetting,
    InvalidTask,
    JobsError,
    NotServing,
    QueueFull,
)

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == errors.__name__
]


def test_the_tree_in_the_docstring_is_the_tree_of_the_code() -> None:
    """Each class stands there with its base and its status."""
    drawn = re.findall(r"[├└]── (\w+)(?:\((\w+)\))? +(\d{3})?", errors.__doc__ or "")
    expected = {
        (
            kind.__name__,
            "" if issubclass(kind, JobsError) else kind.__bases__[0].__name__,
            str(kind.status) if issubclass(kind, JobsError) and kind is not JobsError else "",
        )
        for kind in CLASSES
    }
    expected = {(name, "" if base == "Exception" else base, n) for name, base, n in expected}
    assert set(drawn) == expected


def test_an_error_for_the_edge_has_a_status_a_title_and_a_type() -> None:
    """Plain ones are about:blank, the others have a fixed address of their own."""
    slugs = []
    for kind in CLASSES:
        if issubclass(kind, JobsError) and kind is not JobsError:
            assert 400 <= kind.status < 600
            assert kind.title
            assert kind.__doc__
            if "slug" in vars(kind):  # A kind of another kind is the same for clients.
                slugs.append(kind.slug)
    named = [slug for slug in slugs if slug is not None]
    assert len(named) == len(set(named)) > 8
    assert errors.NoSuchJob("no").type == "about:blank"
    assert QueueFull("full").type == "urn:quart-app:problem:queue-full"


def test_an_error_keeps_what_the_answer_needs() -> None:
    """Its sentence, when to come again, and further members."""
    error = QueueFull("full", retry_after=2.0, waiting=3)
    assert (str(error), error.retry_after, error.extra) == ("full", 2.0, {"waiting": 3})
    misfits = [{"pointer": "#/month", "detail": "no"}]
    assert InvalidArguments("x", misfits).errors == misfits
    assert InvalidArguments("x", misfits).extra == {"errors": misfits}


def test_a_wrong_setting_says_what_it_was_and_what_it_may_be() -> None:
    """Name, value, source and what is expected stand in the one line that the operator sees."""
    error = InvalidSetting("QUART_APP_DRAIN", "soon", "0 to 60 seconds", "environment")
    assert "QUART_APP_DRAIN='soon' (from environment)" in str(error)
    assert str(error).endswith("0 to 60 seconds")
    assert (error.name, error.value, error.expected) == (
        "QUART_APP_DRAIN",
        "soon",
        "0 to 60 seconds",
    )


def test_errors_for_programmers_are_the_builtin_kind_that_they_expect() -> None:
    """A wrong definition is a TypeError, a wrong value a ValueError, no service a RuntimeError."""
    assert issubclass(InvalidTask, TypeError)
    assert issubclass(InvalidSetting, ValueError)
    assert issubclass(NotServing, RuntimeError)
