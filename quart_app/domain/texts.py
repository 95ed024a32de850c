"""What user code has said, as text that can be kept and shown. Nothing may live here that knows
what it is about."""

from __future__ import annotations


def as_text(value: str) -> str:
    """A text without halves of surrogate pairs, which are no text: question marks instead.

    The name of a file with stray bytes has them. No document can be written with one.

    >>> as_text("caf\\udce9")
    'caf?'
    """
    return value if value.isascii() else value.encode(errors="replace").decode()


def text_of(error: BaseException) -> str:
    """An exception's message, also of one whose own ``__str__`` fails.

    >>> text_of(ValueError("no"))
    'no'
    """
    try:
        return as_text(str(error))
    except Exception:  # noqa: BLE001 - user code again
        return "(this exception cannot be shown)"
