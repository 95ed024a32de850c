"""What holds for every engine whose jobs wait in a broker; each has its own file of tests. Run as a
module this is a worker of one, for a test to kill."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

import pytest
from blockbuster import blockbuster_ctx

from quart_app.checks import engine as engine_rules
from quart_app.checks.engine import Ran, Rule
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.tasks import Lane
from quart_app.engines.delivery import BrokerEngine
from quart_app.engines.docket import DocketEngine
from quart_app.engines.pgqueuer import PgqueuerEngine
from quart_app.testing import wait_until
from tests.servers import Server

ENGINES: dict[str, Callable[..., BrokerEngine]] = {
    "docket": DocketEngine,
    "pgqueuer": PgqueuerEngine,
}
ROOMS: dict[Lane, int] = {"loop": 2, "thread": 1, "process": 1}
OPEN = set[BrokerEngine]()
NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")


class Kind(Protocol):
    """What a file of tests says of its broker."""

    name: str
    refusal: str
    """What is said where it refuses to write."""

    async def refuse(self, server: Server, refuses: bool) -> None:
        """Have it answer, and refuse to write; or write again."""

    def start(self) -> Server:
        """A server that the test may kill."""

    async def left(self, url: str, namespace: str) -> int:
        """How many jobs are in the broker, waiting or taken."""


@contextlib.asynccontextmanager
async def engine_of(
    name: str, url: str, namespace: str, lease: float = 30.0, **options: Any
) -> AsyncIterator[BrokerEngine]:
    """An engine that leaves nothing behind."""
    rooms = options.pop("rooms", ROOMS)
    engine = ENGINES[name](url, rooms, namespace=namespace, lease=lease, **options)
    OPEN.add(engine)
    try:
        yield engine
    finally:
        await engine.disconnect()
        OPEN.discard(engine)
        assert OPEN or asyncio.all_tasks() - jobs() == {asyncio.current_task()}


def jobs() -> set[asyncio.Task[Any]]:
    """The tasks of jobs that still run: they are left alone."""
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("job ")}


@contextlib.contextmanager
def connecting_may_block() -> Iterator[None]:
    """Nothing of ours blocks the loop; the clients look for small files when they connect."""
    with blockbuster_ctx("quart_app") as blockers:
        for name in (
            "os.stat",
            "os.path.abspath",
            "io.TextIOWrapper.read",
            "io.BufferedReader.read",
        ):
            blocker = blockers.functions[name]
            blocker.can_block_in("redis/utils.py", "get_lib_version")
            blocker.can_block_in("asyncpg/connect_utils.py", "_parse_connect_arguments")
        yield


@contextlib.contextmanager
def killed_worker(name: str, url: str, namespace: str, lease: float) -> Iterator[None]:
    """A worker in a process of its own takes a job, and is killed with it."""
    command = [sys.executable, "-m", "tests.engines.brokers", name, url, namespace, str(lease)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield
        assert process.stdout.readline() == b"took a\n"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()


async def work_until_killed(name: str, url: str, namespace: str, lease: str) -> None:
    """Take jobs, say so, and never end them."""

    async def run(job_id: str) -> float | None:
        print("took", job_id, flush=True)  # noqa: T201 - the test reads it
        await asyncio.Event().wait()
        return None

    engine = ENGINES[name](url, ROOMS, namespace=namespace, lease=float(lease))
    await engine.work(run)
    await asyncio.Event().wait()


class OfEveryBroker:
    """The tests; a subclass has the fixtures ``kind`` and ``url``."""

    @pytest.fixture(autouse=True)
    def _time_to_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a broker has two seconds for it has time for here: on a busy machine it may need
        more, and these tests are not about that."""
        for module in ("delivery", "docket", "docket_connections", "pgqueuer"):
            monkeypatch.setattr(f"quart_app.engines.{module}.ANSWER", 20.0)

    @pytest.mark.parametrize("rule", engine_rules.RULES, ids=lambda rule: rule.__name__)
    async def test_a_rule_is_kept(self, rule: Rule, kind: Kind, url: str, namespace: str) -> None:
        """Those of every engine; afterwards nothing is left in the broker."""
        async with engine_of(kind.name, url, namespace) as engine:
            async with asyncio.timeout(30):
                await rule(engine)
                await engine.close()
                await engine.idle()
        wait = {"stops_when_closed": {2}, "forgets_what_waits": {0, 1}}
        assert await kind.left(url, namespace) in wait.get(rule.__name__, {0})

    async def test_each_of_a_thousand_is_delivered(
        self, kind: Kind, url: str, namespace: str
    ) -> None:
        """Submitted at once, also while others run; each once."""
        ran = Ran()
        ran.gate.set()
        rooms = {"loop": 50, "thread": 20, "process": 20}
        ids = [f"{number:04}" for number in range(1000)]
        lanes: list[Lane] = ["loop", "thread", "process", "loop"]
        async with engine_of(kind.name, url, namespace, rooms=rooms) as engine:
            await engine.work(ran.run)
            await asyncio.gather(
                *(engine.submit(each, lanes[number % 4]) for number, each in enumerate(ids))
            )
            await ran.until(1000)
            await engine.close()
            await engine.idle()
        assert sorted(ran.ids) == ids
        assert await kind.left(url, namespace) == 0

    async def test_a_job_begins_soon(self, kind: Kind, url: str, namespace: str) -> None:
        """Whoever waits for jobs is told of one."""
        began = list[float]()

        async def run(job_id: str) -> float | None:
            began.append(time.monotonic())
            return None

        took = []
        async with engine_of(kind.name, url, namespace) as engine:
            await engine.work(run)
            for number in range(10):
                submitted = time.monotonic()
                await engine.submit(str(number), "loop")
                await wait_until(lambda count=number: len(began) > count, "it begins")  # type: ignore[misc]
                took.append(began[-1] - submitted)
        assert min(took) < 0.1  # About 5 ms on an idle machine.

    async def test_a_full_lane_holds_up_no_other(
        self, kind: Kind, url: str, namespace: str
    ) -> None:
        """Each has its own room, and one without room is not worked."""
        ran = Ran()
        async with engine_of(
            kind.name, url, namespace, rooms={"loop": 1, "thread": 1, "process": 0}
        ) as engine:
            await engine.work(ran.run)
            for job_id, lane in [("t1", "thread"), ("t2", "thread"), ("p", "process")]:
                await engine.submit(job_id, lane)  # type: ignore[arg-type]
            await ran.until(1)
            await engine.submit("l", "loop")
            await ran.until(2)
            assert sorted(each[0] for each in ran.ids) == ["l", "t"]
            ran.gate.set()
            await ran.until(3)
            await engine.close()
            await engine.idle()
        assert "p" not in ran.ids
        assert await kind.left(url, namespace) == 1

    async def test_another_process_takes_what_one_submits(
        self, kind: Kind, url: str, namespace: str
    ) -> None:
        """Who only submits works nothing; twice the same id, from anywhere, is once."""
        ran = Ran()
        async with (
            engine_of(kind.name, url, namespace, rooms={}) as web,
            engine_of(kind.name, url, namespace) as worker,
        ):
            await web.submit("a", "loop")
            await worker.work(ran.run)
            await ran.until(1)
            await asyncio.gather(web.submit("a", "loop"), worker.submit("a", "loop"))
            assert worker.holds("a")
            assert not web.holds("a")
            ran.gate.set()
            await worker.close()
            await worker.idle()
        assert ran.ids == ["a"]
        assert await kind.left(url, namespace) == 0

    async def test_a_job_has_a_context_of_its_own(
        self, kind: Kind, url: str, namespace: str
    ) -> None:
        """It begins with the engine's and with nothing of the library's."""
        context = contextvars.Context()
        context.run(NAME.set, "engine")
        seen = list[dict[str, Any]]()

        async def run(job_id: str) -> float | None:
            seen.append({var.name: value for var, value in contextvars.copy_context().items()})
            NAME.set(job_id)
            return None

        async with engine_of(kind.name, url, namespace, context=context) as engine:
            NAME.set("request")
            await engine.work(run)
            for job_id in "ab":
                await engine.submit(job_id, "loop")
            await wait_until(lambda: len(seen) == 2, "both ran")
        assert seen == [{"name": "engine"}, {"name": "engine"}]

    async def test_a_run_that_is_canceled_stops_nothing(
        self, kind: Kind, url: str, namespace: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It comes again, as after any error."""
        ran = list[str]()

        async def run(job_id: str) -> float | None:
            ran.append(job_id)
            if len(ran) == 1:
                raise asyncio.CancelledError
            if len(ran) == 2:
                raise StoreUnavailable("the disk is full")
            return None

        async with engine_of(kind.name, url, namespace) as engine:
            await engine.work(run)
            await engine.submit("a", "loop")
            await wait_until(lambda: len(ran) == 3, "it came three times", timeout=15)
            await engine.submit("b", "loop")
            await wait_until(lambda: len(ran) == 4, "the next one came")
            await engine.close()
            await engine.idle()
        assert ran == ["a", "a", "a", "b"]
        assert await kind.left(url, namespace) == 0
        assert "Traceback" not in caplog.text

    async def test_what_runs_at_the_close_is_acknowledged(
        self, kind: Kind, url: str, namespace: str
    ) -> None:
        """It ends in its own time, longer than the lease, and does not come again."""
        ran, other = Ran(), Ran()
        async with (
            engine_of(kind.name, url, namespace, lease=1.0) as engine,
            engine_of(kind.name, url, namespace, lease=1.0) as another,
        ):
            await engine.work(ran.run)
            await engine.submit("a", "loop")
            await ran.until(1)
            assert await engine.close() == []
            assert await engine.close() == []
            await another.work(other.run)
            await asyncio.sleep(2.5)
            assert engine.holds("a")
            ran.gate.set()
            await engine.idle()
            assert await kind.left(url, namespace) == 0
        assert (ran.ids, other.ids) == (["a"], [])
        with pytest.raises(StoreUnavailable, match="closed"):
            await engine.submit("b", "loop")

    async def test_what_a_killed_process_ran_is_delivered_elsewhere(
        self, kind: Kind, url: str, namespace: str
    ) -> None:
        """After the lease, which nobody keeps any more."""
        ran = Ran()
        ran.gate.set()
        async with engine_of(kind.name, url, namespace, lease=1.0) as engine:
            with killed_worker(kind.name, url, namespace, 1.0):
                await engine.submit("a", "loop")
            killed = time.monotonic()
            await engine.work(ran.run)
            await ran.until(1)
            assert time.monotonic() - killed < 6
            await engine.close()
            await engine.idle()
        assert ran.ids == ["a"]
        assert await kind.left(url, namespace) == 0

    async def test_what_is_disconnected_is_delivered_elsewhere(
        self, kind: Kind, url: str, namespace: str
    ) -> None:
        """The job is left alone; its message comes again after the lease."""
        ran, other = Ran(), Ran()
        other.gate.set()
        async with engine_of(kind.name, url, namespace, lease=1.0) as engine:

            async def run(job_id: str) -> float | None:
                task = asyncio.current_task()
                assert task is not None
                task.set_name(f"job {job_id}")
                return await ran.run(job_id)

            await engine.work(run)
            await engine.submit("a", "loop")
            await ran.until(1)
            async with asyncio.timeout(3):
                await engine.disconnect()
            assert engine.holds("a")
        async with engine_of(kind.name, url, namespace, lease=1.0) as engine:
            await engine.work(other.run)
            await other.until(1)
        ran.gate.set()
        await asyncio.gather(*jobs())
        assert other.ids == ["a"]


class OfABrokerThatDies:
    """The tests that kill it; a subclass has the fixture ``kind``."""

    @pytest.fixture
    def server(self, kind: Kind) -> Iterator[Server]:
        """A broker of the test's own."""
        server = kind.start()
        yield server
        server.close()

    async def test_one_that_refuses_what_is_asked_is_gone_once(
        self, kind: Kind, server: Server, namespace: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It answers, so that it seems to be back at each try; why it refuses is told."""
        ran = Ran()
        ran.gate.set()
        async with engine_of(kind.name, server.url, namespace, lease=2.0) as engine:
            await engine.work(ran.run)
            await engine.submit("a", "loop")
            await ran.until(1)
            await self._gone(kind, server, namespace)
            await kind.refuse(server, True)
            await asyncio.sleep(4.0)
            await kind.refuse(server, False)
            said = [record.getMessage() for record in caplog.records]
            assert len(said) == 1
            assert kind.refusal in said[0]
            await self._submit(engine, "b", "loop")
            await ran.until(2)
            await wait_until(lambda: len(caplog.records) > 1, "it is back", timeout=5)
            assert caplog.records[1].levelname == "WARNING"

    async def test_work_goes_on_after_an_outage(
        self, kind: Kind, server: Server, namespace: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Idle or running: nothing is lost, what goes on begins once, and it is said once."""
        ran = Ran()
        async with engine_of(kind.name, server.url, namespace, lease=2.0) as engine:
            await engine.work(ran.run)
            await engine.submit("warm", "loop")
            await ran.until(1)
            ran.gate.set()
            await self._gone(kind, server, namespace)
            ran.gate.clear()
            for times in range(2):  # First while nothing runs here, then while one does.
                server.kill()
                await asyncio.sleep(1.0)
                server.start()
                back = time.monotonic()
                await self._submit(engine, f"{times}", "loop")
                await ran.until(2 + times)
                assert time.monotonic() - back < 6  # On an idle machine about one second.
            assert sorted(ran.ids) == ["0", "1", "warm"]
            await asyncio.sleep(3.0)  # What runs comes again after the lease: here it is known.
            assert sorted(ran.ids) == ["0", "1", "warm"]
            ran.gate.set()
            await engine.idle()
            await self._gone(kind, server, namespace)
        assert caplog.text.count("is gone") <= 4
        assert "Traceback" not in caplog.text

    async def _submit(self, engine: BrokerEngine, job_id: str, lane: Lane) -> None:
        """The first one after an outage may meet a server that is not ready."""
        for _ in range(20):
            with contextlib.suppress(StoreUnavailable):
                return await engine.submit(job_id, lane)
            await asyncio.sleep(0.1)
        raise TimeoutError

    async def _gone(self, kind: Kind, server: Server, namespace: str) -> None:
        async def empty() -> bool:
            return await kind.left(server.url, namespace) == 0

        await wait_until(empty, "all is acknowledged", timeout=10)

    async def test_what_ends_while_the_broker_is_gone_comes_again(
        self, kind: Kind, server: Server, namespace: str
    ) -> None:
        """It could not be acknowledged; the claim is there to refuse it."""
        ran = Ran()
        async with engine_of(kind.name, server.url, namespace, lease=1.0) as engine:
            await engine.work(ran.run)
            await engine.submit("a", "loop")
            await ran.until(1)
            server.kill()
            ran.gate.set()
            await engine.idle()
            await asyncio.sleep(0.5)
            server.start()
            await ran.until(2)
            await self._gone(kind, server, namespace)
        assert ran.ids == ["a", "a"]

    async def test_without_a_broker_a_submit_fails_soon(
        self, kind: Kind, server: Server, namespace: str
    ) -> None:
        """Before the first one and later; and work begins when it can."""
        ran = Ran()
        ran.gate.set()
        server.kill()
        async with engine_of(kind.name, server.url, namespace) as engine:
            await self._refused(engine)
            await engine.work(ran.run)
            server.start()
            await self._submit(engine, "a", "loop")
            await ran.until(1)
            await engine.idle()
            server.kill()
            await asyncio.gather(*(self._refused(engine) for _ in range(20)))
            async with asyncio.timeout(5):
                await engine.close()
                await engine.idle()
            server.start()
        assert ran.ids[0] == "a"

    async def _refused(self, engine: BrokerEngine) -> None:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await engine.submit("x", "loop")
        assert time.monotonic() - began < 2


if __name__ == "__main__":
    asyncio.run(work_until_killed(*sys.argv[1:]))
