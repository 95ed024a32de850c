"""What a function is given of its job."""

from __future__ import annotations

import asyncio

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
