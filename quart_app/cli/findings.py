"""What `doctor` finds on this machine: versions, Hypercorn's settings, the store and its disk.

Nothing may live here that asks the service over HTTP; that is `probing`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import ipaddress
import logging
import os
import platform
import re
import shutil
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from hypercorn.config import Config

from quart_app.app import STANDALONE_STORE
from quart_app.domain.errors import InvalidSetting, without_password
from quart_app.hosting import check
from quart_app.settings import SQLITE, Settings
from quart_app.stores.sqlite.store import path_of

PACKAGES = ("quart-app", "quart", "hypercorn", "msgspec", "click", "httpx2")
LITTLE, TOO_LITTLE = 2**30, 200 * 2**20
"""Free bytes of the disk that call for a look, and for action."""
CONNECT = 3.0
MAGIC = b"SQLite format 3\0"
PORTS = {"redis": 6379, "rediss": 6379, "postgresql": 5432, "postgres": 5432}
SENTINEL = 26379
"""Where a Sentinel listens whose port is not named."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    Args:
        what: was looked at.
        level: ``wrong`` makes the exit status 1.
        says: what was found.
        do: what to do about it.
    """

    what: str
    level: Literal["ok", "warning", "wrong", "skipped"] = "ok"
    says: str
    do: str = ""


def versions(of_service: dict[str, str] | None) -> Iterator[Finding]:
    """The versions here, and those of the service where they differ."""
    here = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            here[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    yield Finding(what="versions", says=", ".join(f"{name} {v}" for name, v in here.items()))
    theirs = (of_service or {}).get("quart-app")
    if theirs is not None and theirs != here.get("quart-app"):
        yield Finding(
            what="versions", level="warning",
            says=f"the service is quart-app {theirs}, this is {here.get('quart-app')}",
            do="install the same version here and there",
        )  # fmt: skip


def read_settings() -> Settings | Finding:
    """The settings that a service would have that were started here."""
    try:
        # The one variable of ours that is none of the service's.
        environ = {k: v for k, v in os.environ.items() if k != "QUART_APP_URL"}
        return Settings.load(environ, store=STANDALONE_STORE)
    except InvalidSetting as error:
        return Finding(what="settings", level="wrong", says=str(error), do=f"change {error.name}")


def hypercorn(file: Path, settings: Settings, *, answers_all: bool) -> Iterator[Finding]:
    """Hypercorn's settings against what jobs need at a shutdown.

    Args:
        answers_all: whether the service is known to answer who has no credentials.
    """
    try:
        config = Config.from_toml(file)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        yield Finding(what=str(file), level="wrong", says=f"cannot be read: {error}", do="mend it")
        return
    heard = _Heard()
    logger = logging.getLogger("quart_app")
    logger.addHandler(heard)
    sound = True
    try:
        check(config, drain=settings.drain, grace=settings.grace, shared=settings.shared)
    except InvalidSetting as error:
        sound = False
        says = f"{error.name}={error.value!r} will be refused"
        do = f"set {error.name} to {error.expected}"
        yield Finding(what=str(file), level="wrong", says=says, do=do)
    finally:
        logger.removeHandler(heard)
    for message in heard.messages:
        yield Finding(what=str(file), level="warning", says=message, do="leave it unset")
    yield from _workers(file, config, settings)
    if sound:
        needs = settings.drain + settings.grace + 1
        says = f"shutdown_timeout={config.shutdown_timeout:g} is enough for the drain ({needs:g})"
        yield Finding(what=str(file), says=says)
    yield from binds(str(file), config.bind, answers_all=answers_all)


class _Heard(logging.Handler):
    """Keeps what is warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.messages.append(record.getMessage())


def _workers(file: Path, config: Config, settings: Settings) -> Iterator[Finding]:
    """`check` sees a master only from below it; here the file must tell."""
    if config.workers == 0:
        return
    says = f"workers={config.workers} puts a master process above the service"
    if config.workers > 1 and not settings.shared:
        yield Finding(
            what=str(file), level="wrong",
            says=f"{says}, and each worker would have jobs of its own",
            do="set workers = 0, or QUART_APP_STORE=redis://... or postgresql://...",
        )  # fmt: skip
        return
    yield Finding(
        what=str(file), level="warning",
        says=f'{says}: a group SIGTERM ends jobs undrained, and run="process" tasks fail',
        do="set workers = 0, or start it with 'quart-app serve'",
    )  # fmt: skip


def binds(what: str, addresses: Iterable[str], *, answers_all: bool) -> Iterator[Finding]:
    """Whether it listens to other machines.

    >>> [each.level for each in binds("x", ["0.0.0.0:80", "127.0.0.1:80"], answers_all=True)]
    ['wrong']
    """
    wide = [each for each in addresses if not is_loopback(host_of(each))]
    if wide:
        yield Finding(
            what=what, level="wrong" if answers_all else "warning",
            says=f"bind {', '.join(wide)} can be reached by other machines"
            + (", and the service answers who has no credentials" if answers_all else ""),
            do="bind 127.0.0.1 and put a proxy with a login in front, or shut others out",
        )  # fmt: skip


def host_of(address: str) -> str:
    """The host of a bind or a URL.

    >>> host_of("[::]:8000"), host_of("http://127.0.0.1:8000/x"), host_of("unix:/run/x.sock")
    ('::', '127.0.0.1', 'localhost')
    """
    if address.startswith(("unix:", "fd://")):
        return "localhost"
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant.

    >>> [is_loopback(each) for each in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "example.com")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def store(settings: Settings) -> Iterator[Finding]:
    """Whether the store can be reached, and has room."""
    where = settings.store
    if where == "memory":
        yield Finding(
            what="store", level="warning", says="jobs are kept in memory: a restart forgets them",
            do="set QUART_APP_STORE=sqlite:///jobs.db",
        )  # fmt: skip
    elif where.startswith(SQLITE):
        yield from sqlite(path_of(where))
    else:
        yield _server(where)


def sqlite(path: Path) -> Iterator[Finding]:
    """A database, and its disk."""
    folder = path.resolve().parent
    if not folder.is_dir():
        yield Finding(
            what="store", level="wrong", says=f"{folder} is no directory", do=f"mkdir -p {folder}"
        )
        return
    if not os.access(path if path.exists() else folder, os.W_OK) or not os.access(folder, os.W_OK):
        yield Finding(
            what="store", level="wrong", says=f"{path} and its directory cannot be written to",
            do="give them to the user that runs the service",
        )  # fmt: skip
    elif not path.exists():
        yield Finding(what="store", says=f"{path} will be made at the first start")
    else:
        yield _readable(path)
    yield disk(folder, shutil.disk_usage(folder).free)


def _readable(path: Path) -> Finding:
    """Only whether it is a database at all: `check` reads all of it."""
    try:
        with path.open("rb") as file:
            first = file.read(len(MAGIC))
    except OSError as error:
        do = "give it to the user that runs the service"
        return Finding(what="store", level="wrong", says=f"{path}: {error}", do=do)
    if first not in (MAGIC, b""):
        do = "restore a backup, or name another file in QUART_APP_STORE"
        return Finding(what="store", level="wrong", says=f"{path} is no SQLite database", do=do)
    says = f"{path} has {path.stat().st_size:,} bytes ('quart-app check' reads all of it)"
    return Finding(what="store", says=says)


def disk(folder: Path, free: int) -> Finding:
    """Whether there is room.

    >>> disk(Path("/x"), 5 * 2**20).level
    'wrong'
    """
    says = f"{free / 2**30:.1f} GiB are free in {folder}"
    if free >= LITTLE:
        return Finding(what="disk", says=says)
    level: Any = "wrong" if free < TOO_LITTLE else "warning"
    do = "make room, or keep less: QUART_APP_RETAIN_COUNT, _AGE, _BYTES"
    return Finding(what="disk", level=level, says=says, do=do)


def _server(url: str) -> Finding:
    shown, wrong = without_password(url), ""
    for place in addresses(url):
        try:
            with socket.create_connection(place, CONNECT):
                return Finding(what="store", says=f"{shown} takes connections")
        except OSError as error:
            wrong = str(error)
    do = "start it, or change QUART_APP_STORE"
    return Finding(what="store", level="wrong", says=f"{shown}: {wrong or 'no address'}", do=do)


def addresses(url: str) -> list[tuple[str, int]]:
    """The hosts and ports of a store's URL; Sentinels are a list.

    >>> addresses("redis+sentinel://me:x@a,[::1]:1/mymaster")
    [('a', 26379), ('::1', 1)]
    """
    scheme, _, rest = url.partition("://")
    kind, _, way = scheme.partition("+")
    default = SENTINEL if way == "sentinel" else PORTS.get(kind, 0)
    hosts = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    found = list[tuple[str, int]]()
    for each in hosts.split(","):
        with contextlib.suppress(ValueError):
            part = urlsplit(f"//{each.strip()}")
            found.append((part.hostname or "localhost", part.port or default))
    return found
