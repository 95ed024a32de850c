"""Hosts whose cable is pulled: each process in a network of its own (D1)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import Server, Traces, poll
from tests.e2e.hosts import (
    Host,
    HostMachines,
    Network,
    PostgresOn,
    RedisOn,
    client_on,
    why_not,
)
from tests.e2e.machines import LEASE
from tests.e2e.watches import TERMINAL, Watch
from tests.servers import needs

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PROMPT = 2.5
"""Seconds: two are promised for an answer, and this machine may be busy."""
BACK = 5.0
"""Seconds after which all goes on: what was lost on the way is sent again later and later."""


class Site:
    """A server, a web process and two workers, on a host each.

    Args:
        kind: of the server.
        namespace, folder: of the test.
    """

    def __init__(self, kind: str, namespace: str, folder: Path) -> None:
        self.closing = contextlib.ExitStack()
        self.network = Network()
        self.closing.callback(self.network.delete)
        self.traces = Traces(folder / "traces")
        self.gates = folder
        self.web_host, self.first_host, self.second_host = (self.network.host() for _ in range(3))
        maker = RedisOn if kind == "redis" else PostgresOn
        self.server = maker(self.network.host())
        self.closing.callback(self.server.close)
        self.machines = HostMachines(self.server.url, namespace)
        self.closing.callback(self.machines.stop)

    def begin(self, web: Server, task: str, gate: str) -> str:
        """Start a job that runs until a gate opens, and wait until it runs."""
        arguments: dict[str, Any] = {"traces": str(self.traces), "gate": str(self.gates / gate)}
        job_id = web.start(task, number=7, **arguments)
        self.traces.wait("before", job_id)
        web.until(job_id, "running")
        return job_id

    def open_gate(self, gate: str) -> None:
        """Let jobs end."""
        (self.gates / gate).touch()

    def watch(self, web: Server, path: str) -> Watch:
        """Follow a stream, on the host of the web process."""
        watch = Watch(web.url + path, lambda: client_on(self.web_host))
        self.closing.callback(watch.stop)
        return watch

    def alive(self, web: Server) -> set[int]:
        """The processes that are."""
        return {each["pid"] for each in web.get("/workers").json()["workers"]}

    def logs(self) -> str:
        """What the processes have said."""
        servers = [*self.machines.webs, *self.machines.workers]
        return "\n---\n".join("".join(server.log[-30:]) for server in servers)

    def runs(self, web: Server, seconds: float) -> None:
        """A start is accepted, and its job runs, within so many seconds."""
        end = time.monotonic() + seconds
        arguments = {"traces": str(self.traces)}
        while (answer := web.post("/start/once", arguments)).status_code != 202:
            assert time.monotonic() < end, (answer.text, self.logs())
            time.sleep(0.02)
        while (job := web.job(answer.json()["id"])).get("status") != "succeeded":
            assert time.monotonic() < end, (job, self.logs())
            time.sleep(0.02)


@pytest.fixture(params=["redis", "postgres"])
def site(request: pytest.FixtureRequest, namespace: str, tmp_path: Path) -> Iterator[Site]:
    """A server, and hosts."""
    kind = str(request.param)
    reason = why_not()
    needs(reason is None, f"network namespaces: {reason}")
    made = Site(kind, namespace, tmp_path)
    yield made
    made.closing.close()


@pytest.mark.parametrize("leads", [False, True], ids=["another leads", "it leads"])
def test_a_worker_whose_cable_is_pulled_overwrites_nothing(site: Site, leads: bool) -> None:
    """Its jobs begin elsewhere, or end as lost; what it says later is refused; it works again."""
    hosts: list[Host] = [site.web_host, site.first_host]
    if leads:  # Who is there first.
        cut = site.machines.worker(host=site.first_host)
        web = site.machines.web(host=site.web_host)
    else:
        web = site.machines.web(host=site.web_host)
        cut = site.machines.worker(host=site.first_host)
    assert (any("this process leads" in line for line in cut.log), len(hosts)) == (leads, 2)
    late, lost = site.begin(web, "thrice", "early"), site.begin(web, "once", "early")
    open_ = site.begin(web, "thrice", "later")
    watches = {each: site.watch(web, f"/jobs/{each}/events") for each in (late, lost, open_)}
    other = site.machines.worker(host=site.second_host)
    site.first_host.unplug()
    for job_id in (late, open_):
        site.traces.wait("before", job_id, times=2)
    assert web.until(lost, "failed")["reason"] == "lost"
    assert site.alive(web) == {web.process.pid, other.process.pid}
    site.open_gate("early")
    web.until(late, "succeeded")
    site.traces.wait("after", late, times=2)
    site.traces.wait("after", lost)  # It did not know.
    ended = [web.job(job_id) for job_id in (late, lost)]
    site.first_host.plug()
    poll(lambda: cut.process.pid in site.alive(web), "it is alive again", BACK)
    poll(lambda: any(f"{open_} was taken away" in line for line in cut.log), "it hears", BACK)
    site.open_gate("later")
    assert web.until(open_, "succeeded")["attempt"] == 2
    assert site.traces.count("after", open_) == 1
    poll(lambda: all(watch.over for watch in watches.values()), "streams end")
    assert [web.job(job_id) for job_id in (late, lost)] == ended
    assert [each["reason"] for each in ended[0]["attempts"]] == ["lost"]
    for job_id, watch in watches.items():
        watch.check()
        assert sum(status in TERMINAL for status in watch.statuses(job_id)) == 1
    site.machines.kill(other)
    site.runs(web, BACK)  # By the one that was cut off.
    assert sum("does not lead any more" in line for line in cut.log) == leads


def test_a_web_process_whose_cable_is_pulled_says_so_and_is_back_by_itself(site: Site) -> None:
    """Starts and reads say 503 in time, for longer than the lease; jobs elsewhere go on."""
    web = site.machines.web(host=site.web_host)
    site.machines.worker(host=site.first_host)
    job_id = site.begin(web, "once", "gate")
    watch = site.watch(web, f"/jobs/{job_id}/events")
    poll(lambda: bool(watch.seen), "the stream")
    site.web_host.unplug()
    began = time.monotonic()
    arguments = {"traces": str(site.traces)}
    while time.monotonic() < began + 2 * LEASE:
        calls: list[Callable[[], httpx2.Response]] = [
            lambda: web.post("/start/once", arguments),
            lambda: web.get(f"/jobs/{job_id}"),
            lambda: web.get("/readyz"),
        ]
        for call in calls:
            asked = time.monotonic()
            answer = call()
            assert (answer.status_code, time.monotonic() - asked < PROMPT) == (503, True)
        assert web.get("/healthz").status_code == 200
    site.open_gate("gate")
    site.traces.wait("after", job_id)
    site.web_host.plug()
    site.runs(web, BACK)
    assert web.job(job_id)["status"] == "succeeded"
    poll(lambda: watch.over, "the stream ends")
    watch.check()
    assert watch.statuses(job_id)[-1] == "succeeded"
