"""Who may change something: pages of other sites may not, and no method but the right one does."""

from __future__ import annotations

import pytest

from quart_app import task
from tests.http.support import Api, problem, serving

CHANGES = [
    ("GET", "/start"),
    ("POST", "/start"),
    ("POST", "/start/work"),
    ("POST", "/cancel"),
    ("POST", "/cancel/{id}"),
    ("POST", "/jobs/{id}/retry"),
]
"""Every route that starts or changes something."""
LOOKS = ["/jobs", "/jobs/{id}", "/jobs/{id}/result", "/tasks", "/tasks/work", "/healthz"]
LOOKS += ["/readyz", "/openapi.json", "/docs"]

FROM_ELSEWHERE: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost:8000"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://localhost:443"},
    {"Origin": "https://localhost", "Host": "localhost:80"},
    {"Origin": "http://localhost", "Host": "localhost:8080"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://["},
    {"Origin": "not a url"},
    {"Sec-Purpose": "prefetch"},
]
FROM_HERE: list[dict[str, str]] = [
    {},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost"},
    {"Origin": "https://localhost"},
    {"Origin": "http://localhost", "Host": "LocalHost:80"},
    {"Origin": "https://localhost", "Host": "localhost:443"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://friend.example"},
    {"Origin": "https://friend.example"},
]


@task
async def work() -> str:
    """Done at once."""
    return "done"


async def finished(api: Api) -> str:
    """The id of a job that is over."""
    job = await api.start("work")
    return str((await api.job(job["id"], wait=5))["id"])


@pytest.mark.parametrize("headers", FROM_ELSEWHERE, ids=str)
async def test_a_page_of_another_site_changes_nothing(headers: dict[str, str]) -> None:
    """403 other-site on every route that changes something, by Fetch Metadata or by Origin."""
    async with serving(work) as api:
        job_id = await finished(api)
        for method, path in CHANGES:
            body = {"ids": [job_id]} if path == "/cancel" else None
            answer = await api.ask(method, path.format(id=job_id), json=body, headers=headers)
            problem(answer, 403, "other-site")
        assert await api.count() == 1


@pytest.mark.parametrize("headers", FROM_HERE, ids=str)
async def test_our_own_pages_trusted_ones_and_programs_may_change_things(
    headers: dict[str, str],
) -> None:
    """The same origin, one that the operator trusts, and clients that are no browsers."""
    async with serving(work, trusted_origins="https://friend.example") as api:
        job_id = await finished(api)
        for method, path in CHANGES:
            body = {"ids": [job_id]} if path == "/cancel" else None
            answer = await api.ask(method, path.format(id=job_id), json=body, headers=headers)
            assert answer.status in (200, 202), answer.body


async def test_anybody_may_look() -> None:
    """What only looks is not refused: browsers keep the answer from the other page themselves."""
    async with serving(work) as api:
        job_id = await finished(api)
        for path in LOOKS:
            headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
            answer = await api.ask("GET", path.format(id=job_id), headers=headers)
            assert answer.status == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/start", {"GET", "POST"}),
        ("/start/work", {"POST"}),
        ("/cancel", {"POST"}),
        ("/cancel/x", {"POST"}),
        ("/jobs", {"GET"}),
        ("/jobs/x", {"GET"}),
        ("/jobs/x/result", {"GET"}),
        ("/jobs/x/retry", {"POST"}),
        ("/tasks", {"GET"}),
        ("/tasks/work", {"GET"}),
        ("/healthz", {"GET"}),
        ("/readyz", {"GET"}),
        ("/openapi.json", {"GET"}),
        ("/docs", {"GET"}),
        ("/", {"GET"}),
    ],
)
async def test_a_wrong_method_is_405_with_allow(path: str, allowed: set[str]) -> None:
    """405 as problem+json names the methods that there are; nothing is started."""
    async with serving(work) as api:
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - allowed:
            answer = await api.ask(method, path, data=b"")
            problem(answer, 405)
            named = set(answer.headers["Allow"].split(", "))
            assert named - {"HEAD", "OPTIONS"} == allowed
        assert await api.count() == 0


async def test_head_and_options_change_nothing() -> None:
    """Neither on routes that change something nor on those that do not."""
    async with serving(work) as api:
        job_id = await finished(api)
        for method, path in [*CHANGES, *(("GET", look) for look in LOOKS)]:
            for other in ("HEAD", "OPTIONS"):
                answer = await api.ask(other, path.format(id=job_id))
                assert answer.status in ((405,) if method == "POST" else (200, 405)) or (
                    other == "OPTIONS"
                )
        assert await api.count() == 1


async def test_options_says_what_may_be_sent() -> None:
    """OPTIONS answers Allow."""
    async with serving(work) as api:
        answer = await api.ask("OPTIONS", "/start/work")
        assert answer.status == 200
        assert set(answer.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
