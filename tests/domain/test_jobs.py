"""A job's record changes only by the table's moves and by notes, and keeps what it should."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from quart_app.domain.ids import new_id
from quart_app.domain.jobs import (
    HISTORY,
    Attempt,
    Change,
    Failure,
    Job,
    Note,
    Progress,
    annotate,
    apply,
)
from quart_app.domain.queries import Query, matches
from quart_app.domain.status import STATUSES, TERMINAL, Move, Status

JOBS = st.builds(
    Job,
    id=st.just("a"),
    task=st.just("t"),
    status=st.sampled_from(STATUSES),
    attempt=st.integers(1, 3),
    unresponsive=st.booleans(),
    cancel_requested_at=st.none() | st.just(1.0),
    progress=st.none() | st.just(Progress(1, 2)),
    started_at=st.just(5.0),
    expires_at=st.none() | st.just(15.0) | st.just(25.0),
    history=st.sampled_from([(), (Attempt(1, 1.0, 2.0, "error"),)]),
    seq=st.just(10),
)
CHANGES = st.builds(
    Change,
    move=st.sampled_from(list(Move)),
    at=st.just(20.0),
    attempt=st.none() | st.integers(1, 3),
    reason=st.sampled_from([None, "error", "shutdown"]),
    result=st.none() | st.just(b"1"),
    error=st.none() | st.just(Failure("E", "no")),
    run_at=st.none() | st.just(30.0),
    cause=st.sampled_from([None, "timeout"]),
)
KEPT = {"id", "task", "args", "tags", "max_attempts", "created_at", "retry_of", "parent", "key"}
KEPT |= {"order", "cancel_requested_at", "expires_at"}


@pytest.mark.slow
@settings(deadline=None)
@given(JOBS, CHANGES)
def test_a_change_is_fenced_by_status_and_attempt(job: Job, change: Change) -> None:
    """It holds from the move's sources and for its own attempt, and for no other; and nothing
    begins for the first time when it has expired."""
    after = apply(job, change, 11)
    holds = job.status in change.move.sources and change.attempt in (None, job.attempt)
    if change.move is Move.CLAIM and job.expires_at == 15.0 and not job.history:
        holds = False
    assert (after is not None) == holds
    if after is None:
        return
    assert (after.status, after.seq, after.updated_at) == (change.move.target, 11, 20.0)
    before, kept = asdict(job), asdict(after)
    assert {name: kept[name] for name in KEPT} == {name: before[name] for name in KEPT}


@pytest.mark.slow
@settings(deadline=None)
@given(JOBS, CHANGES)
def test_each_move_writes_its_own_fields(job: Job, change: Change) -> None:
    """A claim begins an attempt, an ending ends it, and what is put back has not started."""
    after = apply(job, change, 11)
    if after is None:
        return
    steps = {Move.CLAIM: 1, Move.INTERRUPT: -1}
    assert after.attempt == job.attempt + steps.get(change.move, 0)
    if change.move not in (Move.RETRY, Move.INTERRUPT, Move.RESCUE):
        assert after.history == job.history
    if change.move is Move.CLAIM:
        assert (after.started_at, after.reason, after.progress) == (20.0, None, None)
        return
    if change.move is Move.DUE:
        assert after == replace(job, status="queued", updated_at=20.0, seq=11)
        return
    assert (after.reason, after.error, after.unresponsive) == (change.reason, change.error, False)
    if change.move.terminal:
        assert (after.finished_at, after.result) == (20.0, change.result)
        assert (after.started_at, after.progress) == (job.started_at, job.progress)
    else:
        assert (after.started_at, after.finished_at, after.run_at) == (None, None, change.run_at)
        reason = change.cause or change.reason or "error"
        ended = Attempt(job.attempt, 5.0, 20.0, reason, change.error)
        assert after.history == (*job.history, ended)


def moved(job: Job, *moves: Change) -> Job:
    """A job after moves that all hold."""
    for seq, change in enumerate(moves, job.seq + 1):
        after = apply(job, change, seq)
        assert after is not None, change
        job = after
    return job


def test_the_history_tells_of_each_attempt_that_did_not_end_the_job() -> None:
    """When it began and ended, why, and with which error; the job's own fields tell of the last."""
    no = Failure("OSError", "no")
    job = moved(
        Job(id="a", task="t", max_attempts=3),
        Change(Move.CLAIM, 1.0),
        Change(Move.RETRY, 2.0, 1, "retry", error=no, run_at=5.0, cause="error"),
        Change(Move.DUE, 5.0),
        Change(Move.CLAIM, 6.0),
        Change(Move.RESCUE, 9.0, 2, "lost", error=Failure("Lost", "gone")),
        Change(Move.CLAIM, 10.0),
        Change(Move.SUCCEED, 11.0, 3, result=b"1"),
    )
    assert job.history == (
        Attempt(1, 1.0, 2.0, "error", no),
        Attempt(2, 6.0, 9.0, "lost", Failure("Lost", "gone")),
    )
    assert (job.status, job.attempt, job.started_at, job.error) == ("succeeded", 3, 10.0, None)


def test_between_two_attempts_a_job_says_why_it_waits_and_until_when() -> None:
    """Scheduled with the reason retry, the last error and the moment of the next attempt."""
    retry = Change(
        Move.RETRY, 2.0, 1, "retry", error=Failure("E", "no"), run_at=7.0, cause="timeout"
    )
    job = moved(Job(id="a", task="t", max_attempts=2), Change(Move.CLAIM, 1.0), retry)
    assert (job.status, job.reason, job.run_at) == ("scheduled", "retry", 7.0)
    assert (job.error, job.started_at) == (Failure("E", "no"), None)
    queued = moved(job, Change(Move.DUE, 7.0))
    assert (queued.status, queued.reason, queued.error) == ("queued", "retry", job.error)


def test_an_attempt_that_a_shutdown_cut_off_is_not_counted() -> None:
    """However many shutdowns there are, the job keeps its attempts; the history tells of each."""
    job = Job(id="a", task="t", max_attempts=2)
    for number in range(5):
        job = moved(
            job, Change(Move.CLAIM, number), Change(Move.INTERRUPT, number + 0.5, 1, "shutdown")
        )
        assert (job.status, job.reason, job.attempt) == ("queued", "shutdown", 0)
    assert [each.attempt for each in job.history] == [1] * 5
    assert {each.reason for each in job.history} == {"shutdown"}
    assert moved(job, Change(Move.CLAIM, 9.0)).attempt == 1


def test_the_history_keeps_the_newest_attempts() -> None:
    """A thousand attempts make no endless record."""
    job = Job(id="a", task="t", max_attempts=1000)
    for number in range(1, HISTORY + 11):
        retry = Change(Move.RETRY, number, None, "retry", cause="error")
        job = moved(job, Change(Move.CLAIM, number), retry, Change(Move.DUE, number))
    assert [each.attempt for each in job.history] == list(range(11, HISTORY + 11))


def test_what_has_not_begun_when_it_expires_does_not_begin() -> None:
    """Refused from that moment on; it waits until upkeep ends it."""
    job = Job(id="a", task="t", expires_at=10.0)
    assert moved(job, Change(Move.CLAIM, 9.99)).status == "running"
    for late in (10.0, 11.0):
        assert apply(job, Change(Move.CLAIM, late), 2) is None
    failure = Failure("Expired", "too late")
    expired = moved(job, Change(Move.EXPIRE, 10.0, reason="expired", error=failure))
    assert (expired.status, expired.reason, expired.finished_at) == ("failed", "expired", 10.0)
    assert (expired.attempt, expired.started_at, expired.error) == (0, None, failure)


@pytest.mark.parametrize("put_back", [Move.RETRY, Move.INTERRUPT, Move.RESCUE])
def test_what_has_begun_in_time_does_not_expire(put_back: Move) -> None:
    """Its further attempts may begin later."""
    job = Job(id="a", task="t", expires_at=10.0, max_attempts=3)
    job = moved(job, Change(Move.CLAIM, 9.0), Change(put_back, 12.0, reason="lost"))
    if job.status == "scheduled":
        job = moved(job, Change(Move.DUE, 13.0))
    assert moved(job, Change(Move.CLAIM, 20.0)).status == "running"


@pytest.mark.parametrize("status", STATUSES)
def test_a_note_leaves_the_status_alone(status: Status) -> None:
    """It is refused when the job is over, for another attempt, or where it says nothing new."""
    job = Job(id="a", task="t", status=status, attempt=2)
    note = Note(at=3.0, cancel_requested=True, unresponsive=True, progress=Progress(1, 2))
    noted = annotate(job, note, 9)
    assert (noted is None) == (status in TERMINAL) == job.over
    if noted is not None:
        assert noted.status == status
        assert (noted.cancel_requested_at, noted.unresponsive) == (3.0, status == "running")
        assert (noted.progress, noted.updated_at, noted.seq) == (Progress(1, 2), 3.0, 9)
        assert annotate(noted, note, 10) is None
    assert annotate(job, Note(at=3.0, attempt=1, unresponsive=True), 9) is None


def test_the_first_request_to_cancel_is_the_one_that_is_shown() -> None:
    """A second one changes nothing, and a note without progress keeps the last."""
    job = Job(id="a", task="t", status="running", cancel_requested_at=1.0, progress=Progress(1, 2))
    assert annotate(job, Note(at=5.0, cancel_requested=True), 9) is None
    flagged = annotate(job, Note(at=5.0, unresponsive=True), 9)
    assert flagged is not None
    assert (flagged.cancel_requested_at, flagged.progress) == (1.0, Progress(1, 2))


@pytest.mark.parametrize("status", ["scheduled", "queued"])
def test_only_a_job_that_runs_can_be_unresponsive(status: Status) -> None:
    """One that was put back meanwhile is not the one that did not stop."""
    job = Job(id="a", task="t", status=status, attempt=1)
    assert annotate(job, Note(at=5.0, unresponsive=True), 9) is None


@pytest.mark.parametrize(
    ("current", "total", "percent"),
    [(0, 4, 0.0), (1, 3, 33.33), (5, 4, 100.0), (-1, 4, 0.0), (3, 0, None), (3, -1, None)],
)
def test_percent_stays_between_0_and_100(
    current: float, total: float, percent: float | None
) -> None:
    """And is unknown while the total is."""
    assert Progress(current, total).percent == percent


def test_size_is_what_retention_counts() -> None:
    """Bytes of arguments, result and errors; nothing where there is nothing."""
    job = Job(id="a", task="t", args=b"123")
    assert job.size == 3
    assert replace(job, result=b"12").size == 5
    assert replace(job, error=Failure("E", "1234")).size == 7
    assert replace(job, error=Failure("E", "1234", "12345")).size == 12
    attempts = (Attempt(1, 1.0, 2.0, "error", Failure("E", "12")), Attempt(2, 1.0, 2.0, "lost"))
    assert replace(job, history=attempts).size == 5


def queries() -> Iterator[tuple[Query, bool]]:
    """Filters and whether the job below passes them."""
    yield Query(), True
    for status in STATUSES:
        yield Query(statuses=frozenset({status})), status == "failed"
    yield Query(task="report"), True
    yield Query(task="Report"), False
    yield Query(tag="x"), True
    yield Query(tag="y"), False
    for text, found in [("ID-7", True), ("REP", True), ("rome", True), ("boom", True)]:
        yield Query(text=text), found
    yield Query(text="valueerror"), True
    yield Query(text="paris"), False
    yield Query(text="rome", tag="y"), False


@pytest.mark.parametrize(("query", "found"), list(queries()))
def test_every_filter_that_is_set_must_hold(query: Query, found: bool) -> None:
    """Text is looked for in id, task, tags, arguments and error, whatever its case."""
    job = Job(
        id="id-7",
        task="report",
        status="failed",
        tags=("x",),
        args=b'{"city":"Rome"}',
        error=Failure("ValueError", "Boom"),
    )
    assert matches(job, query) is found


def test_a_job_without_error_is_searched_too() -> None:
    """Text is simply not found in what is not there."""
    assert not matches(Job(id="a", task="t"), Query(text="boom"))


def test_ids_are_unique_ordered_by_time_and_standard() -> None:
    """UUIDs of version 7: 10,000 of them, none twice, the time in front never goes back."""
    ids = [new_id() for _ in range(10_000)]
    assert len(set(ids)) == 10_000
    assert all(uuid.UUID(each).version == 7 for each in ids[::100])
    assert all(uuid.UUID(each).variant == uuid.RFC_4122 for each in ids[::100])
    moments = [each[:13] for each in ids]
    assert moments == sorted(moments)


def test_ids_cannot_be_guessed_from_their_neighbours() -> None:
    """Each of the 74 bits after the time is one as often as zero."""
    numbers = [uuid.UUID(new_id()).int for _ in range(4_000)]
    fixed = {*range(62, 64), *range(76, 80)}  # variant and version
    for bit in set(range(80)) - fixed:
        ones = sum(number >> bit & 1 for number in numbers)
        assert 1_700 < ones < 2_300, f"bit {bit}"
