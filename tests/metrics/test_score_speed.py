"""The score at LUNA16's official size, and with far more marks than that, in time and memory of one core."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from p2ch_luna.findings import Nodule, Point
from p2ch_luna.io.tables import ScoredPoint, read_nodules, read_series_uids
from p2ch_luna.metrics.compare import compare
from p2ch_luna.metrics.froc import bootstrap, froc
from p2ch_luna.metrics.matching import Outcome, score_detections

pytestmark = pytest.mark.slow


class Official(NamedTuple):
    nodules: list[Nodule]
    excluded: list[Nodule]
    scans: list[str]
    marks: list[ScoredPoint]


@pytest.fixture(scope="module")
def official(shared_data: Path) -> Official:
    """LUNA16's truth and 50,000 marks: near 95 % of its nodules, on 5,000 excluded findings, and anywhere."""
    folder = shared_data / "luna16"
    nodules, excluded, scans = (
        read_nodules(folder / "annotations.csv"),
        read_nodules(folder / "annotations_excluded.csv"),
        read_series_uids(folder / "seriesuids.csv"),
    )
    rng = np.random.default_rng(0)
    near = [n for n in nodules if rng.random() < 0.95]
    marks = [jittered(n, 0.1 * n.diameter_mm, rng.beta(5, 1), rng) for n in near]
    on = rng.choice(len(excluded), 5000, replace=False)
    marks += [jittered(excluded[i], 0.5, rng.beta(1, 3), rng) for i in on]
    anywhere = [Nodule(str(uid), (0.0, 0.0, -150.0), 1.0) for uid in rng.choice(scans, 50_000 - len(marks))]
    return Official(
        nodules, excluded, scans, marks + [jittered(n, 80.0, rng.beta(1, 3), rng) for n in anywhere]
    )


def jittered(nodule: Nodule, sigma_mm: float, score: float, rng: np.random.Generator) -> ScoredPoint:
    x, y, z = (float(v) for v in rng.normal(nodule.center_xyz, sigma_mm))
    center_xyz: Point = (x, y, z)
    return ScoredPoint(nodule.series_uid, center_xyz, float(score))


def scored(official: Official) -> Outcome:
    outcome = score_detections(*official)
    froc(outcome)
    bootstrap(outcome, np.random.default_rng(0), 1000)
    return outcome


def test_the_official_size_takes_5_s_of_a_core(official: Official) -> None:
    assert [len(part) for part in official] == [1186, 35_192, 888, 50_000]
    start = time.process_time()
    scored(official)
    assert time.process_time() - start < 5


def test_the_official_size_takes_300_mb_beside_what_is_loaded(official: Official) -> None:
    tracemalloc.start()
    try:
        scored(official)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300e6


def test_three_submissions_are_compared_in_5_s_of_a_core(official: Official) -> None:
    outcome = score_detections(*official)
    start = time.process_time()
    compare([outcome] * 3, np.random.default_rng(0))
    assert time.process_time() - start < 5


def test_a_million_marks_take_20_s_of_a_core(official: Official) -> None:
    many = official._replace(marks=official.marks * 20)
    start = time.process_time()
    scored(many)
    assert time.process_time() - start < 20


def test_a_million_marks_on_one_scan_take_20_s_of_a_core(official: Official) -> None:
    uid = official.scans[0]
    here = [mark._replace(series_uid=uid) for mark in official.marks] * 20
    start = time.process_time()
    scored(official._replace(marks=here))
    assert time.process_time() - start < 20
