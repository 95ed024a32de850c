"""Functions for processes that fail, die or ask for another attempt; found by name, as in
`tests.core.process_tasks`."""

from __future__ import annotations

import os
import time
from pathlib import Path

from quart_app.core.context import Context
from quart_app.domain.retries import Fail, RetryAfter


class Busy(Exception):
    """What a task may name in its ``on=``."""


def count(path: str) -> int:
    """How often this was called with the same path, this call included."""
    with Path(path).open("a") as file:
        file.write(".")
    return Path(path).stat().st_size


def fails_once(path: str) -> str:
    calls = count(path)
    if calls == 1:
        raise Busy("the first time")
    return f"call {calls}"


def is_wrong(path: str) -> None:
    raise ValueError(f"call {count(path)}")


def says_fail(path: str) -> None:
    raise Fail(f"call {count(path)}")


def asks_for_time(path: str) -> str:
    if count(path) == 1:
        raise RetryAfter(0.5)
    return "done"


def dies_once(path: str) -> str:
    if count(path) == 1:
        os._exit(9)
    return "survived"


def always_dies(path: str) -> None:
    count(path)
    os._exit(9)


def is_slow_once(path: str) -> str:
    if count(path) == 1:
        time.sleep(60)
    return "quick"


def takes_a_step(ctx: Context) -> int:
    return ctx.step_sync("a step", os.getpid)
