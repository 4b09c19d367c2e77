"""From which probability on there are findings."""

from __future__ import annotations

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.models.checkpoint import Calibration, ModelCard, OperatingPoint
from p2ch_luna.report.threshold import FINDING_THRESHOLD, finding_threshold, operating_point

CARD = ModelCard(
    builder="nodule_classifier", arguments={}, config={}, data=[], split={}, metrics={}, software=""
)
POINTS = tuple(
    OperatingPoint(fp_per_scan=rate, probability=probability, sensitivity=sensitivity)
    for rate, probability, sensitivity in ((0.125, 0.9, 0.6), (1.0, 0.5, 0.8), (4.0, 0.1, 0.9))
)
CALIBRATION = Calibration(
    segmentation=0.5, classifier=0.5, intercept=0.0, operating_points=POINTS, on="scans"
)
CALIBRATED = {"classifier": CARD.model_copy(update={"calibration": CALIBRATION})}


def test_findings_begin_at_the_operating_point() -> None:
    assert finding_threshold(POINTS[2]) == 0.1


def test_without_one_they_begin_at_a_fixed_probability() -> None:
    assert finding_threshold(None) == FINDING_THRESHOLD == 0.8


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
