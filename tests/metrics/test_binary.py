import math

import numpy as np
import pytest

from p2ch_luna.metrics.binary import at_threshold, average_precision, roc_auc, roc_curve


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


def test_the_roc_curve_climbs_with_positives_and_runs_with_negatives() -> None:
    rate, sensitivity = roc_curve([1, 0, 1, 0], [0.9, 0.7, 0.6, 0.2])
    assert list(zip(rate, sensitivity, strict=True)) == [(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)]


def test_tied_scores_are_one_point_of_the_roc_curve() -> None:
    rate, sensitivity = roc_curve([1, 0, 0, 1], [0.5, 0.5, 0.1, 0.9])
    assert list(zip(rate, sensitivity, strict=True)) == [(0, 0), (0, 0.5), (0.5, 1), (1, 1)]


def test_the_order_of_samples_does_not_change_the_roc_curve() -> None:
    there, back = roc_curve([1, 0, 0], [0.3, 0.3, 0.8]), roc_curve([0, 0, 1], [0.8, 0.3, 0.3])
    np.testing.assert_array_equal(there, back)


def test_the_auc_is_the_area_under_the_roc_curve() -> None:
    rng = np.random.default_rng(1)
    is_positive, score = rng.random(80) < 0.4, rng.integers(0, 12, 80)
    rate, sensitivity = roc_curve(is_positive, score)
    area = (np.diff(rate) * (sensitivity[1:] + sensitivity[:-1]) / 2).sum()
    assert area == pytest.approx(roc_auc(is_positive, score))


def test_the_rate_of_an_absent_class_is_nan() -> None:
    rate, sensitivity = roc_curve([1, 1], [0.2, 0.4])
    assert np.isnan(rate).all()
    assert sensitivity.tolist() == [0, 0.5, 1]


def test_at_a_threshold_those_on_it_and_above_are_called() -> None:
    # called are 0.9, 0.8, 0.5 and 0.5: 3 of the 4 positives, and one other
    found = at_threshold([1, 1, 0, 1, 1, 0], [0.9, 0.8, 0.5, 0.5, 0.4, 0.1], 0.5)
    assert found == (0.75, 0.75, 0.75)


def test_f1_is_the_harmonic_mean_of_precision_and_sensitivity() -> None:
    found = at_threshold([1, 1, 1, 1, 0, 0], [0.9, 0.1, 0.1, 0.1, 0.9, 0.1], 0.5)
    assert (found.sensitivity, found.precision) == (0.25, 0.5)
    assert found.f1 == pytest.approx(2 / (1 / 0.25 + 1 / 0.5))


def test_without_a_positive_only_sensitivity_is_undefined() -> None:
    found = at_threshold([0, 0], [0.9, 0.1], 0.5)
    assert math.isnan(found.sensitivity)
    assert (found.precision, found.f1) == (0, 0)


def test_with_nobody_called_only_precision_is_undefined() -> None:
    found = at_threshold([1, 0], [0.2, 0.1], 0.5)
    assert math.isnan(found.precision)
    assert (found.sensitivity, found.f1) == (0, 0)


def test_f1_of_nothing_is_undefined() -> None:
    assert math.isnan(at_threshold([], [], 0.5).f1)


def test_average_precision_is_the_precision_at_each_positive() -> None:
    # positives are the 1st, 3rd and 4th: precision 1, 2/3 and 3/4
    found = average_precision([1, 0, 1, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.5])
    assert found == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_tied_scores_are_one_step_of_the_precision() -> None:
    # one positive alone, then two of four at once: 3 hits of 5
    assert average_precision([1, 1, 1, 0, 0], [0.9, 0.5, 0.5, 0.5, 0.5]) == pytest.approx((1 + 2 * 3 / 5) / 3)


def test_equal_scores_have_the_share_of_positives_as_precision() -> None:
    assert average_precision([1, 0, 0, 0], [0.5] * 4) == 0.25


def test_the_order_of_samples_does_not_change_the_average_precision() -> None:
    rng = np.random.default_rng(2)
    is_positive, score, order = rng.random(60) < 0.3, rng.integers(0, 9, 60), rng.permutation(60)
    assert average_precision(is_positive, score) == average_precision(is_positive[order], score[order])


def test_a_perfect_order_has_precision_throughout() -> None:
    assert average_precision([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]) == 1.0


def test_positives_alone_have_precision_throughout() -> None:
    assert average_precision([1, 1], [0.1, 0.2]) == 1.0


@pytest.mark.parametrize("is_positive", [[0, 0], []])
def test_without_a_positive_there_is_no_average_precision(is_positive: list[int]) -> None:
    assert math.isnan(average_precision(is_positive, [0.5] * len(is_positive)))
