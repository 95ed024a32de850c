"""One process at a time leads, whatever becomes of it and of its way to the store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from random import Random

import pytest

from quart_app.core.lead import Lead
from quart_app.testing import virtual_run
from tests.core.twin import Place, Twin

pytestmark = pytest.mark.virtual

LEASE = 10.0


class Leader:
    """A process that wants to lead, and what it was told, in all processes' one story."""

    def __init__(self, place: Place, name: str, story: list[tuple[float, str, str]]) -> None:
        self.name, self.story = name, story
        self.store: Twin = place.store()
        self.lead = Lead(self.store, name, LEASE, self.begin, self.end)
        self.begins = 0.0
        self.ends = 0.0
        self.fails = 0

    def say(self, what: str) -> None:
        self.story.append((asyncio.get_running_loop().time(), self.name, what))

    async def begin(self) -> None:
        self.say("begins")
        await asyncio.sleep(self.begins)
        if self.fails:
            self.fails -= 1
            raise OSError("no")
        self.say("leads")

    async def end(self) -> None:
        await asyncio.sleep(self.ends)
        self.say("ended")


@contextlib.asynccontextmanager
async def leaders(*names: str) -> AsyncIterator[tuple[Place, list[Leader]]]:
    """Processes that want to lead; the first one does."""
    place, story = Place(), list[tuple[float, str, str]]()
    made = [Leader(place, name, story) for name in names]
    for each in made:
        await each.store.open()
        each.lead.start()
        await asyncio.sleep(0.1)
    yield place, made
    for each in made:
        await each.lead.stop()


def told(leader: Leader) -> list[str]:
    """What one of them was told, in order."""
    return [what for _, name, what in leader.story if name == leader.name]


async def test_the_first_one_leads_and_keeps_the_lead() -> None:
    """The others ask in vain."""
    async with leaders("a", "b") as (place, (one, other)):
        await asyncio.sleep(10 * LEASE)
        assert (one.lead.leading, other.lead.leading) == (True, False)
        assert (told(one), told(other)) == (["begins", "leads"], [])
        assert place.led_by() == "a"
    assert told(one)[2:] == ["ended"]


async def test_another_takes_over_when_it_leaves() -> None:
    """Within a few looks, and once."""
    async with leaders("a", "b") as (_, (one, other)):
        await one.lead.stop()
        await one.store.leave("a")
        await asyncio.sleep(LEASE / 4 + 0.1)
        assert other.lead.leading
        assert one.story[-1][1:] == ("b", "leads")


@pytest.mark.parametrize("how", ["cut", "hangs"])
async def test_who_is_cut_off_gives_up_before_another_may_take_over(how: str) -> None:
    """Whether the store refuses or does not answer; and it may lead again later."""
    async with leaders("a", "b") as (place, (one, other)):
        await asyncio.sleep(3.3)
        setattr(one.store, how, True)
        until = (place.leader or ("", 0.0))[1]
        while one.lead.leading:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() <= until - 0.1 * LEASE
        await asyncio.sleep(2 * LEASE)
        assert other.lead.leading
        assert [(name, what) for _, name, what in one.story] == [
            *(("a", "begins"), ("a", "leads"), ("a", "ended"), ("b", "begins"), ("b", "leads")),
        ]
        setattr(one.store, how, False)
        await other.lead.stop()
        await asyncio.sleep(2 * LEASE)
        assert one.lead.leading


async def test_a_short_cut_is_no_reason_to_give_up() -> None:
    """The lease is long enough for that."""
    async with leaders("a") as (_, (one,)):
        await asyncio.sleep(2)
        one.store.cut = True
        await asyncio.sleep(0.5 * LEASE)
        one.store.cut = False
        await asyncio.sleep(LEASE)
        assert told(one) == ["begins", "leads"]


async def test_who_fails_to_begin_gives_up_and_tries_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What has begun of it is ended; the failure is logged."""
    async with leaders("a") as (_, (one,)):
        await one.lead.stop()
        one.story.clear()
        one.fails = 2
        one.lead.start()
        await asyncio.sleep(LEASE)
        assert told(one) == ["begins", "ended", "begins", "ended", "begins", "leads"]
    failures = [each for each in caplog.records if each.levelname == "ERROR"]
    assert len(failures) == 2


async def test_who_takes_longer_to_begin_than_its_lease_does_not_lead() -> None:
    """Another may have taken over meanwhile."""
    async with leaders("a", "b") as (place, (one, other)):
        for each in (one, other):
            await each.lead.stop()
        place.leader = None
        one.story.clear()
        one.begins = 2 * LEASE
        one.lead.start()
        await asyncio.sleep(0.1)
        other.lead.start()
        await asyncio.sleep(3 * LEASE)
        assert other.lead.leading
        assert [(name, what) for _, name, what in one.story[:4]] == [
            *(("a", "begins"), ("a", "ended"), ("b", "begins"), ("b", "leads")),
        ]
        assert not one.lead.leading


async def test_a_long_begin_does_not_use_up_the_lease() -> None:
    """It is renewed as soon as it leads."""
    async with leaders("a", "b") as (_, (one, other)):
        for each in (one, other):
            await each.lead.stop()
        await one.store.leave("a")
        one.story.clear()
        one.begins = 0.75 * LEASE
        one.lead.start()
        await asyncio.sleep(0.1)
        other.lead.start()
        await asyncio.sleep(5 * LEASE)
        assert (told(one), told(other)) == (["begins", "leads"], [])


async def test_a_stop_ends_what_has_begun_also_in_the_middle_of_it() -> None:
    """While it begins, and while it ends: then it is ended once more."""
    async with leaders("a") as (place, (one,)):
        await one.lead.stop()
        one.story.clear()
        one.begins = 1.0
        one.lead.start()
        await asyncio.sleep(0.5)
        await one.lead.stop()
        assert told(one) == ["begins", "ended"]
        one.begins, one.ends = 0.0, 1.0
        one.lead.start()
        await asyncio.sleep(0.1)
        place.leader = ("somebody", 1e9)
        await asyncio.sleep(LEASE / 4 + 0.2)
        assert not one.lead.leading
        await one.lead.stop()
        await one.lead.stop()
        assert told(one)[2:] == ["begins", "leads", "ended"]


async def wandering(seed: int) -> tuple[list[tuple[float, str, str]], int]:
    """Three processes, each cut off, slow or gone again and again."""
    dice = Random(seed)  # noqa: S311 - no secret
    async with leaders("a", "b", "c") as (place, made):
        place.dice = dice
        for _ in range(200):
            await asyncio.sleep(dice.random() * LEASE)
            one = dice.choice(made)
            for each in made:
                each.store.cut = each.store.hangs = False
            one.store.cut, one.store.hangs = dice.choice([(True, False), (False, True)] * 2)
            one.fails = dice.choice([0, 0, 1])
            one.begins = dice.choice([0.0, 1.0, 9.0])
            leading = [each.name for each in made if each.lead.leading]
            assert len(leading) <= 1
            assert leading in ([], [place.led_by()])
        for each in made:
            each.store.cut = each.store.hangs = False
    return made[0].story, len({name for _, name, _ in made[0].story})


@pytest.mark.parametrize("seed", range(5))
def test_no_two_lead_at_any_moment(seed: int) -> None:
    """Between the begin of one and its end nobody else begins."""
    story, count = virtual_run(wandering(seed))
    assert count == 3
    current = None
    for _, name, what in story:
        if what == "begins":
            assert current is None
            current = name
        elif what == "ended":
            assert current == name
            current = None
