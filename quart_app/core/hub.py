"""Who is told what happened: the subscribers of every event, and the watchers of one job.

Nothing may live here that writes or decides: the hub passes on what the ledger has written. Every
method runs on the event loop's thread and never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence

from quart_app.domain.jobs import Job, JobEvent, LogLine, News
from quart_app.domain.status import TERMINAL

Subscriber = Callable[[JobEvent], None]
EndSubscriber = Callable[[Job], None]

BEHIND = 2_000
"""Versions and lines that wait for a follower who does not come for them."""


class Watcher:
    """Follows one job: `next` gives its newest version, and skips none that is final.

    Use it as a context manager; subscribe first, then read the store, then wait.
    """

    __slots__ = ("_event", "_hub", "_job_id", "closed", "newest")

    def __init__(self, hub: Hub, job_id: str) -> None:
        self._hub = hub
        self._job_id = job_id
        self._event = asyncio.Event()
        self.newest: Job | None = None
        self.closed = False

    def __enter__(self) -> Watcher:
        self._hub.join(self._job_id, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._hub.leave(self._job_id, self)

    def tell(self, job: Job) -> None:
        """Called by the hub with every new version."""
        self.newest = job
        self._event.set()

    def tell_lines(self, lines: list[LogLine]) -> None:
        """Called by the hub: who waits for a job's end does not read its log."""

    def close(self) -> None:
        """Called by the hub when it closes: whoever waits is let go."""
        self.closed = True
        self._event.set()

    async def next(self) -> Job | None:
        """The newest version since the last call, or None when the hub has closed."""
        await self._event.wait()
        self._event.clear()
        return None if self.closed else self.newest


class Follower:
    """Follows one job, or all of them: `next` gives every version and line, in order.

    Use it as a context manager; subscribe first, then read the store, then wait. One that falls
    behind is let go, and may go on from the last ``seq`` that it has.
    """

    __slots__ = ("_event", "_hub", "_job_id", "_news", "ended")

    def __init__(self, hub: Hub, job_id: str | None) -> None:
        self._hub = hub
        self._job_id = job_id
        self._event = asyncio.Event()
        self._news: list[News] = []
        self.ended = False

    def __enter__(self) -> Follower:
        self._hub.join(self._job_id, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._hub.leave(self._job_id, self)

    def tell(self, job: Job) -> None:
        """Called by the hub with every new version."""
        self._take((job,))

    def tell_lines(self, lines: list[LogLine]) -> None:
        """Called by the hub with new lines of the job's log."""
        self._take(lines)

    def _take(self, news: Sequence[News]) -> None:
        if len(self._news) + len(news) > BEHIND:
            self.ended = True
            self._news.clear()
        if not self.ended:
            self._news += news
        self._event.set()

    def close(self) -> None:
        """Called by the hub when it closes: what was told is still given, and nothing more."""
        self.ended = True
        self._event.set()

    async def next(self, seconds: float) -> list[News] | None:
        """The versions since the last call; none when it has ended; None after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return None
        news, self._news = self._news, []
        if not self.ended:
            self._event.clear()
        return news


class Hub:
    """Passes each event on, once and in order.

    Args:
        max_watchers: how many watchers there may be at once; `full` says that there are.
    """

    def __init__(self, max_watchers: int = 10_000) -> None:
        self._subscribers: list[Subscriber] = []
        self._end_subscribers: list[EndSubscriber] = []
        self._watchers: dict[str | None, set[Watcher | Follower]] = {}
        self._count = 0
        self._max_watchers = max_watchers
        self.closed = False
        self.attentive = False
        """Whether anybody wants to know of more than endings: who publishes may ask first."""

    @property
    def full(self) -> bool:
        """Whether another watcher would be one too many."""
        return self._count >= self._max_watchers

    @property
    def watchers(self) -> int:
        """How many watchers there are."""
        return self._count

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call a function with every event from now on. It must not wait and must not raise."""
        self._subscribers.append(subscriber)
        self.attentive = True

    def subscribe_ends(self, subscriber: EndSubscriber) -> None:
        """Call a function with every job that has ended from now on; as `subscribe`."""
        self._end_subscribers.append(subscriber)

    @contextlib.contextmanager
    def ends(self, subscriber: EndSubscriber) -> Iterator[None]:
        """As `subscribe_ends`, for as long as the ``with`` lasts."""
        self._end_subscribers.append(subscriber)
        try:
            yield
        finally:
            self._end_subscribers.remove(subscriber)

    def watch(self, job_id: str) -> Watcher:
        """A watcher of one job, to be entered with ``with``."""
        return Watcher(self, job_id)

    def follow(self, job_id: str | None) -> Follower:
        """A follower of one job, or of all for None, to be entered with ``with``."""
        return Follower(self, job_id)

    def join(self, job_id: str | None, watcher: Watcher | Follower) -> None:
        """Take a watcher or follower in."""
        self._watchers.setdefault(job_id, set()).add(watcher)
        self._count += 1
        self.attentive = True
        if self.closed:
            watcher.close()

    def leave(self, job_id: str | None, watcher: Watcher | Follower) -> None:
        """Let a watcher or follower go."""
        watchers = self._watchers[job_id]
        watchers.discard(watcher)
        if not watchers:
            del self._watchers[job_id]
        self._count -= 1
        self.attentive = bool(self._subscribers or self._watchers)

    def publish(self, kind: str, job: Job) -> None:
        """Tell everybody whom a job's new version concerns; no event is made for nobody."""
        if self._subscribers:
            event = JobEvent(job.seq, kind, job)
            for subscriber in self._subscribers:
                subscriber(event)
        if job.status in TERMINAL:
            for end_subscriber in tuple(self._end_subscribers):
                end_subscriber(job)
        if self._watchers:
            for job_id in (job.id, None):
                for watcher in self._watchers.get(job_id, ()):
                    watcher.tell(job)

    def publish_lines(self, job_id: str, lines: list[LogLine]) -> None:
        """Tell those who follow a job of new lines of its log."""
        for watcher in self._watchers.get(job_id, ()):
            watcher.tell_lines(lines)

    def close(self) -> None:
        """Let everybody go who waits for an event; shutdown begins with this."""
        self.closed = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.close()
