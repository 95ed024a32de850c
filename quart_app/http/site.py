"""What the routes of one app share: the running service, and the edge's own limits.

Nothing may live here that handles a request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from quart_app.core.service import Service
from quart_app.domain.errors import StoreUnavailable
from quart_app.domain.workers import Worker

NAME = "quart_app"
"""Of our blueprint, and so what the names of our endpoints begin with."""


async def _nobody() -> list[Worker]:
    return []


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the edge accepts.

    Args:
        max_body: bytes of a request's body.
        body_timeout: seconds in which it must have come.
        max_wait: seconds that ``Prefer: wait`` may ask for.
        max_depth: nesting of arrays and objects.
        default_task: what ``/start`` starts, or None.
        get_start: whether ``GET /start`` exists.
        trusted_origins: other sites whose pages may start and cancel jobs.
        health: further members of ``/healthz``.
        workers: the processes that work with the jobs.
        settings: each with its value and where that came from.
    """

    max_body: int = 65_536
    body_timeout: float = 10.0
    max_wait: float = 20.0
    max_depth: int = 64
    default_task: str | None = None
    get_start: bool = True
    trusted_origins: frozenset[str] = frozenset()
    health: Callable[[], dict[str, Any]] = dict
    workers: Callable[[], Awaitable[list[Worker]]] = _nobody
    settings: Callable[[], list[dict[str, Any]]] = list


class Site:
    """One mounted set of routes.

    Args:
        prefix: the path under which they are mounted, without a slash at the end.
        ready: opens the service if the server has not, and fails where it cannot.
    """

    def __init__(self, prefix: str, ready: Callable[[], Awaitable[Service]]) -> None:
        self.prefix = prefix
        self.ready = ready
        self.limits = Limits()
        self.open: Service | None = None

    @property
    def service(self) -> Service:
        """The running service.

        Raises:
            StoreUnavailable: there is none yet, or none any more.
        """
        if self.open is None:
            raise StoreUnavailable("The service is not running", retry_after=1.0)
        return self.open
