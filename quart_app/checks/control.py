"""What every store keeps to besides: steps, logs, turns, facts. Only rules may live here."""

from __future__ import annotations

from quart_app.checks.making import Rule, add, bring, change, everything, queue, step
from quart_app.checks.rules import refused, require
from quart_app.core.ports import Store
from quart_app.domain.errors import TaskFull
from quart_app.domain.ids import new_id
from quart_app.domain.jobs import Job, Note, Postponed, Progress
from quart_app.domain.status import Move


async def keeps_steps(store: Store) -> None:
    """The first result of each name, by the running attempt only, as long as the job is kept."""
    job = await bring(store, "running")
    require(await store.keep_step(job.id, "a", step(1, b"[1]")), "a running job's step is kept")
    require(await store.keep_step(job.id, "b", step(1, b"null")), "and another")
    require(await store.keep_step(job.id, "a", step(1, b"[2]")), "a name's first result stays")
    require(not await store.keep_step(job.id, "c", step(2, b"3")), "another attempt's is refused")
    require(not await store.keep_step("unknown", "c", step(1, b"3")), "an unknown job's is refused")
    read = await store.steps(job.id)
    require(read == {"a": step(1, b"[1]"), "b": step(1, b"null")}, "they are read by name")
    await store.move(job.id, change(Move.RESCUE))
    require(not await store.keep_step(job.id, "c", step(1, b"3")), "a waiting job's is refused")
    await store.move(job.id, change(Move.CLAIM))
    require(await store.keep_step(job.id, "c", step(2, b"3")), "the next attempt's is kept")
    require(list(await store.steps(job.id)) == ["a", "b", "c"], "beside those of the last one")
    require(await store.steps("unknown") == {}, "an unknown job has none")
    done = await store.move(job.id, change(Move.SUCCEED))
    size = 0 if done is None else done.size
    kept = await store.prune(everything(9, 99.0, size), 2.0, 9)
    require(kept == 1, "the bytes of steps count with their job's")
    require(await store.steps(job.id) == {}, "they are forgotten with it")


async def finds_the_queue_of_each_turn(store: Store) -> None:
    """Where it is to be fair, the many jobs of one turn do not hide another's."""
    many = [(await add(store, turn="a")).id for _ in range(5)]
    one = await add(store, turn="b")
    none = await add(store)
    require(await queue(store, "t", 3) == many[:3], "in their order where nobody asks for turns")
    fair = await queue(store, "t", 3, fair=True)
    require(set(fair) == {many[0], one.id, none.id}, "the first of each turn")
    most = await queue(store, "t", 6, fair=True)
    require(len(most) == 6, "as many as are asked for, where the turns of others are short")
    everything = await queue(store, "t", 100, fair=True)
    require(sorted(everything) == sorted([*many, one.id, none.id]), "all where there is room")
    found = {each.id: each for each in await store.queued("t", 100, fair=True)}
    require(found[one.id].turn == "b" and found[none.id].turn is None, "with their turns")


async def keeps_one_of_a_unique_key(store: Store) -> None:
    first = await add(store, unique="u")
    again, new = await store.add([Job(id=new_id(), task="t", unique="u")], max_waiting=9)
    require(not new and again == [first], "while it waits, it is the one")
    await store.move(first.id, change(Move.CLAIM))
    running = await store.get(first.id)
    again, new = await store.add([Job(id=new_id(), task="t", unique="u")], max_waiting=9)
    require(not new and again == [running], "while it runs, it is the one")
    require(await store.active("t", "u") == running, "and is found")
    other = await add(store, task="u", unique="u")
    require(other.task == "u", "another task has keys of its own")
    await store.move(first.id, change(Move.SUCCEED, attempt=1))
    require(await store.active("t", "u") is None, "one that is over is not")
    batch = [Job(id=new_id(), task="t", unique=name) for name in ("u", "v", "u")]
    kept, new = await store.add(batch, max_waiting=9)
    require(new and kept[0] == kept[2] and kept[1].unique == "v", "of many, one for each key")


async def bounds_what_waits_of_a_task(store: Store) -> None:
    new = [Job(id=new_id(), task="new") for _ in range(2)]
    await refused(store.add(new, 100, max_of_task=1), TaskFull, "also of one that was never seen")
    await add(store)
    await add(store, task="u")
    two = [Job(id=new_id(), task="t") for _ in range(2)]
    await refused(store.add(two, 100, max_of_task=2), TaskFull, "more of a task than may wait")
    require((await store.counts())["queued"] == 2, "none of them was kept")
    await store.add(two, 100, max_of_task=3)
    require((await store.counts_by_task())["t"]["queued"] == 3, "as many as may wait are kept")


async def postpones_what_is_scheduled(store: Store) -> None:
    job = await add(store, status="scheduled", run_at=5.0)
    later = Note(at=3.0, postponed=Postponed(b'{"x":1}', 9.0))
    noted = await store.note(job.id, later)
    require(noted is not None and (noted.run_at, noted.args) == (9.0, b'{"x":1}'), "it is later")
    require(await store.get(job.id) == noted, "and that is kept")
    require(await store.due(6.0, 10) == [], "it is not due at its first moment")
    require(await store.due(9.0, 10) == [noted], "but at its second")
    await store.move(job.id, change(Move.DUE))
    require(await store.note(job.id, later) is None, "what is queued is not postponed")


async def keeps_a_bounded_log(store: Store) -> None:
    job = await bring(store, "running")
    drafts = [(1.0, "info", f"line {number}") for number in range(5)]
    lines = await store.log(job.id, drafts, 100, 10_000)
    require([line.number for line in lines] == [1, 2, 3, 4, 5], "lines are counted")
    require(all(line.seq > job.seq for line in lines), "in the sequence of events")
    require(await store.logs(job.id, 0, 100) == lines, "and are read")
    require(await store.logs(job.id, lines[1].seq, 2) == lines[2:4], "after any of them")
    noted = await store.note(job.id, Note(at=2.0, progress=Progress(1, 2)))
    require(noted is not None and noted.seq > lines[-1].seq, "later events come later")
    [more] = await store.log(job.id, [(2.0, "error", "x")], 3, 10_000)
    kept = await store.logs(job.id, 0, 100)
    require([line.number for line in kept] == [4, 5, 6] and kept[-1] == more, "the newest stay")
    await store.log(job.id, [(2.0, "info", "y" * 50)], 100, 100)
    kept = await store.logs(job.id, 0, 100)
    require(sum(line.size for line in kept) <= 100 and kept[-1].number == 7, "as many bytes")
    require(await store.log("unknown", drafts, 10, 10) == [], "an unknown job has none")
    require(await store.logs("unknown", 0, 10) == [], "and none are read")
    await store.move(job.id, change(Move.SUCCEED, attempt=1))
    await store.prune(everything(0, 9e9, 10**9), 3.0, 10)
    require(await store.logs(job.id, 0, 10) == [], "they are forgotten with it")


async def keeps_facts(store: Store) -> None:
    await store.keep_fact("paused/a", b"1")
    await store.keep_fact("paused/b", b"2")
    await store.keep_fact("other", b"3")
    await store.keep_fact("paused/a", b"4")
    require(await store.facts("paused/") == {"paused/a": b"4", "paused/b": b"2"}, "by prefix")
    await store.keep_fact("paused/a", None)
    await store.keep_fact("unknown", None)
    require(await store.facts("paused/") == {"paused/b": b"2"}, "one can be forgotten")


async def tells_when_attempts_began(store: Store) -> None:
    await bring(store, "running", 2.0, turn="a")
    await bring(store, "succeeded", 5.0)
    await bring(store, "scheduled", 7.0, turn="b")
    await bring(store, "queued", 9.0)
    began = sorted(await store.began("t", 3.0), key=lambda each: each[1])
    require(began == [(None, 5.0), ("b", 7.0)], "those after a moment, tried again or not")


RULES: list[Rule] = [
    keeps_steps,
    finds_the_queue_of_each_turn,
    keeps_one_of_a_unique_key,
    bounds_what_waits_of_a_task,
    postpones_what_is_scheduled,
    keeps_a_bounded_log,
    keeps_facts,
    tells_when_attempts_began,
]
