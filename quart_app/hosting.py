"""The server around us: what Hypercorn is set to, what of it is refused, and its shutdown.

Only knowledge of the ``hypercorn`` command may live here; our own launcher is `quart_app.serve`.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.config import Config

from quart_app.domain.errors import InvalidSetting

logger = logging.getLogger("quart_app")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def find_config() -> Config | None:
    """The configuration of the Hypercorn that is starting us, or None under another server.

    Hypercorn does not pass it on; its lifespan, which called us, has it.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, Lifespan):
            return caller.config
        frame = frame.f_back
    return None


def has_master() -> bool:
    """Whether this process is a Hypercorn worker under a master process (``workers`` >= 1)."""
    return multiprocessing.parent_process() is not None


def check(config: Config, *, volatile: bool, drain: float, grace: float) -> None:
    """Refuse what would break a promise, and warn of what weakens one.

    Raises:
        InvalidSetting: with the reason, and what to set instead.
    """
    source = "Hypercorn's configuration"
    if has_master() and config.workers > 1 and volatile:
        expected = (
            "0 (or 1): with the memory store each worker would have jobs of its own, and a worker "
            "that does not know the job would answer for its status and cancel"
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
