import numpy as np
import pytest
import torch

from p2ch_luna.datasets.candidates import (
    CropDataset,
    CropSample,
    CropSource,
    ImplantCrops,
    LungCrops,
    NoduleCrops,
    OutlinedDataset,
    PlaceCrops,
    is_malignant,
    label_candidates,
)
from p2ch_luna.datasets.implant import Implantable
from p2ch_luna.datasets.lidc_labels import malignancy_of
from p2ch_luna.datasets.places import candidate_places
from p2ch_luna.datasets.sampling import Pick
from p2ch_luna.datasets.scans import UNSURE, LabelledScan, label_scan
from p2ch_luna.findings import Candidate, Nodule
from p2ch_luna.io.candidate_table import CandidateTable
from p2ch_luna.lungs import PreparedCt


def candidate(x: float, is_nodule: bool | None = None, series_uid: str = "1.2.3") -> Candidate:
    return Candidate(series_uid, (x, -10.0, -255.0), 0.5, 100.0, 5.8, is_nodule)


SHAPE = (32, 32, 32)
MIDDLE = (0.0, -10.0, -255.0)  # LPS mm of voxel (45, 50, 50)


def table(*x: float, is_nodule: bool = False) -> CandidateTable:
    centers = np.array([(v, -10.0, -255.0) for v in x]).reshape(-1, 3)
    return CandidateTable(("1.2.3",), np.zeros(len(x), np.int32), centers, np.full(len(x), is_nodule))


def crops(source: CropSource, n: int = 10) -> list[CropSample]:
    return [CropDataset([source], SHAPE)[Pick(0, i % len(source), (0, 0, i))] for i in range(n)]


def test_ratings_that_say_something_have_a_label() -> None:
    assert is_malignant(torch.tensor([1.0, 2.5, 3.5, 5.0])).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_ratings_that_do_not_have_none() -> None:
    assert is_malignant(torch.tensor([2.75, 3.0, 3.25, torch.nan])).isnan().all()


def test_labels_are_those_of_the_malignancy_rule() -> None:
    rating = torch.arange(1, 5.01, 1 / 12)  # every mean of up to four readers
    label = {"benign": 0.0, "malignant": 1.0}
    expected = torch.tensor([label.get(malignancy_of(one) or "", torch.nan) for one in rating.tolist()])
    torch.testing.assert_close(is_malignant(rating), expected, equal_nan=True)


def test_an_implant_is_in_the_middle(scan: LabelledScan, nodule: Implantable) -> None:
    samples = crops(ImplantCrops([scan], [nodule]))
    centers = [np.argwhere(sample.hu[0].numpy() > -300) for sample in samples]
    off = [np.linalg.norm(c[np.linalg.norm(c - 16, axis=1) < 9].mean(axis=0) - 16) for c in centers]
    assert max(off) < 8
    assert np.mean(off) < 4.5  # three normal deviates of 2 mm: 3.2 on average


def test_an_implant_brings_its_rating_and_diameter(scan: LabelledScan, nodule: Implantable) -> None:
    (sample,) = crops(ImplantCrops([scan], [nodule]), 1)
    assert (sample.is_nodule.item(), sample.rating.item()) == (1.0, 4.0)
    assert 7.9 < sample.diameter_mm.item() < 12.6  # 10 mm, zoomed


def test_a_candidate_is_in_the_middle_of_its_crop(scan: LabelledScan) -> None:
    scan.stored.hu[45, 50, 50] = 77  # at MIDDLE
    source = PlaceCrops(candidate_places([scan], table(0.0), False), is_nodule=False)
    off = [np.argwhere(sample.hu[0].numpy() == 77) - 16 for sample in crops(source)]
    assert all(len(o) == 1 and np.abs(o).max() <= 8 for o in off)


@pytest.mark.parametrize("is_nodule", [True, False])
def test_a_candidate_says_what_it_is_and_no_more(scan: LabelledScan, is_nodule: bool) -> None:
    places = candidate_places([scan], table(0.0, is_nodule=is_nodule), is_nodule)
    (sample,) = crops(PlaceCrops(places, is_nodule), 1)
    assert sample.is_nodule.item() == is_nodule
    assert sample.rating.isnan()
    assert sample.diameter_mm.isnan()


def test_a_third_of_the_non_nodules_have_a_nodule_beside_them(
    scan: LabelledScan, nodule: Implantable
) -> None:
    samples = crops(LungCrops([scan], [nodule]), 60)
    beside = [s for s in samples if (s.hu == 100).any()]
    assert 8 <= len(beside) <= 28
    assert not any((s.hu[0, 10:22, 10:22, 10:22] == 100).any() for s in beside)


def test_an_own_nodule_brings_its_rating(prepared: PreparedCt) -> None:
    scan = label_scan(prepared, [Nodule("1.2.3", MIDDLE, 8.0, malignancy=2.0)])
    (sample,) = crops(NoduleCrops([(scan, scan.nodules[0])]), 1)
    found = [float(value) for value in (sample.is_nodule, sample.rating, sample.diameter_mm)]
    assert found == [1.0, 2.0, 8.0]


def test_a_nodule_that_nobody_rated_has_no_rating(prepared: PreparedCt) -> None:
    scan = label_scan(prepared, [Nodule("1.2.3", MIDDLE, 8.0)])
    (sample,) = crops(NoduleCrops([(scan, scan.nodules[0])]), 1)
    assert sample.rating.isnan()


def test_an_own_nodule_is_in_the_middle(prepared: PreparedCt) -> None:
    scan = label_scan(prepared, [Nodule("1.2.3", MIDDLE, 8.0)])
    prepared.ct.hu[44:47, 49:52, 49:52] = 77
    bright = [
        np.argwhere(sample.hu[0].numpy() == 77).mean(axis=0) - 16
        for sample in crops(NoduleCrops([(scan, scan.nodules[0])]))
    ]
    assert np.abs(bright).max() <= 8


def test_a_place_in_the_lung_is_on_no_nodule(prepared: PreparedCt) -> None:
    scan = label_scan(prepared, [Nodule("1.2.3", MIDDLE, 60.0)])
    prepared.ct.hu[scan.crop_labels(np.array(prepared.ct.hu.shape) // 2, prepared.ct.hu.shape) > 0] = 77
    assert not any(sample.hu[0, 16, 16, 16] == 77 for sample in crops(LungCrops([scan]), 30))


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


def test_an_outline_is_that_of_the_nodule_in_the_middle(scan: LabelledScan, nodule: Implantable) -> None:
    source = ImplantCrops([scan], [nodule])
    for number in range(10):
        sample = OutlinedDataset([source], SHAPE)[Pick(0, 0, (0, 0, number))]
        inside = sample.labels[0] == 1
        center = np.argwhere(inside.numpy()).mean(axis=0)
        assert np.linalg.norm(center - np.array(SHAPE) / 2) < 8
        volume_mm3 = float(inside.sum())
        assert np.cbrt(6 * volume_mm3 / np.pi) == pytest.approx(nodule.diameter_mm, rel=0.2)


def test_outlined_crops_are_those_without_an_outline(scan: LabelledScan, nodule: Implantable) -> None:
    source, pick = ImplantCrops([scan], [nodule]), Pick(0, 0, (0, 0, 3))
    plain, outlined = CropDataset([source], SHAPE)[pick], OutlinedDataset([source], SHAPE)[pick]
    for one, other in zip(plain, outlined[:-1], strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


def test_where_there_is_no_nodule_nothing_is_outlined(scan: LabelledScan, nodule: Implantable) -> None:
    sample = OutlinedDataset([LungCrops([scan], [nodule])], SHAPE)[Pick(0, 0, (0, 0, 1))]
    assert not sample.labels.any()


def test_of_a_nodule_that_nobody_outlined_no_voxel_is_known(scan: LabelledScan) -> None:
    source = PlaceCrops(candidate_places([scan], table(0.0, is_nodule=True), True), is_nodule=True)
    sample = OutlinedDataset([source], SHAPE)[Pick(0, 0, (0, 0, 1))]
    assert (sample.labels == UNSURE).all()
