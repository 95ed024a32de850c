"""``/metrics`` for Prometheus: what an operator draws and is woken by. With the extra ``metrics``.

No label grows without bound: tasks are the catalog's, statuses, reasons and lanes are fixed. What
the store or a part knows is read at the scrape. Nothing may live here but figures.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from quart import Blueprint, Response

from quart_app.core.service import Service
from quart_app.domain.errors import JobsError, NotInstalled
from quart_app.domain.jobs import Job
from quart_app.domain.tasks import Catalog
from quart_app.http.site import Site

prometheus: Any
try:
    import prometheus_client as prometheus
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
except ImportError:  # pragma: no cover - the extra is part of every test environment
    prometheus = None

SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 1_800, 7_200)
COMMITS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
OTHER = "other"
"""The label of jobs whose task is not offered any more."""


class Metrics:
    """The figures of one site.

    Args:
        site: whose service they are of.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._registry: Any = None
        self._catalog: Catalog = Catalog()
        self._gauges: list[Any] = []
        self._counting = False
        self._seen: dict[str, _Seen] = {}

    def register(self, blueprint: Blueprint) -> None:
        """Put the route into a blueprint."""
        blueprint.add_url_rule("/metrics", "metrics", self.metrics, methods=["GET"])

    def follow(self, service: Service) -> None:
        """Begin to count, of a service that is about to be opened."""
        if prometheus is None:
            return
        self._catalog = service.catalog
        self._registry = registry = prometheus.CollectorRegistry()
        registry.register(self)
        self._refusals = prometheus.Counter(
            "quart_app_refusals", "Requests that were refused", ["reason"], registry=registry
        )
        commits = prometheus.Histogram(
            "quart_app_store_commit_seconds",
            "How long the store took to put a group of changes on disk",
            buckets=COMMITS,
            registry=registry,
        )
        service.store.on_commit = commits.observe

    def refused(self, error: JobsError) -> None:
        """Count a request that was refused."""
        if self._registry is not None and error.status in (429, 503):
            self._refusals.labels(error.slug).inc()

    def _on_end(self, job: Job) -> None:
        """Called for every job: it only counts, and what is shown is made at the scrape."""
        task = job.task if job.task in self._catalog else OTHER
        seen = self._seen.get(task)
        if seen is None:
            seen = self._seen[task] = _Seen()
        seen.ended[job.status] = seen.ended.get(job.status, 0) + 1
        if job.started_at is not None and job.finished_at is not None:
            queued = job.created_at if job.run_at is None else max(job.run_at, job.created_at)
            seen.wait.observe(max(0.0, job.started_at - queued))
            seen.run.observe(max(0.0, job.finished_at - job.started_at))

    async def metrics(self) -> Response:
        """The figures in Prometheus' text format.

        Raises:
            NotInstalled: the library is not installed.
        """
        if prometheus is None:
            raise NotInstalled("Metrics need prometheus-client: pip install 'quart-app[metrics]'")
        service = self._site.service
        if not self._counting:  # Who is never asked counts for nobody: that would cost every job.
            self._counting = True
            service.hub.subscribe_own_ends(self._on_end)
        self._gauges = list(await self._read(service))
        body = prometheus.generate_latest(self._registry)
        headers = {"Cache-Control": "no-store", "Content-Type": prometheus.CONTENT_TYPE_LATEST}
        return Response(body, 200, headers)

    def collect(self) -> Iterable[Any]:
        """Called by the library: what was read for this scrape."""
        return self._gauges

    def _ended(self) -> Iterable[Any]:
        """What was counted of the jobs that have ended."""
        ended = CounterMetricFamily(
            "quart_app_jobs_ended", "Jobs that ended", labels=["task", "status"]
        )
        wait = HistogramMetricFamily(
            "quart_app_job_wait_seconds",
            "From the moment a job was queued until its last attempt began",
            labels=["task"],
        )
        run = HistogramMetricFamily(
            "quart_app_job_run_seconds", "How long the last attempt of a job ran", labels=["task"]
        )
        for task, seen in sorted(self._seen.items()):
            for status, count in sorted(seen.ended.items()):
                ended.add_metric([task, status], count)
            wait.add_metric([task], seen.wait.cumulative(), seen.wait.total)
            run.add_metric([task], seen.run.cumulative(), seen.run.total)
        return ended, wait, run

    async def _read(self, service: Service) -> Iterable[Any]:
        """What others know, as it is now."""
        jobs = GaugeMetricFamily(
            "quart_app_jobs", "Jobs that are kept, by status", labels=["task", "status"]
        )
        known: dict[tuple[str, str], int] = {}
        for task, counts in (await service.store.counts_by_task()).items():
            label = task if task in service.catalog else OTHER
            for status, count in counts.items():
                known[label, status] = known.get((label, status), 0) + count
        for labels, count in sorted(known.items()):
            jobs.add_metric(labels, count)
        waiting = await service.store.counts()
        oldest = await service.store.oldest_queued()
        age = 0.0 if oldest is None else max(0.0, service.ledger.clock() - oldest.updated_at)
        health = self._site.limits.health()
        return [
            jobs,
            *self._ended(),
            _gauge("quart_app_queue_depth", "Jobs that could begin now", waiting["queued"]),
            _gauge("quart_app_queue_oldest_seconds", "How long the oldest of them has waited", age),
            _gauge("quart_app_running", "Jobs that run in this process", len(service.registry)),
            _gauge("quart_app_loop_lag_seconds", "How late the loop is", health.get("lag", 0.0)),
            _gauge(
                "quart_app_loop_blocked",
                "How often the loop was blocked",
                health.get("blocked", {}).get("count", 0),
            ),
            _gauge("quart_app_watchers", "Requests that follow jobs", service.hub.watchers),
        ]


class _Buckets:
    """A histogram that costs little to add to."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(SECONDS, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Each bound as text, with how many values do not exceed it."""
        bounds = [*(str(float(bound)) for bound in SECONDS), "+Inf"]
        return list(zip(bounds, accumulate(self.counts), strict=True))


class _Seen:
    """What was seen of the jobs of one task."""

    __slots__ = ("ended", "run", "wait")

    def __init__(self) -> None:
        self.ended: dict[str, int] = {}
        self.wait = _Buckets()
        self.run = _Buckets()


def _gauge(name: str, meaning: str, value: float) -> Any:
    return GaugeMetricFamily(name, meaning, value=value)
