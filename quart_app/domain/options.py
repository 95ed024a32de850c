"""How a job is started, besides its arguments: the key, when it may begin, until when it must have.

Only reading and checking may live here; what follows from the values is the service's.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence

import msgspec

from quart_app.domain.errors import InvalidRequest
from quart_app.domain.jobs import RequestKey

FAR = 10 * 366 * 86_400.0
"""Seconds: a delay of more than ten years is a mistake."""
LAST = 253_402_300_799.0
"""The last moment of the year 9999, in seconds since the epoch."""
KEY_CHARS = 255
MOST_URGENT = 100

Duration = float | dt.timedelta
Moment = float | dt.datetime


class Options(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Checked options; moments are seconds since the epoch, durations are seconds.

    Args:
        key: a second start with the same key, task and payload gives the same jobs.
        delay: the job begins so much later; or
        run_at: it begins then.
        ttl: it must have begun within so much time from now; or
        expires_at: it must have begun by then. Otherwise it fails, reason ``expired``.
        priority: -100 to 100, instead of the task's own.
    """

    key: str | None = None
    delay: float | None = None
    run_at: float | None = None
    ttl: float | None = None
    expires_at: float | None = None
    priority: int | None = None

    def request_key(self, kind: bytes, batch: Sequence[bytes]) -> RequestKey | None:
        """The key of a start with a digest of all that was asked, if it has one.

        Args:
            kind: tells one start from a start of many.
            batch: the arguments of each job.
        """
        if self.key is None:
            return None
        digest = hashlib.blake2b(kind, digest_size=16)
        asked = msgspec.to_builtins(self)
        if self.priority is None:  # As before there were priorities: old keys stay good.
            del asked["priority"]
        for part in (msgspec.json.encode(asked), *batch):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return RequestKey(self.key, digest.digest())


NO_OPTIONS = Options()


def make_options(
    *,
    key: str | None = None,
    delay: Duration | None = None,
    run_at: Moment | None = None,
    expires: Duration | dt.datetime | None = None,
    priority: int | None = None,
) -> Options:
    """Check and unite what a caller gives.

    Args:
        key: 1 to 255 printable ASCII characters.
        delay: seconds, or a ``timedelta``.
        run_at: a ``datetime`` with a time zone, or seconds since the epoch.
        expires: a duration from now, or a moment as a ``datetime``.
        priority: -100 to 100; a higher one begins first.

    Raises:
        InvalidRequest: naming what is wrong and what it may be.

    >>> make_options(delay=dt.timedelta(minutes=1)).delay
    60.0
    """
    if key is not None and not _is_key(key):
        raise InvalidRequest(f"key is 1 to {KEY_CHARS} printable ASCII characters")
    if delay is not None and run_at is not None:
        raise InvalidRequest("Give delay or run_at, not both")
    ttl = None if expires is None or isinstance(expires, dt.datetime) else expires
    return Options(
        key=key,
        delay=_seconds("delay", delay),
        run_at=_epoch("run_at", run_at),
        ttl=_seconds("expires", ttl),
        expires_at=_epoch("expires", expires) if isinstance(expires, dt.datetime) else None,
        priority=_priority(priority),
    )


def _is_key(key: object) -> bool:
    if not isinstance(key, str):
        return False
    return 0 < len(key) <= KEY_CHARS and key.isascii() and key.isprintable()


def _priority(value: int | None) -> int | None:
    if value is None or (type(value) is int and abs(value) <= MOST_URGENT):
        return value
    raise InvalidRequest(f"priority is a whole number from -{MOST_URGENT} to {MOST_URGENT}")


def _seconds(name: str, value: Duration | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = value.total_seconds() if isinstance(value, dt.timedelta) else float(value)
    except (TypeError, ValueError, OverflowError):
        message = f"{name} is seconds as a number, or a timedelta, not {value!r}"
        raise InvalidRequest(message) from None
    if not 0 <= seconds <= FAR:
        raise InvalidRequest(f"{name} is 0 to {FAR:.0f} seconds, not {seconds!r}")
    return seconds


def _epoch(name: str, value: Moment | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            raise InvalidRequest(f"{name} needs a time zone, as in 2030-01-31T08:00:00Z")
        seconds = value.timestamp()
    else:
        try:
            seconds = float(value)
        except (TypeError, ValueError, OverflowError):
            message = f"{name} is a datetime, or seconds since the epoch, not {value!r}"
            raise InvalidRequest(message) from None
    if not 0 <= seconds <= LAST:
        raise InvalidRequest(f"{name} is a moment of the years 1970 to 9999, not {value!s}")
    return seconds
