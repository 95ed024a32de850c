"""The rows of a CSV file, and what `csv_profile` finds out of its columns, in memory that does not
grow with the file.

Nothing may live here that opens a file or knows of jobs.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from io import TextIOWrapper
from typing import Any, Literal, cast

import msgspec

Kind = Literal["integer", "number", "date", "datetime", "boolean", "text"]
Number = int | float
NUMERIC = ("integer", "number")

CODECS = {"utf-8": "utf-8-sig", "utf-16": "utf-16", "latin-1": "latin-1", "cp1252": "cp1252"}
ROW = 2**22
"""Characters that a row may have."""
BATCH = 2**16
"""Characters that are looked at together."""
COLUMNS = 500
SHOWN = 64
"""Characters of a name, minimum or maximum that are kept: 500 columns fit into a result."""

VALUE = re.compile(
    r"(?P<integer>[+-]?(?:0|[1-9]\d{0,17}))"
    r"|(?P<number>[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<date>\d{4}-\d\d-\d\d)"
    r"|(?P<datetime>\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?)"
    r"|(?P<boolean>(?i:true|false))",
    re.ASCII,
)


class InvalidCSV(ValueError):
    """The file is no CSV that can be read; the message says where."""


def read_rows(text: TextIOWrapper, delimiter: str, encoding: str) -> Iterator[list[str]]:
    """The rows that are not blank.

    Raises:
        InvalidCSV: with the line.
    """
    lines = _Lines(text)
    try:
        for row in csv.reader(lines, delimiter=delimiter, strict=True):
            lines.room = ROW
            if row:
                yield row
    except csv.Error as error:
        raise InvalidCSV(f"line {lines.number}: {error}") from None
    except UnicodeError as error:
        why = error.reason if isinstance(error, UnicodeDecodeError) else error
        message = f"after line {lines.number} the file is not {encoding}: {why}"
        raise InvalidCSV(message) from None


class _Lines:
    """Lines for the reader: a file without line ends, or with a quote that never closes, is refused
    and not read into memory."""

    def __init__(self, text: TextIOWrapper) -> None:
        self._text = text
        self.number = 0
        self.room = ROW

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self.room + 1)
        self.number += line != ""
        self.room -= len(line)
        if self.room < 0:
            raise csv.Error(f"the row has more than {ROW} characters: is this a CSV file?")
        if not line:
            raise StopIteration
        return line


class ColumnProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What a column holds.

    Attributes:
        type: the narrowest that fits every cell: ``integer`` (at most 18 digits), ``number``,
            ``date`` and ``datetime`` (ISO 8601), ``boolean`` (true, false), else ``text``; or
            ``empty``. A number with leading zeros is text: it is somebody's key.
        kinds: how many cells are of which type, by themselves.
        empty: cells with nothing but white space, or missing at the end of a row.
        distinct: different values; see `Distinct` where ``distinct_is_estimate``.
        min, max: by the column's type, datetimes without an offset taken as UTC; at most 64
            characters of a text.
        mean: of a column of numbers: the exact sum, rounded once.
    """

    name: str
    type: Kind | Literal["empty"]
    kinds: dict[str, int]
    empty: int
    distinct: int
    distinct_is_estimate: bool
    min: Number | str | None = None
    max: Number | str | None = None
    mean: float | None = None


class Distinct:
    """Counts different values: exactly up to `EXACT`, beyond that by an estimate.

    The estimate is KMV, the k minimum values: of values hashed evenly onto 0..1 the k-th smallest
    hash tells how many there are. It is the unbiased (k - 1) / U(k) of K. Beyer, P. J. Haas,
    B. Reinwald, Y. Sismanis and R. Gemulla, "On Synopses for Distinct-Value Estimation Under
    Multiset Operations", SIGMOD 2007, after Z. Bar-Yossef et al., "Counting Distinct Elements in a
    Data Stream", RANDOM 2002. Its standard error is 1 / sqrt(k - 2): 3.1 % for k = 1,024. The same
    values always give the same estimate.

    >>> distinct = Distinct()
    >>> distinct.take(["a", "b"])
    >>> distinct.take(["a"])
    >>> distinct.count()
    (2, False)
    """

    K = 1_024
    EXACT = 2 * K

    def __init__(self) -> None:
        self._smallest: set[bytes] = set()
        self._below: bytes | None = None

    def take(self, values: Iterable[str]) -> None:
        """Take values."""
        smallest, below = self._smallest, self._below
        for value in values:
            hashed = hashlib.blake2b(value.encode(), digest_size=8).digest()
            if below is None or hashed < below:
                smallest.add(hashed)
        if len(smallest) > self.EXACT:
            kept = heapq.nsmallest(self.K, smallest)
            self._smallest, self._below = set(kept), kept[-1]

    def count(self) -> tuple[int, bool]:
        """How many there are, and whether that is an estimate."""
        if self._below is None:
            return len(self._smallest), False
        kth = heapq.nsmallest(self.K, self._smallest)[-1]
        return round((self.K - 1) * 2**64 / int.from_bytes(kth, "big")), True


class Sum:
    """The exact sum of integers and floats, whatever their order: a whole number of the smallest
    float, 2 to the -1074."""

    def __init__(self) -> None:
        self._total = 0
        self._count = 0

    def add(self, value: Number, times: int) -> None:
        """Take a value that comes so many times."""
        numerator, denominator = value.as_integer_ratio()
        self._total += times * numerator << (1075 - denominator.bit_length())
        self._count += times

    def mean(self) -> float:
        """The mean, rounded once."""
        return self._total / (self._count << 1074)


class Range:
    """The smallest and the largest value, each by its key and as it is shown."""

    def __init__(self) -> None:
        self.low: tuple[Any, Number | str] | None = None
        self.high: tuple[Any, Number | str] | None = None

    def add(self, key: Number | str, value: Number | str) -> None:
        """Take a value. Keys are all numbers or all text."""
        if self.low is None or key < self.low[0]:
            self.low = key, value
        if self.high is None or key > self.high[0]:
            self.high = key, value


class Column:
    """One column while the table is being read.

    Args:
        name: from the header.
    """

    def __init__(self, name: str) -> None:
        self._name = name[:SHOWN]
        self._empty = 0
        self._kinds: Counter[str] = Counter()
        self._distinct = Distinct()
        self._sum = Sum()
        self._numbers = Range()
        self._others = Range()
        self._texts = Range()

    def take(self, cells: Iterable[str]) -> None:
        """Take cells. White space around one is no part of it."""
        values = Counter(map(str.strip, cells))
        self._empty += values.pop("", 0)
        self._distinct.take(values)
        for value, times in values.items():
            kind, key = classify(value)
            self._kinds[kind] += times
            if kind in NUMERIC:
                self._sum.add(key, times)
                self._numbers.add(key, key)
            elif kind != "text":
                self._others.add(key, value)
        for value in (min(values), max(values)) if values else ():
            self._texts.add(value[:SHOWN], value[:SHOWN])  # Starts have the order of the wholes.

    def profile(self) -> ColumnProfile:
        """What was found."""
        distinct, estimated = self._distinct.count()
        type_ = fitting(set(self._kinds))
        numeric = type_ in NUMERIC
        range_ = self._numbers if numeric else self._texts if type_ == "text" else self._others
        return ColumnProfile(
            name=self._name,
            type=type_,
            kinds=dict(self._kinds),
            empty=self._empty,
            distinct=min(distinct, self._kinds.total()),
            distinct_is_estimate=estimated,
            min=None if range_.low is None else range_.low[1],
            max=None if range_.high is None else range_.high[1],
            mean=self._sum.mean() if numeric else None,
        )


class Table:
    """All columns while the table is being read.

    Args:
        names: of the columns; a row of more cells or fewer is ragged.
    """

    def __init__(self, names: list[str]) -> None:
        self._columns = [Column(name) for name in names]
        self._waiting: list[list[str]] = []
        self._room = BATCH
        self.rows = 0
        self.ragged = 0

    @classmethod
    def of(cls, first: list[str], *, header: bool) -> Table:
        """A table by its first row: the columns' names, or cells like all others.

        Raises:
            InvalidCSV: there are too many.
        """
        if len(first) > COLUMNS:
            message = f"the first row has {len(first)} cells; at most {COLUMNS} are profiled"
            raise InvalidCSV(message)
        if header:
            return cls([name.strip() for name in first])
        table = cls([f"column {number}" for number in range(1, len(first) + 1)])
        table.add(first)
        return table

    def add(self, row: list[str]) -> None:
        """Take a row. Cells past the last column are left out, missing ones are empty."""
        self.rows += 1
        missing = len(self._columns) - len(row)
        if missing:
            self.ragged += 1
            row = row[: len(self._columns)] + [""] * missing
        self._waiting.append(row)
        self._room -= sum(map(len, row)) + len(row)
        if self._room <= 0:
            self._flush()

    def _flush(self) -> None:
        """Give the columns their cells: many at once, since most cells come more than once."""
        for column, cells in zip(self._columns, zip(*self._waiting, strict=True), strict=False):
            column.take(cells)
        self._waiting.clear()
        self._room = BATCH

    def profile(self) -> list[ColumnProfile]:
        """What was found, once all rows were taken."""
        self._flush()
        return [column.profile() for column in self._columns]


def classify(value: str) -> tuple[Kind, Number]:
    """What a cell is by itself, and a number that has its order among its kind.

    >>> classify("12"), classify("1e3"), classify("012"), classify("2026-02-30")
    (('integer', 12), ('number', 1000.0), ('text', 0), ('text', 0))
    """
    match = VALUE.fullmatch(value)
    if match is None:
        return "text", 0
    kind = cast(Kind, match.lastgroup)
    try:
        return kind, READERS[kind](value)
    except ValueError:  # Not in the calendar, or beyond the largest float.
        return "text", 0


def fitting(kinds: set[str]) -> Kind | Literal["empty"]:
    """The narrowest type that fits cells of all these kinds.

    >>> fitting({"integer", "number"}), fitting({"date", "boolean"}), fitting(set())
    ('number', 'text', 'empty')
    """
    if not kinds:
        return "empty"
    for type_, members in FITTING.items():
        if kinds <= members:
            return type_
    return "text"


FITTING: dict[Kind, set[str]] = {
    "integer": {"integer"},
    "number": {"integer", "number"},
    "date": {"date"},
    "datetime": {"date", "datetime"},
    "boolean": {"boolean"},
}


def _number(value: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _date(value: str) -> int:
    return date.fromisoformat(value).toordinal() * 86_400_000_000


def _datetime(value: str) -> int:
    """Microseconds of UTC; not by `datetime` itself, which has no day before year 1."""
    moment = datetime.fromisoformat(value)
    offset = moment.utcoffset() or timedelta()
    seconds = moment.hour * 3_600 + moment.minute * 60 + moment.second
    day = moment.toordinal() * 86_400_000_000
    return day + seconds * 1_000_000 + moment.microsecond - offset // timedelta(microseconds=1)


def _boolean(value: str) -> int:
    return value.lower() == "true"


READERS: dict[Kind, Callable[[str], Number]] = {
    "integer": int,
    "number": _number,
    "date": _date,
    "datetime": _datetime,
    "boolean": _boolean,
}
