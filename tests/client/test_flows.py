"""What is tried again, when, and for how long: played in virtual time, without a connection."""

from __future__ import annotations

import random
from email.utils import formatdate
from typing import Any

import pytest

from quart_app.client import calls
from quart_app.client.errors import (
    BadAnswer,
    ClientError,
    JobFailed,
    NoSuchJob,
    QueueFull,
    TooManyRequests,
    Unavailable,
    Unreachable,
)
from quart_app.client.flows import (
    MOST,
    Pace,
    all_jobs,
    ask,
    exchange,
    retry_after,
    wait_result,
)
from quart_app.domain.options import Options
from tests.client.doubles import HOPELESS, LOST, UNSENT, Played

JSON = {"content-type": "application/json"}
PROBLEM = {"content-type": "application/problem+json"}
JOB = b'{"id": "7", "task": "t", "status": "queued"}'
URN = b"urn:quart-app:problem:"


def answer(body: bytes = JOB, status: int = 200, **headers: str) -> tuple[Any, ...]:
    """An answer in two parts."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return (status, {**JSON, **fields}, body[:7], body[7:])


def refusal(status: int, slug: bytes = b"", **headers: str) -> tuple[Any, ...]:
    """A problem."""
    kind = b'"type": "%b", ' % (URN + slug) if slug else b""
    return answer(b'{%b"status": %d, "detail": "no"}' % (kind, status), status, **headers)


START = calls.start("t", b"{}", Options(key="k"))
RETRY = calls.retry("7", b"{}")


@pytest.mark.parametrize(
    "bad",
    [LOST, UNSENT, refusal(429), refusal(502), refusal(503), refusal(504), (200, JSON, b"{", LOST)],
)
def test_a_start_is_sent_again_with_its_key_until_it_is_answered(bad: Any) -> None:
    """Whatever becomes of the first tries."""
    played = Played([bad, bad, answer(status=202)])
    job = played.run(ask(START, played.pace))
    assert job.id == "7"
    assert [each.call for each in played.opened] == [START] * 3
    assert played.slept == [0.1, 0.2]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (LOST, Unreachable),
        (refusal(502), Unavailable),
        (refusal(503, b"store-unavailable"), Unavailable),
        (refusal(503), Unavailable),
    ],
)
def test_what_may_have_been_done_is_not_done_twice(bad: Any, error: type[ClientError]) -> None:
    """A retry of a job has no key."""
    played = Played([bad])
    with pytest.raises(error):
        played.run(ask(RETRY, played.pace))


def test_the_message_says_that_it_may_have_been_done() -> None:
    """So that nobody sends it again without a look."""
    played = Played([LOST])
    with pytest.raises(Unreachable, match="it may have been done"):
        played.run(ask(RETRY, played.pace))


@pytest.mark.parametrize(
    "bad", [UNSENT, refusal(429), refusal(503, b"queue-full"), refusal(503, b"draining")]
)
def test_what_was_surely_not_done_is_sent_again(bad: Any) -> None:
    """Also without a key."""
    played = Played([bad, answer(status=202)])
    assert played.run(ask(RETRY, played.pace)).id == "7"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 422, 500, 501])
def test_other_answers_are_final(status: int) -> None:
    """They would be the same the next time."""
    played = Played([refusal(status)])
    with pytest.raises(ClientError) as caught:
        played.run(ask(START, played.pace))
    assert caught.value.status == status
    assert played.slept == []


def test_what_is_hopeless_is_not_tried_again() -> None:
    """A certificate that is refused, a scheme that is none."""
    played = Played([HOPELESS])
    with pytest.raises(Unreachable, match="no such scheme"):
        played.run(ask(START, played.pace))


def test_all_tries_together_end_in_time_with_the_last_problem() -> None:
    """And the pauses are bounded."""
    played = Played([refusal(503, b"queue-full")] * 100)
    with pytest.raises(QueueFull):
        played.run(ask(START, played.pace))
    assert 20 < sum(played.slept) <= played.pace.timeout
    assert played.slept == sorted(played.slept)
    assert max(played.slept) == played.pace.longest


def test_a_try_takes_no_longer_than_what_is_left() -> None:
    """Each is given the rest of the time, and at most its own."""
    played = Played([LOST] * 100, each=7.0)
    with pytest.raises(Unreachable):
        played.run(ask(START, played.pace))
    assert all(each.seconds <= played.pace.each for each in played.opened)
    assert played.opened[-1].seconds < 9
    assert played.now <= 1_000 + played.pace.timeout + 7.0


def test_clients_do_not_come_back_all_at_once() -> None:
    """The pauses are random, between a half and the whole."""
    pauses = [Pace(chance=random.Random(each).random).pause(3) for each in range(100)]  # noqa: S311
    assert len(set(pauses)) == 100
    assert all(0.4 <= pause <= 0.8 for pause in pauses)


def test_retry_after_is_honoured() -> None:
    """In seconds, never earlier."""
    played = Played([refusal(503, b"draining", retry_after="3"), answer()], chance=0.5)
    played.run(ask(START, played.pace))
    assert played.slept == [3.05]


def test_retry_after_may_be_a_moment_and_is_compared_with_the_services_clock() -> None:
    """Which is an hour behind ours here."""
    there = 1_000.0 - 3_600
    headers = {"retry_after": formatdate(there + 4, usegmt=True), "date": formatdate(there)}
    played = Played([refusal(429, b"", **headers), answer()], chance=0.0)
    played.run(ask(START, played.pace))
    assert played.slept == [4.0]
    assert retry_after({"retry-after": formatdate(1_010, usegmt=True)}, 1_000) == 10
    assert retry_after({"retry-after": formatdate(990, usegmt=True)}, 1_000) == 0


@pytest.mark.parametrize(
    "text", ["", "soon", "-1", "1.5", "nan", "٣", "Thu, 99 Foo 2026", "1e9", ",", "\x00"]
)
def test_a_retry_after_that_is_none_is_ignored(text: str) -> None:
    """As RFC 9110 has it."""
    assert retry_after({"retry-after": text}, 0.0) is None


def test_a_retry_after_beyond_the_time_ends_at_once() -> None:
    """There is no use in waiting for it; the caller learns when to come back."""
    played = Played([refusal(429, b"too-many-requests", retry_after="86400")])
    with pytest.raises(TooManyRequests) as caught:
        played.run(ask(START, played.pace))
    assert caught.value.retry_after == 86_400
    assert played.slept == []
    assert retry_after({"retry-after": "9" * 400}, 0.0) == 999_999_999_999


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{", b"\xff", b'{"id": 7}', b"[" * 100_000, b"<html>"]
)
def test_an_answer_that_is_garbage_says_so(body: bytes) -> None:
    """And is not read as anything."""
    played = Played([(200, JSON, body)])
    with pytest.raises(BadAnswer):
        played.run(ask(calls.get_job("7"), played.pace))


def test_an_answer_of_another_type_asks_about_the_base_url() -> None:
    """A login page, say."""
    played = Played([(200, {"content-type": "text/html"}, b"<html>Sign in")])
    with pytest.raises(BadAnswer, match=r"Sign in.*base URL"):
        played.run(ask(calls.get_job("7"), played.pace))


def test_a_redirect_is_not_followed() -> None:
    """It is told, so that the base URL can be set right."""
    played = Played([(307, {"location": "https://there/jobs/7"})])
    with pytest.raises(BadAnswer, match="https://there/jobs/7"):
        played.run(ask(calls.get_job("7"), played.pace))


def test_an_answer_without_end_is_cut() -> None:
    """By its size, and by its time."""
    part = b"x" * 2**24
    played = Played([(200, JSON, *[part] * (MOST // 2**24 + 1))])
    with pytest.raises(Unreachable, match="bytes"):
        played.run(ask(calls.get_job("7"), played.pace))

    def slowly() -> bytes:
        slow.now += 1
        return b" "

    slow = Played([(200, JSON, *[slowly] * 1_000)])
    broken = slow.run(exchange(calls.get_job("7"), slow.pace, slow.now + 60))
    assert broken.why == "the answer did not come to its end in time"
    assert slow.now < 1_020


def test_a_result_is_waited_for_as_long_as_it_takes() -> None:
    """By long polls, one after the other."""
    pending = answer(status=202)
    played = Played([pending, pending, answer(b"42")], each=20.0)
    assert played.run(wait_result("7", played.pace, None)) == b"42"
    assert [dict(each.call.headers) for each in played.opened] == [{"Prefer": "wait=20"}] * 3
    assert played.slept == []


def test_a_wait_for_a_result_ends_in_time() -> None:
    """With whole seconds of long polls and a look at the very end."""
    played = Played([answer(status=202)] * 100)
    with pytest.raises(TimeoutError, match=r"not over after 2\.5 seconds"):
        played.run(wait_result("7", played.pace, 2.5))
    assert played.now == pytest.approx(1_002.5)
    played = Played([answer(status=202)])
    with pytest.raises(TimeoutError):
        played.run(wait_result("7", played.pace, 0))
    assert played.now == 1_000


def test_a_service_that_does_not_wait_is_not_asked_without_pause() -> None:
    """The pauses grow to two seconds."""
    played = Played([*[answer(status=202)] * 10, answer(b"1")])
    assert played.run(wait_result("7", played.pace, None)) == b"1"
    assert played.slept == [0.1, 0.2, 0.4, 0.8, 1.6, *[2.0] * 5]


def test_a_wait_goes_on_over_a_restart() -> None:
    """Connections that are refused, then the answer."""
    played = Played([LOST, UNSENT, UNSENT, refusal(503, b"draining"), answer(b'"done"')])
    assert played.run(wait_result("7", played.pace, 60)) == b'"done"'


def test_why_there_is_no_result_is_told() -> None:
    """With the error's class and words."""
    body = (
        b'{"type": "urn:quart-app:problem:job-failed", "title": "The job failed", "status": 409,'
        b'"detail": "Job 7 failed: ValueError: no", "reason": "error",'
        b'"error": {"code": "ValueError", "message": "no"}}'
    )
    played = Played([(409, PROBLEM, body)])
    with pytest.raises(JobFailed, match="ValueError: no") as caught:
        played.run(wait_result("7", played.pace, None))
    error = caught.value
    assert (error.code, error.message, error.reason, error.status) == (
        "ValueError", "no", "error", 409,
    )  # fmt: skip


def page(ids: range, link: str | None) -> tuple[Any, ...]:
    """A page of a list."""
    jobs = b",".join(b'{"id": "%d", "task": "t", "status": "queued"}' % each for each in ids)
    following = b"null" if link is None else b'"%b"' % link.encode()
    return answer(b'{"jobs": [%b], "next": %b}' % (jobs, following))


def test_all_pages_are_read_and_only_the_cursor_is_taken_from_the_link() -> None:
    """The link may name another host; the password must not go there."""
    link = "http://evil.example/jobs?limit=1&cursor=17"
    played = Played([page(range(3), link), LOST, page(range(3, 5), None)])
    played.run(all_jobs(played.pace, {"task": "t", "status": ["queued", "running"]}))
    assert [each.id for each in played.given] == list("01234")
    assert [each.call.path for each in played.opened] == [
        "/jobs?task=t&status=queued&status=running&limit=100",
        *["/jobs?task=t&status=queued&status=running&limit=100&cursor=17"] * 2,
    ]


@pytest.mark.parametrize("link", ["http://x/jobs?cursor=17", "http://x/jobs", "http://[", "?"])
def test_a_list_that_does_not_go_on_ends(link: str) -> None:
    """Not in a circle."""
    first = page(range(1), "?cursor=17")
    played = Played([first, page(range(1), link)])
    with pytest.raises(BadAnswer, match="does not go on"):
        played.run(all_jobs(played.pace, {}))


def test_an_expired_job_is_told_from_a_wrong_url() -> None:
    """Both are 404."""
    ours = b'{"status": 404, "detail": "There is no job \'7\', or its record has expired"}'
    played = Played([(404, PROBLEM, ours)])
    with pytest.raises(NoSuchJob):
        played.run(ask(calls.get_job("7"), played.pace))


def test_what_is_sent_says_what_it_is() -> None:
    """Bodies with their type, and a start asks not to be made to wait."""
    headers = dict(START.headers)
    assert headers["Content-Type"] == "application/json"
    assert headers["Prefer"] == "respond-async"
    assert headers["Idempotency-Key"] == '"k"'
