"""The benchmarks keep working, and what they write about their figures is true.

What they measure is not tested here: figures belong to a machine and a moment.
"""

from __future__ import annotations

import asyncio
import doctest
import importlib
import logging
from types import ModuleType
from xml.etree import ElementTree

import msgspec
import pytest
from quart import Quart

import benchmarks.__main__ as command
from benchmarks import dashboard, figures, latency, load, memory, overhead, plot, report, servers
from benchmarks.figures import Row, Section, Target, row
from benchmarks.tasks import NO_LIMITS, noop, sleeper
from quart_app import create_app

MET = row("fast", "jobs/s", [90.0, 200.0], "peer", [100.0, 200.0], Target(least=0.5))
MISSED = row("a|b", "bytes", [5000.0], target=Target(most=4096, of_figure=True))
PLAIN = row("slow", "us", [3.0], "peer", [2.0])
SECTION = Section(name="some", title="Some figures", rows=[MET, MISSED, PLAIN], notes=["A note."])
CURVES = {
    "POST /start, median": [(0.0, 1200.0), (1e3, 1210.0), (1e5, 1300.0)],
    "POST /start, p99": [(0.0, 2900.0), (1e3, 3700.0), (1e5, 2600.0)],
    "await start() <&>, median": [(0.0, 15.5), (1e3, 17.0), (1e5, 22.0)],
}


@pytest.fixture
def results() -> report.Results:
    return report.Results(setting=report.setting(), sections=[SECTION])


@pytest.mark.parametrize("module", [dashboard, figures, load, plot, report])
def test_examples_in_the_docstrings_run(module: ModuleType) -> None:
    """Each example gives what it says."""
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """A slow minute of the machine, that both sides had, does not move the ratio."""
    slow_second_round = row("x", "jobs/s", [50.0, 5.0, 60.0], "peer", [100.0, 10.0, 80.0])
    assert slow_second_round.ratio == 0.5
    assert (slow_second_round.lowest, slow_second_round.highest) == (0.5, 0.75)
    assert (slow_second_round.figure, slow_second_round.peer_figure) == (50.0, 80.0)


def test_rounds_must_have_been_taken_in_pairs() -> None:
    """A round without its peer is an error and is not left out silently."""
    with pytest.raises(ValueError, match="shorter"):
        row("x", "jobs/s", [1.0, 2.0], "peer", [1.0])


@pytest.mark.parametrize(
    ("target", "figure", "ratio", "met"),
    [
        (Target(least=0.85), 1.0, 0.85, True),
        (Target(least=0.85), 1.0, 0.849, False),
        (Target(most=2.0), 9.0, 2.0, True),
        (Target(most=2.0), 1.0, 2.001, False),
        (Target(most=4096, of_figure=True), 4096.0, 9.0, True),
        (Target(most=4096, of_figure=True), 4097.0, 0.1, False),
        (Target(least=0.85), 1.0, None, False),
        (Target(most=2.0), 1.0, float("nan"), False),
    ],
)
def test_target_is_met_at_its_bound_and_not_past_it(
    target: Target, figure: float, ratio: float | None, met: bool
) -> None:
    """A figure that is not there meets nothing."""
    assert Row(what="x", unit="us", figure=figure, ratio=ratio, target=target).met is met


def test_verdict_names_every_missed_target_and_no_other() -> None:
    """Nobody has to search the tables for a NO."""
    first, *missed = report.verdict([SECTION]).splitlines()
    assert first == "1 of 2 targets met."
    assert missed == ["MISSED: a|b: 5,000, target figure <= 4,096"]


def test_table_says_everything_of_every_row() -> None:
    """Figure, peer, ratio, spread, target, met: in columns that stand under their headings."""
    title, head, rule, *lines, note = report.table(SECTION).splitlines()
    assert (title, note) == ("Some figures", "A note.")
    assert set(rule) == {"-"}
    assert len(lines) == 3
    for text in ("145", "peer", "150", "0.95", "0.90-1.00", ">= 0.5", "yes"):
        assert text in lines[0]
    assert lines[0].index("145") == head.index("figure")
    assert lines[1].endswith("NO")
    assert not lines[2].endswith(("yes", "NO"))


def test_page_changes_only_between_its_markers(results: report.Results) -> None:
    """Writing the page twice gives the page that writing it once gives."""
    page = f"# Before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.between_markers(page, report.markdown(results))
    assert once.startswith("# Before\n")
    assert once.endswith("\nafter\n")
    assert "old" not in once
    assert "| a\\|b | bytes | 5,000 |" in once
    assert report.between_markers(once, report.markdown(results)) == once
    with pytest.raises(ValueError, match="the page has no"):
        report.between_markers("# Before", "text")


def test_documentation_has_the_page_with_markers_and_plot() -> None:
    """A run of all benchmarks finds where to write."""
    page = command.PAGE.read_text()
    assert report.between_markers(page, "text") != page
    assert f"]({command.PLOT.name})" in page


def test_json_is_the_results_with_rounded_figures(results: report.Results) -> None:
    """It can be read back; it tells the versions, and of the machine only what a reader needs."""
    read = msgspec.json.decode(report.as_json(results), type=report.Results)
    assert read.setting == results.setting
    assert [each.what for each in read.sections[0].rows] == ["fast", "a|b", "slow"]
    assert read.sections[0].rows[0].ratio == 0.95
    assert set(read.setting.__struct_fields__) == {
        "date",
        "python",
        "system",
        "cores",
        "load_generator",
        "libraries",
    }
    third = msgspec.structs.replace(PLAIN, figure=1 / 3)
    section = msgspec.structs.replace(SECTION, rows=[third])
    rounded = report.as_json(msgspec.structs.replace(results, sections=[section]))
    assert msgspec.json.decode(rounded, type=report.Results).sections[0].rows[0].figure == 0.3333


def test_plot_is_well_formed_and_shows_every_point() -> None:
    """One circle a point, inside the picture, with its value to be read."""
    root = ElementTree.fromstring(plot.svg(CURVES))  # noqa: S314 - we have just written it
    space = "{http://www.w3.org/2000/svg}"
    circles = list(root.iter(f"{space}circle"))
    tips = [tip.text for circle in circles for tip in circle]
    assert len(circles) == sum(len(points) for points in CURVES.values())
    assert "p99, 100,000 asleep: 2,600.0 us" in tips
    for circle in circles:
        assert plot.LEFT <= float(circle.attrib["cx"]) <= plot.RIGHT
        assert plot.TOP <= float(circle.attrib["cy"]) <= plot.BOTTOM
    assert len(list(root.iter(f"{space}g"))) == 2
    texts = [each.text for each in root.iter(f"{space}text")]
    assert texts.count("100,000") == 2
    assert "await start() <&>, microseconds" in texts


def test_plot_puts_more_higher_and_later_to_the_right() -> None:
    """Nobody asleep stands left of a thousand; a logarithm has no place for zero."""
    counts = [0, 1_000, 10_000, 100_000]
    places = [plot.across(count, 100_000) for count in counts]
    assert places == sorted(places)
    assert places[3] - places[2] == pytest.approx(places[2] - places[1])
    assert plot.up(10, 100) > plot.up(20, 100)


def test_labels_of_close_lines_do_not_overlap() -> None:
    """Two lines that end at the same height have their names one above the other."""
    same = {"x, median": [(0.0, 5.0), (1e5, 5.0)], "x, p95": [(0.0, 5.0), (1e5, 5.0)]}
    root = ElementTree.fromstring(plot.svg(same))  # noqa: S314 - we have just written it
    texts = root.iter("{http://www.w3.org/2000/svg}text")
    names = {each.text: float(each.attrib["y"]) for each in texts}
    assert names["median"] - names["p95"] >= 12


def test_every_name_is_a_benchmark() -> None:
    """`python -m benchmarks NAME` finds its module for each name that it offers."""
    for name in command.NAMES:
        assert callable(importlib.import_module(f"benchmarks.{name}").run)


def test_unknown_name_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """A slip costs no seven minutes."""
    assert command.main(["overhead", "latencies"]) == 2
    assert "no benchmark 'latencies'" in capsys.readouterr().out


def test_missed_target_is_said_and_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is 0: it is a report. Nothing is written but by a run of all."""
    monkeypatch.setattr(overhead, "run", lambda: SECTION)
    monkeypatch.setattr(command, "write", lambda results: pytest.fail("written"))
    assert command.main(["overhead"]) == 0
    assert "MISSED: a|b" in capsys.readouterr().out


@pytest.mark.parametrize(
    "app", [servers.bare, servers.reading, servers.telling, servers.ours, servers.keeping]
)
async def test_every_app_under_load_answers_alike(app: Quart) -> None:
    """The peers do what ours does: 202 to the same request."""
    async with app.test_app() as serving:
        response = await serving.test_client().post("/start/noop", json={})
        assert response.status_code == 202


@pytest.mark.slow
async def test_no_op_jobs_are_counted_beside_their_peers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of the three has one positive figure a round, and each of our jobs has succeeded."""
    monkeypatch.setattr(overhead, "BATCHES", {50: 2})
    measured = await overhead.measure(rounds=1)
    assert sorted(measured) == ["aiojobs 50", "create_task 50", "ours 50"]
    assert all(len(each) == 1 and min(each) > 0 for each in measured.values())


@pytest.mark.slow
async def test_latency_and_memory_are_measured_while_jobs_sleep(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Against an app that really serves, with a few jobs for a hundred thousand."""
    caplog.set_level(logging.ERROR)
    app = create_app([noop, sleeper], **NO_LIMITS)
    async with app.test_app():
        measured = await latency.in_python(app, sleeping=0, starts=20)
        assert 0 < measured["median"] <= measured["p95"] <= measured["p99"]
        assert await memory.of_ours(app, 200, "rss") >= 0


async def test_clients_count_wrong_answers() -> None:
    """A benchmark of refusals cannot pass for a fast server."""
    server = await asyncio.start_server(_refuse_every_second, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        call = load.Call("POST", "/start/noop", 202, b"{}")
        counted = await load.closed_loops(port, call, 0.05)
        assert 0 < counted.failed < counted.requests

        def ask_twice() -> bytes:
            with load.Connection(port) as connection:
                assert connection.ask(call) == b"yes"
                return connection.ask(call)

        with pytest.raises(RuntimeError, match=r"POST /start/noop answered 503: b'no'"):
            await asyncio.to_thread(ask_twice)


async def _refuse_every_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            for answer in (
                b"202 \r\nContent-Length: 3\r\n\r\nyes",
                b"503 \r\nContent-Length: 2\r\n\r\nno",
            ):
                await reader.readuntil(b"\r\n\r\n{}")
                writer.write(b"HTTP/1.1 " + answer)
    except asyncio.IncompleteReadError:
        writer.close()
