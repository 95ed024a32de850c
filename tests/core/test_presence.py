"""That a process says that it is alive: from a thread, also while its loop is blocked."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from quart_app.core import presence as presence_module
from quart_app.core.ports import SharedStore
from quart_app.core.presence import Presence, this_process
from quart_app.domain.errors import StoreRefused, StoreUnavailable
from quart_app.domain.workers import Worker
from quart_app.testing import wait_until
from tests.core.twin import Place, Twin

LEASE = 0.4


class Alive(Twin):
    """A store whose beats are written down, with what is to go wrong."""

    def __init__(self, place: Place, error: Exception | None = None) -> None:
        super().__init__(place)
        self.error = error
        self.beats: list[float] = []
        self.left: list[str] = []
        self.threads: set[str] = set()

    async def open(self) -> None:
        if isinstance(self.error, StoreRefused):
            raise self.error
        await super().open()

    async def beat(self, worker: Worker, seconds: float) -> None:
        if self.error is not None:
            raise self.error
        await super().beat(worker, seconds)
        self.beats.append(time.monotonic())
        self.threads.add(threading.current_thread().name)

    async def leave(self, worker_id: str) -> None:
        await super().leave(worker_id)
        self.left.append(worker_id)


def make(
    error: Exception | None = None, lease: float = LEASE, worker: Worker | None = None
) -> tuple[Presence, Alive, Worker]:
    """A process, and the store of its thread."""
    store = Alive(Place(time.monotonic), error)
    worker = this_process() if worker is None else worker

    def make_store() -> SharedStore:
        return store

    return Presence(make_store, lambda: worker, lease), store, worker


def threads() -> list[str]:
    """The threads that say that a process is alive."""
    return [each.name for each in threading.enumerate() if each.name == "quart-app-presence"]


async def test_a_process_is_alive_from_its_start_to_its_end() -> None:
    """It says so before the start returns, and says goodbye."""
    presence, store, worker = make()
    alive = [presence.alive]
    await presence.start()
    alive.append(presence.alive)
    assert alive == [False, True]
    assert list(store.place.alive) == [worker.id]
    await presence.stop(leave=True)
    assert (presence.alive, store.left, store.place.alive) == (False, [worker.id], {})
    assert not store._open
    assert threads() == []


async def test_who_does_not_leave_counts_as_alive_until_the_lease_is_over() -> None:
    """Its jobs may still run."""
    presence, store, worker = make()
    await presence.start()
    await presence.stop(leave=False)
    assert (presence.alive, store.left) == (False, [])
    assert list(store.place.alive) == [worker.id]
    assert threads() == []


@pytest.mark.blocking
async def test_it_beats_while_the_loop_is_blocked() -> None:
    """A job that computes for longer than a lease is not dead."""
    presence, store, _ = make()
    await presence.start()
    began = time.monotonic()
    time.sleep(3 * LEASE)  # noqa: ASYNC251 - as such a job does
    beats = [at for at in store.beats if at > began]
    assert len(beats) >= 4
    assert presence.alive
    assert store.threads == {"quart-app-presence"}
    await presence.stop(leave=True)


async def test_it_is_not_alive_when_it_cannot_say_so_for_a_lease() -> None:
    """And is again when it can."""
    presence, store, _ = make()
    await presence.start()
    store.cut = True
    cut = time.monotonic()
    await wait_until(lambda: not presence.alive, "it is not alive")
    assert time.monotonic() - cut <= LEASE + 0.5
    store.cut = False
    await wait_until(lambda: presence.alive, "it is alive")
    await presence.stop(leave=True)


async def test_a_store_that_hangs_is_asked_again() -> None:
    """One beat that nobody answers does not silence the process."""
    presence, store, _ = make()
    await presence.start()
    store.hangs = True
    await wait_until(lambda: not presence.alive, "it is not alive")
    store.hangs = False
    await wait_until(lambda: presence.alive, "it is alive")
    await presence.stop(leave=True)
    assert threads() == []


async def test_an_error_of_any_kind_does_not_silence_the_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, and the next beat is kept."""
    presence, store, _ = make()
    await presence.start()
    store.error = ValueError("nobody thought of it")
    await wait_until(lambda: "nobody thought of it" in caplog.text, "it is logged")
    store.error = None
    count = len(store.beats)
    await wait_until(lambda: len(store.beats) > count, "it beats again")
    await presence.stop(leave=True)


@pytest.mark.blocking
async def test_who_was_frozen_says_of_nobody_that_it_is_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No beat has failed, since none was tried; and perhaps all others were frozen, too."""
    frozen = threading.Event()
    goes_on = threading.Event()
    worker = this_process()

    def describe() -> Worker:
        if frozen.is_set():
            goes_on.wait(10)
        return worker

    monkeypatch.setattr(presence_module, "SETTLED", 0.0)
    store = Alive(Place(time.monotonic))
    presence = Presence(lambda: store, describe, LEASE)
    await presence.start()
    await wait_until(lambda: presence.doubt == 0, "it is sure")
    frozen.set()
    await wait_until(lambda: not presence.alive, "it is frozen")
    assert presence.doubt == pytest.approx(LEASE, abs=0.1)
    frozen.clear()
    goes_on.set()
    await wait_until(lambda: presence.alive, "it is alive")
    assert presence.doubt > 0
    await wait_until(lambda: presence.doubt == 0, "it is sure again")
    await presence.stop(leave=True)


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), StoreRefused("too old")])
async def test_a_start_without_a_store_returns_after_a_lease(error: Exception) -> None:
    """It is not alive then, and goes on trying until it is stopped."""
    presence, store, _ = make(error)
    began = time.monotonic()
    await presence.start()
    assert LEASE * 0.9 <= time.monotonic() - began < LEASE + 2
    assert not presence.alive
    store.error = None
    await wait_until(lambda: presence.alive, "it is alive")
    await presence.stop(leave=True)
    assert threads() == []


async def test_a_stop_while_the_store_is_gone_is_soon_over() -> None:
    """Also of one that was never reached, and of one that was never begun."""
    presence, store, _ = make(StoreRefused("too old"))
    await presence.stop(leave=True)
    await presence.start()
    began = time.monotonic()
    await presence.stop(leave=True)
    assert time.monotonic() - began < 2
    assert store.left == []
    assert threads() == []


async def test_it_can_be_abandoned_from_any_thread() -> None:
    """Nobody waits, and it ends."""
    presence, store, _ = make()
    presence.abandon()
    await presence.start()
    await asyncio.to_thread(presence.abandon)
    await wait_until(lambda: threads() == [], "the thread has ended")
    presence.abandon()
    assert store.left == []


def test_two_processes_have_two_names() -> None:
    """Also of one machine."""
    one, other = this_process("worker", ("a",)), this_process()
    assert one.id != other.id
    assert (one.kind, one.only, other.kind) == ("worker", ("a",), "web")
