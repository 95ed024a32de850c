"""Fixtures for every test: nothing may be left behind, and time may be virtual."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping

import pytest
from blockbuster import blockbuster_ctx

from quart_app.testing import VirtualTimeLoop
from tests.servers import PostgresServer, RedisServer
from tests.topologies import Cluster, Sentinels

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.hookimpl
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    """``@pytest.mark.virtual``: the test's clock jumps when nobody can go on."""
    if item.get_closest_marker("virtual") is not None:
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture(autouse=True, scope="module")
def _looked_through_once() -> None:
    """What is there before a module's first test is not looked through again after each of its
    tests: what the modules before it have imported and cached is most of what there is."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on what the developer's shell has set."""
    for name in list(os.environ):
        if name.startswith("QUART_APP_"):
            monkeypatch.delenv(name)
    # The standalone app would keep its jobs in a file of the working directory.
    monkeypatch.setattr(sys.modules["quart_app.app"], "STANDALONE_STORE", "memory")


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    left = [thread for thread in threading.enumerate() if thread not in before]
    until = time.monotonic() + 5  # For all of them: a failed state machine leaves hundreds.
    for thread in left:
        thread.join(timeout=max(0.0, until - time.monotonic()))
    stuck = [thread.name for thread in left if thread.is_alive()]
    assert not stuck, f"left behind: {stuck}"


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> None:
    """Keep the log of our own loggers for `caplog`."""
    caplog.set_level(logging.INFO, "quart_app")


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where our code, on the loop, calls something that blocks."""
    if request.node.get_closest_marker("blocking") is not None:
        yield
        return
    with blockbuster_ctx("quart_app") as blockers:
        # Tests build their apps on the loop; elsewhere that is done before there is one.
        for builder in ("create_app", "_blueprint"):
            blockers.functions["os.path.abspath"].can_block_in("quart_app/app.py", builder)
        # Coverage takes a lock whenever it meets a new file.
        blockers.functions["threading.Lock.acquire"].can_block_in(
            "coverage/collector.py", "lock_data"
        )
        # Quart looks for a static file on the loop: microseconds, and nobody else's disk.
        blockers.functions["os.stat"].can_block_in("quart_app/http/meta.py", "docs_file")
        blockers.functions["os.stat"].can_block_in("quart_app/http/dashboard.py", "file")
        yield


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis of this run; tests keep apart by a namespace each. Who kills one starts their own."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def sentinels() -> Iterator[Sentinels]:
    """A master of Redis with Sentinels; as `redis_server`."""
    made = Sentinels()
    yield made
    made.close()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster of Redis; as `redis_server`."""
    made = Cluster()
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this run; as `redis_server`."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def namespace() -> str:
    """A name that no other test has."""
    return f"t{uuid.uuid4().hex[:16]}"
