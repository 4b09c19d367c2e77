"""From which probability on a detection is a finding."""

from __future__ import annotations

from collections.abc import Mapping

from p2ch_luna.errors import LunaError
from p2ch_luna.inference.detector import CLASSIFIER
from p2ch_luna.models.checkpoint import ModelCard, OperatingPoint
from p2ch_luna.report.rates import rate_text

FINDING_THRESHOLD = 0.8  # of networks without calibration
FP_PER_SCAN = 1.0  # of the operating point if none is asked for


def finding_threshold(point: OperatingPoint | None) -> float:
    """The probability of an operating point; `FINDING_THRESHOLD` if there is none."""
    return FINDING_THRESHOLD if point is None else point.probability


def operating_point(models: Mapping[str, ModelCard], fp_per_scan: float | None) -> OperatingPoint | None:
    """The one of the classifier's card for so many false positives a scan, `FP_PER_SCAN` if None.

    None where that card has no calibration and none is asked for. Raises LunaError for one that is not there.
    """
    card = models.get(CLASSIFIER)
    if card is None or card.calibration is None:
        if fp_per_scan is None:
            return None
        raise LunaError(
            f"--operating-point {rate_text(fp_per_scan)}: the classifier's card has no calibration; wanted "
            "one that luna calibrate has found operating points for"
        )
    rate, points = FP_PER_SCAN if fp_per_scan is None else fp_per_scan, card.calibration.operating_points
    if found := [point for point in points if point.fp_per_scan == rate]:
        return found[0]
    there = ", ".join(rate_text(point.fp_per_scan) for point in points) or "none"
    if fp_per_scan is None:
        raise LunaError(
            f"the classifier's card has no operating point for {rate_text(rate)} FP/scan; wanted "
            f"--operating-point with one of {there}"
        )
    raise LunaError(
        f"--operating-point {rate_text(rate)}: not in the classifier's card; wanted one of {there}"
    )
