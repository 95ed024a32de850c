"""An app of a user's with a stream that never ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from quart import Quart, Response

from quart_app import Jobs

app = Quart("endless")
jobs = Jobs(app, url_prefix="/background")


@app.get("/stream")
async def stream() -> Response:
    """Send a line now and then, for ever."""

    async def lines() -> AsyncIterator[bytes]:
        while True:
            yield b"line\n"
            await asyncio.sleep(0.05)

    response = Response(lines(), content_type="text/plain")
    response.timeout = None
    return response
