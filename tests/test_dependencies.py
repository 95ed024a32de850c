"""What is installed without any extra is enough for what runs without any extra."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution, packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

IMPORT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

absent = set(sys.argv[1].split())
sys.meta_path.insert(0, Absent())
import quart_app, quart_app.testing
from quart_app.cli import main
app = quart_app.create_app()
"""


def installed_with(name: str) -> set[str]:
    """The distributions that come with one, itself as well, on this Python."""
    found, wanted = set[str](), [name]
    while wanted:
        each = canonicalize_name(wanted.pop())
        if each in found:
            continue
        found.add(each)
        for line in distribution(each).requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                wanted.append(needed.name)
    return found


@pytest.mark.slow
def test_a_plain_install_has_all_that_it_imports() -> None:
    """Whatever else is installed here: with nothing but what the package asks for it can be
    imported, its command too."""
    there = installed_with("quart-app")
    absent = [
        module
        for module, owners in packages_distributions().items()
        if there.isdisjoint(canonicalize_name(each) for each in owners)
    ]
    assert "redis" in absent
    subprocess.run([sys.executable, "-c", IMPORT, " ".join(absent)], check=True, timeout=60)
