"""The routes about many jobs, and about the service behind them: counts, kinds of errors, retries
of all that match, the stack of what runs, schedules, settings.

Only translation may live here.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from typing import Any

import msgspec
from quart import Blueprint, Response, request

from quart_app.core.insight import (
    count,
    failed_since,
    kinds_of_errors,
    retry_each,
    retry_matching,
    stack,
)
from quart_app.core.pulse import BUCKET
from quart_app.domain.errors import BadInput, InvalidRequest, NoSuchTask
from quart_app.domain.options import Options
from quart_app.domain.schedules import Schedule, due_between, in_words, next_after
from quart_app.domain.tasks import Task
from quart_app.http.documents import document, encode_value, located, moment
from quart_app.http.filters import moment_of, read_match, read_query
from quart_app.http.requests import Fields, base_of, read_json, refuse_other_site
from quart_app.http.site import Site

HOUR, DAY = 3_600.0, 86_400.0
WAYS_TO_RETRY = ({"ids"}, {"match"}, {"match", "dry_run"})
"""Which members the body of ``POST /retry`` may have."""
NEXT, STRIP = 5, 288
"""Due times of a schedule that are told: the next ones, and those of a day at most."""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # Run from its source.
        return "unknown"


VERSIONS = {
    "python": platform.python_version(),
    # Read once, from files: a request must not wait for that.
    **{name: _version(name) for name in ("quart-app", "quart", "hypercorn", "msgspec")},
}


class InsightRoutes:
    """Bound to one site.

    Args:
        site: where they are mounted.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def register(self, blueprint: Blueprint) -> None:
        """Put the routes into a blueprint."""
        add = blueprint.add_url_rule
        add("/jobs/count", "count_jobs", self.count_jobs, methods=["GET"])
        add("/retry", "retry_many", self.retry_many, methods=["POST"])
        add("/stats", "stats", self.stats, methods=["GET"])
        add("/errors", "errors", self.errors, methods=["GET"])
        add("/jobs/<job_id>/stack", "job_stack", self.job_stack, methods=["GET"])
        add("/schedules", "list_schedules", self.list_schedules, methods=["GET"])
        add("/schedules/<task>/run", "run_schedule", self.run_schedule, methods=["POST"])
        add("/settings", "list_settings", self.list_settings, methods=["GET"])

    async def count_jobs(self) -> Response:
        """How many jobs pass the filters, by status."""
        service = self._site.service
        query = read_query(request, service.ledger.clock(), cursor=False)
        counts, capped = await count(service, query)
        return _json({"counts": counts, "total": sum(counts.values()), "capped": capped})

    async def retry_many(self) -> Response:
        """Run several jobs that are over again, or all that match, as new jobs."""
        fields = Fields(request.scope["headers"])
        refuse_other_site(fields, self._site.limits)
        _, value = await read_json(request, fields, self._site.limits)
        expected = 'Send {"ids": [...]}, or {"match": {...}} with "dry_run" if you like'
        if not isinstance(value, dict) or set(value) not in WAYS_TO_RETRY:
            raise InvalidRequest(expected)
        service = self._site.service
        ids, match, dry_run = value.get("ids"), value.get("match"), value.get("dry_run", False)
        if "ids" in value:
            if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
                raise InvalidRequest(expected)
            known, started = await retry_each(service, ids)
            return _json({"matched": known, "retried": len(started), "jobs": started[:100]})
        if not isinstance(dry_run, bool):
            raise InvalidRequest(expected)
        try:
            query = read_match(match, service.ledger.clock())
        except BadInput as error:
            raise InvalidRequest(error.detail) from None
        return _json(await retry_matching(service, query, dry_run=dry_run))

    async def stats(self) -> Response:
        """How the service does: what runs and waits, what has ended in the last hour."""
        service, pulse = self._site.service, self._site.service.pulse
        now = service.ledger.clock()
        oldest = await service.store.oldest_queued()
        health = self._site.limits.health()
        tasks = {
            name: {
                "counts": counts,
                "wait": _spread(pulse.waits.observed(name)),
                "run": _spread(service.durations.observed(name)),
            }
            for name, counts in (await service.store.counts_by_task()).items()
        }
        counted = pulse.counts()
        return _json(
            {
                "now": moment(now),
                "counts": await service.store.counts(),
                "oldest_wait": None if oldest is None else max(0.0, now - oldest.created_at),
                "lag": health.get("lag", 0.0),
                "running": health.get("running", 0),
                "watchers": health.get("watchers", 0),
                "failed_last_hour": await failed_since(service, now - HOUR),
                "throughput": {"bucket": BUCKET, "since": moment(pulse.since), **counted},
                "tasks": tasks,
            }
        )

    async def errors(self) -> Response:
        """The kinds of errors of the newest failed jobs, those that came last first."""
        unknown = set(request.args) - {"since", "task"}
        if unknown:
            raise BadInput(f"There is no filter {min(unknown)[:50]!r}; there are since, task")
        service = self._site.service
        now = service.ledger.clock()
        since = moment_of("since", request.args.get("since", "1h"), now)
        kinds, scanned, capped = await kinds_of_errors(service, request.args.get("task"), since)
        told = [
            {**msgspec.structs.asdict(kind), "first": moment(kind.first), "last": moment(kind.last)}
            for kind in kinds
        ]
        return _json({"errors": told, "scanned": scanned, "capped": capped})

    async def job_stack(self, job_id: str) -> Response:
        """Where the code of a running job is."""
        where, lines = await stack(self._site.service, job_id)
        return _json({"job": job_id, "where": where, "stack": lines})

    async def list_schedules(self) -> Response:
        """The tasks that start by themselves, and when."""
        catalog = self._site.service.catalog
        found = [(catalog[name], catalog[name].control.schedule) for name in sorted(catalog)]
        now = time.time()
        told = [self._schedule(task, plan, now) for task, plan in found if plan is not None]
        return _json({"schedules": told})

    def _schedule(self, task: Task, schedule: Schedule, now: float) -> dict[str, Any]:
        moments: list[float] = []
        while len(moments) < NEXT:
            moments.append(next_after(schedule, moments[-1] if moments else now))
        planned = self._site.service.next_of(task.name)
        if planned is not None and planned < moments[0]:
            moments = [planned, *moments[:-1]]
        return {
            "task": task.name,
            "cron": schedule.cron,
            "every": schedule.every,
            "timezone": schedule.timezone,
            "words": in_words(schedule),
            "missed": schedule.missed,
            "paused": self._site.service.backlog.paused(task),
            "next": [moment(at) for at in moments],
            "day": [moment(at) for at in due_between(schedule, now, now + DAY, STRIP)],
        }

    async def run_schedule(self, task: str) -> Response:
        """Start a task now that starts by itself, as its schedule would."""
        refuse_other_site(Fields(request.scope["headers"]), self._site.limits)
        service = self._site.service
        found = service.catalog.find(task)
        if found.control.schedule is None:
            raise NoSuchTask(f"The task {task!r} has no schedule: POST /start/{task} starts it")
        job, _ = await service.start(found, found.arguments.check(b"{}"), Options())
        base = base_of(request, self._site.prefix)
        response = _json(document(job, service, base), 202)
        response.headers.extend(located(job, f"{base}/jobs/{job.id}", service))
        return response

    async def list_settings(self) -> Response:
        """The settings, and where each came from."""
        settings = self._site.limits.settings()
        return _json({"settings": settings, "versions": VERSIONS})


def _spread(observed: Any) -> dict[str, float | None]:
    return {"p50": observed.p50, "p95": observed.p95}


def _json(value: Any, status: int = 200) -> Response:
    response = Response(encode_value(value), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
