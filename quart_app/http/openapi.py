"""The OpenAPI document: quart-schema reads the routes, each task adds one typed operation.

The routes are read from a private app, so that a user's own quart-schema is left alone. Only the
description of what the routes do may live here.
"""

from __future__ import annotations

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
from quart_app.http.documents import JobDocument
from quart_app.http.operations import COMPONENTS, OPERATIONS, Operation

REFERENCE = "#/components/schemas/{name}"
Schema = dict[str, Any]
START = "/start/{task}"


class Provider(OpenAPIProvider):
    """quart-schema's reader of routes, told about our responses.

    It is given whole components: quart-schema itself keeps only the first of a model and the
    models inside it.
    """

    def generate_rules(self) -> Iterable[Rule]:
        """Only our own routes that are described."""
        for rule in super().generate_rules():
            if rule.endpoint.removeprefix("jobs.") in OPERATIONS:
                yield rule

    def operation_id(self, method: str, path: str, func: Any) -> str:
        """The name of the route's function."""
        return str(func.__name__)

    def build_paths(self, rule: Rule) -> tuple[Schema, Schema]:
        """A path with what `OPERATIONS` says of it."""
        paths, components = super().build_paths(rule)
        operation = OPERATIONS[rule.endpoint.removeprefix("jobs.")]
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
        raise NotImplementedError  # pragma: no cover


def body(schema: Schema, required: bool = False) -> Schema:
    """A JSON request body."""
    return {"content": {"application/json": {"schema": schema}}, "required": required}


def responses(operation: Operation) -> Schema:
    """What a route answers, with the problems that it may answer."""
    result: Schema = {}
    for status, (schema, description, headers) in operation.answers.items():
        answer: Schema = {"description": description}
        if schema is not None:
            answer["content"] = {operation.content_type: {"schema": schema}}
        if headers:
            answer["headers"] = {name: {"schema": kind} for name, kind in headers.items()}
        result[str(status)] = answer
    for status, description in operation.problems.items():
        schema = {"$ref": REFERENCE.format(name="Problem")}
        content = {"application/problem+json": {"schema": schema}}
        result[str(status)] = {"description": description, "content": content}
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

    def document(self, catalog: Catalog, root: str = "") -> Schema:
        """The whole document.

        Args:
            catalog: whose tasks become operations.
            root: the path under which a proxy or server mounts the app.
        """
        if self._routes is None:
            self._routes = self._read()
        document = copy.deepcopy(self._routes)
        generic = document["paths"].pop(self._prefix + START)["post"]
        for name in sorted(catalog):
            path = f"{self._prefix}/start/{name}"
            document["paths"][path] = {"post": typed(generic, catalog[name])}
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
    operation["operationId"] = f"start_{task.name}"
    operation["summary"] = task.description.partition("\n")[0] or f"Start {task.name}"
    operation["description"] = task.description
    operation["parameters"] = [each for each in operation["parameters"] if each["in"] != "path"]
    many = {"type": "array", "items": arguments}
    required = bool(arguments.get("required"))
    operation["requestBody"] = body({"anyOf": [arguments, many]}, required)
    reference = {"$ref": REFERENCE.format(name=JobDocument.__name__)}
    result = {"type": "object", "properties": {"result": task.result_schema()}}
    job = {"allOf": [reference, result]}
    jobs = {"type": "object", "properties": {"jobs": {"type": "array", "items": job}}}
    answers = operation["responses"]
    answers["200"]["content"]["application/json"]["schema"] = job
    accepted = {"anyOf": [job, {**jobs, "required": ["jobs"]}]}
    answers["202"]["content"]["application/json"]["schema"] = accepted
    return operation
