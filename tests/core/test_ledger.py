"""The ledger writes, then tells; what was not written is not told."""

from __future__ import annotations

import pytest

from quart_app.core.hub import Hub
from quart_app.core.ledger import Ledger
from quart_app.domain.errors import QueueFull, StoreUnavailable
from quart_app.domain.jobs import Failure, Job, JobEvent, Progress, RequestKey
from quart_app.domain.outcomes import Outcome
from quart_app.domain.status import Move
from quart_app.stores.memory import MemoryStore

pytestmark = pytest.mark.virtual


class Book:
    """A ledger, its store and everything that was told."""

    def __init__(self, max_waiting: int = 10) -> None:
        self.store = MemoryStore()
        hub = Hub()
        self.told: list[JobEvent] = []
        hub.subscribe(self.told.append)
        self.ledger = Ledger(self.store, hub, max_waiting=max_waiting, clock=lambda: 7.0)

    async def __aenter__(self) -> Book:
        await self.store.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()


async def test_what_is_written_is_told_in_that_order() -> None:
    """One event for each write, with the version that was kept."""
    async with Book() as book:
        await book.ledger.open([Job(id="a", task="t"), Job(id="b", task="t")])
        claimed = await book.ledger.move("a", Move.CLAIM)
        noted = await book.ledger.note("a", attempt=1, progress=Progress(1, 2))
        assert claimed is not None
        settled = await book.ledger.settle(claimed, Outcome(Move.SUCCEED, result=b"1"))
        assert [event.kind for event in book.told] == ["open", "open", "claim", "note", "succeed"]
        assert [event.job for event in book.told[2:]] == [claimed, noted, settled]
        assert [event.seq for event in book.told] == [1, 2, 3, 4, 5]
        assert await book.store.get("a") == settled
        assert settled is not None
        assert settled.finished_at == 7.0


async def test_what_is_refused_is_not_told() -> None:
    """Somebody else was first: no error, and no event."""
    async with Book() as book:
        await book.ledger.open([Job(id="a", task="t")])
        claimed = await book.ledger.move("a", Move.CLAIM)
        assert claimed is not None
        told = len(book.told)
        assert await book.ledger.move("a", Move.CLAIM) is None
        assert await book.ledger.move("a", Move.FAIL, attempt=2) is None
        assert await book.ledger.note("a", attempt=2, unresponsive=True) is None
        assert await book.ledger.note("a", attempt=1) is None
        await book.ledger.move("a", Move.FAIL, attempt=1, reason="lost", error=Failure("E", ""))
        assert await book.ledger.settle(claimed, Outcome(Move.SUCCEED)) is None
        assert len(book.told) == told + 1


async def test_a_known_key_opens_nothing_and_tells_nothing() -> None:
    """The known job stands in the new one's place."""
    async with Book() as book:
        key = RequestKey("k", b"what was asked")
        first, new = await book.ledger.open([Job(id="a", task="t", key="k")], key)
        again, known = await book.ledger.open([Job(id="b", task="t", key="k")], key)
        assert (again, new, known) == (first, True, False)
        assert len(book.told) == 1


async def test_what_the_store_does_not_take_is_not_told() -> None:
    """Full, or closed."""
    async with Book(max_waiting=1) as book:
        with pytest.raises(QueueFull):
            await book.ledger.open([Job(id="a", task="t"), Job(id="b", task="t")])
    with pytest.raises(StoreUnavailable):
        await book.ledger.open([Job(id="a", task="t")])
    assert book.told == []
