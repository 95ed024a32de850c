"""Lines that fail between processes and their server: what is told meanwhile, and that everything
goes on by itself afterwards (D4)."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Server, poll
from tests.e2e.lines import (
    BACK,
    PROMPT,
    World,
    has_ended,
    is_back,
    is_problem,
    keys_tell,
    reads_fail,
    starts_fail,
    timed,
)
from tests.e2e.machines import LEASE
from tests.e2e.watches import TERMINAL
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(params=["redis", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of server."""
    return str(request.param)


@pytest.fixture
def world(
    request: pytest.FixtureRequest, kind: str, namespace: str, tmp_path: Path
) -> Iterator[World]:
    """Processes on a server that is shared with other tests: only its lines may break."""
    made = World(kind, request.getfixturevalue(f"{kind}_server"), namespace, tmp_path)
    yield made
    made.close()


@pytest.fixture
def own_world(kind: str, namespace: str, tmp_path: Path) -> Iterator[World]:
    """Processes on a server of their own, which may be killed."""
    maker = RedisServer if kind == "redis" else PostgresServer
    server = maker()
    made = World(kind, server, namespace, tmp_path)
    yield made
    made.close()
    server.close()


def cut_in_the_middle(world: World) -> None:
    """The next answers are cut, and then there is nobody."""
    world.line.cut_after(7, "down", refuse=True)


BREAKS: dict[str, Callable[[World], object]] = {
    "killed": lambda world: world.server.kill(),
    "refused": lambda world: world.line.refuse(),
    "black hole": lambda world: world.line.black_hole(),
    "held": lambda world: world.line.hold(),
    "cut": cut_in_the_middle,
}


def mend(world: World, how: str) -> float:
    """Bring the server back; the moment at which it was."""
    if how == "killed":
        world.server.start()
    world.line.heal()
    return time.monotonic()


@pytest.mark.parametrize("how", BREAKS)
def test_an_outage_longer_than_the_lease_is_told_and_is_over_by_itself(
    own_world: World, how: str
) -> None:
    """Starts and reads say 503 in time; jobs that end meanwhile keep their true end; afterwards
    all goes on without a restart, and nothing that was acknowledged is lost."""
    world = own_world
    web, _, _ = world.machines.web(), world.machines.worker(), world.machines.worker()
    everything = world.watch(web, "/events")
    poll(lambda: everything.connected > 0, "the stream of all")
    running = [world.begin(web, task) for task in ("once", "thrice") * 3]
    watches = [world.watch(web, f"/jobs/{job_id}/events") for job_id in running]
    # Who has seen an event goes on after it, whatever becomes of the stream.
    poll(lambda: all(watch.seen for watch in [everything, *watches]), "streams")
    BREAKS[how](world)
    began = time.monotonic()
    asked = starts_fail(world, web)
    reads_fail(web, running[0])
    world.gate.touch()
    for job_id in running:  # They do not need the server.
        world.traces.wait("after", job_id)
    poll(lambda: time.monotonic() > began + LEASE + 1, "an outage longer than the lease")
    healed = mend(world, how)
    is_back(world, web, healed)
    for job_id in running:
        has_ended(world, web, job_id)
    keys_tell(world, web, asked)
    for job_id, watch in zip(running, watches, strict=True):
        poll(lambda watch=watch: watch.over, "the stream ends")  # type: ignore[misc]
        assert watch.statuses(job_id)[-1] == "succeeded"
        watch.check()
    poll(lambda: {job for _, job, s in everything.seen if s == "succeeded"} >= {*running}, "told")
    everything.check()
    assert all(server.process.poll() is None for server in world.machines.workers)


def test_jobs_that_run_through_an_outage_are_not_taken_for_lost(world: World) -> None:
    """Longer than the lease, and they go on after it: their processes lived."""
    web, _, _ = world.machines.web(), world.machines.worker(), world.machines.worker()
    running = [world.begin(web, task) for task in ("once", "thrice") * 3]
    world.line.refuse()
    began = time.monotonic()
    poll(lambda: time.monotonic() > began + 2 * LEASE, "an outage longer than the lease")
    is_back(world, web, mend(world, "refused"))
    time.sleep(2 * LEASE)  # Whoever takes them for lost has done so by then.
    assert [web.job(job_id)["status"] for job_id in running] == ["running"] * 6
    world.gate.touch()
    for job_id in running:
        has_ended(world, web, job_id)


def test_a_start_whose_answer_was_lost_is_the_same_one_with_its_key(world: World) -> None:
    """What arrives when everybody has given up is kept, and found by the key."""
    _, web = world.machines.worker(), world.machines.web()  # It leads; so the other one is idle,
    is_back(world, web, time.monotonic())  # and connected.
    world.line.hold()
    arguments = world.arguments()
    answer, seconds = timed(lambda: web.post("/start/once", arguments, **{"Idempotency-Key": "k"}))
    assert seconds < PROMPT
    is_problem(answer)
    assert "unknown" in answer.json()["detail"]
    is_back(world, web, mend(world, "held"))
    keys_tell(world, web, {"k": (arguments, answer.json()["detail"])})


@pytest.mark.parametrize("way", ["up", "down"])
def test_lines_that_are_cut_at_any_byte_lose_and_double_nothing(world: World, way: Any) -> None:
    """Forty cuts under eight clients that repeat what was not answered: each runs once."""
    web, other, _ = world.machines.web(), world.machines.web(), world.machines.worker()
    chance = random.Random(5)  # noqa: S311 - not for secrets
    stopped = threading.Event()
    acknowledged: dict[int, str] = {}

    def client(key: str) -> None:
        for round_ in itertools.count():
            arguments = world.arguments()
            headers = {"Idempotency-Key": f"{key} {round_}"}
            for place in itertools.cycle((web, other)):
                answer, seconds = timed(
                    lambda place=place: place.post("/start/once", arguments, **headers)  # type: ignore[misc] # noqa: B023
                )
                assert seconds < PROMPT
                if answer.status_code in (200, 202):
                    acknowledged[arguments["number"]] = answer.json()["id"]
                    break
                is_problem(answer)
                time.sleep(0.01)
            if stopped.is_set():
                return

    clients = [world.pool.submit(client, f"client {number}") for number in range(8)]
    try:
        for _ in range(40):
            world.line.cut_after(chance.randrange(1, 4000), way)
            poll(lambda: not world.line.cuts_soon, "a cut")
    finally:
        world.line.heal()
        stopped.set()
    for future in clients:
        future.result(30)
    for job_id in acknowledged.values():
        has_ended(world, web, job_id)
    jobs: dict[int, set[str]] = {}
    for each in world.traces.read():
        jobs.setdefault(each.number, set()).add(each.job)
    assert jobs == {number: {job_id} for number, job_id in acknowledged.items()}


def starts_are_accepted(world: World, web: Server, pool: Callable[..., Iterable[Any]]) -> list[str]:
    """Ten starts, each in time; their ids."""
    ids = []
    asked = [world.arguments() for _ in range(10)]
    for answer, seconds in pool(lambda each: timed(lambda: web.post("/start/once", each)), asked):
        assert (answer.status_code, seconds < PROMPT) == (202, True), (answer.text, seconds)
        ids.append(answer.json()["id"])
    return ids


def test_a_long_way_to_the_server_changes_nothing(world: World) -> None:
    """300 ms for each round trip: all is accepted, in time, also by many who start at once. For
    PostgreSQL it is 100 ms: there a transaction makes four."""
    worker, web = world.machines.worker(), world.machines.web()
    running = world.begin(web, "thrice")
    world.line.slow(0.3 if world.kind == "redis" else 0.1)
    ids = starts_are_accepted(world, web, map)
    ids += starts_are_accepted(world, web, world.pool.map)
    for path in ("/jobs", f"/jobs/{ids[0]}", "/readyz"):
        answer, seconds = timed(lambda path=path: web.get(path))  # type: ignore[misc]
        assert (answer.status_code, seconds < PROMPT) == (200, True), answer.text
    for job_id in ids:
        has_ended(world, web, job_id)
    world.gate.touch()
    has_ended(world, web, running)
    assert worker.process.poll() is None


@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.0])
def test_a_way_that_becomes_too_long_is_told_and_is_over_by_itself(
    world: World, seconds: float
) -> None:
    """Whatever the round trip takes: an answer comes in time, and nothing acknowledged is lost."""
    _, web = world.machines.worker(), world.machines.web()
    running = world.begin(web, "once")
    world.line.slow(seconds)
    asked, accepted = {}, []
    for number in range(6):
        arguments = world.arguments()
        headers = {"Idempotency-Key": f"key {number}"}
        answer, took = timed(lambda: web.post("/start/once", arguments, **headers))  # noqa: B023
        assert took < PROMPT, answer.text
        if answer.status_code == 202:
            accepted.append(answer.json()["id"])
        else:
            is_problem(answer)
            asked[f"key {number}"] = (arguments, answer.json()["detail"])
    assert (len(accepted) == 0) == (seconds == 3.0) or seconds == 1.0
    world.gate.touch()
    is_back(world, web, mend(world, "slow"))
    for job_id in [running, *accepted]:
        has_ended(world, web, job_id)
    keys_tell(world, web, asked)


def test_a_narrow_line_answers_in_time_and_recovers(world: World) -> None:
    """So few bytes a second that not all can be kept: told in time, and none is lost."""
    web, _ = world.machines.web(), world.machines.worker()
    running = world.begin(web, "once")
    world.line.throttle(40_000)
    answer, seconds = timed(lambda: web.post("/start/once", world.arguments()))
    assert (answer.status_code, seconds < PROMPT) == (202, True), (answer.text, seconds)
    accepted = [answer.json()["id"]]
    world.line.throttle(1_500)
    asked = [world.arguments(text="x" * 20_000) for _ in range(8)]
    for answer, seconds in world.pool.map(
        lambda each: timed(lambda: web.post("/start/once", each)), asked
    ):
        assert seconds < PROMPT, answer.text
        if answer.status_code == 202:
            accepted.append(answer.json()["id"])
        else:
            is_problem(answer)
    assert len(accepted) < 9
    is_back(world, web, mend(world, "throttled"))
    world.gate.touch()
    for job_id in [running, *accepted]:
        has_ended(world, web, job_id)


def test_a_loop_that_is_blocked_for_longer_than_the_lease_is_not_dead(world: World) -> None:
    """A thread says that the process is alive: the job runs once, here."""
    tasks = "tests.e2e.blocking_jobs"
    web = world.machines.web(tasks=tasks)
    worker, _ = world.machines.worker(tasks=tasks), world.machines.worker(tasks=tasks)
    job_id = web.start("blocks", **world.arguments(seconds=3 * LEASE))
    has_ended(world, web, job_id)
    assert worker.process.poll() is None
    is_back(world, web, time.monotonic())


def test_a_worker_that_is_cut_off_for_longer_than_its_lease_overwrites_nothing(
    world: World,
) -> None:
    """Its jobs begin elsewhere, or end as lost; what it writes later is refused."""
    web = world.machines.web()
    line = world.proxy()
    cut = world.machines.worker(store=world.url(line))
    late, lost = world.begin(web, "thrice"), world.begin(web, "once")
    open_ = world.begin(web, "thrice", gate=str(world.gate) + " of another")
    watches = [world.watch(web, f"/jobs/{job_id}/events") for job_id in (late, lost)]
    other = world.machines.worker()
    line.refuse()
    began = time.monotonic()
    for job_id in (late, open_):
        world.traces.wait("before", job_id, times=2)
    assert time.monotonic() - began < 5 * LEASE
    assert web.until(lost, "failed")["reason"] == "lost"
    world.gate.touch()
    web.until(late, "succeeded")
    world.traces.wait("after", late, times=2)
    world.traces.wait("after", lost)  # It did not know.
    ended = [web.job(job_id) for job_id in (late, lost)]
    line.heal()
    healed = time.monotonic()
    poll(lambda: len(web.get("/workers").json()["workers"]) == 3, "it is alive again", BACK)
    poll(lambda: any(f"{open_} was taken away" in line for line in cut.log), "it hears", BACK)
    world.gate.with_name("gate of another").touch()
    assert web.until(open_, "succeeded")["attempt"] == 2
    assert world.traces.count("after", open_) == 1
    poll(lambda: all(watch.over for watch in watches), "streams end")
    assert [web.job(job_id) for job_id in (late, lost)] == ended
    assert (ended[0]["attempt"], ended[0]["result"]) == (2, ended[0]["args"]["number"])
    assert [each["reason"] for each in ended[0]["attempts"]] == ["lost"]
    for watch in watches:
        watch.check()
        assert watch.seen[-1][2] in TERMINAL
    world.machines.kill(other)
    is_back(world, web, max(healed, time.monotonic()))  # By the one that was cut off.
