"""The server around us: what of it is refused or warned of, the end of its process, its signals."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.config import Config

from quart_app import create_app, hosting
from quart_app.app import get_jobs
from quart_app.domain.errors import InvalidSetting
from quart_app.hosting import Deadline, SignalNotice, check, find_host, has_master
from quart_app.settings import Settings
from quart_app.testing import wait_until
from tests.http.listening import listening

ROOT = Path(__file__).parents[1]


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker under Hypercorn's master process."""
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())


def config(**changes: Any) -> Config:
    """Hypercorn's settings, changed."""
    return Config.from_mapping(changes)


def checked(given: Config, *, drain: float = 20, grace: float = 5) -> None:
    """Check with our own defaults."""
    check(given, drain=drain, grace=grace)


class TestCheck:
    def test_hypercorns_defaults_are_fine(self, caplog: pytest.LogCaptureFixture) -> None:
        """Called in one process: nothing to refuse, nothing to warn of."""
        checked(config())
        checked(config(workers=2))  # Nobody has made two: there is no master.
        assert caplog.records == []

    @pytest.mark.usefixtures("master")
    def test_two_workers_are_refused(self) -> None:
        """Each would have jobs of its own: the reason is named, and what to set."""
        with pytest.raises(InvalidSetting) as caught:
            checked(config(workers=2))
        assert str(caught.value) == (
            "workers=2 (from Hypercorn's configuration) is not valid: it must be 0 (or 1), or "
            "QUART_APP_STORE=redis://... or postgresql://...: each worker would have jobs of its "
            "own, and a worker that does not know the job would answer for its status and cancel"
        )

    @pytest.mark.usefixtures("master")
    def test_two_workers_may_share_a_store(self) -> None:
        """Then each knows every job."""
        check(config(workers=2), drain=1, grace=1, shared=True)

    @pytest.mark.usefixtures("master")
    def test_a_master_process_is_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        """SIGTERM to the group would not drain, and process tasks fail."""
        checked(config(workers=1))
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert "workers=1" in record.getMessage()
        assert "workers = 0" in record.getMessage()

    def test_recycled_workers_are_refused(self) -> None:
        """max_requests kills running jobs."""
        with pytest.raises(InvalidSetting, match="recycled worker kills") as caught:
            checked(config(max_requests=1_000))
        assert (caught.value.name, caught.value.value) == ("max_requests", 1_000)

    def test_a_shutdown_timeout_below_ours_is_refused(self) -> None:
        """Hypercorn would end the drain; the least that will do is named."""
        with pytest.raises(InvalidSetting, match="at least 26 ") as caught:
            checked(config(shutdown_timeout=25.9))
        assert caught.value.name == "shutdown_timeout"
        checked(config(shutdown_timeout=26))
        checked(config(shutdown_timeout=2), drain=0, grace=1)
        with pytest.raises(InvalidSetting, match=r"at least 301\.5 "):
            checked(config(), drain=300, grace=0.5)

    def test_a_read_timeout_is_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        """It cuts healthy streams."""
        checked(config(read_timeout=30))
        [record] = caplog.records
        assert "read_timeout=30" in record.getMessage()

    def test_the_shipped_configuration_passes_without_a_warning(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """hypercorn.toml with the default settings: one process, no master, enough time."""
        path = ROOT / "hypercorn.toml"
        shipped = Config.from_toml(path)
        settings = Settings.load({})
        checked(shipped, drain=settings.drain, grace=settings.grace)
        assert caplog.records == []
        values = tomllib.loads(path.read_text())
        assert values["workers"] == 0
        assert not {"read_timeout", "max_requests", "use_reloader"} & set(values)
        for name in values:
            assert hasattr(shipped, name), f"Hypercorn has no setting {name}"


class TestHost:
    async def test_the_hypercorn_that_starts_us_is_found(self) -> None:
        """Its settings, and that it was called and not the command."""
        app = create_app(QUART_APP_DRAIN=0, QUART_APP_GRACE=1)
        async with listening(app) as server:
            jobs = get_jobs(app)
            await wait_until(lambda: jobs.parts is not None, "it serves")
            assert jobs._host is not None
            assert jobs._host.config.graceful_timeout == 0.5
            assert jobs._host.is_command is False
            server.stop.set()

    async def test_what_it_is_set_to_is_checked_at_the_start(self) -> None:
        """A start-up that fails is a failed start of the server."""
        app = create_app(QUART_APP_DRAIN=100)
        with pytest.raises(Exception, match=r"Lifespan failure.*shutdown_timeout"):
            async with listening(app):
                pass
        assert get_jobs(app).parts is None

    async def test_under_another_server_there_is_none(self) -> None:
        """Nothing is checked then."""
        assert find_host() is None
        app = create_app(QUART_APP_DRAIN=0)
        async with app.test_app():
            assert get_jobs(app)._host is None

    def test_the_command_is_told_from_a_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the frame of its worker, whose end is the process's end."""
        found: list[Any] = []

        def command() -> None:
            found.append(find_lifespan())

        def find_lifespan() -> Any:
            self = Lifespan.__new__(Lifespan)
            self.config = Config()
            return find_host()

        monkeypatch.setattr(hosting, "worker", command)
        command()
        found.append(find_lifespan())
        assert [host.is_command for host in found] == [True, False]

    def test_this_process_has_no_master(self) -> None:
        """It was not started by multiprocessing."""
        assert has_master() is False


class TestDeadline:
    def left(self) -> tuple[Deadline, list[int], threading.Event]:
        """A deadline that tells instead of ending the process."""
        statuses: list[int] = []
        gone = threading.Event()

        def leave(status: int) -> None:
            statuses.append(status)
            gone.set()

        return Deadline(leave), statuses, gone

    def test_the_process_is_left_at_the_moment(self, capsys: pytest.CaptureFixture[str]) -> None:
        """With status 1 and a sentence, from a thread: the loop may be blocked."""
        deadline, statuses, gone = self.left()
        deadline.within(0.01)
        assert gone.wait(5)
        assert statuses == [hosting.FORCED]
        assert "did not come to an end in time" in capsys.readouterr().err

    def test_the_earlier_of_two_moments_counts(self, capsys: pytest.CaptureFixture[str]) -> None:
        """And the later word on the status."""
        deadline, statuses, gone = self.left()
        deadline.within(60)
        deadline.within(0.01, status=0)
        deadline.within(60, status=0)
        assert gone.wait(5)
        assert statuses == [0]
        assert capsys.readouterr().err == ""

    def test_what_ended_in_time_is_not_left(self) -> None:
        """Canceled; and a new one can be set."""
        deadline, statuses, gone = self.left()
        deadline.cancel()
        deadline.within(60)
        thread = deadline._thread
        assert thread is not None
        deadline.cancel()
        thread.join(5)
        assert deadline._thread is None
        assert statuses == []
        deadline.within(0.01, status=0)
        assert gone.wait(5)

    def test_by_itself_it_ends_the_process(self) -> None:
        """With os._exit: no thread and no handler can hold it up."""
        leave: Any = Deadline()._leave
        # Whoever measures coverage has put a function of its own in its place.
        assert leave is os._exit or leave.__module__.startswith("coverage.")


@pytest.fixture
def handlers() -> Iterator[None]:
    """Leave the signals as they were."""
    before = {number: signal.getsignal(number) for number in hosting.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
class TestSignalNotice:
    async def test_signals_are_heard_beside_the_server(self) -> None:
        """Once each, and the server's own handling goes on unchanged."""
        loop = asyncio.get_running_loop()
        server: list[int] = []
        ours: list[int] = []
        for number in hosting.SIGNALS:
            loop.add_signal_handler(number, server.append, number)
        notice = SignalNotice(lambda: ours.append(1))
        notice.start()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await wait_until(lambda: server == [signal.SIGTERM], "the server hears it")
            assert ours == [1]
            os.kill(os.getpid(), signal.SIGINT)
            await wait_until(lambda: server == [signal.SIGTERM, signal.SIGINT], "and the second")
            assert ours == [1, 1]
            notice.stop()
            os.kill(os.getpid(), signal.SIGTERM)
            await wait_until(lambda: len(server) == 3, "the server goes on hearing them")
            assert ours == [1, 1]
        finally:
            for number in hosting.SIGNALS:
                loop.remove_signal_handler(number)

    async def test_where_asyncio_does_not_handle_the_signals_they_are_left_alone(self) -> None:
        """Another server has handlers of its own, and Python has one for SIGINT."""
        before = [signal.getsignal(number) for number in hosting.SIGNALS]
        notice = SignalNotice(lambda: None)
        notice.start()
        assert [signal.getsignal(number) for number in hosting.SIGNALS] == before
        notice.stop()
        assert [signal.getsignal(number) for number in hosting.SIGNALS] == before

    async def test_a_handler_that_came_later_is_left_alone(self) -> None:
        """Whoever took the signal over in the meantime keeps it."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: None)
        notice = SignalNotice(lambda: None)
        notice.start()
        signal.signal(signal.SIGTERM, theirs)
        notice.stop()
        assert signal.getsignal(signal.SIGTERM) is theirs
        loop.remove_signal_handler(signal.SIGTERM)

    def test_only_the_main_thread_can_listen(self) -> None:
        """Elsewhere Python allows no handler; the start goes on without."""
        notice = SignalNotice(lambda: None)
        thread = threading.Thread(target=notice.start)
        thread.start()
        thread.join()
        assert notice._handling == []


def theirs(number: int, frame: object) -> None:
    """Somebody else's handler."""
