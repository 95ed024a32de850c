"""The routes of jobs: start, cancel, look, list, retry, result.

Each reads its request, calls the service, and writes what comes back. Only translation may live
here; what the routes share is in `requests`, `documents` and `problems`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from quart import Blueprint, Request, Response, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import MethodNotAllowed

from quart_app.core.many import Canceled, cancel_each, cancel_matching
from quart_app.core.service import Service
from quart_app.domain.errors import BadInput, InvalidRequest, NoSuchTask
from quart_app.domain.jobs import Job
from quart_app.domain.options import Options
from quart_app.domain.tasks import Task
from quart_app.http.documents import document, encode, encode_value, later, located
from quart_app.http.filters import FILTERS, read_match, read_query
from quart_app.http.options import read_options
from quart_app.http.requests import (
    NO_PREFERENCE,
    Fields,
    Preference,
    address_of,
    base_url,
    read_json,
    read_preference,
    refuse_other_site,
)
from quart_app.http.site import Site

Header = tuple[str, str]
JSON = ("Content-Type", "application/json")
NO_STORE = ("Cache-Control", "no-store")
REPLAYED = ("Idempotency-Replayed", "true")


class JobRoutes:
    """Bound to one site.

    Args:
        site: where they are mounted and what they may take.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def register(self, blueprint: Blueprint) -> None:
        """Put the routes into a blueprint."""
        add = blueprint.add_url_rule
        add("/start", "tutorial_start", self.tutorial_start, methods=["GET"])
        add("/start", "start_default", self.start_default, methods=["POST"])
        add("/start/<task>", "start", self.start, methods=["POST"])
        add("/cancel", "cancel_many", self.cancel_many, methods=["POST"])
        add("/cancel/<job_id>", "cancel", self.cancel, methods=["POST"])
        add("/jobs", "list_jobs", self.list_jobs, methods=["GET"])
        add("/jobs/<job_id>", "get_job", self.get_job, methods=["GET"])
        add("/jobs/<job_id>/result", "get_result", self.get_result, methods=["GET"])
        add("/jobs/<job_id>/retry", "retry", self.retry, methods=["POST"])

    @property
    def _service(self) -> Service:
        return self._site.service

    def _read(self) -> tuple[Request, Fields, str]:
        """The request itself, its fields, and the absolute URL under which we are mounted."""
        current: Request = request._get_current_object()  # type: ignore[attr-defined]
        fields = Fields(current.scope["headers"])
        host = fields.get("host") or address_of(current.scope["server"])
        base = base_url(current.scheme, host, current.root_path)
        return current, fields, base + self._site.prefix

    def _default(self) -> Task:
        name = self._site.limits.default_task
        if name is None:
            message = "No default task: POST /start/{task}, or set QUART_APP_DEFAULT_TASK to a task"
            raise NoSuchTask(message)
        return self._service.catalog.find(name)

    async def tutorial_start(self) -> Response:
        """Start the default task: the tutorial's route, kept to the letter."""
        offered = ["GET"] if self._site.limits.get_start else []
        if request.method not in offered:  # HEAD comes here as well, and must start nothing.
            raise MethodNotAllowed([*offered, "OPTIONS", "POST"])
        _, fields, base = self._read()
        refuse_other_site(fields, self._site.limits)
        task = self._default()
        job, _ = await self._service.start(task, task.arguments.check(b"{}"))
        url = f"{base}/jobs/{job.id}"
        body = encode_value({"status": "Task started", "id": job.id, "url": url})
        return answer(200, body, located(job, url, self._service))

    async def start_default(self) -> Response:
        """Start the default task."""
        return await self._start(self._default())

    async def start(self, task: str) -> Response:
        """Start a task: one job for an object of arguments, many for an array of them."""
        return await self._start(self._service.catalog.find(task))

    async def _start(self, task: Task) -> Response:
        limits = self._site.limits
        current, fields, base = self._read()
        refuse_other_site(fields, limits)
        options = read_options(current, fields)
        body, value = await read_json(current, fields, limits)
        if isinstance(value, list):
            return await self._start_many(task, body, options, base)
        job, new = await self._service.start(task, task.arguments.check(body), options)
        preference = read_preference(fields, limits.max_wait)
        seconds = preference.wait
        if seconds is None:
            at_once = preference.respond_async or job.status == "scheduled"
            seconds = 0.0 if at_once else task.quick
        if seconds > 0 and not job.over:
            job = await self._wait(job.id, seconds)
        replayed = not new and options.key is not None and job.key == options.key
        extra = [REPLAYED] if replayed else []
        return self._job(job, base, 200 if job.over else 202, preference, extra)

    async def _wait(self, job_id: str, seconds: float) -> Job:
        """Where as many wait as may, the answer comes at once."""
        service = self._service
        return await service.wait(job_id, 0.0 if service.hub.full else seconds)

    async def _start_many(self, task: Task, body: bytes, options: Options, base: str) -> Response:
        batch = [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
        checked = self._service.check_many(task, batch)
        opened, new = await self._service.start_many(task, checked, options)
        documents = [document(job, self._service, base) for job in opened]
        extra = [] if new or options.key is None else [REPLAYED]
        return answer(202, encode_value({"jobs": documents}), extra)

    async def cancel(self, job_id: str) -> Response:
        """Cancel a job. Harmless twice."""
        _, fields, base = self._read()
        refuse_other_site(fields, self._site.limits)
        job = await self._service.cancel(job_id)
        return self._job(job, base, 200 if job.over else 202)

    async def cancel_many(self) -> Response:
        """Cancel one job, several, or all that match."""
        current, fields, base = self._read()
        refuse_other_site(fields, self._site.limits)
        _, value = await read_json(current, fields, self._site.limits)
        what, dry_run = _cancel_what(value)
        if isinstance(what, str):
            job = await self._service.cancel(what)
            return self._job(job, base, 200 if job.over else 202)
        if isinstance(what, list):
            done: Canceled = await cancel_each(self._service, what)
        else:
            try:
                query = read_match(what, self._service.ledger.clock())
            except BadInput as error:
                raise InvalidRequest(error.detail) from None
            done = await cancel_matching(self._service, query, dry_run=dry_run)
        return answer(200, encode(done))

    async def list_jobs(self) -> Response:
        """List jobs, newest first."""
        current, _, base = self._read()
        page = await self._service.page(read_query(current, self._service.ledger.clock()))
        following = None
        if page.next is not None:
            kept = [pair for pair in current.args.items(multi=True) if pair[0] != "cursor"]
            following = f"{base}/jobs?{urlencode([*kept, ('cursor', page.next)])}"
        jobs = [document(job, self._service, base) for job in page.jobs]
        return answer(200, encode_value({"jobs": jobs, "next": following}))

    async def get_job(self, job_id: str) -> Response:
        """One job; with Prefer: wait=N as soon as it is over."""
        _, fields, base = self._read()
        preference = read_preference(fields, self._site.limits.max_wait)
        job = await self._wait(job_id, preference.wait or 0.0)
        return self._job(job, base, 200, preference)

    async def get_result(self, job_id: str) -> Response:
        """Exactly what the function returned."""
        _, fields, base = self._read()
        preference = read_preference(fields, self._site.limits.max_wait)
        job = await self._wait(job_id, preference.wait or 0.0)
        if not job.over:
            return self._job(job, base, 202, preference)
        return answer(200, self._service.result(job))

    async def retry(self, job_id: str) -> Response:
        """Run a job that is over again, as a new job."""
        current, fields, base = self._read()
        refuse_other_site(fields, self._site.limits)
        _, value = await read_json(current, fields, self._site.limits)
        if not isinstance(value, dict):
            raise InvalidRequest("Send a JSON object of the arguments to change, or nothing")
        job = await self._service.retry(job_id, value)
        return self._job(job, base, 202)

    def _job(
        self,
        job: Job,
        base: str,
        status: int,
        preference: Preference = NO_PREFERENCE,
        extra: Sequence[Header] = (),
    ) -> Response:
        """A job's document with the headers that go with it."""
        headers = list(extra)
        if preference is not NO_PREFERENCE and preference.applied:
            headers.append(("Preference-Applied", preference.applied))
        if not job.over:
            if status == 202:
                headers += located(job, f"{base}/jobs/{job.id}", self._service)
            else:
                headers.append(later(job, self._service))
        return answer(status, encode(document(job, self._service, base)), headers)


def answer(status: int, body: bytes, headers: Iterable[Header] = ()) -> Response:
    """JSON that no cache keeps. Headers come in one list: setting them one by one is slow.

    Quart's limit of time for sending is for streams: here it would cost an asyncio task for each
    answer, and its timer would keep the request's body in memory for a minute.
    """
    response = Response(body, status, Headers([JSON, NO_STORE, *headers]))
    response.timeout = None
    return response


def _cancel_what(value: Any) -> tuple[str | list[str] | dict[str, Any], bool]:
    """What a cancel of many names: an id, ids, or filters; and whether it is only to count.

    Raises:
        InvalidRequest: not exactly one of them, or of another type.
    """
    expected = 'Send exactly one of {"id": "..."}, {"ids": [...]}, {"match": {...}}'
    known = {"id", "ids", "match", "dry_run"}
    if not isinstance(value, dict) or not set(value) <= known:
        raise InvalidRequest(expected)
    named = [name for name in ("id", "ids", "match") if name in value]
    dry_run = value.get("dry_run", False)
    if (
        len(named) != 1
        or not isinstance(dry_run, bool)
        or ("dry_run" in value and "match" not in value)
    ):
        raise InvalidRequest(f'{expected}; "dry_run" goes with "match" and is true or false')
    what = value[named[0]]
    if named[0] == "id" and isinstance(what, str):
        return what, False
    if named[0] == "ids" and isinstance(what, list) and all(isinstance(each, str) for each in what):
        return what, False
    if named[0] == "match" and isinstance(what, dict):
        return what, dry_run
    filters = ", ".join((*FILTERS, "args"))
    raise InvalidRequest(f"id is a string, ids are strings, match is an object of {filters}")
