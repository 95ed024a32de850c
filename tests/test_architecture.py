"""The rules of the rooms, read from the source with `ast`: who may import whom, and how large."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import quart_app

ROOT = Path(quart_app.__file__).parent

DOORS = ("service", "follow", "insight", "many", "operate", "pulse", "timeline")
"""What the edge may call: the service, and what is done with it beside one job."""
ROOMS: dict[str, tuple[set[str], set[str]]] = {
    # room: other rooms and modules of ours, then packages that are not of the standard library
    "domain": (set(), {"cronsim", "msgspec"}),
    "core": ({"domain"}, {"msgspec", "pebble"}),
    "engines": ({"domain", "core"}, {"asyncpg", "docket", "pgqueuer", "redis"}),
    "stores": ({"domain", "core.ports"}, {"asyncpg", "msgspec", "redis"}),
    "checks": ({"domain", "core.ports"}, set()),
    "client": ({"domain"}, {"httpcore2", "httpx2", "msgspec"}),
    "cli": (
        {
            *("app", "client", "domain", "hosting", "moving", "serve", "settings", "working"),
            "stores.sqlite",
        },
        {"click", "httpx2", "hypercorn", "msgspec", "quart"},
    ),
    "testing": (
        {"domain", "core", "checks", "app", "parts", "settings"},
        {"msgspec", "quart"},
    ),
    "http": (
        {"domain", "core.ports", *(f"core.{door}" for door in DOORS)},
        {"hypercorn", "msgspec", "prometheus_client", "quart", "quart_schema", "werkzeug"},
    ),
}
NO_INPUT_OR_OUTPUT = {"asyncio", "concurrent", "io", "multiprocessing", "pathlib", "selectors"}
NO_INPUT_OR_OUTPUT |= {"shutil", "socket", "sqlite3", "subprocess", "tempfile", "threading"}
TRAPS = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "asyncio.wait_for"}
WRITES = {
    f"store.{verb}"
    for verb in ("add", "add_within", "keep_fact", "keep_step", "log", "move", "note")
} | {"_instant.add_now", "_instant.move_now"}


class Facts(NamedTuple):
    """What the rules are about; the syntax trees would make every garbage collection slow."""

    doc: str
    lines: int
    functions: list[tuple[str, int]]  # with the lines of each
    imports: set[str]  # at the top, in functions and under TYPE_CHECKING
    uses: set[str]  # the last two names of every dotted one


def facts_of(path: Path, modules: set[str]) -> Facts:
    """Read one module."""
    text = path.read_text()
    tree = ast.parse(text)
    facts = Facts(ast.get_docstring(tree) or "", len(text.splitlines()), [], set(), set())
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            facts.functions.append((node.name, (node.end_lineno or 0) - node.lineno + 1))
        elif isinstance(node, ast.Import):
            facts.imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            facts.imports.update(name if name in modules else f"{node.module}" for name in names)
            facts.uses.update(names)
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value).rpartition(".")[2].removeprefix("_")
            facts.uses.add(f"{owner}.{node.attr}")
    return facts


def read() -> dict[str, Facts]:
    """Every module of the package by its dotted name."""
    paths = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in ROOT.rglob("*.py")
    }
    return {name: facts_of(path, set(paths)) for name, path in sorted(paths.items())}


FACTS = read()


def within(name: str, *places: str) -> bool:
    """Whether a module is one of these places of the package, or below one."""
    return any(f"{name}.".startswith(f"quart_app.{place}.") for place in places)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    """A room imports only the rooms and packages that its rule names, and nothing of the top."""
    ours, packages = ROOMS[room]
    banned = NO_INPUT_OR_OUTPUT if room == "domain" else set() if room == "stores" else {"sqlite3"}
    packages = packages | sys.stdlib_module_names - banned
    modules = [module for module in FACTS if within(module, room)]
    wrong = [
        f"{module} imports {name}"
        for module in modules
        for name in FACTS[module].imports
        if not within(name, room, *ours) and name.partition(".")[0] not in packages
    ]
    assert modules
    assert wrong == []


def test_every_directory_of_modules_is_a_room_with_a_rule() -> None:
    """A new room is given its rule here."""
    assert {path.parent.relative_to(ROOT).parts[0] for path in ROOT.glob("*/**/*.py")} == set(ROOMS)


def test_the_demo_is_written_like_a_users_module() -> None:
    """Its tasks need the decorator, the context and the settings, and nothing else of ours."""
    ours = {
        name
        for module, facts in FACTS.items()
        if module.startswith("quart_app.demo")
        for name in facts.imports
        if name.startswith("quart_app") and not name.startswith("quart_app.demo")
    }
    assert ours <= {"quart_app.core.start", "quart_app.core.context", "quart_app.settings"}


def test_what_is_for_tests_is_imported_by_tests_only() -> None:
    """The running package needs neither `testing` nor `checks`."""
    users = {m for m, facts in FACTS.items() if any(within(n, "checks") for n in facts.imports)}
    assert {m for m in users if not within(m, "checks")} == {"quart_app.testing.conformance"}
    users = {m for m, facts in FACTS.items() if any(within(n, "testing") for n in facts.imports)}
    assert [module for module in users if not within(module, "testing")] == []


def test_there_is_no_cycle_of_imports() -> None:
    """Neither at the top of modules, nor in functions, nor under TYPE_CHECKING."""
    graph = {module: facts.imports & set(FACTS) for module, facts in FACTS.items()}
    assert set(graphlib.TopologicalSorter(graph).static_order()) == set(FACTS)


def test_modules_and_functions_stay_small() -> None:
    """A module has fewer than 400 lines, a function fewer than 40."""
    assert {module: facts.lines for module, facts in FACTS.items() if facts.lines >= 400} == {}
    functions = [(module, *each) for module, facts in FACTS.items() for each in facts.functions]
    assert [each for each in functions if each[2] >= 40] == []


def test_every_module_says_what_may_live_there() -> None:
    """Each begins with a docstring that names what may, or may not, live there."""
    rule = re.compile(r"(?=.*\bmay\b)(?=.*\b(only|nothing|nobody|no|not|never)\b)", re.I | re.S)
    assert [module for module, facts in FACTS.items() if not rule.match(facts.doc)] == []


def test_only_the_ledger_writes_status() -> None:
    """No other module of the rooms calls `add`, `move` or `note` of a store."""
    rooms = [module for module in FACTS if within(module, "core", "engines", "http")]
    assert [m for m in rooms if FACTS[m].uses & WRITES] == ["quart_app.core.ledger"]


def test_known_traps_are_not_used() -> None:
    """No pickle; no `asyncio.wait_for` (3.11 loses cancels); nothing in Quart's own task set."""
    assert [m for m, facts in FACTS.items() if (facts.imports | facts.uses) & TRAPS] == []
    called = {use.rpartition(".")[2] for facts in FACTS.values() for use in facts.uses}
    assert not called & {"add_background_task", "background_tasks"}


def test_every_exemption_from_coverage_has_its_reason() -> None:
    """Behind it, on the same line."""
    bare = re.compile(r"# pragma: no (cover|branch)\s*$", re.MULTILINE)
    paths = [*ROOT.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]
    assert [path.name for path in paths if bare.search(path.read_text())] == []
