"""What is proposed and how well each stage judges it, counted by hand."""

from __future__ import annotations

import pytest

from p2ch_luna.datasets.benchmark import Implanted
from p2ch_luna.findings import Detection, Nodule
from p2ch_luna.report.benchmark.parts import Part
from p2ch_luna.report.benchmark.stages import stages_of


def part(uid: str, nodules: dict[float, float], marks: list[tuple[float, float, float]]) -> Part:
    """nodules: place along x and diameter.    marks: place along x, the segmentation's and classifier's word.

    Their joint probability is the mean. A finding of 10 mm at x = 900 is excluded.
    """
    return Part(
        key="k",
        host="H",
        series_uid=uid,
        is_kept=False,
        implanted=tuple(
            Implanted("L", Nodule(uid, (x, 0.0, 0.0), d), None, None) for x, d in nodules.items()
        ),
        excluded=(Nodule(uid, (900.0, 0.0, 0.0), 10.0),),
        detections=tuple(
            Detection(uid, (x, 0.0, 0.0), (s + c) / 2, 5.0, 65.0, s, c, 0.1) for x, s, c in marks
        ),
        warnings=(),
        seconds=1.0,
    )


@pytest.fixture
def parts() -> list[Part]:
    """A: one nodule of 8 mm hit twice, one of 3 mm not, a false mark and one on the excluded finding.

    B: one nodule of 4 mm, hit, and two false marks.
    """
    return [
        part("A", {0: 8, 100: 3}, [(0, 0.9, 0.9), (1, 0.5, 0.8), (300, 0.6, 0.2), (901, 0.99, 0.99)]),
        part("B", {0: 4}, [(1, 0.4, 0.7), (300, 0.2, 0.75), (400, 0.1, 0.1)]),
    ]


def test_candidates_are_counted_by_what_they_hit(parts: list[Part]) -> None:
    stages = stages_of(parts)
    assert (stages.candidates_per_scan, stages.on_nodules, stages.on_nothing) == (3.5, 3, 3)


def test_a_nodule_is_proposed_if_any_candidate_hits_it(parts: list[Part]) -> None:
    """A hit at 1 mm from the centre of a nodule of 4 mm is inside; the one of 3 mm is in `all` alone."""
    groups = {one.name: (one.nodules, one.proposed, one.share) for one in stages_of(parts).proposed}
    assert groups == {"from 4 mm": (2, 2, 1.0), "all": (3, 2, pytest.approx(2 / 3))}


def test_more_than_a_hundred_marks_propose_too() -> None:
    crowd = part("C", {0: 8}, [*((500 + 20 * k, 0.9, 0.9) for k in range(120)), (0, 0.1, 0.1)])
    assert stages_of([crowd]).proposed[1].proposed == 1


def test_each_probability_is_judged_by_the_pairs_it_wins(parts: list[Part]) -> None:
    """On nodules: 0.9, 0.5, 0.4 against 0.6, 0.2, 0.1: 3 + 2 + 2 of 9 pairs by the segmentation; 0.9, 0.8,
    0.7 against 0.2, 0.75, 0.1: 3 + 3 + 2 by the classifier; 0.9, 0.65, 0.55 against 0.4, 0.475, 0.1: all.
    """
    auc = {name: one.auc for name, one in stages_of(parts).auc.items()}
    assert auc == {
        "segmentation": pytest.approx(7 / 9), "classifier": pytest.approx(8 / 9), "joint": 1.0
    }  # fmt: skip


def test_without_a_candidate_of_one_kind_there_is_no_auc() -> None:
    stages = stages_of([part("A", {0: 8}, [(0, 0.9, 0.9)])])
    assert {(one.auc, one.auc_95) for one in stages.auc.values()} == {(None, None)}


def test_without_a_candidate_nothing_is_proposed() -> None:
    stages = stages_of([part("A", {0: 8}, [])])
    assert (stages.candidates_per_scan, stages.proposed[0].proposed) == (0, 0)


def test_a_group_without_a_nodule_is_left_out() -> None:
    assert [one.name for one in stages_of([part("A", {0: 3}, [])]).proposed] == ["all"]
