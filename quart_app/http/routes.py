"""The routes of jobs: start, cancel, look, list, retry, result.

Each reads its request, calls the service, and writes what comes back. Only translation may live
here; what the routes share is in `requests`, `documents` and `problems`.
"""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlencode

import msgspec
from quart import Blueprint, Response, request
from werkzeug.exceptions import MethodNotAllowed

from quart_app.core.service import Canceled, Service
from quart_app.domain.errors import BadInput, InvalidRequest, NoSuchTask
from quart_app.domain.jobs import Job
from quart_app.domain.tasks import Task
from quart_app.http.documents import document, encode, encode_value
from quart_app.http.requests import (
    FILTERS,
    Preference,
    read_json,
    read_key,
    read_match,
    read_preference,
    read_query,
    refuse_other_site,
)
from quart_app.http.site import Site

JSON = "application/json"


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

    def _base(self) -> str:
        return f"{request.scheme}://{request.host}{request.root_path}{self._site.prefix}"

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
        refuse_other_site(request, self._site.limits)
        task = self._default()
        job, _ = await self._service.start(task, task.arguments.check(b"{}"))
        url = f"{self._base()}/jobs/{job.id}"
        body = encode_value({"status": "Task started", "id": job.id, "url": url})
        return self._located(self._answer(200, body), job, url)

    async def start_default(self) -> Response:
        """Start the default task."""
        return await self._start(self._default())

    async def start(self, task: str) -> Response:
        """Start a task: one job for an object of arguments, many for an array of them."""
        return await self._start(self._service.catalog.find(task))

    async def _start(self, task: Task) -> Response:
        limits = self._site.limits
        refuse_other_site(request, limits)
        key = read_key(request)
        body, value = await read_json(request, limits)
        if isinstance(value, list):
            return await self._start_many(task, body, key)
        job, new = await self._service.start(task, task.arguments.check(body), key=key)
        preference = read_preference(request, limits.max_wait)
        seconds = preference.wait
        if seconds is None:
            seconds = 0.0 if preference.respond_async else task.quick
        if seconds > 0 and not job.over:
            job = await self._service.wait(job.id, seconds)
        response = self._job(job, 200 if job.over else 202, preference)
        if not new:
            response.headers["Idempotency-Replayed"] = "true"
        return response

    async def _start_many(self, task: Task, body: bytes, key: str | None) -> Response:
        batch = [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
        checked = self._service.check_many(task, batch)
        opened = await self._service.start_many(task, checked, key=key)
        base = self._base()
        documents = [document(job, self._service, base) for job, _ in opened]
        response = self._answer(202, encode_value({"jobs": documents}))
        if opened and not opened[0][1]:
            response.headers["Idempotency-Replayed"] = "true"
        return response

    async def cancel(self, job_id: str) -> Response:
        """Cancel a job. Harmless twice."""
        refuse_other_site(request, self._site.limits)
        job = await self._service.cancel(job_id)
        return self._job(job, 200 if job.over else 202)

    async def cancel_many(self) -> Response:
        """Cancel one job, several, or all that match."""
        refuse_other_site(request, self._site.limits)
        _, value = await read_json(request, self._site.limits)
        what, dry_run = _cancel_what(value)
        if isinstance(what, str):
            job = await self._service.cancel(what)
            return self._job(job, 200 if job.over else 202)
        if isinstance(what, list):
            done: Canceled = await self._service.cancel_each(what)
        else:
            try:
                query = read_match(what)
            except BadInput as error:
                raise InvalidRequest(error.detail) from None
            done = await self._service.cancel_matching(query, dry_run=dry_run)
        return self._answer(200, encode(done))

    async def list_jobs(self) -> Response:
        """List jobs, newest first."""
        page = await self._service.page(read_query(request))
        base = self._base()
        following = None
        if page.next is not None:
            kept = [pair for pair in request.args.items(multi=True) if pair[0] != "cursor"]
            following = f"{base}/jobs?{urlencode([*kept, ('cursor', page.next)])}"
        jobs = [document(job, self._service, base) for job in page.jobs]
        return self._answer(200, encode_value({"jobs": jobs, "next": following}))

    async def get_job(self, job_id: str) -> Response:
        """One job; with ``Prefer: wait=N`` as soon as it is over."""
        preference = read_preference(request, self._site.limits.max_wait)
        job = await self._service.wait(job_id, preference.wait or 0.0)
        return self._job(job, 200, preference)

    async def get_result(self, job_id: str) -> Response:
        """Exactly what the function returned."""
        preference = read_preference(request, self._site.limits.max_wait)
        job = await self._service.wait(job_id, preference.wait or 0.0)
        if not job.over:
            return self._job(job, 202, preference)
        return self._answer(200, self._service.result(job))

    async def retry(self, job_id: str) -> Response:
        """Run a job that is over again, as a new job."""
        refuse_other_site(request, self._site.limits)
        _, value = await read_json(request, self._site.limits)
        if not isinstance(value, dict):
            raise InvalidRequest("Send a JSON object of the arguments to change, or nothing")
        job = await self._service.retry(job_id, value)
        return self._job(job, 202)

    def _job(self, job: Job, status: int, preference: Preference | None = None) -> Response:
        """A job's document with the headers that go with it."""
        base = self._base()
        response = self._answer(status, encode(document(job, self._service, base)))
        if preference is not None and preference.applied:
            response.headers["Preference-Applied"] = preference.applied
        if job.over:
            return response
        if status == 202:
            return self._located(response, job, f"{base}/jobs/{job.id}")
        response.headers["Retry-After"] = str(math.ceil(self._service.retry_after(job)))
        return response

    def _located(self, response: Response, job: Job, url: str) -> Response:
        """Where to look next, and when (RFC 9110, 10.2.2 and 10.2.3)."""
        headers = response.headers
        headers["Location"] = url
        headers["Operation-Location"] = url
        headers["Retry-After"] = str(math.ceil(self._service.retry_after(job)))
        return response

    @staticmethod
    def _answer(status: int, body: bytes) -> Response:
        response = Response(body, status, content_type=JSON)
        response.headers["Cache-Control"] = "no-store"
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
    filters = ", ".join(FILTERS[:4])
    raise InvalidRequest(f"id is a string, ids are strings, match is an object of {filters}")
