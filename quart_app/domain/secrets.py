"""Secret arguments: passed to the function, and shown nowhere.

They are kept in a job's arguments under a mark, so that whoever shows arguments can hide them
without knowing the task. Only the type, the mark and the hiding may live here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

MARK = "$secret"
_MARKED = b'"$secret"'
HIDDEN = "***"
SHORTEST = 4
"""Characters from which on a secret is also hidden inside other texts: a shorter one is in every
second word, and hiding it there would tell where it is."""


class Secret:
    """A text that documents, logs, events and errors do not show. Annotate a parameter with it.

    What the function makes of the text is its own affair: what it returns, is shown.

    Args:
        value: the text.

    >>> password = Secret("hunter2")
    >>> password, str(password), password.reveal()
    (Secret('***'), '***', 'hunter2')
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError("a secret is a text")
        self._value = value

    def reveal(self) -> str:
        """The text itself."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN!r})"

    def __str__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def mark(secret: Secret) -> dict[str, str]:
    """A secret as it is kept in arguments."""
    return {MARK: secret.reveal()}


def read_secret(value: Any) -> Secret:
    """A secret from JSON: a text, or one that was kept.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, dict) and value.keys() == {MARK}:
        value = value[MARK]
    if not isinstance(value, str):
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
    return Secret(value)


def hide(args: bytes) -> bytes:
    """Arguments as they may be shown.

    >>> hide(b'{"user":"ann","password":{"$secret":"hunter2"}}')
    b'{"user":"ann","password":"***"}'
    """
    if _MARKED not in args:
        return args
    return msgspec.json.encode(_hidden(msgspec.json.decode(args), []))


def secrets_in(args: bytes) -> tuple[str, ...]:
    """The secret texts of a job's arguments that can be hidden inside other texts, longest first:
    as they are, as they are quoted, and each line of them.

    >>> secrets_in(b'{"password":{"$secret":"hunter2"}}')
    ('hunter2',)
    >>> secrets_in(b'{"key":{"$secret":"BEGIN\\\\nk3y"}}')
    ('BEGIN\\\\nk3y', 'BEGIN\\nk3y', 'BEGIN')
    """
    if _MARKED not in args:
        return ()
    found: list[str] = []
    _hidden(msgspec.json.decode(args), found)
    shown = {form for each in found if len(each) >= SHORTEST for form in _forms(each)}
    return tuple(sorted(shown, key=len, reverse=True))


def _forms(secret: str) -> Iterator[str]:
    """A secret as it may stand in a text: what is printed is looked at line by line."""
    for part in {secret, *(line.strip() for line in secret.splitlines())}:
        if len(part) >= SHORTEST:
            yield part
            yield repr(part)[1:-1]
            yield json.dumps(part)[1:-1]
            yield json.dumps(part, ensure_ascii=False)[1:-1]


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """A text without these secrets.

    >>> redact("login with hunter2 failed", ("hunter2",))
    'login with *** failed'
    """
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def _hidden(value: Any, found: list[str]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {MARK}:
            found.append(str(value[MARK]))
            return HIDDEN
        return {key: _hidden(each, found) for key, each in value.items()}
    if isinstance(value, list):
        return [_hidden(each, found) for each in value]
    return value
