"""What `doctor` finds by asking the service: whether it answers, whom, and whether streams flow.

Nothing may live here that looks at this machine; that is `findings`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from quart_app.cli.findings import Finding, host_of, is_loopback
from quart_app.cli.remote import Remote
from quart_app.client import calls
from quart_app.client.asked import with_key
from quart_app.client.asynchronous import AsyncLink
from quart_app.client.calls import Call, reader
from quart_app.client.documents import JobDocument
from quart_app.client.errors import ClientError, InvalidArguments, NoSuchTask
from quart_app.client.flows import Pace
from quart_app.client.streams import Follower
from quart_app.domain.options import Options

QUICK = 5.0
LAG = 0.1
"""Seconds by which a loop may be late before that is worth a word."""
HOUR = 3_600.0
CANCEL_AFTER = 1.0
"""Seconds after which the probe is canceled; its first event must be here long before."""
LATE = 0.7
PATIENCE = 8.0


class Health(msgspec.Struct, frozen=True):
    """What ``/healthz`` says."""

    status: str = ""
    store: str = ""
    lag: float = 0.0
    blocked: dict[str, Any] = {}


class About(msgspec.Struct, frozen=True):
    """What ``/settings`` says."""

    settings: tuple[dict[str, Any], ...] = ()
    versions: dict[str, str] = {}

    def value(self, name: str) -> Any:
        """One of the service's own settings; None where it does not tell."""
        return next((each.get("value") for each in self.settings if each.get("name") == name), None)


def about(remote: Remote) -> About | None:
    """The service's settings and versions; None where it does not tell."""
    try:
        return remote.ask(Call("GET", "/settings", reader(About)), QUICK)
    except ClientError:
        return None


def reach(remote: Remote) -> Iterator[Finding]:
    """Whether it answers, and is well."""
    began = time.perf_counter()
    try:
        health = remote.ask(Call("GET", "/healthz", reader(Health)), QUICK)
    except ClientError as error:
        yield Finding(
            what="service", level="wrong", says=f"{remote.shown}: {error.detail}",
            do="start it with 'quart-app serve', or name another with --url",
        )  # fmt: skip
        return
    took = time.perf_counter() - began
    yield Finding(what="service", says=f"{remote.shown} answers in {took * 1000:.0f} ms")
    if health.store not in ("ok", ""):
        yield Finding(
            what="service", level="wrong", says=f"its store does not answer: {health.store}",
            do="look at the store, its disk and its log",
        )  # fmt: skip
    count = health.blocked.get("count", 0)
    if health.lag > LAG or count:
        late = f"{health.lag * 1000:.0f} ms late"
        yield Finding(
            what="service", level="warning",
            says=f"its event loop is {late}, and was blocked {count} times",
            do="GET /healthz names the jobs and their stacks: make them def, or run=\"process\"",
        )  # fmt: skip


def is_open(remote: Remote) -> bool | None:
    """Whether it answers who has no credentials; None where nobody answers."""
    stranger = Remote(remote.base, {}, 0)
    try:
        stranger.ask(calls.list_tasks(), QUICK)
        return True
    except ClientError as error:
        return None if error.status == 0 else False
    finally:
        stranger.close()


def access(base: str, shown: str, answers: bool | None) -> Iterator[Finding]:
    """Who may start and cancel jobs.

    >>> [each.level for each in access("http://192.0.2.1:8000", "", True)]
    ['wrong']
    """
    local = is_loopback(host_of(base))
    if answers is None:
        yield Finding(what="access", level="skipped", says="nobody answers")
    elif not answers:
        yield Finding(what="access", says=f"{shown} wants credentials")
    elif local:
        yield Finding(what="access", says="no credentials are needed, by this machine only")
    else:
        yield Finding(
            what="access", level="wrong",
            says=f"{shown} lets everybody who reaches it start and cancel jobs",
            do="put a proxy with a login in front, and bind the service to 127.0.0.1",
        )  # fmt: skip


def streams(remote: Remote, task: str | None) -> Iterator[Finding]:
    """Whether events come when they happen, or late and in bunches, as through a proxy that
    collects them. For that a job is started that would begin in an hour, and canceled.

    Args:
        task: of which it is; one without arguments unless given.
    """
    try:
        name = task or _without_arguments(remote)
        if name is None:
            says, do = "no task can be started without arguments", "name one with --probe TASK"
            yield Finding(what="streams", level="skipped", says=says, do=do)
            return
        options = with_key(Options(delay=HOUR))
        job = remote.ask(calls.start(name, b"{}", options), QUICK)
        try:
            arrivals = asyncio.run(_arrivals(remote, job))
        finally:
            remote.ask(calls.cancel(job.id), QUICK)
    except (InvalidArguments, NoSuchTask) as error:
        do = "name a task with --probe that takes no arguments"
        yield Finding(what="streams", level="skipped", says=error.detail, do=do)
        return
    except ClientError as error:
        says = f"could not be followed: {error.detail}"
        yield Finding(what="streams", level="wrong", says=says, do="look at the proxy's log")
        return
    yield judge(arrivals)


def _without_arguments(remote: Remote) -> str | None:
    tasks = remote.ask(calls.list_tasks(), QUICK).tasks
    return next((each.name for each in tasks if not each.arguments.get("required")), None)


async def _arrivals(remote: Remote, job: JobDocument) -> list[float]:
    """Seconds at which events came; the job is canceled after one."""
    link = remote.asynchronous(Pace(timeout=PATIENCE))
    arrivals: list[float] = []
    began = time.perf_counter()

    async def read() -> None:
        async for _ in link.each(Follower(job.id, link.pace).flow()):
            arrivals.append(time.perf_counter() - began)  # noqa: PERF401 - as they come.

    reading = asyncio.create_task(read())
    try:
        await asyncio.sleep(CANCEL_AFTER)
        await _cancel(link, job.id)
        await asyncio.wait({reading}, timeout=PATIENCE)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await link.http.aclose()
    return arrivals


async def _cancel(link: AsyncLink, job_id: str) -> None:
    await link.ask(calls.cancel(job_id))


def judge(arrivals: list[float]) -> Finding:
    """What the moments of arrival tell; the first event was there at 0, the last at 1 second.

    >>> judge([0.01, 1.02]).level, judge([1.02, 1.02]).level, judge([]).level
    ('ok', 'wrong', 'wrong')
    """
    do = "switch buffering off in the proxy: nginx 'proxy_buffering off', and no compression"
    if not arrivals:
        says = f"no event came within {PATIENCE:g} s"
        return Finding(what="streams", level="wrong", says=says, do=do)
    if arrivals[0] > LATE:
        says = f"the first event came after {arrivals[0]:.1f} s, {len(arrivals)} in a bunch"
        return Finding(what="streams", level="wrong", says=says, do=do)
    if arrivals[-1] > CANCEL_AFTER + LATE:
        late = arrivals[-1] - CANCEL_AFTER
        return Finding(what="streams", level="wrong", says=f"an end came {late:.1f} s late", do=do)
    return Finding(what="streams", says=f"events come at once ({arrivals[0] * 1000:.0f} ms)")
