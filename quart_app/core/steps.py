"""The steps of a job: what one attempt has finished, the next need not do again.

A step's result is on record before `Context.step` returns it, so that an attempt that was cut off
is followed by one that goes on where it stopped. Nothing may live here that calls the user's
function: the context does.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from quart_app.core.ledger import Ledger
from quart_app.core.patience import until_written
from quart_app.core.ports import Store
from quart_app.domain.arguments import ENCODER, decode_custom
from quart_app.domain.jobs import Job, KeptStep
from quart_app.domain.texts import as_text

MOST = 10_000
"""Steps of one job."""
NAME_CHARS = 200


class Superseded(Exception):
    """This attempt is not the job's any more: another one has begun, or the job is over."""


class Steps:
    """The steps of one attempt.

    Args:
        ledger, store: where they are written and read.
        job: the claimed job.
        max_result: bytes of JSON that a step's result may have.
    """

    def __init__(self, ledger: Ledger, store: Store, job: Job, max_result: int) -> None:
        self._ledger = ledger
        self._store = store
        self._job = job
        self._max_result = max_result
        self._known: dict[str, KeptStep] | None = None if job.history else {}
        self._loading = asyncio.Lock()
        self._used: set[str] = set()
        self.loop = asyncio.get_running_loop()

    async def find(self, name: str) -> bytes | None:
        """The result that an earlier attempt has on record, or None where the step is to be done.

        Raises:
            ValueError: the name cannot be one, or this attempt had a step of it already.
        """
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARS:
            raise ValueError(f"a step's name is a text of 1 to {NAME_CHARS} characters")
        if as_text(name) != name:  # Its result could not be kept, when it is done already.
            raise ValueError(f"a step's name is a text, and {name!r} has bytes that are none")
        if name in self._used:
            message = f"this job had a step {name!r} already: in a loop, put the item in the name"
            raise ValueError(message)
        if len(self._used) >= MOST:
            raise ValueError(f"a job may have {MOST} steps; let one do more than one item")
        self._used.add(name)
        async with self._loading:
            if self._known is None:
                what = f"what job {self._job.id} has done"
                self._known = await until_written(lambda: self._store.steps(self._job.id), what)
        known = self._known.get(name)
        return None if known is None else known.result

    async def keep(self, name: str, value: Any) -> bytes:
        """Put a step's result on record; its JSON comes back.

        Raises:
            TypeError: it cannot be written as JSON.
            ValueError: it is too large.
            Superseded: this attempt is not the job's any more.
        """
        try:
            payload = ENCODER.encode(value)
        except Exception as error:
            message = f"the result of step {name!r} cannot be written as JSON: {error}"
            raise TypeError(message) from error
        if len(payload) > self._max_result:
            message = (
                f"the result of step {name!r} has {len(payload)} bytes of JSON, "
                f"{self._max_result} are allowed: keep it elsewhere and return where"
            )
            raise ValueError(message)
        job = self._job
        kept = await until_written(
            lambda: self._ledger.keep_step(job, name, payload), f"step {name!r} of job {job.id}"
        )
        if not kept:
            raise Superseded(f"attempt {job.attempt} of job {job.id} was superseded")
        return payload


def read(payload: bytes, function: Callable[..., Any]) -> Any:
    """A step's result from its JSON: as the function's annotation has it, where it has one.

    The first attempt gets it this way too, so that both see the same value.

    >>> def rows() -> tuple[int, ...]: ...
    >>> read(b"[1,2]", rows), read(b"[1,2]", len)
    ((1, 2), [1, 2])
    """
    while isinstance(function, functools.partial):
        function = function.func
    try:
        kind = typing.get_type_hints(inspect.unwrap(function)).get("return", Any)
        return msgspec.json.decode(payload, type=kind, dec_hook=decode_custom)
    except (ValueError, TypeError, AttributeError, NameError):
        return msgspec.json.decode(payload)
