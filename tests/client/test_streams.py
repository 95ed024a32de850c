"""Streams: read right wherever they are cut, and followed over any number of connections."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quart_app.client import streams
from quart_app.client.documents import JobDocument, LogLine
from quart_app.client.errors import BadAnswer, NoSuchJob, TooManyRequests, Unreachable
from quart_app.client.flows import Pace
from quart_app.client.streams import Event, Follower, Parser
from tests.client.doubles import HOPELESS, LOST, UNSENT, Played
from tests.client.test_flows import JSON, refusal

STREAM = {"content-type": "text/event-stream; charset=utf-8"}


def job(seq: int, status: str = "running") -> bytes:
    """An event with a version of a job."""
    return b'id: %d\ndata: {"id": "7", "task": "t", "status": "%b"}\n\n' % (seq, status.encode())


def line(seq: int, number: int) -> bytes:
    """An event with a line of its log."""
    data = b'{"seq": %d, "line": %d, "time": "2026-11-22T15:53:41.414Z", "level": "info",' % (
        seq, number,
    )  # fmt: skip
    return b'id: %d\nevent: log\ndata: %b "text": "line %d"}\n\n' % (seq, data, number)


def story(lines: int) -> bytes:
    """A whole stream: comments, lines, and the end."""
    parts = [b"retry: 1000\n" + job(1, "queued"), job(2), b": keep-alive\n\n"]
    parts += [line(2 + each, each) for each in range(1, lines + 1)]
    return b"".join([*parts, job(3 + lines, "succeeded")])


@given(
    st.lists(st.integers(0, 400), max_size=30), st.sampled_from([b"\n", b"\r\n", b"\r"])
)  # fmt: skip
def test_events_are_the_same_wherever_the_bytes_are_cut(cuts: list[int], end: bytes) -> None:
    """And whichever line ends they have."""
    data = story(3).replace(b"\n", end)
    whole = list(Parser().feed(data + b"x"))
    assert [each.name for each in whole] == ["message", "message", "log", "log", "log", "message"]
    parser = Parser()
    places = [0, *sorted(cuts), len(data)]
    found: list[Event] = []
    for begin, stop in itertools.pairwise(places):
        found += parser.feed(data[begin:stop])
    found += parser.feed(b"x")
    assert found == whole


def test_what_is_in_a_block_is_read_as_whatwg_has_it() -> None:
    """Lines of data are joined; ids stay; what is not known is passed over."""
    parser = Parser()
    data = (
        b"data: a\ndata:b\nid: 1\n\n"
        b"data\n\nid: x\x00y\ndata: c\n\nid\ndata: d\n\nretry: 70\nretry: soon\nwhat: ever\n"
        b":comment\ndata:  e\nevent: log\n\nevent: lost\n\ndata: not whole"
    )
    assert list(parser.feed(data)) == [
        Event("1", "message", b"a\nb"),
        Event("1", "message", b""),
        Event("1", "message", b"c"),
        Event("", "message", b"d"),
        Event("", "log", b" e"),
    ]
    assert parser.retry == 70


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And costs no more than its bytes."""
    monkeypatch.setattr(streams, "MOST", 1_000)
    parser = Parser()
    parts = iter([b"data: " + b"x" * 100] * 100)
    with pytest.raises(BadAnswer, match="more than 1000 bytes"):
        all(list(parser.feed(part)) == [] for part in parts)


class Service:
    """Tells a job's story from where the reader is, and breaks each time after some bytes.

    Args:
        data: the story.
        cut: after how many bytes, and how, each connection ends.
        deaf: whether it does not know `Last-Event-ID` and tells all from the beginning.
    """

    def __init__(
        self, data: bytes, cut: Callable[[], tuple[int, Any]], *, deaf: bool = False
    ) -> None:
        self._data = data
        self._cut = cut
        self._deaf = deaf
        self.played = Played(self)
        self.asked: list[str] = []

    def __iter__(self) -> Service:
        return self

    def __next__(self) -> Any:
        last = dict(self.played.opened[-1].call.headers).get("Last-Event-ID", "")
        self.asked.append(last)
        data = self._data
        if last and not self._deaf:
            _, _, data = data.partition(b"id: %b\n" % last.encode())
            _, _, data = data.partition(b"\n\n")
            if not data:
                return (204, {})
        most, how = self._cut()
        return (200, STREAM, data[:most], how if most < len(data) else b"")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("deaf", [False, True])
def test_a_stream_that_is_cut_anywhere_has_no_gap_and_no_repeat(seed: int, deaf: bool) -> None:
    """Many times, at random bytes; cut, or ended as if nothing were wrong."""
    chance = random.Random(seed)  # noqa: S311 - the same cuts each time
    data = story(30)
    grow = 0

    def cut() -> tuple[int, Any]:
        nonlocal grow
        grow += 60 if deaf else 0  # Who tells all again must come further each time.
        return chance.randrange(0, 400) + grow, chance.choice([LOST, b""])

    service = Service(data, cut, deaf=deaf)
    played = service.played
    played.run(Follower("7", played.pace).flow())
    lines = [each.line for each in played.given if isinstance(each, LogLine)]
    assert lines == list(range(1, 31))
    statuses = [each.status for each in played.given if isinstance(each, JobDocument)]
    assert statuses == ["queued", "running", "succeeded"]
    assert played.given[-1].over
    assert len(service.asked) > 5


def test_it_ends_with_the_final_version_and_asks_no_more() -> None:
    """The connection is not needed any more, even if the service keeps it."""
    played = Played([(200, STREAM, job(1, "canceled"), job(2), LOST)])
    played.run(Follower("7", played.pace).flow())
    assert [each.status for each in played.given] == ["canceled"]


def test_a_final_version_from_before_a_store_lost_its_last_writes_ends_it() -> None:
    """Its id is lower than the last one; it would never come to more."""
    played = Played([(200, STREAM, job(9)), (200, STREAM, job(3), job(4, "succeeded"))])
    played.run(Follower("7", played.pace).flow())
    assert [each.status for each in played.given] == ["running", "succeeded"]


def test_no_content_is_the_end() -> None:
    """The answer to who comes back to a job that is over."""
    played = Played([(200, STREAM, job(1)), (204, {})])
    played.run(Follower("7", played.pace).flow())
    assert [each.status for each in played.given] == ["running"]


def test_the_services_wish_for_a_pause_is_honoured() -> None:
    """Its ``retry`` is in milliseconds; half of it at least, so that not all come at once."""
    first = (200, STREAM, b"retry: 3000\n" + job(1))
    played = Played([first, UNSENT, refusal(503, b"draining", retry_after="5"), (204, {})])
    played.run(Follower("7", played.pace).flow())
    assert played.slept == [3.0, 3.0, 5.1]


def test_it_gives_up_when_nobody_is_there_for_too_long() -> None:
    """The time is counted from the last connection."""
    played = Played([(200, STREAM, job(1)), *[UNSENT] * 100])
    with pytest.raises(Unreachable):
        played.run(Follower("7", played.pace).flow())
    assert 20 < sum(played.slept) <= played.pace.timeout
    assert max(played.slept) <= 5


def test_it_does_not_give_up_while_there_is_a_service() -> None:
    """Whose connections say nothing and end: a proxy may cut what is silent."""
    played = Played([*[(200, STREAM)] * 200, (200, STREAM, job(1, "failed"))])
    played.run(Follower("7", played.pace).flow())
    assert sum(played.slept) > 10 * played.pace.timeout


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(404), NoSuchJob),
        (HOPELESS, Unreachable),
        ((200, JSON, b"{}"), BadAnswer),
        ((202, JSON, b"{}"), BadAnswer),
        ((200, STREAM, b"id: 1\ndata: {garbage\n\n"), BadAnswer),
        ((200, STREAM, b"id: 1\ndata: {}\n\n"), BadAnswer),
        ((200, STREAM, b"id: 1\nevent: log\ndata: 7\n\n"), BadAnswer),
        ((200, STREAM, HOPELESS), Unreachable),
    ],
)
def test_what_another_try_would_not_change_is_told(answer: Any, error: type[Exception]) -> None:
    """At once, without another try."""
    played = Played([answer])
    with pytest.raises(error):
        played.run(Follower("7", played.pace).flow())
    assert played.slept == []


def test_a_silent_stream_outlives_a_small_timeout_of_the_client() -> None:
    """The service says something every 15 seconds, and no oftener."""
    played = Played([(204, {})])
    played.run(Follower("7", Pace(timeout=1.0, clock=lambda: 0.0)).flow())
    assert played.opened[0].seconds == 20


def test_too_many_watchers_are_asked_to_come_later() -> None:
    """And do; when the time is over they are told why."""
    played = Played([refusal(429, b"too-many-requests", retry_after="5")] * 100)
    with pytest.raises(TooManyRequests):
        played.run(Follower("7", played.pace).flow())
    assert played.slept == [5.1] * 5


def test_events_of_a_kind_that_is_not_known_are_passed_over() -> None:
    """A newer service may tell more; its ids count all the same."""
    first = (200, STREAM, b"id: 5\nevent: hint\ndata: 1\n\n")
    played = Played([first, (200, STREAM, job(6, "failed"))])
    played.run(Follower("7", played.pace).flow())
    assert dict(played.opened[-1].call.headers)["Last-Event-ID"] == "5"
    assert len(played.given) == 1


def test_the_stream_of_all_jobs_goes_on_after_final_versions_and_repeats_nothing() -> None:
    """Its ids come nearly in order, and some are told again after a reconnect."""
    first = (200, STREAM, job(5, "succeeded"), job(7), job(6, "failed"))
    played = Played([first, (200, STREAM, job(7), job(5), job(8)), HOPELESS])
    with pytest.raises(Unreachable):
        played.run(Follower(None, played.pace).flow())
    assert [each.status for each in played.given] == ["succeeded", "running", "failed", "running"]
    assert played.opened[1].call.path == "/events"
    assert dict(played.opened[1].call.headers)["Last-Event-ID"] == "6"


def test_what_is_remembered_of_the_stream_of_all_jobs_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The oldest ids are forgotten."""
    monkeypatch.setattr(streams, "RECENT", 3)
    played = Played([(200, STREAM, *[job(each) for each in range(9)]), HOPELESS])
    follower = Follower(None, played.pace)
    with pytest.raises(Unreachable):
        played.run(follower.flow())
    assert list(follower._seen) == ["6", "7", "8"]


def test_events_without_ids_are_all_told() -> None:
    """Something between may have taken them away."""
    data = job(1).partition(b"\n")[2]
    played = Played([(200, STREAM, data, data, job(1, "failed").partition(b"\n")[2])])
    played.run(Follower("7", played.pace).flow())
    assert [each.status for each in played.given] == ["running", "running", "failed"]
