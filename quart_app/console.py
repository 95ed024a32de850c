"""What our processes write of themselves: lines that nobody else can forge, and no commands to the
terminal that shows them. Only the form of a line may live here.
"""

from __future__ import annotations

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
NEXT = "\n    "
"""Before each further line of a record: a line that begins as ours do is ours."""


def inert(line: str) -> str:
    r"""A line with what cannot be seen made visible.

    >>> print(inert("red \x1b[31m and \x07"))
    red \x1b[31m and \x07
    """
    if line.isprintable():
        return line
    return "".join(
        each if each.isprintable() or each == "\t" else each.encode("unicode_escape").decode()
        for each in line
    )


class InertFormatter(logging.Formatter):
    r"""Formats as `logging.Formatter`, and makes inert what a job says or fails with.

    >>> record = logging.makeLogRecord({"msg": "no\nCRITICAL forged", "levelname": "ERROR"})
    >>> print(InertFormatter("%(levelname)s %(message)s").format(record))
    ERROR no
        CRITICAL forged
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several of which all but the first are indented."""
        return NEXT.join(map(inert, super().format(record).split("\n")))


def begin_logging() -> None:
    """Write what is logged to the standard error, unless it goes somewhere already."""
    handler = logging.StreamHandler()
    handler.setFormatter(InertFormatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
