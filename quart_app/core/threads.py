"""Threads of our own for ``def`` functions.

Not the loop's default pool: six long jobs would fill that and DNS look-ups would wait behind them.
Not `concurrent.futures`: the interpreter joins its threads at exit, so one that sleeps for an hour
would hold up the shutdown for an hour. Nothing may live here that knows of jobs.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")

Work = tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]


class Threads:
    """Daemon threads, made when needed and kept for reuse, as many as there is work at once.

    How many that may be is decided by whoever submits (the engine's lane).
    """

    def __init__(self, name: str = "quart-app-job") -> None:
        self._name = name
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads: set[threading.Thread] = set()
        self._made = 0
        self._closed = False

    async def call(self, function: Callable[[], T]) -> T:
        """Run a function in a thread and wait for its end.

        Canceling the waiter does not stop the thread: nothing can. The runner therefore never
        does; only a loop that is being torn down will.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        def deliver(value: Any, error: BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(settle, value, error)
            except RuntimeError:  # The loop has closed: nobody waits any more.
                return

        self._submit((function, deliver))
        return cast(T, await future)

    def _submit(self, work: Work) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("the threads are closed")
            if self._idle > 0:
                self._idle -= 1
            else:
                self._made += 1
                thread = threading.Thread(
                    target=self._loop, name=f"{self._name}-{self._made}", daemon=True
                )
                self._threads.add(thread)
                thread.start()
        self._queue.put(work)

    def _loop(self) -> None:
        while (work := self._queue.get()) is not None:
            function, deliver = work
            value, error = None, None
            try:
                value = function()
            except BaseException as raised:  # noqa: BLE001 - handed to whoever waits
                error = raised
            with self._lock:
                self._idle += 1
            deliver(value, error)
            # A kept thread must not keep the last job's data.
            del work, function, deliver, value, error
        with self._lock:
            self._threads.discard(threading.current_thread())

    def close(self) -> None:
        """Let idle threads end. One that still works ends with the process, at the latest."""
        with self._lock:
            self._closed = True
            count = len(self._threads)
        for _ in range(count):
            self._queue.put(None)
