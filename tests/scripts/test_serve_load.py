"""What the load script counts and judges; and, slowly, that the service bears what it does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from threading import Event
from types import ModuleType, SimpleNamespace

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


def asked(script: ModuleType, answers: Sequence[httpx.Response | Exception]) -> list[float]:
    """What `ask_health` notes of these answers, then of the end."""
    over, spent_ms, given = Event(), list[float](), iter(answers)

    def get() -> httpx.Response:
        answer = next(given)
        if answer is answers[-1]:
            over.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    script.ask_health(get, over, spent_ms)
    return spent_ms


def health(status: int = 200, **content: object) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "http://localhost/health"), **content)


def test_an_answer_counts_if_a_job_runs_at_its_begin_or_its_end(script: ModuleType) -> None:
    """A job begins within the second answer and ends within the third."""
    spent_ms = asked(script, [health(json={"running": running}) for running in (0, 1, 0, 0)])
    assert len(spent_ms) == 2
    assert max(spent_ms) < 1000


@pytest.mark.parametrize(
    "answer",
    [
        health(500, html="<h1>Internal Server Error</h1>"),
        health(html="<h1>Hello</h1>"),
        health(500, json={"error": "an error"}),
        health(503, json={"running": 1}),
        health(json=[]),
        httpx.ReadTimeout("late"),
    ],
    ids=str,
)
def test_what_is_no_good_answer_counts_as_endless_and_the_next_is_asked_for(
    script: ModuleType, answer: httpx.Response | Exception
) -> None:
    first, second = asked(script, [answer, health(json={"running": 1})])
    assert first == float("inf")
    assert second < 1000


def test_clients_end_where_the_load_cannot_be_watched(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would wait for their turn as long as the server lives."""
    stopped = Event()

    def post(_scan: Path) -> httpx.Response:
        if stopped.is_set():
            raise httpx.ConnectError("refused")
        return next(answers(429))

    def watch(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "watch", watch)
    server = SimpleNamespace(address="http://127.0.0.1:9", post=post, stop=stopped.set)
    with pytest.raises(KeyboardInterrupt):
        script.measure(server, Path("scan"), 4, 2)


def test_a_server_that_does_not_come_up_is_ended(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(import_module(script.Server.__module__), "START_SECONDS", 1.0)
    within = ["sh", "-c", 'echo $$ > "$0/pid"; exec sleep 60', str(tmp_path)]
    with pytest.raises(TimeoutError, match="address"):
        script.Server(tmp_path / "serve", tmp_path / "log", within)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text("ascii")), 0)


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


def test_the_last_line_tells_what_is_broken_and_what_was_not_tried(script: ModuleType) -> None:
    faults = [script.Fault("disk full", "not tried: no disk", None), script.Fault("killed", "done", True)]
    assert script.verdict([], faults) == "no promise is broken; disk full: not tried: no disk"
    assert script.verdict(["1 lost", "late"], faults[1:]) == "broken: 1 lost; late"


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


@pytest.fixture(scope="module")
def done() -> subprocess.CompletedProcess[str]:
    """A small load and all faults; late, the script is asked to end, so that it ends its server."""
    command = ["timeout", "--foreground", "600", sys.executable, SCRIPTS / "serve_load.py"]
    return subprocess.run(
        [*command, "--uploads", "2", "--clients", "2"], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_small_load_and_all_faults_are_borne(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 lost" in done.stdout


@pytest.mark.slow
def test_a_full_disk_is_among_the_faults(done: subprocess.CompletedProcess[str]) -> None:
    last = done.stderr.splitlines()[-1]
    if "not tried" in last:
        pytest.skip(last)
    assert "disk full in a job | upload refused with 507" in done.stdout
