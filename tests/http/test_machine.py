"""A state machine drives the service through HTTP, beside a small model of what must hold."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from quart_app.domain.status import STATUSES, TERMINAL
from quart_app.testing import VirtualTimeLoop
from tests.http.support import Stage, checked, problem, serving

T = TypeVar("T")
RUNNING, QUEUED = 2, 3
RANK = {"queued": 0, "running": 1, "succeeded": 2, "failed": 2, "canceled": 2}
PICK = st.tuples(st.sampled_from(sorted(RANK)), st.integers(0, 9))
"""A status and a number: one of the jobs in that status, or of all where there is none."""
TASKS = st.sampled_from(["held", "other", "deaf"])


class Known:
    """What the model knows of one job."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.id: str = document["id"]
        self.task: str = document["task"]
        self.retry_of: str | None = document["retry_of"]
        self.args: dict[str, Any] = document["args"]
        self.status = "queued"
        self.asked = False
        self.seen = document
        self.result: Any = None


def same(document: dict[str, Any]) -> dict[str, Any]:
    """A document without what may be a second old, or is a guess."""
    assert document["position"] is None or document["position"] >= 1
    return {**document, "eta": None, "position": None}


class Service(RuleBasedStateMachine):
    """Two may run and three may wait: first come, first served."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.stage = Stage()
        self.jobs: list[Known] = []
        self.keys: dict[tuple[str, str], Known] = {}
        self.results = itertools.count()

    @initialize()
    def open(self) -> None:
        """An app that serves."""
        stage = self.stage
        self.context = serving(
            stage.held, stage.other, stage.deaf, max_running=RUNNING, max_queued=QUEUED, grace=30
        )
        self.api = self.run(self.context.__aenter__())

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Do one thing, and let everything that follows from it happen."""

        async def and_settle() -> T:
            result = await main
            for _ in range(30):
                await asyncio.sleep(0)
            return result

        return self.runner.run(and_settle())

    def teardown(self) -> None:
        """Let every job end, so that nothing is left."""

        async def end_all() -> None:
            for job in self.having("queued", "running"):
                self.stage.end(job.id)
            await self.context.__aexit__(None, None, None)

        self.run(end_all())
        self.runner.close()

    # The model

    def having(self, *statuses: str) -> list[Known]:
        """The model's jobs in these statuses, oldest first."""
        return [job for job in self.jobs if job.status in statuses]

    def turn(self) -> None:
        """Whoever waits longest runs where there is room."""
        while (waiting := self.having("queued")) and len(self.having("running")) < RUNNING:
            waiting[0].status = "running"

    def opened(self, documents: list[dict[str, Any]]) -> list[Known]:
        """New jobs."""
        new = [Known(checked(document)) for document in documents]
        self.jobs += new
        self.turn()
        return new

    def pick(self, which: tuple[str, int]) -> Known:
        """One of the model's jobs."""
        status, number = which
        jobs = self.having(status) or self.jobs
        return jobs[number % len(jobs)]

    def cancel_in_model(self, job: Known) -> None:
        """Waiting jobs are canceled; running ones when their function lets them."""
        if job.status == "queued" or (job.status == "running" and job.task != "deaf"):
            job.status = "canceled"
        job.asked = job.asked or job.status == "running"

    # What clients do

    @rule(name=TASKS, label=st.sampled_from("ab"), key=st.sampled_from([None, None, "k", "l"]))
    def start(self, name: str, label: str, key: str | None) -> None:
        """One job; with a key perhaps one that there is."""
        args = {} if name == "deaf" else {"label": label}
        headers = {} if key is None else {"Idempotency_Key": key}
        answer = self.run(self.api.post(f"/start/{name}", args, **headers))
        known = None if key is None else self.keys.get((name, key))
        if known is not None and all(known.args[each] == args[each] for each in args):
            assert answer.json["id"] == known.id
            assert answer.headers["Idempotency-Replayed"] == "true"
        elif known is not None:
            problem(answer, 422, "idempotency-key-reused")
        elif len(self.having("queued")) >= QUEUED:
            problem(answer, 503, "queue-full")
        else:
            assert answer.status == 202
            [new] = self.opened([answer.json])
            if key is not None:
                self.keys[name, key] = new

    @rule(name=TASKS, count=st.integers(0, 4))
    def start_many(self, name: str, count: int) -> None:
        """All or none."""
        answer = self.run(self.api.post(f"/start/{name}", [{}] * count))
        if len(self.having("queued")) + count > QUEUED and count:
            problem(answer, 503, "queue-full")
        else:
            assert len(self.opened(answer.json["jobs"])) == count

    @precondition(lambda self: self.having("running"))
    @rule(number=st.integers(0, 9), fails=st.booleans())
    def end(self, number: int, fails: bool) -> None:
        """A function returns or raises."""
        job = self.pick(("running", number))

        async def ends() -> None:
            if fails:
                self.stage.fail(job.id, ValueError("no"))
            else:
                self.stage.end(job.id, next(self.results))

        self.run(ends())
        job.status = "failed" if fails else "succeeded"
        self.turn()

    @precondition(lambda self: self.jobs)
    @rule(which=PICK)
    def cancel(self, which: tuple[str, int]) -> None:
        """One job, twice."""
        job = self.pick(which)
        before = job.status
        first = self.run(self.api.post(f"/cancel/{job.id}"))
        assert first.status == (202 if before == "running" else 200)
        self.cancel_in_model(job)
        self.turn()
        second = self.run(self.api.post("/cancel", {"id": job.id}))
        assert second.status == (202 if job.status == "running" else 200)
        assert second.json["status"] == job.status

    @precondition(lambda self: self.jobs)
    @rule(name=TASKS, status=st.sampled_from([None, "queued", "running"]), dry=st.booleans())
    def cancel_matching(self, name: str, status: str | None, dry: bool) -> None:
        """All that match and are not over."""
        match = {"task": name} | ({} if status is None else {"status": status})
        answer = self.run(self.api.post("/cancel", {"match": match, "dry_run": dry}))
        matched = [
            job
            for job in self.having(*([status] if status else ["queued", "running"]))
            if job.task == name
        ]
        assert answer.json["matched"] == len(matched)
        if dry:
            assert answer.json == {"matched": len(matched), "canceled": 0, "canceling": 0}
            return
        canceling = sum(job.status == "running" for job in matched)
        assert answer.json["canceling"] == canceling
        assert answer.json["canceled"] == len(matched) - canceling
        for job in matched:
            self.cancel_in_model(job)
        self.turn()

    @precondition(lambda self: self.jobs)
    @rule(which=PICK)
    def retry(self, which: tuple[str, int]) -> None:
        """A new job, if the old one is over and there is room."""
        job = self.pick(which)
        answer = self.run(self.api.post(f"/jobs/{job.id}/retry"))
        if job.status not in TERMINAL:
            problem(answer, 409, "not-finished")
        elif len(self.having("queued")) >= QUEUED:
            problem(answer, 503, "queue-full")
        else:
            assert answer.status == 202
            [new] = self.opened([answer.json])
            assert (new.retry_of, new.args, new.task) == (job.id, job.args, job.task)

    @precondition(lambda self: self.jobs)
    @rule(which=PICK, seconds=st.integers(0, 5))
    def wait(self, which: tuple[str, int], seconds: int) -> None:
        """A long poll: at once for what is over, else the whole wait."""
        job = self.pick(which)
        began = self.runner.get_loop().time()
        answer = self.run(self.api.get(f"/jobs/{job.id}", Prefer=f"wait={seconds}"))
        gone = self.runner.get_loop().time() - began
        assert answer.json["status"] == job.status
        expected = 0 if job.status in TERMINAL else seconds
        assert gone == pytest.approx(expected, abs=0.01)

    @precondition(lambda self: self.jobs)
    @rule(which=PICK)
    def result(self, which: tuple[str, int]) -> None:
        """200, 202 or 409, as the status says."""
        job = self.pick(which)
        answer = self.run(self.api.get(f"/jobs/{job.id}/result"))
        expected = {"succeeded": 200, "failed": 409, "canceled": 409}.get(job.status, 202)
        assert answer.status == expected
        assert answer.status != 200 or answer.json == job.seen["result"]

    # What always holds

    @invariant()
    def every_document_tells_the_models_story(self) -> None:
        """The status only moves forward, what is over never changes, list and GET agree."""
        listed = self.run(self.everything())
        assert [each["id"] for each in listed] == [job.id for job in reversed(self.jobs)]
        by_id = {each["id"]: each for each in listed}
        for job in self.jobs:
            document = checked(by_id[job.id])
            assert document["status"] == job.status, document
            assert RANK[job.seen["status"]] <= RANK[job.status]
            if job.seen["status"] in TERMINAL:
                assert document == job.seen
            assert (document["cancel_requested"] is not None) >= job.asked
            job.seen = document
        for job in self.jobs[-3:]:
            alone = self.run(self.api.job(job.id))
            assert same(alone) == same(by_id[job.id])

    async def everything(self) -> list[dict[str, Any]]:
        """All pages of the list."""
        found: list[dict[str, Any]] = []
        path: str | None = "/jobs?limit=4"
        while path is not None:
            answer = await self.api.get(path)
            found += answer.json["jobs"]
            following = answer.json["next"]
            path = following and f"/jobs?{urlsplit(following).query}"
        return found

    @invariant()
    def the_counts_are_those_of_the_list(self) -> None:
        """/readyz counts what the list shows, and no more run or wait than may."""
        counts = self.run(self.api.get("/readyz")).json["jobs"]
        assert counts == {status: len(self.having(status)) for status in STATUSES}
        assert counts["running"] <= RUNNING
        assert counts["queued"] <= QUEUED


@pytest.mark.slow
def test_whatever_clients_do_the_service_tells_one_true_story() -> None:
    """Start, cancel, wait, retry and list in any order: no document ever disagrees."""
    run_state_machine_as_test(
        Service,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],  # Shrinking a failure would take minutes.
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
