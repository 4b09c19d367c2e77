"""A curve small enough to read the points off by hand."""

from __future__ import annotations

import pytest

from p2ch_luna.findings import Nodule
from p2ch_luna.io.tables import ScoredPoint
from p2ch_luna.metrics.froc import Froc, froc
from p2ch_luna.metrics.matching import score_detections
from p2ch_luna.metrics.operating import operating_point


def curve_of(found: list[float], false: list[float], missed: int = 0, scans: int = 2) -> Froc:
    """Nodules found with these probabilities, and false positives, in so many scans."""
    nodules = [Nodule("0", (50.0 * k, 0.0, 0.0), 8.0) for k in range(len(found) + missed)]
    hits = [ScoredPoint("0", (50.0 * k, 0.0, 0.0), p) for k, p in enumerate(found)]
    others = [ScoredPoint("0", (0.0, 90.0 + 10 * k, 0.0), p) for k, p in enumerate(false)]
    return froc(score_detections(nodules, [], [str(k) for k in range(scans)], [*hits, *others]))


@pytest.fixture
def curve() -> Froc:
    """Two scans, four nodules: found at 0.9, 0.6 and 0.2, one missed; false positives at 0.7, 0.4 and 0.1."""
    return curve_of([0.9, 0.6, 0.2], [0.7, 0.4, 0.1], missed=1)


@pytest.mark.parametrize(
    ("fp_per_scan", "probability", "sensitivity"),
    [
        (0.125, 0.8, 0.25),  # none of two scans: above 0.7, half way to 0.9
        (0.5, 0.5, 0.5),  # one: down to 0.6, half way to 0.4
        (0.9, 0.5, 0.5),  # still one
        (1.0, 0.15, 0.75),  # two: down to 0.2, half way to 0.1
        (1.5, 0.1, 0.75),  # all three: every mark counts
        (8.0, 0.1, 0.75),
    ],
)
def test_a_point_lies_between_the_last_mark_that_counts_and_the_next(
    curve: Froc, fp_per_scan: float, probability: float, sensitivity: float
) -> None:
    assert operating_point(curve, fp_per_scan) == pytest.approx((probability, sensitivity))


def test_where_a_false_positive_comes_first_the_point_is_above_it() -> None:
    assert operating_point(curve_of([0.5], [0.8]), 0.125) == pytest.approx((0.9, 0.0))


def test_tied_marks_are_all_left_out() -> None:
    assert operating_point(curve_of([0.9], [0.6, 0.6], scans=1), 1.0) == pytest.approx((0.75, 1.0))


def test_a_false_positive_of_one_does_not_count() -> None:
    probability, sensitivity = operating_point(curve_of([0.5], [1.0]), 0.125)
    assert probability > 1
    assert sensitivity == 0
