"""What the load script counts and judges; and, slowly, that the service bears what it does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import httpx
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)  # its parts import each other by their names
    return import_module("serve_load")


def answers(*statuses: int) -> Iterator[httpx.Response]:
    """One a request; a refusal asks for 7 seconds."""
    request = httpx.Request("POST", "http://localhost/api/scans")
    for status in statuses:
        refusal = {"Retry-After": "7"} if status == 429 else {}
        yield httpx.Response(status, headers=refusal, json={"id": "a"}, request=request)


def test_a_refused_upload_waits_as_long_as_it_is_asked_to_and_tries_again(script: ModuleType) -> None:
    given, pauses = answers(429, 429, 202), []
    assert script.upload(lambda: next(given), pauses.append) == ("a", 2)
    assert pauses == [7, 7]


def test_an_upload_that_is_refused_for_good_is_no_job(script: ModuleType) -> None:
    given = answers(507)
    with pytest.raises(httpx.HTTPStatusError, match="507"):
        script.upload(lambda: next(given))


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.95, 95), (1.0, 100)])
def test_a_quantile_is_the_value_that_the_share_does_not_exceed(
    script: ModuleType, share: float, value: float
) -> None:
    assert script.quantile(range(100, 0, -1), share) == value


def test_memory_is_told_after_5_25_and_50_jobs(script: ModuleType) -> None:
    assert script.Measured(50).marks() == [5, 25, 50]


def test_memory_after_a_job_is_the_lowest_that_was_seen(script: ModuleType) -> None:
    memory: dict[int, float] = {}
    for mb in (400.0, 300.0, None, 900.0):
        script.note(memory, 5, mb)
    assert memory == {5: 300.0}


def good(script: ModuleType) -> object:
    """A load of 50 jobs in which every promise is kept, though just."""
    return script.Measured(
        uploads=50,
        seconds=500.0,
        states=["done"] * 50,
        health_ms=[100.0] * 95 + [400.0] * 5,
        server_mb={5: 100.0, 50: 104.0},
        worker_mb={5: 500.0, 50: 400.0},
    )


def test_kept_promises_are_no_complaint(script: ModuleType) -> None:
    faults = [script.Fault("disk full", "not tried", None), script.Fault("killed", "done", True)]
    assert script.broken(good(script), faults) == []


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("states", ["done"] * 49 + ["failed"], "1 of 50 jobs lost"),
        ("states", ["done"] * 49, "1 of 50 jobs lost"),
        ("health_ms", [101.0], "/health: p95 101 ms"),
        ("health_ms", [], "/health: p95 nan ms"),
        ("server_mb", {5: 100.0, 50: 106.0}, "the memory of the server grew by 6.0%"),
        ("worker_mb", {5: 500.0, 50: 550.0}, "the memory of the worker grew by 10.0%"),
    ],
)
def test_a_broken_promise_is_told(script: ModuleType, field: str, value: object, complaint: str) -> None:
    measured = good(script)
    setattr(measured, field, value)
    assert script.broken(measured, []) == [complaint]


def test_a_fault_that_is_not_borne_is_told(script: ModuleType) -> None:
    fault = script.Fault("client gone", "half a file left", False)
    assert script.broken(good(script), [fault]) == ["not borne: client gone"]


def test_a_memory_that_was_not_seen_is_not_judged(script: ModuleType) -> None:
    assert script.Measured(4).growth({1: 100.0, 4: 200.0}) is None


def test_the_table_has_a_row_for_each_measure_and_fault(script: ModuleType) -> None:
    fault = script.Fault("client gone", "no file left", True)
    rows = script.table(good(script), 8, [fault]).splitlines()[2:]
    assert rows == [
        "| 50 uploads by 8 clients at once | 0 lost; refused with 429 and tried again: 0 times |",
        "| seconds a job | 10.0 |",
        "| `/health` while a job runs, 100 answers: median, p95, longest | 100 / 100 / 400 ms |",
        "| memory of the server after 5 / 25 / 50 jobs | 100 / ? / 104 MB (+4.0%) |",
        "| memory of the worker after 5 / 25 / 50 jobs | 500 / ? / 400 MB (-20.0%) |",
        "| client gone | no file left |",
    ]


@pytest.mark.slow
def test_a_small_load_and_all_faults_are_borne() -> None:
    command = [sys.executable, SCRIPTS / "serve_load.py", "--uploads", "2", "--clients", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 lost" in done.stdout
