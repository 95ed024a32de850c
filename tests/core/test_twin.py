"""The doubles keep the rules of what they stand for."""

from __future__ import annotations

import pytest

from quart_app.core.ports import Engine, SharedStore
from quart_app.domain.errors import StoreClosed, StoreUnavailable
from quart_app.domain.jobs import Job
from quart_app.testing import check_engine, check_shared_store, check_store
from tests.core.twin import Broker, Place

pytestmark = pytest.mark.virtual


async def test_a_store_of_a_place_is_a_store() -> None:
    """Every rule, as of those that have a server."""
    await check_store(lambda: Place().store())


async def test_two_stores_of_a_place_are_shared() -> None:
    """Every rule, as of those that have a server."""

    def pair() -> tuple[SharedStore, SharedStore]:
        place = Place()
        return place.store(), place.store()

    await check_shared_store(pair)


async def test_an_engine_of_a_broker_is_an_engine() -> None:
    """Every rule, as of those that have a server."""

    def engine() -> Engine:
        return Broker().desk(room=2)

    await check_engine(engine)


async def test_a_store_that_is_cut_off_says_so_and_is_back_afterwards() -> None:
    """Also to who listens; the other one goes on."""
    place = Place()
    one, other = place.store(), place.store()
    with pytest.raises(StoreClosed):
        await one.get("a")
    for store in (one, other):
        await store.open()
    told = one.listen(None)
    assert await anext(told) == []
    one.cut = True
    with pytest.raises(StoreUnavailable):
        await anext(told)
    with pytest.raises(StoreUnavailable):
        await one.open()
    [job], _ = await other.add([Job(id="a", task="t")], 10)
    one.cut = False
    assert await one.get("a") == job
