"""`csv_profile`: its figures against a plain reference, its limits, its memory."""

from __future__ import annotations

import asyncio
import csv
import io
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quart_app import demo, demo_csv
from quart_app.demo_csv import ColumnProfile, Distinct, InvalidCSV
from quart_app.testing import wait_until
from tests.demo_support import Watched, failure, run
from tests.http.support import serving

Profile = Callable[..., demo.CSVProfile]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that the operator allows."""
    monkeypatch.setenv("QUART_APP_DEMO_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def profile(root: Path) -> Profile:
    """The plain function, for a file of these bytes or this text."""

    def call(content: str | bytes, **args: Any) -> demo.CSVProfile:
        data = content if isinstance(content, bytes) else content.encode()
        (root / "file.csv").write_bytes(data)
        result = demo.csv_profile(Watched().context, path="file.csv", **args)
        assert isinstance(result, demo.CSVProfile)
        assert result.bytes == len(data)
        return result

    return call


def column(profile: Profile, *cells: str) -> ColumnProfile:
    """The profile of one column, beside another so that an empty cell is no blank line."""
    rows = "".join(f"x,{cell}\n" for cell in cells)
    return profile(f"other,it\n{rows}").columns[1]


@pytest.mark.parametrize(
    ("cells", "type_", "low", "high", "mean"),
    [
        (("2", "-1", "+10", "0"), "integer", -1, 10, 2.75),
        (("9" * 18, "1"), "integer", 1, 10**18 - 1, 5e17),
        (("9" * 19, "1"), "number", 1, 1e19, 5e18),
        (("1", "2.5", "1e3", ".5", "3."), "number", 0.5, 1000.0, 201.4),
        (("1.7e308", "1.7e308"), "number", 1.7e308, 1.7e308, 1.7e308),
        (("007", "10"), "text", "007", "10", None),
        (("1e999", "1"), "text", "1", "1e999", None),
        (("nan", "inf"), "text", "inf", "nan", None),
        (("1_000", "٣"), "text", "1_000", "٣", None),
        (("2026-11-22", "2024-02-29"), "date", "2024-02-29", "2026-11-22", None),
        (("2026-02-29",), "text", "2026-02-29", "2026-02-29", None),
        (
            ("2026-01-01T00:30:00+01:00", "2025-12-31 23:45", "2025-12-31T23:50Z"),
            "datetime", "2026-01-01T00:30:00+01:00", "2025-12-31T23:50Z", None,
        ),
        (("2026-01-02", "2026-01-01T12:00:00.5"), "datetime", "2026-01-01T12:00:00.5",
         "2026-01-02", None),
        (("0001-01-01T00:00+10:00", "0001-01-01T00:00"), "datetime", "0001-01-01T00:00+10:00",
         "0001-01-01T00:00", None),
        (("2026-01-01T24:00",), "text", "2026-01-01T24:00", "2026-01-01T24:00", None),
        (("true", "FALSE", "True"), "boolean", "FALSE", "true", None),
        (("true", "1"), "text", "1", "true", None),
        (("b", "ä", "a"), "text", "a", "ä", None),
        (("", "  "), "empty", None, None, None),
    ],
)  # fmt: skip
def test_the_type_of_a_column_is_the_narrowest_that_fits(
    profile: Profile, cells: tuple[str, ...], type_: str, low: object, high: object, mean: object
) -> None:
    """With its minimum, maximum and mean; white space and empty cells do not matter."""
    found = column(profile, *(f" {cell}" for cell in cells), "")
    assert (found.type, found.min, found.max, found.mean) == (type_, low, high, mean)
    assert found.empty == 1 + sum(not cell.strip() for cell in cells)


def test_a_column_says_how_many_cells_are_of_which_type(profile: Profile) -> None:
    """One wrong cell among numbers is seen at once."""
    found = column(profile, "1", "2", "2", "2.5", "n/a", "true", "2026-01-01", "", "2026-01-01")
    assert found.kinds == {"integer": 3, "number": 1, "text": 1, "boolean": 1, "date": 2}
    assert (found.type, found.empty, found.distinct) == ("text", 1, 6)
    assert found.mean is None


# Rows.


def test_the_mark_quotes_and_blank_lines_of_spreadsheets(profile: Profile) -> None:
    """A byte order mark is no part of the first name, a quoted line break is none of a row."""
    text = '\ufeff"name"; n\r\n"two\r\nlines; ""quoted""";1\r\n\r\n"";2\r\n'
    found = profile(text, delimiter=";")
    assert (found.rows, found.ragged) == (2, 0)
    assert [each.name for each in found.columns] == ["name", "n"]
    assert found.columns[0].max == 'two\r\nlines; "quoted"'
    assert (found.columns[0].empty, found.columns[1].mean) == (1, 1.5)


def test_ragged_rows_are_counted(profile: Profile) -> None:
    """Missing cells are empty ones; those past the last column are left out."""
    found = profile("a,b,c\n1,2,3\n4\n5,6,7,8,9\n,,\n")
    assert (found.rows, found.ragged) == (4, 2)
    assert [each.empty for each in found.columns] == [1, 2, 2]
    assert [each.max for each in found.columns] == [5, 6, 7]


def test_without_a_header_the_first_row_is_a_row(profile: Profile) -> None:
    """The columns have numbers for names."""
    found = profile("1\tx\n2\ty\n", delimiter="\t", header=False)
    assert [each.name for each in found.columns] == ["column 1", "column 2"]
    assert (found.rows, found.columns[0].mean) == (2, 1.5)


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_a_file_without_rows_has_no_columns(profile: Profile, content: str) -> None:
    """That is no error."""
    found = profile(content)
    assert (found.rows, found.ragged, found.columns) == (0, 0, [])


def test_a_header_alone_has_empty_columns(profile: Profile) -> None:
    """Nothing is divided by nothing."""
    [only] = profile("name").columns
    assert only == ColumnProfile(
        name="name", type="empty", kinds={}, empty=0, distinct=0, distinct_is_estimate=False
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1", "cp1252"])
def test_other_encodings_can_be_named(profile: Profile, encoding: str) -> None:
    """As spreadsheets write them."""
    found = profile("größe\n1\n".encode(encoding), encoding=encoding)
    assert found.columns[0].name == "größe"


# What ends the job.


@pytest.mark.parametrize(
    ("content", "args", "message"),
    [
        (b"a,b\n1,2\n\xff,3\n", {}, "after line 0 the file is not utf-8: invalid start byte"),
        (b"a,b\n" * 9_999 + b"\xff", {}, "the file is not utf-8"),
        (b"a\n1\n", {"encoding": "utf-16"}, "after line 0 the file is not utf-16"),
        (b"\x81", {"encoding": "cp1252"}, "after line 0 the file is not cp1252"),
        (b'a\n1\n"x"y\n', {}, r"line 3: ',' expected after '\"'"),
        (b'a\n"never closed\n', {}, "line 2: unexpected end of data"),
        (b"a\nb\n" + b"x" * 131_073, {}, "line 3: field larger than field limit"),
        (b'a\n"' + b"x\n" * 70_000, {}, "field larger than field limit"),
        (b"a," * (2**21 + 1), {}, "line 1: the row has more than 4194304 characters"),
        (
            (b'"' + (b"x" * 999 + b"\n") * 131 + b'",') * 33,
            {},
            "the row has more than 4194304 characters",
        ),
        (b"," * 500, {}, "the first row has 501 cells; at most 500 are profiled"),
    ],
)
def test_what_is_no_csv_is_a_clear_failure(
    profile: Profile, content: bytes, args: dict[str, str], message: str
) -> None:
    """It says where and why, and does not read the file into memory to find out."""
    with pytest.raises(InvalidCSV, match=message):
        profile(content, **args)


def test_rows_may_be_as_long_as_the_limit_again_and_again(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is that of one row."""
    monkeypatch.setattr(demo_csv, "ROW", 8)
    assert profile('a,b\n"1\n2",3\n' * 3).rows == 5
    with pytest.raises(InvalidCSV, match="line 2: the row has more than 8 characters"):
        profile("a,b\n1234,1234\n")


# The job.


def test_progress_is_by_bytes_and_the_job_can_be_stopped(root: Path) -> None:
    """It goes from the beginning to the end, and between rows it looks whether to stop."""
    (root / "file.csv").write_text("a\n" + "1\n" * 20_000)
    watched = Watched()
    demo.csv_profile(watched.context, path="file.csv")
    currents = [report.current for report in watched.reports]
    assert currents == sorted(currents)
    assert currents[-1] == watched.reports[-1].total == 40_002
    assert len(set(currents)) > 4
    assert watched.reports[-1].message == "20000 rows"

    stopped = Watched(lambda: len(stopped.reports) > 3)
    with pytest.raises(BaseException, match="asked to stop"):
        demo.csv_profile(stopped.context, path="file.csv")
    assert len(stopped.reports) == 4


@pytest.mark.slow
async def test_csv_profile_over_http_in_a_process(root: Path) -> None:
    """The real way: a process of its own that reports progress, answers, fails clearly, and is
    canceled in the middle."""
    (root / "small.csv").write_text("a,b\n1,x\n2,y\n")
    (root / "bad.csv").write_bytes(b"\xff")
    (root / "large.csv").write_text("a,b\n" + "".join(f"{n},{n}.5\n" for n in range(1_000_000)))
    async with serving(demo, processes=1) as api:
        ended = await run(api, "csv_profile", path="small.csv")
        assert ended["status"] == "succeeded", ended
        assert [each["type"] for each in ended["result"]["columns"]] == ["integer", "text"]
        code, message = await failure(api, "csv_profile", path="bad.csv")
        assert (code, "not utf-8" in message) == ("InvalidCSV", True)

        started = await api.start("csv_profile", {"path": "large.csv"})

        async def under_way() -> bool:
            return ((await api.job(started["id"]))["progress"] or 0) > 0

        await wait_until(under_way, "the process reports progress", timeout=30)
        await api.post(f"/cancel/{started['id']}")
        canceled = await api.job(started["id"], wait=10)
        parts = api.jobs.parts
    assert parts is not None
    await asyncio.to_thread(parts.processes.join)
    assert canceled["status"] == "canceled"
    assert canceled["progress"] < 100


# The figures, against a plain reference.

NUMERIC = {"integer", "number"}


def kind_of(cell: str) -> str:
    """A slow and simple way to say what a cell is, for the cells that `COLUMN` makes."""
    if not cell.isascii():
        return "text"
    digits = cell.lstrip("+-")
    if digits.isdigit() and len(digits) <= 18 and str(int(digits)) == digits:
        return "integer"
    for kind, read in (("number", float), ("date", date.fromisoformat)):
        try:
            value: Any = read(cell)
        except ValueError:
            continue
        whole = digits.partition(".")[0].partition("e")[0]
        padded = len(whole) > 1 and whole.startswith("0")
        if kind == "date" or (math.isfinite(value) and not padded):
            return kind
        return "text"
    if cell.lower() in ("true", "false"):
        return "boolean"
    return "datetime" if "T" in cell else "text"


def reference(cells: list[str]) -> dict[str, Any]:
    """The profile of a column, all in memory."""
    values = [cell.strip() for cell in cells if cell.strip()]
    kinds = {kind: [v for v in values if kind_of(v) == kind] for kind in map(kind_of, values)}
    order: Callable[[str], Any] = str
    type_, mean = "text", None
    if not values:
        type_ = "empty"
    elif set(kinds) <= NUMERIC:
        type_, order = "number" if "number" in kinds else "integer", Fraction_of
        mean = float(sum(map(Fraction_of, values)) / len(values))
    elif set(kinds) <= {"date", "datetime"}:
        type_, order = "datetime" if "datetime" in kinds else "date", moment_of
    elif set(kinds) == {"boolean"}:
        type_, order = "boolean", lambda cell: cell.lower() == "true"
    return {
        "type": type_,
        "kinds": {kind: len(them) for kind, them in kinds.items()},
        "empty": len(cells) - len(values),
        "distinct": len(set(values)),
        "lowest": {v[:64] for v in values if order(v) == min(map(order, values))},
        "highest": {v[:64] for v in values if order(v) == max(map(order, values))},
        "mean": mean,
    }


def Fraction_of(cell: str) -> Fraction:
    return Fraction(int(cell)) if kind_of(cell) == "integer" else Fraction(float(cell))


def moment_of(cell: str) -> datetime:
    moment = datetime.fromisoformat(cell)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
)
MOMENTS = st.one_of(
    st.dates(date(1900, 1, 1)).map(str),
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.sampled_from([None, UTC]))
    .map(datetime.isoformat),
)  # fmt: skip
WORDS = st.one_of(
    st.sampled_from(["true", "False", "", " ", "007", "-0", "1e5", "+3", "nan", "a,b", 'q"q']),
    st.text(st.characters(exclude_categories=["Cs", "Nd"], exclude_characters="T")),
)
COLUMN = st.one_of(
    *[st.lists(st.one_of(cells, st.just("")), max_size=30) for cells in (NUMBERS, MOMENTS, WORDS)],
    st.lists(st.one_of(NUMBERS, MOMENTS, WORDS), max_size=30),
)


@pytest.mark.slow
@settings(deadline=None)
@given(cells=COLUMN)
@example(cells=["007", "nan", "x", "é"])
@example(cells=["true", "False", " "])
@example(cells=["2026-01-02", "2026-01-01T00:00:00"])
@example(cells=["1", "2.5"])
@example(cells=["5e-324", "-5e-324", "1.7976931348623157e308"])
def test_every_figure_is_that_of_the_whole_column_in_memory(cells: list[str]) -> None:
    """For any cells: the same type, counts, minimum, maximum and, to the last digit, mean."""
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *([cell, ""] for cell in cells)])
    file = io.TextIOWrapper(io.BytesIO(text.getvalue().encode()), "utf-8", newline="")
    rows = demo_csv.read_rows(file, ",", "utf-8")
    table = demo_csv.Table.of(next(rows), header=True)
    for row in rows:
        table.add(row)
    found, other = table.profile()
    assert table.rows == len(cells)
    expected = reference(cells)
    lowest, highest = expected.pop("lowest"), expected.pop("highest")
    assert {name: getattr(found, name) for name in expected} == expected
    assert (other.type, other.empty) == ("empty", len(cells))
    if expected["type"] in NUMERIC:
        numbers = [Fraction_of(cell.strip()) for cell in cells if cell.strip()]
        assert [found.min, found.max] == [min(numbers), max(numbers)]
    else:
        assert found.min in (lowest or {None})
        assert found.max in (highest or {None})


def test_distinct_is_exact_up_to_its_limit() -> None:
    """However often each value comes."""
    distinct = Distinct()
    for _ in range(2):
        distinct.take(str(number) for number in range(Distinct.EXACT))
    assert distinct.count() == (Distinct.EXACT, False)


@pytest.mark.parametrize("many", [Distinct.EXACT + 1, 10_000, 30_000])
def test_distinct_is_an_estimate_beyond_it_and_says_so(many: int) -> None:
    """Within four standard errors, the same each time, and in whatever order the values come."""
    values = [f"value {number}" for number in range(many)]
    counts = set()
    for order in (values, values[::-1], values * 2):
        distinct = Distinct()
        for start in range(0, len(order), 1_000):
            distinct.take(order[start : start + 1_000])
        counts.add(distinct.count())
    [(count, is_estimate)] = counts
    assert is_estimate
    assert abs(count - many) <= 4 * many / math.sqrt(Distinct.K - 2)


@pytest.mark.slow
def test_an_estimate_is_never_more_than_there_are_cells(profile: Profile) -> None:
    """With some names it would be; a column of keys shows as many as it has rows."""
    above = 0
    for seed in range(8):
        cells = [f"{seed} {number}" for number in range(3_000)]
        distinct = Distinct()
        distinct.take(cells)
        above += distinct.count()[0] > 3_000
        assert column(profile, *cells).distinct <= 3_000
    assert above


# Limits of the result and of the memory.


def test_the_largest_result_fits(profile: Profile) -> None:
    """Five hundred columns whose names and cells are as bad as JSON can make them."""
    worst = "\x01" * 1_000
    cells = ["1.5", "2026-01-01", "2026-01-01T00:00", "true", "1", worst]
    rows = [[worst] * 500, *([cell] * 500 for cell in cells)]
    found = profile("\n".join(",".join(row) for row in rows))
    assert found.columns[0].max == "true"
    only = profile("\n".join(",".join([worst] * 500) for _ in range(2)))
    for result in (found, only):
        assert len(msgspec.json.encode(result)) < 2**20
    assert only.columns[0].max == worst[:64]


MEMORY = """
import resource
from quart_app import Context, demo

job = Context("a", 1, stopping=lambda: False, report=lambda progress: None)
for name in ("small.csv", "large.csv"):
    found = demo.csv_profile(job, path=name)
    print(found.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(root: Path) -> None:
    """Ten times the rows, every cell of them different, take no more memory."""
    for name, rows in (("small.csv", 20_000), ("large.csv", 200_000)):
        with (root / name).open("w") as file:
            file.write("key,price\n")
            file.writelines(f"key {number},{number}.25\n" for number in range(rows))
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (rows, before), (ten_times, after) = (
        map(int, line.split()) for line in done.stdout.split("\n", 1)
    )
    assert (rows, ten_times) == (20_000, 200_000)
    assert after - before < 2_048, "KiB"  # All cells together have 30 MB as Python has them.
