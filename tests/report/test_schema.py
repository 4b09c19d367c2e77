from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Detection
from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference import Diagnosis
from p2ch_luna.inference.propose import ProposalSettings
from p2ch_luna.models.checkpoint import Calibration, ModelCard, OperatingPoint
from p2ch_luna.report.schema import (
    FINDING_THRESHOLD,
    NOT_JUDGED,
    SCHEMA_VERSION,
    Report,
    build_report,
    operating_point,
)

CARD = ModelCard(
    builder="nodule_classifier",
    arguments={},
    config={"seed": 0},
    data=["LIDC-IDRI, CC BY 3.0"],
    split={"train": ["A"]},
    metrics={"auc": 0.9},
    software="p2ch-luna",
    weights_sha256="ab" * 32,
)


def detection(ct: CtVolume, probability: float, irc: tuple[float, float, float] = (5, 7, 9)) -> Detection:
    x, y, z = ct.geometry.to_xyz(irc).tolist()
    return Detection(ct.series_uid, (x, y, z), probability, 8.0, 268.0, 0.9, 0.8, 0.3)


POINTS = tuple(
    OperatingPoint(fp_per_scan=rate, probability=probability, sensitivity=sensitivity)
    for rate, probability, sensitivity in ((0.125, 0.9, 0.6), (1.0, 0.5, 0.8), (4.0, 0.1, 0.9))
)
CALIBRATION = Calibration(
    segmentation=0.5, classifier=0.5, intercept=0.0, operating_points=POINTS, on="scans"
)
CALIBRATED = {"classifier": CARD.model_copy(update={"calibration": CALIBRATION})}


def report_of(
    ct: CtVolume,
    *detections: Detection,
    warnings: tuple[str, ...] = (),
    point: OperatingPoint | None = POINTS[1],
) -> Report:
    timings_s = {"lungs": 0.12345, "segmentation": 6.0}
    diagnosis = Diagnosis(
        ct.series_uid,
        list(detections),
        list(warnings),
        timings_s,
        ProposalSettings(),
        {"classifier": CARD},
    )
    return build_report(diagnosis, ct, Path("/somewhere/private/scan.mha"), point)


def test_a_report_says_its_version_and_that_it_is_no_device(ct: CtVolume) -> None:
    content = json.loads(report_of(ct).to_json())
    assert content["schema_version"] == SCHEMA_VERSION == "2.0"
    assert content["software"] == f"p2ch-luna {__version__}"
    assert "not a medical device" in content["statement"]


def test_it_comes_back_from_its_json(ct: CtVolume) -> None:
    report = report_of(ct, detection(ct, 0.9), detection(ct, 0.1))
    assert Report.model_validate_json(report.to_json()) == report


def test_an_unknown_key_is_refused(ct: CtVolume) -> None:
    content = json.loads(report_of(ct).to_json()) | {"verdict": "benign"}
    with pytest.raises(ValidationError, match="verdict"):
        Report.model_validate(content)


def test_the_folder_of_the_scan_stays_private(ct: CtVolume) -> None:
    report = report_of(ct)
    assert report.scan.name == "scan.mha"
    assert "private" not in report.to_json()


def test_the_scan_is_described_as_it_was_read(ct: CtVolume) -> None:
    scan = report_of(ct).scan
    assert scan.shape_irc == (12, 16, 20)
    assert scan.spacing_xyz_mm == (0.7, 0.8, 1.25)
    np.testing.assert_array_equal(scan.direction, ct.geometry.direction)


def test_a_finding_lies_in_the_grid_of_the_scan(ct: CtVolume) -> None:
    (finding,) = report_of(ct, detection(ct, 0.9, (5.4, 7.0, 9.5))).findings
    assert finding.voxel_irc == pytest.approx((5.4, 7.0, 9.5))
    assert finding.slice_index == 5


def test_findings_are_ranked_and_named(ct: CtVolume) -> None:
    findings = report_of(ct, detection(ct, 0.9), detection(ct, 0.7)).findings
    assert [(f.id, f.rank, f.nodule_probability) for f in findings] == [("F1", 1, 0.9), ("F2", 2, 0.7)]


def test_what_is_not_probable_is_rejected_with_a_reason(ct: CtVolume) -> None:
    report = report_of(ct, detection(ct, 0.9), detection(ct, 0.5), detection(ct, 0.2))
    assert len(report.findings) == 2
    assert [r.nodule_probability for r in report.rejected] == [0.2]
    assert report.rejected[0].reason == (
        "nodule probability is below 0.5, the operating point of 1 false positive a scan"
    )


def test_the_operating_point_is_told(ct: CtVolume) -> None:
    settings = report_of(ct).settings
    assert (settings.finding_threshold, settings.operating_point) == (0.5, POINTS[1])


def test_without_one_a_fixed_probability_decides(ct: CtVolume) -> None:
    detections = [detection(ct, FINDING_THRESHOLD), detection(ct, FINDING_THRESHOLD - 0.01)]
    report = report_of(ct, *detections, point=None)
    assert [f.nodule_probability for f in report.findings] == [FINDING_THRESHOLD]
    assert report.rejected[0].reason == "nodule probability is below 0.8"
    assert report.settings.operating_point is None


@pytest.mark.parametrize(("rate", "probability"), [(None, 0.5), (1.0, 0.5), (0.125, 0.9), (4.0, 0.1)])
def test_the_operating_point_is_that_of_the_card(rate: float | None, probability: float) -> None:
    point = operating_point(CALIBRATED, rate)
    assert point is not None
    assert point.probability == probability


def test_a_rate_that_the_card_does_not_have_names_those_it_has() -> None:
    with pytest.raises(
        LunaError, match=r"--operating-point 3: not in the classifier's card; wanted one of 1/8, 1, 4$"
    ):
        operating_point(CALIBRATED, 3.0)


def test_a_card_without_the_rate_that_nobody_asked_for_names_the_option() -> None:
    calibration = CALIBRATED["classifier"].calibration
    assert calibration is not None
    few = calibration.model_copy(update={"operating_points": POINTS[2:]})
    card = CALIBRATED["classifier"].model_copy(update={"calibration": few})
    with pytest.raises(
        LunaError,
        match=r"^the classifier's card has no operating point for 1 FP/scan; wanted --operating-point with "
        "one of 4$",
    ):
        operating_point({"classifier": card}, None)


@pytest.mark.parametrize("models", [{}, {"classifier": CARD}, {"segmentation": CALIBRATED["classifier"]}])
def test_without_a_calibration_there_is_no_operating_point(models: dict[str, ModelCard]) -> None:
    assert operating_point(models, None) is None
    with pytest.raises(LunaError, match=r"--operating-point 1: .* no calibration; wanted .* luna calibrate"):
        operating_point(models, 1.0)


def test_malignancy_is_said_to_be_suspicion(ct: CtVolume) -> None:
    assert report_of(ct).malignancy_is == "radiologist suspicion, not pathology"


def test_malignancy_that_is_not_judged_is_told(ct: CtVolume) -> None:
    report = report_of(ct, replace(detection(ct, 0.9), malignancy_probability=None), warnings=("dark",))
    assert report.findings[0].malignancy_probability is None
    assert report.warnings == ("dark", NOT_JUDGED)


def test_nothing_found_is_a_report_too(ct: CtVolume) -> None:
    report = report_of(ct)
    assert report.findings == report.rejected == ()


def test_warnings_are_passed_on(ct: CtVolume) -> None:
    assert report_of(ct, warnings=("no lungs found",)).warnings == ("no lungs found",)


def test_the_networks_cards_are_in_it(ct: CtVolume) -> None:
    (model,) = report_of(ct).models
    assert (model.stage, model.card.weights_sha256) == ("classifier", "ab" * 32)


def test_stages_are_timed_to_the_millisecond(ct: CtVolume) -> None:
    assert report_of(ct).timings_s == {"lungs": 0.123, "segmentation": 6.0}


def test_a_number_that_is_none_is_refused(ct: CtVolume) -> None:
    with pytest.raises(ValidationError, match="finite"):
        report_of(ct, detection(ct, float("inf")))
