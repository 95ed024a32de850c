"""``run="process"``: beside the interpreter, interrupted, killed, and ended with its parent."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest
from pebble import ProcessPool

from quart_app.core import processes
from quart_app.core.child import Call
from quart_app.core.processes import ProcessDied, Processes, _follow, _signal, _tell
from quart_app.core.slots import ASKED, Slots
from quart_app.core.threads import Threads
from quart_app.domain.jobs import Failure, Job, Progress
from quart_app.domain.secrets import Secret
from quart_app.domain.tasks import Task
from quart_app.testing import wait_until
from tests.core import process_tasks as tasks
from tests.core import process_voices as voices
from tests.core.said import Heard
from tests.core.support import Core

pytestmark = [pytest.mark.slow, pytest.mark.blocking]


@pytest.fixture
def pool() -> Iterator[Processes]:
    """Two places for processes."""
    threads = Threads("test-pool")
    made = Processes(2, threads)
    yield made
    made.close()
    made.join()
    threads.close()


def process(function: Callable[..., Any], **options: Any) -> Task:
    """The function as a task for processes."""
    return Task(function, run="process", **options)


async def begun(path: Path) -> None:
    """Wait until the function says that it runs."""
    await wait_until((path / "begun").exists, "the function has begun")


def children() -> list[int]:
    """The processes of every pool of this one."""
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


async def test_a_job_runs_in_a_process_of_its_own(pool: Processes) -> None:
    """Arguments and results go as JSON; one process serves many jobs."""
    async with Core(process(tasks.where), process(tasks.double), processes=pool) as core:
        pids = {(await core.run(tasks.where)).result for _ in range(5)}
        assert str(os.getpid()).encode() not in pids
        assert len(pids) <= 2
        assert (await core.run(tasks.double, number=21)).result == b"42"


async def test_an_error_comes_back_as_text(
    pool: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    """Its class, its message, its traceback in the log; sys.exit() ends only the job."""
    functions = (tasks.fails, tasks.exits, tasks.raises_cancelled, tasks.is_no_json, tasks.grows)
    async with Core(
        *[process(each) for each in functions], processes=pool, max_result=100, debug=True
    ) as core:
        job = await core.run(tasks.fails, message="no")
        assert (job.status, job.reason) == ("failed", "error")
        assert job.error is not None
        assert (job.error.code, job.error.message) == ("ValueError", "no")
        assert "in fails" in (job.error.traceback or "")
        assert (await core.run(tasks.exits)).error is not None
        job = await core.run(tasks.raises_cancelled)
        assert (job.status, job.error and job.error.code) == ("failed", "CancelledError")
        job = await core.run(tasks.is_no_json)
        assert job.error is not None
        assert job.error.code == "InvalidResult"
        job = await core.run(tasks.grows, count=200)
        assert job.error == Failure(
            "ResultTooLarge", "the result has 202 bytes of JSON, 100 are allowed"
        )
        assert (await core.run(tasks.grows, count=5)).status == "succeeded"
    assert "task fails failed: ValueError: no" in caplog.text


async def test_arguments_that_no_longer_fit_are_rejected(pool: Processes) -> None:
    """Before any process hears of them."""
    async with Core(process(tasks.double), processes=pool) as core:
        await core.ledger.open([Job(id="old", task="double", args=b'{"count":1}')])
        await core.engine.submit("old", "process")
        job = await core.ended("old")
        assert (job.status, job.reason) == ("failed", "rejected")


async def test_progress_is_seen_from_outside(pool: Processes) -> None:
    """While the job runs, and the last one at its end."""
    async with Core(process(tasks.reports), processes=pool) as core:
        job = await core.run(tasks.reports, steps=8)
        assert job.result == f'"{job.id} 1"'.encode()
        assert job.progress == Progress(8, 8, "step 8")
        seen = [e.job.progress.current for e in core.events if e.kind == "note" and e.job.progress]
        assert len(seen) > 2
        assert seen == sorted(seen)


async def test_progress_of_a_function_without_context_is_none(pool: Processes) -> None:
    """It cannot report any."""
    async with Core(process(tasks.double), processes=pool) as core:
        assert (await core.run(tasks.double, number=1)).progress is None


async def test_a_cancel_interrupts_the_function_and_its_cleanup_runs(
    pool: Processes, tmp_path: Path
) -> None:
    """In its process, also where it does not look."""
    async with Core(process(tasks.sleeps), processes=pool, grace=30) as core:
        job_id = await core.start(tasks.sleeps, path=str(tmp_path))
        await begun(tmp_path)
        assert (await core.service.cancel(job_id)).status == "running"
        job = await core.ended(job_id)
        assert (job.status, job.reason) == ("canceled", "requested")
        assert (tmp_path / "clean").exists()


async def test_the_function_sees_one_cancel(pool: Processes, tmp_path: Path) -> None:
    """However often it is asked for; the process is kept for the next job."""
    async with Core(
        process(tasks.counts_cancels), process(tasks.double), processes=pool, grace=30
    ) as core:
        job_id = await core.start(tasks.counts_cancels, path=str(tmp_path))
        await begun(tmp_path)
        for _ in range(10):
            await core.service.cancel(job_id)
            await asyncio.sleep(0.01)
        job = await core.ended(job_id)
        assert (job.status, job.result) == ("succeeded", b'"saw 1"')
        assert (await core.run(tasks.double, number=1)).status == "succeeded"


async def test_a_function_may_poll_its_flag(pool: Processes, tmp_path: Path) -> None:
    """It is set when the cancel comes."""
    async with Core(process(tasks.polls), processes=pool, grace=30) as core:
        job_id = await core.start(tasks.polls, path=str(tmp_path))
        await begun(tmp_path)
        await core.service.cancel(job_id)
        assert (await core.ended(job_id)).status == "canceled"
        assert (tmp_path / "canceled").exists()


async def test_a_timeout_interrupts_too(pool: Processes, tmp_path: Path) -> None:
    """The reason is the timeout."""
    async with Core(process(tasks.sleeps, timeout=0.3), processes=pool, grace=30) as core:
        job = await core.run(tasks.sleeps, path=str(tmp_path))
        assert (job.status, job.reason) == ("failed", "timeout")


@pytest.mark.parametrize("function", [tasks.deaf, tasks.stuck])
async def test_what_does_not_stop_is_killed_after_the_grace(
    pool: Processes, tmp_path: Path, function: Callable[..., None]
) -> None:
    """Also where no Python code can run; it is canceled when it is gone, and its place is free."""
    async with Core(process(function), process(tasks.double), processes=pool, grace=0.3) as core:
        job_id = await core.start(function, path=str(tmp_path))
        await begun(tmp_path)
        before = set(children())
        asked = time.monotonic()
        await core.service.cancel(job_id)
        job = await core.ended(job_id)
        assert (job.status, job.reason) == ("canceled", "requested")
        assert 0.3 <= time.monotonic() - asked < 1.5
        await wait_until(lambda: before - set(children()), "its process is gone")
        jobs = [await core.start(tasks.double, number=number) for number in range(4)]
        assert [(await core.ended(each)).status for each in jobs] == ["succeeded"] * 4


@pytest.mark.parametrize("status", [0, 3])
async def test_a_process_that_ends_by_itself_is_a_lost_job(pool: Processes, status: int) -> None:
    """Whatever its status; the next job has a new process."""
    async with Core(process(tasks.dies), process(tasks.double), processes=pool) as core:
        job = await core.run(tasks.dies, status=status)
        assert (job.status, job.reason) == ("failed", "lost")
        assert job.error is not None
        assert job.error.code == "ProcessDied"
        assert f"status {status}" in job.error.message
        assert (await core.run(tasks.double, number=1)).status == "succeeded"


async def test_a_killed_process_is_a_lost_job(pool: Processes) -> None:
    """As by the kernel when memory is short."""
    async with Core(process(tasks.kills_itself), processes=pool) as core:
        job = await core.run(tasks.kills_itself)
        assert (job.status, job.reason) == ("failed", "lost")


async def test_a_cancel_while_the_function_is_imported_is_truthful(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the job is called canceled none of its code runs, and none will; nor does the next job
    in its place suffer."""
    module = """
        import pathlib, time
        here = pathlib.Path(__file__).parent
        (here / "begun").touch()
        time.sleep(1.5)
        (here / "imported").touch()
        def ran():
            (here / "ran").touch()
    """
    (tmp_path / "slow_module.py").write_text(textwrap.dedent(module))
    monkeypatch.syspath_prepend(tmp_path)
    namespace: dict[str, Any] = {"__name__": "slow_module"}
    exec("def ran(): ...", namespace)  # noqa: S102 - the module itself is imported by the child
    async with Core(process(namespace["ran"]), process(tasks.double), room=1, grace=0.1) as core:
        await core.run(tasks.double, number=1)
        job_id = await core.start("ran")
        await begun(tmp_path)
        await core.service.cancel(job_id)
        assert (await core.ended(job_id)).status == "canceled"
        assert (await core.run(tasks.double, number=1)).status == "succeeded"
        await asyncio.sleep(1.6)
        assert not (tmp_path / "imported").exists()
        assert not (tmp_path / "ran").exists()


async def test_a_job_that_is_canceled_before_its_process_is_there_does_not_begin(
    tmp_path: Path,
) -> None:
    """The pool is made for the first job, and that takes a while."""
    async with Core(process(tasks.sleeps), grace=30) as core:
        job_id = await core.start(tasks.sleeps, path=str(tmp_path))
        await asyncio.sleep(0)
        await core.service.cancel(job_id)
        assert (await core.ended(job_id)).status == "canceled"
        assert not (tmp_path / "begun").exists()


async def test_a_canceled_job_whose_process_never_began_is_not_run_later(tmp_path: Path) -> None:
    """The grace may be over before the process is there."""
    async with Core(process(tasks.sleeps), process(tasks.double), room=1, grace=0.01) as core:
        job_id = await core.start(tasks.sleeps, path=str(tmp_path))
        await asyncio.sleep(0)
        await core.service.cancel(job_id)
        assert (await core.ended(job_id)).status == "canceled"
        assert (await core.run(tasks.double, number=2)).result == b"4"
        assert not (tmp_path / "begun").exists()


async def test_a_closed_pool_leaves_no_process() -> None:
    """Neither idle ones nor one that is stuck."""
    before = set(children())
    threads = Threads()
    made = Processes(2, threads)
    async with Core(process(tasks.where), processes=made) as core:
        await core.run(tasks.where)
        await core.run(tasks.where)
        assert len(set(children()) - before) == 1, "one is made when a job needs it"
        jobs = [await core.start(tasks.where) for _ in range(2)]
        assert [(await core.ended(each)).status for each in jobs] == ["succeeded"] * 2
        mine = set(children()) - before
        assert len(mine) == 2
    made.close()
    made.close()
    await wait_until(lambda: not mine & set(children()), "they are gone", 5)
    await threads.call(made.join)
    threads.close()


async def test_a_pool_that_broke_is_made_anew() -> None:
    """An idle process may die, too."""
    before = set(children())
    async with Core(process(tasks.where), room=1) as core:
        await core.run(tasks.where)
        for pid in set(children()) - before:
            os.kill(pid, signal.SIGKILL)
        pool = core.processes._places[0].pool
        await wait_until(lambda: pool is not None and not pool.active, "the pool broke")
        assert (await core.run(tasks.where)).status == "succeeded"


async def test_a_pool_that_breaks_loses_its_jobs() -> None:
    """As where a process dies before it has taken one."""
    before = set(children())
    async with Core(process(tasks.double), room=1) as core:
        job_id = await core.start(tasks.double, number=1)
        await wait_until(lambda: set(children()) - before, "the process is made")
        for pid in set(children()) - before:
            os.kill(pid, signal.SIGKILL)
        job = await core.ended(job_id)
        assert (job.status, job.reason) == ("failed", "lost")
        assert job.error is not None
        assert "the pool broke" in job.error.message
        assert (await core.run(tasks.double, number=1)).status == "succeeded"


async def test_a_pool_that_broke_before_it_was_asked_loses_its_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process may die between its start and its first job: nobody waits for ever."""

    def broken(*args: object, **options: object) -> Future[Any]:
        raise RuntimeError("Unexpected error within the Pool")

    async with Core(process(tasks.double), room=1) as core:
        monkeypatch.setattr(ProcessPool, "schedule", broken)
        job = await core.run(tasks.double, number=1)
        assert (job.status, job.reason) == ("failed", "lost")
        assert job.error is not None
        assert "never began: the pool broke" in job.error.message
        monkeypatch.undo()
        assert (await core.run(tasks.double, number=1)).status == "succeeded"


async def test_a_closed_pool_loses_what_never_began() -> None:
    """Nobody waits for its processes any more."""
    async with Core(process(tasks.double), room=1) as core:
        job_id = await core.start(tasks.double, number=1)
        await wait_until(lambda: core.processes._places[0].pool, "the pool is made")
        core.processes.close()
        assert (await core.ended(job_id)).reason == "lost"


async def test_what_happens_to_one_process_does_not_touch_another(
    pool: Processes, tmp_path: Path
) -> None:
    """They share no pipe and no lock: one that dies while others work takes only its job along."""
    async with Core(
        process(tasks.sleeps), process(tasks.kills_itself), processes=pool, grace=30
    ) as core:
        sleeper = await core.start(tasks.sleeps, path=str(tmp_path))
        await begun(tmp_path)
        for _ in range(2):
            job = await core.service.wait(await core.start(tasks.kills_itself), None)
            assert job.reason == "lost"
        assert (await core.job(sleeper)).status == "running"
        await core.service.cancel(sleeper)
        assert (await core.ended(sleeper)).status == "canceled"
        assert (tmp_path / "clean").exists()


@pytest.mark.parametrize(("began", "message"), [(False, "never began"), (True, "not answered")])
async def test_a_process_that_stays_silent_is_given_up(
    began: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever kept its answer back: no job waits for ever, and none is called lost in haste."""
    monkeypatch.setattr(processes, "SILENT", 0.5)
    slots = Slots(multiprocessing.get_context("spawn"))
    slots.slot.pid = os.getpid() if began else 0
    pool = cast("ProcessPool", type("Pool", (), {"active": True}))
    following = asyncio.create_task(_follow(pool, Future(), slots, lambda progress: None))
    if began:
        await asyncio.sleep(1)
        assert not following.done(), "its function runs: that may take as long as it likes"
        slots.slot.pid = 0
    with pytest.raises(ProcessDied, match=message):
        await following


async def test_what_a_process_says_is_in_its_log(
    pool: Processes, capfd: pytest.CaptureFixture[str]
) -> None:
    """By logging and print, in order, of each job its own; and it goes where it always went."""
    async with Heard(process(voices.says), processes=pool) as core:
        jobs = {name: await core.start(voices.says, name=name) for name in ("a", "b", "c", "d")}
        for name, job_id in jobs.items():
            job = await core.ended(job_id)
            said = await core.said(job)
            assert said[:4] == [
                ("warning", f"{name} logs"),
                ("info", f"{name} prints"),
                ("error", f"{name} has a thread"),
                ("error", "it failed"),
            ]
            assert said[4:6][0] == ("error", "Traceback (most recent call last):")
            assert said[-2:] == [("error", f"ValueError: {name}"), ("info", "no end")]
            lines = await core.store.logs(job.id, 0, 100)
            assert abs(lines[0].at - time.time()) < 60
    assert "a prints" in capfd.readouterr().out


async def test_a_process_is_not_heard_where_nobody_wants_to(pool: Processes) -> None:
    """Nothing is replaced there."""
    async with Core(process(voices.says), processes=pool) as core:
        job = await core.run(voices.says, name="a")
        assert await core.store.logs(job.id, 0, 100) == []


async def test_a_process_shows_no_secret(pool: Processes) -> None:
    """Not in its lines, however long, nor in its progress or its error."""
    async with Heard(process(voices.tells), processes=pool) as core:
        task = core.catalog["tells"]
        args = task.arguments.write({"password": Secret("hunter2-hunter2")})
        opened, _ = await core.service.start(task, args)
        job = await core.ended(opened.id)
        [(_, line)] = await core.said(job)
        assert line.startswith("it is ***")
        assert "h" not in line
        assert job.progress == Progress(1, 2, "with ***")
        assert job.error == Failure("ValueError", "***")


async def test_a_process_may_say_much(pool: Processes) -> None:
    """More than there is room for on the way: nothing is lost there, and its order is kept."""
    seen: list[str] = []
    async with Heard(process(voices.talks_much), processes=pool) as core:
        task = core.catalog["talks_much"]
        handle = core.registry.open("a", cast("asyncio.Task[None]", asyncio.current_task()))
        assert handle is not None
        function = task.function
        call = Call(function.__module__, function.__qualname__, "t", b'{"lines":3000}', "a", 1, 30)
        answer = await pool.call(
            handle, call, lambda progress: None, lambda level, text, at: seen.append(text)
        )
        core.registry.close(handle)
        assert answer.payload == b"3000"
        assert [text.split()[1] for text in seen] == [f"{number:06}" for number in range(3_000)]


async def test_a_process_that_is_killed_while_it_speaks_harms_nobody(
    pool: Processes, tmp_path: Path
) -> None:
    """Every line that came is whole; the next job is heard as always."""
    async with Heard(
        process(voices.talks_on), process(voices.says), processes=pool, grace=0.2
    ) as core:
        for attempt in range(2):
            path = tmp_path / str(attempt)
            path.mkdir()
            job_id = await core.start(voices.talks_on, path=str(path))
            await begun(path)
            await core.service.cancel(job_id)
            job = await core.ended(job_id)
            assert (job.status, job.reason) == ("canceled", "requested")
            numbers = []
            for _, text in await core.said(job):
                if text.startswith("line "):
                    numbers.append(int(text.split()[1]))
                    assert text == f"line {numbers[-1]:06} " + "." * (numbers[-1] % 200)
                else:
                    assert text.endswith("dropped: more than can be kept")
            assert len(numbers) > 100
            assert numbers == sorted(set(numbers))
        other = await core.run(voices.says, name="next")
        assert (await core.said(other))[0] == ("warning", "next logs")


async def test_the_last_words_of_a_process_are_heard(pool: Processes, tmp_path: Path) -> None:
    """Before a crash, and at a cancel."""
    async with Heard(
        process(voices.says_and_dies), process(voices.says_and_waits), processes=pool, grace=30
    ) as core:
        job = await core.run(voices.says_and_dies, message="farewell")
        assert job.reason == "lost"
        assert await core.said(job) == [("info", "farewell")]
        job_id = await core.start(voices.says_and_waits, path=str(tmp_path))
        await begun(tmp_path)
        await wait_until(lambda: core.said(job_id), "it is heard while it runs")
        await core.service.cancel(job_id)
        job = await core.ended(job_id)
        assert [text for _, text in await core.said(job)] == ["waiting", "cleaned up"]


@pytest.mark.parametrize(("pids", "killed"), [((0,), []), ((7, 0, 0), [7])])
def test_a_signal_never_goes_to_everybody(
    pids: tuple[int, ...], killed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function may end, and set its pid to 0, between two looks at it; 0 is all of our group."""

    class Slot:
        stop = 0
        looks = iter(pids)

        @property
        def pid(self) -> int:
            return next(self.looks)

    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(pid))
    slot = Slot()
    _signal(slot, ASKED)
    assert (slot.stop, sent) == (ASKED, killed)


def test_a_signal_to_a_process_that_has_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It died a moment ago; the pool will say so."""

    class Slot:
        pid, stop = 7, 0

    def gone(pid: int, number: int) -> None:
        raise ProcessLookupError(pid)

    monkeypatch.setattr(os, "kill", gone)
    _signal(Slot(), ASKED)


async def test_a_process_that_outlives_the_loop_tells_nobody() -> None:
    """Its end is no error then."""
    loop = asyncio.new_event_loop()
    loop.close()
    ended = asyncio.Event()
    _tell(loop, ended)
    assert not ended.is_set()


async def test_processes_are_spawned(pool: Processes) -> None:
    """A forked child would hide its parent's death, and keep its locks and connections."""
    for child in multiprocessing.active_children():
        assert type(child).__name__ == "SpawnProcess"


PARENT = """
    import asyncio, sys

    async def main(path, name):
        from quart_app.domain.tasks import Task
        from tests.core import process_tasks
        from tests.core.support import Core
        async with Core(Task(getattr(process_tasks, name), run="process"), room=1) as core:
            await core.start(name, path=path)
            await asyncio.sleep(60)

    if __name__ == "__main__":
        asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("name", ["sleeps", "stuck"])
def test_processes_end_with_their_parent(tmp_path: Path, name: str) -> None:
    """Killed with -9 it can stop nobody, so they see to it themselves: within a second."""
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    parent = subprocess.Popen(
        [sys.executable, script, tmp_path, name], env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "begun").exists():
            assert parent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        threads = Path(f"/proc/{parent.pid}/task").iterdir()
        pids = " ".join((thread / "children").read_text() for thread in threads).split()
        assert len(pids) >= 1
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 1
    while any(running(pid) for pid in pids):
        assert time.monotonic() < deadline, "they outlive their parent"
        time.sleep(0.01)


def running(pid: str) -> bool:
    """Whether a process is there, and not only waited for: a dead one has no program."""
    return Path(f"/proc/{pid}/exe").exists()
