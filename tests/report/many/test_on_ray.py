"""The same through a Ray of two processes on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.report.many.run import ManyDone, diagnose_many

from .conftest import ROOT, MakeScans
from .fake_jobs import FakeJob
from .test_engines import SCRIPT, SECONDS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(make_scans: MakeScans, tmp_path_factory: pytest.TempPathFactory) -> tuple[ManyDone, ManyDone]:
    """The same scans by both engines: one kills its process once, one always."""
    scans = make_scans(a="good", b="kill", c="kill once", d="bad", e="bug", f="good")
    plain, ray = (tmp_path_factory.mktemp(name) for name in ("plain", "ray"))
    return (
        diagnose_many(scans, plain, FakeJob(plain / "loaded"), workers=2),
        diagnose_many(scans, ray, FakeJob(ray / "loaded"), engine="ray", workers=2),
    )


def texts(output: Path) -> dict[str, Any]:
    """All results of the scans, without what differs from run to run."""
    found = {
        str(path.relative_to(output)): path.read_text(encoding="utf-8") for path in output.rglob("*/*.*")
    }
    for name, text in found.items():
        if name.endswith("done.json"):
            found[name] = json.loads(text) | {"seconds": 0}
    return found


def test_rows_are_those_of_the_plain_engine(done: tuple[ManyDone, ManyDone]) -> None:
    plain, ray = ({row.name: replace(row, seconds=None) for row in one.rows} for one in done)
    lost = {"b", "c"}  # of which the engines tell in their own words
    assert {name: ray[name] for name in ray.keys() - lost} == {name: plain[name] for name in "adef"}


def test_files_are_those_of_the_plain_engine(done: tuple[ManyDone, ManyDone]) -> None:
    plain, ray = (texts(one.output) for one in done)
    assert {name for name in ray if name.startswith("a/")} == {
        "a/report.json",
        "a/detections.csv",
        "a/done.json",
    }
    assert {name: text for name, text in ray.items() if name[0] != "c"} == plain


def test_a_scan_whose_worker_was_lost_is_tried_once_more(done: tuple[ManyDone, ManyDone]) -> None:
    (row,) = (row for row in done[1].rows if row.name == "c")
    assert (row.findings, row.error) == (2, "")


def test_a_scan_whose_worker_is_lost_twice_has_failed(done: tuple[ManyDone, ManyDone]) -> None:
    (row,) = (row for row in done[1].rows if row.name == "b")
    told = "the Ray worker that diagnosed it was lost 2 times (out of memory?); try again with fewer workers"
    assert row.error == told
    assert not (done[1].output / "b").exists()


def test_what_ray_has_done_the_plain_engine_does_not_do_again(make_scans: MakeScans, tmp_path: Path) -> None:
    scans, job = make_scans(a="good"), FakeJob(tmp_path / "loaded")
    diagnose_many(scans, tmp_path / "out", job, engine="ray", workers=1)
    assert diagnose_many(scans, tmp_path / "out", job).n_before == 1


@pytest.mark.usefixtures("done")
def test_ray_is_shut_down_and_has_reported_nothing() -> None:
    import ray

    assert not ray.is_initialized()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The environment of who may use a Ray that was started in another folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-this-test-" + "0" * 32}
    environment = {**os.environ, **token, "PYTHONPATH": str(ROOT)}
    start = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"]
    start += [f"--port={port}", "--include-dashboard=false", "--disable-usage-stats"]
    start += [f"--object-store-memory={100 << 20}"]
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        quiet = subprocess.DEVNULL
        with subprocess.Popen(
            [*start, f"--temp-dir={folder}"], cwd=folder, env=environment, stdout=quiet, stderr=quiet
        ) as head:
            try:
                wait_for_port(port)
                yield {**environment, "RAY_ADDRESS": f"127.0.0.1:{port}"}
            finally:
                head.terminate()
                head.wait(SECONDS)


def wait_for_port(port: int) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        time.sleep(0.1)
    raise AssertionError("Ray did not start")


def test_a_cluster_that_was_started_elsewhere_finds_relative_paths(
    make_scans: MakeScans, cluster: dict[str, str]
) -> None:
    """The scans are at `scans`, seen from where the command is called."""
    (scan, _) = make_scans(a="good", b="bad")
    here = scan.path.parent.parent
    arguments = [scan.path.parent.name, "ray-results", "ray"]
    subprocess.run([sys.executable, "-c", SCRIPT, *arguments], cwd=here, env=cluster, check=True)
    rows = (here / "ray-results" / "summary.csv").read_text(encoding="utf-8").splitlines()
    assert rows[1].startswith(f"a,{scan.path},a,2,")
    assert rows[2].endswith("bad; expected good")
    assert (here / "ray-results" / "a" / "done.json").is_file()


def test_networks_that_cannot_be_loaded_end_all(make_scans: MakeScans, tmp_path: Path) -> None:
    job = FakeJob(tmp_path / "loaded", load_error="no weights")
    with pytest.raises(LunaError, match="no weights"):
        diagnose_many(make_scans(a="good"), tmp_path / "out", job, engine="ray", workers=1)


def test_without_ray_the_extra_is_named(
    make_scans: MakeScans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(LunaError, match=r'wanted pip install "p2ch-luna\[dist\]"'):
        diagnose_many(make_scans(a="good"), tmp_path / "out", FakeJob(tmp_path / "loaded"), engine="ray")


def test_a_cluster_that_is_not_there_is_told(
    make_scans: MakeScans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(LunaError, match=r"RAY_ADDRESS 127\.0\.0\.1:1: .*; wanted a running cluster"):
        diagnose_many(make_scans(a="good"), tmp_path / "out", FakeJob(tmp_path / "loaded"), engine="ray")
