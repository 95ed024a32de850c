"""What is typed into a filter box, or after ``list`` and ``--match``, as filters of the service.

Only reading may live here; what passes is decided by the service.
"""

from __future__ import annotations

import difflib
import re
from typing import cast

from quart_app.cli.ends import USAGE, Stop
from quart_app.cli.words import seconds_of
from quart_app.client.asked import Filters
from quart_app.domain.status import STATUSES

WORD = re.compile(r'(?:[^\s"]|"(?:[^"\\]|\\.)*")+')
NAMED = re.compile(r"([a-z]+|args\.[\w.-]+):(?!//)(.*)", re.DOTALL)
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
TEXTS = ("task", "tag", "key", "error", "parent", "since", "until")
NAMES = ("status", *TEXTS, "args")
LONGER, SHORTER = ">", "<"
HELP = (
    "FILTERS: status:failed task:report tag:x key:k error:Timeout args.month:3 '>10s' '<1s' "
    "since:1h until:5m, and free words. Quote what has spaces: 'error:\"no such file\"'."
)


class BadFilter(Stop):
    """A filter that cannot be; the message names it, and what would do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, USAGE)


def parse(text: str) -> Filters:
    """Filters as the client takes them.

    Raises:
        BadFilter: naming the word that cannot be.

    >>> parse('status:failed task:report args.month:3 >10s since:1h no such')
    ... # doctest: +NORMALIZE_WHITESPACE
    {'status': ['failed'], 'task': 'report', 'args': {'month': '3'}, 'longer': 10.0,
     'since': '1h', 'q': 'no such'}
    >>> parse('error:"no such file" "status:is text"')
    {'error': 'no such file', 'q': 'status:is text'}
    """
    found: dict[str, object] = {}
    free: list[str] = []
    if '"' in QUOTED.sub("", text):
        raise BadFilter(f'a quote has no end in {text[:100]}: add a "')
    for word in WORD.findall(text):
        if word[0] in (LONGER, SHORTER) and len(word) > 1:
            _keep(found, "longer" if word[0] == LONGER else "shorter", _seconds(word))
        elif named := NAMED.fullmatch(word):
            _named(found, named[1], _plain(named[2]))
        else:
            free.append(_plain(word))
    if free:
        found["q"] = " ".join(free)
    return cast(Filters, found)


def _plain(text: str) -> str:
    return QUOTED.sub(lambda quoted: re.sub(r"\\(.)", r"\1", quoted[1]), text)


def _named(found: dict[str, object], name: str, value: str) -> None:
    if not value:
        raise BadFilter(f"{name}: has no value")
    if name.startswith("args."):
        args = cast(dict[str, str], found.setdefault("args", {}))
        _keep(args, name.removeprefix("args."), value)
    elif name == "status":
        statuses = cast(list[str], found.setdefault("status", []))
        for each in value.split(","):
            if each not in STATUSES:
                raise BadFilter(f"status is one of {', '.join(STATUSES)}, not {each!r}")
            statuses.append(each)
    elif name in TEXTS:
        _keep(found, name, value)
    else:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]}:" if near else f"there are {', '.join(NAMES)}.NAME"
        raise BadFilter(f"there is no filter {name!r}; {hint} (and text goes in double quotes)")


def _keep(found: dict[str, str] | dict[str, object], name: str, value: object) -> None:
    if name in found:
        raise BadFilter(f"{name} is given twice")
    cast(dict[str, object], found)[name] = value


def _seconds(word: str) -> float:
    seconds = seconds_of(word[1:].removeprefix("="))
    if seconds is None:
        raise BadFilter(f"{word!r} is no duration: write {word[0]}10s, {word[0]}5m or {word[0]}1h")
    return seconds
