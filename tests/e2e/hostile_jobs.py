"""A task that says a payload wherever a task can: in its description, its tags, its arguments and
their descriptions; and whoever starts it gives it others."""

from __future__ import annotations

import logging
from typing import Annotated

from msgspec import Meta

from quart_app import Context, task
from tests.hostile import PAYLOADS

SHORT = [payload for payload in PAYLOADS if len(payload) <= 100]
ALL = " ".join(SHORT)


async def tells(
    job: Context, text: Annotated[str, Meta(description=ALL)], fails: bool = False
) -> dict[str, str]:
    """Say a text as progress, as log lines, as a step, as a child's argument, and as the result or
    the error."""
    job.progress(1, 2, text)
    print(text)  # noqa: T201
    logging.getLogger("hostile").error("%s", text)

    async def step() -> str:
        return text

    await job.step(text[:200], step)
    if fails:
        raise type(text[:100], (ValueError,), {})(text)
    return {text: text}


tells.__doc__ = ALL
tells = task(tags=SHORT)(tells)
