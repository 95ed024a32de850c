"""Filters of a list that no index knows: how long, since when, which arguments, which error.

Only what is decided by a job's record alone may live here; a store looks at one job after another.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from typing import Any

import msgspec

from quart_app.domain.jobs import Failure, Job
from quart_app.domain.secrets import hide

VARYING = re.compile(
    r"'[^']*'|\"[^\"]*\"|[0-9a-f]{8}-[0-9a-f-]{27}|0x[0-9a-fA-F]+|[0-9a-fA-F]{12,}|\d+(?:\.\d+)?"
)
"""What differs between errors of one kind: quoted text, ids, addresses, numbers."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Every one that is set must hold. Moments are seconds since the epoch, durations seconds.

    Args:
        key: the key that the job was started with.
        error: found in its error's code or message, ignoring case, or equal to its fingerprint.
        args: names of arguments, dotted where they are nested, each with its value as text.
        longer, shorter: how long it has run, or runs until ``now``.
        since, until: when it was opened.
        now: the moment that the filter is used at.

    >>> quick = Filter(shorter=1.0, args=(("user.name", "ann"),))
    >>> args = b'{"user":{"name":"ann"}}'
    >>> job = Job(id="a", task="t", args=args, started_at=1.0, finished_at=1.5)
    >>> quick.passes(job)
    True
    """

    key: str | None = None
    error: str | None = None
    args: tuple[tuple[str, str], ...] = ()
    longer: float | None = None
    shorter: float | None = None
    since: float | None = None
    until: float | None = None
    now: float = 0.0

    def passes(self, job: Job) -> bool:
        """Whether a job does."""
        return (
            (self.key is None or job.key == self.key)
            and (self.since is None or job.created_at >= self.since)
            and (self.until is None or job.created_at < self.until)
            and self._lasted(job)
            and (self.error is None or _has(job, self.error))
            and (not self.args or _given(job.args, self.args))
        )

    def _lasted(self, job: Job) -> bool:
        if self.longer is None and self.shorter is None:
            return True
        if job.started_at is None:
            return False
        seconds = (self.now if job.finished_at is None else job.finished_at) - job.started_at
        if self.longer is not None and not seconds > self.longer:
            return False
        return self.shorter is None or seconds < self.shorter


def _has(job: Job, error: str) -> bool:
    if job.error is None or job.status != "failed":
        return False
    wanted = error.lower()
    found = wanted in job.error.code.lower() or wanted in job.error.message.lower()
    return found or fingerprint(job.task, job.error) == error


def _given(args: bytes, wanted: tuple[tuple[str, str], ...]) -> bool:
    try:
        values = json.loads(hide(args))  # Else a secret could be guessed, value by value.
    except ValueError:
        return False
    return all(_is(_at(values, name), text) for name, text in wanted)


_NOTHING = object()


def _at(values: Any, name: str) -> Any:
    for part in name.split("."):
        if not isinstance(values, dict) or part not in values:
            return _NOTHING
        values = values[part]
    return values


def _is(value: Any, text: str) -> bool:
    """Whether a value is what somebody has typed; 71 is 71.0, too.

    >>> _is(71.0, "71"), _is("71", "71"), _is(True, "1")
    (True, True, False)
    """
    if value is _NOTHING:
        return False
    if isinstance(value, str):
        return value == text
    if isinstance(value, float | int) and not isinstance(value, bool):
        try:
            return value == float(text)
        except ValueError:
            return False
    return json.dumps(value, separators=(",", ":")) == text


def fingerprint(task: str, error: Failure) -> str:
    """The same for errors of one kind: those that differ in numbers, ids and quoted text only.

    >>> one = fingerprint("report", Failure("KeyError", "no user 17"))
    >>> one == fingerprint("report", Failure("KeyError", "no user 4"))
    True
    """
    return _fingerprint(task, error.code, VARYING.sub("*", error.message[:500]))


@functools.lru_cache(maxsize=4096)
def _fingerprint(task: str, code: str, message: str) -> str:
    told = "\0".join((task, code, message)).encode(errors="replace")
    return hashlib.blake2b(told, digest_size=8).hexdigest()
