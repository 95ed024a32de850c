"""A job is written anew as it is: whatever life it has had."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quart_app.domain.jobs import HISTORY, Change, Failure, Job, Note, Progress, annotate, apply
from quart_app.domain.replay import opened, story
from quart_app.domain.status import Move

ENDS = [Move.SUCCEED, Move.FAIL, Move.CANCEL, Move.WITHDRAW, Move.EXPIRE]
TURNS = [Move.DUE, Move.CLAIM, Move.RETRY, Move.INTERRUPT, Move.RESCUE]
REASONS = {
    Move.FAIL: "error", Move.CANCEL: "requested", Move.WITHDRAW: "requested",
    Move.EXPIRE: "expired", Move.RETRY: "retry", Move.INTERRUPT: "shutdown", Move.RESCUE: "lost",
}  # fmt: skip


def told(job: Job, all_of_it: list[Change | Note]) -> Job:
    """A job after all of it; each has to hold."""
    for number, each in enumerate(all_of_it, 1):
        make = apply if isinstance(each, Change) else annotate
        after = make(job, each, number)  # type: ignore[arg-type]
        assert after is not None, f"{each} does not hold for {job}"
        job = after
    return job


@st.composite
def lives(draw: st.DrawFn) -> Job:
    """A job after some life, by the rules of the table."""
    later = draw(st.booleans())
    job = Job(
        id="a", task="t", args=b"{}", created_at=1.0, updated_at=1.0, max_attempts=99,
        status="scheduled" if later else "queued", run_at=5.0 if later else None, tags=("x",),
        key=draw(st.none() | st.just("k")), unique=draw(st.none() | st.just("u")),
        expires_at=draw(st.none() | st.just(1e9)), priority=draw(st.integers(-2, 2)),
    )  # fmt: skip
    at = 10.0
    moves = draw(st.lists(st.sampled_from([*TURNS, *TURNS, *ENDS, None, "progress"]), max_size=40))
    for move in moves:
        at += 1.0
        if move is None:
            after = annotate(job, Note(at=at, cancel_requested=True, unresponsive=True), 1)
        elif isinstance(move, str):
            after = annotate(job, Note(at=at, progress=Progress(at, 99, "on")), 1)
        else:
            failed = move in (Move.FAIL, Move.RETRY, Move.RESCUE, Move.EXPIRE)
            change = Change(
                move, at, None, REASONS.get(move),  # type: ignore[arg-type]
                b"1" if move is Move.SUCCEED else None, Failure("E", "no") if failed else None,
                at + 5 if move is Move.RETRY else None,
                "timeout" if move is Move.RETRY and draw(st.booleans()) else None,
                draw(st.sampled_from(["one", "two"])) if move is Move.CLAIM else None,
            )  # fmt: skip
            after = apply(job, change, 1)
        job = after or job
    return replace(job, order=7, seq=99)


@given(job=lives())
@settings(max_examples=500)
@example(
    job=Job(
        id="a", task="t", status="canceled", reason="requested", finished_at=3.0, updated_at=3.0
    )
)
def test_a_story_ends_with_the_job_as_it_is(job: Job) -> None:
    """All that a document shows, and what the next attempt goes by."""
    there = told(opened(job), story(job, "nobody"))
    # Who runs it is gone; and that a cancel was the last that happened to one that waits, say.
    same = {"worker": "nobody" if job.status == "running" else job.worker}
    if not job.over:
        same["updated_at"] = there.updated_at  # type: ignore[assignment]
    stuck = job.unresponsive and job.status == "running"
    expected = replace(job, order=there.order, seq=there.seq, unresponsive=stuck, **same)
    assert there == expected


def test_attempts_that_are_not_on_record_any_more_are_counted() -> None:
    """Of the newest ones all is told."""
    job = Job(id="a", task="t", created_at=1.0, max_attempts=999)
    for number in range(HISTORY + 5):
        for move in (Move.CLAIM, Move.RESCUE):
            after = apply(job, Change(move, 10.0 + number, cause="error"), number)
            assert after is not None
            job = after
    there = told(opened(job), story(job))
    assert (there.attempt, there.history) == (HISTORY + 5, job.history)
