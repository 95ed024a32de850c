"""A request is read and handled as by Quart's own class, in fewer tasks."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quart import Quart, Request, request
from quart.asgi import ASGIHTTPConnection
from werkzeug.exceptions import NotFound

from quart_app import Jobs, create_app
from quart_app.http.connection import Connection
from quart_app.http.edge import ASGI

BOTH = pytest.mark.parametrize("kind", [Connection, ASGIHTTPConnection])
BODY = b"first and second"
GONE = {"type": "http.disconnect"}


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    """A piece of a body, as a server gives it."""
    return {"type": "http.request", "body": body, "more_body": more}


class Line:
    """One request of a client that gives its body when the test says so.

    Args:
        app: who is asked.
        length: what the request says that its body has.
    """

    def __init__(self, app: Quart, path: str = "/", length: int = len(BODY)) -> None:
        self._app: ASGI = app  # type: ignore[assignment]
        self._path = path
        self._headers = [(b"host", b"a"), (b"content-length", str(length).encode())]
        self._news: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.in_vain = False
        """Whether a handler may answer who has gone: Quart 0.23 raises that to the server."""

    def give(self, *messages: dict[str, Any]) -> None:
        """What comes from the client."""
        for message in messages:
            self._news.put_nowait(message)

    async def send(self, message: dict[str, Any]) -> None:
        """What goes to the client."""
        if self.error is not None:
            raise self.error
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.give(GONE)  # As servers say it when all is over.

    async def __call__(self) -> int:
        """Let the request be handled in this task; how often that is being canceled then."""
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": self._headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "extensions": {},
        }
        try:
            await self._app(scope, self._news.get, self.send)
        except ExceptionGroup:
            if not self.in_vain:
                raise
        await asyncio.sleep(0)  # What would still interrupt this task does it here.
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    @property
    def status(self) -> int | None:
        """That of the answer."""
        return next((each["status"] for each in self.sent if "status" in each), None)

    @property
    def body(self) -> bytes:
        """That of the answer."""
        return b"".join(each.get("body", b"") for each in self.sent)


Handler = Callable[[], Any]


def app_of(kind: type[ASGIHTTPConnection], handler: Handler) -> Quart:
    """An app with one route."""
    app = Quart("one", static_folder=None)
    app.asgi_http_class = kind
    app.add_url_rule("/", "handler", handler, methods=["POST"])
    return app


def others() -> set[asyncio.Task[Any]]:
    """The other tasks of this loop."""
    return asyncio.all_tasks() - {asyncio.current_task()}


class Holder:
    """Has a route that waits until it may go on, and says what has become of it."""

    def __init__(self) -> None:
        self.begun, self.may_go_on = asyncio.Event(), asyncio.Event()
        self.end = "none"
        self.swallows = False

    async def view(self) -> str:
        self.begun.set()
        try:
            await self.may_go_on.wait()
            self.end = "went on"
        except asyncio.CancelledError:
            self.end = "canceled"
            if not self.swallows:
                raise
        return "held"


async def read() -> str | bytes:
    """A route that reads its body."""
    return await request.get_data()


@BOTH
class TestAsQuarts:
    """What holds for both classes."""

    async def test_a_request_that_is_here_is_answered(self, kind: type[ASGIHTTPConnection]) -> None:
        """The body in one piece or in two."""
        for parts in ([part(BODY)], [part(BODY[:5], True), part(BODY[5:])]):
            line = Line(app_of(kind, read))
            line.give(*parts)
            assert await line() == 0
            assert (line.status, line.body) == (200, BODY)

    async def test_a_handler_begins_before_a_slow_body_has_ended(
        self, kind: type[ASGIHTTPConnection]
    ) -> None:
        """And is given the pieces as they come."""
        pieces: asyncio.Queue[bytes] = asyncio.Queue()

        async def view() -> str:
            async for piece in request.body:
                pieces.put_nowait(piece)
            return "read"

        line = Line(app_of(kind, view))
        asked = asyncio.create_task(line())
        for piece in (BODY[:5], BODY[5:]):
            line.give(part(piece, True))
            assert await pieces.get() == piece
        line.give(part(b""))
        assert await asked == 0
        assert (line.status, line.body) == (200, b"read")

    async def test_an_answer_need_not_wait_for_the_body(
        self, kind: type[ASGIHTTPConnection]
    ) -> None:
        """No such path, and nobody has to send all of a large body to hear of it."""
        line = Line(app_of(kind, read), "/none")
        line.give(part(BODY[:5], True))
        async with asyncio.timeout(5):
            assert await line() == 0
        assert line.status == NotFound.code

    async def test_a_handler_ends_when_its_client_has_gone(
        self, kind: type[ASGIHTTPConnection]
    ) -> None:
        """With its body or before that; nothing is sent, and the server's task goes on."""
        for parts in ([part(BODY)], [part(BODY[:5], True)]):
            holder = Holder()
            line = Line(app_of(kind, holder.view))
            asked = asyncio.create_task(line())
            line.give(*parts)
            await holder.begun.wait()
            line.give(GONE)
            assert await asked == 0
            assert (holder.end, line.sent) == ("canceled", [])

    async def test_a_handler_may_swallow_that(self, kind: type[ASGIHTTPConnection]) -> None:
        """The server's task is as it was all the same."""
        for parts in ([part(BODY)], [part(BODY[:5], True)]):
            holder = Holder()
            holder.swallows = True
            line = Line(app_of(kind, holder.view))
            line.in_vain = True
            asked = asyncio.create_task(line())
            line.give(*parts)
            await holder.begun.wait()
            line.give(GONE)
            assert await asked == 0
            assert holder.end == "canceled"

    async def test_a_handler_that_waits_is_answered_for(
        self, kind: type[ASGIHTTPConnection]
    ) -> None:
        """It goes on in its own time."""
        for parts in ([part(BODY)], [part(BODY[:5], True)]):
            holder = Holder()
            line = Line(app_of(kind, holder.view))
            asked = asyncio.create_task(line())
            line.give(*parts)
            await holder.begun.wait()
            holder.may_go_on.set()
            assert await asked == 0
            assert (holder.end, line.status, line.body) == ("went on", 200, b"held")

    async def test_who_goes_at_once_is_not_waited_for(self, kind: type[ASGIHTTPConnection]) -> None:
        """Before anything of the body has come."""
        line = Line(app_of(kind, Holder().view))
        line.give(GONE)
        assert await line() == 0
        assert line.sent == []

    async def test_an_error_of_sending_is_the_servers(self, kind: type[ASGIHTTPConnection]) -> None:
        """Whether the handler has waited or not."""
        for parts in ([part(BODY)], [part(BODY[:5], True)]):
            holder = Holder()
            line = Line(app_of(kind, holder.view))
            line.error = ValueError("the line is cut")
            asked = asyncio.create_task(line())
            line.give(*parts)
            await holder.begun.wait()
            holder.may_go_on.set()
            with pytest.raises((ValueError, ExceptionGroup)) as raised:
                await asked
            assert line.error in (raised.value, *getattr(raised.value, "exceptions", ()))

    async def test_nothing_of_a_request_is_left_for_the_collector(
        self, kind: type[ASGIHTTPConnection]
    ) -> None:
        """A request and its body go when it is answered, or its client has gone."""
        seen: list[weakref.ref[Request]] = []
        gc.disable()
        try:
            for news in ([], [GONE]):
                holder = Holder()

                async def view(holder: Holder = holder) -> str:
                    current: Any = request
                    seen.append(weakref.ref(current._get_current_object()))
                    return await holder.view()

                line = Line(app_of(kind, view))
                asked = asyncio.create_task(line())
                line.give(part(BODY))
                await holder.begun.wait()
                line.give(*news)
                await turn(3)
                holder.may_go_on.set()
                await asked
                assert (line.status is None) == bool(news)
                del asked
                await turn(3)
                assert seen.pop()() is None
        finally:
            gc.enable()


class TestOurs:
    """What is better."""

    async def test_what_is_here_is_answered_without_another_task(self) -> None:
        """The handler runs in the server's own task, and no task is made beside it."""
        seen: list[object] = []

        async def view() -> str:
            seen.extend([piece async for piece in request.body])
            seen.extend((asyncio.current_task(), others()))
            return "quick"

        line = Line(app_of(Connection, view))
        line.give(part(BODY[:5], True), part(BODY[5:]))
        before = others()
        assert await line() == 0
        assert seen == [BODY, asyncio.current_task(), before]
        assert line.body == b"quick"

    @pytest.mark.parametrize("gone", [False, True])
    async def test_a_server_that_cancels_cancels_the_handler(self, gone: bool) -> None:
        """Also where the client goes at the same moment: that is not mistaken for it."""
        holder = Holder()
        line = Line(app_of(Connection, holder.view))
        asked = asyncio.create_task(line())
        line.give(part(BODY))
        await holder.begun.wait()
        await asyncio.sleep(0)
        if gone:
            line.give(GONE)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert (holder.end, line.sent) == ("canceled", [])

    async def test_the_standalone_app_has_it_and_no_other(self) -> None:
        """An app of somebody else's stays as it was."""
        app = Quart("theirs")
        Jobs(app, url_prefix="/jobs")
        assert app.asgi_http_class is ASGIHTTPConnection
        assert create_app().asgi_http_class is Connection


class Story(NamedTuple):
    """What comes in what order, in turns of the loop.

    Args:
        messages: each with the turns before it.
        before, after: turns that the handler waits for, before and after it reads the body.
        swallows: whether it swallows a cancel.
    """

    messages: list[tuple[int, dict[str, Any]]]
    before: int
    after: int
    swallows: bool

    async def play(self, kind: type[ASGIHTTPConnection]) -> None:
        """Nothing is left waiting or running, who stays is answered, and that a client has gone
        is not held to be a cancel."""
        line = Line(app_of(kind, self._view))
        line.in_vain = self.swallows
        asked = asyncio.create_task(line())
        for pause, message in self.messages:
            await turn(pause)
            line.give(message)
        assert await asked == 0
        assert line.body in (b"", b"swallowed", BODY)
        if self.messages[-1][1] is not GONE:
            assert (line.status, line.body) == (200, BODY)
        await turn(5)
        assert not others()

    async def _view(self) -> str | bytes:
        try:
            await turn(self.before)
            body = await request.get_data()
            await turn(self.after)
        except asyncio.CancelledError:
            if self.swallows:
                return b"swallowed"
            raise
        return body


async def turn(times: int) -> None:
    """Let the loop come round so often."""
    for _ in range(times):
        await asyncio.sleep(0)


TURNS = st.integers(0, 6)
BODIES: list[list[dict[str, Any]]]
BODIES = [[part(BODY)], [part(BODY, True), part(b"")], [part(b"", True), part(BODY)]]
MESSAGES = st.sampled_from([*BODIES, *([*body, GONE] for body in BODIES), [part(BODY, True), GONE]])


@BOTH
@settings(deadline=None)
@given(
    story=MESSAGES.flatmap(
        lambda messages: st.builds(
            Story,
            st.tuples(*(st.tuples(TURNS, st.just(each)) for each in messages)).map(list),
            TURNS,
            TURNS,
            st.booleans(),
        )
    )
)
def test_whatever_comes_when_the_task_of_the_server_goes_on(
    kind: type[ASGIHTTPConnection], story: Story
) -> None:
    """Each message after some turns of the loop, and a handler that waits for some."""
    asyncio.run(story.play(kind))
