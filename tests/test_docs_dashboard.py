"""The dashboard's page in the documentation: it has a picture of each page, and names each key.

What the pages do is tried in a browser elsewhere; nothing may live here that opens one.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import quart_app.http
from quart_app.http.dashboard import POLICY

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = DOCS / "screenshots"
FILES = Path(quart_app.http.__file__).parent / "static" / "dashboard"
PAGE = (DOCS / "dashboard.md").read_text()
MOST, ALL = 100_000, 1_500_000
"""Bytes of one picture, and of all."""


def listed(file: str, begin: str, entry: str) -> list[tuple[str, str]]:
    """The pairs of a list in a module of the dashboard."""
    text = (FILES / file).read_text().partition(begin)[2].partition(";")[0]
    found: list[tuple[str, str]] = re.findall(entry, text)
    assert len(found) > 3, f"{begin} is not in {file}"
    return found


PAGES = [name for name, _ in listed("lib.js", "PAGES = {", r'(\w+): "(\w+)"')]
KEYS = listed("keys.js", "HELP = [", r'\["([^"]+)", "([^"]+)"\]')


@pytest.mark.parametrize("name", [*PAGES, "job", "jobs-narrow"])
def test_each_page_has_its_two_pictures(name: str) -> None:
    """In light and in dark, as the reader's system has it."""
    light, dark = (f"screenshots/{name}-{scheme}.webp" for scheme in ("light", "dark"))
    pattern = (
        rf'<source media="\(prefers-color-scheme: dark\)" srcset="{dark}">\s*'
        rf'<img alt="[^"]{{10,}}" src="{light}"'
    )
    assert re.search(pattern, PAGE)


def test_the_pictures_are_those_of_the_page_and_small() -> None:
    named = re.findall(r'"screenshots/([\w.-]+)"', PAGE)
    sizes = {path.name: path.stat().st_size for path in PICTURES.iterdir()}
    assert sorted(named) == sorted(sizes)
    assert max(sizes.values()) <= MOST, sizes
    assert sum(sizes.values()) <= ALL, sizes


@pytest.mark.parametrize("name", sorted(path.name for path in PICTURES.glob("*.webp")))
def test_a_picture_is_a_picture_and_says_nothing_else(name: str) -> None:
    """WebP, and no metadata in which a machine or a person might be named."""
    body = (PICTURES / name).read_bytes()
    assert (body[:4], body[8:12]) == (b"RIFF", b"WEBP")
    kinds, at = set(), 12
    while at < len(body):
        kinds.add(body[at : at + 4])
        size = int.from_bytes(body[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    assert kinds <= {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP"}


@pytest.mark.parametrize(("key", "what"), KEYS)
def test_each_key_of_the_help_is_explained(key: str, what: str) -> None:
    assert f"| `{key}` | {what} |" in PAGE


def test_no_key_is_explained_that_there_is_not() -> None:
    table = PAGE.partition("## Keys")[2].partition("##")[0]
    assert re.findall(r"^\| `(.+?)` \| (.+) \|$", table, re.M) == KEYS


def test_the_policy_is_the_one_that_is_sent() -> None:
    assert " ".join(POLICY.split()) in " ".join(PAGE.split())


def test_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^):]+)\)", PAGE):
        name, _, place = target.partition("#")
        text = (DOCS / name).read_text() if name else PAGE
        heads = [
            re.sub(r"\W+", "-", head).strip("-")
            for head in re.findall(r"^#+ (.+)$", text.lower(), re.M)
        ]
        assert not place or place in heads, target
