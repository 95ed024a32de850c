"""The page of ``/docs``: Swagger UI, from files in this package and from nowhere else.

Only that page and where its files are may live here. Their versions, licence and hashes are in
``static/swagger/VENDOR.json``, which a test compares with the files.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

SWAGGER_ROOT = Path(__file__).parent / "static" / "swagger"

SWAGGER_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""No script but the package's own files. Swagger UI sets style attributes, so those are allowed."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Jobs: the HTTP API</title>
<link rel="stylesheet" href="{prefix}/docs/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="swagger-ui" data-url="{prefix}/openapi.json"></div>
<noscript>This page needs JavaScript; the document itself is at {prefix}/openapi.json</noscript>
<script src="{prefix}/docs/swagger-ui-bundle.js"></script>
<script src="{prefix}/docs/start.js"></script>
</body>
</html>
"""


def swagger_page(prefix: str) -> str:
    """The page for routes mounted under a path.

    >>> '"/api/openapi.json"' in swagger_page("/api")
    True
    """
    return PAGE.format(prefix=escape(prefix, quote=True))
