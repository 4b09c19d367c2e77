from collections.abc import Sequence

import numpy as np
import pytest

from p2ch_luna.findings import Point
from p2ch_luna.inference.alignment import Alignment
from p2ch_luna.inference.alignment_views import LungView, Rigid
from p2ch_luna.report.comparison.pairs import Both, find_pairs, is_covered, rejected_near
from p2ch_luna.report.schema import Rejected
from support.findings import FLIPPED, chest, finding, hand_report, rejected

CT = chest()  # 1 x 1 x 2 mm; its first voxel at (-50, 20, -70), its last at (59, 109, 8)


def both(
    prior: Sequence[Point],
    current: Sequence[Point],
    correlation: float = 0.95,
    diameters_mm: tuple[float, float] = (4.0, 4.0),
) -> Both:
    """Nodules at these places of two scans that lie as they are."""
    reports = [
        hand_report(CT, [finding(CT, xyz, k, mean_diameter_mm=mm) for k, xyz in enumerate(places, 1)])
        for places, mm in zip((prior, current), diameters_mm, strict=True)
    ]
    still = Rigid(np.eye(3), np.zeros(3))
    return Both(reports[0], reports[1], LungView(CT), LungView(CT), Alignment(still, 0.9, correlation, 1.0))


def numbers(pair: Both, expected: Sequence[Point]) -> list[tuple[int, int]]:
    return [(found.prior, found.current) for found in find_pairs(pair, expected)]


def test_a_nodule_is_paired_with_the_nearest() -> None:
    prior: list[Point] = [(0, 50, 0), (30, 50, 0)]
    assert numbers(both(prior, [(31, 50, 0), (1, 50, 0)]), prior) == [(0, 1), (1, 0)]


@pytest.mark.parametrize(
    ("prior_x", "current_x", "paired"),
    [
        ((0, 7), (7.3, 14), [(1, 0)]),  # 0.3 + 8 < 7.3 + 7
        ((0, 4), (5, 11), [(1, 0)]),  # 1 + 8 < 5 + 7
        ((0, 4), (3, 9), [(0, 0), (1, 1)]),  # 3 + 5 < 1 + 8
        ((0, 10), (4, 14), [(0, 0), (1, 1)]),  # 4 + 4 < 6 + 8
    ],
    ids=["0.3 mm apart", "1 mm apart", "both near", "all moved alike"],
)
def test_the_sum_of_distances_is_least_and_two_alone_cost_their_reach(
    prior_x: Sequence[float], current_x: Sequence[float], paired: list[tuple[int, int]]
) -> None:
    """Nodules of 4 mm reach 6 + 2 = 8 mm."""
    prior, current = ([(x, 50.0, 0.0) for x in row] for row in (prior_x, current_x))
    assert numbers(both(prior, current), prior) == paired


@pytest.mark.parametrize(("apart_mm", "paired"), [(7.9, True), (8.1, False)])
def test_a_pair_lies_within_six_mm_and_half_the_diameter(apart_mm: float, paired: bool) -> None:
    prior: list[Point] = [(0, 50, 0)]
    assert bool(numbers(both(prior, [(apart_mm, 50, 0)]), prior)) is paired


def test_the_larger_diameter_of_both_counts() -> None:
    prior: list[Point] = [(0, 50, 0)]
    assert numbers(both(prior, [(15, 50, 0)], diameters_mm=(4.0, 20.0)), prior) == [(0, 0)]


def test_where_lungs_agree_poorly_pairs_lie_no_further_apart() -> None:
    prior: list[Point] = [(0, 50, 0)]
    pair = both(prior, [(8.1, 50, 0)], correlation=0.5)
    assert pair.is_poor
    assert numbers(pair, prior) == []


def test_without_findings_there_are_no_pairs() -> None:
    assert numbers(both([], [(0, 50, 0)]), []) == []


@pytest.mark.parametrize(
    ("x", "covered"), [(59.4, False), (57.6, False), (57.4, True), (-48.4, True), (-48.6, False)]
)
def test_a_place_is_covered_where_all_of_the_nodule_is_in_the_scan(x: float, covered: bool) -> None:
    """The last voxel ends at x = 59.5, the first begins at -50.5; the nodule has a radius of 2 mm."""
    assert is_covered(hand_report(CT).scan, (x, 50.0, -30.0), 4.0) is covered


def test_a_flipped_scan_covers_what_it_shows() -> None:
    scan = hand_report(chest(FLIPPED)).scan  # rows run forwards, slices down from (-50, 20, -70)
    assert is_covered(scan, (0.0, -20.0, -100.0), 4.0)
    assert not is_covered(scan, (0.0, 50.0, -30.0), 4.0)


def test_a_rejected_candidate_near_a_place_is_told() -> None:
    pair = both([(0, 50, 0)], [])
    other = hand_report(CT, rejected=(rejected(0.31), rejected(0.12)))  # both at (1, 2, 3)
    told = rejected_near(pair, other, (1.0, 2.0, 10.0), pair.prior.findings[0])
    assert told == "seen in the current scan below the threshold: 4.0 mm, probability 0.31"


def not_judged() -> Rejected:
    """One that no network has judged."""
    changes = {"nodule_probability": None, "reason": "outside of the lungs"}
    return rejected(0.5).model_copy(update=changes)


def test_a_candidate_that_was_not_judged_is_told_without_a_probability() -> None:
    pair = both([(0, 50, 0)], [])
    other = hand_report(CT, rejected=(not_judged(),))
    told = rejected_near(pair, other, (1.0, 2.0, 10.0), pair.prior.findings[0])
    assert told == "a candidate in the current scan: 4.0 mm, not judged (outside of the lungs)"


def test_one_that_was_judged_comes_before_one_that_was_not() -> None:
    pair = both([(0, 50, 0)], [])
    other = hand_report(CT, rejected=(not_judged(), rejected(0.12)))
    assert rejected_near(pair, other, (1.0, 2.0, 10.0), pair.prior.findings[0]).endswith("probability 0.12")


def test_a_rejected_candidate_elsewhere_is_not() -> None:
    pair = both([(0, 50, 0)], [])
    assert rejected_near(pair, hand_report(CT), (1.0, 2.0, 12.0), pair.prior.findings[0]) == ""
