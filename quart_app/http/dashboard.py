"""The dashboard: static files on the public API, served from this package and from nowhere else.

Only where its files are, and what a browser may do with them, may live here: the page knows nothing
that a client could not know.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from quart import Blueprint, Response, current_app, request, send_from_directory
from werkzeug.exceptions import NotFound

from quart_app.http.site import Site

STATIC = Path(__file__).parent / "static"
PARTS = ("dashboard", "vendor")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""No inline script or style, and nothing of another host."""
PAGE = (STATIC / "dashboard" / "index.html").read_text(encoding="utf-8")


class DashboardRoutes:
    """Bound to one site.

    Args:
        site: where it is mounted.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def register(self, blueprint: Blueprint, *, home: bool) -> None:
        """Put the routes into a blueprint.

        Args:
            home: show it at the very root, too; not where the app is somebody else's.
        """
        add = blueprint.add_url_rule
        add("/dashboard", "dashboard", self.page, methods=["GET"])
        # These parts alone: an app has its own files below /static, and we may have no prefix.
        rule = f"/static/<any({','.join(PARTS)}):part>/<path:name>"
        add(rule, "dashboard_file", self.file, methods=["GET"])
        if home:
            add("/", "home", self.page, methods=["GET"])

    async def page(self) -> Response:
        """The page; all its state is in its URL."""
        base = escape(f"{request.root_path}{self._site.prefix}", quote=True)
        response = Response(PAGE.replace("{{base}}", base), content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    async def file(self, part: str, name: str) -> Response:
        """One of its files; where we have none of that name, the app's own."""
        app, path = current_app, request.path
        try:
            response = await send_from_directory(STATIC / part, name)
        except NotFound:
            if app.has_static_folder and path == f"{app.static_url_path}/{part}/{name}":
                return await app.send_static_file(f"{part}/{name}")
            raise
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-cache"
        return response
