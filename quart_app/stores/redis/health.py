"""What is wrong with the server, in sentences. Only telling may live here, no calls of it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from redis.exceptions import RedisError, ResponseError

from quart_app.domain.errors import without_password

UNKNOWN = "whether it has kept this is unknown"
NOT_DONE = "nothing was written"

_SAID = (
    ("OOM", "has no memory left (maxmemory): give it more, or keep fewer jobs"),
    ("READONLY", "is a read-only replica: wait for the failover, or name the primary in the URL"),
    ("MISCONF", "cannot write to its disk and so refuses writes: see its log"),
    ("NOREPLICAS", "has too few replicas and so refuses writes: see min-replicas-to-write"),
    ("LOADING", "has just started and still loads its data: wait"),
    ("BUSY", "is busy with somebody's script: wait, or see SCRIPT KILL"),
    ("MASTERDOWN", "is a replica that has lost its primary: wait for the failover"),
    ("CLUSTERDOWN", "is a node of a cluster that is down: see CLUSTER INFO"),
    ("cluster support disabled", "is no cluster: the URL is redis://HOST:PORT/DB"),
    ("No such master", "name no master of this name: see SENTINEL MASTERS"),
    ("TRYAGAIN", "is moving these jobs to another node: try again"),
    ("ASK", "is moving these jobs to another node: try again"),
    ("NOAUTH", "asks for a password: give it in the URL"),
    ("WRONGPASS", "refuses the user or password of the URL"),
    ("NOPERM", "does not let this user do what is needed (EVALSHA, SCRIPT LOAD, INFO, its keys)"),
    ("The user executing the script can't run", "does not let this user do all that is needed"),
    ("ERR max number of clients", "has as many clients as it may (maxclients)"),
)


def shown(url: str) -> str:
    """A URL that may be shown: without its password.

    >>> shown("rediss://u:secret@host:6379/0?password=secret")
    'rediss://u:***@host:6379/0'
    """
    try:
        parts = urlsplit(without_password(url))
    except ValueError:
        return "the Redis of the settings"
    place = parts.netloc
    if "@" in place:
        who, _, where = place.rpartition("@")
        user, colon, _ = who.partition(":")
        place = f"{user}{':***' if colon else ''}@{where}"
    return urlunsplit((parts.scheme, place, parts.path, "", ""))


_CODES = {
    "AuthenticationError": "WRONGPASS",
    "AskError": "ASK",
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}
"""redis-py takes the code off the text; not all of its versions keep it."""

_BEFORE_ANY = re.compile(r"\b(OOM|READONLY|MISCONF|NOREPLICAS)\b")


def before_any(text: str) -> bool:
    """Whether the server refuses this at a script's first write, and never later."""
    return _BEFORE_ANY.search(text) is not None


def said(text: str) -> str | None:
    """What an error of the server's means, or None where that is not known.

    >>> said("OOM command not allowed when used memory > 'maxmemory'.")
    'has no memory left (maxmemory): give it more, or keep fewer jobs'
    """
    found = (meaning for code, meaning in _SAID if re.search(rf"\b{code}\b", text))
    return next(found, None)


def meaning(error: BaseException) -> str:
    """What an error says of the server, as what follows its name."""
    code = getattr(error, "status_code", None) or _CODES.get(type(error).__name__, "")
    if "Authentication required" in str(error):
        code = "NOAUTH"
    text = f"{code} {error}".strip()
    if (known := said(text)) is not None:
        return known
    if isinstance(error, ResponseError):
        return f"refuses: {text}"
    if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
        return "does not answer in time: check that it runs, its load, and the network"
    if isinstance(error, RedisError | OSError | AttributeError):
        return f"cannot be reached: check that it runs, and the network ({text})"
    return f"answers what nobody understands ({type(error).__name__}: {text})"


class Health:
    """What is wrong at the moment, as the newest calls say.

    Args:
        url: of the server; its password is never told.
    """

    def __init__(self, url: str) -> None:
        self.where = shown(url)
        self.lost: str | None = None
        """Why nobody could be asked."""
        self.refused: str | None = None
        """Why a write was refused; reading says nothing of that."""

    @property
    def trouble(self) -> str | None:
        """A sentence, or None."""
        return self.lost or self.refused

    def sentence(self, meaning_: str) -> str:
        """What is wrong, with the name of the server."""
        return f"{self.where} {meaning_}"

    def well(self, wrote: bool) -> None:
        """It has answered; where it has written, it also writes."""
        self.lost = None
        if wrote:
            self.refused = None
