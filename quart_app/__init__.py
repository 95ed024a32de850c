"""Background jobs for asyncio web apps: start, answer at once, see the status, cancel.

Only the public names may live here. Importing this package builds no service, opens no store and
imports no module of tasks: `app` does so when a server starts it.
"""

from quart_app.app import Jobs, create_app
from quart_app.core.context import Context
from quart_app.core.handles import JobHandle
from quart_app.core.start import task
from quart_app.domain.retries import Fail, Retry, RetryAfter
from quart_app.domain.secrets import Secret

app = create_app()
"""The standalone app, for ``hypercorn --config hypercorn.toml quart_app:app``."""

__all__ = [
    "Context",
    "Fail",
    "JobHandle",
    "Jobs",
    "Retry",
    "RetryAfter",
    "Secret",
    "app",
    "create_app",
    "task",
]
