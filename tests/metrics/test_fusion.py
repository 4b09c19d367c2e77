"""Fits whose answers are worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit

from p2ch_luna.metrics.fusion import Fusion, fit_fusion

LN3 = math.log(3)

# one opinion: at logit 0 one of four is positive (odds 1/3), at logit 2 three of four (odds 3)
QUARTERS = [1, 0, 0, 0, 1, 1, 1, 0]
OPINION = [[0.0]] * 4 + [[2.0]] * 4


def exact(weights: tuple[float, float], intercept: float) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Two opinions on a grid, each place once positive and once negative, as often as that logit says."""
    grid = np.array([[a, b] for a in (-4.0, 0.0, 3.0) for b in (-2.0, 1.0)])
    said = expit(grid @ weights + intercept)
    return [1] * len(grid) + [0] * len(grid), np.vstack([grid, grid]), np.concatenate([said, 1 - said])


def test_the_odds_of_one_opinion_come_true() -> None:
    found = fit_fusion(QUARTERS, OPINION, l2=0)
    assert found.intercept == pytest.approx(-LN3)
    assert found.weights == pytest.approx((LN3,))  # from -ln 3 to ln 3 over a logit of 2


def test_positives_that_count_half_move_the_intercept_alone() -> None:
    found = fit_fusion(QUARTERS, OPINION, np.where(QUARTERS, 0.5, 1.0), l2=0)
    assert found.intercept == pytest.approx(-LN3 - math.log(2))
    assert found.weights == pytest.approx((LN3,))


def test_a_sample_that_counts_twice_is_as_two() -> None:
    twice = fit_fusion([*QUARTERS, 1], [*OPINION, [2.0]], l2=0)
    assert fit_fusion(QUARTERS, OPINION, [1, 1, 1, 1, 2, 1, 1, 1], l2=0).weights == pytest.approx(
        twice.weights
    )


def test_two_opinions_are_told_apart() -> None:
    found = fit_fusion(*exact((0.4, 1.1), -2.5), l2=0)
    assert found.weights == pytest.approx((0.4, 1.1))
    assert found.intercept == pytest.approx(-2.5)
    assert found.dropped == ()


def test_the_joint_logit_is_the_weighted_sum() -> None:
    assert Fusion((0.5, 2.0), -1.0, ()).logit([[2.0, 3.0], [0.0, 0.0]]).tolist() == [6.0, -1.0]


def test_an_opinion_that_is_the_wrong_way_round_has_no_say() -> None:
    truth, x, counts = exact((0.8, -0.5), 0.0)
    found = fit_fusion(truth, x, counts, l2=0)
    assert found.dropped == (1,)
    assert found.weights[1] == 0
    assert found.weights[0] == pytest.approx(fit_fusion(truth, x[:, :1], counts, l2=0).weights[0])


def test_where_both_are_the_wrong_way_round_the_share_of_positives_is_left() -> None:
    truth, x, _ = exact((-1.0, -1.0), 0.0)
    found = fit_fusion(truth, x, exact((-1.0, -1.0), 0.0)[2], l2=0)
    assert (found.weights, found.dropped) == ((0.0, 0.0), (0, 1))


def test_more_of_any_opinion_is_never_less_probable() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, x = rng.random(40) < 0.3, rng.normal(size=(40, 2))
        assert min(fit_fusion(truth, x).weights) >= 0


def test_without_a_hint_the_weights_are_those_of_the_mean() -> None:
    found = fit_fusion([1, 0], [[0.0, 0.0], [0.0, 0.0]])
    assert found.weights == pytest.approx((0.5, 0.5))


def test_classes_that_a_threshold_tells_apart_have_finite_weights() -> None:
    found = fit_fusion([0, 0, 1, 1], [[-9.0, -9.0], [-8.0, -9.0], [8.0, 9.0], [9.0, 9.0]])
    assert 0.3 < min(found.weights) <= max(found.weights) < 1


def test_the_pull_is_small_beside_some_hundred_samples() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 2)) * 3
    truth = rng.random(500) < expit(x @ [0.2, 1.0] - 1)
    free, pulled = fit_fusion(truth, x, l2=0), fit_fusion(truth, x)
    assert pulled.weights == pytest.approx(free.weights, rel=0.02)


@pytest.mark.parametrize("truth", [[0, 0], [1, 1]])
def test_one_class_alone_is_refused(truth: list[int]) -> None:
    with pytest.raises(ValueError, match=f"both classes, got {sum(truth)} positive of 2"):
        fit_fusion(truth, [[0.0], [1.0]])


def test_a_class_that_counts_nothing_is_as_if_it_were_not_there() -> None:
    with pytest.raises(ValueError, match="both classes"):
        fit_fusion([0, 1], [[0.0], [1.0]], [1.0, 0.0])


def test_logits_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match="finite, got inf"):
        fit_fusion([0, 1], [[0.0], [np.inf]])


def test_samples_cannot_count_less_than_nothing() -> None:
    with pytest.raises(ValueError, match="0 times or more, got -1"):
        fit_fusion([0, 1], [[0.0], [1.0]], [1.0, -1.0])


def test_logits_are_a_table() -> None:
    with pytest.raises(ValueError, match=r"\(N, K\), got the shape \(2,\)"):
        fit_fusion([0, 1], [0.0, 1.0])
