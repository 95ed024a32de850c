"""What must be written is tried until the store takes it."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from quart_app.core.patience import FIRST, LONGEST, until_written
from quart_app.domain.errors import StoreClosed, StoreUnavailable

pytestmark = pytest.mark.virtual


class Book:
    """Takes nothing for so many tries; remembers the moments of all."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures = failures
        self.error = StoreUnavailable("the disk is full") if error is None else error
        self.moments: list[float] = []

    async def write(self) -> str:
        self.moments.append(asyncio.get_running_loop().time())
        if len(self.moments) <= self.failures:
            raise self.error
        return "written"


async def test_what_is_taken_at_once_is_written_once(caplog: pytest.LogCaptureFixture) -> None:
    """No wait, and nothing in the log."""
    book = Book(0)
    assert await until_written(book.write, "it") == "written"
    assert book.moments == [0.0]
    assert caplog.text == ""


async def test_a_write_is_tried_until_the_store_takes_it() -> None:
    """Soon at first, then once a second: a disk that is full for an hour costs next to nothing."""
    book = Book(3_600)
    assert await until_written(book.write, "it") == "written"
    waits = [after - before for before, after in zip(book.moments, book.moments[1:], strict=False)]
    assert waits[0] == pytest.approx(FIRST)
    assert all(after >= before - 1e-6 for before, after in itertools.pairwise(waits))
    assert waits[-1] == pytest.approx(LONGEST)
    assert len(book.moments) == 3_601


async def test_a_store_that_comes_back_is_found_within_a_second() -> None:
    """However long it was away."""
    back = 100.5

    async def write() -> float:
        now = asyncio.get_running_loop().time()
        if now < back:
            raise StoreUnavailable("away")
        return now

    assert await until_written(write, "it") - back <= LONGEST


async def test_the_log_says_once_what_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    """And not once for each of a thousand tries."""
    await until_written(Book(1_000).write, "the end of job x")
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "the end of job x cannot be written, and is tried again: the disk is full"
    )


async def test_a_store_that_was_closed_is_not_waited_for() -> None:
    """Nobody will take it any more: the shutdown goes on."""
    book = Book(1, StoreClosed("closed"))
    with pytest.raises(StoreClosed):
        await until_written(book.write, "it")
    assert book.moments == [0.0]


async def test_a_store_that_closes_meanwhile_ends_the_wait() -> None:
    """As where the service shuts down while its disk is full."""
    book = Book(5)

    async def write() -> str:
        if len(book.moments) == 4:
            raise StoreClosed("closed")
        return await book.write()

    with pytest.raises(StoreClosed):
        await until_written(write, "it")


async def test_an_error_that_waiting_cannot_cure_is_raised_at_once() -> None:
    """A mistake in the code is no outage."""
    book = Book(1, ValueError("a mistake"))
    with pytest.raises(ValueError, match="a mistake"):
        await until_written(book.write, "it")
    assert book.moments == [0.0]


async def test_a_wait_can_be_canceled() -> None:
    """A step that cannot be kept does not hold up the job's cancel."""
    book = Book(1_000)
    task = asyncio.create_task(until_written(book.write, "it"))
    await asyncio.sleep(10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    tried = len(book.moments)
    await asyncio.sleep(10)
    assert len(book.moments) == tried
