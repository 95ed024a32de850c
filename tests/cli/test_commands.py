"""Each command against a real server: what it prints where, and its exit status."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import subprocess
import sys

import pytest
from click.testing import Result

from quart_app.cli import COMMANDS
from quart_app.cli.remote import Remote
from quart_app.client.documents import WorkerDocument, WorkerList
from tests.cli.conftest import Run, invoke, records
from tests.e2e.conftest import ROOT, Server

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

NOWHERE = "http://127.0.0.1:1"


def one_sentence(result: Result, status: int) -> str:
    """What is said when it cannot be done: one line, and nothing on the standard output."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("quart-app: ")
    return line


def test_start_prints_the_id_and_nothing_else(run: Run, server: Server) -> None:
    """An accepted start is 0."""
    started = run("start", "nap", "seconds=0")
    assert (started.exit_code, started.stderr) == (0, "")
    assert server.until(started.stdout.strip(), "succeeded")["args"] == {"seconds": 0}


def test_start_converts_by_the_schema(run: Run) -> None:
    """Numbers, booleans, JSON for lists and objects, and texts as they are."""
    words = ["month=3", "ratio=1", "paid=yes", 'names=["a"]', 'extra={"b": [1]}', "text=7"]
    result = run("start", "typed", *words, "--wait")
    assert json.loads(result.stdout) == [3, 1.0, True, ["a"], {"b": [1]}, "7"]
    assert run("start", "typed", "month=3", "names=null", "--wait").exit_code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["month=three"], "month must be a whole number, not 'three'"),
        (["month=3", "paid=perhaps"], "paid must be true or false, not 'perhaps'"),
        (["month=3", "names=a,b"], "names must be null or a JSON array"),
        (["mnth=3"], "typed has no argument 'mnth': did you mean month?"),
        (["month"], "'month' is no argument: write NAME=VALUE"),
        (["month=3", "month=4"], "month is given twice"),
        (["ratio=1"], "month: This argument is required"),
        (["--json", '{"month": "x"}'], "month: "),
        (["--json", "{"], "--json is not JSON"),
        (["--json", "3"], "--json is an object of arguments"),
        (["month=3", "--in", "soon"], "is no duration"),
        (["month=3", "--at", "soon"], "is no moment"),
        (["month=3", "--in", "1m", "--at", "18:30"], "Give delay or run_at, not both"),
        (["month=3", "--key", "ä"], "key is 1 to 255 printable ASCII characters"),
    ],
)
def test_a_wrong_argument_is_named(run: Run, words: list[str], says: str) -> None:
    """In one sentence; nothing is started."""
    assert says in one_sentence(run("start", "typed", *words), 2)


def test_what_does_not_fit_leads_to_its_task(run: Run) -> None:
    """The hint can be typed as it stands."""
    said = one_sentence(run("start", "typed", "--json", '{"month": "x"}'), 2)
    assert said.endswith("(see 'quart-app tasks typed')")


def test_start_takes_json(run: Run) -> None:
    """From the command line, from the standard input, and many at once."""
    assert json.loads(run("start", "typed", "--json", '{"month": 3}', "--wait").stdout)[0] == 3
    one = run("start", "typed", "--json", "-", "month=4", "--wait", input='{"text": "x"}')
    assert json.loads(one.stdout) == [4, 0.5, False, None, None, "x"]
    many = run("start", "nap", "--json", '[{"seconds": 0}, {"seconds": 0.1}]')
    assert len(many.stdout.splitlines()) == 2
    waited = run("start", "nap", "--json", '[{"seconds": 0}, {"seconds": 0.1}]', "--wait")
    assert [line.split()[1] for line in waited.stdout.splitlines()] == ["succeeded"] * 2


def test_start_keeps_large_numbers(run: Run) -> None:
    """JSON has no limit, and neither has the command line."""
    result = run("start", "says", "text=1e400", "--wait")
    assert result.stdout == '"1e400"\n'


def test_start_with_a_key_starts_once(run: Run) -> None:
    """And another payload is refused."""
    words = ["start", "nap", "--key", "march"]
    assert run(*words, "seconds=0").stdout == run(*words, "seconds=0").stdout
    assert "give another --key" in one_sentence(run(*words, "seconds=1"), 2)


def test_start_later(run: Run, server: Server) -> None:
    """`--in`, `--at`, `--expires`, `--priority`."""
    job_id = run("start", "noop", "--in", "1h30m", "--expires", "2h", "--priority", "7").stdout
    job = server.job(job_id.strip())
    assert (job["status"], "expires" in job) == ("scheduled", True)
    at = run("start", "noop", "--at", "2030-01-31T08:00:00Z").stdout.strip()
    assert server.job(at)["run_at"] == "2030-01-31T08:00:00.000Z"
    canceled = run("cancel", job_id.strip(), at)
    assert canceled.stdout == f"{job_id.strip()} canceled\n{at} canceled\n"


def test_the_exit_status_follows_the_job(run: Run, server: Server) -> None:
    """0, 1, 130, 3."""
    assert run("start", "nap", "seconds=0", "--wait").exit_code == 0
    failed = run("start", "fails", "--wait")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "ValueError: no such file" in failed.stderr
    failed_id = failed.stderr.split()[1]
    long = run("start", "nap", "seconds=60").stdout.strip()
    server.until(long, "running")
    assert run("status", long).exit_code == 3
    unfinished = run("result", long)
    assert (unfinished.exit_code, unfinished.stdout) == (3, "")
    assert run("result", long, "--wait", "0.2").exit_code == 3
    assert run("cancel", long).exit_code == 0
    assert run("watch", long).exit_code == 130
    assert run("result", long).exit_code == 130
    assert run("result", failed_id).exit_code == 1
    assert run("status", long, failed_id).exit_code == 1
    assert run("log", "-f", failed_id).exit_code == 1


def test_watch_of_several_tells_how_each_ended(run: Run) -> None:
    """On the standard output, when that is a file; the way there is talk."""
    ids = [run("start", "steps", "count=3").stdout.strip() for _ in range(2)]
    watched = run("watch", *ids)
    assert sorted(watched.stdout.splitlines()) == sorted(f"{each} succeeded 3" for each in ids)
    assert "steps running" in watched.stderr
    versions = records(run("watch", "--json", ids[0]))
    assert versions[-1]["status"] == "succeeded"
    assert versions[-1]["result"] == 3


def test_status_and_result(run: Run, server: Server) -> None:
    """For people, and as the service has written it."""
    job_id = server.start("typed", month=3, text="ü")
    job = server.until(job_id, "succeeded")
    assert job_id in run("status", job_id).stdout
    [shown] = records(run("status", job_id, "--json"))
    assert shown == job
    assert json.loads(run("result", job_id).stdout) == job["result"]


def test_log(run: Run, server: Server) -> None:
    """All lines, and those that come."""
    job_id = server.start("steps", count=3)
    followed = run("log", "-f", job_id)
    assert [line.split()[-1] for line in followed.stdout.splitlines()] == ["1", "2", "3"]
    assert [each["text"] for each in records(run("log", job_id, "--json"))] == [
        "line 1", "line 2", "line 3",
    ]  # fmt: skip
    assert run("log", job_id, "--raw").stdout == "line 1\nline 2\nline 3\n"


def test_list(run: Run, server: Server) -> None:
    """Filters of every kind, in each format."""
    wanted = server.start("typed", month=11, text="needle in hay")
    failed = server.start("fails", message="Timeout of the test")
    server.until(wanted, "succeeded")
    server.until(failed, "failed")
    for words in (
        ["args.month:11"], ["task:typed", "status:succeeded", 'args.text:"needle in hay"'],
        ["needle"], ["args.month:11", "since:1h", "<1h"], ['"needle in"'],
    ):  # fmt: skip
        found = records(run("list", *words, "--json"))
        assert [each["id"] for each in found] == [wanted]
    assert records(run("list", "args.text:needle", "--json")) == []
    assert [each["id"] for each in records(run("list", "error:timeout", "--json"))] == [failed]
    table = run("list", "args.month:11")
    assert table.stdout.split()[:6] == ["ID", "TASK", "STATUS", "CREATED", "TOOK", "WHAT"]
    rows = list(csv.DictReader(io.StringIO(run("list", "args.month:11", "--csv").stdout)))
    assert json.loads(rows[0]["args"])["month"] == 11
    assert len(records(run("list", "--limit", "1", "--json"))) == 1
    assert "there are more" in run("list", "--limit", "1").stderr
    assert run("list", "task:typed", "args.month:99").stderr == "no job matches\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["taks:typed"], "there is no filter 'taks'; did you mean task:"),
        (["status:done"], "status is one of scheduled, queued"),
        ([">soon"], "is no duration"),
        (['error:"x'], "a quote has no end"),
        (["task:"], "task: has no value"),
        (["since:soon"], "since is a duration back from now"),
        (["task:a", "task:b"], "task is given twice"),
    ],
)
def test_a_wrong_filter_is_named(run: Run, words: list[str], says: str) -> None:
    """In one sentence."""
    assert says in one_sentence(run("list", *words), 2)


def test_cancel_and_retry_all_that_match(run: Run, server: Server) -> None:
    """Counted first; not without a yes."""
    ids = [server.start("nap", seconds=61.5) for _ in range(3)]
    match = ["--match", "task:nap args.seconds:61.5"]
    assert run("cancel", *match, "--dry-run").stdout == "3\n"
    assert "3 jobs matched: --yes does it" in one_sentence(run("cancel", *match), 2)
    assert run("cancel", *match, "--yes").exit_code == 0
    for each in ids:
        server.until(each, "canceled")
    assert run("retry", *match, "--dry-run").stdout == "3\n"
    again = run("retry", *match, "--yes").stdout.splitlines()
    assert {server.job(each)["retry_of"] for each in again} == set(ids)
    assert run("cancel", *again).exit_code == 0
    [retried] = run("retry", server.start("noop")).stdout.splitlines() or [""]
    assert server.until(retried, "succeeded")


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_many_need_a_filter(run: Run, verb: str) -> None:
    """Neither nothing nor everything is meant by accident."""
    assert "give ids or --match" in one_sentence(run(verb), 2)
    assert "give ids or --match" in one_sentence(run(verb, "x", "--match", "task:nap"), 2)
    assert "--match is empty" in one_sentence(run(verb, "--match", " "), 2)
    assert "--dry-run goes with" in one_sentence(run(verb, "x", "--dry-run"), 2)


def test_pause_and_resume(run: Run, server: Server) -> None:
    """A task, and a schedule by its task."""
    assert "is paused" in run("pause", "hourly").stderr
    assert "paused" in run("tasks").stdout
    [schedule] = records(run("schedule", "ls", "--json"))
    assert (schedule["task"], schedule["paused"]) == ("hourly", True)
    assert run("schedule", "resume", "hourly").exit_code == 0
    assert "every hour" in run("schedule", "ls").stdout
    job_id = run("schedule", "run", "hourly").stdout.strip()
    assert server.until(job_id, "succeeded")["result"] == "on the hour"


def test_a_task_without_a_schedule_is_not_suggested_for_itself(run: Run) -> None:
    """It is there; what it lacks is said."""
    said = one_sentence(run("schedule", "run", "noop"), 2)
    assert "'noop' has no schedule" in said
    assert "did you mean" not in said


def test_tasks(run: Run) -> None:
    """All, and one with its arguments."""
    assert "Come on step by step, and say so." in run("tasks").stdout
    one = run("tasks", "typed").stdout
    assert "month" in one
    assert "needed" in one
    assert "array or null" in one
    values = run("tasks", "paints").stdout
    assert '"green" or "red"' in values
    assert '1 or "none" or null' in values
    assert records(run("tasks", "typed", "--json"))[0]["name"] == "typed"


def test_errors_and_workers(run: Run, server: Server) -> None:
    """Kinds of errors, and processes."""
    server.until(server.start("fails", message="for the groups"), "failed")
    assert "ValueError: for the groups" in run("errors").stdout
    groups = records(run("errors", "--json", "--task", "fails"))
    assert groups[0]["count"] >= 1
    [worker] = records(run("workers", "--json"))
    assert worker["pid"] == server.process.pid
    shown = run("workers").stdout
    assert "web" in shown
    assert f"0 of {worker['room']} " in shown
    assert "all tasks" in shown


def test_a_process_that_runs_no_jobs_is_shown_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """QUART_APP_WORK=off: it has no room for any."""
    found = WorkerList([WorkerDocument(id="w", kind="web", started_at=dt.datetime.now(dt.UTC))])
    monkeypatch.setattr(Remote, "ask", lambda *_: found)
    shown = invoke("workers").stdout
    assert shown.splitlines()[1].split()[-1] == "none"
    assert "all tasks" not in shown


def test_bench(run: Run) -> None:
    """Rates, of jobs that have really ended."""
    [figures] = records(run("bench", "--task", "noop", "--jobs", "40", "--json"))
    assert figures["statuses"] == {"succeeded": 40}
    assert figures["starts_per_second"] > 1
    assert "start->end" in run("bench", "--jobs", "3", "--task", "nap", "seconds=0").stdout
    assert "--task" in one_sentence(run("bench"), 2)


def test_top_once(run: Run, server: Server) -> None:
    """One frame; nothing in it is for a terminal."""
    job_id = server.start("noop")
    server.until(job_id, "succeeded")
    shown = run("top", "--once", "task:noop").stdout
    assert job_id in shown
    assert "\x1b" not in shown
    assert "--once prints" in one_sentence(run("top"), 2)


def test_unknown_names_are_answered_with_near_ones(run: Run) -> None:
    """Tasks, jobs, commands, options."""
    assert "did you mean steps" in one_sentence(run("start", "stps"), 2)
    assert "'quart-app list' shows" in one_sentence(run("status", "nothing"), 2)
    assert "did you mean start?" in one_sentence(run("strt"), 2)
    assert "see 'quart-app start --help'" in one_sentence(run("start", "nap", "--nope"), 2)
    assert "neither an id nor a name" in one_sentence(run("status", ".."), 2)


@pytest.mark.parametrize(
    "words",
    [
        ["start", "nap", "seconds=1"], ["start", "noop"], ["watch", "x"], ["status", "x"],
        ["result", "x"], ["result", "x", "--wait", "1"], ["log", "x"], ["log", "-f", "x"], ["list"],
        ["cancel", "x"], ["cancel", "--match", "task:x", "--yes"], ["retry", "x"], ["pause", "x"],
        ["resume", "x"], ["schedule", "ls"], ["schedule", "run", "x"], ["tasks"], ["errors"],
        ["workers"], ["top", "--once"], ["bench", "--task", "x"],
    ],
)  # fmt: skip
def test_a_service_that_is_not_there_is_69(words: list[str]) -> None:
    """At once, and the sentence says how to start it."""
    said = one_sentence_of_many(invoke(*words, "--url", NOWHERE))
    assert "start it with 'quart-app serve'" in said


def one_sentence_of_many(result: Result) -> str:
    """The last line, after other talk."""
    assert (result.exit_code, result.stdout) == (69, "")
    return str(result.stderr.splitlines()[-1])


def test_what_is_no_service_is_said(server: Server) -> None:
    """A wrong prefix, a wrong URL, a wrong header."""
    wrong = one_sentence(invoke("list", "--url", f"{server.url}/nowhere"), 69)
    assert "the prefix under which it is mounted" in wrong
    assert "--url" in one_sentence(invoke("list", "--url", "ftp://x"), 2)
    early = one_sentence(invoke("--url", server.url, "list"), 2)
    assert "'--url': options stand after the command" in early
    assert "is no header" in one_sentence(invoke("list", "--header", "x"), 2)


def test_patience_waits_for_a_service(server: Server) -> None:
    """A header is sent, and a busy service asked again; here there is none to wait for."""
    result = invoke("tasks", "--url", server.url, "--header", "X-A: b", "--patience", "5")
    assert result.exit_code == 0


def test_every_command_has_help() -> None:
    """And the table names what is there."""
    for name in COMMANDS:
        assert invoke(name, "--help").exit_code == 0


def test_help_is_quick() -> None:
    """Neither help nor the table imports the HTTP client, nor a command's module."""
    code = (
        "import sys, quart_app\nbefore = set(sys.modules)\n"
        "from quart_app.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new & {'httpx2', 'quart', 'hypercorn', 'rich', 'asyncpg', 'redis'}))\n"
        "print(sorted(n for n in sys.modules if n.startswith('quart_app.cli.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    *_, packages, modules = done.stdout.splitlines()
    assert packages == "[]"
    assert modules == "['quart_app.cli.ends', 'quart_app.cli.safe']"
