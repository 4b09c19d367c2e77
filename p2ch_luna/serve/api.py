"""The routes of the API: scans in, jobs and their results out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response, Security
from fastapi import Path as InPath
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.security import APIKeyCookie, HTTPBearer
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from p2ch_luna.frozen import Frozen
from p2ch_luna.metrics.froc import CPM_FP_PER_SCAN
from p2ch_luna.report.rates import rate_text
from p2ch_luna.serve.events import job_events
from p2ch_luna.serve.jobs import ID_PATTERN, MAX_NAME, Job, Options
from p2ch_luna.serve.metrics import Metrics
from p2ch_luna.serve.problems import responses
from p2ch_luna.serve.security import COOKIE, REPORT_POLICY
from p2ch_luna.serve.service import Service

MEDIA_TYPES = ("application/zip", "application/octet-stream", "application/gzip")
MAX_LISTED = 500  # jobs in one answer
PAGE = "report.html"  # of the results: shown by the page, beside its own
MAX_UID = 64  # characters, by DICOM's standard
UID_PATTERN = r"^[0-9]+(\.[0-9]+)*$"
PARAMETERS = ("name", "fp_per_scan", "series_uid")  # of an upload
_RATES = {text: rate for rate in CPM_FP_PER_SCAN for text in (rate_text(rate), f"{rate:g}")}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "description": "A zip of a DICOM series or of a .mhd with its .raw, or a NIfTI, NRRD or .mha file.",
    "content": dict.fromkeys(MEDIA_TYPES, _BINARY),
}
_QUEUED = {
    "description": "The scan is there and waits its turn.",
    "headers": {"Location": {"description": "Of the job.", "schema": {"type": "string"}}},
}
_FULL = {
    **responses(429)[429],
    "headers": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
}
_EVENT = {  # each of them
    "type": "object",
    "properties": {
        "event": {"enum": ["job", "gone"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
SIGNED_IN = [
    Security(HTTPBearer(auto_error=False, description="The server's token.", scheme_name="token")),
    Security(APIKeyCookie(name=COOKIE, auto_error=False, description="A browser's.", scheme_name="session")),
]
# What the middleware answers before a route is reached, and what may go wrong in any.
router = APIRouter(dependencies=SIGNED_IN, responses=responses(400, 401, 411, 413, 421, 422, 500, 503))


def _known_rate(given: str) -> float:
    """0.125 of "1/8", "0.125" or any other way to write that number."""
    try:
        rate = _RATES[given] if given in _RATES else float(given)
    except ValueError:
        rate = None
    if rate not in CPM_FP_PER_SCAN:
        raise ValueError(f"wanted one of {', '.join(_RATES)}")
    return rate


def _known_uid(given: str) -> str:
    if not re.fullmatch(UID_PATTERN, given):
        raise ValueError("wanted a DICOM UID: numbers with dots between them, such as 1.2.840.113619")
    return given


async def _check_parameters(request: Request) -> None:
    """Refuse what an upload does not take: a slip in a name would go unseen, and another point be used."""
    for name in request.query_params:
        if name not in PARAMETERS:
            raise HTTPException(422, f"{name[:80]!r} is no parameter; wanted {', '.join(PARAMETERS)}")


Rate = Annotated[
    float,
    BeforeValidator(_known_rate),
    WithJsonSchema(
        {
            "type": "string",
            "enum": list(_RATES),
            "description": "The operating point, in false positives a scan; 1 if left out.",
        }
    ),
]
Name = Annotated[
    str, Query(max_length=MAX_NAME, description="What to call the scan.", examples=["chest, low dose"])
]
SeriesUid = Annotated[
    str,
    Query(
        max_length=MAX_UID,
        description="The DICOM series to read; the best axial CT if left out.",
        json_schema_extra={"pattern": UID_PATTERN},
    ),
    AfterValidator(_known_uid),
]
JobId = Annotated[
    str, InPath(description="As the upload's answer has it.", json_schema_extra={"pattern": ID_PATTERN})
]


class Jobs(Frozen):
    """The jobs there are, the youngest first."""

    jobs: tuple[Job, ...]


def service_of(request: Request) -> Service:
    """The one that the application was made for."""
    service: Service = request.app.state.service
    return service


@router.post(
    "/api/scans",
    status_code=202,
    tags=["scans"],
    dependencies=[Depends(_check_parameters)],
    responses={202: _QUEUED, 429: _FULL, **responses(403, 408, 415, 507)},
    openapi_extra={"requestBody": _BODY},
)
async def upload_scan(
    request: Request,
    response: Response,
    name: Name = "scan",
    fp_per_scan: Rate | None = None,
    series_uid: SeriesUid | None = None,
) -> Job:
    """Send a scan. It is read to the disk as it comes, and diagnosed when its turn has come."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in MEDIA_TYPES:
        raise HTTPException(
            415, f"Content-Type is {kind[:80] or 'absent'!r}; expected {', '.join(MEDIA_TYPES)}"
        )
    options = Options(fp_per_scan=fp_per_scan, series_uid=series_uid)
    job = await _take(request, name, options)
    response.headers["Location"] = f"/api/jobs/{job.id}"
    return job


async def _take(request: Request, name: str, options: Options) -> Job:
    """Read the body into a job; what there is of it is removed if it does not come to its end."""
    metrics: Metrics = request.app.state.metrics
    length = request.headers.get("content-length")
    admission = service_of(request).admit(None if length is None else int(length))
    async with contextmanager_in_threadpool(admission) as upload:
        async for chunk in request.stream():
            metrics.received.inc(len(chunk))
            await run_in_threadpool(upload.write, chunk)
        return await run_in_threadpool(upload.commit, name, options)


@router.get("/api/jobs", tags=["jobs"])
async def list_jobs(request: Request, limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 50) -> Jobs:
    """The last jobs, the youngest first."""
    return Jobs(jobs=tuple(await run_in_threadpool(service_of(request).jobs, limit)))


@router.get("/api/jobs/{job_id}", tags=["jobs"], responses=responses(404))
async def get_job(request: Request, job_id: JobId) -> Job:
    """One job: its state, its stages, and the files of its results."""
    job = await run_in_threadpool(service_of(request).job, job_id)
    if job is None:
        raise _no_job()
    return job


@router.delete("/api/jobs/{job_id}", status_code=204, tags=["jobs"], responses=responses(403, 404))
async def delete_job(request: Request, job_id: JobId) -> None:
    """Remove a job with its results; one that waits or runs is given up."""
    if not await run_in_threadpool(service_of(request).delete, job_id):
        raise _no_job()


@router.get(
    "/api/jobs/{job_id}/events",
    tags=["jobs"],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`event: job` with the job as data at each change, until it has ended; "
            "`event: gone` if it is deleted.",
            "content": {"text/event-stream": {"schema": _EVENT}},
        },
        **responses(404),
    },
)
async def follow_job(request: Request, job_id: JobId) -> StreamingResponse:
    """Server-sent events: the job as it goes on."""
    await get_job(request, job_id)
    events = job_events(service_of(request), job_id, request.app.state.is_stopping)
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@router.get(
    "/api/jobs/{job_id}/results/{name}",
    tags=["jobs"],
    response_class=FileResponse,
    responses={200: {"description": "The file.", "content": {"*/*": {}}}, **responses(404)},
)
async def get_result(
    request: Request,
    job_id: JobId,
    name: Annotated[str, InPath(description="Of one of the job's `results`.", examples=["report.json"])],
    download: Annotated[bool, Query(description="To keep rather than to show.")] = False,
) -> FileResponse:
    """One file of a job's results."""
    found = await run_in_threadpool(service_of(request).result, job_id, name)
    if found is None:
        raise HTTPException(404, "there is no such result of this job")
    path, file = found
    return await run_in_threadpool(_file, request, path, file.name, file.media_type, download)


def _file(request: Request, path: Path, name: str, media_type: str, download: bool) -> FileResponse:
    """Whole, whatever part is asked for: files are small, and many ranges in one header are much work."""
    request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
    headers = {"Accept-Ranges": "none"}
    if name == PAGE:
        headers |= {"Content-Security-Policy": REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN"}
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        raise HTTPException(404, "this result has been removed") from error
    shown = "inline" if name == PAGE and not download else "attachment"
    return FileResponse(
        path,
        headers=headers,
        media_type=media_type,
        filename=name,
        stat_result=stat,
        content_disposition_type=shown,
    )


def _no_job() -> HTTPException:
    return HTTPException(404, "there is no job of this id")
