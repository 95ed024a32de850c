"""The routes about the service itself: the catalog, its health, and its documentation.

Only translation may live here.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from quart import Blueprint, Response, request, send_from_directory

from quart_app.core.operate import pause, resume
from quart_app.domain.errors import Draining, StoreUnavailable
from quart_app.domain.tasks import Task
from quart_app.http.documents import TaskDocument, encode_value, moment
from quart_app.http.openapi import OpenAPI
from quart_app.http.pages import SWAGGER_POLICY, SWAGGER_ROOT, swagger_page
from quart_app.http.requests import Fields, base_of, refuse_other_site
from quart_app.http.site import Site


class MetaRoutes:
    """Bound to one site.

    Args:
        site: where they are mounted.
        openapi: makes the document of all routes.
    """

    def __init__(self, site: Site, openapi: OpenAPI) -> None:
        self._site = site
        self._openapi = openapi

    def register(self, blueprint: Blueprint) -> None:
        """Put the routes into a blueprint."""
        add = blueprint.add_url_rule
        add("/tasks", "list_tasks", self.list_tasks, methods=["GET"])
        add("/tasks/<task>", "get_task", self.get_task, methods=["GET"])
        add("/tasks/<task>/pause", "pause_task", self.pause_task, methods=["POST"])
        add("/tasks/<task>/resume", "resume_task", self.resume_task, methods=["POST"])
        add("/workers", "list_workers", self.list_workers, methods=["GET"])
        add("/healthz", "healthz", self.healthz, methods=["GET"])
        add("/readyz", "readyz", self.readyz, methods=["GET"])
        add("/openapi.json", "openapi", self.openapi, methods=["GET"])
        add("/docs", "docs", self.docs, methods=["GET"])
        add("/docs/<path:name>", "docs_file", self.docs_file, methods=["GET"])

    async def list_tasks(self) -> Response:
        """The catalog: every task that can be started."""
        catalog = self._site.service.catalog
        tasks = [self._document(catalog[name]) for name in sorted(catalog)]
        return _json(200, {"tasks": tasks})

    async def get_task(self, task: str) -> Response:
        """One task of the catalog."""
        return _json(200, self._document(self._site.service.catalog.find(task)))

    async def pause_task(self, task: str) -> Response:
        """Let no job of a task begin; what runs goes on, and starts are accepted. Kept over a
        restart."""
        refuse_other_site(Fields(request.scope["headers"]), self._site.limits)
        found = self._site.service.catalog.find(task)
        await pause(self._site.service, found)
        return _json(200, self._document(found))

    async def resume_task(self, task: str) -> Response:
        """Let the jobs of a paused task begin again. Harmless twice."""
        refuse_other_site(Fields(request.scope["headers"]), self._site.limits)
        found = self._site.service.catalog.find(task)
        await resume(self._site.service, found)
        return _json(200, self._document(found))

    def _document(self, task: Task) -> TaskDocument:
        base = base_of(request, self._site.prefix)
        return TaskDocument(
            name=task.name,
            description=task.description,
            arguments=task.arguments.schema(),
            result=task.result_schema(),
            policy={
                "run": task.run,
                "timeout": task.timeout,
                "quick": task.quick,
                "max_attempts": task.max_attempts,
                "retry": task.policy.retry.describe() if task.max_attempts > 1 else None,
                **task.control.describe(),
            },
            paused=self._site.service.backlog.paused(task),
            next=moment(self._site.service.next_of(task.name)),
            tags=task.tags,
            durations=msgspec.structs.asdict(self._site.service.durations.observed(task.name)),
            url=f"{base}/tasks/{quote(task.name)}",
            start=f"{base}/start/{quote(task.name)}",
        )

    async def list_workers(self) -> Response:
        """The processes that work with these jobs and are alive."""
        workers = [
            {**msgspec.structs.asdict(each), "started_at": moment(each.started_at)}
            for each in await self._site.limits.workers()
        ]
        return _json(200, {"workers": workers})

    async def healthz(self) -> Response:
        """Alive: the loop runs. Says what last blocked it."""
        return _json(200, {"status": "ok", **self._site.limits.health()})

    async def readyz(self) -> Response:
        """Ready for new jobs: not shutting down, and the store answers."""
        service = self._site.service
        if service.draining:
            raise Draining("This service is shutting down", retry_after=1.0)
        if service.store.trouble is not None:
            raise StoreUnavailable(service.store.trouble, retry_after=2.0)
        counts = await service.store.counts()
        return _json(200, {"status": "ready", "jobs": counts})

    async def openapi(self) -> Response:
        """The OpenAPI document, with one typed operation for each task."""
        default = self._site.limits.default_task
        catalog = self._site.service.catalog
        body = await self._openapi.document(catalog, default, request.root_path)
        return _answer(200, body)

    async def docs(self) -> Response:
        """This documentation, from which every route can be tried."""
        prefix = f"{request.root_path}{self._site.prefix}"
        response = Response(swagger_page(prefix), content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = SWAGGER_POLICY
        response.headers["Cache-Control"] = "no-store"
        return response

    async def docs_file(self, name: str) -> Response:
        """The files of the documentation's page."""
        return await send_from_directory(SWAGGER_ROOT, name)


def _json(status: int, value: Any) -> Response:
    return _answer(status, encode_value(value))


def _answer(status: int, body: bytes) -> Response:
    response = Response(body, status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
