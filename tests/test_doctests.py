"""Every example in a docstring of the package is run, and shows what it says."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import quart_app

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(quart_app.__path__, "quart_app.")
    if not module.name.endswith("__main__")
)


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Those of modules, classes and functions, and the strings below assignments."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text


@pytest.mark.parametrize("name", ["quart_app", *MODULES])
def test_the_examples_of_a_module_hold(name: str) -> None:
    """What a docstring shows is what happens."""
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(verbose=False)
    report: list[str] = []
    for line, text in docstrings(inspect.getsource(module)):
        parsed = doctest.DocTestParser().get_doctest(text, vars(module), name, name, line - 1)
        runner.run(parsed, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_what_users_meet_first_has_an_example() -> None:
    """The extension, the decorator, the context, the settings and the tools for tests show one."""
    for name in ("app", "core.context", "core.start", "settings", "testing"):
        module = importlib.import_module(f"quart_app.{name}")
        assert any(">>> " in text for _, text in docstrings(inspect.getsource(module))), name
