"""Sets in arguments, written in one order: Python's own follows the seed of the process's hashes.

What is asked for is compared by its bytes, also with what was kept before a restart. Nothing may
live here that knows of tasks or jobs.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec
from msgspec import inspect
from msgspec.structs import force_setattr

SETS = (inspect.SetType, inspect.FrozenSetType)
TAKERS = (
    *SETS,
    inspect.AnyType,
    inspect.CollectionType,
    inspect.CustomType,
    inspect.NamedTupleType,
    inspect.RawType,
    inspect.TupleType,
)
"""What may be given as a set: in JSON that is an array."""
PLAIN = frozenset((str, int, float, bool, type(None), bytes))
"""Has no sets in it; said first, as most values are of these."""


def nodes_of(kind: Any) -> Iterator[Any]:
    """The types inside an annotation, as msgspec describes them."""
    seen: list[Any] = [inspect.type_info(kind)]
    known: set[int] = set()
    while seen:
        node = seen.pop()
        if isinstance(node, msgspec.Struct) and id(node) not in known:
            known.add(id(node))
            yield node
            for field in node.__struct_fields__:
                value = getattr(node, field)
                seen += value if isinstance(value, tuple) else (value,)


def takes_sets(kind: Any) -> Literal["no", "itself", "inside"]:
    """Whether a caller in Python may give a set for a type: in its place only, or inside of it."""
    nodes = list(nodes_of(kind))
    takers = [node for node in nodes if isinstance(node, TAKERS) or _is_array(node)]
    if not takers:
        return "no"
    top = (nodes[0], *getattr(nodes[0], "types", ()))
    only = takers == [takers[0]] and any(takers[0] is each for each in top)
    return "itself" if only and isinstance(takers[0], inspect.CollectionType) else "inside"


def _is_array(node: Any) -> bool:
    return bool(getattr(node, "array_like", False))


def ordered(value: Any, encode: Callable[[Any], bytes]) -> Any:
    """The value with a sorted list in the place of each set; dicts keep their order.

    Args:
        encode: to JSON, by which they are sorted: members need not be comparable.

    >>> ordered({"b": {3, 1, 2}, "a": 1}, msgspec.json.encode)
    {'b': [1, 2, 3], 'a': 1}
    """
    if type(value) in PLAIN:
        return value
    if isinstance(value, (set, frozenset)):
        return sorted((ordered(each, encode) for each in value), key=encode)
    if isinstance(value, dict):
        if PLAIN.issuperset(map(type, value.values())):
            return value
        return {key: ordered(each, encode) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        if PLAIN.issuperset(map(type, value)):
            return value
        return [ordered(each, encode) for each in value]
    return _with_fields(value, encode)


def _with_fields(value: Any, encode: Callable[[Any], bytes]) -> Any:
    """A struct or the like: a copy, which is written under the same names and tags."""
    names = getattr(value, "__struct_fields__", None)
    if names is None and dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    if names is None:
        return value
    twin = copy.copy(value)
    put = force_setattr if isinstance(value, msgspec.Struct) else object.__setattr__
    for name in names:
        if hasattr(value, name):
            put(twin, name, ordered(getattr(value, name), encode))
    return twin


@functools.cache
def model_has_sets(kind: Any) -> bool:
    """Whether a pydantic model has sets, by its schema."""
    return "uniqueItems" in str(kind.model_json_schema())


def ordered_model(written: Any, value: Any, encode: Callable[[Any], bytes]) -> Any:
    """What a model was written as, sorted where it had a set.

    Args:
        value: the same as Python values, in which sets are still sets.
    """
    if isinstance(value, (set, frozenset)) and isinstance(written, list):
        return sorted(written, key=encode)
    if isinstance(value, dict) and isinstance(written, dict):
        pairs = zip(written.items(), value.values(), strict=True)
        return {key: ordered_model(each, was, encode) for (key, each), was in pairs}
    if isinstance(value, (list, tuple)) and isinstance(written, list):
        each_was = zip(written, value, strict=True)
        return [ordered_model(each, was, encode) for each, was in each_was]
    return written
