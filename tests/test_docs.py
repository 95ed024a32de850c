"""What the documentation says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quart_app.domain import errors
from quart_app.domain.status import Move, diagram
from quart_app.settings import PREFIX, SETTINGS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_the_diagram_is_drawn_from_the_table() -> None:
    """The picture of the status machine has exactly the moves that there are."""
    page = (DOCS / "status.md").read_text()
    assert diagram() in page
    for move in Move:
        assert f"| {move.label} | {', '.join(sorted(move.sources))} | {move.target} |" in page


@pytest.mark.parametrize("name", list(SETTINGS))
def test_every_setting_is_explained(name: str) -> None:
    """The page of settings names each, what it may be and what it is for."""
    setting = SETTINGS[name]
    [row] = [
        line
        for line in (DOCS / "settings.md").read_text().splitlines()
        if line.startswith(f"| `{PREFIX}{name.upper()}` |")
    ]
    assert row.endswith(f"| {setting.expected} | {setting.meaning} |")


def test_every_problem_type_is_explained() -> None:
    """The page of problems names each type with its status, and no other."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", (DOCS / "problems.md").read_text(), re.M)
    kinds = {
        (kind.slug, str(kind.status))
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.JobsError) and kind.slug
    }
    assert set(rows) == kinds


def test_every_link_and_test_that_the_readme_names_is_there() -> None:
    """No link of the README leads nowhere."""
    text = (ROOT / "README.md").read_text()
    names = re.findall(r"\]\(([^):#]+)\)", text) + re.findall(r"`(tests/[a-z0-9_/]+\.py)`", text)
    assert len(names) > 10
    missing = [name for name in names if not (ROOT / name).exists()]
    assert missing == []
