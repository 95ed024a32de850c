"""The OpenAPI document: valid, complete, typed for each task, and true."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quart import Quart
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from quart_app import Context, Jobs, Retry, create_app, task
from quart_app.domain.errors import BadInput
from quart_app.http.operations import KEY, OPERATIONS
from quart_app.http.options import START_OPTIONS
from quart_app.http.requests import Fields, read_key
from quart_app.http.site import NAME
from tests.http.support import Api, Stage, serving

HIDDEN = {"openapi", "docs", "docs_file", "home", "static", "dashboard", "dashboard_file"}
"""Routes for people and for tools that have read the document already."""


@task
async def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Quickly.
    """
    return a + b


@task
async def bare() -> None:
    raise ValueError("always")


@task(max_attempts=2, retry=Retry(initial=0))
async def flaky(job: Context) -> int:
    if job.attempt == 1:
        raise ValueError("not yet")
    return job.attempt


async def document_of(api: Api) -> dict[str, Any]:
    """The document."""
    answer = await api.get("/openapi.json")
    assert answer.status == 200
    document: dict[str, Any] = answer.json
    return document


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All operations by ``method path``."""
    return {
        f"{method} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


async def test_the_document_is_valid_openapi_3_1() -> None:
    """By the specification's own schema; every reference has its target, every id is one."""
    async with serving(add, bare) as api:
        document = await document_of(api)
    assert document["openapi"].startswith("3.1")
    OPENAPI_31_VALIDATOR.validate(document)
    text = json.dumps(document)
    for name in document["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, f"{name} is used nowhere"
    for part in text.split('"$ref": "')[1:]:
        target = part.partition('"')[0]
        assert target.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(ids) == len(set(ids))


async def test_every_route_is_described() -> None:
    """Whoever adds a route has to say what it takes and answers."""
    async with serving(add) as api:
        rules = list(api.app.url_map.iter_rules())
        endpoints = {rule.endpoint.removeprefix(f"{NAME}.") for rule in rules} - HIDDEN
        assert endpoints == set(OPERATIONS)
        document = await document_of(api)
        described = {path.rpartition("/")[2] for path in document["paths"]}
        assert {"start", "cancel", "jobs", "tasks", "healthz", "readyz", "retry"} <= described


async def test_each_task_has_an_operation_with_its_types() -> None:
    """Arguments as an object or an array of them, and the result in the document."""
    async with serving(add, bare) as api:
        document = await document_of(api)
        catalog = {each["name"]: each for each in (await api.get("/tasks")).json["tasks"]}
    assert "/start/{task}" not in document["paths"]
    for name in ("add", "bare", "long_task"):
        operation = document["paths"][f"/start/{name}"]["post"]
        assert operation["operationId"] == f"start_{name}"
        assert all(each["in"] != "path" for each in operation["parameters"])
        [one, many] = operation["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
        assert one == catalog[name]["arguments"]
        assert many == {"type": "array", "items": one}
        assert operation["requestBody"]["required"] is (name == "add")
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
        [reference, fields] = answer["allOf"]
        assert reference == {"$ref": "#/components/schemas/JobDocument"}
        assert fields["properties"] == {"args": one, "result": catalog[name]["result"]}
    assert document["paths"]["/start/add"]["post"]["summary"] == "Add two numbers."
    assert document["paths"]["/start/add"]["post"]["description"].endswith("Quickly.")
    assert document["paths"]["/start/bare"]["post"]["summary"] == "Start bare"


async def test_post_start_has_the_types_of_the_default_task() -> None:
    """And those of any object where there is no default task."""
    async with serving(add, default_task="add") as api:
        document = await document_of(api)
        paths = document["paths"]
        assert paths["/start"]["post"]["requestBody"] == paths["/start/add"]["post"]["requestBody"]
        assert paths["/start"]["post"]["operationId"] == "start_default"
    app = Quart("other")
    Jobs(app, url_prefix="/jobs")
    async with app.test_app():
        document = await document_of(Api(app, prefix="/jobs"))
        schema = document["paths"]["/jobs/start"]["post"]["requestBody"]["content"]
        assert schema["application/json"]["schema"]["anyOf"][0] == {"type": "object"}
        retry = document["paths"]["/jobs/jobs/{job_id}/retry"]["post"]["requestBody"]
        no_task = {"type": "object", "maxProperties": 0}
        assert retry["content"]["application/json"]["schema"] == no_task
        OPENAPI_31_VALIDATOR.validate(document)


async def test_a_retry_may_change_some_arguments_of_some_task() -> None:
    """None of them is required, and no other names are taken."""
    async with serving(add, bare) as api:
        document = await document_of(api)
    body = document["paths"]["/jobs/{job_id}/retry"]["post"]["requestBody"]
    assert body["required"] is False
    options = body["content"]["application/json"]["schema"]["anyOf"]
    assert [option["title"] for option in options] == ["add", "bare", "long_task"]
    validator = jsonschema_rs.validator_for({"anyOf": options})
    assert validator.is_valid({"b": 5})
    assert not validator.is_valid({"c": 5})


async def test_the_document_follows_the_mount() -> None:
    """Paths below the prefix; a server's root path is named as the server."""
    app = Quart("shop")
    jobs = Jobs(app, url_prefix="/background")
    jobs.task(add.function)
    async with app.test_app():
        api = Api(app, prefix="/background")
        document = await document_of(api)
        assert all(path.startswith("/background/") for path in document["paths"])
        assert "servers" not in document
        below = "/below/background/openapi.json"
        answer = await Api(app).ask("GET", below, root_path="/below")
        assert answer.json["servers"] == [{"url": "/below"}]
        assert (await document_of(api)).get("servers") is None


async def test_a_task_that_is_added_later_is_described_too() -> None:
    """The document is kept only while the catalog is the same."""
    app = create_app([add])
    async with app.test_app():
        api = Api(app)
        first = await api.get("/openapi.json")
        assert (await api.get("/openapi.json")).body == first.body
        api.jobs.task(bare.function)
        assert "/start/bare" in (await document_of(api))["paths"]


async def test_a_users_own_quart_schema_is_left_alone() -> None:
    """Reading our routes registers nothing in the user's app."""
    app = Quart("shop")
    Jobs(app, url_prefix="/background")
    extensions = dict(app.extensions)
    async with app.test_app():
        await document_of(Api(app, prefix="/background"))
        assert app.extensions == extensions


@pytest.mark.parametrize("path", ["/jobs/{job_id}", "/jobs/{job_id}/result", "/start/add"])
async def test_headers_that_matter_are_described(path: str) -> None:
    """Where to look, when to look, and what was done about a preference."""
    async with serving(add) as api:
        document = await document_of(api)
        parameters = {"Prefer"} | ({"Idempotency-Key"} if path == "/start/add" else set())
        [operation] = document["paths"][path].values()
        named = {each["name"] for each in operation["parameters"] if each["in"] == "header"}
        assert named == parameters
        responses = operation["responses"]
        accepted = responses["200" if path == "/jobs/{job_id}" else "202"]["headers"]
        assert {"Retry-After", "Preference-Applied"} <= set(accepted)
        assert ("Operation-Location" in accepted) == (path != "/jobs/{job_id}")
        assert "Retry-After" in responses["503"]["headers"]


STARTS = ["/start", "/start/add", "/start/flaky"]


async def test_the_options_of_a_start_are_described() -> None:
    """delay, run_at and expires in the query of every way to start by POST, and of no other
    operation; none has to be given, and what cannot be is a 400."""
    async with serving(add, flaky) as api:
        document = await document_of(api)
    for name, operation in operations(document).items():
        options = {
            each["name"]: each
            for each in operation.get("parameters", [])
            if each["in"] == "query" and each["name"] in START_OPTIONS
        }
        if name not in [f"post {path}" for path in STARTS] + ["post /start/long_task"]:
            assert options == {}, name
            continue
        assert list(options) == list(START_OPTIONS) == ["delay", "run_at", "expires", "priority"]
        assert not any(each.get("required") for each in options.values())
        assert all(each["description"] for each in options.values())
        refused = operation["responses"]["400"]
        assert all(each in refused["description"] for each in START_OPTIONS)
        assert list(refused["content"]) == ["application/problem+json"]


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("delay", 0, True), ("delay", 1e-5, True), ("delay", 90.5, True),
        ("delay", 316_224_000, True), ("delay", 316_224_000.5, False), ("delay", -0.5, False),
        ("delay", "soon", False), ("delay", "2030-01-31T08:00:00Z", False),
        ("run_at", "2030-01-31T08:00:00Z", True), ("run_at", "1970-01-02T00:00:00.5-23:59", True),
        ("run_at", "9999-12-30T23:59:59+00:00", True), ("run_at", "2030-01-31t08:00:00z", True),
        ("run_at", "1969-12-31T00:00:00Z", False), ("run_at", "0001-01-01T00:00:00Z", False),
        ("run_at", "2030-02-30T08:00:00Z", False), ("run_at", "2030-01-31T08:00:00", False),
        ("run_at", "2030-01-31", False), ("run_at", 90, False),
        ("expires", 0, True), ("expires", 90.5, True), ("expires", "2030-01-31T08:00:00Z", True),
        ("expires", -1, False), ("expires", "never", False),
        ("expires", "1969-12-31T00:00:00Z", False), ("expires", "2030-01-31T08:00:00", False),
    ],
)  # fmt: skip
async def test_what_is_described_of_an_option_is_what_is_taken(
    name: str, value: Any, taken: bool
) -> None:
    """202 for what fits its schema, 400 for what does not."""
    async with serving(add) as api:
        document = await document_of(api)
        parameters = document["paths"]["/start/add"]["post"]["parameters"]
        [schema] = [each["schema"] for each in parameters if each["name"] == name]
        described = jsonschema_rs.validator_for(schema, validate_formats=True).is_valid(value)
        answer = await api.post(f"/start/add?{name}={quote(str(value))}", {"a": 1})
        assert (described, answer.status) == (taken, 202 if taken else 400)


async def test_what_a_job_tells_of_its_story_is_described() -> None:
    """``expires`` and ``attempts`` are members that may be missing; each attempt has its shape."""
    async with serving(flaky) as api:
        schemas = (await document_of(api))["components"]["schemas"]
    job, attempt = schemas["JobDocument"], schemas["AttemptDocument"]
    assert job["properties"]["expires"] == {"type": "string", "format": "date-time"}
    items = {"$ref": "#/components/schemas/AttemptDocument"}
    assert job["properties"]["attempts"] == {"type": "array", "items": items}
    assert not {"expires", "attempts"} & set(job["required"])
    assert set(attempt["properties"]) == {
        "attempt",
        "started",
        "ended",
        "reason",
        "error",
        "worker",
    }
    assert set(attempt["properties"]) - set(attempt["required"]) == {"error", "worker"}


def is_key(text: str) -> bool:
    """Whether the service takes this as an Idempotency-Key."""
    try:
        read_key(Fields([(b"idempotency-key", text.encode("latin-1"))]))
    except BadInput:
        return False
    return True


@pytest.mark.slow
@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(
    st.text(st.characters(max_codepoint=255))
    | st.text(' "a~é', max_size=6)
    | st.tuples(
        st.sampled_from(["", '"', " "]), st.integers(250, 260), st.sampled_from(["", '"'])
    ).map(lambda parts: parts[0] + "k" * parts[1] + parts[2])
)
@example('"')
@example('""')
@example('"""')
@example(" a\t")
@example("\xa0a")
@example("a\x1f")
@example("")
def test_the_pattern_of_the_idempotency_key_is_what_is_taken(text: str) -> None:
    """Quoted or bare, up to 255 printable characters: no more and no less than described."""
    if "\r" in text or "\n" in text:
        return  # No header field can have them.
    described = re.fullmatch(KEY["schema"]["pattern"], text) is not None
    assert described == is_key(text)


async def test_answers_have_the_shape_that_the_document_gives_them(stage: Stage) -> None:
    """Success and error of every kind, held to the component's schema."""
    async with serving(add, bare, flaky, stage.held) as api:
        document = await document_of(api)
        shapes = {
            name: jsonschema_rs.validator_for(
                {"$ref": f"#/components/schemas/{name}", "components": document["components"]},
                validate_formats=True,
            )
            for name in document["components"]["schemas"]
        }
        done = await api.job((await api.start("add", {"a": 1}))["id"], wait=5)
        failed = await api.job((await api.start("bare"))["id"], wait=5)
        running = await api.start("held")
        [retried] = (await api.post("/start/flaky?expires=99", [{}])).json["jobs"]
        retried = await api.job(retried["id"], wait=5)
        assert (len(retried["attempts"]), "expires" in retried) == (1, True)
        later = (await api.post("/start/add?delay=99", {"a": 1})).json
        for job in (done, failed, running, retried, later):
            shapes["JobDocument"].validate(job)
        shapes["AttemptDocument"].validate(retried["attempts"][0])
        shapes["JobList"].validate((await api.get("/jobs?limit=1")).json)
        shapes["TaskList"].validate((await api.get("/tasks")).json)
        shapes["TaskDocument"].validate((await api.get("/tasks/add")).json)
        shapes["Started"].validate((await api.get("/start")).json)
        shapes["Canceled"].validate((await api.post("/cancel", {"match": {}})).json)
        for answer in (
            await api.get("/jobs/nobody"),
            await api.post("/start/add", {}),
            await api.post("/start/add?delay=soon", {"a": 1}),
            await api.get(f"/jobs/{failed['id']}/result"),
        ):
            shapes["Problem"].validate(answer.json)
        assert not shapes["JobDocument"].is_valid({**done, "created": "yesterday"})
        assert not shapes["JobDocument"].is_valid({**done, "progress": 101})
        assert not shapes["JobDocument"].is_valid({**done, "status": "cancelled"})
