"""A service for tests: its application in this process, or a real server on a port, with a quick worker."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from starlette.types import ASGIApp

from p2ch_luna.serve.app import create_app
from p2ch_luna.serve.jobs import Job, Options
from p2ch_luna.serve.server import listening, server_of
from p2ch_luna.serve.service import Service, Settings
from support.fake_workers import begin, write_results

LOCAL = "http://127.0.0.1"
TOKEN = "a-token-for-the-tests-of-luna-serve"
SCAN = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n\n" + bytes(128)
BINARY = {"Content-Type": "application/octet-stream"}


def service_in(folder: Path, **settings: object) -> Service:
    """One that has not been started: its jobs wait."""
    return Service(Settings(folder=folder / "served", **settings), begin)  # type: ignore[arg-type]


class _InProcess(httpx.BaseTransport):
    """Asks an application without a server. An upload reaches it in one piece."""

    def __init__(self, app: ASGIApp) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = httpx.ByteStream(request.read())
        return asyncio.run(
            self._ask(httpx.Request(request.method, request.url, headers=request.headers, stream=body))
        )

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        answer = await self._transport.handle_async_request(request)
        sent = b"".join([piece async for piece in answer.aiter_raw()])
        return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(sent))


def client_of(service: Service) -> httpx.Client:
    """Asks its application."""
    return httpx.Client(transport=_InProcess(create_app(service)), base_url=LOCAL)


def send(client: httpx.Client, scan: bytes = SCAN, name: str = "scan") -> httpx.Response:
    return client.post("/api/scans", params={"name": name}, content=scan, headers=BINARY)


def queued(service: Service, name: str = "scan") -> Job:
    """A job whose scan has been uploaded."""
    with service.admit(len(SCAN)) as upload:
        upload.write(SCAN)
        return upload.commit(name, Options())


def done(service: Service) -> Job:
    """A job that has come to results."""
    queued(service)
    claim = service.store.claim()
    if claim is None:
        raise ValueError("no job waits")
    service.store.end(claim, write_results(service.storage, claim))
    service.storage.drop_scan(claim.job_id)
    job = service.job(claim.job_id)
    if job is None:
        raise ValueError("the job is gone")
    return job


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """A server on a free port of this machine; its URL."""
    with listening("127.0.0.1", 0) as listener:
        server = server_of(service)
        service.start()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"{LOCAL}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
            service.stop()


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """To a server, to say what no client would."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20) as connection:
        yield connection


def head(length: int | None, path: str = "/api/scans") -> bytes:
    """Of an upload. length: as declared; None: it comes in chunks."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/zip", size, "", "")
    return "\r\n".join(lines).encode()


def heard(connection: socket.socket) -> bytes:
    """All that comes until it is closed."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def answer_to(url: str, path: str) -> bytes:
    """To a GET of a path as it is written here: clients tidy it up before they ask."""
    with connected(url) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        return heard(connection)


def until(is_so: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether it comes to be so."""
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)
    return is_so()


def files_of(service: Service) -> list[str]:
    """Those of uploads and jobs."""
    folder = service.storage.folder
    return [
        path.name for part in ("uploads", "jobs") for path in (folder / part).rglob("*") if path.is_file()
    ]


def ended(client: httpx.Client, job_id: str, seconds: float = 30) -> Job:
    """Wait for the end of a job."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        job = Job.model_validate(client.get(f"/api/jobs/{job_id}").json())
        if job.has_ended:
            return job
        time.sleep(0.05)
    raise TimeoutError(f"job {job_id} has not ended in {seconds} s")
