"""The results as text: a table for people, Markdown for the documentation, JSON for machines.

No name of a machine and no path may come into them.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

import msgspec

from benchmarks.figures import Row, Section
from benchmarks.load import generator

BEGIN = "<!-- figures: written by `python -m benchmarks` -->"
END = "<!-- end of the figures -->"
LIBRARIES = ("quart-app", "quart", "hypercorn", "msgspec", "aiojobs")
HEADINGS = ("what", "unit", "figure", "peer", "its figure", "ratio", "lowest-highest", "target")


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """Where and when a run was made."""

    date: str
    python: str
    system: str
    cores: int
    load_generator: str
    libraries: dict[str, str]


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    setting: Setting
    sections: list[Section]


def setting() -> Setting:
    """Here and now."""
    return Setting(
        date=datetime.now(UTC).date().isoformat(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.machine()}",
        cores=os.cpu_count() or 1,
        load_generator=generator(),
        libraries={name: version(name) for name in LIBRARIES},
    )


def number(value: float | None) -> str:
    """Three significant digits or all before the point.

    >>> number(34619.2), number(0.39412), number(4.0), number(None)
    ('34,619', '0.394', '4.00', '')
    """
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:#.3g}"


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table, and whether the target is met."""
    spread = f"{row.lowest:.2f}-{row.highest:.2f}" if row.lowest and row.highest else ""
    return (
        row.what,
        row.unit,
        number(row.figure),
        row.peer or "",
        number(row.peer_figure),
        number(row.ratio),
        spread,
        "" if row.target is None else str(row.target),
        {None: "", True: "yes", False: "NO"}[row.met],
    )


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def table(section: Section) -> str:
    """For a terminal."""
    head = (*HEADINGS, "met")
    lines = [section.title, *_aligned([head, *(cells(row) for row in section.rows)])]
    lines.insert(2, "-" * max(len(line) for line in lines))
    return "\n".join([*lines, *section.notes])


def verdict(sections: Sequence[Section]) -> str:
    """How many targets are met, and which are not."""
    rows = [row for section in sections for row in section.rows if row.met is not None]
    missed = [row for row in rows if not row.met]
    lines = [f"{len(rows) - len(missed)} of {len(rows)} targets met."]
    for each in missed:
        figure = each.figure if each.target and each.target.of_figure else each.ratio
        beside = f" beside {each.peer}" if each.peer else ""
        lines.append(f"MISSED: {each.what}{beside}: {number(figure)}, target {each.target}")
    return "\n".join(lines)


def markdown(results: Results) -> str:
    """What stands between the markers of the page."""
    here = results.setting
    libraries = ", ".join(f"{name} {number}" for name, number in here.libraries.items())
    lines = [
        f"Run on {here.date}: {here.python} on {here.system}, {here.cores} cores, {libraries}; "
        f"load made by {here.load_generator}.",
        "",
        verdict(results.sections).replace("\n", "  \n"),
    ]
    for section in results.sections:
        head = (*HEADINGS, "met")
        lines += ["", f"### {section.title}", "", _line(head), _line(["---"] * len(head))]
        lines += [_line(cells(row)) for row in section.rows]
        for note in section.notes:
            lines += ["", note]
    return "\n".join(lines)


def _line(row: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def between_markers(page: str, text: str) -> str:
    """The page with other text between its markers.

    Raises:
        ValueError: it has not got them.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def as_json(results: Results) -> bytes:
    """For machines; figures with four significant digits."""
    rounded = _rounded(msgspec.to_builtins(results))
    return msgspec.json.format(msgspec.json.encode(rounded), indent=2) + b"\n"


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value
