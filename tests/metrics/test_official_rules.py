"""The ten rules of LUNA16's script, in its order: a case for each, its answer worked out beside it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule, Point
from p2ch_luna.io.tables import read_detections, read_nodules, read_series_uids
from p2ch_luna.metrics.froc import BOOTSTRAP_GRID, bootstrap, froc
from p2ch_luna.metrics.matching import Outcome, score_detections

MISSED = -np.inf


class Mark(NamedTuple):
    series_uid: str
    center_xyz: Point
    probability: float


def ball(x: float, diameter_mm: float = 10.0, scan: str = "1.1") -> Nodule:
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


def test_rule_1_ids_are_text_and_a_mark_on_another_scan_is_refused(tmp_path: Path) -> None:
    """The list has scan 0070, the submission scan 70, as a reader of numbers would write it: not the same."""
    (tmp_path / "truth.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n0070,1,2,3,8\n")
    (tmp_path / "scans.csv").write_text("0070\n")
    (tmp_path / "marks.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\n70,1,2,3,0.5\n")
    nodules, scans, marks = (
        read_nodules(tmp_path / "truth.csv"),
        read_series_uids(tmp_path / "scans.csv"),
        read_detections(tmp_path / "marks.csv"),
    )
    with pytest.raises(LunaError, match=r"'70', are not among the 1 listed.*'0070'"):
        score_detections(nodules, [], scans, marks)


def test_rule_2_101_tied_marks_leave_none() -> None:
    """All 101 have the score of the 101st, none is strictly above it: neither a hit nor a false positive."""
    outcome = score([ball(0)], [mark(0)] + [mark(500)] * 100)
    assert (outcome.nodule_score.tolist(), outcome.false_score.tolist()) == ([MISSED], [])


def test_rule_2_one_mark_more_can_take_false_positives_away() -> None:
    """100 marks, 99 of them tied: all count. One more of these: the 101st is tied with them, and only the hit
    stays. So a false positive can raise the score, which is the script's rule and not a slip of ours.
    """
    fewer = froc(score([ball(0)], [mark(0, 0.9)] + [mark(500)] * 99))
    more = froc(score([ball(0)], [mark(0, 0.9)] + [mark(500)] * 100))
    assert (fewer.fp_per_scan[-1], more.fp_per_scan[-1]) == (99.0, 0.0)


def test_rule_3_the_surface_is_outside_and_a_negative_diameter_is_10_mm() -> None:
    """5 mm from both centres is the radius of 10 mm, no hit; 4.9 mm is one. -1 counts as 10."""
    outcome = score([ball(0), ball(100, -1.0)], [mark(5), mark(4.9, 0.4), mark(105), mark(104.9, 0.3)])
    assert (outcome.nodule_score.tolist(), outcome.false_score.tolist()) == ([0.4, 0.3], [0.5, 0.5])


def test_rule_4_a_double_hit_counts_once_and_with_its_highest_score() -> None:
    """0.2 and 0.9 both lie inside: the nodule has 0.9, and 0.2 is no false positive."""
    outcome = score([ball(0)], [mark(1, 0.2), mark(-1, 0.9)])
    assert (outcome.nodule_score.tolist(), outcome.false_score.tolist()) == ([0.9], [])


def test_rule_4_one_mark_hits_two_nodules() -> None:
    """At 3 mm it is 3 mm from the one centre and 3 mm from the other: both are found with its score."""
    assert score([ball(0), ball(6)], [mark(3, 0.6)]).nodule_score.tolist() == [0.6, 0.6]


def test_rule_5_a_missed_nodule_stays_in_the_denominator() -> None:
    """1 of 4 nodules is found and nothing is false: 1/4 at every rate, so CPM is 1/4."""
    assert froc(score([ball(0), ball(50), ball(100), ball(150)], [mark(0)])).cpm == 0.25


def test_rule_6_a_mark_on_an_excluded_finding_is_dropped() -> None:
    """The mark at 50 is on it; 0 is a hit. No false positive is left and the only nodule is found: CPM 1."""
    assert froc(score([ball(0)], [mark(0, 0.4), mark(50, 0.9)], excluded=[ball(50)])).cpm == 1.0


def test_rule_6_a_nodule_goes_before_an_excluded_finding() -> None:
    """The mark is inside both: it is a hit."""
    assert score([ball(0)], [mark(0)], excluded=[ball(0)]).nodule_score.tolist() == [0.5]


def test_rule_7_all_other_marks_are_false_positives() -> None:
    """20 is on nothing; 0 on scan 1.2 is on the nodule of another scan."""
    outcome = score([ball(0)], [mark(0, 0.9), mark(20, 0.7), mark(0, 0.6, "1.2")], scans=("1.1", "1.2"))
    assert outcome.false_score.tolist() == [0.7, 0.6]


def test_rule_8_scans_without_marks_and_nodules_count() -> None:
    """One false positive in 4 listed scans, of which 3 have nothing at all: 1/4 a scan."""
    curve = froc(score([ball(0)], [mark(50)], scans=("1.0", "1.1", "1.2", "1.3")))
    assert curve.fp_per_scan.tolist() == [0, 0.25]


def test_rule_8_the_score_depends_on_which_scans_are_listed() -> None:
    """2 false positives are above the only hit. In 2 scans that is 1 a scan: it is found at 1, 2, 4 and 8, so
    at 4 of the 7 rates. With 6 more scans, on which nothing was marked, it is 1/4: 6 of the 7 rates.
    """
    marks = [mark(50, 0.9), mark(50, 0.8, "1.2"), mark(0, 0.5)]
    scans = ("1.1", "1.2", *(f"2.{i}" for i in range(6)))
    cpms = [froc(score([ball(0)], marks, scans=listed)).cpm for listed in (scans[:2], scans)]
    assert cpms == pytest.approx([4 / 7, 6 / 7])


def test_rule_9_cpm_is_interpolated_from_0_0() -> None:
    """Hit and false positive are tied: a line from (0, 0) to (1, 1). It is at 1/8, 1/4, 1/2 and 1 there,
    and level after: (1/8 + 1/4 + 1/2 + 1 + 1 + 1 + 1) / 7 = 4.875 / 7.
    """
    assert froc(score([ball(0)], [mark(0), mark(50)])).cpm == pytest.approx(4.875 / 7)


class Draws(np.random.Generator):
    """Draws the scans that it is told."""

    def __init__(self, times_drawn: list[list[int]]) -> None:
        super().__init__(np.random.PCG64(0))
        self.times_drawn = np.array(times_drawn)

    def multinomial(self, *_args: object, **_kwargs: object) -> NDArray[np.int64]:  # type: ignore[override]
        return self.times_drawn


def test_rule_10_bounds_are_the_scores_at_floor_of_p_times_n() -> None:
    """The nodule of scan 1.1 is found, that of 1.2 missed. Of 40 resamples one has 1.1 twice (1), one 1.2
    twice (0), 38 have both (1/2). Sorted: 0, 38 times 1/2, 1.
    floor(0.025 * 40) = 1 and floor(0.975 * 40) = 39.
    """
    outcome = score([ball(0), ball(0, scan="1.2")], [mark(0)], scans=("1.1", "1.2"))
    interval = bootstrap(outcome, Draws([[2, 0], [0, 2]] + [[1, 1]] * 38), 40)
    assert [float(interval.cpm.low), float(interval.cpm.high)] == [0.5, 1.0]


def test_rule_10_the_grid_has_10000_points_from_an_eighth_to_8() -> None:
    assert (len(BOOTSTRAP_GRID), BOOTSTRAP_GRID[0], BOOTSTRAP_GRID[-1]) == (10000, 0.125, 8.0)


def test_without_false_positives_the_share_found_is_the_score() -> None:
    """2 of 3 found, no false positive: the curve is (0, 0), (0, 1/3), (0, 2/3) and level from there."""
    assert froc(score([ball(0), ball(50), ball(99)], [mark(0, 0.9), mark(50)])).cpm == pytest.approx(2 / 3)
