"""Streams of events (WHATWG, Server-sent events): one job's, and everybody's.

A block is ``id: <seq>`` and ``data: <job document>``, with no name, so that ``onmessage`` sees
every status; a line of the job's log is an ``event: log``. A reader that comes back with
``Last-Event-ID`` goes on where it was; one whose job is over, and who has seen that, gets 204, or
else EventSource would connect again for ever. Only translation may live here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from quart import Blueprint, Response, request
from werkzeug.datastructures import Headers

from quart_app.core.follow import follow, follow_all, is_at_its_end
from quart_app.domain.errors import BadInput, TooManyRequests
from quart_app.domain.jobs import Job, News
from quart_app.http.documents import document, encode
from quart_app.http.requests import base_of
from quart_app.http.site import Site
from quart_app.http.story import line_document

KEEP_ALIVE = 15.0
"""Seconds of silence after which a comment is sent, so that no proxy thinks the stream is dead."""
RETRY = b"retry: 1000\n"
"""Milliseconds until a browser comes back; inside the first block: alone some clients take it for
an event."""
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
ENCODED = 512
"""Blocks that are kept for other readers of the same event."""


EVERY = (0.05, 1.0)
"""Bounds of ``every``, in seconds: a shutdown waits for one that sleeps."""

Made = Callable[[], AsyncGenerator[News | None] | AsyncGenerator[list[Job] | None]]
"""Begins to follow."""


class StreamRoutes:
    """Bound to one site.

    Args:
        site: where they are mounted.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._blocks: OrderedDict[tuple[int, str], tuple[News, bytes]] = OrderedDict()

    def register(self, blueprint: Blueprint) -> None:
        """Put the routes into a blueprint."""
        add = blueprint.add_url_rule
        add("/events", "all_events", self.all_events, methods=["GET"])
        add("/jobs/<job_id>/events", "job_events", self.job_events, methods=["GET"])

    async def job_events(self, job_id: str) -> Response:
        """Every version of one job, until it is over."""
        after = self._after()
        job = await self._site.service.get(job_id)
        if await is_at_its_end(self._site.service, job, after):
            response = Response(b"", 204, Headers({"Cache-Control": "no-store"}))
            del response.headers["Content-Type"]
            return response
        return self._stream(lambda: follow(self._site.service, job_id, after, KEEP_ALIVE))

    async def all_events(self) -> Response:
        """Every version of every job, from now on or from the last that was seen; with ``every``
        the newest of each job, at most so often."""
        after, every = self._after(), _every(request.args.get("every"))
        return self._stream(lambda: follow_all(self._site.service, after, KEEP_ALIVE, every))

    def _after(self) -> int | None:
        """The last event that the reader has. What is no number was none of ours."""
        text = request.headers.get("Last-Event-ID", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def _stream(self, make: Made) -> Response:
        if request.method == "HEAD":  # Who follows it could never be told that nobody listens.
            return Response(b"", 200, HEADERS)
        if self._site.service.hub.full:
            message = (
                "As many requests wait for jobs as may: come back later, or ask GET /jobs/{id}"
            )
            raise TooManyRequests(message, retry_after=5.0)
        base = base_of(request, self._site.prefix)
        response = Response(self._write(make, base), 200, HEADERS)
        response.timeout = None  # Quart would cut it after a minute.
        return response

    async def _write(self, make: Made, base: str) -> AsyncIterator[bytes]:
        first = True
        async with aclosing(make()) as versions:
            async for news in versions:
                if news is None:
                    yield b": keep-alive\n\n"
                    continue
                if isinstance(news, list):  # What has come at once is sent at once.
                    block = b"".join([self._block(each, base) for each in news])
                else:
                    block = self._block(news, base)
                yield RETRY + block if first else block
                first = False

    def _block(self, news: News, base: str) -> bytes:
        """One event; made once for all who read it. A store that has lost its last writes gives
        their numbers to other events."""
        key = (news.seq, base)
        made_of, block = self._blocks.get(key, (None, b""))
        if made_of != news:
            if isinstance(news, Job):
                data = encode(document(news, self._site.service, base))
                block = b"id: %d\ndata: %b\n\n" % (news.seq, data)
            else:
                block = b"id: %d\nevent: log\ndata: %b\n\n" % (
                    news.seq,
                    encode(line_document(news)),
                )
            self._blocks[key] = (news, block)
            if len(self._blocks) > ENCODED:
                self._blocks.popitem(last=False)
        return block


def _every(text: str | None) -> float | None:
    """The ``every`` of a request.

    Raises:
        BadInput: it is no number of seconds that may be.
    """
    if text is None:
        return None
    least, most = EVERY
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not least <= seconds <= most:
        raise BadInput(f"every is a number of seconds from {least:g} to {most:g}")
    return seconds
