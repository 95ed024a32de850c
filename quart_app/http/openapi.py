"""The OpenAPI document: quart-schema reads the routes, each task adds one typed operation.

The routes are read from a private app, so that a user's own quart-schema is left alone. Only the
description of what the routes do may live here.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import msgspec
from quart import Blueprint, Quart
from quart_schema import Info, OpenAPIProvider, QuartSchema
from quart_schema.validation import DataSource
from werkzeug.routing.rules import Rule

from quart_app.domain.tasks import Catalog, Task
from quart_app.http.documents import JobDocument, encode_value
from quart_app.http.operations import COMPONENTS, LATER, OPERATIONS, Operation, Problem, ref
from quart_app.http.site import NAME

REFERENCE = "#/components/schemas/{name}"
Schema = dict[str, Any]
START, START_DEFAULT, RETRY = "/start/{task}", "/start", "/jobs/{job_id}/retry"
LATER_PROBLEMS = (409, 429, 503)
"""What may be answered with a ``Retry-After``."""


class Provider(OpenAPIProvider):
    """quart-schema's reader of routes, told about our responses.

    It is given whole components: quart-schema itself keeps only the first of a model and the
    models inside it.
    """

    def generate_rules(self) -> Iterable[Rule]:
        """Only our own routes that are described."""
        for rule in super().generate_rules():
            blueprint, _, name = rule.endpoint.rpartition(".")
            if blueprint == NAME and name in OPERATIONS:
                yield rule

    def operation_id(self, method: str, path: str, func: Any) -> str:
        """The name of the route's function."""
        return str(func.__name__)

    def build_paths(self, rule: Rule) -> tuple[Schema, Schema]:
        """A path with what `OPERATIONS` says of it."""
        paths, components = super().build_paths(rule)
        operation = OPERATIONS[rule.endpoint.removeprefix(f"{NAME}.")]
        for path in paths.values():
            for described in path.values():
                described["parameters"] = [*described["parameters"], *operation.parameters]
                described["responses"] = responses(operation)
                described["tags"] = [operation.group]
                if operation.body is not None:
                    described["requestBody"] = body(operation.body, operation.body_required)
        return paths, components

    def build_request_body(self, model: Any, source: DataSource) -> tuple[Schema, Schema]:
        """Not used: bodies are described by `OPERATIONS`."""
        raise NotImplementedError  # pragma: no cover - quart-schema's own is not called


def body(schema: Schema, required: bool = False) -> Schema:
    """A JSON request body."""
    return {"content": {"application/json": {"schema": schema}}, "required": required}


def responses(operation: Operation) -> Schema:
    """What a route answers, with the problems that it may answer."""
    result: Schema = {}
    for status, (schema, description, headers) in operation.answers.items():
        result[str(status)] = answer(description, operation.media, schema, headers)
        if status == 204:
            del result["204"]["content"]
    for status, description in operation.problems.items():
        headers = LATER if status in LATER_PROBLEMS else {}
        result[str(status)] = answer(description, "application/problem+json", ref(Problem), headers)
    return result


def answer(description: str, kind: str, schema: Schema, headers: dict[str, Schema]) -> Schema:
    """One response."""
    result: Schema = {"description": description, "content": {kind: {"schema": schema}}}
    if headers:
        result["headers"] = {name: {"schema": schema} for name, schema in headers.items()}
    return result


class OpenAPI:
    """Makes the document.

    Args:
        blueprint: the routes.
        prefix: where they are mounted.
    """

    def __init__(self, blueprint: Blueprint, prefix: str) -> None:
        self._blueprint = blueprint
        self._prefix = prefix
        self._routes: Schema | None = None
        self._made: tuple[tuple[list[str], str | None, str], bytes] | None = None

    async def document(self, catalog: Catalog, default: str | None, root: str) -> bytes:
        """The whole document as JSON: made in a thread, since that takes up to 0.1 s, and kept.

        Args:
            catalog: whose tasks become operations.
            default: the task that ``/start`` starts, if there is one.
            root: the path under which a proxy or server mounts the app.
        """
        wanted = (list(catalog), default, root)
        if self._made is None or self._made[0] != wanted:
            made = await asyncio.to_thread(self.make, catalog, default, root)
            self._made = (wanted, encode_value(made))
        return self._made[1]

    def make(self, catalog: Catalog, default: str | None = None, root: str = "") -> Schema:
        """The document as it is now; see `document`."""
        if self._routes is None:
            self._routes = self._read()
        document = copy.deepcopy(self._routes)
        paths, prefix = document["paths"], self._prefix
        generic = paths.pop(prefix + START)["post"]
        for name in sorted(catalog):
            operation = typed(generic, catalog[name])
            operation["operationId"] = f"start_{name}"
            operation["summary"] = catalog[name].description.partition("\n")[0] or f"Start {name}"
            operation["description"] = catalog[name].description
            paths[f"{prefix}/start/{name}"] = {"post": operation}
        if default is not None:
            paths[prefix + START_DEFAULT]["post"] = typed(
                paths[prefix + START_DEFAULT]["post"], catalog[default]
            )
        paths[prefix + RETRY]["post"]["requestBody"] = body(changes(catalog))
        if root:
            document["servers"] = [{"url": root}]
        return document

    def _read(self) -> Schema:
        app = Quart("quart_app.openapi", static_folder=None)
        app.config["QUART_SCHEMA_CONVERSION_PREFERENCE"] = "msgspec"
        app.config["QUART_SCHEMA_CONVERT_CASING"] = False
        app.register_blueprint(self._blueprint, url_prefix=self._prefix or None)
        description = "Start long tasks, answer at once, see their status, cancel them."
        info = Info("Background jobs", version("quart-app"), description=description)
        document = Provider(app, QuartSchema(info=info)).schema()
        document["paths"] = dict(document["paths"])
        _, components = msgspec.json.schema_components(COMPONENTS, ref_template=REFERENCE)
        document["components"]["schemas"] = components
        return document


def typed(generic: Schema, task: Task) -> Schema:
    """The operation that starts one task: its arguments and its result have their types."""
    operation: Schema = copy.deepcopy(generic)
    arguments = task.arguments.schema()
    operation["parameters"] = [each for each in operation["parameters"] if each["in"] != "path"]
    many = {"type": "array", "items": arguments}
    required = bool(arguments.get("required"))
    operation["requestBody"] = body({"anyOf": [arguments, many]}, required)
    fields = {"args": arguments, "result": task.result_schema()}
    job = {"allOf": [ref(JobDocument), {"type": "object", "properties": fields}]}
    jobs = {"type": "object", "properties": {"jobs": {"type": "array", "items": job}}}
    answers = operation["responses"]
    answers["200"]["content"]["application/json"]["schema"] = job
    accepted = {"anyOf": [job, {**jobs, "required": ["jobs"]}]}
    answers["202"]["content"]["application/json"]["schema"] = accepted
    return operation


def changes(catalog: Catalog) -> Schema:
    """What a retry may change: some of the arguments of the job's task, whichever that is."""
    options = []
    for name in sorted(catalog):
        option = catalog[name].arguments.schema()
        option.pop("required", None)
        options.append({**option, "title": name})
    return {"anyOf": options} if options else {"type": "object", "maxProperties": 0}
