"""A primary of Redis dies and its replica takes over: whoever has the address of the Sentinels or
of the cluster goes on by itself, and no job is lost that the replica knew (D4)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Server, Traces, poll
from tests.e2e.machines import Machines
from tests.topologies import Cluster, Node, Sentinels, catch_up

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BACK = 20.0
"""Seconds from a primary's death until all goes on; the servers alone take two to four."""
HELD, WAITING = 10, 150
"""Jobs that run while the primary dies, and that wait."""


class Sentineled(Sentinels):
    """The master holds all."""

    def primaries(self, namespace: str) -> list[Node]:
        """Whose death is to be survived."""
        return [self.master]


class Clustered(Cluster):
    """One has the records, another one what waits for a worker."""

    def primaries(self, namespace: str) -> list[Node]:
        """Whose death is to be survived."""
        return [self.owner(f"{{{name}}}") for name in (namespace, f"{namespace}:loop")]


@pytest.fixture(params=[Sentineled, Clustered])
def place(request: pytest.FixtureRequest) -> Iterator[Sentineled | Clustered]:
    """Servers of which one may die."""
    made: Sentineled | Clustered = request.param()
    yield made
    made.close()


def is_back(web: Server, body: dict[str, object], since: float) -> str:
    """A job is accepted again, and begins; until then the answer is 503 and comes soon."""
    while True:
        began = time.monotonic()
        answer = web.post("/start/once", body)
        assert time.monotonic() - began < 2.5
        if answer.status_code == 202:
            return str(answer.json()["id"])
        assert answer.status_code == 503, answer.text
        assert time.monotonic() < since + BACK, (answer.text, web.log)
        time.sleep(0.05)


def until_over(web: Server, jobs: int, machines: Machines, place: Sentineled | Clustered) -> None:
    """Every job has ended, none in another way than it should."""

    def all_ended() -> bool:
        counts = web.get("/readyz").json().get("jobs", {})
        return bool(counts.get("succeeded") == jobs)

    try:
        poll(all_ended, "every job succeeds", 60)
    except AssertionError:
        left = [
            web.get(f"/jobs?status={each}&limit=5").text for each in ("queued", "running", "failed")
        ]
        raise AssertionError((web.get("/readyz").text, left, machines.logs()[-60:])) from None


def test_jobs_go_on_where_the_replica_takes_over(
    place: Sentineled | Clustered, namespace: str, tmp_path: Path
) -> None:
    """Those that ran go on, those that waited begin, new ones are accepted, and cancel works."""
    traces, gate = Traces(tmp_path / "traces"), tmp_path / "gate"
    machines = Machines(place.url, namespace)
    numbers = itertools.count(1)

    def arguments(**others: object) -> dict[str, object]:
        return {"traces": str(traces.path), "number": next(numbers), **others}

    try:
        web, other = machines.web(), machines.web()
        for _ in range(2):
            machines.worker("--concurrency", str(HELD))
        ids = [web.start("once", **arguments(gate=str(gate))) for _ in range(2 * HELD)]
        for each in ids:
            traces.wait("before", each)
        ids += [web.start("once", **arguments()) for _ in range(WAITING)]
        for number in range(len(place.primaries(namespace))):
            catch_up(place.primaries(namespace))
            hit = place.primaries(namespace)[number]
            hit.kill()
            ids.append(is_back(other, arguments(), time.monotonic()))
            hit.start()
        gate.touch()
        until_over(web, len(ids), machines, place)
        for each in ids:
            assert (web.job(each)["status"], other.job(each)["status"]) == ("succeeded",) * 2
            assert traces.count("before", each) == traces.count("after", each) == 1
        last = web.start("once", **arguments(gate=str(tmp_path / "never")))
        traces.wait("before", last)
        assert other.post(f"/cancel/{last}").status_code in (200, 202)
        web.until(last, "canceled")
    finally:
        machines.stop()
