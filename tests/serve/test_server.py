"""A real server on a port: uploads that fail, its log, its end."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.serve.server import check_token, listening, log_to
from p2ch_luna.serve.service import Service
from support.served import BINARY, SCAN, TOKEN, ended, queued, send, service_in, serving

NAME = "Doe^John"
RUN = """
import sys
from pathlib import Path
from support.served import service_in
from p2ch_luna.serve.server import run
if __name__ == "__main__":
    run(service_in(Path(sys.argv[1])), "127.0.0.1", 0, lambda url: print(url, flush=True))
"""


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20) as connection:
        yield connection


def head(length: int | None) -> bytes:
    """Of an upload. length: as declared; None: it comes in chunks."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = ("POST /api/scans HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/zip", size, "", "")
    return "\r\n".join(lines).encode()


def until(is_so: Callable[[], bool], seconds: float = 10) -> bool:
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


def test_a_scan_comes_to_its_results(tmp_path: Path) -> None:
    with serving(service_in(tmp_path)) as url, httpx.Client(base_url=url) as client:
        job = ended(client, send(client).json()["id"])
        report = client.get(f"/api/jobs/{job.id}/results/report.json")
    assert (job.state, report.json()) == ("done", {})


def test_a_client_that_goes_leaves_nothing(tmp_path: Path) -> None:
    service = service_in(tmp_path)
    with serving(service) as url:
        with connected(url) as connection:
            connection.sendall(head(10**6) + SCAN)
            assert until(lambda: files_of(service) != [])
        assert until(lambda: files_of(service) == [])
        assert service.jobs(9) == []


@pytest.mark.parametrize("length", [None, 10**6])
def test_an_upload_that_is_too_large_hears_so(tmp_path: Path, length: int | None) -> None:
    service = service_in(tmp_path, max_upload_bytes=1000)
    piece = SCAN + bytes(60_000)
    with serving(service) as url, connected(url) as connection:
        chunk = piece if length else b"%x\r\n%b\r\n" % (len(piece), piece)
        connection.sendall(head(length) + chunk)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))  # until it is closed
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer
    assert list(json.loads(answer.partition(b"\r\n\r\n")[2])) == ["error"]
    assert files_of(service) == []


def test_eight_clients_at_once_are_taken_or_told_when_to_come_again(tmp_path: Path) -> None:
    service = service_in(tmp_path, max_waiting=3)

    def upload(url: str) -> httpx.Response:
        with httpx.Client(base_url=url, timeout=30) as client:
            return send(client, name="slow")

    with serving(service) as url, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(upload, [url] * 8))
        assert len(service.jobs(9)) == sum(answer.status_code == 202 for answer in answers)
    assert {answer.status_code for answer in answers} == {202, 429}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)


def test_no_way_leads_out_of_the_server(tmp_path: Path) -> None:
    paths = [
        "/../etc/passwd",
        "/static/../../app.py",
        "/api/jobs/../../x",
        "/static/%2e%2e/app.py",
        "//etc/passwd",
    ]
    with serving(service_in(tmp_path)) as url:
        for path in paths:
            with connected(url) as connection:
                connection.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
                )
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            assert answer.startswith(b"HTTP/1.1 404"), path


def test_what_is_no_http_is_answered_without_a_word_of_the_server(tmp_path: Path) -> None:
    with serving(service_in(tmp_path)) as url, connected(url) as connection:
        connection.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"Traceback" not in answer
    assert b"uvicorn" not in answer.lower()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log of a server; its loggers are as before afterwards."""
    names = ("p2ch_luna.serve", "uvicorn", "asyncio")
    before = [(logging.getLogger(name), logging.getLogger(name).handlers) for name in names]
    stream = io.StringIO()
    log_to(stream)
    yield stream
    for logger, handlers in before:
        logger.handlers, logger.propagate = handlers, True
        logger.setLevel(logging.NOTSET)


def test_the_log_has_no_name_and_no_token(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_in(tmp_path, token=TOKEN)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    headers = bytes(128) + b"DICM" + NAME.encode()  # a single DICOM file is refused

    def fail(_limit: int) -> None:
        raise ValueError(f"{NAME} {TOKEN}")

    with serving(service) as url, httpx.Client(base_url=url, headers=bearer) as client:
        ended(client, send(client, name=NAME).json()["id"])
        ended(client, send(client, name=f"failing {NAME}").json()["id"])
        send(client, headers, NAME)
        client.get(f"/{NAME}", params={"token": TOKEN})
        client.get(f"/api/jobs/{NAME}/results/{NAME}")
        client.post("/api/session", json={"token": f"{TOKEN}{NAME}"})
        client.post("/api/scans", params={"fp_per_scan": NAME}, content=SCAN, headers=BINARY)
        with connected(url) as connection:
            connection.sendall(head(10**6).replace(b"/api/scans", f"/api/scans?name={NAME}".encode()) + SCAN)
        monkeypatch.setattr(service, "jobs", fail)
        assert client.get("/api/jobs").status_code == 500
    written = log.getvalue()
    assert "POST /api/scans 202" in written
    assert "unforeseen: ValueError" in written
    assert [secret for secret in ("Doe", TOKEN, "Traceback") if secret in written] == []


@contextmanager
def subprocess_of(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its URL."""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    script = folder / "run.py"
    script.write_text(RUN, encoding="utf-8")
    command = [sys.executable, str(script), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_gives_its_job_back(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess_of(tmp_path) as (process, url), httpx.Client(base_url=url) as client:
        job_id = send(client, name="slow").json()["id"]
        assert until(lambda: client.get(f"/api/jobs/{job_id}").json()["state"] == "running")
        with client.stream("GET", f"/api/jobs/{job_id}/events") as events:  # does not keep it from its end
            next(events.iter_lines())
            process.send_signal(number)
            assert process.wait(15) == 0
    job = service_in(tmp_path).job(job_id)
    assert job is not None
    assert (job.state, job.attempts) == ("queued", 0)


def test_a_server_takes_up_what_waits(tmp_path: Path) -> None:
    job = queued(service_in(tmp_path))
    with serving(service_in(tmp_path)) as url, httpx.Client(base_url=url) as client:
        assert ended(client, job.id).state == "done"


def test_a_port_that_is_taken_is_told() -> None:
    with listening("127.0.0.1", 0) as first, pytest.raises(LunaError, match="in use; expected a free port"):
        listening("127.0.0.1", first.getsockname()[1])


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(LunaError, match=r"--host 192\.0\.2\.1 --port 0"):
        listening("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "luna.example"])
def test_who_can_be_reached_needs_a_token(host: str) -> None:
    with pytest.raises(LunaError, match=f"--host {host}.*expected a token.*token_urlsafe"):
        check_token(host, None)


@pytest.mark.parametrize("token", ["", "short", "é" * 20, "with\nlines and so on"])
def test_a_token_that_can_be_guessed_is_refused(token: str) -> None:
    with pytest.raises(LunaError, match="expected 16 or more, of ASCII"):
        check_token("127.0.0.1", token)


@pytest.mark.parametrize(("host", "token"), [("127.0.0.1", None), ("::1", None), ("0.0.0.0", TOKEN)])
def test_other_servers_are_safe(host: str, token: str | None) -> None:
    check_token(host, token)
