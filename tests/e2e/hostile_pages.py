"""The dashboard of a service that says a payload in every field: the real files, and documents of
the shapes that the real API has. Nothing may live here that looks at a page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from quart_app.domain.status import STATUSES
from quart_app.http.dashboard import PAGE, POLICY, STATIC
from tests.hostile import NOW, Documents, HostileService

TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
SPREAD = {"p50": 0.1, "p95": 0.2}


class PageDocuments(Documents):
    """What the dashboard asks for: lists have one item for each of the texts, and what there is
    only one of has the first.

    Args:
        texts: the payloads.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__(texts[0])
        self.texts = texts

    def each(self, make: Callable[[PageDocuments], Any]) -> list[Any]:
        """One item for each text."""
        return [make(PageDocuments([text])) for text in self.texts]

    def jobs(self) -> list[dict[str, Any]]:
        """One of each status."""
        ago = {
            "attempt": 1, "started": NOW, "ended": NOW, "reason": self.text, "worker": self.text,
            "error": {"code": self.text, "message": self.text},
        }  # fmt: skip
        more = {"attempts": [ago], "children": self.text, "run_at": NOW, "expires": NOW}
        return [
            {
                **self.job(status),
                **more,
                "id": f"{number}{self.text}",
                "cancel_requested": NOW if status == "running" else None,
            }
            for number, status in enumerate(STATUSES)
        ]

    def task(self) -> dict[str, Any]:
        """A task with fields of every kind."""
        text = self.text
        words = {"description": text, "pattern": text, "format": text}
        properties = {
            text: {"type": "string", "default": text, **words},
            f"choice{text}": {"enum": [text], **words},
            f"json{text}": {"type": "array", "default": [text], **words},
        }
        policy = dict.fromkeys(("run", "limit_key", "rate", "unique", "priority"), text)
        return {
            **super().task(),
            "arguments": {"type": "object", "properties": properties, "required": [text]},
            "policy": policy, "paused": True, "next": NOW, "durations": {"count": 3, **SPREAD},
        }  # fmt: skip

    def words(self, *names: str, **more: Any) -> dict[str, Any]:
        """The text under each of these names."""
        return {**dict.fromkeys(names, self.text), **more}

    def kind(self) -> dict[str, Any]:
        """A kind of errors."""
        told = {"count": 3, "first": NOW, "last": NOW, "jobs": [self.text], "trend": [1, 2]}
        return self.words("fingerprint", "code", "message", "task", **told)

    def plan(self) -> dict[str, Any]:
        """A schedule."""
        told = {"paused": False, "next": [NOW], "day": [NOW]}
        return self.words("task", "words", "cron", "timezone", "missed", **told)

    def about_jobs(self) -> dict[str, Any]:
        """What is asked about many jobs, by path."""
        counts = dict.fromkeys(STATUSES, 1)
        ends = {"succeeded": [1, 0], "failed": [0, 1], "canceled": [0, 0]}
        jobs = [
            one[place % len(one)] for place, one in enumerate(self.each(lambda one: one.jobs()))
        ]
        return {
            "/jobs": {"jobs": jobs, "next": None},
            "/jobs/count": {"counts": counts, "total": 6, "capped": False},
            "/tasks": {"tasks": self.each(lambda one: one.task())},
            "/errors": {"errors": self.each(lambda one: one.kind()), "scanned": 3, "capped": False},
            "/schedules": {"schedules": self.each(lambda one: one.plan())},
            "/stats": {
                "now": NOW, "counts": counts, "oldest_wait": 1.0, "lag": 0.0, "watchers": 1,
                "failed_last_hour": 1, "throughput": {"bucket": 10, "since": NOW, **ends},
                "tasks": {
                    text: {"counts": {}, "wait": SPREAD, "run": SPREAD} for text in self.texts
                },
            },
        }  # fmt: skip

    def about_itself(self) -> dict[str, Any]:
        """What is asked about the service, by path."""
        told = {"pid": 1, "running": 1, "room": 1, "started_at": NOW}
        about = ("value", "source", "meaning", "expected")
        settings = self.each(lambda one: one.words("name", *about))
        kept = self.each(lambda one: one.words(*about, name=f"QUART_APP_RETAIN_{one.text}"))
        return {
            "/workers": {"workers": self.each(
                lambda one: one.words("id", "host", "kind", only=[one.text], **told)
            )},
            "/settings": {
                "settings": [*settings, *kept, {**kept[0], "name": "QUART_APP_STORE"}],
                "versions": dict.fromkeys(self.texts, self.text),
            },
            "/healthz": {"status": "ok", "store": self.text, "lag": 0.0, "blocked": {
                "count": 1,
                "newest": self.each(lambda one: one.words("task", "job", "stack", seconds=1.0)),
            }},
        }  # fmt: skip

    def timeline(self) -> list[dict[str, Any]]:
        """What happened in a job."""
        told = self.words("action", "where", "response", "status", time=NOW, since=1.0)
        step = {**told, "action": f"step '{self.text}' finished"}
        return [{**row, "step": number} for number, row in enumerate((told, step))]

    def lines(self) -> list[dict[str, Any]]:
        """A log."""
        levels = enumerate(("warning", self.text), 1)
        return [{**self.line(), "seq": seq, "level": level} for seq, level in levels]

    def answer(self, path: str) -> Any:
        """What GET or POST of a path gives."""
        exact = {**self.about_jobs(), **self.about_itself()}
        if path in exact:
            return exact[path]
        if path.endswith("/timeline"):
            return {"timeline": self.timeline()}
        if path.startswith("/jobs/") and path.count("/") == 2:
            number = path.removeprefix("/jobs/")[:1]
            return PageDocuments(self.texts[:1]).jobs()[int(number) if number in "012345" else 4]
        return super().answer(path)


class HostilePages(HostileService):
    """The same service, with the dashboard at its root."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: Sequence[str] = [""]
        self.headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}

    def status(self, path: str) -> int:
        """The page itself is always there."""
        return 0 if self._of_the_page(path) else self.problem

    @staticmethod
    def _of_the_page(path: str) -> bool:
        return path == "/" or path.startswith("/static/") or path.endswith("/events")

    def body(self, path: str) -> tuple[str, bytes]:
        """The content type and the body of an answer."""
        if path == "/":
            return "text/html; charset=utf-8", PAGE.replace("{{base}}", "").encode()
        if path.startswith("/static/"):
            file = STATIC / path.removeprefix("/static/")
            return TYPES[file.suffix], file.read_bytes()
        documents = PageDocuments(self.texts)
        if path.endswith("/events"):
            jobs = documents.about_jobs()["/jobs"]["jobs"]
            blocks = [f"id: {n}\ndata: {json.dumps(job)}\n\n" for n, job in enumerate(jobs)]
            return "text/event-stream", "".join(["retry: 600000\n", *blocks]).encode()
        if path.endswith("/log") and not self.problem:
            return "application/jsonl", b"".join(
                json.dumps(line).encode() + b"\n" for line in documents.lines()
            )
        if self.problem:
            self.text = self.texts[0]
            return super().body(path)
        return "application/json", json.dumps(documents.answer(path)).encode()
