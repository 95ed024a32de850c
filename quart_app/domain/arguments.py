"""A function's parameters as a JSON schema, a decoder and an encoder, made once at registration.

Binding and checking is one msgspec decoder for each task. Nothing may live here that knows of
jobs or of where the arguments came from; errors name the place by JSON Pointer (RFC 6901).
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, cast

import msgspec

from quart_app.domain.errors import InvalidArguments, InvalidTask
from quart_app.domain.secrets import Secret, mark, read_secret
from quart_app.domain.sets import (
    SETS,
    model_has_sets,
    nodes_of,
    ordered,
    ordered_model,
    takes_sets,
)
from quart_app.domain.texts import text_of

CONTEXT_MARK = "__job_context__"
"""A class with this attribute is a job's context: it is passed in and is no argument."""

Parameters = dict[str, tuple[Any, Any]]
"""Each argument's name with its type and its default (`inspect.Parameter.empty` for none)."""


def parameters_of(function: Callable[..., Any]) -> tuple[Parameters, str | None, Any]:
    """A function's arguments, the name of its context parameter, and its result's type.

    Raises:
        InvalidTask: for a signature that keyword arguments in JSON cannot fill.
    """
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        message = f"{describe(function)}: an annotation names what is not defined here: {error}"
        raise InvalidTask(message) from error
    arguments: Parameters = {}
    context: str | None = None
    for name, parameter in inspect.signature(function).parameters.items():
        kind = hints.get(name, Any)
        if is_context(kind):
            if context is not None:
                raise InvalidTask(f"{describe(function)}: two parameters take the context")
            context = name
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            arguments[name] = (kind, parameter.default)
        else:
            message = (
                f"{describe(function)}: arguments are passed by name, so {parameter} cannot be "
                "filled: use plain or keyword-only parameters"
            )
            raise InvalidTask(message)
    return arguments, context, hints.get("return", Any)


def is_context(kind: Any) -> bool:
    """Whether an annotation is a job's context, also as ``Context | None``."""
    options = typing.get_args(kind) or (kind,)
    return any(getattr(option, CONTEXT_MARK, False) is True for option in options)


def is_secret(kind: Any) -> bool:
    """Whether an annotation is a secret, also as ``Secret | None``."""
    return Secret in (typing.get_args(kind) or (kind,))


def describe(function: Callable[..., Any]) -> str:
    """A function as its author knows it: ``pkg.module.name``."""
    return f"{function.__module__}.{function.__qualname__}"


def is_pydantic(kind: Any) -> bool:
    """Whether a type brings its own validation the way pydantic models do."""
    return hasattr(kind, "model_validate") and hasattr(kind, "model_dump")


def encode_custom(value: Any) -> Any:
    """msgspec's hook for values that it does not know: pydantic models, else a clear refusal."""
    if is_pydantic(type(value)):
        return value.model_dump(mode="json")
    if isinstance(value, Secret):
        return str(value)
    raise TypeError(f"{type(value).__qualname__} cannot be written as JSON")


def encode_argument(value: Any) -> Any:
    """As `encode_custom`, for what is kept to be read again and compared: a secret under its mark,
    the sets of a model in one order."""
    if isinstance(value, Secret):
        return mark(value)
    written, kind = encode_custom(value), cast(Any, type(value))
    if model_has_sets(kind):
        return ordered_model(written, value.model_dump(), ENCODER.encode)
    return written


def decode_custom(kind: type[Any], value: Any) -> Any:
    """msgspec's hook for types that it does not know: secrets and pydantic models."""
    if kind is Secret:
        return read_secret(value)
    return kind.model_validate(value)


def schema_custom(kind: type[Any]) -> dict[str, Any]:
    """msgspec's hook for the JSON Schema of types that it does not know."""
    if kind is Secret:
        return {"type": "string", "format": "password", "writeOnly": True}
    schema: dict[str, Any] = kind.model_json_schema()
    definitions = schema.pop("$defs", {})
    inlined: dict[str, Any] = _inlined(schema, definitions)
    return inlined


def _inlined(schema: Any, definitions: dict[str, Any], depth: int = 8) -> Any:
    """A schema with its own definitions put in place: pydantic's references have another root."""
    if isinstance(schema, list):
        return [_inlined(item, definitions, depth) for item in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str):
        target = definitions.get(reference.rpartition("/")[2], {}) if depth else {}
        return _inlined(target, definitions, depth - 1)
    return {key: _inlined(value, definitions, depth) for key, value in schema.items()}


ENCODER = msgspec.json.Encoder(enc_hook=encode_custom)
"""Results, and whatever else is shown."""
_KEEPER = msgspec.json.Encoder(enc_hook=encode_argument)

_SETS = frozenset((set, frozenset))


def unsupported(kind: Any) -> Iterator[str]:
    """The names of the types inside an annotation that JSON can not be turned into."""
    for cls in custom_types(kind):
        if not is_pydantic(cls) and cls is not Secret:
            yield cls.__qualname__


def custom_types(kind: Any) -> Iterator[type[Any]]:
    """The types inside an annotation that msgspec does not know."""
    for node in nodes_of(kind):
        if isinstance(node, msgspec.inspect.CustomType):
            yield node.cls


class Arguments:
    """The arguments of one task: checked, written as JSON, and read again.

    Args:
        name: the task's name, for messages.
        parameters: as `parameters_of` gives them.

    Raises:
        InvalidTask: where a parameter's type cannot come from JSON.

    >>> arguments = Arguments("report", {"month": (int, 1)})
    >>> arguments.check(b'{"month": 3}'), arguments.check(b"{}")
    (b'{"month":3}', b'{"month":1}')
    >>> arguments.read(b'{"month":3}')
    {'month': 3}
    """

    def __init__(self, name: str, parameters: Parameters) -> None:
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for parameter, (kind, default) in parameters.items():
            default = _checked(f"task {name!r}: parameter {parameter!r}", kind, default)
            if default is inspect.Parameter.empty:
                fields.append((parameter, kind))
            elif default is None or isinstance(default, (bool, int, float, str, Enum)):
                fields.append((parameter, kind, default))  # The schema shows it.
            else:
                factory = msgspec.field(default_factory=_copier(default))
                fields.append((parameter, kind, factory))
        self.name = name
        self.parameters = parameters
        self.secrets = {name for name, (kind, _) in parameters.items() if is_secret(kind)}
        self.type = msgspec.defstruct(
            f"{name}_arguments", fields, kw_only=True, forbid_unknown_fields=True
        )
        self._decoder = msgspec.json.Decoder(self.type, dec_hook=decode_custom)
        self.may_have_secrets = any(Secret in custom_types(kind) for kind, _ in parameters.values())
        """Whether a secret may be anywhere in them."""
        nodes = [node for kind, _ in parameters.values() for node in nodes_of(kind)]
        self._has_sets = any(isinstance(node, SETS) for node in nodes)
        takes = {name: takes_sets(kind) for name, (kind, _) in parameters.items()}
        self._takes_sets = any(each != "no" for each in takes.values())
        self._inside = {name for name, each in takes.items() if each == "inside"}

    def check(self, payload: bytes) -> bytes:
        """The arguments as they are kept: checked, with defaults, without white space.

        Raises:
            InvalidArguments: with one error for each argument that does not fit.
        """
        try:
            values = self._decoder.decode(payload)
            return _KEEPER.encode(ordered(values, _KEEPER.encode) if self._has_sets else values)
        except RecursionError:
            raise InvalidArguments("The arguments are nested too deeply", []) from None
        except Exception as error:  # noqa: BLE001 - a type may have a check of its own
            errors = self._errors(payload) or [{"pointer": "#", "detail": _said(error)}]
            detail = "; ".join(f"{each['pointer']}: {each['detail']}" for each in errors[:3])
            raise InvalidArguments(detail, errors) from None

    def write(self, values: dict[str, Any]) -> bytes:
        """Python values as checked JSON (see `check`)."""
        if not values and not self.parameters:
            return b"{}"
        try:
            # Most have neither: that is seen without a look at each.
            if self._takes_sets and (
                self._inside or not _SETS.isdisjoint(map(type, values.values()))
            ):
                values = self._ordered(values)
            payload = _KEEPER.encode(values)
        except Exception as error:  # noqa: BLE001 - whatever a model's own encoding raises
            detail = _said(error)
            raise InvalidArguments(detail, [{"pointer": "#", "detail": detail}]) from None
        return self.check(payload)

    def _ordered(self, values: dict[str, Any]) -> dict[str, Any]:
        """Python values with their sets in one order; what can have none is not looked through."""
        return {
            name: ordered(value, _KEEPER.encode)
            if name in self._inside or type(value) in _SETS
            else value
            for name, value in values.items()
        }

    def read(self, payload: bytes) -> dict[str, Any]:
        """The arguments as keyword arguments of the function.

        Raises:
            InvalidArguments: where the task's parameters have changed since they were checked.
        """
        if not self.parameters:
            return {}
        try:
            values: dict[str, Any] = msgspec.structs.asdict(self._decoder.decode(payload))
        except Exception as error:  # noqa: BLE001 - a type may have a check of its own
            detail = f"The arguments no longer fit {self.name!r}: {_said(error)}"
            raise InvalidArguments(detail, self._errors(payload)) from None
        return values

    def schema(self) -> dict[str, Any]:
        """The JSON Schema (2020-12) of the arguments."""
        return schema_of(self.type)

    def _errors(self, payload: bytes) -> list[dict[str, str]]:
        """Every misfit, one by one: msgspec itself stops at the first."""
        try:
            given = json.loads(payload)
        except (ValueError, RecursionError):
            return []
        if not isinstance(given, dict):
            detail = f"Expected an object of arguments, got {type(given).__name__}"
            return [{"pointer": "#", "detail": detail}]
        errors = [
            {"pointer": pointer(name), "detail": "There is no such argument"}
            for name in given
            if name not in self.parameters
        ]
        for name, (kind, default) in self.parameters.items():
            if name not in given:
                if default is inspect.Parameter.empty:
                    errors.append({"pointer": pointer(name), "detail": "This argument is required"})
                continue
            try:
                # JSON has no other keys than strings, so they are read as what they stand for.
                msgspec.convert(given[name], kind, str_keys=True, dec_hook=decode_custom)
            except Exception as error:  # noqa: BLE001 - a type may have a check of its own
                detail, _, path = _said(error).partition(" - at `$")
                errors.append({"pointer": pointer(name, path.rstrip("`")), "detail": detail})
        return errors


def _said(error: Exception) -> str:
    """Why a value does not fit: in a check's own words, with the class of what was not made to be
    read.

    >>> _said(ValueError("too late")), _said(KeyError("color")), _said(AssertionError())
    ('too late', "KeyError: 'color'", 'AssertionError')
    """
    text = text_of(error)
    if text and isinstance(error, (ValueError, TypeError, RecursionError)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _checked(where: str, kind: Any, default: Any) -> Any:
    """The default as it would come from JSON. Refuses now what would fail in every job.

    Raises:
        InvalidTask: the type cannot come from JSON, or the default does not fit its own type.
    """
    try:
        refused = next(unsupported(kind), None)
        decoder = msgspec.json.Decoder(kind, dec_hook=decode_custom)
    except TypeError as error:
        raise InvalidTask(f"{where}: {error}") from error
    if refused is not None:
        message = (
            f"{where} has the type {refused}, which cannot come from JSON: use a msgspec type, "
            "dataclass, TypedDict or pydantic model"
        )
        raise InvalidTask(message)
    if default is inspect.Parameter.empty:
        return default
    try:
        return decoder.decode(_KEEPER.encode(default))
    except Exception as error:
        message = f"{where}: its default {default!r} does not fit its own type: {_said(error)}"
        raise InvalidTask(message) from error


def _copier(default: Any) -> Callable[[], Any]:
    """A default as a factory, so that a list or dict is not shared between jobs."""
    if isinstance(default, (list, dict, set)):
        return default.copy
    return lambda: default


def pointer(name: str, path: str = "") -> str:
    """A JSON Pointer as a URI fragment (RFC 6901, 6) from msgspec's way of naming a place.

    It does not say which key of a dict it means; the pointer then ends at the dict.

    >>> pointer("rows", "[0].na/me"), pointer("rows", "[0][...].name")
    ('#/rows/0/na~1me', '#/rows/0')
    """
    path = path.partition("[...]")[0]
    parts = [name, *path.replace("[", ".").replace("]", "").split(".")]
    escaped = [part.replace("~", "~0").replace("/", "~1") for part in parts if part]
    return "#/" + "/".join(escaped)


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type, in one piece; empty (anything) where it has none."""
    try:
        schema = msgspec.json.schema(kind, schema_hook=schema_custom)
    except (TypeError, AttributeError):
        return {}
    definitions = schema.pop("$defs", {})
    result: dict[str, Any] = _inlined(schema, definitions)
    return result
