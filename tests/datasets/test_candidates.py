import math

import numpy as np
import pytest

from p2ch_luna.datasets.candidates import CropDataset, label_candidates, malignancy_label
from p2ch_luna.datasets.implant import Implantable
from p2ch_luna.datasets.scans import LabelledScan, label_scan
from p2ch_luna.findings import Candidate, Nodule
from p2ch_luna.lungs import PreparedCt


def candidate(x: float, is_nodule: bool | None = None, series_uid: str = "1.2.3") -> Candidate:
    return Candidate(series_uid, (x, -10.0, -255.0), 0.5, 100.0, 5.8, is_nodule)


def crops(scan: LabelledScan, nodules: list[Implantable], candidates: list[Candidate]) -> CropDataset:
    return CropDataset([scan], nodules, None, candidates, (32, 32, 32), length=40, seed=0, random_share=0.0)


@pytest.mark.parametrize(("rating", "label"), [(1.0, 0.0), (2.5, 0.0), (3.5, 1.0), (5.0, 1.0)])
def test_ratings_that_say_something_have_a_label(rating: float, label: float) -> None:
    assert malignancy_label(rating) == label


@pytest.mark.parametrize("rating", [2.75, 3.0, 3.25, None])
def test_ratings_that_do_not_have_none(rating: float | None) -> None:
    assert math.isnan(malignancy_label(rating))


def test_every_second_crop_is_a_nodule(scan: LabelledScan, nodule: Implantable) -> None:
    dataset = crops(scan, [nodule], [candidate(0.0, is_nodule=False)])
    assert [dataset[i].is_nodule.item() for i in range(4)] == [1, 0, 1, 0]


def test_the_nodule_is_in_the_middle(scan: LabelledScan, nodule: Implantable) -> None:
    dataset = crops(scan, [nodule], [])
    centers = [np.argwhere(dataset[i].hu[0].numpy() > -300) for i in range(0, 20, 2)]
    off = [np.linalg.norm(c[np.linalg.norm(c - 16, axis=1) < 9].mean(axis=0) - 16) for c in centers]
    assert max(off) < 8
    assert np.mean(off) < 4.5  # three normal deviates of 2 mm: 3.2 on average


def test_a_nodule_brings_its_rating_and_diameter(scan: LabelledScan, nodule: Implantable) -> None:
    sample = crops(scan, [nodule], [])[0]
    assert sample.malignancy.item() == 1.0
    assert 7.9 < sample.diameter_mm.item() < 12.6  # 10 mm, zoomed


def test_a_non_nodule_is_cut_at_its_candidate(scan: LabelledScan, nodule: Implantable) -> None:
    scan.prepared.ct.hu[45, 50, 50] = 77  # at (0, -10, -255)
    dataset = crops(scan, [nodule], [candidate(0.0, is_nodule=False)])
    off = [np.argwhere(dataset[i].hu[0].numpy() == 77) - 16 for i in range(1, 20, 2)]
    assert all(len(o) == 1 and np.abs(o).max() <= 8 for o in off)


def test_a_scans_own_nodules_are_nodules_without_any_implant(prepared: PreparedCt) -> None:
    scan = label_scan(prepared, [Nodule("1.2.3", (0.0, -10.0, -255.0), 8.0)])
    prepared.ct.hu[scan.labels == 1] = 77
    dataset = crops(scan, [], [])
    bright = [np.argwhere(dataset[i].hu[0].numpy() == 77).mean(axis=0) - 16 for i in range(0, 20, 2)]
    assert np.abs(bright).max() <= 8


def test_a_negative_diameter_counts_as_10_mm() -> None:
    excluded = [Nodule("1.2.3", (0.0, -10.0, -255.0), -1.0)]
    assert [c.center_xyz[0] for c in label_candidates([candidate(4.9), candidate(5.1)], [], excluded)] == [
        5.1
    ]


def test_candidates_are_labelled_by_the_hit_rule() -> None:
    nodules = [Nodule("1.2.3", (0.0, -10.0, -255.0), 10.0)]
    labelled = label_candidates(
        [candidate(4.9), candidate(5.0), candidate(0.0, series_uid="other")], nodules, []
    )
    assert [c.is_nodule for c in labelled] == [True, False, False]


def test_candidates_at_excluded_findings_are_dropped() -> None:
    excluded = [Nodule("1.2.3", (0.0, -10.0, -255.0), 10.0)]
    assert [c.center_xyz[0] for c in label_candidates([candidate(1.0), candidate(20.0)], [], excluded)] == [
        20.0
    ]
