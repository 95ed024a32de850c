"""What a function is given of its job."""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quart_app.core.context import Context
from quart_app.domain.jobs import Progress


def test_the_flag_is_that_of_the_moment() -> None:
    """It is asked each time, and can stop the function by itself."""
    asked = False
    context = Context("a", 2, stopping=lambda: asked, report=lambda progress: None)
    assert (context.id, context.attempt, context.canceled) == ("a", 2, False)
    context.check_canceled()
    asked = True
    assert context.canceled
    with pytest.raises(asyncio.CancelledError, match="job a was asked to stop"):
        context.check_canceled()


def test_progress_is_passed_on() -> None:
    """Whole: a message is cut where it is kept, when its secrets are hidden."""
    reports: list[Progress] = []
    context = Context("a", 1, stopping=lambda: False, report=reports.append)
    context.progress(1, 4)
    context.progress(2, 4, "x" * 500)
    assert reports == [Progress(1, 4), Progress(2, 4, "x" * 500)]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ((True, Decimal("2.5")), Progress(1, 2.5)),
        ((Fraction(1, 2), 10**30), Progress(0.5, 1e30)),
        ((1, 2, ["a"]), Progress(1, 2, "['a']")),
        ((1, 2, Path("caf\udce9")), Progress(1, 2, "caf?")),
    ],
)
def test_progress_is_plain_numbers_and_a_text(said: Any, kept: Progress) -> None:
    """Whatever stands for them: what is kept has to be read again, also by another program."""
    reports: list[Progress] = []
    context = Context("a", 1, stopping=lambda: False, report=reports.append)
    context.progress(*said)
    assert reports == [kept]
    assert msgspec.json.decode(msgspec.json.encode(reports[0]), type=Progress) == kept


@pytest.mark.parametrize("said", [("one", 2), (1, None), (1, 1j), (1, 10**400)])
def test_what_is_no_number_is_the_functions_error(said: Any) -> None:
    """It is raised where it was said, and nothing of it is passed on."""
    reports: list[Progress] = []
    context = Context("a", 1, stopping=lambda: False, report=reports.append)
    with pytest.raises((TypeError, ValueError, OverflowError)):
        context.progress(*said)
    assert reports == []


@pytest.mark.parametrize(
    ("total", "shown"),
    [(None, "2"), (1_234_567, "1234567"), (1e7, "10000000"), (2.5, "2.5"), (math.inf, "inf")],
)
async def test_items_are_counted_in_words_for_people(total: float | None, shown: str) -> None:
    """A whole number as such, however large; on the loop as in threads."""
    reports: list[Progress] = []
    context = Context("a", 1, stopping=lambda: False, report=reports.append)
    assert list(context.track("ab", total, "row {n} of {total}")) == ["a", "b"]
    assert [item async for item in context.track("ab", total, "row {n} of {total}")] == ["a", "b"]
    said = [f"row {number} of {shown}" for number in (1, 2, 1, 2)]
    assert [progress.message for progress in reports] == said
    assert [progress.current for progress in reports] == [1, 2, 1, 2]
    with pytest.raises(TypeError):
        context.track("ab", 1j)  # type: ignore[arg-type]
