"""The dashboard's files: what is vendored is what is listed, and all obeys a strict policy.

A browser tries the pages elsewhere; here only what the files say is looked at.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import playwright
import pytest

import quart_app.http

STATIC = Path(quart_app.http.__file__).parent / "static"
DASHBOARD, VENDOR = STATIC / "dashboard", STATIC / "vendor"
MODULES = sorted(DASHBOARD.glob("*.js"))
SHIPPED = sorted(path for folder in (DASHBOARD, VENDOR) for path in folder.iterdir())
MOST = 80_000
"""Bytes of all files together, each compressed as a server would."""
IMPORT = re.compile(r"""\b(?:from|import)\s*\(?\s*["']([./@\w-]+)["']""")
NAMESPACES = (
    "http://www.w3.org/2000/svg",
    "http://www.w3.org/1998/Math/MathML",
    "http://www.w3.org/1999/xhtml",
)
"""Names that look like addresses; nobody fetches them."""


def listed() -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = json.loads((VENDOR / "vendor.json").read_text())["files"]
    return files


def test_the_list_names_every_vendored_file_and_no_other() -> None:
    assert sorted(each["file"] for each in listed()) == sorted(
        path.name for path in VENDOR.iterdir() if path.name != "vendor.json"
    )


@pytest.mark.parametrize("each", listed(), ids=lambda each: str(each["file"]))
def test_a_vendored_file_is_the_listed_one(each: dict[str, Any]) -> None:
    body = (VENDOR / each["file"]).read_bytes()
    assert hashlib.sha256(body).hexdigest() == each["sha256"]
    assert all(each[name] for name in ("name", "version", "licence", "source", "changes"))
    # Who reads "none" may compare the file with the package's own.
    assert (each["changes"] == "none") == (each["sha256"] == each["source_sha256"])


@pytest.mark.parametrize("each", listed(), ids=lambda each: str(each["file"]))
def test_the_licence_is_shipped(each: dict[str, Any]) -> None:
    text = (VENDOR / each["licence_file"]).read_text()
    words = {"MIT": "Permission is hereby granted", "Apache-2.0": "Apache License"}
    assert words[each["licence"]] in text


def test_all_of_it_is_small() -> None:
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 9, mtime=0)) for path in SHIPPED}
    assert sum(sizes.values()) < MOST, sizes


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.name))
def test_nothing_is_fetched_from_another_host(path: Path) -> None:
    if path.suffix == ".txt":  # A licence names its author's page, and is no code.
        return
    text = path.read_text()
    for namespace in NAMESPACES:
        text = text.replace(namespace, "")
    assert re.findall(r"(?:(?:https?|wss?)://|[\"'(]//\w)[^\s\"')]*", text) == []
    assert "url(data:" not in text
    assert "# sourceMappingURL=" not in text  # A browser would ask for it.


class Inline(HTMLParser):
    """Collects what a strict Content-Security-Policy refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        self.found += [f"{tag} {name}" for name in names if name.startswith("on")]
        if "style" in names or tag in ("style", "base"):
            self.found.append(f"{tag} style or base")
        if tag == "script" and "src" not in names:
            self.found.append("inline script")


def test_the_page_has_nothing_inline() -> None:
    page = (DASHBOARD / "index.html").read_text()
    parser = Inline()
    parser.feed(page)
    assert parser.found == []
    for address in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert address.startswith("{{base}}/")
    for name in re.findall(r"\{\{base\}\}/static/([^\"]+)", page):
        assert (STATIC / name).is_file(), name


def test_there_are_modules() -> None:
    assert len(MODULES) > 10


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_writes_no_markup_and_evaluates_nothing(path: Path) -> None:
    text = path.read_text()
    refused = (
        r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML|srcdoc)\b",
        r"\beval\(",
        r"\bnew Function\b|document\.write",
        r"setAttribute\(\s*[\"']style",
        r"\bset(?:Timeout|Interval)\(\s*[\"'`]",
        r"\sstyle=[\"']",
        r"\son[a-z]+=[\"']",
    )
    assert [each for each in refused if re.search(each, text)] == []


@pytest.mark.parametrize("path", [*MODULES, *VENDOR.glob("*.js")], ids=lambda path: path.name)
def test_imports_are_files_that_are_shipped(path: Path) -> None:
    # A bare name would need an import map, and that an inline script.
    for name in IMPORT.findall(path.read_text()):
        assert name.startswith(("./", "../")), name
        assert (path.parent / name).resolve() in SHIPPED, name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_says_what_it_is_for_and_is_short(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("// ")
    assert len(lines) < 400


def test_the_element_for_other_pages_needs_no_other_file() -> None:
    assert IMPORT.findall((DASHBOARD / "job-progress.js").read_text()) == []


@pytest.mark.slow
def test_every_module_is_valid(tmp_path: Path) -> None:
    node = Path(playwright.__file__).parent / "driver" / "node"  # Playwright brings its own.
    for path in [*MODULES, *VENDOR.glob("*.js")]:
        copy = tmp_path / f"{path.stem}.mjs"  # The ending makes it a module.
        copy.write_bytes(path.read_bytes())
        done = subprocess.run(
            [node, "--check", copy], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{path.name}: {done.stderr}"
