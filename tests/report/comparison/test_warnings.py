import numpy as np
import pytest

from p2ch_luna.inference.alignment import Alignment
from p2ch_luna.inference.alignment_views import LungView, Rigid
from p2ch_luna.report.build import model_of
from p2ch_luna.report.comparison.pairs import Both
from p2ch_luna.report.comparison.warnings import warnings_of
from p2ch_luna.report.schema import Report
from support.diagnosed import CARD
from support.findings import chest, hand_report

PLAIN = hand_report(chest())


def warnings(prior: Report = PLAIN, current: Report = PLAIN, correlation: float = 0.95) -> list[str]:
    alignment = Alignment(Rigid(np.eye(3), np.zeros(3)), 0.81, correlation, 1.0)
    return list(warnings_of(Both(prior, current, LungView(chest()), LungView(chest()), alignment)))


def searched_by(sha256: str) -> Report:
    card = CARD.model_copy(update={"weights_sha256": sha256})
    return PLAIN.model_copy(update={"models": (model_of("segmentation", card),)})


def test_two_reports_alike_bring_none() -> None:
    assert warnings() == []


def test_lungs_that_agree_poorly() -> None:
    (told,) = warnings(correlation=0.5)
    assert told.startswith("the lungs agree poorly (correlation 0.50, overlap 0.81)")
    assert told.endswith("growth is not judged")


def test_different_networks() -> None:
    (told,) = warnings(searched_by("a" * 64), searched_by("b" * 64))
    assert "different networks" in told


def test_different_thresholds() -> None:
    settings = PLAIN.settings.model_copy(update={"finding_threshold": 0.9})
    (told,) = warnings(current=PLAIN.model_copy(update={"settings": settings}))
    assert told == "findings begin at probability 0.42 in the prior scan and at 0.9 in the current"


@pytest.mark.parametrize(("mm", "count"), [(3.5, 0), (5.0, 1)])
def test_slices_much_thicker_than_the_other_scan_s(mm: float, count: int) -> None:
    """Against slices 2 mm apart."""
    thick = hand_report(chest(spacing_xyz=(1.0, 1.0, mm)))
    assert len(warnings(current=thick)) == count


def test_one_dicom_series_twice() -> None:
    scan = PLAIN.scan.model_copy(update={"format": "dicom"})
    report = PLAIN.model_copy(update={"scan": scan})
    assert warnings(report, report) == ["both reports are of the same series: nothing can have changed"]
