"""A stand-in for `luna serve`, whose jobs do what a test says: for tests of the web page."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from p2ch_luna.serve.jobs import Job, ResultFile, Stage
from p2ch_luna.serve.pages import static_files
from p2ch_luna.serve.security import PAGE_POLICY

REPORT = b"<!doctype html><title>Report</title><h1>2 findings</h1><p>Of the scan."
FILES = ("report.html", "report.json", "nodules.seg.dcm", "detections.csv", "F1-axial.png", "F1-coronal.png")
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def job_of(name: str, state: str, **facts: Any) -> Job:
    """One as the server tells it. facts: other than usual for its state."""
    usual: dict[str, Any] = {"id": uuid4().hex, "name": name, "state": state, "created": NOW}
    if state == "queued":
        usual["position"] = 1
    else:
        usual |= {"attempts": 1, "started": NOW + timedelta(seconds=1)}
    if state in ("done", "failed"):
        usual |= {"ended": NOW + timedelta(seconds=76), "expires": NOW + timedelta(days=7)}
    if state == "done":
        files = tuple(ResultFile(name=file, bytes=len(REPORT), media_type="text/plain") for file in FILES)
        usual |= {"is_searched": True, "n_findings": 2, "results": files}
    return Job.model_validate(usual | facts)


def stages(*done: str, now: str, fraction: float | None = None) -> tuple[Stage, ...]:
    """Some stages done, one under way."""
    return (*(Stage(name=name, seconds=1.2) for name in done), Stage(name=now, fraction=fraction))


class PageServer:
    """What the page talks to.

    jobs: by id, the oldest first; change one with `tell`.    token: None for none.
    refusals: (status, error, Retry-After) of the next uploads.
    uploads: (name, content type, body) of those that were taken.
    """

    def __init__(self, *jobs: Job) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.refusals: list[tuple[int, str, int | None]] = []
        self.uploads: list[tuple[str, str, bytes]] = []
        self.token: str | None = None
        self.cuts = 0  # streams of events that will end after their first
        self.report = REPORT
        self.is_stopping = False
        self.is_away = False  # as one that was ended: nobody gets an answer
        self.url = ""

    def add(self, job: Job) -> str:
        """Its id."""
        self.jobs[job.id] = job
        return job.id

    def tell(self, job_id: str, **facts: Any) -> None:
        """Something has become of a job."""
        self.jobs[job_id] = self.jobs[job_id].model_copy(update=facts)

    def finish(self, job_id: str, state: str = "done", **facts: Any) -> None:
        """A job comes to its end."""
        self.jobs[job_id] = job_of(self.jobs[job_id].name, state, id=job_id, **facts)


@contextmanager
def page_server(*jobs: Job) -> Iterator[PageServer]:
    """One on a port of loopback that the system chooses."""
    served = PageServer(*jobs)

    class Handler(_Handler):
        server_state = served

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False
        served.url = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield served
        finally:
            served.is_stopping = True
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server_state: PageServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def parse_request(self) -> bool:
        return super().parse_request() and not self.server_state.is_away

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        page = "index.html" if path == "/" else path.removeprefix("/static/")
        if file := static_files().get(page):
            self._answer(200, file.content, file.headers | {"Content-Security-Policy": PAGE_POLICY})
        elif path == "/health":
            self._json(200, {"status": "ok"})
        elif path == "/api/session":
            is_needed = self.server_state.token is not None
            self._json(200, {"is_needed": is_needed, "is_open": self._is_open()})
        elif not self._is_open():
            self._json(401, {"error": "no token"})
        else:
            self._get_job(path.split("/")[2:])

    def _get_job(self, parts: list[str]) -> None:
        jobs = self.server_state.jobs
        if parts == ["jobs"]:
            self._json(200, {"jobs": [job.model_dump(mode="json") for job in reversed(jobs.values())]})
        elif len(parts) < 2 or parts[1] not in jobs:
            self._json(404, {"error": "there is no such job"})
        elif parts[2:] == ["events"]:
            self._events(parts[1])
        elif parts[2:3] == ["results"]:
            kind = "text/html" if parts[3].endswith(".html") else "application/octet-stream"
            download = {"Content-Disposition": f"attachment; filename={parts[3]}"} if "?" in self.path else {}
            self._answer(200, self.server_state.report, {"Content-Type": kind} | download)
        else:
            self._json(200, jobs[parts[1]].model_dump(mode="json"))

    def _events(self, job_id: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        told = None
        while not (self.server_state.is_stopping or self.server_state.is_away):
            job = self.server_state.jobs.get(job_id)
            if job is None:
                self.wfile.write(b"event: gone\ndata: {}\n\n")
                return
            try:
                if job != told:
                    self.wfile.write(f"event: job\ndata: {job.model_dump_json()}\n\n".encode())
                self.wfile.write(b": still there\n\n")
            except OSError:
                return
            if job.has_ended or self._is_cut():
                return
            told = job
            time.sleep(0.02)

    def _is_cut(self) -> bool:
        self.server_state.cuts -= 1
        return self.server_state.cuts >= 0

    def do_POST(self) -> None:
        served, url = self.server_state, urlsplit(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if url.path == "/api/session":
            if json.loads(body)["token"] != served.token:
                self._json(401, {"error": "not the token"})
            else:
                self._answer(204, b"", {"Set-Cookie": "luna_session=open; HttpOnly; SameSite=Strict"})
        elif not self._is_open():
            self._json(401, {"error": "no token"})
        elif served.refusals:
            status, error, retry_after = served.refusals.pop(0)
            headers = {"Retry-After": str(retry_after)} if retry_after else {}
            self._json(status, {"error": error}, headers)
        else:
            name = parse_qs(url.query)["name"][0]
            served.uploads.append((name, self.headers["Content-Type"], body))
            job = job_of(name, "queued", created=datetime.now(UTC))
            served.add(job)
            self._json(202, job.model_dump(mode="json"))

    def do_DELETE(self) -> None:
        if self.path == "/api/session":
            self._answer(204, b"", {"Set-Cookie": "luna_session=; Max-Age=0"})
            return
        is_there = self.server_state.jobs.pop(self.path.rsplit("/", 1)[1], None) is not None
        self._answer(204 if is_there else 404, b"", {})

    def _is_open(self) -> bool:
        return self.server_state.token is None or "luna_session=open" in self.headers.get("Cookie", "")

    def _json(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self._answer(status, body, {"Content-Type": "application/json"} | (headers or {}))

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
