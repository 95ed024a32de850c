"""Handles: found while a job runs, interrupting it once, and never its bookkeeping."""

from __future__ import annotations

import asyncio
import itertools
from typing import cast

import pytest

from quart_app.core.registry import Handle, Registry, Stop

pytestmark = pytest.mark.virtual

STOPS: tuple[Stop, ...] = ("shutdown", "timeout", "cancel")


def current() -> asyncio.Task[None]:
    """The asyncio task of the test."""
    return cast("asyncio.Task[None]", asyncio.current_task())


def opened(registry: Registry, job_id: str = "a") -> Handle:
    """A new handle."""
    handle = registry.open(job_id, current())
    assert handle is not None
    return handle


async def test_a_running_job_is_found_until_its_handle_is_closed() -> None:
    """By its id, by its asyncio task, and among all."""
    registry = Registry()
    handle = opened(registry)
    assert registry.open("a", current()) is None
    assert registry.get("a") is handle
    assert registry.find(current()) is handle
    assert registry.find(None) is None
    assert ("a" in registry, len(registry), list(registry)) == (True, 1, [handle])
    assert registry.snapshot() == [handle]
    registry.close(handle)
    assert registry.get("a") is None
    assert ("a" in registry, len(registry), list(registry)) == (False, 0, [])


@pytest.mark.parametrize("order", list(itertools.permutations(STOPS)))
async def test_the_strongest_reason_counts_and_the_function_is_interrupted_once(
    order: tuple[Stop, ...],
) -> None:
    """In whichever order they come: a person's cancel wins."""
    interrupts: list[Stop] = []
    handle = opened(Registry())
    handle.enter(lambda: interrupts.append("cancel"))
    assert not handle.stopping
    for reason in (*order, *order):
        handle.ask(reason)
        assert handle.stopping
    assert handle.stop == "cancel"
    assert len(interrupts) == 1
    handle.leave()


async def test_a_stop_that_came_before_the_function_interrupts_it_when_it_begins() -> None:
    """There is no moment at which it finds nobody."""
    interrupts: list[str] = []
    handle = opened(Registry())
    handle.ask("timeout")
    assert interrupts == []
    handle.enter(lambda: interrupts.append("now"))
    assert interrupts == ["now"]
    handle.leave()


async def test_nothing_interrupts_the_bookkeeping() -> None:
    """A stop after the function's end is remembered, and nobody is interrupted."""
    interrupts: list[str] = []
    handle = opened(Registry())
    handle.enter(lambda: interrupts.append("now"))
    handle.leave()
    handle.ask("cancel")
    assert (handle.stop, interrupts) == ("cancel", [])


async def test_past_the_grace_it_is_told_or_ended_by_force() -> None:
    """By force where there is a way; once, counted from the first request."""
    registry = Registry(grace=2)
    told: list[str] = []
    registry.on_overdue = lambda handle: told.append(handle.job_id)
    plain, forced = opened(registry, "plain"), opened(registry, "forced")
    plain.enter(lambda: None)
    forced.enter(lambda: None, lambda: told.append("force"))
    for handle in (plain, forced):
        handle.ask("shutdown")
    await asyncio.sleep(1.5)
    plain.ask("cancel")
    assert told == []
    await asyncio.sleep(1)
    assert sorted(told) == ["force", "plain"]
    await asyncio.sleep(10)
    assert len(told) == 2
    for handle in (plain, forced):
        registry.close(handle)


async def test_what_ends_within_the_grace_is_left_alone() -> None:
    """No timer of a job outlives its function."""
    registry = Registry(grace=2)
    told: list[str] = []
    registry.on_overdue = lambda handle: told.append(handle.job_id)
    handle = opened(registry)
    handle.after(5, lambda: told.append("later"))
    handle.enter(lambda: None)
    handle.ask("cancel")
    await asyncio.sleep(1)
    registry.close(handle)
    await asyncio.sleep(10)
    assert told == []


async def test_unless_somebody_listens_being_overdue_is_told_to_nobody() -> None:
    """A registry works without a runner."""
    registry = Registry(grace=1)
    handle = opened(registry)
    handle.enter(lambda: None)
    handle.ask("cancel")
    await asyncio.sleep(2)
    assert registry.get("a") is handle
