"""Settings: where they come from, what each may be, and what is said of a wrong one."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from quart_app.domain.errors import InvalidSetting, without_password
from quart_app.domain.jobs import Keep
from quart_app.domain.status import TERMINAL
from quart_app.settings import PREFIX, SETTINGS, Settings, _say_misspelt


def each(value: Any) -> dict[str, Any]:
    """The same for every final status."""
    return {"succeeded": value, "failed": value, "canceled": value}


RIGHT: dict[str, list[tuple[Any, Any]]] = {
    "tasks": [("a, b.c ,", ("a", "b.c")), (["a", "b"], ("a", "b")), (("a",), ("a",))],
    "default_task": [("report", "report")],
    "store": [
        ("memory", "memory"), ("sqlite:///jobs.db", "sqlite:///jobs.db"),
        ("sqlite:////var/lib/jobs.db", "sqlite:////var/lib/jobs.db"),
        ("sqlite:///with space/é.db", "sqlite:///with space/é.db"),
        ("redis://localhost", "redis://localhost"),
        ("rediss://u:p@host:6380/1", "rediss://u:p@host:6380/1"),
        ("postgresql://u@host/jobs", "postgresql://u@host/jobs"),
        ("postgres:///jobs", "postgres:///jobs"),
    ],
    "namespace": [("shop_2", "shop_2")],
    "lease": [("1", 1.0), (3600, 3600.0)],
    "work": [("off", False), (True, True)],
    "only": [("report, export", ("report", "export")), (["a"], ("a",))],
    "drain": [("3", 3.0), ("0", 0.0), (2.5, 2.5), (0, 0.0), ("86400", 86_400.0)],
    "grace": [("0.5", 0.5), (5, 5.0)],
    "max_running": [("1", 1), (10_000_000, 10_000_000), (" 7 ", 7)],
    "max_queued": [("10000", 10_000)],
    "threads": [("1", 1), (1_000, 1_000)],
    "processes": [("1", 1)],
    "retain_count": [
        ("0", each(0)), (7, each(7)),
        ("failed=5", {**each(10_000), "failed": 5}),
        (" succeeded = 1, failed=2 ,canceled=0", {"succeeded": 1, "failed": 2, "canceled": 0}),
        ({"failed": 5, "canceled": "6"}, {"succeeded": 10_000, "failed": 5, "canceled": 6}),
    ],
    "retain_age": [
        ("0", each(0.0)), (str(3_650 * 86_400), each(3_650 * 86_400.0)),
        ("succeeded=3600,failed=2592000", {
            "succeeded": 3_600.0, "failed": 2_592_000.0, "canceled": 86_400.0,
        }),
        ({"succeeded": 0.5}, {**each(86_400.0), "succeeded": 0.5}),
    ],
    "retain_bytes": [
        ("0", each(0)), (2**40, each(2**40)), ("canceled=0", {**each(64 * 2**20), "canceled": 0}),
    ],
    "max_body": [("2", 2)],
    "max_result": [("2", 2)],
    "log_lines": [("10", 10)],
    "log_bytes": [("100", 100)],
    "capture": [("off", False)],
    "max_lag": [("0.5", 0.5)],
    "max_watchers": [("1", 1)],
    "get_start": [
        ("on", True), ("ON", True), ("1", True), ("yes", True), ("true", True), (True, True),
        ("off", False), ("0", False), ("no", False), ("False", False), (False, False),
    ],
    "trusted_origins": [("https://a.example,https://b.example", ("https://a.example", "https://b.example"))],
    "trusted_proxies": [("0", 0), ("10", 10)],
    "blocked": [("0.01", 0.01), ("60", 60.0)],
    "debug": [("on", True), ("off", False)],
    "demo_root": [("/srv/files", "/srv/files")],
    "demo_hosts": [("a.example,b.example:8443", ("a.example", "b.example:8443"))],
}  # fmt: skip
WRONG: dict[str, list[Any]] = {
    "tasks": [5, True],
    "store": [
        "redis",
        "Memory",
        5,
        "sqlite",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite://jobs.db",
        "SQLITE:///jobs.db",
        "jobs.db",
        "mysql://localhost/jobs",
        "redis://",
        "postgresql://",
        True,
    ],
    "namespace": ["Jobs", "1jobs", "my-jobs", "a" * 41, 5],
    "lease": ["0.9", "3601", "long"],
    "work": ["perhaps"],
    "only": [5],
    "drain": ["soon", "-1", "86401", "nan", "inf", True, [], "1s"],
    "grace": ["-0.1", "3601"],
    "max_running": ["0", "-1", "1.5", 1.5, "many", True, "10000001", [1]],
    "max_queued": ["0", "1e3"],
    "threads": ["0", "1001"],
    "processes": ["0", "1001"],
    "retain_count": [
        "-1",
        "failed=-1",
        "failed=1.5",
        "failed=",
        "=5",
        "failed",
        "failed=1,2",
        "failed=1,failed=2",
        "done=5",
        "queued=5",
        "failed=1;canceled=2",
        {"running": 5},
        {"failed": None},
        [5],
    ],
    "retain_age": ["-1", "NaN", "succeeded=NaN", "succeeded=1h", {"failed": -1}],
    "retain_bytes": ["-1", 2**40 + 1, f"canceled={2**40 + 1}"],
    "max_body": ["1", "64K"],
    "max_result": ["0"],
    "log_lines": ["-1"],
    "log_bytes": ["-1"],
    "capture": ["maybe"],
    "max_lag": ["0"],
    "max_watchers": ["0"],
    "get_start": ["maybe", "2", 5],
    "trusted_origins": [5],
    "trusted_proxies": ["-1", "11", "one"],
    "blocked": ["0", "0.009", "61"],
    "debug": ["verbose"],
    "demo_hosts": [5],
}
FREE = {"default_task", "demo_root"}
"""Any text is right here; what it names is checked where it is used."""


def test_every_setting_has_examples_here() -> None:
    """Whoever adds a setting says what is right and what is wrong; its field has its name."""
    assert set(RIGHT) == set(SETTINGS)
    assert all(setting.expected and setting.meaning for setting in SETTINGS.values())
    assert set(WRONG) | FREE == set(SETTINGS)
    fields = {field.name for field in msgspec.structs.fields(Settings)}
    assert fields == set(SETTINGS) | {"sources"}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_read_from_the_environment_and_from_the_apps_config(name: str) -> None:
    """The same values, as text or as themselves; the source is kept."""
    for given, expected in RIGHT[name]:
        settings = Settings.load({}, {PREFIX + name.upper(): given})
        assert getattr(settings, name) == expected
        assert type(getattr(settings, name)) is type(expected)
        assert settings.sources[name] == "app.config"
        if isinstance(given, str):
            settings = Settings.load({PREFIX + name.upper(): given}, {})
            assert getattr(settings, name) == expected
            assert settings.sources[name] == "environment"


@pytest.mark.parametrize("name", SETTINGS)
def test_without_a_value_the_default_holds(name: str) -> None:
    """And is itself a value that could be given; an empty one counts as none."""
    settings = Settings.load({}, {})
    default = getattr(settings, name)
    assert default == SETTINGS[name].default
    assert settings.sources[name] == "default"
    assert Settings.load({PREFIX + name.upper(): ""}, {PREFIX + name.upper(): None}) == settings
    if default is not None:
        assert SETTINGS[name].read(default) == default


def test_the_address_of_a_service_is_not_taken_for_a_setting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The command line and the client read it from the same environment."""
    Settings.load({"QUART_APP_URL": "http://localhost:8000"}, {})
    assert caplog.records == []


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"STORE": "memory", "WORK": "off"}, "QUART_APP_WORK"),
        ({"STORE": "sqlite:///jobs.db", "ONLY": "report"}, "QUART_APP_ONLY"),
        ({"STORE": "redis://localhost", "ONLY": "report,nothing"}, "'nothing'"),
    ],
)
def test_work_is_left_to_others_only_where_there_may_be_some(
    values: dict[str, str], named: str
) -> None:
    """Otherwise jobs would wait for ever, or the setting do nothing."""
    settings = Settings.load({PREFIX + name: value for name, value in values.items()}, {})
    with pytest.raises(InvalidSetting, match=named):
        settings.check_work({"report"})


@pytest.mark.parametrize("only", ["", "report"])
def test_others_may_do_the_work_where_they_share_the_store(only: str) -> None:
    """With any store that several processes share."""
    settings = Settings.load(
        {"QUART_APP_STORE": "redis://localhost", "QUART_APP_WORK": "off", "QUART_APP_ONLY": only},
        {},
    )
    settings.check_work({"report"})


def test_no_password_is_shown() -> None:
    """A URL that is refused is shown without it."""
    with pytest.raises(InvalidSetting) as caught:
        Settings.load({}, {"QUART_APP_STORE": "mysql://me:s3cret@host/jobs"})
    assert "s3cret" not in str(caught.value)
    assert "mysql://me:...@host/jobs" in str(caught.value)
    assert without_password("redis://me:a@b/c@host/0") == "redis://me:...@host/0"


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_names_the_setting_the_value_and_what_it_may_be(name: str) -> None:
    """In one sentence, with where it came from."""
    key, expected = PREFIX + name.upper(), SETTINGS[name].expected
    for given in WRONG[name]:
        with pytest.raises(InvalidSetting) as caught:
            Settings.load({}, {key: given})
        assert (caught.value.name, caught.value.value) == (key, given)
        message = f"{key}={given!r} (from app.config) is not valid: it must be {expected}"
        assert str(caught.value) == message
        if isinstance(given, str):
            with pytest.raises(InvalidSetting, match="from environment"):
                Settings.load({key: given}, {})


def test_the_environment_beats_the_apps_config_and_that_the_defaults() -> None:
    """An operator can change what a developer has set."""
    settings = Settings.load({"QUART_APP_DRAIN": "1"}, {"QUART_APP_DRAIN": 2}, drain=3.0)
    assert (settings.drain, settings.sources["drain"]) == (1.0, "environment")
    settings = Settings.load({}, {"QUART_APP_DRAIN": 2}, drain=3.0)
    assert (settings.drain, settings.sources["drain"]) == (2.0, "app.config")
    settings = Settings.load({}, {}, drain=3.0)
    assert (settings.drain, settings.sources["drain"]) == (3.0, "default")
    assert Settings.load({}).grace == 5.0


def test_a_wrong_value_of_the_config_is_refused_though_the_environment_beats_it() -> None:
    """It would come back the day the variable is taken away."""
    with pytest.raises(InvalidSetting, match=r"from app\.config"):
        Settings.load({"QUART_APP_DRAIN": "1"}, {"QUART_APP_DRAIN": "soon"})


def test_the_process_environment_is_read_unless_another_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``Settings.load()``."""
    monkeypatch.setenv("QUART_APP_MAX_QUEUED", "77")
    assert Settings.load().max_queued == 77
    assert Settings.load({}).max_queued == 10_000


def test_the_retention_of_a_status_is_what_was_said_of_it() -> None:
    """Count, age and bytes of each; what is not named keeps its default."""
    assert Settings.load({}).retention == each(Keep(10_000, 86_400.0, 64 * 2**20))
    environ = {"QUART_APP_RETAIN_AGE": "failed=2592000", "QUART_APP_RETAIN_COUNT": "50"}
    retention = Settings.load(environ, {"QUART_APP_RETAIN_BYTES": {"canceled": 0}}).retention
    assert retention == {
        "succeeded": Keep(50, 86_400.0, 64 * 2**20),
        "failed": Keep(50, 2_592_000.0, 64 * 2**20),
        "canceled": Keep(50, 86_400.0, 0),
    }
    assert set(retention) == TERMINAL


def test_settings_do_not_change() -> None:
    """Frozen: whoever wants another value starts again."""
    with pytest.raises(AttributeError):
        Settings.load({}).drain = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("QUART_APP_DRIAN", "QUART_APP_DRAIN"),
        ("QUART_APP_MAX_QUEUE", "QUART_APP_MAX_QUEUED"),
        ("QUART_APP_DEFAULT_TASKS", "QUART_APP_DEFAULT_TASK"),
        ("QUART_APP_TRUSTED_PROXYS", "QUART_APP_TRUSTED_PROXIES"),
    ],
)
def test_a_misspelt_name_is_warned_of(
    name: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the name that was probably meant, once, however often a start reads them; it goes on."""
    _say_misspelt.cache_clear()
    for _ in range(3):
        Settings.load({name: "1"}, {})
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"{name} is no setting: did you mean {meant}?"


def test_names_that_resemble_nothing_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Orchestrators set names of their own, and other programs have their own prefixes."""
    environ = {"QUART_APP_SERVICE_HOST": "x", "QUART_APP_PORT_8000_TCP": "x", "DRAIN": "x"}
    assert Settings.load(environ, {}) == Settings.load({}, {})
    assert caplog.records == []
