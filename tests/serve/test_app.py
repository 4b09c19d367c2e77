"""The application as a whole: its operations, its errors, what it tells of itself."""

from __future__ import annotations

import shutil
import sqlite3

import httpx
import pytest

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError
from p2ch_luna.serve.app import create_app
from p2ch_luna.serve.service import Service
from support.served import queued


def test_a_service_is_healthy_while_it_starts(client: httpx.Client, service: Service) -> None:
    queued(service)
    answer = client.get("/health")
    told = answer.json()
    assert (answer.status_code, told["status"], told["worker"]) == (200, "ok", "starting")
    assert (told["queued"], told["running"], told["version"]) == (1, 0, __version__)


def test_without_its_queue_it_is_not(client: httpx.Client, service: Service) -> None:
    shutil.rmtree(service.storage.folder)
    answer = client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "failing")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("PUT", "/api/jobs", 405),
        ("POST", "/api/session", 422),
        ("GET", "/api/jobs/", 404),
    ],
)
def test_every_error_is_one_line_of_json(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("GET", "/nothing", "there is nothing at this address; /docs shows what there is"),
        ("PUT", "/api/scans", "PUT is not for this address; /docs shows what is"),
    ],
)
def test_an_address_that_is_not_there_says_where_to_look(
    client: httpx.Client, method: str, path: str, told: str
) -> None:
    assert client.request(method, path).json()["error"] == told


def test_a_queue_that_cannot_be_read_is_told_without_its_place(
    client: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_limit: int) -> None:
        raise LunaError("/secret/jobs.sqlite: database is locked") from sqlite3.OperationalError("locked")

    monkeypatch.setattr(service, "jobs", fail)
    answer = client.get("/api/jobs")
    assert (answer.status_code, answer.headers["retry-after"], "secret" in answer.text) == (503, "10", False)
    assert "the queue of jobs: locked" in caplog.text


@pytest.mark.parametrize("path", ["/", "/health", "/static/style.css", "/docs"])
def test_those_who_look_whether_it_is_there_need_no_body(client: httpx.Client, path: str) -> None:
    assert client.head(path).status_code == 200


def test_what_a_client_calls_its_fields_stays_one_short_line(client: httpx.Client) -> None:
    fields = {f"odd\n\x1b{i} " + "long" * 100: 1 for i in range(20)}
    error = client.post("/api/session", json={"token": "x", **fields}).json()["error"]
    assert error.startswith("body.odd 0 long")
    assert (error.isprintable(), len(error) < 1000) == (True, True)


def operations(service: Service) -> dict[str, dict[str, object]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in create_app(service).openapi()["paths"].items()
        for method, operation in methods.items()
    }


def test_the_api_is_documented(service: Service) -> None:
    assert sorted(operations(service)) == [
        "DELETE /api/jobs/{job_id}",
        "DELETE /api/session",
        "GET /api/jobs",
        "GET /api/jobs/{job_id}",
        "GET /api/jobs/{job_id}/events",
        "GET /api/jobs/{job_id}/results/{name}",
        "GET /api/session",
        "GET /health",
        "GET /metrics",
        "POST /api/scans",
        "POST /api/session",
    ]


def test_what_needs_the_token_says_so(service: Service) -> None:
    free = {name for name, operation in operations(service).items() if "security" not in operation}
    assert free == {"GET /health", "GET /api/session", "POST /api/session", "DELETE /api/session"}


def test_every_operation_is_described(service: Service) -> None:
    assert [name for name, operation in operations(service).items() if not operation.get("description")] == []


def test_the_upload_is_documented_as_bytes(service: Service) -> None:
    body = operations(service)["POST /api/scans"]["requestBody"]
    assert isinstance(body, dict)
    assert set(body["content"]) == {"application/zip", "application/gzip", "application/octet-stream"}


def test_no_schema_of_another_error_is_told(service: Service) -> None:
    assert "HTTPValidationError" not in create_app(service).openapi()["components"]["schemas"]
