"""Which store the settings mean where several processes work with it. Nothing else may live here: a
store's own packages are imported only where it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

from quart_app.core.ports import SharedStore
from quart_app.domain.errors import StoreRefused


def make_shared_store(url: str, namespace: str) -> SharedStore:
    """The store of a URL, ``redis://`` or ``postgresql://``.

    Raises:
        StoreRefused: what it needs is not installed, or it cannot have this namespace.
    """
    if url.startswith("redis"):
        made: SharedStore = needs("redis", "quart_app.stores.redis.store").RedisStore(
            url, namespace
        )
    else:
        store = needs("postgres", "quart_app.stores.postgres.store").PostgresStore
        try:
            made = store(url, namespace)
        except ValueError as error:
            raise StoreRefused(str(error)) from None
    return made


def needs(extra: str, module: str) -> Any:
    """A module that works only where an extra is installed.

    Raises:
        StoreRefused: it is not; and what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        message = (
            f"the store needs what is not installed ({error}): pip install 'quart-app[{extra}]'"
        )
        raise StoreRefused(message) from error
