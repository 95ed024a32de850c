"""The hub tells each event once and in order, and lets everybody go when it closes."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from quart_app.core.hub import Hub
from quart_app.domain.jobs import Job

pytestmark = pytest.mark.virtual

JOB = Job(id="a", task="t", seq=1)
OVER = replace(JOB, status="succeeded", seq=2)


async def test_a_subscriber_hears_everything_and_one_of_endings_only_these() -> None:
    """In the order in which it was written."""
    hub = Hub()
    heard: list[tuple[str, int]] = []
    ends: list[Job] = []
    hub.subscribe(lambda event: heard.append((event.kind, event.seq)))
    hub.subscribe_ends(ends.append)
    for kind, job in [("open", JOB), ("note", replace(JOB, seq=2)), ("succeed", OVER)]:
        hub.publish(kind, job)
    assert heard == [("open", 1), ("note", 2), ("succeed", 2)]
    assert ends == [OVER]


async def test_a_watcher_follows_its_job_only() -> None:
    """It is given the newest version, and what it missed in between is not repeated."""
    hub = Hub()
    with hub.watch("a") as watcher, hub.watch("b") as other:
        assert hub.watchers == 2
        hub.publish("open", JOB)
        hub.publish("succeed", OVER)
        assert await watcher.next() == OVER
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await watcher.next()
        assert other.newest is None
    assert hub.watchers == 0
    hub.publish("note", JOB)
    assert watcher.newest == OVER


async def test_many_watchers_of_one_job_hear_the_same() -> None:
    """And leaving is each one's own affair."""
    hub = Hub()
    with hub.watch("a") as first:
        with hub.watch("a") as second:
            hub.publish("succeed", OVER)
            assert await second.next() == await first.next() == OVER
        hub.publish("note", JOB)
        assert await first.next() == JOB


async def test_the_number_of_watchers_is_bounded() -> None:
    """Whoever asks is told that there is no more room."""
    hub = Hub(max_watchers=2)
    full: list[bool] = []
    with hub.watch("a"):
        full.append(hub.full)
        with hub.watch("b"):
            full.append(hub.full)
        full.append(hub.full)
    assert full == [False, True, False]


async def test_closing_lets_everybody_go() -> None:
    """Those who wait, and those who come later."""
    hub = Hub()
    with hub.watch("a") as watcher:
        waiting = asyncio.create_task(watcher.next())
        await asyncio.sleep(1)
        hub.close()
        assert await waiting is None
    with hub.watch("a") as late:
        assert await late.next() is None
    assert hub.closed
