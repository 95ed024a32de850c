"""`create_app` and the extension `Jobs`: puts the parts into a Quart app.

The only module that knows all rooms (with `parts`, which it opens and closes). No rule of jobs and
no route may live here.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, cast

from quart import Blueprint, Quart, Response, current_app, request
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RoutingException

from quart_app import hosting
from quart_app.core.service import Service
from quart_app.core.start import TaskDecorator
from quart_app.domain.errors import InvalidSetting, JobsError
from quart_app.domain.tasks import Catalog, Task
from quart_app.domain.workers import Kind
from quart_app.http import problems
from quart_app.http.dashboard import DashboardRoutes
from quart_app.http.edge import Edge
from quart_app.http.insight import InsightRoutes
from quart_app.http.meta import MetaRoutes
from quart_app.http.metrics import Metrics
from quart_app.http.openapi import OpenAPI
from quart_app.http.routes import JobRoutes
from quart_app.http.site import NAME, Limits, Site
from quart_app.http.story import StoryRoutes
from quart_app.http.streams import StreamRoutes
from quart_app.parts import Parts
from quart_app.settings import Settings
from quart_app.shared_parts import SharedParts

logger = logging.getLogger("quart_app")

EXTENSION = "quart_app"
TUTORIAL = "quart_app.demo"
TUTORIAL_TASK = "long_task"
STANDALONE_STORE = "sqlite:///quart_app.db"
"""In the working directory. An app of somebody's own keeps jobs in memory unless it says more."""


class Jobs:
    """Background jobs for a Quart app.

    Args:
        app: the app; or call `init_app` later.
        url_prefix: the path under which the routes are mounted, e.g. ``/background``.
        tasks: tasks, or modules of tasks, to offer besides those of ``@jobs.task`` and of
            ``QUART_APP_TASKS``.

    >>> from quart import Quart
    >>> app = Quart("shop")
    >>> jobs = Jobs(app, url_prefix="/background")
    >>> @jobs.task
    ... async def report(month: int) -> str:
    ...     return f"report of month {month}"
    >>> list(jobs.catalog)
    ['report']
    """

    def __init__(
        self,
        app: Quart | None = None,
        *,
        url_prefix: str = "",
        tasks: Iterable[Task | ModuleType] = (),
    ) -> None:
        self.catalog = Catalog()
        self.task = TaskDecorator(self.catalog.add)
        self.defaults: dict[str, Any] = {}
        self.parts: Parts | None = None
        self.make_parts: Callable[[Settings, Catalog], Parts] = Parts
        """What is put together when it opens; `quart_app.testing` puts in what it watches."""
        self.kind: Kind = "web"
        """What this process is for, where there are several."""
        self.environ: Mapping[str, Any] | None = None
        """Where settings are read before ``app.config``; the process's environment for None."""
        self._app: Quart | None = None
        self._edge: Edge | None = None
        self._host: hosting.Host | None = None
        self._deadline = hosting.Deadline()
        self._opening = asyncio.Lock()
        self._closed = False
        self._site = Site(url_prefix.rstrip("/"), self.ready)
        self._metrics = Metrics(self._site)
        self._notice = hosting.SignalNotice(self._on_signal)
        for each in tasks:
            if isinstance(each, ModuleType):
                self.catalog.add_module(each)
            else:
                self.catalog.add(each)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart, *, home: bool = False) -> None:
        """Put the routes and the lifecycle into an app.

        Args:
            home: also answer the root path.

        Raises:
            RuntimeError: the app has this extension already.
        """
        if EXTENSION in app.extensions:
            raise RuntimeError("this app has background jobs already: one Jobs(app) is enough")
        app.extensions[EXTENSION] = self
        self._app = app
        prefix = self._site.prefix
        app.register_blueprint(self._blueprint(home), url_prefix=prefix or None)
        app.register_error_handler(JobsError, self._in_a_view)
        app.before_serving(self.open)
        inner: Any = app.asgi_app
        self._edge = Edge(inner, self._site, self.close)
        app.asgi_app = self._edge  # type: ignore[method-assign,assignment]

    def _blueprint(self, home: bool) -> Blueprint:
        blueprint = Blueprint(NAME, "quart_app.http")
        JobRoutes(self._site).register(blueprint)
        StreamRoutes(self._site).register(blueprint)
        StoryRoutes(self._site).register(blueprint)
        InsightRoutes(self._site).register(blueprint)
        self._metrics.register(blueprint)
        meta = MetaRoutes(self._site, OpenAPI(blueprint, self._site.prefix))
        meta.register(blueprint)
        DashboardRoutes(self._site).register(blueprint, home=home)
        if not home:  # There the app's own error pages are ours.
            blueprint.before_app_request(self._unrouted)
        blueprint.register_error_handler(JobsError, self._jobs_error)
        blueprint.register_error_handler(HTTPException, _http_error)
        blueprint.register_error_handler(Exception, _fault)
        return blueprint

    async def _jobs_error(self, error: JobsError) -> Response:
        self._metrics.refused(error)
        return problems.jobs_error(error)

    async def _in_a_view(self, error: JobsError) -> Response:
        """In the app's own views full or shutting down is their 429 or 503; anything else, as wrong
        arguments of a start, is no mistake of the client, and the app's own 500."""
        if error.status not in (429, 503):
            raise error
        return await self._jobs_error(error)

    async def _unrouted(self) -> Response | None:
        """Below our prefix an unknown route or a wrong method is a problem, as everywhere of ours:
        the framework itself would ask for the app's own error page. Without a prefix only a wrong
        method says whose route it is."""
        error = request.routing_exception
        if not isinstance(error, HTTPException) or isinstance(error, RoutingException):
            return None  # Nothing is wrong, or it is a redirect to the right place.
        if self._site.prefix:
            ours = request.path.startswith(f"{self._site.prefix}/")
        else:
            ours = isinstance(error, MethodNotAllowed) and _is_ours(error.valid_methods)
        return problems.http_error(error) if ours else None

    def settings(self) -> Settings:
        """Read the settings now.

        Raises:
            InvalidSetting: one is wrong.
        """
        return Settings.load(
            self.environ, {} if self._app is None else self._app.config, **self.defaults
        )

    async def open(self) -> None:
        """Begin to serve, at the app's start-up, unless a request has come before it; see
        `_open`."""
        parts = self.parts
        if parts is None or self._closed or parts.loop is not asyncio.get_running_loop():
            await self._open()

    async def _open(self) -> Parts:
        """Read the settings, import the tasks' modules, begin to serve.

        Raises:
            InvalidSetting, InvalidTask, StoreRefused: the start is refused, and why.
        """
        settings, default = self.prepare()
        self._host = hosting.find_host()
        if self._host is not None:
            hosting.check(
                self._host.config,
                drain=settings.drain,
                grace=settings.grace,
                shared=settings.shared,
            )
        make = self.make_parts
        if make is Parts and settings.shared:
            make = functools.partial(SharedParts, kind=self.kind)
        parts = self.parts = make(settings, self.catalog)
        self._metrics.follow(parts.service)
        await parts.open()
        self._site.limits = _limits(settings, default, parts)
        self._site.open = parts.service
        self._closed = False
        if settings.trusted_proxies and self._edge is not None:
            self._edge.trust_proxies(settings.trusted_proxies)
        self._notice.start()
        if self._host is not None and self._host.is_command:
            hosting.settle()
        return parts

    def prepare(self) -> tuple[Settings, str | None]:
        """Read the settings and fill the catalog; the name of the default task comes along.

        Raises:
            InvalidSetting, InvalidTask: the start would be refused, and why.
        """
        settings = self.settings()
        for name in settings.tasks:
            if not self.catalog.add_module(_import(name, settings.sources["tasks"])):
                logger.warning("%s has no task: decorate a function with @task", name)
        if TUTORIAL_TASK not in self.catalog and self.defaults and settings.default_task is None:
            self.catalog.add(getattr(importlib.import_module(TUTORIAL), TUTORIAL_TASK))
        self.catalog.check()
        settings.check_work(self.catalog)
        default = settings.default_task
        if default is not None and default not in self.catalog:
            expected = f"one of the tasks: {', '.join(sorted(self.catalog)) or 'there are none'}"
            source = settings.sources["default_task"]
            raise InvalidSetting("QUART_APP_DEFAULT_TASK", default, expected, source)
        if default is None and TUTORIAL_TASK in self.catalog:
            default = TUTORIAL_TASK
        return settings, default

    async def ready(self) -> Service:
        """The running service; opens it where no server has sent a start-up (as in many tests)."""
        loop = asyncio.get_running_loop()
        parts = self.parts
        if parts is not None and parts.loop is loop:
            return parts.service
        if parts is not None and not parts.loop.is_closed():
            raise RuntimeError("this app serves on another event loop of this process")
        async with self._opening:
            if self.parts is not None and self.parts.loop is loop:  # Somebody else was first.
                return self.parts.service
            if parts is not None:
                parts.abandon()
            return (await self._open()).service

    def begin_close(self) -> None:
        """Refuse new jobs and let waiting requests go; the shutdown has begun."""
        if self.parts is not None:
            self.parts.drain.begin()

    def hurry(self) -> None:
        """Do not wait for running jobs any longer: ask them to stop now."""
        if self.parts is not None:
            self.parts.drain.hurry()

    async def close(self) -> None:
        """End the service: at most ``drain + grace`` seconds. At the app's shutdown; harmless
        twice."""
        if self.parts is not None and not self._closed:
            await self.parts.close()
            self._notice.stop()
            self._closed = True
            self._deadline.cancel()
            if self.parts.drain.left and self._host is not None and self._host.is_command:
                # Hypercorn would wait for what did not stop: its process is at its end, so leave.
                self._deadline.within(hosting.LEAVE, status=0)

    def _on_signal(self) -> None:
        """Beside a plain ``hypercorn``: the first signal begins, the second hurries."""
        parts, host = self.parts, self._host
        if parts is None:
            return
        again = parts.service.draining
        if host is not None and host.is_command:
            drain = 0.0 if again else parts.settings.drain
            self._deadline.within(host.config.graceful_timeout + drain + parts.settings.grace + 1)
        parts.loop.call_soon_threadsafe(self.hurry if again else self.begin_close)


def create_app(tasks: Iterable[Task | ModuleType] = (), **config: Any) -> Quart:
    """The standalone app: the routes at the root, the demo's tasks unless others are named.

    Building it reads no setting, imports no task and opens nothing: that is done at its start-up.

    Args:
        tasks: tasks or modules of tasks to offer; without any, ``QUART_APP_TASKS`` names modules.
        config: settings as ``app.config`` would have them, e.g. ``QUART_APP_DRAIN=3``.
    """
    app = Quart("quart_app", static_folder=None)
    app.config.update(config)
    app.config["MAX_CONTENT_LENGTH"] = None  # Our routes bound their bodies: QUART_APP_MAX_BODY.
    tasks = list(tasks)
    jobs = Jobs(tasks=tasks)
    jobs.defaults = {"tasks": () if tasks else (TUTORIAL,), "store": STANDALONE_STORE}
    jobs.init_app(app, home=True)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _crash)
    return app


def get_jobs(app: Quart) -> Jobs:
    """The extension of an app."""
    jobs: Jobs = app.extensions[EXTENSION]
    return jobs


def _limits(settings: Settings, default: str | None, parts: Parts) -> Limits:
    return Limits(
        max_body=settings.max_body,
        default_task=default,
        get_start=settings.get_start,
        trusted_origins=frozenset(settings.trusted_origins),
        health=parts.health,
        workers=parts.workers,
        settings=settings.describe,
    )


def _import(name: str, source: str) -> ModuleType:
    try:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ImportError(f"{name!r} is not the name of a module, like pkg.module")
        return importlib.import_module(name)
    except ImportError as error:
        expected = f"modules that can be imported: {error}"
        raise InvalidSetting("QUART_APP_TASKS", name, expected, source) from error


def _is_ours(methods: Iterable[str] | None) -> bool:
    """Whether the path of the request is one of our routes, which has other methods."""
    routes = current_app.create_url_adapter(request)
    if routes is None:
        return False
    return any(routes.match(method=each)[0].startswith(f"{NAME}.") for each in methods or ())


async def _fault(error: Exception) -> ResponseReturnValue:
    """What a hook of the app has raised is the app's to answer, where it has said how; for a
    blueprint ours would come before."""
    handlers = current_app.error_handler_spec[None][None]
    for kind in type(error).__mro__:
        if kind is Exception:
            break
        if (handler := handlers.get(kind)) is not None:
            return cast(ResponseReturnValue, await current_app.ensure_async(handler)(error))
    return problems.crash(error)


async def _http_error(error: HTTPException) -> Response:
    return problems.http_error(error)


async def _crash(error: Exception) -> Response:
    return problems.crash(error)
