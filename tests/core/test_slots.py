"""The memory that a job's process shares with its parent: whole values or none."""

from __future__ import annotations

import ctypes
import multiprocessing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_app.core.drafts import LEVELS, dropped
from quart_app.core.slots import ASKED, MESSAGE_BYTES, NOTHING, RING_BYTES, Slots
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


def test_half_a_character_in_a_message_is_no_error() -> None:
    """It has a mark in its place."""
    SLOTS.clear()
    SLOTS.write_progress(Progress(1, 2, "half \ud83d"))
    assert SLOTS.read_progress(0) == (2, Progress(1.0, 2.0, "half ?"))


LINES = st.lists(st.tuples(st.sampled_from(LEVELS), st.text(max_size=2_000), NUMBERS), max_size=60)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(LINES, max_size=8), st.integers(0, 3 * RING_BYTES))
def test_lines_come_back_as_they_were_written(
    batches: list[list[tuple[str, str, float]]], start: int
) -> None:
    """In order and once, wherever in the ring they stand; one for which there is no room is
    refused, and harms no other."""
    SLOTS.clear()
    SLOTS.slot.head = SLOTS.slot.tail = start
    for lines in batches:
        taken = [line for line in lines if SLOTS.write_line(*line)]
        size = sum(17 + len(text.encode(errors="replace")) for _, text, _ in taken)
        assert size <= RING_BYTES
        assert len(taken) == len(lines) or size > RING_BYTES - 10_000
        assert SLOTS.read_lines() == [
            (level, text.encode(errors="replace").decode(), at) for level, text, at in taken
        ]
        assert SLOTS.read_lines() == []


def test_a_line_is_there_when_it_is_whole() -> None:
    """Killed before, its writer has written nothing."""
    SLOTS.clear()
    assert SLOTS.write_line("info", "whole", 1.0)
    head = SLOTS.slot.head
    assert SLOTS.write_line("info", "torn", 2.0)
    SLOTS.slot.head = head
    assert SLOTS.read_lines() == [("info", "whole", 1.0)]
    assert SLOTS.write_line("error", "next", 3.0)
    assert SLOTS.read_lines() == [("error", "next", 3.0)]


@pytest.mark.parametrize("broken", range(0, 25, 3))
def test_bytes_that_are_not_there_yet_are_read_later(broken: int) -> None:
    """The other core's writes may be seen in another order."""
    SLOTS.clear()
    assert SLOTS.write_line("info", "first", 1.0)
    place = SLOTS.slot.head
    assert SLOTS.write_line("info", "a second", 2.0)
    byte = SLOTS.ring[place + broken]
    SLOTS.ring[place + broken] = bytes([byte[0] ^ 0xFF])
    assert SLOTS.read_lines() == [("info", "first", 1.0)]
    assert SLOTS.read_lines() == []
    SLOTS.ring[place + broken] = byte
    assert SLOTS.read_lines() == [("info", "a second", 2.0)]


@pytest.mark.parametrize(("head", "tail"), [(-5, 0), (2**62, 0), (0, 7), (10, 0)])
def test_a_ring_that_was_scribbled_over_is_no_error(head: int, tail: int) -> None:
    """A function in C may write anywhere; it loses its lines."""
    SLOTS.clear()
    ctypes.memset(ctypes.addressof(SLOTS.ring), 0xFF, RING_BYTES)
    SLOTS.slot.head, SLOTS.slot.tail = head, tail
    assert SLOTS.read_lines() == []
    SLOTS.clear()
    assert SLOTS.write_line("info", "the next job's", 1.0)
    assert SLOTS.read_lines() == [("info", "the next job's", 1.0)]


def test_what_was_dropped_is_said_once() -> None:
    """By the reader, after what it has read; the next job begins with none."""
    SLOTS.clear()
    SLOTS.slot.dropped = 3
    assert SLOTS.write_line("info", "one", 1.0)
    (one, (level, text, _)) = SLOTS.read_lines()
    assert (one[1], level, text) == ("one", "warning", dropped(3))
    assert SLOTS.read_lines() == []
    SLOTS.slot.dropped += 1
    assert [text for _, text, _ in SLOTS.read_lines()] == [dropped(1)]
    SLOTS.clear()
    SLOTS.slot.dropped = 1
    assert [text for _, text, _ in SLOTS.read_lines()] == [dropped(1)]
