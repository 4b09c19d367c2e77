"""What is counted and logged."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from p2ch_luna.serve.service import Service
from support.served import (
    BINARY,
    SCAN,
    TOKEN,
    connected,
    done,
    ended,
    head,
    heard,
    queued,
    send,
    service_in,
    serving,
)


def samples(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """By name and the values of its labels."""
    text = client.get("/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_jobs_are_counted_by_state(client: httpx.Client, service: Service) -> None:
    done(service)
    queued(service)
    found = samples(client)
    assert [found["luna_jobs", state] for state in ("queued", "running", "done")] == [1, 0, 1]


def test_the_end_of_a_job_is_counted(tmp_path: Path) -> None:
    with serving(service_in(tmp_path)) as url, httpx.Client(base_url=url) as client:
        for name in ("first", "fail", "second"):
            job = ended(client, send(client, name=name).json()["id"])
            client.delete(f"/api/jobs/{job.id}")
        found = samples(client)
    assert [found["luna_jobs_ended_total", state] for state in ("done", "failed")] == [2, 1]
    assert found["luna_job_seconds_count",] == 3


def test_the_seconds_of_a_job_are_counted(client: httpx.Client, service: Service) -> None:
    assert service.on_end is not None
    service.on_end("done", 7.5)
    assert samples(client)["luna_job_seconds_sum",] == 7.5


def test_the_wait_for_a_refused_client_to_read_its_answer_is_no_work(tmp_path: Path) -> None:
    with serving(service_in(tmp_path)) as url, httpx.Client(base_url=url) as client:
        with connected(url) as connection:
            connection.sendall(head(10**6) + b"no scan" * 10_000)
            heard(connection)
        found = samples(client)
    assert found["luna_http_requests_total", "POST", "/api/scans", "400"] == 1
    assert found["luna_http_request_seconds_sum", "/api/scans"] < 1


def test_uploads_are_counted_in_bytes(client: httpx.Client) -> None:
    send(client)
    assert samples(client)["luna_upload_bytes_total",] == len(SCAN)


@pytest.mark.parametrize(
    ("headers", "scan", "reason"),
    [
        (BINARY, b"no scan", "no_scan"),
        ({"Content-Type": "text/plain"}, SCAN, "content_type"),
        ({**BINARY, "Origin": "http://evil.example"}, SCAN, "other_site"),
    ],
)
def test_refused_uploads_are_counted_by_reason(
    client: httpx.Client, headers: dict[str, str], scan: bytes, reason: str
) -> None:
    client.post("/api/scans", content=scan, headers=headers)
    assert samples(client)["luna_uploads_refused_total", reason] == 1


def test_requests_are_counted_by_template(client: httpx.Client) -> None:
    for job_id in ("a", "b"):
        client.get(f"/api/jobs/{job_id}")
    assert samples(client)["luna_http_requests_total", "GET", "/api/jobs/{job_id}", "404"] == 2


def test_odd_requests_make_few_labels(client: httpx.Client) -> None:
    for i in range(3):
        client.request(f"ODD{i}", f"/nothing/{i}")
    assert samples(client)["luna_http_requests_total", "other", "-", "404"] == 3


def test_the_state_of_the_service_is_there(client: httpx.Client) -> None:
    found = samples(client)
    assert (found["luna_worker_up",], found["luna_disk_free_bytes",] > 0) == (0, True)


def test_the_log_has_one_line_a_request(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "p2ch_luna.serve")
    client.get("/api/jobs/secret", params={"token": TOKEN})
    assert [record.getMessage().rsplit(" ", 2)[0] for record in caplog.records] == [
        "GET /api/jobs/{job_id} 404"
    ]


def test_an_unforeseen_error_is_not_told(
    client: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_job_id: str) -> None:
        raise ValueError("Doe^John")

    monkeypatch.setattr(service, "job", fail)
    answer = client.get("/api/jobs/x")
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    assert "Doe" not in answer.text + caplog.text
    assert "ValueError (test_metrics.py, line" in caplog.text
