"""Where jobs wait for their turn: lines of keys, in groups of tasks, in bands of priorities.

Only the places and their order may live here; who may go on is decided in `quart_app.core.turns`.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import chain

from quart_app.core.tally import Tally
from quart_app.domain.limits import Limits

SLACK = 16
"""Entries out of date that a heap may have, besides twice as many as its groups."""


class TaskTally(Tally):
    """One task: what of it waits, runs and has begun.

    Args:
        name, limits: the task's.
    """

    __slots__ = ("groups", "keys", "limits", "name", "waiting")

    def __init__(self, name: str, limits: Limits) -> None:
        keyed = limits.key is not None
        super().__init__(
            limits.total_running if keyed else limits.running,
            limits.total_rate if keyed else limits.rate,
        )
        self.name = name
        self.limits = limits
        self.groups: dict[int, Group] = {}
        self.keys: dict[str | None, KeyTally] = {}
        self.waiting = 0

    @property
    def counts(self) -> bool:
        """Whether it matters how many of its jobs run."""
        return self.limits.running is not None or self.limits.total_running is not None

    @property
    def bounded(self) -> bool:
        """Whether it matters how many of its jobs run, or when they begin."""
        limits = self.limits
        return self.counts or limits.rate is not None or limits.total_rate is not None

    def of_key(self, key: str | None) -> KeyTally | None:
        """The key's own tally, if it has bounds of its own."""
        limits = self.limits
        if limits.key is None or (limits.running is None and limits.rate is None):
            return None
        tally = self.keys.get(key)
        if tally is None:
            tally = self.keys[key] = KeyTally(self, key)
        return tally

    @property
    def task(self) -> TaskTally:
        """Itself."""
        return self

    @property
    def waits(self) -> bool:
        """Whether jobs of it wait."""
        return self.waiting > 0

    def enter(self) -> None:
        """Its jobs may have a turn, unless something else holds them back."""
        for group in self.groups.values():
            group.enter()


class KeyTally(Tally):
    """One key of a task: what of it waits (its lines by priority), runs and has begun."""

    __slots__ = ("key", "lines", "task")

    def __init__(self, task: TaskTally, key: str | None) -> None:
        super().__init__(task.limits.running, task.limits.rate)
        self.task = task
        self.key = key
        self.lines: dict[int, Line] = {}

    @property
    def waits(self) -> bool:
        """Whether jobs of it wait."""
        return bool(self.lines)

    def enter(self) -> None:
        """Its jobs may have a turn, unless something else holds them back."""
        for line in self.lines.values():
            line.enter()


class Line:
    """The jobs of one key in a group, first come, first served. Without keys it is the only one."""

    __slots__ = ("group", "jobs", "key", "tally")

    def __init__(self, group: Group, key: str | None) -> None:
        self.group = group
        self.key = key
        # Ordered and linked: taking the first of a plain dict again and again is quadratic.
        self.jobs: OrderedDict[str, None] = OrderedDict()
        self.tally = group.task.of_key(key)
        if self.tally is not None:
            self.tally.lines[group.band.priority] = self

    def enter(self) -> None:
        """Its key may have a turn, after those that are in turn already."""
        self.group.ring[self] = None
        self.group.enter()

    def close(self) -> None:
        """Nobody waits in it."""
        group = self.group
        group.ring.pop(self, None)
        del group.lines[self.key]
        if self.tally is not None:
            del self.tally.lines[group.band.priority]
        if not group.lines:
            group.listed = None
            del group.task.groups[group.band.priority]
            del group.band.groups[group.task.name]


class Group:
    """The waiting jobs of one task with one priority."""

    __slots__ = ("band", "lines", "listed", "ring", "task", "tickets")

    def __init__(self, task: TaskTally, band: Band) -> None:
        self.task = task
        self.band = band
        self.lines: dict[str | None, Line] = {}
        # The keys that may have a turn, as far as is known, in their order.
        self.ring: OrderedDict[Line, None] = OrderedDict()
        self.tickets: deque[int] = deque()
        self.listed: int | None = None
        """The ticket with which it stands in its band, if it may have a turn as far as is known."""
        task.groups[band.priority] = band.groups[task.name] = self

    def line(self, key: str | None) -> Line:
        """The line of a key."""
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = Line(self, key)
        return line

    def enter(self) -> None:
        """It may have a turn, if one of its keys may."""
        if self.listed is None and self.ring and not self.task.parked:
            ticket = self.tickets[0]
            self.band.push(ticket, self)
            self.listed = ticket

    def in_turn(self) -> Iterator[str]:
        """Its jobs in the order in which they go if nothing holds them back."""
        parked = [line for line in self.lines.values() if line not in self.ring]
        turns = deque(iter(line.jobs) for line in (*self.ring, *parked))
        while turns:
            jobs = turns.popleft()
            for job_id in jobs:
                yield job_id
                turns.append(jobs)
                break


class Band:
    """The groups of one priority."""

    __slots__ = ("groups", "heap", "priority")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.groups: dict[str, Group] = {}
        # By ticket; groups that have left it or have another ticket now are still in it.
        self.heap: list[tuple[int, Group]] = []

    def push(self, ticket: int, group: Group) -> None:
        """A group may have a turn."""
        if len(self.heap) > 2 * len(self.groups) + SLACK:
            self.heap = [entry for entry in self.heap if entry[1].listed == entry[0]]
            heapq.heapify(self.heap)
        heapq.heappush(self.heap, (ticket, group))

    def first(self) -> Group | None:
        """The group with the oldest ticket of those that may have a turn."""
        while self.heap:
            ticket, group = self.heap[0]
            if group.listed == ticket:
                return group
            heapq.heappop(self.heap)
        return None

    def in_turn(self) -> Iterator[str]:
        """Its jobs in the order in which they go if nothing holds them back."""
        groups = list(self.groups.values())
        if len(groups) == 1:
            return groups[0].in_turn()
        pairs = chain.from_iterable(zip(g.tickets, g.in_turn(), strict=True) for g in groups)
        return (job_id for _, job_id in sorted(pairs))
