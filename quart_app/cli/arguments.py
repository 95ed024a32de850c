"""``month=3`` as a task's argument: the text becomes what the task's JSON Schema asks for.

Nothing may be decided here that the service decides: what the schema does not tell is sent as it
is, and the service says what does not fit.
"""

from __future__ import annotations

import difflib
import itertools
import json
import math
from collections.abc import Iterable
from typing import Any

from quart_app.cli.ends import USAGE, Stop
from quart_app.cli.safe import clean

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
ORDER = ("null", "boolean", "integer", "number", "array", "object", "string")
"""What is tried first: a text fits ``string`` always."""
DEPTH = 10
WANTED = {
    "null": "null",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "array": 'a JSON array ([1, 2], ["a"])',
    "object": 'a JSON object ({"a": 1})',
}


class BadArgument(Stop):
    """An argument that cannot be; the message names it, and what would do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, USAGE)


def convert(task: str, pairs: Iterable[str], schema: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a start.

    Args:
        task: the task's name, for what is said.
        pairs: ``name=value`` each.
        schema: of all arguments together, an object's.

    Raises:
        BadArgument: naming the first that cannot be.

    >>> schema = {"type": "object", "properties": {"month": {"type": "integer"}}}
    >>> convert("report", ["month=3"], schema)
    {'month': 3}
    """
    properties = schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    closed = schema.get("additionalProperties") is False
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise BadArgument(f"{clean(pair)!r} is no argument: write NAME=VALUE")
        if name in values:
            raise BadArgument(f"{clean(name)} is given twice")
        if name not in known and closed:
            raise BadArgument(_unknown(task, name, list(known)))
        values[name] = value_of(name, text, known.get(name, True), schema)
    return values


def _unknown(task: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    names = ", ".join(known[:20])
    hint = f"did you mean {near[0]}?" if near else f"it takes {names}" if known else "it takes none"
    return clean(f"{task} has no argument {name!r}: {hint}")


def value_of(name: str, text: str, schema: Any, root: dict[str, Any]) -> Any:
    """One argument.

    Raises:
        BadArgument: the text is none of what the schema allows.

    >>> value_of("paid", "yes", {"anyOf": [{"type": "boolean"}, {"type": "null"}]}, {})
    True
    """
    kinds = kinds_of(schema, root)
    if not kinds:  # Anything: JSON where it is JSON.
        try:
            return _json(text)
        except ValueError:
            return text
    for kind in sorted(kinds, key=ORDER.index):
        try:
            return _READ[kind](text)
        except ValueError:
            continue
    wanted = " or ".join(WANTED[kind] for kind in sorted(kinds, key=ORDER.index))
    raise BadArgument(clean(f"{name} must be {wanted}, not {text[:100]!r}"))


def kinds_of(schema: Any, root: dict[str, Any], depth: int = DEPTH) -> set[str]:
    """The JSON types that a schema allows, as far as it says; none where it allows anything.

    >>> sorted(kinds_of({"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]},
    ...                 {"$defs": {"A": {"enum": [1, 2]}}}))
    ['integer', 'null']
    """
    if not isinstance(schema, dict) or depth == 0:
        return set()
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return kinds_of(_look_up(reference, root), root, depth - 1)
    given = schema.get("type")
    if given is not None:
        return {each for each in (given if isinstance(given, list) else [given]) if each in ORDER}
    if "const" in schema or "enum" in schema:
        return {_kind(each) for each in schema.get("enum", [schema.get("const")])}
    for name in ("anyOf", "oneOf"):
        if isinstance(schema.get(name), list):
            each = [kinds_of(one, root, depth - 1) for one in schema[name]]
            return set().union(*each) if all(each) else set()
    return set()


def words_of(schema: Any, root: dict[str, Any], depth: int = DEPTH) -> list[str]:
    """What a schema allows, for people: the values where it names them, else the JSON types.

    >>> words_of({"anyOf": [{"enum": ["a", 1]}, {"type": "null"}]}, {})
    ['"a"', '1', 'null']
    """
    if not isinstance(schema, dict) or depth == 0:
        return []
    if isinstance(schema.get("$ref"), str):
        return words_of(_look_up(schema["$ref"], root), root, depth - 1)
    if "const" in schema or "enum" in schema:
        return [json.dumps(each) for each in schema.get("enum", [schema.get("const")])]
    for name in ("anyOf", "oneOf"):
        if "type" not in schema and isinstance(schema.get(name), list):
            each = [words_of(one, root, depth - 1) for one in schema[name]]
            return list(dict.fromkeys(itertools.chain(*each))) if all(each) else []
    return sorted(kinds_of(schema, root))


def _look_up(reference: str, root: dict[str, Any]) -> Any:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    kinds = {int: "integer", float: "number", list: "array", dict: "object"}
    return kinds.get(type(value), "string")


def _null(text: str) -> None:
    if text != "null":
        raise ValueError(text)


def _boolean(text: str) -> bool:
    if text.lower() in TRUE + FALSE:
        return text.lower() in TRUE
    raise ValueError(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or "_" in text:
        raise ValueError(text)
    return number


def _integer(text: str) -> int:
    if "_" in text:
        raise ValueError(text)
    return int(text)


def _array(text: str) -> list[Any]:
    value = _json(text)
    if not isinstance(value, list):
        raise ValueError(text)
    return value


def _object(text: str) -> dict[str, Any]:
    value = _json(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def _json(text: str) -> Any:
    def refuse(name: str) -> Any:
        raise ValueError(name)

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError(text) from None


_READ: dict[str, Any] = {
    "null": _null,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "array": _array,
    "object": _object,
    "string": str,
}


def read_json(text: str) -> list[dict[str, Any]]:
    """The arguments of one job from a JSON object, or of many from an array of objects.

    Raises:
        BadArgument: it is neither.

    >>> read_json('{"month": 3}'), read_json('[{"month": 3}, {"month": 4}]')
    ([{'month': 3}], [{'month': 3}, {'month': 4}])
    """
    try:
        value = _json(text)
    except ValueError as error:
        raise BadArgument(f"--json is not JSON: {clean(error)}") from None
    batch = value if isinstance(value, list) else [value]
    if not batch or not all(isinstance(each, dict) for each in batch):
        raise BadArgument('--json is an object of arguments ({"month": 3}), or an array of such')
    return batch
