"""What the service counts, for Prometheus, and its log: one line a request, without what a client sent."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2ch_luna.errors import told
from p2ch_luna.serve.jobs import State
from p2ch_luna.serve.problems import WRONG, problem
from p2ch_luna.serve.security import UPLOAD
from p2ch_luna.serve.service import Service

GONE = 499  # in the log: the client went before it was answered
JOB_SECONDS = (5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
METHODS = ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS")
REASONS = {  # of refused uploads
    400: "no_scan",
    401: "no_token",
    403: "other_site",
    408: "stalled",
    413: "too_large",
    415: "content_type",
    421: "other_host",
    422: "parameters",
    429: "queue_full",
    GONE: "client_gone",
    503: "unavailable",
    507: "disk_full",
}

_log = logging.getLogger(__name__)


class Metrics:
    """The counters of one application, and what is read off its service when they are asked for."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("luna_http_requests", "Requests answered.", "method", "route", "status")
        self.request_seconds = Histogram(
            "luna_http_request_seconds",
            "From a request to its answer's end.",
            ["route"],
            registry=self.registry,
        )
        self.received = self._counter("luna_upload_bytes", "Bytes of scans received.")
        self.refused = self._counter("luna_uploads_refused", "Uploads that became no job.", "reason")
        self.ended = self._counter("luna_jobs_ended", "Jobs that have ended.", "outcome")
        self.job_seconds = Histogram(
            "luna_job_seconds",
            "From the begin of a job to its end.",
            registry=self.registry,
            buckets=JOB_SECONDS,
        )
        self.registry.register(_State(service))

    def text(self) -> bytes:
        """All of it in Prometheus's format. Reads the queue of jobs."""
        return generate_latest(self.registry)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request has been answered. route: its template."""
        self.requests.labels(method, route, status).inc()
        self.request_seconds.labels(route).observe(seconds)

    def count_end(self, state: State, seconds: float) -> None:
        """A job is done or has failed. seconds: from its begin."""
        self.ended.labels(state).inc()
        self.job_seconds.observe(seconds)

    def _counter(self, name: str, tells: str, *labels: str) -> Counter:
        return Counter(name, tells, labels, registry=self.registry)


class _State:
    """A collector: how the service is when the metrics are read."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        health = self._service.health()
        jobs = GaugeMetricFamily("luna_jobs", "Jobs there are.", labels=["state"])
        for state, count in self._service.counts().items():
            jobs.add_metric([state], count)
        yield jobs
        is_up = health.worker in ("ready", "busy")
        yield GaugeMetricFamily(
            "luna_worker_up", "1 if the process with the networks is there.", float(is_up)
        )
        free = self._service.free_bytes()
        yield GaugeMetricFamily("luna_disk_free_bytes", "Room for scans and results.", float(free))


class Observed:
    """Middleware: counts and logs each request, and answers 500 for what nobody has foreseen.

    Of a request the log has its method, its route's template, status and milliseconds; of an error its type
    and place: its text may quote a header, so a patient's name.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), GONE
        ended: float | None = None

        async def seen(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body", False):
                ended = time.perf_counter()  # what comes now is the wait for the client to read it
            await send(message)

        try:
            await self._app(scope, receive, seen)
        except ClientDisconnect:
            pass
        except Exception as error:
            _log.error("unforeseen: %s", told(error))
            if status == GONE:  # nothing is sent yet; else the connection ends in the midst of the answer
                await problem(500, WRONG)(scope, receive, seen)
        finally:
            self._note(scope, status, (ended or time.perf_counter()) - begun)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "-")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.count(method, route, status, seconds)
        if (method, scope["path"]) == ("POST", UPLOAD) and status >= 400:  # not all reach a route
            self._metrics.refused.labels(REASONS.get(status, "other")).inc()
        _log.info("%s %s %d %.0f ms", method, route, status, seconds * 1000)
