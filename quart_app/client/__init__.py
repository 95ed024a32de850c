"""A client of a running service: `Client` for threads and notebooks, `AsyncClient` for asyncio.

Nothing may live here but the public names. It needs httpx2: ``pip install 'quart-app[client]'``.
"""

try:
    import httpx2 as _httpx2  # noqa: F401 - before anything else needs it
except ImportError as _error:
    raise ImportError(
        "quart_app.client needs httpx2: pip install 'quart-app[client]'", name="httpx2"
    ) from _error

from quart_app.client.asynchronous import AsyncClient, AsyncJobHandle
from quart_app.client.documents import JobDocument, LogLine
from quart_app.client.errors import (
    BadAnswer,
    BadInput,
    BodyTooLarge,
    ClientError,
    Draining,
    InvalidArguments,
    InvalidRequest,
    JobCanceled,
    JobFailed,
    KeyReused,
    NoSuchJob,
    NoSuchTask,
    NotFinished,
    NotFound,
    NotInstalled,
    NotJSON,
    NotRunning,
    OtherSite,
    QueueFull,
    StoreUnavailable,
    TooManyRequests,
    Unavailable,
    Unreachable,
)
from quart_app.client.sync import Client, JobHandle

__all__ = [
    "AsyncClient",
    "AsyncJobHandle",
    "BadAnswer",
    "BadInput",
    "BodyTooLarge",
    "Client",
    "ClientError",
    "Draining",
    "InvalidArguments",
    "InvalidRequest",
    "JobCanceled",
    "JobDocument",
    "JobFailed",
    "JobHandle",
    "KeyReused",
    "LogLine",
    "NoSuchJob",
    "NoSuchTask",
    "NotFinished",
    "NotFound",
    "NotInstalled",
    "NotJSON",
    "NotRunning",
    "OtherSite",
    "QueueFull",
    "StoreUnavailable",
    "TooManyRequests",
    "Unavailable",
    "Unreachable",
]
