"""What decides whether results of an earlier run still hold."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from p2ch_luna.errors import LunaError
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.io.find_scans import FoundScan
from p2ch_luna.report.many import job as jobs
from p2ch_luna.report.many.job import DetectorJob, code_digest
from p2ch_luna.report.many.work import Task, Worker
from p2ch_luna.report.outputs import Wanted

from .fake_jobs import FakeJob


@pytest.fixture
def job(tmp_path: Path) -> DetectorJob:
    for name in ("model.safetensors", "model.json"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    return DetectorJob(NoduleDetector.load, (tmp_path / "model.safetensors",))


def test_the_same_networks_and_settings_have_one_fingerprint(job: DetectorJob) -> None:
    assert replace(job).fingerprint == job.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"settings": "runtime openvino"},
        {"fp_per_scan": 4.0},
        {"wanted": Wanted(page=False)},
        {"device": "cuda"},
    ],
)
def test_another_setting_changes_it(job: DetectorJob, change: dict[str, object]) -> None:
    assert replace(job, **change).fingerprint != job.fingerprint  # type: ignore[arg-type]


def test_the_operating_point_that_is_taken_without_one_is_no_other_setting(job: DetectorJob) -> None:
    assert replace(job, fp_per_scan=1.0).fingerprint == replace(job, fp_per_scan=None).fingerprint


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the code in place of the package's own."""
    copy = tmp_path / "package"
    shutil.copytree(jobs.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "weights", "lidc"))
    monkeypatch.setattr(jobs, "PACKAGE", copy)
    code_digest.cache_clear()
    yield copy
    code_digest.cache_clear()


@pytest.mark.parametrize(
    ("name", "decides"),
    [
        ("inference/measure.py", True),
        ("io/dicom_stack.py", True),
        ("report/html/static/page.css", True),
        ("geometry.py", True),
        ("cli/diagnose.py", False),
        ("report/bench/__init__.py", False),
        ("training/loop.py", False),
    ],
)
def test_other_code_changes_it_where_it_decides(
    job: DetectorJob, package: Path, name: str, decides: bool
) -> None:
    before = job.fingerprint
    code_digest.cache_clear()
    with (package / name).open("a", encoding="utf-8") as file:
        file.write("\n")
    assert (replace(job).fingerprint != before) == decides


@pytest.mark.slow
def test_all_modules_that_a_diagnosis_loads_decide() -> None:
    code = (
        "import sys, p2ch_luna.report.diagnose, p2ch_luna.report.html.page, p2ch_luna.report.images\n"
        "import p2ch_luna.report.dicom.sr, p2ch_luna.report.dicom.seg\n"
        "print(*(m.__file__ for name, m in sys.modules.items() if name.startswith('p2ch_luna')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {Path(name).relative_to(jobs.PACKAGE).as_posix() for name in ran.stdout.split()}
    decide = {
        path.relative_to(jobs.PACKAGE).as_posix()
        for pattern in jobs.DECIDING
        for path in jobs.PACKAGE.glob(pattern)
    }
    assert loaded - decide == {"__init__.py", "errors.py", "files.py"}


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_other_weights_or_another_card_change_it(job: DetectorJob, tmp_path: Path, name: str) -> None:
    before = job.fingerprint
    (tmp_path / name).write_text("other", encoding="utf-8")
    assert replace(job).fingerprint != before


def test_weights_that_are_not_there_are_named(job: DetectorJob, tmp_path: Path) -> None:
    (tmp_path / "model.json").unlink()
    with pytest.raises(LunaError, match=r"model\.json: cannot be read: No such file"):
        _ = job.fingerprint


def test_it_can_be_sent_to_a_worker(job: DetectorJob) -> None:
    assert pickle.loads(pickle.dumps(job)) == job


def test_a_worker_computes_with_its_threads(tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_text("good", encoding="utf-8")
    before = torch.get_num_threads()
    try:
        worker = Worker(FakeJob(tmp_path / "loaded"), threads=before + 1)
        worker.attempt(Task(FoundScan("a", tmp_path / "a.mha"), tmp_path / "a"))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
