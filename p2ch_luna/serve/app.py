"""The web application: the routes, and what stands before them."""

from __future__ import annotations

from fastapi import FastAPI, Response
from fastapi.concurrency import run_in_threadpool

from p2ch_luna import __version__
from p2ch_luna.serve import api, sessions
from p2ch_luna.serve.bodies import Bodies
from p2ch_luna.serve.metrics import Metrics, Observed
from p2ch_luna.serve.pages import pages
from p2ch_luna.serve.problems import responses, tell_problems
from p2ch_luna.serve.security import Guard, SafeHeaders, Sessions
from p2ch_luna.serve.service import Health, Service

_TELLS = """Send a CT, follow its job, fetch its findings. Research use only, not a medical device.

A scan goes to `POST /api/scans`; the answer is its job. `GET /api/jobs/{job_id}/events` follows it. When its
state is `done`, each of its `results` is at `/api/jobs/{job_id}/results/{name}`. The scan is removed as soon
as its job has ended, the results when the job's `expires` has come. An error is `{"error": "one line"}`."""
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_app(service: Service) -> FastAPI:
    """The application of a service, which whoever calls this starts and stops.

    `app.state.is_stopping` tells streams of events and uploads when to end; a server replaces it.
    """
    app = FastAPI(
        title="luna serve",
        version=__version__,
        description=_TELLS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    state = app.state
    state.service, state.metrics, state.sessions = service, Metrics(service), Sessions(service.settings.token)
    state.is_stopping = lambda: False
    service.on_end = state.metrics.count_end
    tell_problems(app)
    app.include_router(api.router)
    app.include_router(sessions.router)
    app.include_router(pages())
    _add_operations(app, service, state.metrics)
    app.add_middleware(Guard, sessions=state.sessions)  # the last one added sees a request first
    app.add_middleware(Observed, metrics=state.metrics)
    app.add_middleware(Bodies, is_stopping=lambda: state.is_stopping())
    app.add_middleware(SafeHeaders)
    return app


def _add_operations(app: FastAPI, service: Service, metrics: Metrics) -> None:
    """What those who run the server ask."""

    @app.head("/health", include_in_schema=False)
    @app.get("/health", tags=["operation"], responses={503: {"model": Health}, **responses(421, 500)})
    async def health(response: Response) -> Health:
        """Whether the service can do its work; 503 if it cannot."""
        found = await run_in_threadpool(service.health)
        response.status_code = 200 if found.status == "ok" else 503
        return found

    @app.get(
        "/metrics",
        tags=["operation"],
        dependencies=api.SIGNED_IN,
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **responses(401, 421, 500, 503),
        },
    )
    async def prometheus() -> Response:
        """What the service counts, in Prometheus's text format."""
        return Response(await run_in_threadpool(metrics.text), media_type=_METRICS_TYPE)
