"""What an evaluation says of two scans that are scored by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.io.tables import ScoredPoint
from p2ch_luna.report.evaluation.schema import Fate, Score
from p2ch_luna.report.evaluation.scores import (
    Truth,
    differences_of,
    judge,
    score_of,
    size_name,
    texture_of,
    threshold_at,
    wilson,
)


@pytest.fixture(scope="module")
def score(truth: Truth, marks: list[ScoredPoint]) -> Score:
    return score_of(judge("a.csv", truth, marks, seed=0), truth)


def test_the_threshold_is_the_score_at_which_one_false_positive_a_scan_is_reached(score: Score) -> None:
    assert score.threshold == 0.4


def test_the_confusion_table(score: Score) -> None:
    assert score.confusion == (
        Fate(kind="malignant", missed=0, filtered_out=0, found=1),
        Fate(kind="benign", missed=1, filtered_out=0, found=0),
        Fate(kind="indeterminate or unrated", missed=1, filtered_out=1, found=0),
        Fate(kind="non-nodule", missed=None, filtered_out=1, found=2),
    )


def test_missed_nodules_are_named_the_largest_first(score: Score) -> None:
    named = [(n.series_uid, n.center_lps_mm, n.diameter_mm, n.probability) for n in score.missed_nodules]
    assert named == [("1.2.1", (0.0, 0.0, 0.0), 5.0, None), ("1.2.2", (0.0, 90.0, 0.0), 2.0, None)]


def test_a_filtered_nodule_has_the_score_of_its_best_mark(score: Score) -> None:
    assert [(n.diameter_mm, n.texture, n.probability) for n in score.filtered_nodules] == [(25.0, 3.0, 0.2)]


def test_false_positives_are_named_the_strongest_first(score: Score) -> None:
    named = [
        (m.rank, m.series_uid, m.center_lps_mm[0], m.probability) for m in score.strongest_false_positives
    ]
    assert named == [(1, "1.2.1", -70.0, 0.8), (2, "1.2.1", -80.0, 0.4), (3, "1.2.2", 90.0, 0.3)]


def test_only_the_50_strongest_are_named(truth: Truth, marks: list[ScoredPoint]) -> None:
    marks = [marks[0]._replace(probability=k / 100) for k in range(60)]
    named = score_of(judge("a.csv", truth, marks, seed=0), truth).strongest_false_positives
    assert [m.probability for m in named] == [k / 100 for k in range(59, 9, -1)]


def test_every_size_has_its_band(score: Score) -> None:
    bands = [(b.name, b.from_mm, b.below_mm, b.nodules, b.sensitivity) for b in score.sizes]
    assert bands == [
        ("below 3 mm", 0.0, 3.0, 1, 0.0),
        ("3-6 mm", 3.0, 6.0, 1, 0.0),
        ("6-10 mm", 6.0, 10.0, 1, 1.0),
        ("from 20 mm", 20.0, None, 1, 1.0),
    ]


def test_sensitivity_by_texture(score: Score) -> None:
    groups = [(g.name, g.nodules, g.sensitivity) for g in score.textures]
    assert groups == [("ground glass", 1, 0.0), ("part-solid", 1, 1.0), ("solid", 1, 1.0)]


def test_sensitivity_by_malignancy_leaves_out_who_is_not_rated(score: Score) -> None:
    groups = [(g.name, g.nodules, g.sensitivity) for g in score.malignancies]
    assert groups == [("benign", 1, 0.0), ("indeterminate", 1, 1.0), ("malignant", 1, 1.0)]


def test_the_counts_of_sizes_add_up(truth: Truth) -> None:
    """Tied with the step from 0 to 8 false positives a scan: half of it is at 4, none at the threshold."""
    false = [ScoredPoint("1.2.1", (-70.0 - k, 0.0, 0.0), 0.5) for k in range(16)]
    hits = [ScoredPoint("1.2.1", (50.0, 0.0, 0.0), 0.5), ScoredPoint("1.2.2", (0.0, 0.0, 0.0), 0.9)]
    sizes = score_of(judge("a.csv", truth, [*false, *hits], seed=0), truth).sizes
    assert [group.sensitivity * group.nodules for group in sizes] == [0.0, 0.0, 0.0, 1.0]


def test_nobody_rated_is_no_group(truth: Truth, marks: list[ScoredPoint]) -> None:
    plain = Truth([Nodule(n.series_uid, n.center_xyz, n.diameter_mm) for n in truth.nodules], [], truth.scans)
    score = score_of(judge("a.csv", plain, marks, seed=0), plain)
    assert score.textures == score.malignancies == ()
    assert [fate.found for fate in score.confusion] == [0, 0, 1, 2]


def test_without_marks_all_is_missed(truth: Truth) -> None:
    score = score_of(judge("a.csv", truth, [], seed=0), truth)
    assert (score.cpm, score.missed, score.threshold) == (0.0, 4, None)
    assert [(fate.missed, fate.found) for fate in score.confusion] == [(1, 0), (1, 0), (2, 0), (None, 0)]


def test_without_false_positives_every_mark_counts(truth: Truth, marks: list[ScoredPoint]) -> None:
    score = score_of(judge("a.csv", truth, [marks[1], marks[4]], seed=0), truth)
    assert score.threshold == 0.2
    assert score.filtered_nodules == ()


def test_nodules_left_out_by_the_list_of_scans_keep_the_others_names(
    truth: Truth, marks: list[ScoredPoint]
) -> None:
    """The first nodule of the list is on a scan that is not listed."""
    own = Truth([Nodule("9.9", (0.0, 0.0, 0.0), 30.0), *truth.nodules], [], truth.scans)
    named = score_of(judge("a.csv", own, marks, seed=0), own).missed_nodules
    assert [(n.series_uid, n.center_lps_mm) for n in named] == [
        ("1.2.1", (0.0, 0.0, 0.0)),
        ("1.2.2", (0.0, 90.0, 0.0)),
    ]


def test_one_scan_has_no_interval(truth: Truth, marks: list[ScoredPoint]) -> None:
    own = Truth(truth.nodules[:2], [], ["1.2.1"])
    score = score_of(judge("a.csv", own, marks[1:4], seed=0), own)
    assert score.cpm_95 is None
    assert {point.sensitivity_95 for point in score.froc} == {None}


def test_smaller_nodules_become_excluded(truth: Truth) -> None:
    own = truth.from_diameter(6.0)
    assert [n.diameter_mm for n in own.nodules] == [8.0, 25.0]
    assert [n.diameter_mm for n in own.excluded] == [5.0, 2.0]


def test_a_diameter_that_nobody_measured_counts_as_10_mm(truth: Truth) -> None:
    unmeasured = replace(truth.nodules[0], diameter_mm=-1.0)
    assert Truth([unmeasured], [], ["1.2.1"]).from_diameter(10.0).nodules == [unmeasured]
    own = Truth([unmeasured], [], truth.scans)
    assert score_of(judge("a.csv", own, [], seed=0), own).missed_nodules[0].diameter_mm == 10.0


def test_an_empty_truth_is_refused(truth: Truth, marks: list[ScoredPoint]) -> None:
    with pytest.raises(LunaError, match=r"no nodule in 2 scan\(s\)"):
        judge("a.csv", Truth([], [], truth.scans), marks, seed=0)


def test_a_submission_does_not_differ_from_itself(truth: Truth, marks: list[ScoredPoint]) -> None:
    same = [judge(name, truth, marks, seed=0) for name in ("a.csv", "b.csv")]
    (difference,) = differences_of(same, seed=0)
    assert (difference.cpm, difference.cpm_95, difference.p) == (0.0, (0.0, 0.0), 1.0)


def test_a_difference_is_the_second_minus_the_first(truth: Truth, marks: list[ScoredPoint]) -> None:
    results = [judge("a.csv", truth, [], seed=0), judge("b.csv", truth, [marks[1]], seed=0)]
    (difference,) = differences_of(results, seed=0)  # 1 of 4 nodules more, at every rate
    assert difference.cpm == pytest.approx(0.25)
    assert [point.sensitivity for point in difference.froc] == pytest.approx([0.25] * 7)


def test_one_submission_has_no_difference(truth: Truth, marks: list[ScoredPoint]) -> None:
    assert differences_of([judge("a.csv", truth, marks, seed=0)], seed=0) == []


def test_threshold_of_a_rate_between_two_points_is_that_of_the_lower(
    truth: Truth, marks: list[ScoredPoint]
) -> None:
    curve = judge("a.csv", truth, marks, seed=0).curve
    assert [threshold_at(curve, rate) for rate in (0.4, 0.5, 0.99, 1.5)] == [0.9, 0.8, 0.8, 0.2]
    assert threshold_at(judge("a.csv", truth, [], seed=0).curve, 1.0) == math.inf


def test_wilson_as_published() -> None:
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611."""
    np.testing.assert_allclose(wilson(81 / 263, 263), (0.2553, 0.3662), atol=5e-5)
    np.testing.assert_allclose(wilson(0.0, 20), (0.0, 0.1611), atol=5e-5)


@pytest.mark.parametrize(
    ("rating", "name"),
    [(None, None), (1.0, "ground glass"), (2.0, "ground glass"), (2.25, "part-solid"), (4.0, "solid")],
)
def test_texture_by_the_mean_of_the_ratings(rating: float | None, name: str | None) -> None:
    assert texture_of(rating) == name


def test_sizes_have_names() -> None:
    assert [size_name(0, 3), size_name(6, 10), size_name(20, math.inf)] == [
        "below 3 mm",
        "6-10 mm",
        "from 20 mm",
    ]


def test_an_unknown_key_is_refused(score: Score) -> None:
    with pytest.raises(ValidationError, match="verdict"):
        Score.model_validate(json.loads(score.model_dump_json()) | {"verdict": "good"})
