"""The worker process as it is: it begins apart from the server, and does jobs with the real networks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.errors import LunaError
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.io import write_ct
from p2ch_luna.report.outputs import REPORT
from p2ch_luna.report.schema import Report
from p2ch_luna.serve import attempt
from p2ch_luna.serve.jobs import Claim, Diagnose, Hindered, Job, Outcome
from p2ch_luna.serve.worker import WorkerSettings, begin
from support.fake_workers import PIDS, note, read
from support.job_bench import Bench

N_JOBS, WARM = 10, 4  # jobs, after so many of which the worker has all it keeps
RSS = "rss"

BEGUN = """
import logging
import os
import sys
import tempfile
from pathlib import Path
from p2ch_luna.serve import attempt
from p2ch_luna.serve.worker import NICENESS, WorkerSettings, begin

before, attempt.load = os.nice(0), print
begin(WorkerSettings(Path(sys.argv[1])))
assert os.nice(0) == min(before + NICENESS, 19)
assert tempfile.gettempdir() == str(Path(sys.argv[1]) / "tmp")
logging.getLogger("p2ch_luna.serve.attempt").info("job 1: it fails")
"""


def begin_and_weigh(settings: WorkerSettings) -> Diagnose:
    """As `begin`; the MB of the process are noted after each job."""
    note(settings, PIDS, str(os.getpid()))
    return partial(_diagnose_and_weigh, settings, begin(settings))


def _diagnose_and_weigh(settings: WorkerSettings, diagnose: Diagnose, claim: Claim) -> Outcome | Hindered:
    outcome = diagnose(claim)
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    note(settings, RSS, str(pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
    return outcome


def test_the_server_does_without_the_libraries_of_the_networks() -> None:
    code = "import sys, p2ch_luna.serve.service; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_worker_is_nice_unpacks_on_the_disk_of_the_service_and_logs_with_the_time(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BEGUN, str(tmp_path.resolve() / "serve")]
    log = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert re.fullmatch(r"\d{4}-\d\d-\d\d [\d:,]+ INFO job 1: it fails\n", log)


@pytest.mark.parametrize(("is_there", "device"), [(True, "cuda"), (False, "cpu")])
def test_the_device_auto_is_found_by_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool, device: str
) -> None:
    loaded = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: is_there)
    monkeypatch.setattr("torch.cuda.device_count", lambda: int(is_there))
    monkeypatch.setattr(NoduleDetector, "load", lambda **given: loaded.append(given))
    attempt.load(WorkerSettings(tmp_path / "serve", "auto"))
    assert loaded == [{"device": torch.device(device), "runtime": "torch"}]


def test_a_device_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(LunaError, match=r"^device cuda: torch .* finds none here"):
        attempt.load(WorkerSettings(tmp_path / "serve", "cuda"))


def test_what_nobody_has_foreseen_of_the_networks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: WorkerSettings) -> None:
        raise KeyError("weights")

    monkeypatch.setattr(attempt, "load", fail)
    monkeypatch.setattr("p2ch_luna.serve.worker.os.nice", lambda _: 0)
    monkeypatch.setattr("p2ch_luna.serve.worker.log_to", lambda _: None)
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(LunaError, match=r"^the networks cannot be loaded: KeyError \(test_worker\.py, line"):
        begin(WorkerSettings(tmp_path / "serve"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, list[Job]]:
    """A small phantom, diagnosed by the real worker a number of times."""
    bench = Bench(tmp_path_factory.mktemp("real") / "serve")
    rng = np.random.default_rng(1)
    ct = make_phantom(rng, shape_irc=(24, 112, 112), spacing_xyz=(3.2, 3.2, 4.0), n_nodules=2).ct
    path = bench.folder.parent / "chest.mha"
    write_ct(path, ct)
    ids = [bench.add(f"chest {k}", path.read_bytes()) for k in range(N_JOBS)]
    with bench.working(begin_and_weigh):
        return bench, [bench.ended(job_id, seconds=120) for job_id in ids]


@pytest.mark.slow
def test_the_real_networks_diagnose_each_scan(done: tuple[Bench, list[Job]]) -> None:
    bench, jobs = done
    for job in jobs:
        assert (job.state, job.is_searched, job.error) == ("done", True, None)
        assert bench.files(job.id) == sorted(f"results/{file.name}" for file in job.results)
        text = (bench.storage.results_folder(job.id) / REPORT).read_text(encoding="utf-8")
        assert Report.model_validate_json(text).scan.name == job.name


@pytest.mark.slow
def test_the_stages_are_those_of_a_diagnosis(done: tuple[Bench, list[Job]]) -> None:
    names = [stage.name for stage in done[1][0].stages]
    assert names[:5] == ["reading", "networks", "lungs", "segmentation", "candidates"]
    assert names[-3:] == ["files", "pictures", "page"]


@pytest.mark.slow
def test_one_process_does_all_and_its_memory_stays_flat(done: tuple[Bench, list[Job]]) -> None:
    bench, _ = done
    assert len(bench.pids) == 1
    after = [float(line) for line in read(bench.folder, RSS)]
    assert len(after) == N_JOBS
    assert after[-1] < after[WARM] * 1.05, after
