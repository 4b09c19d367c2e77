"""What decides whether results of an earlier run still hold."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from p2ch_luna.errors import LunaError
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.io.find_scans import FoundScan
from p2ch_luna.report.many.job import DetectorJob
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
    "change", [{"settings": "runtime openvino"}, {"fp_per_scan": 4.0}, {"wanted": Wanted(page=False)}]
)
def test_another_setting_changes_it(job: DetectorJob, change: dict[str, object]) -> None:
    assert replace(job, **change).fingerprint != job.fingerprint  # type: ignore[arg-type]


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
