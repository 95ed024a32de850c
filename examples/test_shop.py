"""Tests of the two examples beside this one: ``python -m pytest examples/test_shop.py``.

The report takes three seconds and the import three, with waits for the shop much longer: with the
mark ``virtual_time`` none of that is waited for.
"""

from __future__ import annotations

import pytest

from examples import import_orders as orders
from examples.import_orders import import_orders
from examples.shop import app, report
from quart_app.domain.errors import JobFailed
from quart_app.testing import TestJobs


@pytest.mark.virtual_time
async def test_ordering_a_report_answers_at_once() -> None:
    """The view starts the report of the month that was asked for, and does not wait for it."""
    async with TestJobs(app) as jobs:
        answer = await app.test_client().post("/reports/3")
        assert answer.status_code == 202
        job = jobs.assert_started(report, month=3)
        assert (await answer.get_json())["job"] == job.id
        assert await jobs.result(job) == "report of month 3"


async def test_a_month_that_is_none_starts_nothing() -> None:
    """There are twelve."""
    async with TestJobs(app) as jobs:
        assert (await app.test_client().post("/reports/13")).status_code == 404
        jobs.assert_not_started(report)


@pytest.mark.virtual_time
async def test_an_import_goes_on_where_it_was_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the page at which it was is fetched again."""
    fetched: list[int] = []
    fetch = orders.fetch

    async def fetch_and_note(shop: str, number: int) -> list[str]:
        fetched.append(number)
        return await fetch(shop, number)

    monkeypatch.setattr(orders, "fetch", fetch_and_note)
    async with TestJobs(import_orders) as jobs:
        jobs.crash_at(import_orders, "page 2")
        handle = await import_orders.start(shop="books", pages=4)
        assert await jobs.result(handle) == 12
        assert (await jobs.job(handle)).attempt == 2
    assert fetched == [0, 1, 2, 2, 3]


@pytest.mark.virtual_time
async def test_a_busy_shop_is_asked_five_times() -> None:
    """Half a minute lies between two tries, as it has asked."""
    async with TestJobs(import_orders) as jobs:
        handle = await import_orders.start(shop="busy")
        with pytest.raises(JobFailed, match="half a minute"):
            await jobs.result(handle)
        job = await jobs.job(handle)
        assert job.attempt == 5
        assert job.finished_at is not None
        assert job.finished_at - job.created_at == pytest.approx(4 * 30 + 5 * 0.3, abs=1)
