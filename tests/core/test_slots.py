"""The memory that a job's process shares with its parent: whole values or none."""

from __future__ import annotations

import ctypes
import multiprocessing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_app.core.slots import ASKED, MESSAGE_BYTES, NOTHING, Slots
from quart_app.domain.jobs import Progress

SLOTS = Slots(multiprocessing.get_context("spawn"))
NUMBERS = st.floats(allow_nan=False, width=64)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)


@pytest.mark.slow
@settings(deadline=None)
@given(NUMBERS, NUMBERS, st.none() | TEXTS)
def test_progress_comes_back_as_it_was_written(
    current: float, total: float, message: str | None
) -> None:
    """Numbers exactly; of a message as many whole characters as there is room for."""
    SLOTS.clear()
    assert SLOTS.read_progress(0) is None
    SLOTS.write_progress(Progress(current, total, message))
    news = SLOTS.read_progress(0)
    assert news is not None
    version, progress = news
    assert (progress.current, progress.total) == (current, total)
    fits = (message or "").encode()[: MESSAGE_BYTES - 1].decode(errors="ignore")
    assert (progress.message or "") == fits
    assert SLOTS.read_progress(version) is None


def test_news_are_told_once() -> None:
    """Each version has a number that the reader remembers."""
    SLOTS.clear()
    SLOTS.write_progress(Progress(1, 2))
    first = SLOTS.read_progress(0)
    assert first == (2, Progress(1.0, 2.0))
    SLOTS.write_progress(Progress(2, 2, "done"))
    assert SLOTS.read_progress(2) == (4, Progress(2.0, 2.0, "done"))


def test_a_value_that_is_being_written_is_not_read() -> None:
    """Neither in the middle, nor when it changes under the reader's hands."""
    SLOTS.clear()
    SLOTS.write_progress(Progress(1, 2))
    SLOTS.slot.version += 1
    assert SLOTS.read_progress(0) is None

    class Torn:
        """A slot whose second reading of the version differs from the first."""

        current, total, message = 1.0, 2.0, b""
        versions = iter((2, 4))

        @property
        def version(self) -> int:
            return next(self.versions)

    torn = Slots(multiprocessing.get_context("spawn"))
    torn.slot = Torn()
    assert torn.read_progress(0) is None


def test_a_slot_is_cleared_for_the_next_job() -> None:
    """No stop and no progress of the last one is seen by the next."""
    slots = Slots(multiprocessing.get_context("spawn"))
    slots.slot.pid, slots.slot.stop = 7, ASKED
    slots.write_progress(Progress(1, 2, "x"))
    slots.clear()
    assert bytes(slots.slot) == bytes(ctypes.sizeof(slots.slot))
    assert slots.slot.stop == NOTHING
    assert slots.closing.value == 0
