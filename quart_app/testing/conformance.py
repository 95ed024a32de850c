"""What holds every `Store` and `Engine` to the rules of `quart_app.core.ports`.

The rules are in `quart_app.checks`; only the running of them may live here.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TypeVar

from quart_app.checks import engine as _engine
from quart_app.checks import shared as _shared
from quart_app.checks import store as _store
from quart_app.core.ports import Engine, SharedEngine, SharedStore, Store

T = TypeVar("T")

RULE_TIME = 30.0
"""Seconds that one rule of a conformance suite may take."""


async def check_store(maker: Callable[[], Store]) -> None:
    """Hold a store to the rules of `quart_app.core.ports.Store`.

    Args:
        maker: makes a new, empty store; called once for each rule.

    Raises:
        AssertionError: naming the rule that it breaks.
    """
    for rule in _store.RULES:
        store = maker()
        await store.open()
        try:
            await _hold(rule, store)
        finally:
            await store.close()


async def check_shared_store(maker: Callable[[], tuple[SharedStore, SharedStore]]) -> None:
    """Hold a store to what `quart_app.core.ports.SharedStore` adds.

    Args:
        maker: makes two stores for the same, new and empty place; called once for each rule.

    Raises:
        AssertionError: naming the rule that it breaks.
    """
    for rule in _shared.RULES:
        pair = maker()
        for store in pair:
            await store.open()
        try:
            await _hold(functools.partial(_of_two, rule), pair, rule)
        finally:
            for store in pair:
                await store.close()


async def _of_two(rule: _shared.Rule, pair: tuple[SharedStore, SharedStore]) -> None:
    await rule(*pair)


async def check_engine(maker: Callable[[], Engine]) -> None:
    """Hold an engine to the rules of `quart_app.core.ports.Engine`.

    Args:
        maker: makes a new engine whose loop lane has room for two jobs; called for each rule.

    Raises:
        AssertionError: naming the rule that it breaks.
    """
    for rule in _engine.RULES:
        engine = maker()
        try:
            await _hold(rule, engine)
        finally:
            await engine.close()
            if isinstance(engine, SharedEngine):
                await engine.disconnect()


async def _hold(
    rule: Callable[[T], Awaitable[None]], subject: T, named: object | None = None
) -> None:
    """Say which rule is broken, also where one never comes to its end."""
    named = rule if named is None else named
    try:
        async with asyncio.timeout(RULE_TIME):
            await rule(subject)
    except (AssertionError, TimeoutError) as error:
        message = f"{getattr(named, '__name__', named)}: {named.__doc__}"
        raise AssertionError(message) from error
