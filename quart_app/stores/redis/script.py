"""The Lua of the store: one script of all verbs, put together and read once, when it is imported.

Only reading may live here.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

PARTS = ("head", "add", "swap", "beside", "prune", "workers", "read", "main")
"""The files in the order in which they need each other."""

SCRIPT = "\n".join(
    (files("quart_app.stores.redis") / "lua" / f"{part}.lua").read_text("utf-8") for part in PARTS
)
"""What the server is given."""

SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""What the server calls it."""
