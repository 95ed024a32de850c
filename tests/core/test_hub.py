"""The hub tells each event once and in order, and lets everybody go when it closes."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from quart_app.core.hub import Hub
from quart_app.domain.jobs import Job, JobEvent, JobLine, LogLine

pytestmark = pytest.mark.virtual

JOB = Job(id="a", task="t", seq=1)
OVER = replace(JOB, status="succeeded", seq=2)


async def test_a_subscriber_hears_everything_and_one_of_endings_only_these() -> None:
    """In the order in which it was written."""
    hub = Hub()
    heard: list[tuple[str, int]] = []
    ends: list[Job] = []
    hub.subscribe(lambda event: heard.append((event.kind, event.seq)))
    hub.subscribe_ends(ends.extend)
    for kind, job in [("open", JOB), ("note", replace(JOB, seq=2)), ("succeed", OVER)]:
        hub.publish(kind, job)
    assert heard == [("open", 1), ("note", 2), ("succeed", 2)]
    await asyncio.sleep(0)
    assert ends == [OVER]


async def test_endings_are_told_many_at_once_when_the_loop_comes_round() -> None:
    """In the order in which they were written; what ends meanwhile comes with the next."""
    hub = Hub()
    told: list[list[int]] = []
    hub.subscribe_ends(lambda jobs: told.append([job.seq for job in jobs]))
    for seq in (2, 3):
        hub.publish("succeed", replace(OVER, seq=seq))
    assert told == []
    await asyncio.sleep(0)
    assert told == [[2, 3]]
    hub.publish("succeed", replace(OVER, seq=4))
    await asyncio.sleep(0)
    assert told == [[2, 3], [4]]


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


# Where watchers are told of what any process does.


def relayed() -> Hub:
    """A hub whose watchers are told by `hear`."""
    hub = Hub()
    hub.relayed = True
    return hub


async def test_what_was_written_here_is_told_when_it_is_heard() -> None:
    """Once, as what others have written; its own endings are counted as they are written."""
    hub = relayed()
    ends: list[Job] = []
    own: list[Job] = []
    hub.subscribe_ends(ends.extend)
    hub.subscribe_own_ends(own.append)
    with hub.follow("a") as follower, hub.watch("a") as watcher:
        hub.publish("open", JOB)
        hub.publish("succeed", OVER)
        hub.publish_lines("a", [LogLine(3, 1, 1.0, "info", "late")])
        assert watcher.newest is None
        assert (ends, own) == ([], [OVER])
        for heard in (
            JobEvent(1, "open", JOB),
            JobLine("a", LogLine(2, 1, 1.0, "info", "a line")),
            JobLine("b", LogLine(3, 1, 1.0, "info", "another's")),
            JobEvent(4, "succeed", OVER),
        ):
            hub.hear(heard)
        assert await watcher.next() == OVER
        news = await follower.next(1)
        assert news is not None
        assert [getattr(each, "text", "") for each in news] == ["", "a line", ""]
    await asyncio.sleep(0)
    assert (ends, own) == ([OVER], [OVER])


async def test_an_ending_that_is_written_and_not_relayed_is_told_to_both() -> None:
    """One process knows no other endings than its own."""
    hub = Hub()
    told: list[str] = []
    hub.subscribe_ends(lambda jobs: told.append("any"))
    hub.subscribe_own_ends(lambda job: told.append("own"))
    hub.publish("note", JOB)
    hub.publish("succeed", OVER)
    await asyncio.sleep(0)
    assert sorted(told) == ["any", "own"]


async def test_who_is_relayed_makes_no_events_for_watchers() -> None:
    """They are told by another way; only subscribers want to know of what is written here."""
    hub = relayed()
    seen: list[bool] = []
    for each in (hub, Hub()):
        with each.watch("a"):
            seen.append(each.attentive)
        seen.append(each.attentive)
    assert seen == [False, False, True, False]
    hub.subscribe(lambda event: None)
    with hub.watch("a"):
        seen.append(hub.attentive)
    assert [*seen[4:], hub.attentive] == [True, True]


async def test_letting_go_ends_followers_and_no_watchers() -> None:
    """Who follows goes on from what it has; who waits for an end is told of that."""
    hub = relayed()
    with hub.follow("a") as one, hub.follow(None) as all_of_them, hub.watch("a") as watcher:
        hub.hear(JobEvent(1, "open", JOB))
        hub.let_go()
        assert (one.ended, all_of_them.ended, watcher.closed) == (True, True, False)
        assert await one.next(1) == [JOB]
        assert await one.next(1) == []
        hub.hear(JobEvent(2, "succeed", OVER))
        assert await watcher.next() == OVER
        assert await one.next(1) == []
    with hub.follow("a") as anew:
        assert not anew.ended


async def test_what_is_watched_is_known_by_its_ids() -> None:
    """Of watchers and followers of one job, and of who waits for ends: each as it is now."""
    hub = Hub()
    assert hub.watched() == []
    left = {"c", "d"}
    with hub.watch("a"), hub.follow("b"), hub.follow("b"), hub.follow(None):
        assert sorted(hub.watched()) == ["a", "b"]
        with hub.ends(lambda job: left.discard(job.id), left), hub.ends(lambda job: None):
            assert sorted(hub.watched()) == ["a", "b", "c", "d"]
            hub.publish("succeed", replace(OVER, id="c"))
            assert sorted(hub.watched()) == ["a", "b", "d"]
        assert sorted(hub.watched()) == ["a", "b"]
    assert hub.watched() == []


async def test_who_waits_for_ends_may_go_while_it_is_told() -> None:
    """The others are told all the same."""
    hub = Hub()
    told: list[str] = []

    def go() -> None:
        waiting.__exit__(None, None, None)

    with hub.ends(lambda job: told.append("first")):
        waiting = hub.ends(lambda job: go())
        waiting.__enter__()
        with hub.ends(lambda job: told.append("last")):
            hub.publish("succeed", OVER)
            hub.publish("succeed", OVER)
    assert told == ["first", "last"] * 2
