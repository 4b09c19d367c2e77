"""Connections that bring no request, or none that is HTTP."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from p2ch_luna.serve import connections
from p2ch_luna.serve.connections import most_connections
from p2ch_luna.serve.service import Service
from support.served import SCAN, connected, files_of, head, heard, serving, until

OF_FEW_FILES = """
import resource
import sys
from functools import partial
from pathlib import Path
from support.served import service_in
from p2ch_luna.serve.logs import log_to
from p2ch_luna.serve.server import run
if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    log_to(sys.stderr)
    run(partial(service_in, Path(sys.argv[1])), "127.0.0.1", 0, lambda url: print(url, flush=True))
"""
GET = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def url(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that is impatient, and holds 6 connections."""
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    monkeypatch.setattr(connections, "most_connections", lambda: 6)
    with serving(service) as url:
        yield url


@contextmanager
def many(url: str, number: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        held = [stack.enter_context(connected(url)) for _ in range(number)]
        for connection in held:
            connection.sendall(sent)
        yield held


def test_idle_connections_are_closed(url: str) -> None:
    with many(url, 5) as idle:
        assert [heard(connection) for connection in idle] == [b""] * 5


def test_the_server_answers_however_many_are_idle(url: str) -> None:
    with many(url, 100, b"GET / HT"):
        assert httpx.get(f"{url}/health").status_code == 200


def test_a_head_that_trickles_is_closed(url: str) -> None:
    with connected(url) as connection:
        assert until(lambda: is_closed(connection), 5)


def is_closed(connection: socket.socket) -> bool:
    """Whether one more byte of a head cannot be sent."""
    try:
        connection.sendall(b"G")
    except OSError:
        return True
    return False


def test_a_second_head_that_stops_is_closed(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(GET + b"GET")
        assert heard(connection).startswith(b"HTTP/1.1 200")


def test_requests_on_one_connection_are_answered_one_after_the_other(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(GET * 3)
        assert heard(connection).count(b"HTTP/1.1 200") == 3


def test_a_request_may_take_longer_than_its_head(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(head(len(SCAN)))
        time.sleep(1)
        connection.sendall(SCAN)
        assert connection.recv(65536).startswith(b"HTTP/1.1 202")


def test_one_too_many_hears_so(url: str, service: Service) -> None:
    with many(url, 6, head(10**6) + SCAN):
        assert until(lambda: len(files_of(service)) == 6)
        with connected(url) as connection:
            answer = heard(connection)
        assert len(files_of(service)) == 6
    assert answer.startswith(b"HTTP/1.1 503")
    assert list(json.loads(answer.partition(b"\r\n\r\n")[2])) == ["error"]


@pytest.mark.parametrize("sent", [b"\x16\x03\x01 no HTTP\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_no_http_is_answered_as_all_else(url: str, sent: bytes) -> None:
    with connected(url) as connection:
        connection.sendall(sent)
        headers, _, body = heard(connection).partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 400")
    assert b"nosniff" in headers
    assert b"uvicorn" not in (headers + body).lower()
    assert list(json.loads(body)) == ["error"]


def test_a_chunk_that_is_none_ends_its_upload(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(head(None) + b"no chunk\r\n")
        assert heard(connection).startswith(b"HTTP/1.1 400")


@pytest.mark.slow
def test_a_server_of_few_files_is_not_stopped_by_idle_connections(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    (tmp_path / "run.py").write_text(OF_FEW_FILES, encoding="utf-8")
    command = [sys.executable, "run.py", str(tmp_path)]
    with subprocess.Popen(command, cwd=tmp_path, env=env, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            url = process.stdout.readline().strip()
            with many(url, 400):
                statuses = [httpx.get(f"{url}/health").status_code for _ in range(3)]
            process.terminate()
            log = process.communicate(timeout=20)[1]
        finally:
            process.kill()
    assert statuses == [200, 200, 200], log
    assert log.count("all connections are in use") == 1
    assert "accept()" not in log


@pytest.mark.parametrize(
    ("files", "most"), [(256, 85), (1024, 341), (10**6, 1000), (resource.RLIM_INFINITY, 1000)]
)
def test_connections_leave_files_to_be_opened(monkeypatch: pytest.MonkeyPatch, files: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections() == most
