"""Both stages' opinions as one probability, worked out in odds and logits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2ch_luna.findings import Candidate, Detection
from p2ch_luna.inference.classify import Opinions
from p2ch_luna.inference.joint import (
    LOGIT_LIMIT,
    joint_probability,
    rescored,
    score,
    stage_logits,
)
from p2ch_luna.models.checkpoint import Calibration

FITTED = Calibration(segmentation=0.3, classifier=0.9, intercept=-3.0, operating_points=(), on="")
GRID = [0.0, 1e-9, 0.01, 0.3, 0.5, 0.9, 0.999, 1.0]


def detection(x: float, segmentation: float, classifier: float, probability: float = 0.5) -> Detection:
    return Detection("1.2.3", (x, 0.0, 0.0), probability, 5.0, 65.0, segmentation, classifier, 0.1)


def test_joint_probability_is_the_mean_of_the_logits() -> None:
    assert joint_probability(0.9, 0.5) == pytest.approx(0.75)  # odds 9 and 1: their geometric mean is 3


def test_certainty_of_one_stage_does_not_silence_the_other() -> None:
    assert 0 < joint_probability(1.0, 0.0) == pytest.approx(0.5)
    assert joint_probability(1.0, 0.1) < joint_probability(1.0, 0.9) < 1


def test_a_calibration_weighs_the_logits() -> None:
    # logits ln 9 and 0: 0.3 ln 9 - 3
    assert joint_probability(0.9, 0.5, FITTED) == pytest.approx(1 / (1 + math.exp(3 - 0.3 * math.log(9))))


def test_a_calibration_that_is_the_mean_changes_nothing() -> None:
    mean = FITTED.model_copy(update={"segmentation": 0.5, "classifier": 0.5, "intercept": 0.0})
    for a in GRID:
        for b in GRID:
            assert joint_probability(a, b, mean) == pytest.approx(joint_probability(a, b))


@pytest.mark.parametrize("calibration", [None, FITTED])
def test_more_of_one_stage_is_more_of_both(calibration: Calibration | None) -> None:
    said = [0.01, 0.3, 0.5, 0.9, 0.999]
    for fixed in GRID:
        as_segmentation = [joint_probability(p, fixed, calibration) for p in said]
        as_classifier = [joint_probability(fixed, p, calibration) for p in said]
        assert (np.diff(as_segmentation) > 0).all()
        assert (np.diff(as_classifier) > 0).all()


@pytest.mark.parametrize("calibration", [None, FITTED])
def test_it_is_a_probability_whatever_the_stages_say(calibration: Calibration | None) -> None:
    assert all(0 < joint_probability(a, b, calibration) < 1 for a in GRID for b in GRID)


def test_logits_stay_within_the_limit() -> None:
    assert stage_logits([0.0, 0.5], [1.0, 0.5]).tolist() == [[-LOGIT_LIMIT, LOGIT_LIMIT], [0.0, 0.0]]


def test_the_most_probable_comes_first() -> None:
    candidates = [Candidate("1.2.3", (float(k), 0.0, 0.0), 0.5, 10.0, 2.7) for k in range(3)]
    opinions = Opinions(np.float32([0.2, 0.9, 0.5]), np.float32([0, 0, 0]))
    assert [d.center_xyz[0] for d in score(candidates, opinions)] == [1.0, 2.0, 0.0]


def test_a_calibration_may_change_the_order() -> None:
    only_segmentation = FITTED.model_copy(update={"segmentation": 1.0, "classifier": 0.0})
    candidates = [Candidate("1.2.3", (float(k), 0.0, 0.0), p, 10.0, 2.7) for k, p in enumerate((0.2, 0.6))]
    opinions = Opinions(np.float32([0.99, 0.5]), np.float32([0, 0]))
    assert [d.center_xyz[0] for d in score(candidates, opinions)] == [0.0, 1.0]
    assert [d.center_xyz[0] for d in score(candidates, opinions, only_segmentation)] == [1.0, 0.0]


def test_rescored_detections_have_another_probability_and_order() -> None:
    found = rescored([detection(0.0, 0.9, 0.5), detection(1.0, 0.5, 0.9)], FITTED)
    assert [d.center_xyz[0] for d in found] == [1.0, 0.0]
    assert found[0].probability == joint_probability(0.5, 0.9, FITTED)
    assert (found[0].segmentation_probability, found[0].diameter_mm) == (0.5, 5.0)


def test_equals_stay_in_their_order() -> None:
    found = rescored([detection(float(k), 0.9, 0.5) for k in range(3)], None)
    assert [d.center_xyz[0] for d in found] == [0.0, 1.0, 2.0]
