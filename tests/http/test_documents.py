"""The job document: exactly the fields of the contract, from a record to JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quart_app import task
from quart_app.core.service import Service
from quart_app.domain.jobs import Attempt, Failure, Job, Progress
from quart_app.http.documents import document, encode, moment
from tests.http.support import FIELDS, checked, serving

BASE = "https://service.example/below"


@task
async def report(month: int) -> None:
    """A task."""


def shown(service: Service, **fields: Any) -> dict[str, Any]:
    """A record as clients see it."""
    record = Job(**{"id": "a", "task": "report", "created_at": 1.0, "updated_at": 1.0, **fields})
    found: dict[str, Any] = json.loads(encode(document(record, service, BASE)))
    return found


async def test_a_new_job_has_every_member_and_each_has_its_type() -> None:
    """What is not known yet is null and not missing."""
    async with serving(report) as api:
        found = shown(api.service, args=b'{"month":3}', tags=("a", "b"))
        assert found == {
            "id": "a",
            "task": "report",
            "status": "queued",
            "reason": None,
            "args": {"month": 3},
            "tags": ["a", "b"],
            "attempt": 0,
            "max_attempts": 1,
            "created": "1970-01-01T00:00:01.000Z",
            "run_at": None,
            "started": None,
            "finished": None,
            "updated": "1970-01-01T00:00:01.000Z",
            "progress": None,
            "message": None,
            "eta": None,
            "position": None,
            "cancel_requested": None,
            "retry_of": None,
            "parent": None,
            "url": "https://service.example/below/jobs/a",
        }
        assert set(found) == FIELDS


async def test_a_job_between_two_attempts_shows_when_it_runs_and_no_error_yet() -> None:
    """``error`` belongs to failed jobs only, and this one may still succeed."""
    async with serving(report) as api:
        found = checked(
            shown(
                api.service,
                status="scheduled",
                reason="retry",
                attempt=1,
                max_attempts=3,
                run_at=1795362821.4149,
                error=Failure("ValueError", "no paper"),
                updated_at=9.0,
                history=(Attempt(1, 2.0, 9.0, "error", Failure("ValueError", "no paper")),),
            )
        )
        assert "error" not in found
        assert (found["status"], found["reason"]) == ("scheduled", "retry")
        assert found["run_at"] == "2026-11-22T15:53:41.414Z"
        assert (found["attempt"], found["max_attempts"]) == (1, 3)


async def test_earlier_attempts_are_shown_in_their_order() -> None:
    """When each began and ended, why, and its error where it had one."""
    async with serving(report) as api:
        found = shown(
            api.service,
            status="running",
            attempt=2,
            max_attempts=3,
            started_at=9.5,
            updated_at=9.5,
            history=(
                Attempt(1, 2.0, 4.0, "error", Failure("ValueError", "no paper")),
                Attempt(2, 5.0, 9.0, "shutdown"),
            ),
        )
        assert checked(found)["attempts"] == [
            {
                "attempt": 1,
                "started": "1970-01-01T00:00:02.000Z",
                "ended": "1970-01-01T00:00:04.000Z",
                "reason": "error",
                "error": {"code": "ValueError", "message": "no paper"},
            },
            {
                "attempt": 2,
                "started": "1970-01-01T00:00:05.000Z",
                "ended": "1970-01-01T00:00:09.000Z",
                "reason": "shutdown",
            },
        ]


async def test_until_when_a_job_must_begin_is_shown_where_that_was_said() -> None:
    """And is no member of the others."""
    async with serving(report) as api:
        assert checked(shown(api.service, expires_at=9.5))["expires"] == "1970-01-01T00:00:09.500Z"
        assert "expires" not in shown(api.service)


@pytest.mark.parametrize(
    ("progress", "percent", "message"),
    [
        (None, None, None),
        (Progress(0, 0), None, None),
        (Progress(5, 0, "counting"), None, "counting"),
        (Progress(1, 3, "1 of 3"), 33.33, "1 of 3"),
        (Progress(7, 5), 100, None),
        (Progress(-1, 5), 0, None),
    ],
    ids=str,
)
async def test_progress_is_0_to_100_or_null(
    progress: Progress | None, percent: float | None, message: str | None
) -> None:
    """Null while the total is not known; a message may stand alone."""
    async with serving(report) as api:
        found = shown(api.service, status="running", attempt=1, started_at=2.0, progress=progress)
        assert (found["progress"], found["message"]) == (percent, message)


@pytest.mark.parametrize("status", ["succeeded", "failed", "canceled"])
async def test_only_success_has_a_result_and_only_failure_an_error(status: str) -> None:
    """Whatever the record holds."""
    async with serving(report) as api:
        found = shown(
            api.service,
            status=status,
            attempt=1,
            started_at=2.0,
            finished_at=3.0,
            updated_at=3.0,
            result=b"[1]",
            error=Failure("ValueError", "no"),
            unresponsive=False,
            retry_of="b",
            parent="c",
        )
        assert ("result" in found, "error" in found) == (status == "succeeded", status == "failed")
        assert (found["retry_of"], found["parent"]) == ("b", "c")
        checked(found)


def test_moments_are_rfc_3339_in_utc_with_milliseconds() -> None:
    """Cut and not rounded, so that their order as text is their order in time."""
    assert moment(None) is None
    assert moment(0.0) == "1970-01-01T00:00:00.000Z"
    assert moment(1795362821.9999) == "2026-11-22T15:53:41.999Z"
    moments = [moment(at / 7) or "" for at in range(5_000)]
    assert moments == sorted(moments)
