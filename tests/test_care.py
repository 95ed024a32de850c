"""``quart-app backup`` and ``check``: the file is looked after while a service uses it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from quart_app import cli
from quart_app.checks.making import step
from quart_app.domain.ids import new_id
from quart_app.domain.jobs import Change, Job
from quart_app.domain.status import Move
from quart_app.stores.sqlite import care
from quart_app.stores.sqlite.store import SQLiteStore

JOBS = 50


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with some jobs, one of them over and one with a step, that nobody works with."""
    path = tmp_path / "jobs.db"
    asyncio.run(fill(path))
    return path


async def fill(path: Path) -> None:
    """Make it."""
    store = SQLiteStore(path)
    await store.open()
    await put(store)
    await store.close()


async def put(store: SQLiteStore) -> None:
    """Add the jobs."""
    jobs = [Job(id=new_id(), task="t") for _ in range(JOBS)]
    await store.add(jobs, 1_000)
    for job in jobs[:2]:
        await store.move(job.id, Change(Move.CLAIM, 1.0))
        await store.keep_step(job.id, "a", step(1, b"1"))
    await store.move(jobs[0].id, Change(Move.SUCCEED, 2.0, result=b"1"))


def call(*args: str, store: Path | None = None) -> Result:
    """Run the command."""
    environ = {} if store is None else {"QUART_APP_STORE": f"sqlite:///{store}"}
    return CliRunner().invoke(cli.main, list(args), env=environ)


async def test_a_backup_is_whole_while_a_service_writes(tmp_path: Path) -> None:
    """It has what was acknowledged before, also what is only in the write-ahead log."""
    store = SQLiteStore(tmp_path / "jobs.db")
    await store.open()
    try:
        await put(store)
        copied = await asyncio.to_thread(care.backup, tmp_path / "jobs.db", tmp_path / "copy.db")
        await put(store)
    finally:
        await store.close()
    assert copied == JOBS
    restored = SQLiteStore(tmp_path / "copy.db")
    await restored.open()
    try:
        counts = await restored.counts()
    finally:
        await restored.close()
    assert (counts["succeeded"], counts["running"], counts["queued"]) == (1, 1, JOBS - 2)


def test_a_copy_of_the_file_alone_is_no_backup(tmp_path: Path) -> None:
    """Why the command is there: what is in the log would be missing, and `check` says so."""

    async def copy() -> None:
        store = SQLiteStore(tmp_path / "jobs.db")
        await store.open()
        await put(store)
        await asyncio.to_thread(shutil.copy, tmp_path / "jobs.db", tmp_path / "copy.db")
        await store.close()

    asyncio.run(copy())
    result = call("check", store=tmp_path / "copy.db")
    assert result.exit_code == 1


def test_the_command_copies_and_says_how_much(path: Path, tmp_path: Path) -> None:
    """One file, complete once it is there."""
    result = call("backup", str(tmp_path / "copy.db"), store=path)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'copy.db'}: {JOBS} jobs\n")
    assert sorted(each.name for each in tmp_path.glob("copy*")) == ["copy.db"]
    assert care.check(tmp_path / "copy.db").problems == []


def test_a_backup_overwrites_nothing(path: Path, tmp_path: Path) -> None:
    """It would be the last good one."""
    (tmp_path / "copy.db").write_text("the last good one")
    result = call("backup", str(tmp_path / "copy.db"), store=path)
    assert result.exit_code == 1
    assert "is there already: name a new file" in result.stderr
    assert (tmp_path / "copy.db").read_text() == "the last good one"


def test_a_backup_that_cannot_be_made_leaves_nothing(path: Path, tmp_path: Path) -> None:
    """As where the folder is not there."""
    result = call("backup", str(tmp_path / "no" / "copy.db"), store=path)
    assert result.exit_code == 1
    assert "cannot be copied" in result.stderr
    assert list(tmp_path.glob("**/*.part")) == []


def test_a_sound_file_is_called_sound(path: Path) -> None:
    """With what is in it, and that nobody works with it."""
    result = call("check", store=path)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "owner: none" in lines
    assert f"queued: {JOBS - 2}" in lines
    assert lines[-1] == "sound"


@pytest.mark.parametrize("store", ["jobs.db", "sqlite:///", "memory", "redis://me:secret@host/0"])
@pytest.mark.parametrize(
    "words", [["check"], ["backup", "copy.db"]], ids=lambda words: str(words[0])
)
def test_an_option_that_is_no_file_is_a_mistake_in_the_line(words: list[str], store: str) -> None:
    """The sentence names the option, and no password; the environment is not blamed."""
    result = call(*words, "--store", store)
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("quart-app: --store is '")
    assert line.endswith("it has to be sqlite:///FILE")
    assert "secret" not in line


async def test_a_file_in_use_names_its_owner(tmp_path: Path) -> None:
    """And is checked all the same."""
    store = SQLiteStore(tmp_path / "jobs.db")
    await store.open()
    try:
        await put(store)
        report = await asyncio.to_thread(care.check, tmp_path / "jobs.db")
    finally:
        await store.close()
    assert report.problems == []
    assert report.owner is not None
    assert report.owner.startswith("process ")
    assert report.log_bytes > 0


def test_scripts_get_one_object(path: Path) -> None:
    """With ``--json``, of the file that ``--store`` names."""
    result = call("check", "--json", "--store", f"sqlite:///{path}")
    report = json.loads(result.stdout)
    assert (report["path"], report["problems"]) == (str(path), [])
    assert report["jobs"]["succeeded"] == 1


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE counts SET jobs = 7 WHERE status = 'queued'", "7 queued jobs are counted, and 48"),
        ("UPDATE task_counts SET queued = 7", "the jobs of task 't' are not counted right"),
        ("INSERT INTO logs VALUES (999, 1, 1, 1.0, 'info', 'x')", "1 lines of logs belong to no"),
        ("UPDATE heads SET place = 3", "a number that was not given out yet"),
        ("DELETE FROM jobs WHERE status = 'running'", "1 steps belong to no job"),
        ("PRAGMA user_version = 9", "the schema has version 9"),
    ],
)
def test_what_does_not_agree_is_named(path: Path, damage: str, found: str) -> None:
    """The exit status is 1, for those who watch."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(damage)
    connection.close()
    result = call("check", store=path)
    assert result.exit_code == 1
    assert found in result.stdout
    assert "problem" in result.stdout.splitlines()[-1]


def test_a_damaged_page_is_found(path: Path) -> None:
    """Every page is read."""
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 2, len(content), 512):
        content[place : place + 64] = b"\xff" * 64
    path.write_bytes(content)
    result = call("check", store=path)
    assert result.exit_code == 1
    assert "PROBLEM: " in result.stdout


@pytest.mark.parametrize("command", [["check"], ["backup", "copy.db"]])
def test_what_is_no_database_of_ours_is_refused(tmp_path: Path, command: list[str]) -> None:
    """Not there, no database, another program's, or jobs in memory: in one sentence."""
    other, text = tmp_path / "other.db", tmp_path / "text.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    text.write_text("no database at all, but long enough to be looked at" * 20)
    for path, words in {
        tmp_path / "nothing.db": "there is no file",
        text: "it is no SQLite database",
        other: "a database of another program",
    }.items():
        result = call(*command, store=path)
        assert result.exit_code == 1
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1
    result = CliRunner().invoke(cli.main, command, env={"QUART_APP_STORE": "memory"})
    assert result.exit_code == 1
    assert "QUART_APP_STORE='memory' (from environment)" in result.stderr
    assert "sqlite:///FILE" in result.stderr
