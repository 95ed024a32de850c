"""Words of others on a terminal: what would command it, or mislead who reads it, is shown as text.

Only functions from text to text may live here; nothing is written.
"""

from __future__ import annotations

import re
import unicodedata

HARMLESS = frozenset("\u200c\u200d")
"""Joiners, which some scripts and emoji need; they take no room."""
COMMANDS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that are not shown as they are: controls, bidi and other format
characters, halves of surrogate pairs, what has no meaning, and separators of lines."""
SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
PLAIN = re.compile(r"[\x20-\x7e]*")
MARKS = 4
"""Marks (accents) on one character; more would cover the lines around."""
ELLIPSIS = "…"


def clean(text: object) -> str:
    r"""A text that a terminal shows in one line and does nothing else with.

    >>> print(clean("red \x1b[31m, two\nlines, \u202ebidi"))
    red \x1b[31m, two\nlines, \u202ebidi
    """
    text = str(text)
    if PLAIN.fullmatch(text):
        return text
    parts: list[str] = []
    marks = 0
    for each in text:
        category = unicodedata.category(each)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > MARKS or (category in COMMANDS and each not in HARMLESS):
            parts.append(SHORT.get(each) or escape(each))
        else:
            parts.append(each)
    return "".join(parts)


def escape(character: str) -> str:
    r"""One character as Python would write it.

    >>> print(escape("\x07"), escape("\u2066"), escape("\U000e0041"))
    \x07 \u2066 \U000e0041
    """
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def clean_line(text: str) -> str:
    """A line of a log: as `clean`, but tabs are spaces, and what would end a line at its end goes.

    >>> clean_line("a\\tb\\n")
    'a    b'
    """
    return clean(text.rstrip("\r\n").replace("\t", "    "))


def clean_json(text: str) -> str:
    r"""JSON with every character that a terminal would obey escaped as JSON does it. Outside of
    strings it has none, so that it stays the same value.

    >>> print(clean_json('{"name": "a\u202eb"}'))
    {"name": "a\u202eb"}
    """
    if PLAIN.fullmatch(text):
        return text
    return "".join(
        _pair(each)
        if unicodedata.category(each) in COMMANDS and each not in HARMLESS and each != "\n"
        else each
        for each in text
    )


def _pair(character: str) -> str:
    number = ord(character)
    if number < 0x10000:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"


def cells(text: str) -> int:
    """How many columns a clean text takes: two for wide characters, none for marks.

    >>> cells("abc"), cells("漢字"), cells("e\\u0301")
    (3, 4, 1)
    """
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def _cells(character: str) -> int:
    if character in HARMLESS or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """A clean text in so many columns, with an ellipsis where some is left out.

    >>> cut("a long message", 7), cut("漢字漢字", 5)
    ('a long…', '漢字…')
    """
    if cells(text) <= width:
        return text
    if width <= 0:
        return ""
    taken, room = 0, width - 1
    for place, each in enumerate(text):
        taken += _cells(each)
        if taken > room:
            return text[:place] + ELLIPSIS
    return text


def pad(text: str, width: int, *, right: bool = False) -> str:
    """A clean text in exactly so many columns."""
    text = cut(text, width)
    space = " " * (width - cells(text))
    return space + text if right else text + space
