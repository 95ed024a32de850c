"""Whose turn is next among the jobs that wait for one lane: priority, fairness, limits and rates.

Only deciding may live here: nothing waits, reads a clock or knows an engine; the moment comes from
outside. Who cannot go on is parked until what it waits for happens, so that no step looks through
all that wait: ten thousand keys cost what one does.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterable

from quart_app.core.lines import Band, Group, KeyTally, Line, TaskTally
from quart_app.core.tally import Held, State
from quart_app.domain.limits import Limits

Counted = TaskTally | KeyTally
Heap = list[tuple[float, int, Counted]]

RANKED_PER_SECOND = 20_000
"""The table of places is worked out at most once a second, and less often where it is longer."""
SET_BACK = 1.0
"""Seconds: a clock that goes back by less stands still until it has caught up."""


class Turns:
    """The waiting jobs of one lane. Every ``now`` and ``at`` is in seconds of one clock.

    Args:
        begin: whether who goes on has begun by that. Otherwise it is on its way, and keeps a place
            in the rates, until `adopt` or `done` says what has become of it.

    Higher priority goes first. Among tasks of one priority the one that has waited longest is next
    (each job brings its task a ticket), within a task its keys take turns, and within a key who
    came first goes first. A task or key that may not go on holds up no other.

    >>> turns, limits = Turns(), Limits(running=1)
    >>> for job_id in ("a", "b"):
    ...     turns.put(job_id, "report", limits, None, 0)
    >>> turns.next(0.0), turns.next(0.0)
    ('a', None)
    >>> turns.done("a")
    >>> turns.next(0.0)
    'b'
    """

    def __init__(self, begin: bool = True) -> None:
        self._begin = begin
        self.waits: dict[str, Line] = {}
        """The jobs that wait, each with its line; to be asked whether there are any."""
        self._tasks: dict[str, TaskTally] = {}
        self._bands: dict[int, Band] = {}
        self._order: list[Band] = []  # Highest priority first.
        self.runs: dict[str, Held[Counted]] = {}
        """The jobs that count as running, each with its slots; likewise."""
        self._paused: set[str] = set()
        self._tickets = itertools.count()
        self._later: Heap = []  # When a rate lets somebody go on.
        self._fading: Heap = []  # When somebody's newest begin is out of its rate.
        self._entries = itertools.count()
        self._now = float("-inf")
        self._ranks: dict[str, int] = {}
        self._ranked = (0.0, 0.0)  # From when until when the ranks are good enough.

    # Who waits.

    def put(self, job_id: str, task: str, limits: Limits, key: str | None, priority: int) -> None:
        """A job waits from now on; nothing if it does already.

        Args:
            limits: the task's, always the same ones.
            key: the job's, where the limits have one.
            priority: of this job; higher ones go first.
        """
        if job_id in self.waits:
            return
        tally = self._task(task, limits)
        group = tally.groups.get(priority) or Group(tally, self._band(priority))
        line = group.line(None if limits.key is None else key)
        line.jobs[job_id] = None
        self.waits[job_id] = line
        group.tickets.append(next(self._tickets))
        tally.waiting += 1
        if len(line.jobs) == 1 and (line.tally is None or not line.tally.parked):
            line.enter()

    def remove(self, job_id: str) -> bool:
        """A job waits no more. Whether it did."""
        line = self.waits.pop(job_id, None)
        if line is None:
            return False
        del line.jobs[job_id]
        line.group.tickets.pop()
        self._left(line)
        return True

    def holds(self, job_id: str) -> bool:
        """Whether the job waits here."""
        return job_id in self.waits

    def __len__(self) -> int:
        return len(self.waits)

    def waiting(self, task: str) -> int:
        """How many jobs of the task wait here."""
        tally = self._tasks.get(task)
        return 0 if tally is None else tally.waiting

    def passes(self, tasks: Iterable[str], priority: int) -> bool:
        """Whether a job of this priority goes before one of these tasks that waits here."""
        of_tasks = (self._tasks[name].groups for name in tasks if name in self._tasks)
        return any(min(groups, default=priority) < priority for groups in of_tasks)

    def position(self, job_id: str, now: float) -> int | None:
        """The place of a waiting job, from 1, as if nothing but room held anybody back; None if it
        does not wait. May be old by a second, or by one for each `RANKED_PER_SECOND` jobs."""
        if job_id not in self.waits:
            return None
        since, until = self._ranked
        if not since <= now < until:
            in_turn = itertools.chain.from_iterable(band.in_turn() for band in self._order)
            self._ranks = {each: place for place, each in enumerate(in_turn, 1)}
            self._ranked = (now, now + max(1.0, len(self._ranks) / RANKED_PER_SECOND))
        return min(self._ranks.get(job_id, len(self.waits)), len(self.waits))

    # Who goes on.

    def next(self, now: float) -> str | None:
        """The job whose turn it is; it is counted as running. None if nobody may go on."""
        now = self._advance(now)
        line = self._find(now)
        if line is None:
            return None
        group, job_id = line.group, next(iter(line.jobs))
        self.done(job_id)
        del line.jobs[job_id], self.waits[job_id]
        group.tickets.popleft()
        group.listed = None
        group.ring.move_to_end(line)
        if self._begin:
            self._count(job_id, group.task, line.tally, now)
        else:
            self._hold(job_id, "sent", group.task, _both(group.task, line.tally))
        self._left(line)
        if group.lines:
            group.enter()
        return job_id

    def send(self, job_id: str, task: str, limits: Limits, key: str | None) -> None:
        """A job is on its way that did not go on from here; nothing if it counts already."""
        self.remove(job_id)
        if job_id not in self.runs:
            tally = self._task(task, limits)
            self._hold(job_id, "sent", tally, _both(tally, tally.of_key(_key(limits, key))))

    def adopt(
        self, job_id: str, task: str, limits: Limits, key: str | None, at: float | None
    ) -> None:
        """A job runs, wherever it went on from; nothing if it counts as running already.

        Args:
            at: when it has begun, for the rates; None where they know (`grant`).
        """
        self.remove(job_id)
        held = self.runs.get(job_id)
        if held is not None and held.state != "sent":
            return
        tally = self._task(task, limits)
        tallies = _both(tally, tally.of_key(_key(limits, key)))
        if at is not None:
            self._begins(at, *tallies)
        if held is None:
            self._hold(job_id, "runs", tally, tallies)
        else:
            self._become(job_id, "runs", "sent")

    def sent_of(self, task: str) -> list[str]:
        """The jobs of a task that are on their way."""
        of = ((each, held) for each, held in self.runs.items() if held.state == "sent")
        return [each for each, held in of if held.tallies[0].task.name == task]

    def sent(self, job_id: str) -> bool:
        """Whether the job is on its way."""
        held = self.runs.get(job_id)
        return held is not None and held.state == "sent"

    def grant(self, task: str, limits: Limits, key: str | None, at: float) -> None:
        """A job began then: for the rates after a restart, best in the order of the moments."""
        tally = self._task(task, limits)
        for each in (tally, None if limits.rate is None else tally.of_key(key)):
            if each is not None:
                each.grant(at)
                self._fade(each)
        self._close(tally)

    def done(self, job_id: str) -> None:
        """A job runs no more, if it did."""
        held = self.runs.pop(job_id, None)
        if held is not None:
            sooner = held.state == "sent"  # It has not begun, and will not.
            held.become("over")
            self._give_back(held, sooner)

    # Who waits for others meanwhile.

    def suspend(self, job_id: str) -> None:
        """A running job waits for others: they may have its slots meanwhile."""
        self._become(job_id, "away", "runs")

    def want_back(self, job_id: str) -> None:
        """A suspended job is to go on: what is free now is kept for it."""
        self._become(job_id, "back", "away")

    def may_resume(self, job_id: str) -> bool:
        """Whether there are slots for a suspended job."""
        held = self.runs.get(job_id)
        return held is None or held.fits

    def resume(self, job_id: str) -> None:
        """A suspended job has its slots again, even where there are none (see `may_resume`)."""
        self._become(job_id, "runs", "away", "back")

    # Operators.

    def pause(self, task: str) -> None:
        """No job of the task goes on until `resume_task`."""
        self._paused.add(task)

    def resume_task(self, task: str) -> None:
        """They go on."""
        self._paused.discard(task)
        tally = self._tasks.get(task)
        if tally is not None and tally.parked == "pause":
            self._release(tally)

    def paused(self, task: str) -> bool:
        """Whether no job of the task goes on."""
        return task in self._paused

    def wake_at(self, now: float) -> float | None:
        """When a rate next lets somebody go on who has to wait for it now. None if nobody has."""
        now = self._advance(now)
        self._find(now)
        while self._later:
            at, _, tally = self._later[0]
            if tally.waits and tally.task.name not in self._paused:
                return at
            heapq.heappop(self._later)
            self._release(tally)
        return None

    # The inside.

    def _find(self, now: float) -> Line | None:
        """Whose turn it is. Who is found to be held back is parked."""
        for band in self._order:
            while (group := band.first()) is not None:
                if not self._parks(group.task, now):
                    while group.ring:
                        line = next(iter(group.ring))
                        if line.tally is None or not self._parks(line.tally, now):
                            return line
                        del group.ring[line]
                group.listed = None
        return None

    def _parks(self, tally: Counted, now: float) -> bool:
        """Whether something holds it back; then nobody looks until that has changed."""
        if tally.parked:
            return True
        if isinstance(tally, TaskTally) and tally.name in self._paused:
            tally.parked = "pause"
        elif tally.full:
            tally.parked = "slot"
        elif tally.rate is not None and (at := tally.opens_at(now)) > now:
            tally.parked = "rate"
            heapq.heappush(self._later, (at, next(self._entries), tally))
        return tally.parked != ""

    def _release(self, tally: Counted) -> None:
        """What it was parked for has happened; perhaps something else holds it back."""
        tally.parked = ""
        tally.enter()

    def _count(self, job_id: str, task: TaskTally, key: KeyTally | None, now: float) -> None:
        """It runs, and has begun."""
        tallies = _both(task, key)
        self._begins(now, *tallies)
        if task.counts:
            self.runs[job_id] = Held(*tallies)

    def _begins(self, now: float, *tallies: Counted) -> None:
        for tally in tallies:
            tally.begin(now)
            self._fade(tally)

    def _hold(
        self, job_id: str, state: State, task: TaskTally, tallies: tuple[Counted, ...]
    ) -> None:
        """It counts, also where only its begin matters: that is to be counted once."""
        if task.bounded:
            self.runs[job_id] = Held(*tallies, state=state)
        else:
            self._close(task)

    def _become(self, job_id: str, state: State, *sources: State) -> None:
        held = self.runs.get(job_id)
        if held is not None and held.state in sources:
            held.become(state)
            self._give_back(held)

    def _give_back(self, held: Held[Counted], sooner: bool = False) -> None:
        """There may be slots for others, and a begin ``sooner`` than was reckoned."""
        for tally in held.tallies:
            if (tally.parked == "slot" and not tally.full) or (tally.parked == "rate" and sooner):
                self._release(tally)
            self._close(tally)

    def _advance(self, now: float) -> float:
        """Do what is due by now."""
        if now < self._now - SET_BACK:
            later, self._later = self._later, []
            for _, _, tally in later:
                self._release(tally)
            self._now = now
        self._now = now = max(self._now, now)
        while self._later and self._later[0][0] <= now:
            self._release(heapq.heappop(self._later)[2])
        while self._fading and self._fading[0][0] <= now:
            tally = heapq.heappop(self._fading)[2]
            tally.fading = False
            if tally.fades_at > now:
                self._fade(tally)
            else:
                tally.forget()
                self._close(tally)
        return now

    def _fade(self, tally: Counted) -> None:
        """Forget its begins when they do not matter any more."""
        if tally.begun and not tally.fading:
            tally.fading = True
            heapq.heappush(self._fading, (tally.fades_at, next(self._entries), tally))

    # Places are opened when they are needed, and closed when nothing is in them.

    def _task(self, name: str, limits: Limits) -> TaskTally:
        tally = self._tasks.get(name)
        if tally is None:
            tally = self._tasks[name] = TaskTally(name, limits)
        return tally

    def _band(self, priority: int) -> Band:
        band = self._bands.get(priority)
        if band is None:
            band = self._bands[priority] = Band(priority)
            bisect.insort(self._order, band, key=_last_first)
        return band

    def _left(self, line: Line) -> None:
        """A job waits in this line no more."""
        task, band = line.group.task, line.group.band
        task.waiting -= 1
        if line.jobs:
            return
        line.close()
        if not band.groups:
            del self._bands[band.priority]
            self._order.remove(band)
        if not self.waits:
            self._ranks, self._ranked = {}, (0.0, 0.0)
        self._close(task if line.tally is None else line.tally)

    def _close(self, tally: Counted) -> None:
        if tally.holders or tally.fading:
            return
        if isinstance(tally, TaskTally):
            if not tally.groups and not tally.keys:
                self._tasks.pop(tally.name, None)
        elif not tally.lines:
            tally.task.keys.pop(tally.key, None)
            self._close(tally.task)


def _both(task: TaskTally, key: KeyTally | None) -> tuple[Counted, ...]:
    return (task,) if key is None else (task, key)


def _key(limits: Limits, key: str | None) -> str | None:
    return None if limits.key is None else key


def _last_first(band: Band) -> int:
    return -band.priority
