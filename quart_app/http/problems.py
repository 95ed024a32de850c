"""Errors as ``application/problem+json`` (RFC 9457).

Only the translation of an error into a response may live here. A 500 never shows what happened
inside: the log does.
"""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any

from quart import Response
from werkzeug.exceptions import HTTPException

from quart_app.domain.errors import JobsError
from quart_app.http.documents import encode_value

logger = logging.getLogger("quart_app.http")

CONTENT_TYPE = "application/problem+json"


def problem_body(
    status: int, title: str, detail: str | None, type: str = "about:blank", **extra: Any
) -> bytes:
    """The problem document.

    >>> problem_body(404, "Not Found", "There is no job 'x'")
    b'{"type":"about:blank","title":"Not Found","status":404,"detail":"There is no job \\'x\\'"}'
    """
    members = {"type": type, "title": title, "status": status, "detail": detail, **extra}
    return encode_value({key: value for key, value in members.items() if value is not None})


def jobs_error(error: JobsError) -> Response:
    """One of our own errors."""
    body = problem_body(error.status, error.title, error.detail, error.type, **error.extra)
    response = Response(body, error.status, content_type=CONTENT_TYPE)
    response.headers["Cache-Control"] = "no-store"
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after))
    return response


def http_error(error: HTTPException) -> Response:
    """One of the framework's: no such route, a wrong method, a slow body."""
    status = error.code or 500
    body = problem_body(status, HTTPStatus(status).phrase, error.description)
    response = Response(body, status, content_type=CONTENT_TYPE)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    response.headers["Cache-Control"] = "no-store"
    return response


def crash(error: Exception) -> Response:
    """A fault of ours: logged in full, answered in one sentence."""
    logger.error("a request failed", exc_info=error)
    detail = "The service failed to answer; its log says why"
    body = problem_body(500, "Internal Server Error", detail)
    response = Response(body, 500, content_type=CONTENT_TYPE)
    response.headers["Cache-Control"] = "no-store"
    return response
