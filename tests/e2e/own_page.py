"""An app of somebody's own with a page that shows a job, and a policy of its own."""

from __future__ import annotations

from typing import Any

from markupsafe import escape
from quart import Quart, Response, request

from quart_app import Jobs
from tests.e2e.shown_jobs import moves

app = Quart(__name__)
jobs = Jobs(app, url_prefix="/background", tasks=[moves])

POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Your order</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<script type="module" src="/background/static/dashboard/job-progress.js"></script>
<script type="module" src="/page.js"></script></head>
<body><main><h1>Your order</h1><job-progress job="{job}"></job-progress>
<p id="end">It is not over yet.</p></main></body></html>"""
SCRIPT = """
document.querySelector("job-progress").addEventListener("end", (event) => {
  document.querySelector("#end").textContent = `Heard: the order has ${event.detail.status}`;
});
"""


@app.get("/orders/<job>")
async def order_page(job: str) -> Response:
    """The page of an order."""
    response = Response(PAGE.format(job=escape(job)), content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = POLICY
    return response


@app.get("/page.js")
async def script() -> Response:
    """What the page does when the job is over."""
    return Response(SCRIPT, content_type="text/javascript")


@app.post("/orders")
async def order() -> tuple[dict[str, Any], int]:
    """Start a job."""
    handle = await moves.start(gate=(await request.get_json())["gate"])
    return {"job": handle.id}, 202
