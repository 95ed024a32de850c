"""Rows to jobs. Only translation may live here; what is JSON stays JSON."""

from __future__ import annotations

from math import isfinite
from typing import Any

import msgspec

from quart_app.domain.jobs import Attempt, Failure, Job, Progress

Row = tuple[Any, ...]

_encode = msgspec.json.Encoder().encode
_progress = msgspec.json.Decoder(Progress).decode
_failure = msgspec.json.Decoder(Failure).decode
_history = msgspec.json.Decoder(tuple[Attempt, ...]).decode
_tags = msgspec.json.Decoder(tuple[str, ...]).decode


def text(value: Any) -> str | None:
    """A value as JSON text; None for what is empty.

    What user code has said is kept, also where it is no text or no number: a file's name with
    stray bytes, half of a surrogate pair, NaN.

    >>> text(Failure("E", "caf\\udce9"))
    '{"code":"E","message":"caf?"}'
    >>> text(Progress(float("nan"), 3))
    '{"current":0.0,"total":3,"message":null}'
    """
    if not value:
        return None
    if isinstance(value, Progress) and not isfinite(value.current + value.total):
        current, total = (each if isfinite(each) else 0.0 for each in (value.current, value.total))
        value = Progress(current, total, value.message)
    try:
        return _encode(value).decode()
    except UnicodeEncodeError:
        return _encode(_without_surrogates(msgspec.to_builtins(value))).decode()


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {key: _without_surrogates(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(each) for each in value]
    return value


def _progress_of(kept: str) -> Progress | None:
    """Progress as it was kept; none where it cannot be read: once it was kept without a check, and
    one such row must not stop a list, or a start.

    >>> _progress_of('{"current":1,"total":2}'), _progress_of('{"current":true,"total":2}')
    (Progress(current=1.0, total=2.0, message=None), None)
    """
    try:
        return _progress(kept)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def job_of(row: Row) -> Job:
    """The job of a row of ``get.sql``."""
    return Job(
        order=row[0],
        id=row[1],
        seq=row[2],
        task=row[3],
        status=row[4],
        reason=row[5],
        args=row[6].encode(),
        tags=() if row[7] == "[]" else _tags(row[7]),
        attempt=row[8],
        max_attempts=row[9],
        created_at=row[10],
        updated_at=row[11],
        run_at=row[12],
        expires_at=row[13],
        started_at=row[14],
        finished_at=row[15],
        progress=None if row[16] is None else _progress_of(row[16]),
        cancel_requested_at=row[17],
        unresponsive=bool(row[18]),
        retry_of=row[19],
        parent=row[20],
        key=row[21],
        result=None if row[22] is None else row[22].encode(),
        error=None if row[23] is None else _failure(row[23]),
        history=() if row[24] is None else _history(row[24]),
        priority=row[25],
        turn=row[26],
        unique=row[27],
    )
