"""Following jobs to their ends, several at once, over broken connections and restarts.

Nothing may live here that reads a command line or draws.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from quart_app.cli.bars import Display
from quart_app.cli.ends import CANCELED, Stop
from quart_app.cli.remote import Remote
from quart_app.client.asynchronous import AsyncLink
from quart_app.client.documents import JobDocument
from quart_app.client.errors import ClientError
from quart_app.client.flows import Flow, Give, Sleep
from quart_app.client.streams import Follower

FRAME = 0.1
"""Seconds between two drawings."""
LOST = "the connection is lost; trying again"


def noticing(flow: Flow[None], notice: Callable[[bool], None]) -> Flow[None]:
    """The same flow; ``notice`` hears True before it waits for another try, and False when
    something comes again."""
    answer: Any = None
    try:
        while True:
            effect = flow.send(answer)
            if isinstance(effect, Sleep):
                notice(True)
            elif isinstance(effect, Give):
                notice(False)
            answer = yield effect
    except StopIteration:
        return
    finally:
        flow.close()


def follow(
    remote: Remote, ids: Sequence[str], display: Display, hear: Callable[[Any], None] | None = None
) -> dict[str, JobDocument]:
    """Follow jobs until all are over.

    Args:
        display: shows them.
        hear: called with each version and each line of a log.

    Returns:
        the last version of each.

    Raises:
        ClientError: the service was away for too long, or a job is not there.
        Stop: Ctrl-C; the jobs go on.
    """
    try:
        return asyncio.run(_follow_all(remote, ids, display, hear))
    except KeyboardInterrupt:
        raise Stop(f"stopped watching; what runs goes on: {again(ids)}", CANCELED) from None
    except ExceptionGroup as group:
        error = group.exceptions[0]
        if isinstance(error, ClientError):
            error.detail += f"; what runs goes on, and then {again(ids)} shows it"
        raise error from None


def again(ids: Sequence[str]) -> str:
    """The command that goes on with watching."""
    return f"'quart-app watch {' '.join(ids[:5])}{' ...' if len(ids) > 5 else ''}'"


async def _follow_all(
    remote: Remote, ids: Sequence[str], display: Display, hear: Callable[[Any], None] | None
) -> dict[str, JobDocument]:
    link = remote.asynchronous()
    last: dict[str, JobDocument] = {}
    lost: set[str] = set()
    drawing = asyncio.create_task(_draw(display))
    try:
        async with asyncio.TaskGroup() as group:
            for each in dict.fromkeys(ids):
                group.create_task(_follow(link, each, display, hear, last, lost))
    finally:
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)
        await link.http.aclose()
        display.end()
    return last


async def _draw(display: Display) -> None:
    while True:
        display.tick()
        await asyncio.sleep(FRAME)


async def _follow(
    link: AsyncLink,
    job_id: str,
    display: Display,
    hear: Callable[[Any], None] | None,
    last: dict[str, JobDocument],
    lost: set[str],
) -> None:
    def notice(is_lost: bool) -> None:
        (lost.add if is_lost else lost.discard)(job_id)
        display.note(LOST if lost else None)

    async for news in link.each(noticing(Follower(job_id, link.pace).flow(), notice)):
        if isinstance(news, JobDocument):
            last[job_id] = news
            display.show(news)
        if hear is not None:
            hear(news)
