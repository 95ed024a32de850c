"""Payloads that would command a page or a terminal, or mislead who reads it, and a service that
says them in every field."""

from __future__ import annotations

import json
import threading
import unicodedata
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

LONG = "A" * 20_000
PAYLOADS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "javascript:alert(1)", "'\"><svg>",
    "\x1b[31mred\x1b[0m", "\x1b[2J\x1b[H", "\x1b[?1049h", "\x1b]0;title\x07", "\x1b]52;c;cm0=\x07",
    "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "\x1bP+q544e\x1b\\", "\x1b_Gpayload\x1b\\",
    "\x1b[6n", "\x1b[c", "\x1b]11;?\x07", "\x1bc", "\x1b[999;999H", "\x1b[1A\x1b[2K", "\x1b(0lqk",
    "\x1b[?25l", "\x1b[5m", "\x1b#8", "\x9b31m", "\x9d0;x\x9c", "\x90q\x9c", "\x85next", "\x8d",
    "\x07\x07", "\x08\x08\x08back", "over\rwritten", "two\nlines", "two\r\nlines", "tab\tbed",
    "\x0b\x0c", "\x0e\x0f", "\x7f\x7f", "\x01\x02", "\u202egpj.exe", "\u2066x\u2069", "\u200eabc",
    "\u061cx", "\u2028line", "\u2029paragraph", "\ufeffbom", "soft\u00adhyphen", "\u200bzero",
    "\U000e0041tag", "e" + "\u0301" * 200, "\ue000private", "漢" * 500, "{0}%s%n{{}}",
    "=cmd|'/c'!A1",
    "'; DROP TABLE jobs; --", "../../etc/passwd", "$(reboot)`reboot`", "\\x1b[31m", LONG,
]  # fmt: skip
BAD = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
NOW = "2026-11-22T15:53:41.414Z"


def commands(text: str) -> list[str]:
    """Characters of an output that a terminal might obey, besides the ends of lines."""
    return [each for each in text if each != "\n" and unicodedata.category(each) in BAD]


class Documents:
    """Every document of the service, with a payload wherever there may be a text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def job(self, status: str) -> dict[str, Any]:
        """A job."""
        text = self.text
        error = {"code": text, "message": text, "traceback": text}
        return {
            "id": text, "task": text, "status": status, "reason": text, "args": {text: [text]},
            "tags": [text], "attempt": 1, "max_attempts": 1, "created": NOW, "started": NOW,
            "finished": None if status == "running" else NOW, "updated": NOW, "progress": 50.0,
            "message": text, "eta": NOW, "position": 2, "retry_of": text, "parent": text,
            "worker": text, "url": text,
            **({"result": {text: text}} if status == "succeeded" else {}),
            **({"error": error} if status == "failed" else {}),
        }  # fmt: skip

    def line(self) -> dict[str, Any]:
        """A line of a log."""
        return {"seq": 2, "line": 1, "time": NOW, "level": self.text, "text": self.text}

    def task(self) -> dict[str, Any]:
        """A task."""
        text = self.text
        arguments = {"properties": {text: {"type": "string", "default": text, "description": text}}}
        return {
            "name": text, "description": text, "arguments": arguments, "policy": {text: text},
            "tags": [text], "durations": {text: text}, "url": text, "start": text,
        }  # fmt: skip

    def answer(self, path: str) -> Any:
        """What GET or POST of a path gives."""
        text = self.text
        jobs = [self.job(status) for status in ("running", "succeeded", "failed", "canceled")]
        exact = {
            "/jobs": {"jobs": jobs, "next": None},
            "/tasks": {"tasks": [self.task()]},
            "/stats": {"now": NOW, "counts": {text: 1}, "tasks": {text: {}}},
            "/errors": {"errors": [{
                "fingerprint": text, "code": text, "message": text, "task": text, "last": NOW,
            }]},
            "/workers": {"workers": [
                {"id": text, "host": text, "kind": text, "started_at": NOW, "only": [text]}
            ]},
            "/schedules": {"schedules": [
                {"task": text, "words": text, "cron": text, "next": [NOW]}
            ]},
            "/retry": {"matched": 1, "retried": 1, "jobs": [text]},
            "/healthz": {"status": text, "store": text, "lag": 1.0},
            "/settings": {"settings": [{"name": text, "value": text}], "versions": {
                "quart-app": text
            }},
        }  # fmt: skip
        if path in exact:
            return exact[path]
        if path.endswith("/result"):
            return {text: text}
        if path.endswith("/stack"):
            frame = {"file": text, "line": 1, "function": text, "code": text}
            return {"where": text, "stack": [frame]}
        if path.startswith("/tasks/"):
            return self.task()
        return self.job("failed")


class Quiet(ThreadingHTTPServer):
    """Says nothing of a reader that has gone."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing."""


class HostileService:
    """A service on loopback that says a payload in every field.

    Attributes:
        text: the payload; may be changed.
        problem: a status other than 0 answers everything with a problem.
        events: the same for streams.
        headers: further headers of every answer.
    """

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.text = ""
        self.problem = 0
        self.events = 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            """Answers one request."""

            def do_GET(self) -> None:
                """Any."""
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = urlsplit(self.path).path
                kind, body = service.body(path)
                events = service.events if path.endswith("/events") else 0
                self.send_response(service.status(path) or events or 200)
                self.send_header("Content-Type", kind)
                for name, value in service.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def status(self, path: str) -> int:
        """The status of an answer that is a problem, or 0."""
        return self.problem

    def body(self, path: str) -> tuple[str, bytes]:
        """The content type and the body of an answer."""
        documents = Documents(self.text)
        raw = {"ensure_ascii": False}  # Bidi controls and the like arrive as they are.
        if self.problem:
            errors = [{"pointer": f"#/{self.text}", "detail": self.text}]
            told = {"title": self.text, "detail": self.text, "type": self.text, "errors": errors}
            return "application/problem+json", json.dumps(told, **raw).encode()  # type: ignore[arg-type]
        if path.endswith("/events"):
            line, job = documents.line(), {**documents.job("failed")}
            events = [f"event: log\nid: 2\ndata: {json.dumps(line)}\n\n"]
            events.append(f"id: 3\ndata: {json.dumps(job)}\n\n")
            return "text/event-stream", "".join(events).encode()
        if path.endswith("/log"):
            return "application/jsonl", json.dumps(documents.line()).encode() + b"\n"
        return "application/json", json.dumps(documents.answer(path), **raw).encode()  # type: ignore[arg-type]

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
