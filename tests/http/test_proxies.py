"""Absolute URLs behind proxies: forwarded headers count only where a proxy is declared trusted."""

from __future__ import annotations

from typing import Any

import pytest

from quart_app import create_app, task
from quart_app.http.requests import address_of
from tests.http.support import Api, problem, serving

FORWARDED = {
    "X-Forwarded-Host": "jobs.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-For": "203.0.113.7",
}


@task
async def work() -> str:
    """Done at once."""
    return "done"


@pytest.mark.parametrize(
    ("server", "address"),
    [
        (("127.0.0.1", 8000), "127.0.0.1:8000"),
        (("::1", 8000), "[::1]:8000"),
        (("/run/service.sock", None), ""),
        (None, ""),
    ],
)
def test_where_no_host_was_named_our_own_address_stands_for_it(
    server: tuple[str, int | None] | None, address: str
) -> None:
    """HTTP/1.0 has no Host field; a socket that is a file has no address."""
    assert address_of(server) == address


async def test_without_a_trusted_proxy_forwarded_headers_are_nothing() -> None:
    """Anybody can send them."""
    async with serving(work) as api:
        answer = await api.ask("POST", "/start/work", headers=FORWARDED)
        assert answer.headers["Location"].startswith("http://localhost/jobs/")
        assert (await api.ask("GET", "/tasks/work", headers=FORWARDED)).json["url"] == (
            "http://localhost/tasks/work"
        )


async def test_behind_a_trusted_proxy_urls_are_those_of_the_outside() -> None:
    """In documents, in headers, in lists."""
    async with serving(work, trusted_proxies=1) as api:
        for method, path in (("POST", "/start/work"), ("POST", "/start"), ("GET", "/start")):
            answer = await api.ask(method, path, headers=FORWARDED)
            assert answer.headers["Location"] == answer.json["url"]
            assert answer.json["url"].startswith("https://jobs.example/jobs/")
        listed = await api.ask("GET", "/jobs?limit=1", headers=FORWARDED)
        assert listed.json["jobs"][0]["url"].startswith("https://jobs.example/jobs/")
        assert listed.json["next"].startswith("https://jobs.example/jobs?")
        answer = await api.ask("GET", "/tasks/work", headers=FORWARDED)
        assert answer.json["start"] == "https://jobs.example/start/work"
        assert (await api.start("work"))["url"].startswith("http://localhost/jobs/")


async def test_of_several_proxies_only_the_nearest_are_believed() -> None:
    """What a client wrote in front of them is left out of account."""
    async with serving(work, trusted_proxies=1) as api:
        headers = {**FORWARDED, "X-Forwarded-Host": "evil.example, jobs.example"}
        answer = await api.ask("POST", "/start/work", headers=headers)
        assert answer.json["url"].startswith("https://jobs.example/jobs/")


async def test_the_browsers_origin_is_compared_with_the_outside() -> None:
    """Behind a trusted proxy our own pages have the proxy's name."""
    async with serving(work, trusted_proxies=1) as api:
        headers = {**FORWARDED, "Origin": "https://jobs.example"}
        assert (await api.ask("POST", "/start/work", headers=headers)).status == 202
        headers["Origin"] = "http://localhost"
        problem(await api.ask("POST", "/start/work", headers=headers), 403, "other-site")


@pytest.mark.parametrize("rounds", [1, 3])
async def test_opening_again_believes_no_more_proxies_than_before(rounds: int) -> None:
    """An app that is started several times stays the same."""
    app = create_app([work], QUART_APP_TRUSTED_PROXIES=1)
    for _ in range(rounds):
        async with app.test_app():
            answer = await Api(app).ask("POST", "/start/work", headers=FORWARDED)
            assert answer.json["url"].startswith("https://jobs.example/jobs/")
    edge: Any = app.asgi_app
    depth = 0
    while hasattr(edge, "_app") or hasattr(edge, "app"):
        edge = getattr(edge, "_app", None) or edge.app
        depth += 1
    assert depth == 2
