"""Requests a second: POST /start of ours, beside the route that people write without us."""

from __future__ import annotations

from collections import defaultdict

from benchmarks.figures import Row, Section, Target, in_turn, row
from benchmarks.load import Call, requests_per_second
from benchmarks.processes import Server

ROUNDS = 7
SECONDS = 2
KEPT = 12_000
"""Finished jobs that ours begins with: more than it keeps, so that it also forgets old ones."""

POST = Call("POST", "/start/noop", 202, b"{}")
GET = Call("GET", "/start", 200)
CALLS = {
    "raw": [POST],
    "bare": [POST, GET],
    "reading": [POST],
    "telling": [POST],
    "ours": [POST, GET],
}
BARE = "bare Quart route"
READING = "Quart route that reads its JSON"
TELLING = "Quart route that reads its JSON and tells as much"
AT_LEAST = Target(least=0.85)


def measure(rounds: int = ROUNDS, seconds: int = SECONDS) -> dict[tuple[str, str], list[float]]:
    """Requests a second by (app, method), one figure a round."""
    figures: dict[tuple[str, str], list[float]] = defaultdict(list)
    for app in in_turn(list(CALLS), rounds):
        with Server(app) as server:
            if app == "ours":
                server.fill("noop", KEPT)
            requests_per_second(server.port, POST, 1)  # Warm.
            for call in CALLS[app]:
                rate = requests_per_second(server.port, call, seconds)
                figures[app, call.method].append(rate)
    return figures


def run() -> Section:
    """All of it."""
    figures = measure()
    ours, bare, unit = figures["ours", "POST"], figures["bare", "POST"], "requests/s"
    rows: list[Row] = [
        row("POST /start/noop", unit, ours, BARE, bare, AT_LEAST),
        row("POST /start/noop", unit, ours, READING, figures["reading", "POST"], AT_LEAST),
        row("POST /start/noop", unit, ours, TELLING, figures["telling", "POST"]),
        row(TELLING, unit, figures["telling", "POST"], BARE, bare),
        row("GET /start", unit, figures["ours", "GET"], BARE, figures["bare", "GET"]),
        row(BARE, unit, bare, "raw ASGI answer", figures["raw", "POST"]),
    ]
    return Section(name="throughput", title="Requests a second on Hypercorn", rows=rows)
