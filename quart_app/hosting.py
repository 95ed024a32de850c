"""The server around us: what Hypercorn is set to, what of it is refused, and its shutdown.

Only knowledge of the server and of the end of its process may live here; our own launcher is
`quart_app.serve`.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.run import asyncio_worker as worker
from hypercorn.config import Config

from quart_app.domain.errors import InvalidSetting

logger = logging.getLogger("quart_app")

LEAVE = 0.8
"""Seconds that connections have to end after the jobs have, and then the interpreter itself."""
FORCED = 1
"""The exit status of a process whose loop was still blocked at the deadline."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Host(NamedTuple):
    """The Hypercorn that is starting us: its settings, and whether it is the command."""

    config: Config
    is_command: bool


def find_host() -> Host | None:
    """The Hypercorn that is starting us, or None under another server.

    Hypercorn does not pass its settings on; its lifespan, which called us, has them.
    """
    frame: FrameType | None = sys._getframe()
    config: Config | None = None
    is_command = False
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, Lifespan):
            config = caller.config
        is_command = is_command or frame.f_code is worker.__code__
        frame = frame.f_back
    return None if config is None else Host(config, is_command)


def settle() -> None:
    """Once an app is built, in a process that only serves it: what is there stays there.

    The cyclic garbage collector need not look through it again and again: a full collection took
    32 ms, in which the event loop stood still, and 4 % of the time under load (CPython 3.11).
    """
    gc.collect()
    gc.freeze()


def has_master() -> bool:
    """Whether this process is a Hypercorn worker under a master process (``workers`` >= 1)."""
    return multiprocessing.parent_process() is not None


def check(config: Config, *, drain: float, grace: float, shared: bool = False) -> None:
    """Refuse what would break a promise, and warn of what weakens one.

    Args:
        shared: whether several processes may work with the same jobs.

    Raises:
        InvalidSetting: with the reason, and what to set instead.
    """
    source = "Hypercorn's configuration"
    if has_master() and config.workers > 1 and not shared:
        expected = (
            "0 (or 1), or QUART_APP_STORE=redis://... or postgresql://...: each worker would have "
            "jobs of its own, and a worker that does not know the job would answer for its status "
            "and cancel"
        )
        raise InvalidSetting("workers", config.workers, expected, source)
    if config.max_requests is not None:
        expected = "unset: a recycled worker kills its running jobs"
        raise InvalidSetting("max_requests", config.max_requests, expected, source)
    if config.shutdown_timeout < drain + grace + 1:
        expected = (
            f"at least {drain + grace + 1:g} (QUART_APP_DRAIN + QUART_APP_GRACE + 1), or Hypercorn "
            "ends the drain"
        )
        raise InvalidSetting("shutdown_timeout", config.shutdown_timeout, expected, source)
    if has_master():
        logger.warning(
            "workers=%s puts a master process above this one: SIGTERM to the group ends jobs "
            'undrained, and run="process" tasks fail; use workers = 0, as hypercorn.toml has it',
            config.workers,
        )
    if config.read_timeout is not None:
        logger.warning("read_timeout=%s cuts healthy streams; leave it unset", config.read_timeout)


class Deadline:
    """Ends the process at a moment, from a thread, whatever the event loop is doing.

    Args:
        leave: what ends it; takes the exit status.
    """

    def __init__(self, leave: Callable[[int], None] = os._exit) -> None:
        self._leave = leave
        self._at = float("inf")
        self._status = FORCED
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def within(self, seconds: float, status: int = FORCED) -> None:
        """Leave so many seconds from now, or earlier if that was said before."""
        with self._changed:
            self._at = min(self._at, time.monotonic() + seconds)
            self._status = status
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._wait, name="deadline", daemon=True)
                self._thread.start()

    def cancel(self) -> None:
        """All has ended in time: do not leave."""
        with self._changed:
            self._at = float("inf")
            self._changed.notify()

    def _wait(self) -> None:
        with self._changed:
            while (left := self._at - time.monotonic()) > 0:
                if left == float("inf"):
                    self._thread = None
                    return
                self._changed.wait(left)
        if self._status == FORCED:
            sys.stderr.write("quart-app: the event loop did not come to an end in time: leaving\n")
        logging.shutdown()
        sys.stderr.flush()
        sys.stdout.flush()
        self._leave(self._status)


class SignalNotice:
    """Hears of SIGTERM and SIGINT beside the server, as soon as they come.

    Hypercorn tells the app of a shutdown only when its connections are gone, so a request that
    waits for a job would hold up the shutdown. The server's own handling goes on unchanged: asyncio
    hears of signals through a file descriptor, and leaves the Python-level handler to us.

    Args:
        callback: called on the main thread, at any moment, with each signal.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._handling: list[signal.Signals] = []

    def start(self) -> None:
        """Listen, where asyncio handles the signals and we are on the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            current = signal.getsignal(number)
            if getattr(current, "__module__", None) == "asyncio.unix_events":
                signal.signal(number, self._hear)
                signal.siginterrupt(number, False)
                self._handling.append(number)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._callback()

    def stop(self) -> None:
        """Listen no more. The signals stay with asyncio."""
        for number in self._handling:
            if signal.getsignal(number) == self._hear:
                signal.signal(number, _nothing)
        self._handling.clear()


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler that leaves a signal to asyncio's file descriptor."""
