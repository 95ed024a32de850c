"""What every store keeps to. Only rules may live here; `RULES` is the list that is run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from quart_app.checks import control
from quart_app.checks.making import Rule, add, bring, change, everything, queue, request, step
from quart_app.checks.rules import refused, require
from quart_app.core.ports import Store
from quart_app.domain.errors import KeyReused, QueueFull, StoreUnavailable
from quart_app.domain.ids import new_id
from quart_app.domain.jobs import Job, Keep, Note, Progress, annotate, apply
from quart_app.domain.queries import Query
from quart_app.domain.status import STATUSES, TERMINAL, Move, Status


async def keeps_what_it_is_given(store: Store) -> None:
    """A job comes back as it was added, with its place in the order."""
    job = await add(store, args=b'{"month":3}', tags=("a", "b"), retry_of="x", parent="y")
    require(await store.get(job.id) == job, "get gives what add gave")
    require((job.args, job.tags) == (b'{"month":3}', ("a", "b")), "args and tags are kept")
    require(job.order > 0 and job.seq > 0, "order and seq are set")
    require(await store.get("unknown") is None, "an unknown id gives None")


async def makes_every_move_of_the_table(store: Store) -> None:
    """A move holds exactly from its sources, and makes what `apply` makes."""
    for status in STATUSES:
        for move in Move:
            before = await bring(store, status)
            after = await store.move(before.id, change(move, 3.0))
            require((after is not None) == (status in move.sources), f"{move.label} from {status}")
            if after is not None:
                expected = apply(before, change(move, 3.0), after.seq)
                require(after == expected, f"{move.label} from {status} writes as `apply`")
                require(after.seq > before.seq, "each version has a higher seq")
            require(await store.get(before.id) == (after or before), "what is read is what is kept")
    require(await store.move("unknown", change(Move.CLAIM)) is None, "an unknown id moves nowhere")


async def fences_a_late_writer(store: Store) -> None:
    """The outcome of an attempt that is not the newest is refused."""
    job = await bring(store, "running")
    require(await store.move(job.id, change(Move.SUCCEED, attempt=7)) is None, "another's attempt")
    require(await store.move(job.id, change(Move.SUCCEED, attempt=1)), "its own attempt")
    require(await store.move(job.id, change(Move.FAIL, attempt=1)) is None, "final is final")


async def lets_one_of_many_win(store: Store) -> None:
    """Of many claims at once exactly one holds."""
    job = await add(store)
    claims = await asyncio.gather(*(store.move(job.id, change(Move.CLAIM)) for _ in range(20)))
    require(sum(claim is not None for claim in claims) == 1, "one claim wins")


async def notes_facts_of_unfinished_jobs(store: Store) -> None:
    """A note changes no status, says nothing twice, and is refused when the job is over."""
    for status in STATUSES:
        before = await bring(store, status)
        note = Note(at=3.0, cancel_requested=True, progress=Progress(1, 2, "half"))
        after = await store.note(before.id, note)
        require((after is None) == (status in TERMINAL), f"a note on a {status} job")
        if after is not None:
            require(after == annotate(before, note, after.seq), "it writes as `annotate`")
            require(await store.get(before.id) == after, "it is kept")
            require(await store.note(before.id, note) is None, "nothing new is no event")
    running = await bring(store, "running")
    stale = Note(at=3.0, attempt=9, unresponsive=True)
    require(await store.note(running.id, stale) is None, "another attempt's note is refused")


async def bounds_what_waits(store: Store) -> None:
    """More than may wait is refused, all or none; what runs or is over does not count."""
    await bring(store, "running")
    await bring(store, "succeeded")
    jobs = [Job(id=new_id(), task="t") for _ in range(3)]
    full = await refused(store.add(jobs, max_waiting=2), QueueFull, "one too many is refused")
    require(full.retry_after, "it says when to try again")
    require((await store.counts())["queued"] == 0, "none of them was kept")
    await store.add(jobs, max_waiting=3)
    require((await store.counts())["queued"] == 3, "as many as may wait are kept")


async def knows_a_key_again(store: Store) -> None:
    """The same key and request give the same job, also when it is over; another is refused."""
    first = await add(store, key="k")
    again = [Job(id=new_id(), task="t", key="k")]
    require(await store.add(again, 9, request("k")) == ([first], False), "the known job comes back")
    await store.move(first.id, change(Move.WITHDRAW))
    [known], new = await store.add(again, 0, request("k"))
    require((known.id, known.status, new) == (first.id, "canceled", False), "also when it is over")
    other_task = [Job(id=new_id(), task="u", key="k")]
    require((await store.add(other_task, 9, request("k", b"2")))[1], "another task's is another")
    call = store.add(again, 9, request("k", b"other"))
    await refused(call, KeyReused, "a key with another request is refused")
    require(await store.get(again[0].id) is None, "and opens nothing")


async def knows_the_key_of_many(store: Store) -> None:
    """A key may open many jobs: all come back, in their order, as long as all are kept."""
    jobs = [Job(id=new_id(), task="t", key="k") for _ in range(5)]
    await add(store)
    opened, new = await store.add(jobs, 99, request("k"))
    require(new and [job.id for job in opened] == [job.id for job in jobs], "all, in their order")
    await add(store)
    again = [Job(id=new_id(), task="t", key="k") for _ in range(5)]
    require(await store.add(again, 99, request("k")) == (opened, False), "all of them come back")
    await store.move(jobs[3].id, change(Move.WITHDRAW))
    await store.prune(everything(0, 0.0, 0), 9.0, 9)
    require((await store.add(again, 99, request("k")))[1], "once one is forgotten, so is the key")
    await store.move(jobs[4].id, change(Move.WITHDRAW, 3.0))
    await store.prune(everything(0, 0.0, 0), 9.0, 9)
    require(not (await store.add(again, 99, request("k")))[1], "a key used again stays known")


async def makes_one_of_many_with_one_key(store: Store) -> None:
    """Many simultaneous adds with one key keep one job."""
    jobs = [Job(id=new_id(), task="t", key="k") for _ in range(50)]
    added = await asyncio.gather(*(store.add([job], 99, request("k")) for job in jobs))
    require(len({kept.id for [kept], _ in added}) == 1, "all get the same job")
    require(sum(new for _, new in added) == 1, "it is new to one of them")


async def pages_newest_first(store: Store) -> None:
    """A list is newest first; its cursor neither skips nor repeats, also while jobs come."""
    jobs = [await add(store) for _ in range(25)]
    seen: list[str] = []
    before: int | None = None
    while True:
        page = await store.page(Query(limit=10, before=before))
        seen += [job.id for job in page.jobs]
        await add(store)
        if page.next is None:
            break
        before = page.next
    require(seen == [job.id for job in reversed(jobs)], "every job once, newest first")


async def filters_a_list(store: Store) -> None:
    """Every filter that is set must hold."""
    wanted = await bring(store, "failed", task="report", tags=("a",), args=b'{"city":"Rome"}')
    for status in STATUSES:
        await bring(store, status, task="other", tags=("b",))
    queries: Iterable[Query] = (
        Query(task="report"),
        Query(tag="a"),
        Query(text="rome"),
        Query(text=wanted.id[-12:].upper()),
        Query(task="report", statuses=frozenset({"failed", "queued"})),
    )
    for query in queries:
        page = await store.page(query)
        require([job.id for job in page.jobs] == [wanted.id], f"{query} finds the one")
    nothing = await store.page(Query(task="report", statuses=frozenset({"queued"})))
    require(nothing.jobs == [] and nothing.next is None, "no job passes, no page follows")


async def tells_events_in_order(store: Store) -> None:
    """Events come in the order of seq, each job's newest once, none from before."""
    first, second = await add(store), await add(store)
    moved = await store.move(first.id, change(Move.CLAIM))
    events = await store.events(0, 10)
    require([event.job.id for event in events] == [second.id, first.id], "in the order of seq")
    require(events[-1].job == moved and events[-1].seq == events[-1].job.seq, "the newest version")
    after = await store.events(second.seq, 10)
    require([event.job.id for event in after] == [first.id], "nothing from before")
    require(await store.head() == events[-1].seq, "the head is the last seq")
    require(len(await store.events(0, 1)) == 1, "no more than the limit")
    require((await store.events(0, 1))[0].job.id == second.id, "the oldest of them first")


async def finds_what_is_due(store: Store) -> None:
    """Scheduled jobs are due at their moment, earliest first, until they are moved on."""
    late = await bring(store, "scheduled", at=20.0)
    early = await bring(store, "scheduled", at=10.0)
    require(await store.due(19.0, 10) == [], "nothing before its moment")
    require([job.id for job in await store.due(30.0, 10)] == [early.id, late.id], "earliest first")
    require([job.id for job in await store.due(30.0, 1)] == [early.id], "no more than the limit")
    await store.move(early.id, change(Move.DUE))
    require([job.id for job in await store.due(30.0, 10)] == [late.id], "not what was moved on")
    await store.move(late.id, change(Move.WITHDRAW))
    require(await store.due(99.0, 10) == [], "not what was withdrawn")
    opened = await add(store, status="scheduled", run_at=5.0)
    require([job.id for job in await store.due(5.0, 10)] == [opened.id], "also one opened so")


async def finds_what_is_queued(store: Store) -> None:
    """In the order in which jobs came to be queued, whenever they were opened."""
    retried = await bring(store, "scheduled", at=1.0)
    first = await add(store)
    other = await add(store, task="u")
    second = await add(store)
    await bring(store, "running")
    await store.move(retried.id, change(Move.DUE))
    ids = [first.id, second.id, retried.id]
    require(await queue(store, "t") == ids, "as they came to be queued")
    require(await queue(store, "t", 2) == ids[:2], "no more than the limit")
    require(await queue(store, "u") == [other.id], "of this task")
    require(await queue(store, "v") == [], "of none")
    urgent = await add(store, priority=5)
    require(await queue(store, "t") == [urgent.id, *ids], "a higher priority first")


async def finds_what_expires(store: Store) -> None:
    """What waits past its moment is found, and can not be claimed; what has begun does not
    expire."""
    begun = await bring(store, "running", expires_at=5.0)
    again = await bring(store, "scheduled", expires_at=5.0)
    waits = await add(store, expires_at=5.0)
    later = await add(store, status="scheduled", run_at=50.0, expires_at=6.0)
    await add(store, expires_at=99.0)
    require(await store.expired(4.9, 10) == [], "nothing before its moment")
    require([job.id for job in await store.expired(5.0, 10)] == [waits.id], "at its moment")
    require([job.id for job in await store.expired(9.0, 10)] == [waits.id, later.id], "in order")
    require(len(await store.expired(9.0, 1)) == 1, "no more than the limit")
    require(await store.move(waits.id, change(Move.CLAIM, 5.0)) is None, "too late to begin")
    for job in (waits, later):
        require(await store.move(job.id, change(Move.EXPIRE, 9.0)), "it is moved on")
    require(await store.expired(9.0, 10) == [], "and found no more")
    require(await store.move(begun.id, change(Move.SUCCEED, 9.0)), "what has begun goes on")
    for move in (Move.DUE, Move.CLAIM):
        require(await store.move(again.id, change(move, 9.0)), "also with another attempt")


async def prunes_the_oldest_endings(store: Store) -> None:
    """Beyond count, age or size the jobs that ended first are forgotten; no unfinished one ever."""
    running = await bring(store, "running", key="r")
    ended = [await bring(store, "succeeded", at=float(at), key=str(at)) for at in range(5)]
    require(await store.prune(everything(10, 100.0, 1_000), 5.0, 10) == 0, "within all bounds")
    require(await store.prune(everything(4, 100.0, 1_000), 5.0, 10) == 1, "beyond the count")
    require(await store.prune(everything(9, 3.5, 1_000), 5.0, 10) == 1, "beyond the age")
    require(await store.prune(everything(9, 100.0, 2 * ended[0].size), 5.0, 10) == 1, "beyond size")
    require(await store.prune(everything(0, 0.0, 0), 9.0, 1) == 1, "no more than the limit")
    left = [job.id for job in (await store.page(Query())).jobs]
    require(left == [ended[4].id, running.id], "the newest ending and the running one are left")
    again = await add(store, key="0")
    require(again.id != ended[0].id, "a forgotten key is free")


async def prunes_large_jobs_too(store: Store) -> None:
    """However few it forgets at once, in the end all are; the last answer is 0."""
    for number in range(6):
        status: Status = "failed" if number % 2 else "succeeded"
        await bring(store, status, args=b'"' + b"x" * 2**20 + b'"')
    pruned, calls = 0, 0
    while few := await store.prune(everything(0, 0.0, 0), 9.0, 4):
        require(few <= 4, "no more than the limit")
        pruned, calls = pruned + few, calls + 1
    require(pruned == 6, "all")
    require(calls >= 2, "in pieces")
    require(sum((await store.counts()).values()) == 0, "and none is counted")


async def prunes_each_status_by_itself(store: Store) -> None:
    """A flood of successes does not push out what failed."""
    failed = await bring(store, "failed")
    for _ in range(5):
        await bring(store, "succeeded", at=3.0)
    retention = {**everything(9, 100.0, 1_000), "succeeded": Keep(2, 100.0, 1_000)}
    require(await store.prune(retention, 4.0, 9) == 3, "only what is beyond its own bound")
    require(await store.get(failed.id), "the older failure is kept")
    counts = await store.counts()
    require((counts["succeeded"], counts["failed"]) == (2, 1), "and counted")


async def counts_by_status(store: Store) -> None:
    """The counts are those of a scan, through moves and pruning."""
    for status in STATUSES:
        await bring(store, status)
        await bring(store, status)
    await store.prune(everything(1, 100.0, 1_000), 3.0, 10)
    counts = await store.counts()
    for status in STATUSES:
        scanned = await store.page(Query(statuses=frozenset({status}), limit=100))
        require(counts[status] == len(scanned.jobs), f"{status} is counted as scanned")


async def is_loud_when_closed(store: Store) -> None:
    """A closed store refuses every call, and closing twice is fine."""
    job = await add(store)
    await store.close()
    await store.close()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.add([job], 9),
        lambda: store.get(job.id),
        lambda: store.page(Query()),
        lambda: store.move(job.id, change(Move.CLAIM)),
        lambda: store.note(job.id, Note(at=1.0)),
        lambda: store.events(0, 1),
        store.head,
        lambda: store.due(0.0, 1),
        lambda: store.queued("t", 1, False),
        lambda: store.expired(0.0, 1),
        lambda: store.steps(job.id),
        lambda: store.keep_step(job.id, "a", step(1, b"1")),
        lambda: store.log(job.id, [(1.0, "info", "x")], 1, 1),
        lambda: store.logs(job.id, 0, 1),
        lambda: store.keep_fact("x", b"1"),
        lambda: store.facts(""),
        lambda: store.active("t", "u"),
        lambda: store.began("t", 0.0),
        lambda: store.counts_by_task(),
        lambda: store.prune(everything(0, 0.0, 0), 0.0, 1),
        store.counts,
    ]
    for call in calls:
        await refused(call(), StoreUnavailable, "a closed store refuses every call")


RULES: list[Rule] = [
    keeps_what_it_is_given,
    makes_every_move_of_the_table,
    fences_a_late_writer,
    lets_one_of_many_win,
    notes_facts_of_unfinished_jobs,
    bounds_what_waits,
    knows_a_key_again,
    knows_the_key_of_many,
    makes_one_of_many_with_one_key,
    pages_newest_first,
    filters_a_list,
    tells_events_in_order,
    finds_what_is_due,
    finds_what_is_queued,
    finds_what_expires,
    prunes_the_oldest_endings,
    prunes_large_jobs_too,
    prunes_each_status_by_itself,
    counts_by_status,
    is_loud_when_closed,
    *control.RULES,
]
