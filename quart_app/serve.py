"""The launcher: Hypercorn with our own order of shutdown.

Plain Hypercorn closes its sockets first and tells the app last, so that nobody can see the status
of a job that is draining. Here jobs drain while the service still answers, then the sockets close,
and the process ends in time whatever its jobs and threads do. Only that order may live here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from quart import Quart

from quart_app.app import Jobs, get_jobs
from quart_app.hosting import SIGNALS

logger = logging.getLogger("quart_app")

LEAVE = 0.8
"""Seconds that connections have to end after the jobs have, and then the interpreter itself."""
FORCED = 1
"""The exit status of a process whose loop was still blocked at the deadline."""


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

    def _wait(self) -> None:
        with self._changed:
            while (left := self._at - time.monotonic()) > 0:
                self._changed.wait(left)
        if self._status == FORCED:
            sys.stderr.write("quart-app: the event loop did not come to an end in time: leaving\n")
        logging.shutdown()
        sys.stderr.flush()
        sys.stdout.flush()
        self._leave(self._status)


class Signals:
    """Hears SIGTERM and SIGINT in a thread, so that a blocked event loop does not matter.

    The interpreter writes each signal's number to a socket as it comes (`signal.set_wakeup_fd`).

    Args:
        heard: called in that thread with how many have come.
    """

    def __init__(self, heard: Callable[[int], None]) -> None:
        self._heard = heard
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    def listen(self) -> None:
        """Begin; on the main thread."""
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, _to_the_socket)
        threading.Thread(target=self._wait, name="signals", daemon=True).start()

    def _wait(self) -> None:
        count = 0
        while numbers := self._reader.recv(64):
            count += sum(number in SIGNALS for number in numbers)
            if count:
                self._heard(count)


def _to_the_socket(number: int, frame: FrameType | None) -> None:
    """A signal needs a Python handler for its number to be written to the socket."""


class Launcher:
    """Serves one app until a signal, then ends it in order.

    Args:
        app: an app with `Jobs`.
        config: Hypercorn's settings.
        deadline: ends the process when nothing else does.
    """

    def __init__(self, app: Quart, config: Config, deadline: Deadline) -> None:
        self._app = app
        self._jobs: Jobs = get_jobs(app)
        self._config = config
        self._deadline = deadline
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve; returns when the service has ended.

        Raises:
            Whatever stopped the start.
        """
        self._loop = asyncio.get_running_loop()
        Signals(self.heard).listen()
        sockets_close = asyncio.Event()
        server = asyncio.create_task(
            hypercorn_serve(self._app, self._config, shutdown_trigger=sockets_close.wait)
        )
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({server, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not server.done():
            await self._jobs.close()
            sockets_close.set()
            await asyncio.wait({server}, timeout=LEAVE)
            self._deadline.within(LEAVE, status=0)
        stop.cancel()
        if server.done():
            server.result()

    def heard(self, count: int) -> None:
        """A signal has come: the first begins the shutdown, the second skips the drain."""
        settings = self._jobs.settings()
        drain = settings.drain if count == 1 else 0.0
        self._deadline.within(drain + settings.grace + 1.0)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin, count)

    def _begin(self, count: int) -> None:
        self._jobs.begin_close()
        if count > 1:
            self._jobs.hurry()
        self._stop.set()


def make_config(bind: str, base: Config | None = None) -> Config:
    """Hypercorn's settings for `Launcher`: what matters of ``hypercorn.toml``, for one process.

    Args:
        bind: where to listen, ``HOST:PORT``.
        base: settings to start from (certificates, log format).
    """
    config = base or Config()
    config.bind = [bind]
    config.workers = 1  # Has no meaning when Hypercorn is called and not launched.
    config.graceful_timeout = LEAVE / 2
    if config.errorlog == "-":  # To our log, in which each line then stands once.
        config.errorlog = logging.getLogger("hypercorn.error")
    return config


def run(app: Quart, config: Config) -> int:
    """Serve an app in this process until a signal; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    deadline = Deadline()
    with asyncio.Runner() as runner:
        runner.run(Launcher(app, config, deadline).run())
    return 0
