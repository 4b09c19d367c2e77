"""From a diagnosis to findings with names, places and measures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from p2ch_luna.findings import Candidate
from p2ch_luna.geometry import AIR_HU, CtVolume, ImageGeometry
from p2ch_luna.inference.propose import Dropped
from p2ch_luna.io.opened import SeriesFacts
from p2ch_luna.report.build import NOT_JUDGED, build_report, measure_findings, paint_labels
from p2ch_luna.report.schema import Rejected
from p2ch_luna.report.threshold import FINDING_THRESHOLD
from support.diagnosed import CARD, POINT, detection, diagnosis_of, opened, report_of


@pytest.fixture
def chest() -> CtVolume:
    """Air at 1 mm, 30 voxels each way: room for a ball."""
    return CtVolume("1.2.3", np.full((30, 30, 30), AIR_HU, np.float32), ImageGeometry.axial())


def test_the_scan_is_described_as_it_was_read(ct: CtVolume) -> None:
    scan = report_of(ct).scan
    assert scan.shape_irc == (12, 16, 20)
    assert scan.spacing_xyz_mm == (0.7, 0.8, 1.25)
    np.testing.assert_array_equal(scan.direction, ct.geometry.direction)


def test_the_series_that_was_read_comes_first(ct: CtVolume) -> None:
    facts = [SeriesFacts(uid, "1.2", "CT", "", 12, 1.25, "", "chosen") for uid in ("1.2.3", "1.2.4")]
    assert [series.series_uid for series in report_of(ct, series=tuple(facts)).scan.series] == [
        "1.2.3",
        "1.2.4",
    ]


def test_a_finding_lies_in_the_grid_of_the_scan(ct: CtVolume) -> None:
    (finding,) = report_of(ct, detection(ct, 0.9, (5.4, 7.0, 9.5))).findings
    assert finding.voxel_irc == pytest.approx((5.4, 7.0, 9.5))
    assert finding.slice_index == 5


def test_its_slice_has_the_number_that_a_viewer_shows(ct: CtVolume) -> None:
    (finding,) = report_of(ct, detection(ct, 0.9, (5, 7, 9)), slice_numbers=tuple(range(12, 0, -1))).findings
    assert (finding.slice_index, finding.slice_number) == (5, 7)


def test_a_centre_beyond_the_last_slice_counts_for_it(ct: CtVolume) -> None:
    (finding,) = report_of(ct, detection(ct, 0.9, (11.8, 7, 9))).findings
    assert finding.slice_index == 11


def test_findings_are_ranked_and_named(ct: CtVolume) -> None:
    findings = report_of(ct, detection(ct, 0.9), detection(ct, 0.7)).findings
    found = [(f.id, f.rank, f.label, f.nodule_probability) for f in findings]
    assert found == [("F1", 1, 1, 0.9), ("F2", 2, 2, 0.7)]


def test_a_finding_is_measured(chest: CtVolume) -> None:
    """The ball of radius 2 mm on a grid of 1 mm has 33 voxels, 5 of them across."""
    (finding,) = report_of(chest, detection(chest, 0.9, (15, 15, 15))).findings
    assert finding.volume_mm3 == pytest.approx(33)
    assert finding.diameter_mm == pytest.approx(math.cbrt(6 * 33 / math.pi))
    assert finding.mean_diameter_mm == pytest.approx((finding.longest_mm + finding.perpendicular_mm) / 2)
    assert 4 <= finding.perpendicular_mm <= finding.longest_mm <= 6
    assert math.dist(*finding.longest_lps_mm) == pytest.approx(finding.longest_mm)
    assert finding.mean_hu == AIR_HU


def test_a_finding_has_a_hint_of_its_size(chest: CtVolume) -> None:
    (finding,) = report_of(chest, detection(chest, 0.9, (15, 15, 15))).findings
    assert finding.lung_rads == "2"
    assert 0 < finding.malignancy_by_diameter < 0.5


def test_the_same_place_has_the_same_tracking_uid(ct: CtVolume) -> None:
    (first,) = report_of(ct, detection(ct, 0.9)).findings
    _, second = report_of(ct, detection(ct, 0.95, (2, 2, 2)), detection(ct, 0.9)).findings
    assert first.tracking_uid == second.tracking_uid
    assert first.tracking_uid.startswith("2.25.")


def test_two_places_have_two_tracking_uids(ct: CtVolume) -> None:
    first, second = report_of(ct, detection(ct, 0.95, (2, 2, 2)), detection(ct, 0.9)).findings
    assert first.tracking_uid != second.tracking_uid


def test_only_key_images_that_are_written_are_named(ct: CtVolume) -> None:
    first, second = report_of(
        ct, detection(ct, 0.9), detection(ct, 0.8), files=["F1-axial.png", "F2-sagittal.png"]
    ).findings
    assert (first.images, second.images) == ({"axial": "F1-axial.png"}, {"sagittal": "F2-sagittal.png"})


def test_labels_are_the_ranks_and_the_first_keeps_its_own(chest: CtVolume) -> None:
    diagnosis = diagnosis_of(chest, detection(chest, 0.9, (15, 15, 15)), detection(chest, 0.8, (15, 15, 18)))
    labels = paint_labels(chest.hu.shape, measure_findings(diagnosis, chest, POINT))
    assert labels[15, 15, 15:21].tolist() == [1, 1, 1, 2, 2, 2]
    assert (labels == 1).sum() == 33


@pytest.mark.parametrize("apart", [0, 1, 3, 5])
def test_the_volume_of_a_finding_is_that_of_its_label(chest: CtVolume, apart: int) -> None:
    found = [detection(chest, 0.9 - apart / 100, (15, 15, 15 + apart)) for apart in (0, apart)]
    diagnosis = diagnosis_of(chest, *found)
    measured = measure_findings(diagnosis, chest, POINT)
    labels = paint_labels(chest.hu.shape, measured)
    volumes = [f.volume_mm3 for f in build_report(diagnosis, opened(chest), measured, POINT).findings]
    assert volumes == [(labels == 1).sum(), (labels == 2).sum()]
    assert volumes[0] == 33
    assert volumes[1] >= 1


def test_what_is_below_the_operating_point_takes_no_voxel(chest: CtVolume) -> None:
    unlikely = detection(chest, 0.2, (15, 15, 15))
    diagnosis = diagnosis_of(chest, unlikely, detection(chest, 0.9, (15, 15, 16)))
    (found,) = measure_findings(diagnosis, chest, POINT)
    assert found.measurement.volume_mm3 == 33


def test_no_finding_has_no_label() -> None:
    assert paint_labels((2, 3, 4), []).tolist() == np.zeros((2, 3, 4)).tolist()


def test_what_is_not_probable_is_rejected_with_a_reason(ct: CtVolume) -> None:
    report = report_of(ct, detection(ct, 0.9), detection(ct, 0.5), detection(ct, 0.2))
    assert len(report.findings) == 2
    assert [r.nodule_probability for r in report.rejected] == [0.2]
    assert report.rejected[0].reason == (
        "nodule probability is below 0.5, the operating point of 1 false positive a scan"
    )


def test_what_was_not_judged_is_rejected_with_a_reason(ct: CtVolume) -> None:
    candidate = Candidate("1.2.3", (1.0, 2.0, 3.0), 0.7, 33.0, 4.0)
    diagnosis = replace(
        diagnosis_of(ct, detection(ct, 0.2)), dropped=(Dropped(candidate, "outside the lungs"),)
    )
    below, dropped = build_report(diagnosis, opened(ct), [], POINT).rejected
    assert (below.nodule_probability, below.segmentation_probability) == (0.2, 0.9)
    assert dropped == Rejected(
        center_lps_mm=(1.0, 2.0, 3.0),
        diameter_mm=4.0,
        nodule_probability=None,
        segmentation_probability=0.7,
        reason="outside the lungs",
    )


def test_the_operating_point_is_told(ct: CtVolume) -> None:
    settings = report_of(ct).settings
    assert (settings.finding_threshold, settings.operating_point) == (0.5, POINT)


def test_without_one_a_fixed_probability_decides(ct: CtVolume) -> None:
    detections = [detection(ct, FINDING_THRESHOLD), detection(ct, FINDING_THRESHOLD - 0.01)]
    report = report_of(ct, *detections, point=None)
    assert [f.nodule_probability for f in report.findings] == [FINDING_THRESHOLD]
    assert report.rejected[0].reason == "nodule probability is below 0.8"
    assert report.settings.operating_point is None


def test_malignancy_that_is_not_judged_is_told(ct: CtVolume) -> None:
    report = report_of(ct, replace(detection(ct, 0.9), malignancy_probability=None), warnings=("dark",))
    assert report.findings[0].malignancy_probability is None
    assert report.warnings == ("dark", NOT_JUDGED)


def test_nothing_found_is_a_report_too(ct: CtVolume) -> None:
    report = report_of(ct)
    assert report.findings == report.rejected == ()


def test_warnings_of_the_scan_come_before_those_of_the_search(ct: CtVolume) -> None:
    diagnosis = diagnosis_of(ct, warnings=("no lungs found",))
    report = build_report(diagnosis, opened(ct, warnings=("slices of 5 mm",)), [])
    assert report.warnings == ("slices of 5 mm", "no lungs found")


def test_the_networks_cards_are_in_it(ct: CtVolume) -> None:
    (model,) = report_of(ct).models
    assert (model.stage, model.weights_sha256) == ("classifier", CARD.weights_sha256)


def test_stages_are_timed_to_the_millisecond(ct: CtVolume) -> None:
    assert report_of(ct).timings_s == {"lungs": 0.123, "segmentation": 6.0}


def test_a_finding_at_the_end_of_the_scan_is_cut_off(chest: CtVolume) -> None:
    """The ball of radius 2 mm reaches voxel 0 from voxel 2 on."""
    found = report_of(chest, detection(chest, 0.9, (2, 15, 15)), detection(chest, 0.8, (3, 15, 27))).findings
    assert [finding.is_cut_off for finding in found] == [True, True]
    (inside,) = report_of(chest, detection(chest, 0.9, (3, 15, 26))).findings
    assert not inside.is_cut_off


def test_a_scan_that_was_not_searched_is_not_clean(ct: CtVolume) -> None:
    assert report_of(ct).is_searched
    nothing = replace(diagnosis_of(ct, warnings=("no lungs found",)), prepared=None)
    report = build_report(nothing, opened(ct), [])
    assert not report.is_searched
    assert report.count == "not searched"
