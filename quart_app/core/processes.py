"""Processes for ``run="process"`` functions: killable, spawned, ended with their parent.

pebble keeps the processes; this module maps one job to one of them. Canceling is in two steps: the
slot is marked and the process gets SIGTERM, upon which the function sees one CancelledError and can
clean up; what goes on past the grace is killed. Nothing may live here that knows of the store.

One pool of one process for each job at a time, and not one pool of many: pebble's processes share a
pipe and its locks, and one that is killed while it writes can leave the others waiting for ever. So
nothing that happens to one job can touch another, and a pool that a job has left in doubt is thrown
away. Spawn only: a forked child hides its parent's death and keeps its locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pebble import CONSTS, ProcessExpired, ProcessPool

from quart_app.core import child
from quart_app.core.child import Answer, Call
from quart_app.core.registry import Handle
from quart_app.core.slots import ASKED, KILLED, RING_BYTES, Slots
from quart_app.core.threads import Threads
from quart_app.domain.jobs import Progress

POLL, SOON = 0.1, 0.05
"""Seconds between two looks at a process's progress, or at whether it is gone; and until we look
again at one that says so much that it may be waiting for room."""
GONE = 3
"""Looks at which a process is gone before we say so: pebble knows its exit status by then."""
SILENT = 60.0
"""Seconds in which a process begins with a job, or answers when the function has ended. It takes
milliseconds; one that needs longer will never do it."""

# Ours end themselves at SIGTERM; one that cannot stands in C code, and there is no use in waiting.
CONSTS.term_timeout = 0.2


class ProcessDied(Exception):
    """The process of a job ended by itself: a crash, ``os._exit``, or the kernel's OOM killer."""


TakeLine = Callable[[str, str, float], None]
"""Takes the level, the text and the moment of a line."""


def _unheard(level: str, text: str, at: float) -> None:
    """Where nobody wants to know what a function says."""


class _Place:
    """Room for one job: a pool of one process, made when a job needs it and kept for the next."""

    def __init__(self) -> None:
        self.pool: ProcessPool | None = None
        self.slots: Slots | None = None

    def make(self) -> None:
        """Make the process, unless there is one that works (blocking: for a thread)."""
        if self.pool is not None and self.pool.active:
            return
        if (broken := self.close()) is not None:
            broken.join()
        context = multiprocessing.get_context("spawn")
        self.slots = Slots(context)
        pool = ProcessPool(
            max_workers=1, initializer=child.start, initargs=(self.slots,), context=context
        )
        _ = pool.active  # Starts it.
        self.pool = pool

    def close(self) -> ProcessPool | None:
        """End the process, at once and without waiting for it; returns what may be joined."""
        pool, self.pool = self.pool, None
        if pool is not None and self.slots is not None:
            self.slots.closing.value = 1
            pool.stop()  # type: ignore[no-untyped-call]
        return pool


class Processes:
    """As many processes as jobs run at once, each made when it is first needed.

    Args:
        count: processes, and so jobs at once.
        threads: where they are started, since spawning takes milliseconds.
    """

    def __init__(self, count: int, threads: Threads) -> None:
        self._threads = threads
        self._places = [_Place() for _ in range(count)]
        # The last one that came free is the first to be used: the others need not be made at all.
        self._free = list(reversed(self._places))
        self._ending: list[threading.Thread] = []

    async def call(
        self,
        handle: Handle,
        call: Call,
        report: Callable[[Progress], None],
        log: TakeLine = _unheard,
    ) -> Answer:
        """Run a job's function in a process until it has really ended there.

        Args:
            handle: asked by others to stop; the process is then interrupted, later killed.
            call: what to run.
            report, log: take its progress, and the level, text and moment of each line.
        Raises:
            ProcessDied: where the process ended by itself.
        """
        place = self._free.pop()
        sound = False
        try:
            await self._threads.call(place.make)
            pool, slots = place.pool, place.slots
            if pool is None or slots is None:
                raise ProcessDied("the process of the job never began: its pool was closed")
            slots.clear()
            future = _ask(pool, call)

            def kill() -> None:
                _signal(slots.slot, KILLED)
                future.cancel()

            handle.enter(lambda: _signal(slots.slot, ASKED), kill)
            answer = await _follow(pool, future, slots, report, log)
            sound = not future.cancelled()
            return answer
        finally:
            handle.leave()
            if not sound:
                self._throw_away(place)
            self._free.append(place)

    def _throw_away(self, place: _Place) -> None:
        """A process that was killed, or died, leaves its pool in a state that nobody can know."""
        if (pool := place.close()) is not None:
            self._ending = [thread for thread in self._ending if thread.is_alive()]
            thread = threading.Thread(target=pool.join, name="quart-app-processes-end", daemon=True)
            thread.start()
            self._ending.append(thread)

    def close(self) -> None:
        """End every process, at once and without waiting for any."""
        for place in self._places:
            self._throw_away(place)

    def join(self) -> None:
        """Wait until closed processes are gone (blocking; for a thread, or the very end)."""
        for thread in self._ending:
            thread.join()


def _ask(pool: ProcessPool, call: Call) -> Future[Answer]:
    try:
        future: Future[Answer] = pool.schedule(child.run, args=(call,))
    except RuntimeError as error:  # Its process died before it was asked for anything.
        message = f"the process of the job never began: the pool broke: {error}"
        raise ProcessDied(message) from None
    return future


def _signal(slot: Any, stop: int) -> None:
    """Say to the process of a slot that its function is to stop, or itself to go."""
    slot.stop = stop
    # Read once: the process sets it to 0 when the function ends, and 0 would be all of us.
    pid = slot.pid
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


async def _follow(
    pool: ProcessPool,
    future: Future[Answer],
    slots: Slots,
    report: Callable[[Progress], None],
    log: TakeLine = _unheard,
) -> Answer:
    """Pass progress on until the process has answered or is gone."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    future.add_done_callback(lambda _: _tell(loop, ended))
    slot, seen, pid, gone, heard = slots.slot, 0, 0, 0, time.monotonic()
    poll = POLL
    while not _is_over(future) and gone < GONE and time.monotonic() - heard < SILENT:
        try:
            async with asyncio.timeout(poll):
                await (asyncio.sleep(POLL) if future.cancelled() else ended.wait())
        except TimeoutError:
            # A pool that broke or was closed says nothing of what it has not begun.
            lost = (pid or not pool.active) and not _alive(pid)
            gone = 0 if not lost else gone + 1 if poll == POLL else gone
        if running := slot.pid:
            pid, heard = running, time.monotonic()
        if (news := slots.read_progress(seen)) is not None:
            seen, progress = news
            report(progress)
        poll = SOON if _pass_on(slots, log) else POLL
    _pass_on(slots, log)
    if future.cancelled():
        return Answer("canceled", message="the process was killed")
    return _answer(future, pid, gone >= GONE)


def _pass_on(slots: Slots, log: TakeLine) -> bool:
    """Pass on the lines that have come; whether there were so many that more may be waiting."""
    tail = slots.slot.tail
    for line in slots.read_lines():
        log(*line)
    return bool(slots.slot.tail - tail > RING_BYTES // 2)


def _answer(future: Future[Answer], pid: int, gone: bool) -> Answer:
    """What the process answered, or why it did not.

    Args:
        future: done, or given up.
        pid: of the process, if it has begun with the job.
        gone: whether it is not there any more.
    """
    if not future.done():
        future.cancel()
        message = "ended by itself, with status 0" if pid else "never began: the pool broke"
        if not gone:
            message = f"has not answered for {SILENT:g} s" if pid else "never began"
        raise ProcessDied(f"the process of the job {message}")
    try:
        return future.result()
    except ProcessExpired as error:
        message = f"the process of the job ended by itself, with status {error.exitcode}"
        raise ProcessDied(message) from None
    except BrokenProcessPool as error:
        raise ProcessDied(f"the process of the job was lost: the pool broke: {error}") from None


def _is_over(future: Future[Answer]) -> bool:
    """Whether the process has answered, or was stopped, or will never begin with this.

    A canceled future is done at once, but pebble takes note of it (and `wait` of that) only when
    the process has gone. Until then its place must not be another job's.
    """
    return bool(wait([future], timeout=0).done)


def _tell(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(ended.set)
    except RuntimeError:  # The loop has closed: nobody waits any more.
        return


def _alive(pid: int) -> bool:
    if pid == 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
