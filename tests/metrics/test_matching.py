"""Each rule of LUNA16's official script, on cases worked by hand."""

from typing import NamedTuple

import numpy as np
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule, Point
from p2ch_luna.metrics.froc import froc
from p2ch_luna.metrics.matching import Outcome, score_detections, strongest

MISSED = -np.inf


class Mark(NamedTuple):
    series_uid: str
    center_xyz: Point
    probability: float


def nodule(x: float, diameter_mm: float = 10.0, scan: str = "1.1") -> Nodule:
    return Nodule(scan, (x, 0.0, 0.0), diameter_mm)


def mark(x: float, score: float = 0.5, scan: str = "1.1") -> Mark:
    return Mark(scan, (x, 0.0, 0.0), score)


def score(
    nodules: list[Nodule],
    marks: list[Mark],
    excluded: list[Nodule] | None = None,
    scans: tuple[str, ...] = ("1.1",),
) -> Outcome:
    return score_detections(nodules, excluded or [], scans, marks)


def test_a_mark_inside_the_radius_hits() -> None:
    assert score([nodule(0)], [mark(4.999, 0.7)]).nodule_score.tolist() == [0.7]


def test_a_mark_on_the_radius_misses() -> None:
    assert score([nodule(0)], [mark(5.0)]).nodule_score.tolist() == [MISSED]


def test_a_mark_on_the_radius_is_a_false_positive() -> None:
    assert score([nodule(0)], [mark(5.0)]).false_score.tolist() == [0.5]


def test_distance_is_taken_in_all_three_axes() -> None:
    outcome = score([Nodule("1.1", (1.0, 2.0, 3.0), 10.0)], [Mark("1.1", (4.0, 5.0, 6.0), 0.5)])  # 5.196 mm
    assert outcome.nodule_score.tolist() == [MISSED]


def test_a_double_hit_counts_with_its_highest_score() -> None:
    assert score([nodule(0)], [mark(1, 0.2), mark(-1, 0.9), mark(2, 0.4)]).nodule_score.tolist() == [0.9]


def test_a_double_hit_leaves_no_false_positive() -> None:
    assert score([nodule(0)], [mark(1, 0.2), mark(-1, 0.9)]).false_score.tolist() == []


def test_one_mark_may_hit_two_nodules() -> None:
    assert score([nodule(0), nodule(6)], [mark(3, 0.6)]).nodule_score.tolist() == [0.6, 0.6]


def test_a_mark_on_an_excluded_finding_is_no_false_positive() -> None:
    assert score([nodule(0)], [mark(50)], excluded=[nodule(50)]).false_score.tolist() == []


def test_a_mark_on_a_nodule_and_an_excluded_finding_hits() -> None:
    assert score([nodule(0)], [mark(3)], excluded=[nodule(3)]).nodule_score.tolist() == [0.5]


@pytest.mark.parametrize(("x", "false_positives"), [(4.9, 0), (5.1, 1)])
def test_a_negative_diameter_counts_as_10_mm(x: float, false_positives: int) -> None:
    outcome = score([], [mark(x)], excluded=[nodule(0, diameter_mm=-1.0)])
    assert len(outcome.false_score) == false_positives


def test_a_nodule_of_negative_diameter_is_reported_with_10_mm() -> None:
    assert score([nodule(0, diameter_mm=-1.0)], []).nodule_diameter_mm.tolist() == [10.0]


def test_a_mark_counts_on_its_own_scan_only() -> None:
    outcome = score([nodule(0, scan="1.1")], [mark(0, scan="1.2")], scans=("1.1", "1.2"))
    assert outcome.nodule_score.tolist() == [MISSED]


def test_scans_without_marks_and_nodules_are_counted() -> None:
    assert score([nodule(0)], [mark(0)], scans=("1.0", "1.1", "1.2")).n_scans == 3


def test_values_know_the_number_of_their_scan() -> None:
    nodules = [nodule(0, scan="1.2"), nodule(0, scan="1.0"), nodule(50, scan="1.2")]
    assert score(nodules, [], scans=("1.0", "1.1", "1.2")).nodule_scan.tolist() == [0, 2, 2]


def test_nodules_on_scans_that_are_not_listed_are_left_out() -> None:
    assert len(score([nodule(0), nodule(0, scan="9.9")], []).nodule_score) == 1


def test_nodules_know_their_number_in_the_list() -> None:
    nodules = [nodule(0, scan="1.2"), nodule(0, scan="9.9"), nodule(0, scan="1.0"), nodule(50, scan="1.2")]
    assert score(nodules, [], scans=("1.0", "1.2")).nodule_index.tolist() == [2, 0, 3]


def test_a_nodule_knows_its_best_mark() -> None:
    outcome = score([nodule(0), nodule(90)], [mark(40, 0.9), mark(1, 0.2), mark(-1, 0.9), mark(2, 0.4)])
    assert outcome.nodule_mark.tolist() == [2, -1]


def test_of_equal_marks_the_first_is_named() -> None:
    assert score([nodule(0)], [mark(40, 0.5), mark(3, 0.5), mark(0, 0.5)]).nodule_mark.tolist() == [1]


def test_false_positives_know_their_mark() -> None:
    marks = [mark(40, 0.1, "1.2"), mark(0, 0.9, "1.1"), mark(50, 0.2, "1.1"), mark(60, 0.3, "1.2")]
    outcome = score([nodule(0)], marks, scans=("1.1", "1.2"))
    assert outcome.false_mark.tolist() == [2, 0, 3]


def test_numbers_hold_where_marks_go_beyond_the_limit() -> None:
    marks = [mark(500 + i, 0.1) for i in range(100)] + [mark(500, 0.9), mark(0, 0.8)]
    outcome = score([nodule(0)], marks)
    assert (outcome.nodule_mark.tolist(), outcome.false_mark.tolist()) == ([101], [100])


def test_a_hundred_marks_all_count() -> None:
    assert strongest(np.full(100, 0.5)).sum() == 100


def test_of_101_marks_the_weakest_goes() -> None:
    assert strongest(np.arange(101.0)).tolist() == [False] + [True] * 100


def test_101_tied_marks_leave_none() -> None:
    assert strongest(np.full(101, 0.5)).sum() == 0


def test_marks_tied_with_the_101st_go() -> None:
    scores = np.array([0.9] * 98 + [0.5] * 5)
    assert strongest(scores).sum() == 98


def test_a_hit_beyond_the_hundred_best_is_missed() -> None:
    marks = [mark(500 + i, 0.9) for i in range(100)] + [mark(0, 0.1)]
    assert score([nodule(0)], marks).nodule_score.tolist() == [MISSED]


def test_the_limit_holds_for_each_scan_by_itself() -> None:
    marks = [mark(500, 0.9, scan=scan) for scan in ("1.1", "1.2") for _ in range(60)]
    assert len(score([], marks, scans=("1.1", "1.2")).false_score) == 120


def test_a_mark_on_a_scan_that_is_not_listed_is_an_error() -> None:
    with pytest.raises(LunaError, match=r"such as '1.10'.*among the 1 listed.*such as '1\.1'"):
        score([nodule(0)], [mark(0, scan="1.10")])


def test_a_scan_listed_twice_is_an_error() -> None:
    with pytest.raises(LunaError, match=r"'1\.1' is there more than once"):
        score([nodule(0)], [], scans=("1.1", "1.2", "1.1"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_is_an_error(value: float) -> None:
    with pytest.raises(LunaError, match=rf"detections: 1\.1: score {value}"):
        score([nodule(0)], [mark(0), mark(0, value)])


def test_a_place_that_is_no_number_is_an_error() -> None:
    with pytest.raises(LunaError, match=r"detections: 1\.1: score 0\.5 at \(nan"):
        score([nodule(0)], [mark(float("nan"))])


def test_a_nodule_without_a_size_is_an_error() -> None:
    with pytest.raises(LunaError, match=r"nodules: 1\.1: diameter nan"):
        score([nodule(0, diameter_mm=float("nan"))], [])


def test_an_excluded_finding_without_a_place_is_an_error() -> None:
    with pytest.raises(LunaError, match=r"excluded findings: 1\.1: diameter 10\.0 at \(inf"):
        score([], [], excluded=[nodule(float("inf"))])


def test_a_score_above_1_is_a_score() -> None:
    assert score([nodule(0)], [mark(0, 7.0)]).nodule_score.tolist() == [7.0]


def test_without_marks_every_nodule_is_missed() -> None:
    assert score([nodule(0), nodule(50)], []).nodule_score.tolist() == [MISSED, MISSED]


def test_without_marks_the_score_is_0() -> None:
    assert froc(score([nodule(0), nodule(50)], [])).cpm == 0.0


def test_without_nodules_there_is_no_score() -> None:
    with pytest.raises(LunaError, match=r"no nodule in 1 scan"):
        froc(score([], [mark(0)]))


def test_nodules_on_other_scans_alone_give_no_score() -> None:
    with pytest.raises(LunaError, match=r"no nodule in 1 scan"):
        froc(score([nodule(0, scan="9.9")], [mark(0)]))
