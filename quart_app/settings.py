"""All settings, read in one place: from the environment (``QUART_APP_*``) and from ``app.config``.

The environment wins, so that an operator can change what a developer has set. A wrong value stops
the start with its name, what it was and what it may be. Nothing may live here that acts on a value.
"""

from __future__ import annotations

import difflib
import functools
import logging
import os
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import msgspec

from quart_app.domain.errors import InvalidSetting, without_password
from quart_app.domain.jobs import Keep, Retention
from quart_app.domain.status import Status
from quart_app.domain.tasks import Lane

logger = logging.getLogger("quart_app")

PREFIX = "QUART_APP_"
CLIENTS = PREFIX + "URL"
"""Where the command line and the Python client look for a service; no setting of one."""
DAY = 86_400.0
SQLITE = "sqlite:///"
REDIS = tuple(
    f"{tls}{way}://" for tls in ("redis", "rediss") for way in ("", "+sentinel", "+cluster")
)
POSTGRES = ("postgresql://", "postgres://")
ENDED: tuple[Status, ...] = ("succeeded", "failed", "canceled")


class Setting(NamedTuple):
    """One setting: how its text is read, what it may be, and what it is for."""

    default: Any
    read: Callable[[Any], Any]
    expected: str
    meaning: str


def _number(least: float, most: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        number = float(value)
        if isinstance(value, bool) or not least <= number <= most:
            raise ValueError(value)
        return number

    return read


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        number = int(value)
        if isinstance(value, (bool, float)) or not least <= number <= most:
            raise ValueError(value)
        return number

    return read


def _switch(value: Any) -> bool:
    words = {"1": True, "true": True, "on": True, "yes": True}
    words |= {"0": False, "false": False, "off": False, "no": False}
    return words[str(value).lower()]


def _words(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else list(value)
    return tuple(part.strip() for part in parts if part.strip())


def seconds(default: float, least: float, most: float, meaning: str) -> Setting:
    """A duration."""
    return Setting(default, _number(least, most), f"{least:g} to {most:.0f} seconds", meaning)


def count(default: int, least: int, most: int, meaning: str) -> Setting:
    """A whole number."""
    return Setting(default, _whole(least, most), f"a whole number from {least} to {most}", meaning)


def by_status(each: Setting) -> Setting:
    """One value for all final statuses, or one for each that is named."""
    default = dict.fromkeys(ENDED, each.default)

    def read(value: Any) -> dict[Status, Any]:
        if isinstance(value, str) and "=" in value:
            pairs = [part.split("=", 1) for part in _words(value)]
            value = {status.strip(): one for status, one in pairs}
            if len(value) < len(pairs):
                raise ValueError("a status is named twice")
        if not isinstance(value, Mapping):
            return dict.fromkeys(ENDED, each.read(value))
        if not set(value) <= set(ENDED):
            raise ValueError(value)
        return {**default, **{status: each.read(one) for status, one in value.items()}}

    expected = f"{each.expected}, or such for each status: {ENDED[0]}=...,{ENDED[1]}=..."
    return Setting(default, read, expected, each.meaning)


def _store(value: Any) -> str:
    schemes = (SQLITE, *REDIS, *POSTGRES)
    if value != "memory" and not any(
        str(value).startswith(scheme) and len(str(value)) > len(scheme) for scheme in schemes
    ):
        raise ValueError(value)
    return str(value)


def _namespace(value: Any) -> str:
    if not re.fullmatch("[a-z][a-z0-9_]{0,39}", str(value)):
        raise ValueError(value)
    return str(value)


SWITCH = "on or off"
WORDS = "words with commas between them"
BIG = 2**40

SETTINGS: dict[str, Setting] = {
    "tasks": Setting((), _words, WORDS, "modules whose tasks are offered"),
    "default_task": Setting(None, str, "a task's name", "what /start starts"),
    "store": Setting(
        "memory",
        _store,
        "memory, sqlite:///FILE (sqlite:////FILE from the root), redis://HOST:PORT/DB, "
        "redis+sentinel://HOST:PORT,HOST:PORT/MASTER, redis+cluster://HOST:PORT or "
        "postgresql://USER@HOST/DATABASE",
        "where jobs are kept",
    ),
    "namespace": Setting(
        "quart_app",
        _namespace,
        "small letters, digits and underscores, at most 40",
        "what keeps the jobs of several apps apart in one Redis or PostgreSQL",
    ),
    "lease": seconds(
        30.0, 1, 3_600, "how long a process that says nothing counts as alive (Redis, PostgreSQL)"
    ),
    "work": Setting(
        True, _switch, SWITCH, "whether this process runs jobs, where others could instead"
    ),
    "only": Setting((), _words, WORDS, "the tasks that this process runs, where others run all"),
    "drain": seconds(20.0, 0, 86_400, "how long running jobs have to end at a shutdown"),
    "grace": seconds(5.0, 0, 3_600, "how long a job has to stop after it was asked to"),
    "max_running": count(1_000, 1, 10_000_000, "jobs on the loop at once"),
    "max_queued": count(10_000, 1, 10_000_000, "jobs that may wait"),
    "threads": count(32, 1, 1_000, "def functions at once"),
    "processes": count(os.cpu_count() or 1, 1, 1_000, 'run="process" functions at once'),
    "retain_count": by_status(
        count(10_000, 0, 100_000_000, "finished jobs that are kept of each status")
    ),
    "retain_age": by_status(seconds(DAY, 0, 3_650 * DAY, "how long finished jobs are kept")),
    "retain_bytes": by_status(
        count(64 * 2**20, 0, BIG, "bytes of arguments and results that are kept of each status")
    ),
    "max_body": count(64 * 2**10, 2, BIG, "bytes of a request's body"),
    "max_result": count(2**20, 2, BIG, "bytes of a result"),
    "log_lines": count(1_000, 1, 1_000_000, "lines of a job's log that are kept, the newest"),
    "log_bytes": count(256 * 2**10, 0, BIG, "bytes of a job's log that are kept, the newest"),
    "capture": Setting(True, _switch, SWITCH, "whether print and logging go to the job's log"),
    "max_lag": seconds(0.2, 0.01, 60, "how late the loop may be before no new job begins on it"),
    "max_watchers": count(10_000, 1, 10_000_000, "requests that wait for a job at once"),
    "get_start": Setting(True, _switch, SWITCH, "whether GET /start starts the default task"),
    "trusted_origins": Setting((), _words, WORDS, "other sites whose pages may start jobs"),
    "trusted_proxies": count(0, 0, 10, "proxies whose X-Forwarded headers are believed"),
    "blocked": seconds(0.1, 0.01, 60, "how long the loop may stand still before that is reported"),
    "debug": Setting(False, _switch, SWITCH, "tracebacks in the jobs' documents"),
    "demo_root": Setting(None, str, "a directory", "which files the demo's tasks may read"),
    "demo_hosts": Setting((), _words, WORDS, "which hosts (host or host:port) fetch_all may ask"),
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one app; `SETTINGS` says what each may be and is for.

    ``sources`` tells where each value came from.

    >>> settings = Settings.load({"QUART_APP_DRAIN": "3"}, {})
    >>> settings.drain, settings.sources["drain"], settings.grace
    (3.0, 'environment', 5.0)
    >>> Settings.load({"QUART_APP_DRAIN": "soon"}, {})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    quart_app.domain.errors.InvalidSetting: ...it must be 0 to 86400 seconds
    """

    tasks: tuple[str, ...]
    default_task: str | None
    store: str
    namespace: str
    lease: float
    work: bool
    only: tuple[str, ...]
    drain: float
    grace: float
    max_running: int
    max_queued: int
    threads: int
    processes: int
    retain_count: dict[Status, int]
    retain_age: dict[Status, float]
    retain_bytes: dict[Status, int]
    max_body: int
    max_result: int
    log_lines: int
    log_bytes: int
    capture: bool
    max_lag: float
    max_watchers: int
    get_start: bool
    trusted_origins: tuple[str, ...]
    trusted_proxies: int
    blocked: float
    debug: bool
    demo_root: str | None
    demo_hosts: tuple[str, ...]
    sources: dict[str, str]

    @property
    def retention(self) -> Retention:
        """What is kept of the jobs that are over."""
        return {
            status: Keep(
                self.retain_count[status], self.retain_age[status], self.retain_bytes[status]
            )
            for status in ENDED
        }

    @property
    def shared(self) -> bool:
        """Whether other processes may work with the same jobs."""
        return self.store.startswith((*REDIS, *POSTGRES))

    def describe(self) -> list[dict[str, Any]]:
        """Each setting as an operator wants to see it; no password is shown."""
        return [
            {
                "name": PREFIX + name.upper(),
                "value": _shown(getattr(self, name)),
                "source": self.sources[name],
                "meaning": setting.meaning,
                "expected": setting.expected,
            }
            for name, setting in SETTINGS.items()
        ]

    def check_work(self, offered: Collection[str]) -> None:
        """Refuse what says that others run the jobs where there are none, or names what nobody
        offers.

        Raises:
            InvalidSetting: with the reason.
        """
        if not self.shared and not (self.work and not self.only):
            name = "only" if self.work else "work"
            value = ",".join(self.only) if self.work else "off"
            expected = (
                "left out: with this store no other process runs the jobs (QUART_APP_STORE="
                "redis://... or postgresql://... is one that several share)"
            )
            raise InvalidSetting(PREFIX + name.upper(), value, expected, self.sources[name])
        for name in self.only:
            if name not in offered:
                tasks = ", ".join(sorted(offered)) or "there are none"
                expected = f"names of tasks that are offered: {tasks}"
                raise InvalidSetting("QUART_APP_ONLY", name, expected, self.sources["only"])

    @property
    def rooms(self) -> dict[Lane, int]:
        """How many jobs of each lane run at once."""
        return {"loop": self.max_running, "thread": self.threads, "process": self.processes}

    @classmethod
    def load(
        cls,
        environ: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        **defaults: Any,
    ) -> Settings:
        """Read the settings.

        Args:
            environ: the environment; ``os.environ`` unless given.
            config: an app's configuration.
            defaults: other defaults than those of `SETTINGS`.

        Raises:
            InvalidSetting: naming the first that is wrong.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for name, setting in SETTINGS.items():
            values[name], sources[name] = defaults.get(name, setting.default), "default"
            for source, mapping in (("app.config", config or {}), ("environment", environ)):
                if (given := mapping.get(PREFIX + name.upper())) not in (None, ""):
                    values[name], sources[name] = _read(name, setting, given, source), source
        _warn_of_unknown(environ)
        return cls(**values, sources=sources)


def _shown(value: Any) -> Any:
    return without_password(value) if isinstance(value, str) else value


def _read(name: str, setting: Setting, given: Any, source: str) -> Any:
    try:
        return setting.read(given)
    except (ValueError, TypeError, KeyError):
        raise InvalidSetting(PREFIX + name.upper(), given, setting.expected, source) from None


def _warn_of_unknown(environ: Mapping[str, Any]) -> None:
    """Say that a name is probably misspelt. Not more: orchestrators set names of their own."""
    known = [PREFIX + name.upper() for name in SETTINGS]
    for name in environ:
        if name.startswith(PREFIX) and name not in (*known, CLIENTS):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            if near:
                _say_misspelt(name, near[0])


@functools.cache  # A start reads the settings more than once.
def _say_misspelt(name: str, near: str) -> None:
    logger.warning("%s is no setting: did you mean %s?", name, near)
