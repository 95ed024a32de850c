"""The launcher: Hypercorn with our own order of shutdown.

Plain Hypercorn closes its sockets first and tells the app last, so that nobody can see the status
of a job that is draining. Here jobs drain while the service still answers, then the sockets close,
and the process ends in time whatever its jobs and threads do. Only that order may live here.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from quart import Quart

from quart_app.app import Jobs, get_jobs
from quart_app.console import begin_logging
from quart_app.hosting import LEAVE, SIGNALS, Deadline, check, settle

logger = logging.getLogger("quart_app")


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
        while True:
            for number in self._reader.recv(64):
                if number in SIGNALS:  # And not one of the app's own.
                    count += 1
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
        self._settings = settings = self._jobs.settings()
        # Ours is the order of the shutdown; Hypercorn's own limit must not end it.
        config.shutdown_timeout = settings.drain + settings.grace + 2
        check(config, drain=settings.drain, grace=settings.grace, shared=settings.shared)
        self._deadline = deadline
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve; returns when the service has ended.

        Raises:
            Whatever stopped the start.
        """
        Signals(functools.partial(self.heard, asyncio.get_running_loop())).listen()
        # Before Hypercorn, which would wrap what refuses the start into an error of its own.
        await self._jobs.open()
        settle()
        try:
            await self._serve()
        finally:
            await self._jobs.close()

    async def _serve(self) -> None:
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

    def heard(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        """A signal has come: the first begins the shutdown, the second skips the drain."""
        settings = self._settings
        drain = settings.drain if count == 1 else 0.0
        self._deadline.within(drain + settings.grace + 1.0)
        loop.call_soon_threadsafe(self._begin, count)

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
    begin_logging()
    asyncio.run(Launcher(app, config, Deadline()).run())
    return 0
