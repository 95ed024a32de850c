"""The pytest plugin: ``@pytest.mark.virtual_time`` gives an async test a clock that jumps.

Every pytest of an environment with quart-app loads this module. So it is beside the package and not
in it (importing the package imports Quart), and nothing of either may be imported before a test has
the mark.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Callable, Generator, Mapping
from typing import Any

import pytest

MARK = "virtual_time"
MEANING = f"{MARK}: the event loop's clock jumps to the next timer when nobody can go on"
ASYNCIO = "asyncio"
"""The name under which pytest-asyncio is registered, and that of its mark."""
TOO_OLD = f"@pytest.mark.{MARK} needs pytest-asyncio 1.4 or newer, or none"


def _make_loop() -> asyncio.AbstractEventLoop:
    from quart_app.testing.virtual import VirtualTimeLoop

    return VirtualTimeLoop()


class LoopFactories:
    """What pytest-asyncio asks for a loop. Registered only while it looks at a test with the mark:
    it changes how every test is made for which anybody answers."""

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_asyncio_loop_factories(
        self, config: pytest.Config, item: pytest.Item
    ) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
        """The one loop of this test."""
        return {MARK: _make_loop}


FACTORIES = LoopFactories()


def pytest_configure(config: pytest.Config) -> None:
    """Say what the mark means."""
    config.addinivalue_line("markers", MEANING)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> None:
    """In pytest-asyncio's strict mode a test with the mark needs no other."""
    manager = collector.config.pluginmanager
    # By its type alone: a module's other names may be proxies that cannot be asked anything.
    if type(obj) is not types.FunctionType or not inspect.iscoroutinefunction(obj):
        return
    if not manager.hasplugin(ASYNCIO):
        return
    own = getattr(obj, "pytestmark", [])
    marks = {mark.name for mark in [*own, *collector.iter_markers()]}
    if MARK in marks and not marks & {ASYNCIO, "anyio"}:
        pytest.mark.asyncio(obj)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    """pytest-asyncio asks for the loop here."""
    manager = metafunc.config.pluginmanager
    if metafunc.definition.get_closest_marker(MARK) is None or not manager.hasplugin(ASYNCIO):
        return (yield)
    if not hasattr(manager.hook, "pytest_asyncio_loop_factories"):
        pytest.fail(TOO_OLD, pytrace=False)
    manager.register(FACTORIES)
    try:
        return (yield)
    finally:
        manager.unregister(FACTORIES)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Without pytest-asyncio a test with the mark is run here."""
    if pyfuncitem.get_closest_marker(MARK) is None:
        return None
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    if pyfuncitem.get_closest_marker("anyio") is not None:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    with asyncio.Runner(loop_factory=_make_loop) as runner:
        runner.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
