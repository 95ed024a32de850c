"""`<job-progress>`: one script tag in a page of a user's own app, under that app's own policy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browsing import DARK, LIGHT, PHONE, Look, Visit
from tests.e2e.conftest import Server, Servers

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Visits = Callable[..., Visit]


@pytest.fixture
def shop(servers: Servers) -> Server:
    """An app of somebody's own, whose jobs are below a path."""
    command = [sys.executable, "-m", "quart_app", "serve", "--bind", "127.0.0.1:0"]
    return servers.launch([*command, "--app", "tests.e2e.own_page:app"]).wait_listening()


def shown(visit: Visits, shop: Server, job: str, look: Look = LIGHT) -> tuple[Visit, Page]:
    """The app's page about a job."""
    visited = visit(shop, look)
    visited.page.goto(f"{shop.url}/orders/{job}")
    expect(visited.page.locator("job-progress [part=bar]")).to_be_attached()
    return visited, visited.page


def order(shop: Server, gate: Path | str) -> str:
    """The app starts a job."""
    return str(shop.post("/orders", {"gate": str(gate)}).json()["job"])


@pytest.mark.parametrize("look", [LIGHT, DARK, PHONE], ids=str)
def test_it_follows_a_job_to_its_end(
    visit: Visits, shop: Server, tmp_path: Path, look: Look
) -> None:
    """The page hears of the end; its policy and axe have nothing against it."""
    gate = tmp_path / "gate"
    visited, page = shown(visit, shop, order(shop, gate), look)
    element = page.locator("job-progress")
    bar = element.get_by_role("progressbar", name="Progress of moves")
    expect(bar).to_have_attribute("aria-valuenow", "80")
    expect(element).to_contain_text("running")
    expect(element).to_contain_text("step 4")
    expect(page.get_by_text("not over yet")).to_be_visible()
    assert visited.axe() == []
    gate.touch()
    expect(element).to_contain_text("✓ succeeded")
    expect(bar).to_have_attribute("aria-valuenow", "100")
    expect(page.get_by_text("the order has succeeded")).to_be_visible()
    assert visited.axe() == []
    assert visited.fits()


def test_it_shows_a_cancel_and_another_job(visit: Visits, shop: Server, tmp_path: Path) -> None:
    """The attribute may change."""
    job = order(shop, "/nowhere/at/all")
    _, page = shown(visit, shop, job)
    element = page.locator("job-progress")
    expect(element).to_contain_text("running")
    shop.post(f"/background/cancel/{job}")
    expect(element).to_contain_text("⊘ canceled")
    gate = tmp_path / "gate"
    gate.touch()
    element.evaluate("(each, job) => each.setAttribute('job', job)", order(shop, gate))
    expect(element).to_contain_text("✓ succeeded")
    assert element.evaluate("(each) => each.value.status") == "succeeded"


def test_it_says_that_there_is_no_such_job(visit: Visits, shop: Server) -> None:
    """And asks no more."""
    visited = visit(shop)
    visited.refusals = {404}
    visited.page.goto(f"{shop.url}/orders/none")
    expect(visited.page.locator("job-progress")).to_contain_text("There is no such job")


def test_it_stands_still_where_that_is_wanted(visit: Visits, shop: Server) -> None:
    """Its bar does not glide."""
    job = order(shop, "/nowhere/at/all")
    lasts = {}
    for still in (True, False):
        _, page = shown(visit, shop, job, Look("light", 1280, still))
        fill = page.locator("job-progress [part=fill]")
        lasts[still] = fill.evaluate("(each) => getComputedStyle(each).transitionDuration")
    assert lasts == {True: "0s", False: "0.3s"}
