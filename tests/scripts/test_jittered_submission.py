"""The jittered submission has LUNA16's size and the properties that it is said to have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.io import ScoredPoint, read_detections, read_nodules, read_series_uids
from p2ch_luna.metrics.matching import Outcome, score_detections

SCRIPT = Path(__file__).parents[2] / "scripts" / "jittered_submission.py"


def make(path: Path, luna16: Path, *options: str) -> str:
    command = [sys.executable, str(SCRIPT), str(path), "--data", str(luna16), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def marks(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[ScoredPoint]:
    path = tmp_path_factory.mktemp("jittered") / "a.csv"
    make(path, shared_data / "luna16")
    return read_detections(path)


@pytest.fixture(scope="module")
def outcome(marks: list[ScoredPoint], shared_data: Path) -> Outcome:
    nodules = read_nodules(shared_data / "luna16" / "annotations.csv")
    return score_detections(nodules, [], read_series_uids(shared_data / "luna16" / "seriesuids.csv"), marks)


def test_it_has_50000_marks_with_probabilities(marks: list[ScoredPoint]) -> None:
    assert len(marks) == 50_000
    assert all(0 <= mark.probability <= 1 for mark in marks)


def test_marks_are_on_every_scan(marks: list[ScoredPoint], shared_data: Path) -> None:
    assert {mark.series_uid for mark in marks} == set(
        read_series_uids(shared_data / "luna16" / "seriesuids.csv")
    )


def test_most_nodules_are_found_but_not_all(outcome: Outcome) -> None:
    found = np.isfinite(outcome.nodule_score)
    assert 0.85 < found.mean() < 0.95


def test_probability_and_finding_grow_with_the_diameter(outcome: Outcome) -> None:
    found, small = np.isfinite(outcome.nodule_score), outcome.nodule_diameter_mm < 6
    assert found[~small].mean() > found[small].mean() + 0.1
    assert np.median(outcome.nodule_score[found & ~small]) > np.median(outcome.nodule_score[found & small])


def test_one_seed_gives_the_same_bytes_and_another_others(shared_data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        make(tmp_path / name, shared_data / "luna16", "--marks", "2000", "--seed", seed)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_it_says_how_many_marks_there_are(shared_data: Path, tmp_path: Path) -> None:
    assert ": 2000 marks, 1063 of them inside a nodule" in make(
        tmp_path / "a.csv", shared_data / "luna16", "--marks", "2000"
    )
