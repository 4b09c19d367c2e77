import math

import numpy as np
import pytest

from p2ch_luna.metrics.binary import roc_auc


def test_perfect_order_is_1() -> None:
    assert roc_auc([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]) == 1.0


def test_reversed_order_is_0() -> None:
    assert roc_auc([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4]) == 0.0


def test_one_pair_of_four_wrong_is_three_quarters() -> None:
    assert roc_auc([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4]) == 0.75


def test_a_tie_counts_half() -> None:
    assert roc_auc([0, 1, 1], [0.5, 0.5, 0.9]) == 0.75


def test_equal_scores_are_chance() -> None:
    assert roc_auc([0, 1, 0, 1, 1], [0.3] * 5) == 0.5


def test_it_is_the_share_of_pairs_won() -> None:
    rng = np.random.default_rng(0)
    is_positive, score = rng.random(60) < 0.3, rng.integers(0, 10, 60)
    difference = score[is_positive][:, None] - score[~is_positive][None]
    expected = ((difference > 0) + 0.5 * (difference == 0)).mean()
    assert roc_auc(is_positive, score) == pytest.approx(expected)


@pytest.mark.parametrize("is_positive", [[0, 0], [1, 1], []])
def test_one_class_alone_has_no_auc(is_positive: list[int]) -> None:
    assert math.isnan(roc_auc(is_positive, [0.5] * len(is_positive)))


def test_nan_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        roc_auc([0, 1], [0.5, float("nan")])


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        roc_auc([0, 1], [0.1, 0.2, 0.3])
