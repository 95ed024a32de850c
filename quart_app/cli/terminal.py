"""Writing: whether a stream is a terminal and may have colours, tables that fit, JSON Lines, talk.

Every cell and every sentence passes through `safe` here; nothing else of the command line may write
words of others.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any

import click
import msgspec

from quart_app.cli.safe import cells, clean, clean_json, cut, pad

STYLES = {
    "scheduled": "35", "queued": "33", "running": "36", "succeeded": "32", "failed": "31",
    "canceled": "90", "dim": "2", "bold": "1", "reverse": "7", "warning": "33", "error": "31",
    "critical": "31;1", "debug": "2", "ok": "32", "wrong": "31;1", "heading": "1",
}  # fmt: skip
GAP = "  "
LEAST = 6
"""Columns that a cell keeps when the table has to shrink."""
WIDEST = 60
"""Columns to which a column is padded where nothing is cut."""
BLOCKS = " ▏▎▍▌▋▊▉█"
SPARKS = "▁▂▃▄▅▆▇█"


def is_terminal(stream: IO[Any]) -> bool:
    """Whether somebody looks at it, and it can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def has_color(stream: IO[Any]) -> bool:
    """Whether it may have colours."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def has_blocks(stream: IO[Any]) -> bool:
    """Whether it can show the characters that bars are made of."""
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
    return encoding in ("utf8", "utf8sig", "utf16", "utf32", "gb18030")


def width_of(stream: IO[Any]) -> int | None:
    """Columns to which lines are cut; None where they go to a file or a pipe."""
    return max(20, shutil.get_terminal_size((80, 24)).columns) if stream.isatty() else None


def paint(text: str, style: str, on: bool) -> str:
    """A text in a style, where colours are on."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if on and text and style in STYLES else text


def put(line: str = "") -> None:
    """A line of data that is safe already."""
    click.echo(line, color=True)


def put_json(value: Any) -> None:
    """A line of JSON."""
    put_json_text(msgspec.json.encode(value).decode())


def put_json_text(text: str) -> None:
    """What is JSON already, in a line; nothing in it commands a terminal."""
    put(clean_json(text).replace("\n", " "))


def say(text: str) -> None:
    """A line of talk."""
    click.echo(clean(text), err=True)


def put_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], status: int | None = None
) -> None:
    """Rows in columns on the standard output, cut to the terminal's width, the last column first.

    Args:
        status: the column that is painted in the colour that its word has.
    """
    color = has_color(sys.stdout)
    for number, line in enumerate(table(headings, rows, width_of(sys.stdout))):
        parts = list(line)
        if number == 0:
            parts = [paint(part, "heading", color) for part in parts]
        elif status is not None:
            parts[status] = paint(parts[status], parts[status].strip(), color)
        put(GAP.join(parts).rstrip())


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], width: int | None
) -> list[list[str]]:
    """Clean cells, padded so that they make columns; the first row are the headings.

    >>> table(["name", "message"], [["a", "one\\ntwo"], ["bb", "long " * 9]], 20)
    [['name', 'message'], ['a   ', 'one\\\\ntwo'], ['bb  ', 'long long lon…']]
    """
    grid = [list(headings), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(cells(row[place]) for row in grid) for place in range(len(headings))]
    if width is None:
        widths = [min(each, WIDEST) for each in widths[:-1]]
        return [
            [
                cell + " " * (widths[place] - cells(cell)) if place < len(widths) else cell
                for place, cell in enumerate(row)
            ]
            for row in grid
        ]
    widths = fit(widths, width - len(GAP) * (len(widths) - 1))
    return [[*map(pad, row[:-1], widths[:-1]), cut(row[-1], widths[-1])] for row in grid]


def fit(widths: Sequence[int], room: int) -> list[int]:
    """Widths that fit together: the last gives first, then always the widest.

    >>> fit([36, 8, 100], 80), fit([36, 8, 100], 30)
    ([36, 8, 36], [16, 8, 6])
    """
    fitted = [min(each, max(1, room)) for each in widths]
    fitted[-1] = max(min(LEAST, fitted[-1]), min(fitted[-1], room - sum(fitted[:-1])))
    while (over := sum(fitted) - room) > 0:
        widest = max(range(len(fitted)), key=fitted.__getitem__)
        if fitted[widest] <= 1:
            break
        others = [each for place, each in enumerate(fitted) if place != widest] or [1]
        fitted[widest] = max(1, fitted[widest] - min(over, max(1, fitted[widest] - max(others))))
    return fitted


def bar(share: float | None, width: int, blocks: bool) -> str:
    """A bar of so many columns; where nobody knows how far, an empty one.

    >>> bar(50, 8, False), bar(30, 8, True), bar(None, 4, False)
    ('####....', '██▍     ', '....')
    """
    part = min(1.0, max(0.0, (share or 0.0) / 100)) if share == share else 0.0
    if not blocks:
        return ("#" * round(part * width)).ljust(width, ".")
    whole, rest = divmod(round(part * width * 8), 8)
    return ("█" * whole + (BLOCKS[rest] if rest else "")).ljust(width)


def sparkline(counts: Sequence[int], blocks: bool) -> str:
    """Counts as a row of small bars.

    >>> sparkline([0, 1, 4], True), sparkline([0, 1, 40], False)
    ('▁▃█', '.1+')
    """
    if not blocks:
        return "".join("." if n <= 0 else str(n) if n < 10 else "+" for n in counts)
    most = max([*counts, 1])
    return "".join(SPARKS[-(-max(0, n) * (len(SPARKS) - 1) // most)] for n in counts)
