"""How a rule says that it is broken. Only what the rules of every seam share may live here."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

E = TypeVar("E", bound=Exception)


def require(holds: object, what: str) -> None:
    """Fail with a sentence."""
    if not holds:
        raise AssertionError(what)


async def refused(call: Awaitable[object], error: type[E], what: str) -> E:
    """Fail unless a call raises this error; returns it."""
    try:
        await call
    except error as raised:
        return raised
    raise AssertionError(what)
