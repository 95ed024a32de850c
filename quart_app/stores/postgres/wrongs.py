"""What is wrong with the server, in sentences that say what to do. Only reasons may live here."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

import asyncpg

from quart_app.domain.errors import JobsError, StoreUnavailable, without_password

logger = logging.getLogger("quart_app.store")

REACHED = "it does not answer: see whether it runs, and whether this machine reaches it"
REASONS: dict[str, str] = {
    "08P01": "it, or a pooler in front of it, refuses what is asked: name PostgreSQL itself",
    "53100": "its disk is full: make room on it, and the store goes on by itself",
    "53200": "it is out of memory: give it more, or lower its max_connections",
    "53300": "it has no connection left: raise its max_connections, or start fewer processes",
    "53400": "it has reached a limit of its configuration: see its log",
    "25006": "it only reads (a standby, or read-only): name the primary server",
    "28000": "it refuses the user: see pg_hba.conf, and the user's name",
    "28P01": "it refuses the password: see the URL",
    "3D000": "there is no such database: create it (createdb), or name another one",
    "3F000": "the schema is gone: restore a backup, or start again to create it anew",
    "42P01": "a table is gone: restore a backup",
    "42P10": "an index is gone: restore a backup",
    "42704": "a type is gone: restore a backup",
    "42883": "a function is gone: restore a backup",
    "42501": "the user lacks a right: grant it what the schema's owner has",
    "55P03": "somebody else holds a lock: end that transaction (pg_stat_activity names it)",
    "57014": "it took too long, or somebody cancelled it: see what else the server does",
    "57P01": "an administrator ends it: the store goes on when it is back",
    "57P02": "it has crashed: the store goes on when it is back",
    "57P03": "it is starting, or ending: the store goes on when it is back",
    "57P05": "it ends idle sessions: set its idle_session_timeout to 0 for this user",
}
"""By what the server calls it (SQLSTATE)."""
CLASSES: dict[str, str] = {
    "08": REACHED,
    "40": "others were in the way: it goes on by itself",
    "53": "it lacks something: see its log",
    "57": "an operator intervened: see its log",
    "58": "it cannot read or write a file: see its log, and its disk",
    "XX": "it is damaged: see its log, and restore a backup",
}
FAULTS = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What may be raised on the way to the server."""
CUT_OFF = ("08", "57")
"""After these it is unknown whether what was being written is kept."""
STALE = ("0A", "3F", "XX")
STALE_STATES = frozenset({"42P01", "42P10", "42704", "42883"})
"""After these what the connection remembers of the schema may be of another one."""
BLIND = frozenset({"53100", "25006", "58030"})
"""Reading goes on, so that a read says nothing of it."""


def place_of(url: str) -> str:
    """A URL without its password and options.

    >>> place_of("postgresql://u:secret@h:5433/d?sslmode=require")
    'postgresql://u@h:5433/d'
    >>> place_of("postgresql://u:sec/ret@h:5433/d")
    'postgresql://u@h:5433/d'
    """
    try:
        parts = urlsplit(without_password(url))
    except ValueError:
        return "the PostgreSQL of the settings"
    user = f"{parts.username}@" if parts.username else ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{user}{host}{parts.path}"


def state_of(error: BaseException) -> str:
    """What the server calls it; '08000' where it says nothing any more, '' where it is no trouble
    of the server's."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "")
    if isinstance(error, OSError):  # Also when it took too long.
        return "08000"
    closed = isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)
    return "08000" if closed or isinstance(error, asyncpg.InternalClientError) else ""


def reason(error: BaseException) -> str | None:
    """What is wrong with the server and what to do, or None where it is fault of one call."""
    state = state_of(error)
    if state not in REASONS and state[:2] not in CLASSES:
        return None
    said = REASONS.get(state) or CLASSES[state[:2]]
    words = " ".join(str(error).split()) or type(error).__name__
    return f"{said} ({words})"


def is_of_one(error: BaseException) -> bool:
    """Whether an error may be the fault of one write of a group."""
    return reason(error) is None or state_of(error) in ("55P03", "40P01")


def is_lost(error: BaseException) -> bool:
    """Whether the connection cannot be used any more, and what was sent may have been done."""
    return state_of(error)[:2] in CUT_OFF and state_of(error) != "57014"


def is_spoilt(error: BaseException) -> bool:
    """Whether the connection is of no use any more: it is lost, or what it remembers of the schema
    (types, plans) is not true since that was dropped and restored."""
    state = state_of(error)
    return is_lost(error) or state[:2] in STALE or state in STALE_STATES


class Health:
    """What is wrong at the moment, as the last calls have found.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        self.place = place_of(url)
        self.trouble: str | None = None
        self._blind = False

    def fault(self, error: BaseException, doing: str, kept: str = "") -> Exception:
        """What to raise for an error: `StoreUnavailable` where it is the server's.

        Args:
            error: what was raised.
            doing: "read" or "written".
            kept: a sentence on what has become of what was to be kept.
        """
        if isinstance(error, JobsError):
            return error
        said = reason(error)
        if said is None:
            return error if isinstance(error, Exception) else StoreUnavailable(repr(error))
        message = f"{self.place} cannot be {doing}: {said}"
        if self.trouble is None:
            logger.error("%s", message)
        self.trouble = message
        self._blind = state_of(error) in BLIND
        return StoreUnavailable(f"The store does not answer. {kept}{message}", retry_after=2.0)

    def well(self, written: bool) -> None:
        """A call was answered; whether it wrote."""
        if self.trouble is not None and (written or not self._blind):
            self.trouble = None
            logger.warning("%s answers again", self.place)
