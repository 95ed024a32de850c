"""The pytest plugin, as it is installed; the page about testing, and the example's tests."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_quart_app

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
TWO_HOURS = """
    import asyncio

    async def two_hours():
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(7200)
        return loop.time() - before
"""


def run(pytester: pytest.Pytester, *options: str, **passed: int) -> pytest.RunResult:
    """Run the tests that were written; it must come out as given."""
    result = pytester.runpytest("-p", "no:randomly", "--strict-markers", *options)
    result.assert_outcomes(**passed)
    return result


@pytest.fixture(autouse=True)
def _asyncio_option(pytester: pytest.Pytester) -> None:
    """Otherwise pytest-asyncio warns of its default."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")


def write(pytester: pytest.Pytester, tests: str) -> None:
    """A module of tests."""
    pytester.makepyfile(TWO_HOURS + tests)


MARKED = """
    import pytest, time

    @pytest.fixture
    async def began():
        yield asyncio.get_running_loop()

    @pytest.mark.virtual_time
    async def test_virtual(began):
        assert began is asyncio.get_running_loop()
        assert await two_hours() == 7200
        assert type(began).__name__ == "VirtualTimeLoop"

    async def test_real(began):
        assert began is asyncio.get_running_loop()
        assert type(began).__name__ != "VirtualTimeLoop"

    @pytest.mark.virtual_time
    class TestMany:
        async def test_method(self):
            assert await two_hours() == 7200

        @pytest.mark.parametrize("number", [1, 2])
        async def test_each(self, number):
            assert await two_hours() == 7200

    @pytest.mark.virtual_time
    def test_that_is_no_coroutine():
        pass
"""


def test_in_auto_mode_the_mark_chooses_the_loop(pytester: pytest.Pytester) -> None:
    """Of the test and of its fixtures; the others have theirs, and every name is as it was."""
    write(pytester, MARKED)
    result = run(pytester, "-v", "--asyncio-mode=auto", passed=6)
    names = re.findall(r"::(test\S*) PASSED", result.stdout.str().replace("TestMany::", ""))
    assert names == [
        *("test_virtual", "test_real", "test_method", "test_each[1]", "test_each[2]"),
        "test_that_is_no_coroutine",
    ]


def test_in_strict_mode_the_mark_is_enough(pytester: pytest.Pytester) -> None:
    """The test is pytest-asyncio's, and its fixtures are on the same loop."""
    tests = MARKED.replace("@pytest.fixture", "@pytest_asyncio.fixture")
    tests = tests.replace("import pytest, time", "import pytest, pytest_asyncio")
    tests = tests.replace(
        "    async def test_real", "    @pytest.mark.asyncio\n    async def test_real"
    )
    write(pytester, tests)
    run(pytester, "--asyncio-mode=strict", passed=6)


def test_without_pytest_asyncio_the_test_is_run_all_the_same(pytester: pytest.Pytester) -> None:
    """With plain fixtures; one without the mark is none of ours."""
    tests = """
    import pytest

    @pytest.fixture
    def number():
        return 7200

    @pytest.mark.virtual_time
    async def test_virtual(number, tmp_path):
        assert await two_hours() == number

    @pytest.mark.virtual_time
    async def test_that_fails():
        assert await two_hours() == 1

    @pytest.mark.virtual_time
    def test_that_is_no_coroutine():
        pass
    """
    write(pytester, tests)
    result = run(pytester, "-p", "no:asyncio", "-p", "no:anyio", passed=2, failed=1)
    result.stdout.fnmatch_lines(["*assert 7200* == 1*"])


def test_loops_that_the_users_conftest_chooses_stay(pytester: pytest.Pytester) -> None:
    """Except for the tests with the mark."""
    conftest = """
    import asyncio

    class Own(asyncio.SelectorEventLoop):
        pass

    def pytest_asyncio_loop_factories(config, item):
        return {"own": Own}
    """
    pytester.makeconftest(conftest)
    write(pytester, MARKED.replace('__name__ != "VirtualTimeLoop"', '__name__ == "Own"'))
    run(pytester, "--asyncio-mode=auto", passed=6)


def test_names_that_are_no_tests_are_left_alone(pytester: pytest.Pytester) -> None:
    """As Quart's proxies, which can be asked nothing outside a request."""
    write(pytester, "    from quart import current_app, request\n" + MARKED)
    run(pytester, "--asyncio-mode=auto", passed=6)


def test_a_pytest_asyncio_without_the_hook_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before version 1.4; and only to a test with the mark."""

    class Anything:
        """Has a plugin of that name, and no hook."""

        hook = definition = config = property(lambda self: self)

        @property
        def pluginmanager(self) -> Anything:
            return self

        def hasplugin(self, name: str) -> bool:
            return name == "asyncio"

        def get_closest_marker(self, name: str) -> object:
            return name

    generate = pytest_quart_app.pytest_generate_tests(Anything())  # type: ignore[arg-type]
    with pytest.raises(pytest.fail.Exception, match=r"needs pytest-asyncio 1\.4 or newer"):
        next(generate)


def test_with_anyio_its_own_fixture_chooses_the_loop(pytester: pytest.Pytester) -> None:
    """As the page about testing says; the mark would only be in the way."""
    tests = """
    import pytest
    from quart_app.testing import VirtualTimeLoop

    @pytest.fixture
    def anyio_backend():
        return "asyncio", {"loop_factory": VirtualTimeLoop}

    @pytest.mark.anyio
    async def test_virtual():
        assert await two_hours() == 7200

    @pytest.mark.anyio
    @pytest.mark.virtual_time
    async def test_both():
        assert await two_hours() == 7200
    """
    write(pytester, tests)
    run(pytester, "--asyncio-mode=strict", passed=2)
    run(pytester, "-p", "no:asyncio", passed=2)


@pytest.mark.slow
def test_the_plugin_imports_nothing_before_it_is_used(tmp_path: Path) -> None:
    """Not the package either, which would bring Quart into every run of pytest."""
    (tmp_path / "test_other.py").write_text(
        "import sys\n\n\ndef test_other(request):\n"
        "    assert request.config.pluginmanager.hasplugin('quart_app')\n"
        "    assert [n for n in sys.modules if n.startswith(('quart', 'hypercorn'))] == []\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "quart_app", str(tmp_path)]
    environ = {"PYTHONPATH": str(ROOT), "PATH": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_mark_is_explained(pytester: pytest.Pytester) -> None:
    """In the list of marks that pytest shows."""
    result = pytester.runpytest("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.virtual_time: the event loop's clock jumps*"])


def test_the_examples_of_the_page_hold(pytester: pytest.Pytester) -> None:
    """Every one of them is run with the page's settings: the first is the app, the others are its
    tests."""
    page = (ROOT / "docs" / "testing.md").read_text()
    (settings,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    (pytester.path / "tox.ini").unlink()  # It would win.
    pytester.makepyprojecttoml(settings)
    app, *tests = re.findall(r"```python\n(.*?)```", page, re.S)
    pytester.makepyfile(shop=app, test_shop="\n\n".join(tests))
    count = sum(len(re.findall(r"^(?:async )?def test_", each, re.M)) for each in tests)
    assert count == 6
    run(pytester, passed=count)


@pytest.mark.slow
def test_the_tests_of_the_examples_pass() -> None:
    """With the command in their first line."""
    text = (ROOT / "examples" / "test_shop.py").read_text()
    command = "python -m pytest examples/test_shop.py"
    assert f"``{command}``" in text
    start = [sys.executable, *command.split()[1:], "-p", "no:cacheprovider"]
    done = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "4 passed" in done.stdout, done.stdout + done.stderr
