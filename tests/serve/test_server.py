"""A real server on a port: uploads that fail, its log, its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.serve.server import check_token, listening, run
from support.served import (
    SCAN,
    TOKEN,
    answer_to,
    connected,
    ended,
    files_of,
    head,
    heard,
    queued,
    send,
    service_in,
    serving,
    until,
)

RUN = """
import sys
from functools import partial
from pathlib import Path
from support.served import service_in
from p2ch_luna.serve.logs import log_to
from p2ch_luna.serve.server import run
if __name__ == "__main__":
    log_to(sys.stderr)
    run(partial(service_in, Path(sys.argv[1])), "127.0.0.1", 0, lambda url: print(url, flush=True))
"""


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
        answer = heard(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer
    assert list(json.loads(answer.partition(b"\r\n\r\n")[2])) == ["error"]
    assert files_of(service) == []


def test_eight_clients_at_once_are_taken_or_told_when_to_come_again(tmp_path: Path) -> None:
    service = service_in(tmp_path, max_waiting=3)

    def upload(url: str) -> httpx.Response:
        with httpx.Client(base_url=url, timeout=30) as client:
            return send(client, name="sleep")

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
            assert answer_to(url, path).startswith(b"HTTP/1.1 404"), path


@contextmanager
def subprocess_of(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its URL. It logs to its standard error."""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    script = folder / "run.py"
    script.write_text(RUN, encoding="utf-8")
    command = [sys.executable, str(script), str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=env, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_gives_its_job_back(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess_of(tmp_path) as (process, url), httpx.Client(base_url=url) as client:
        job_id = send(client, name="sleep").json()["id"]
        assert until(lambda: client.get(f"/api/jobs/{job_id}").json()["state"] == "running")
        with client.stream("GET", f"/api/jobs/{job_id}/events") as events:  # does not keep it from its end
            next(events.iter_lines())
            process.send_signal(number)
            log = process.communicate(timeout=15)[1]
    assert process.returncode == 0
    assert log.index("INFO ending") < log.index(f"job {job_id}: waits again")
    job = service_in(tmp_path).job(job_id)
    assert job is not None
    assert (job.state, job.attempts) == ("queued", 0)


@pytest.mark.slow
@pytest.mark.parametrize("length", [None, 10**6])
def test_an_upload_that_the_end_cuts_off_hears_so(tmp_path: Path, length: int | None) -> None:
    piece = SCAN if length else b"%x\r\n%b\r\n" % (len(SCAN), SCAN)
    with subprocess_of(tmp_path) as (process, url), connected(url) as connection:
        connection.sendall(head(length) + piece)
        assert until(lambda: any((tmp_path / "served" / "uploads").iterdir()))
        process.send_signal(signal.SIGTERM)
        answer = heard(connection)
        log = process.communicate(timeout=15)[1]
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 10" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"].startswith("the server is being ended")
    assert list((tmp_path / "served" / "uploads").iterdir()) == []
    assert "POST /api/scans 503" in log
    assert "ERROR" not in log


def test_a_server_takes_up_what_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job = queued(service_in(tmp_path))
    caplog.set_level("INFO")
    with serving(service_in(tmp_path)) as url, httpx.Client(base_url=url) as client:
        assert ended(client, job.id).state == "done"
    assert f"job {job.id}: taken up again" in caplog.messages


def test_a_port_that_is_taken_is_told() -> None:
    with listening("127.0.0.1", 0) as first, pytest.raises(LunaError, match="in use; expected a free port"):
        listening("127.0.0.1", first.getsockname()[1])


def test_no_folder_is_made_where_the_port_is_taken(tmp_path: Path) -> None:
    with listening("127.0.0.1", 0) as first, pytest.raises(LunaError, match="in use"):
        run(partial(service_in, tmp_path), "127.0.0.1", first.getsockname()[1], print)
    assert list(tmp_path.iterdir()) == []


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(LunaError, match=r"--host 192\.0\.2\.1 --port 0"):
        listening("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "luna.example"])
def test_who_can_be_reached_needs_a_token(host: str) -> None:
    with pytest.raises(LunaError, match=f"--host {host}.*expected a token.*token_urlsafe"):
        check_token(host, None, "LUNA_TOKEN")


@pytest.mark.parametrize("token", ["", "short", "x" * 1001])
def test_a_token_of_odd_length_is_refused(token: str) -> None:
    with pytest.raises(LunaError, match=f"^secrets: .* {len(token)} characters; expected 16 to 1000"):
        check_token("127.0.0.1", token, "secrets")


@pytest.mark.parametrize("token", ["é" * 20, "with\nlines and so on"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(LunaError, match=r"^secrets: .*no header can carry; expected printable ASCII"):
        check_token("127.0.0.1", token, "secrets")


@pytest.mark.parametrize(("host", "token"), [("127.0.0.1", None), ("::1", None), ("0.0.0.0", TOKEN)])
def test_other_servers_are_safe(host: str, token: str | None) -> None:
    check_token(host, token, "secrets")
