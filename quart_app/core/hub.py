"""Who is told what happened: the subscribers of every event, and the watchers of one job.

Nothing may live here that writes or decides: the hub passes on what the ledger has written. Every
method runs on the event loop's thread and never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence

from quart_app.domain.jobs import Heard, Job, JobEvent, LogLine, News
from quart_app.domain.status import TERMINAL

Subscriber = Callable[[JobEvent], None]
EndSubscriber = Callable[[Job], None]
EndsSubscriber = Callable[[Sequence[Job]], None]

BEHIND = 2_000
"""Versions and lines that wait for a follower who does not come for them."""


class Watcher:
    """Follows one job: `next` gives its newest version, and skips none that is final.

    Use it as a context manager; subscribe first, then read the store, then wait. One that ``lasts``
    is let go at the end of a shutdown only.
    """

    __slots__ = ("_event", "_hub", "_job_id", "closed", "lasts", "newest")

    def __init__(self, hub: Hub, job_id: str, lasts: bool = False) -> None:
        self.lasts = lasts
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

    lasts = False

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


class Gatherer(Follower):
    """Follows all jobs: `next` gives of each that has changed its newest version, in order."""

    __slots__ = ("_newest",)

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub, None)
        self._newest: dict[str, Job] = {}

    def tell(self, job: Job) -> None:
        """Called by the hub with every new version."""
        if self.ended:
            return  # What came after a gap would hide it: the reader would go on from there.
        self._newest.pop(job.id, None)  # So that it is the last one, in the order of ``seq``.
        self._newest[job.id] = job
        if len(self._newest) > BEHIND:
            self.ended = True
            self._newest.clear()
        self._event.set()

    async def next(self, seconds: float) -> list[News] | None:
        """The versions since the last call; none when it has ended; None after so many seconds."""
        if await super().next(seconds) is None:
            return None
        newest, self._newest = self._newest, {}
        return list(newest.values())


class Hub:
    """Passes each event on, once and in order.

    Args:
        max_watchers: how many watchers there may be at once; `full` says that there are.
    """

    def __init__(self, max_watchers: int = 10_000) -> None:
        self._subscribers: list[Subscriber] = []
        self._own_ends: list[EndSubscriber] = []
        self._counting: list[EndsSubscriber] = []
        self._ended: list[Job] = []
        self._ends: list[EndSubscriber] = []
        self._awaited: list[Collection[str]] = []
        self._watchers: dict[str | None, set[Watcher | Follower]] = {}
        self._count = 0
        self._max_watchers = max_watchers
        self.closed = self._over = False
        self.relayed = False
        """Whether watchers are told by `hear`, of what any process does, and not by `publish`."""
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

    def subscribe_ends(self, subscriber: EndsSubscriber) -> None:
        """Call a function with every job that has ended from now on, wherever it ran, with many at
        once: when the event loop comes round next. As `subscribe`."""
        self._counting.append(subscriber)

    def subscribe_own_ends(self, subscriber: EndSubscriber) -> None:
        """The same for the endings that this process has written."""
        self._own_ends.append(subscriber)

    @contextlib.contextmanager
    def ends(self, subscriber: EndSubscriber, ids: Collection[str] = ()) -> Iterator[None]:
        """Call a function at once with every job that has ended, wherever it ran, for as long as
        the ``with`` lasts.

        Args:
            ids: of the jobs whose ends are waited for, as it is when that is asked (`watched`).
        """
        self._ends.append(subscriber)
        self._awaited.append(ids)
        try:
            yield
        finally:
            self._ends.remove(subscriber)
            self._awaited = [each for each in self._awaited if each is not ids]

    def watch(self, job_id: str, lasts: bool = False) -> Watcher:
        """A watcher of one job, to be entered with ``with``."""
        return Watcher(self, job_id, lasts)

    def follow(self, job_id: str | None) -> Follower:
        """A follower of one job, or of all for None, to be entered with ``with``."""
        return Follower(self, job_id)

    def gather(self) -> Gatherer:
        """A follower of all jobs that is told their newest versions only; to be entered with
        ``with``."""
        return Gatherer(self)

    def join(self, job_id: str | None, watcher: Watcher | Follower) -> None:
        """Take a watcher or follower in."""
        self._watchers.setdefault(job_id, set()).add(watcher)
        self._count += 1
        self.attentive = not self.relayed or bool(self._subscribers)
        if self.closed and (self._over or not watcher.lasts):
            watcher.close()

    def leave(self, job_id: str | None, watcher: Watcher | Follower) -> None:
        """Let a watcher or follower go."""
        watchers = self._watchers[job_id]
        watchers.discard(watcher)
        if not watchers:
            del self._watchers[job_id]
        self._count -= 1
        self.attentive = bool(self._subscribers or (self._watchers and not self.relayed))

    def publish(self, kind: str, job: Job) -> None:
        """Tell everybody whom a version concerns that this process has written; no event is made
        for nobody."""
        if self._subscribers:
            event = JobEvent(job.seq, kind, job)
            for subscriber in self._subscribers:
                subscriber(event)
        over = job.status in TERMINAL
        if over and self._own_ends:
            for end_subscriber in self._own_ends:
                end_subscriber(job)
        if self.relayed:
            return
        if over:
            if self._ended and not self._ends:  # As with many at once.
                self._ended.append(job)
            else:
                self._tell_end(job)
        if self._watchers:
            self._tell(job)

    def publish_lines(self, job_id: str, lines: list[LogLine]) -> None:
        """Tell those who follow a job of new lines of its log."""
        if not self.relayed:
            self._tell_lines(job_id, lines)

    def hear(self, heard: Heard) -> None:
        """Tell those who watch of what any process has written, where watchers are told so."""
        if isinstance(heard, JobEvent):
            if heard.job.status in TERMINAL:
                self._tell_end(heard.job)
            if self._watchers:
                self._tell(heard.job)
        else:
            self._tell_lines(heard.job_id, [heard.line])

    def _tell_end(self, job: Job) -> None:
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._tell_ended)
        self._ended.append(job)
        if self._ends:
            for end_subscriber in tuple(self._ends):
                end_subscriber(job)

    def _tell(self, job: Job) -> None:
        for job_id in (job.id, None):
            for watcher in self._watchers.get(job_id, ()):
                watcher.tell(job)

    def _tell_ended(self) -> None:
        ended, self._ended = self._ended, []
        for subscriber in self._counting:
            subscriber(ended)

    def _tell_lines(self, job_id: str, lines: list[LogLine]) -> None:
        for watcher in self._watchers.get(job_id, ()):
            watcher.tell_lines(lines)

    def watched(self) -> list[str]:
        """The ids of the jobs that somebody watches, or whose ends somebody waits for."""
        watched = {job_id for job_id in self._watchers if job_id is not None}
        return list(watched.union(*self._awaited))

    def let_go(self) -> None:
        """Something was missed: who follows begins anew, from the last ``seq`` that it has."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                if isinstance(watcher, Follower):
                    watcher.close()

    def close(self) -> None:
        """Let everybody go who waits for an event; shutdown begins with this. Jobs that wait for
        others go on: they have time to end."""
        self.closed = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                if not watcher.lasts:
                    watcher.close()

    def end(self) -> None:
        """Let the jobs go, too."""
        self._over = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.close()
