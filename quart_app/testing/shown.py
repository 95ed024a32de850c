"""Jobs as messages of failed tests show them. Nothing may live here that looks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from quart_app.domain.jobs import Job
from quart_app.domain.secrets import hide

SHOWN = 10
"""Jobs that a message lists."""


def call_of(name: str, args: dict[str, Any]) -> str:
    """A start as it is written in Python.

    >>> call_of("report", {"month": 3})
    'report(month=3)'
    """
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in args.items())})"


def told(job: Job) -> str:
    """A job for people: its task and arguments, without secrets."""
    return call_of(job.task, msgspec.json.decode(hide(job.args)))


def lines_of(jobs: Sequence[Job], with_status: bool = False) -> str:
    """Jobs for people, a line for each of the first."""
    lines = [f"{told(job)} is {job.status}" if with_status else told(job) for job in jobs[:SHOWN]]
    if len(jobs) > SHOWN:
        lines.append(f"... and {len(jobs) - SHOWN} more")
    return "".join(f"\n  {line}" for line in lines)
