"""The OpenAPI document is true: schemathesis holds a real server to every word of it."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest

from quart_app import create_app, task
from tests.http.listening import listening

CONFIG = """
hooks = "{hooks}"

[generation]
deterministic = true
max-examples = 8
# No schema can say of every string in a free-form value that it has no NUL; those are 400.
allow-x00 = false

# A stream that does not end cannot be read to its end; tests/http/test_streams.py reads them.
[[operations]]
include-path-regex = "events$"
enabled = false

# Which arguments a retry may change depends on the job; the document can only say "of some task".
[[operations]]
include-operation-id = "retry"
checks.positive_data_acceptance.expected-statuses = ["2xx", 404, 409, 422]
"""


class Row(TypedDict):
    """A row of a table."""

    name: str
    value: float


@task(quick=0.05, tags=["fast"])
async def add(a: int, b: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 1) -> int:
    """Add two numbers."""
    return a + b


@task
async def nap(seconds: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0) -> None:
    """Sleep."""
    await asyncio.sleep(seconds)


@task(name="any-thing")
async def anything(
    value: Any = None, kind: Literal["a", "b"] = "a", rows: tuple[Row, ...] = ()
) -> Any:
    """Return what was given."""
    return value


@task
async def broken(message: Annotated[str, msgspec.Meta(max_length=50)] = "no") -> None:
    """Fails."""
    raise ValueError(message)


@pytest.mark.slow
async def test_the_service_is_what_its_openapi_document_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All checks of schemathesis, positive, negative and stateful: no violation, and no 5xx."""
    caplog.set_level(logging.CRITICAL, "quart_app")
    hooks = Path(__file__).with_name("schemathesis_hooks.py")
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG.format(hooks=hooks))
    report = tmp_path / "report.ndjson"
    settings = {"default_task": "nap", "max_queued": 100_000, "drain": 0, "grace": 2}
    names = {f"QUART_APP_{name.upper()}": value for name, value in settings.items()}
    app = create_app([add, nap, anything, broken], **names)
    async with listening(app) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(config),
            "run", f"http://{server.host}/openapi.json", "--checks", "all",
            "--continue-on-failure", "--no-color", "--no-shrink",
            "--report", "ndjson", "--report-ndjson-path", str(report),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(90):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            raise
    assert process.returncode == 0, output.decode(errors="replace")[-10_000:]
    statuses = set(answered(report))
    assert {200, 202, 400, 404, 405, 409, 415, 422} <= statuses
    assert max(statuses) < 500


def answered(report: Path) -> list[int]:
    """Every status that the service answered with."""
    found: list[int] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("status_code"), int):
                found.append(value["status_code"])
            for each in value.values():
                look(each)
        elif isinstance(value, list):
            for each in value:
                look(each)

    with report.open() as lines:
        for line in lines:
            look(json.loads(line))
    return found
