"""What must not change the score, on cases that hypothesis makes up."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2ch_luna.findings import Nodule, Point
from p2ch_luna.metrics.froc import CPM_FP_PER_SCAN, Froc, bootstrap, froc
from p2ch_luna.metrics.matching import Outcome, score_detections

SCANS = ("1.1", "1.2", "1.3")
FAR = 500.0  # mm: nothing else lies there
always_alike = settings(max_examples=60, deadline=None, derandomize=True, database=None)


class Mark(NamedTuple):
    series_uid: str
    center_xyz: Point
    probability: float


class Case(NamedTuple):
    nodules: list[Nodule]
    excluded: list[Nodule]
    scans: tuple[str, ...]
    marks: list[Mark]


scores = st.integers(0, 8).map(lambda eighths: eighths / 8)  # so that ties are common
points = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda p: (float(p[0]), float(p[1]), 0.0))
diameters = st.sampled_from([-1.0, 3.0, 6.0, 10.0])
findings = st.builds(Nodule, st.sampled_from(SCANS), points, diameters)
marks = st.builds(Mark, st.sampled_from(SCANS), points, scores)
small_cases = st.builds(
    Case, st.lists(findings, min_size=1, max_size=6), st.lists(findings, max_size=6), st.just(SCANS),
    st.lists(marks, max_size=20),
)  # fmt: skip


@st.composite
def crowded_cases(draw: st.DrawFn) -> Case:
    """A small case and up to 110 marks more on the first scan: now and then the limit of 100 is met."""
    case = draw(small_cases)
    step = draw(st.integers(0, 8))
    crowd = [
        Mark(SCANS[0], (FAR + i, 0.0, 0.0), (i * step % 9) / 8) for i in range(draw(st.integers(0, 110)))
    ]
    return case._replace(marks=case.marks + crowd)


cases = st.one_of(small_cases, crowded_cases())


def curve(case: Case) -> Froc:
    return froc(score_detections(*case))


def points_of(froc: Froc) -> list[list[float]]:
    return [froc.fp_per_scan.tolist(), froc.sensitivity.tolist(), froc.threshold.tolist()]


@st.composite
def shuffled_rows(draw: st.DrawFn) -> tuple[Case, Case]:
    case = draw(cases)
    nodules, excluded, marks = (
        draw(st.permutations(rows)) for rows in (case.nodules, case.excluded, case.marks)
    )
    return case, Case(nodules, excluded, case.scans, marks)


@always_alike
@given(shuffled_rows())
def test_the_order_of_rows_changes_no_point(both: tuple[Case, Case]) -> None:
    assert points_of(curve(both[0])) == points_of(curve(both[1]))


@always_alike
@given(shuffled_rows())
def test_the_order_of_rows_changes_no_bound(both: tuple[Case, Case]) -> None:
    first, second = (
        bootstrap(score_detections(*case), np.random.default_rng(0), 20).at(CPM_FP_PER_SCAN) for case in both
    )
    assert [first.low.tolist(), first.high.tolist()] == [second.low.tolist(), second.high.tolist()]


@always_alike
@given(cases, st.permutations(SCANS))
def test_the_order_of_scans_changes_no_point(case: Case, scans: list[str]) -> None:
    assert points_of(curve(case)) == points_of(curve(case._replace(scans=tuple(scans))))


@always_alike
@given(small_cases, st.sampled_from(SCANS), scores)
def test_a_mark_on_an_excluded_finding_changes_no_point(case: Case, uid: str, score: float) -> None:
    excluded = [*case.excluded, Nodule(uid, (-FAR, 0.0, 0.0), 10.0)]
    more = [*case.marks, Mark(uid, (-FAR, 2.0, 0.0), score)]
    assert points_of(curve(case._replace(excluded=excluded, marks=more))) == points_of(curve(case))


@pytest.mark.parametrize("rising", [lambda p: 200 * p - 100, lambda p: p**3, np.exp, np.arctan])
def test_a_rising_map_of_the_scores_changes_thresholds_alone(rising: Callable[[float], float]) -> None:
    @always_alike
    @given(cases)
    def holds(case: Case) -> None:
        mapped = [mark._replace(probability=float(rising(mark.probability))) for mark in case.marks]
        fp_per_scan, sensitivity, threshold = points_of(curve(case))
        expected = [fp_per_scan, sensitivity, threshold[:1] + [float(rising(t)) for t in threshold[1:]]]
        assert points_of(curve(case._replace(marks=mapped))) == expected

    holds()


@always_alike
@given(small_cases, st.sampled_from(SCANS), scores)
def test_a_false_positive_raises_no_sensitivity(case: Case, uid: str, score: float) -> None:
    """Of scans within the limit of 100 marks; beyond it one can, see the second rule."""
    more = case._replace(marks=[*case.marks, Mark(uid, (FAR, FAR, 0.0), score)])
    rates = np.linspace(0, 10, 81)
    assert (curve(more).at(rates) <= curve(case).at(rates) + 1e-12).all()


@always_alike
@given(small_cases, st.sampled_from(SCANS), scores)
def test_a_false_positive_never_raises_cpm(case: Case, uid: str, score: float) -> None:
    more = case._replace(marks=[*case.marks, Mark(uid, (FAR, FAR, 0.0), score)])
    assert curve(more).cpm <= curve(case).cpm + 1e-12


@always_alike
@given(cases)
def test_nodules_have_the_score_of_their_mark(case: Case) -> None:
    outcome = score_detections(*case)
    named = [case.marks[i].probability if i >= 0 else -np.inf for i in outcome.nodule_mark]
    assert outcome.nodule_score.tolist() == named


@always_alike
@given(cases)
def test_false_positives_have_the_score_of_their_mark(case: Case) -> None:
    outcome = score_detections(*case)
    assert outcome.false_score.tolist() == [case.marks[i].probability for i in outcome.false_mark]


@always_alike
@given(cases)
def test_no_mark_is_a_hit_and_a_false_positive_too(case: Case) -> None:
    outcome = score_detections(*case)
    assert not set(outcome.nodule_mark.tolist()) & set(outcome.false_mark.tolist())


@always_alike
@given(cases)
def test_nodules_are_those_of_their_scan(case: Case) -> None:
    outcome: Outcome = score_detections(*case)
    named = [case.nodules[i].series_uid for i in outcome.nodule_index]
    assert named == [SCANS[number] for number in outcome.nodule_scan]
