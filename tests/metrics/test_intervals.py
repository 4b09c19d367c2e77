"""Intervals worked out by hand, and against DeLong's sums over all pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from p2ch_luna.metrics.binary import roc_auc
from p2ch_luna.metrics.intervals import (
    auc_with_interval,
    bootstrap_by_patient,
    compare_auc,
    paired_difference,
    sensitivity_at_specificity,
)

Z = 1.959964  # 97.5 % of a normal distribution lie below it


def samples(negatives: ArrayLike, positives: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    scores = np.concatenate([np.asarray(negatives, float), np.asarray(positives, float)])
    return np.arange(len(scores)) >= len(np.asarray(negatives)), scores


def drawn(seed: int) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Truth, and two scores with ties that know a little of it and of each other."""
    rng = np.random.default_rng(seed)
    positive = rng.permutation(np.arange(rng.integers(8, 60)) < rng.integers(3, 7))
    common = rng.integers(0, 6, len(positive))
    first, second = (common + rng.integers(0, 8, len(positive)) + 2 * positive for _ in range(2))
    return positive, first, second


def pair_wins(positive: NDArray[np.bool_], score: NDArray[np.int64]) -> NDArray[np.float64]:
    """(M, N): 1 where a positive is above a negative, 1/2 where they are equal."""
    gap = score[positive][:, None] - score[~positive][None]
    return (gap > 0) + 0.5 * (gap == 0)


def pairwise_covariance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Equations 4 to 6 of DeLong et al., as they are written, of two tables of pairs."""
    m, n = a.shape
    s10 = sum((a[i].mean() - a.mean()) * (b[i].mean() - b.mean()) for i in range(m)) / (m - 1)
    s01 = sum((a[:, j].mean() - a.mean()) * (b[:, j].mean() - b.mean()) for j in range(n)) / (n - 1)
    return float(s10 / m + s01 / n)


def test_an_interval_worked_out_by_hand() -> None:
    # of the negatives 1, 3, 5 the positives 2 and 4 are above 1/3 and 2/3: variance 1/18
    # of the positives 2, 1 and 0 of 2 are above them: variance 1/4; 1/18 / 2 + 1/4 / 3 = 1/9, error 1/3
    found = auc_with_interval(*samples([1, 3, 5], [2, 4]))
    reach = Z * (1 / 3) / (0.5 * 0.5)  # on the logit's scale, from 0
    assert found == pytest.approx((0.5, 1 / (1 + math.exp(reach)), 1 / (1 + math.exp(-reach))), rel=1e-6)


def test_the_ratings_of_hanley_and_mcneil_have_the_error_that_stata_prints_for_them() -> None:
    # Radiology 1982, table I: 58 normal and 51 abnormal CTs, rated 1 to 5; `roctab`: 0.8932, error 0.0307
    ratings = np.arange(1, 6)
    found = auc_with_interval(
        *samples(np.repeat(ratings, [33, 6, 6, 11, 2]), np.repeat(ratings, [3, 2, 2, 11, 33]))
    )
    logits = np.log(np.array(found) / (1 - np.array(found)))
    error = (logits[2] - logits[0]) / Z * found.value * (1 - found.value)
    assert (found.value, error) == pytest.approx((0.8932, 0.0307), abs=5e-5)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_delongs_variance_over_all_pairs(seed: int) -> None:
    positive, score, _ = drawn(seed)
    wins = pair_wins(positive, score)
    auc, error = wins.mean(), math.sqrt(pairwise_covariance(wins, wins))
    middle, reach = math.log(auc / (1 - auc)), Z * error / (auc * (1 - auc))
    expected = (auc, expit(middle - reach), expit(middle + reach))
    assert auc_with_interval(positive, score) == pytest.approx(expected, rel=1e-5)


def test_a_wider_confidence_is_a_wider_interval() -> None:
    positive, score, _ = drawn(3)
    narrow, wide = (auc_with_interval(positive, score, confidence) for confidence in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_the_interval_stays_within_0_and_1() -> None:
    found = auc_with_interval(*samples([1, 2, 3, 4, 5], [4.5, 9, 9]))
    assert 0 < found.low < found.value < found.high < 1


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(0), 0
    truth = 0.7602  # of normal scores one standard deviation apart: Phi(1 / sqrt(2))
    for _ in range(1000):
        found = auc_with_interval(*samples(rng.normal(0, 1, 60), rng.normal(1, 1, 30)))
        held += found.low <= truth <= found.high
    assert 930 <= held <= 970


def test_a_perfect_order_is_as_sure_as_its_separate_pairs() -> None:
    # 4 pairs without a common sample, each won with a chance of 0.3976, are all won in 2.5 % of cases
    found = auc_with_interval(*samples([1, 2, 3, 4, 5], [6, 7, 8, 9]))
    assert found == pytest.approx((1.0, 0.025**0.25, 1.0))


def test_a_reversed_order_is_the_mirror_of_a_perfect_one() -> None:
    assert auc_with_interval(*samples([6, 7], [1, 2, 3])) == pytest.approx((0.0, 0.0, 1 - 0.025**0.5))


def test_equal_scores_tell_nothing_of_the_spread() -> None:
    found = auc_with_interval(*samples([1, 1, 1], [1, 1]))
    np.testing.assert_array_equal(found, (0.5, np.nan, np.nan))


@pytest.mark.parametrize("is_positive", [[0, 0], [1, 1], []])
def test_without_one_class_there_is_no_interval(is_positive: list[int]) -> None:
    assert np.isnan(auc_with_interval(is_positive, [0.5] * len(is_positive))).all()


def test_one_positive_has_an_auc_and_no_bounds() -> None:
    found = auc_with_interval(*samples([1, 3], [2]))
    assert found.value == 0.5
    assert np.isnan(found[1:]).all()


def test_a_difference_worked_out_by_hand() -> None:
    # first: of 0, 2 the positives 1 and 3 are above 1/2 and 1; above the negatives are 1 and 1/2: AUC 3/4
    # second: negatives 2, 1 and positives 0, 3: the positives 0 and 1, the negatives 1/2 and 1/2: AUC 1/2
    # differences 1/2, 0 and 1/2, 0: each of variance 1/8; 1/8 / 2 + 1/8 / 2 = 1/8
    found = compare_auc([0, 0, 1, 1], [0, 2, 1, 3], [2, 1, 0, 3])
    error = math.sqrt(1 / 8)
    p = math.erfc(0.25 / error / math.sqrt(2))
    assert found == pytest.approx((0.25, 0.25 - Z * error, 0.25 + Z * error, p), rel=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_the_difference_has_delongs_covariance_over_all_pairs(seed: int) -> None:
    positive, first, second = drawn(seed)
    a, b = pair_wins(positive, first), pair_wins(positive, second)
    variance = pairwise_covariance(a, a) + pairwise_covariance(b, b) - 2 * pairwise_covariance(a, b)
    difference, reach = a.mean() - b.mean(), Z * math.sqrt(variance)
    p = math.erfc(abs(difference) / math.sqrt(2 * variance))
    expected = (difference, max(-1, difference - reach), min(1, difference + reach), p)
    assert compare_auc(positive, first, second) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_a_score_does_not_differ_from_itself() -> None:
    positive, score, _ = drawn(1)
    assert compare_auc(positive, score, score) == (0, 0, 0, 1)


def test_scores_of_one_order_do_not_differ() -> None:
    positive, score, _ = drawn(2)
    assert compare_auc(positive, score, np.exp(score / 3)) == (0, 0, 0, 1)


def test_exchanged_scores_have_the_opposite_difference() -> None:
    positive, first, second = drawn(4)
    there, back = compare_auc(positive, first, second), compare_auc(positive, second, first)
    assert back == pytest.approx((-there.difference, -there.high, -there.low, there.p))


def test_under_no_difference_p_is_uniform() -> None:
    rng = np.random.default_rng(1)
    p = []
    for _ in range(600):
        positive, common = np.arange(120) < 40, rng.normal(0, 1, 120)
        first, second = (common + positive + rng.normal(0, 1, 120) for _ in range(2))
        p.append(compare_auc(positive, first, second).p)
    shares = np.mean(np.array(p)[:, None] < [0.05, 0.25, 0.5, 0.75], axis=0)
    np.testing.assert_allclose(shares, [0.05, 0.25, 0.5, 0.75], atol=0.06)
    assert shares[0] < 0.08


def test_the_interval_of_a_difference_stays_within_1() -> None:
    found = compare_auc([0, 0, 1, 1], [1, 2, 3, 4], [3, 2, 4, 1])
    assert (found.difference, found.high) == (0.5, 1.0)
    assert -1 <= found.low < 0.5


def test_a_difference_without_any_spread_has_no_p() -> None:
    found = compare_auc([0, 0, 1, 1], [1, 2, 3, 4], [5, 5, 5, 5])
    assert found.difference == 0.5
    assert np.isnan(found[1:]).all()


@pytest.mark.parametrize("is_positive", [[0, 0], [1, 1], []])
def test_without_one_class_there_is_no_difference(is_positive: list[int]) -> None:
    score = [0.5] * len(is_positive)
    assert np.isnan(compare_auc(is_positive, score, score)).all()


def test_scores_of_other_samples_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        compare_auc([0, 1], [0.1, 0.2], [0.1, 0.2, 0.3])


def mean(values: NDArray[np.float64]) -> float:
    return float(np.mean(values))


def test_the_samples_of_a_patient_are_drawn_together() -> None:
    seen = []

    def record(value: NDArray[np.int64]) -> float:
        seen.append(sorted(value.tolist()))
        return 0.0

    bootstrap_by_patient(record, ["b", "a", "b"], [0, 1, 2], rng=np.random.default_rng(0), n_resamples=50)
    assert seen[0] == [0, 1, 2]
    assert {tuple(rows) for rows in seen[1:]} == {(1, 1), (0, 1, 2), (0, 0, 2, 2)}


def test_rows_of_all_arrays_stay_together() -> None:
    def mismatches(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
        return float(np.abs(second - 10 * first).sum())

    rows = np.arange(20)
    found = bootstrap_by_patient(mismatches, rows // 3, rows, 10 * rows, rng=np.random.default_rng(0))
    assert found == (0, 0, 0)


def test_the_interval_of_a_mean_has_its_standard_error() -> None:
    values = np.random.default_rng(5).normal(2.0, 1.0, 400)
    found = bootstrap_by_patient(mean, np.arange(400), values, rng=np.random.default_rng(0), n_resamples=4000)
    assert found.value == values.mean()
    assert found.high - found.low == pytest.approx(2 * Z * values.std() / 20, rel=0.05)


def test_copies_of_samples_within_patients_make_it_no_surer() -> None:
    values, patients = np.random.default_rng(6).normal(0, 1, 50), np.arange(50)
    once = bootstrap_by_patient(mean, patients, values, rng=np.random.default_rng(0))
    tenfold = bootstrap_by_patient(
        mean, np.repeat(patients, 10), np.repeat(values, 10), rng=np.random.default_rng(0)
    )
    assert tenfold == pytest.approx(once)


def test_draws_without_a_figure_are_left_out() -> None:
    # two patients, each of one class: half of the draws have one class alone
    found = bootstrap_by_patient(roc_auc, [1, 2, 2], [1, 0, 0], [0.5, 0.5, 0.1], rng=np.random.default_rng(0))
    assert found == (0.75, 0.75, 0.75)


def test_a_figure_that_no_draw_has_has_no_bounds() -> None:
    found = bootstrap_by_patient(roc_auc, [1, 2], [1, 1], [0.5, 0.6], rng=np.random.default_rng(0))
    assert np.isnan(found).all()


@pytest.mark.parametrize("patients", [[], [7, 7]])
def test_fewer_than_two_patients_give_no_bounds(patients: list[int]) -> None:
    found = bootstrap_by_patient(len, patients, patients, rng=np.random.default_rng(0))
    assert found.value == len(patients)
    assert np.isnan(found[1:]).all()


def test_one_seed_gives_one_interval() -> None:
    positive, score, _ = drawn(7)
    patients = np.arange(len(score)) // 2
    one, again = (
        bootstrap_by_patient(roc_auc, patients, positive, score, rng=np.random.default_rng(3))
        for _ in range(2)
    )
    assert one == again


def test_arrays_must_be_of_the_patients_length() -> None:
    with pytest.raises(ValueError, match=r"expected 2 rows as of patients, got \[2, 3\]"):
        bootstrap_by_patient(mean, [1, 2], [1, 2], [1, 2, 3], rng=np.random.default_rng(0))


@pytest.mark.parametrize(("specificity", "sensitivity"), [(1.0, 0.25), (0.9, 0.5), (0.8, 0.75), (0.0, 1.0)])
def test_sensitivity_is_the_highest_that_the_specificity_allows(
    specificity: float, sensitivity: float
) -> None:
    # ten negatives; 1 positive is above all, 2 are above all but one, 3 above all but two
    positive, scores = samples([10, 20, 30, 40, 50, 60, 70, 80, 90, 100], [110, 95, 85, 5])
    assert sensitivity_at_specificity(positive, scores, specificity) == sensitivity


def test_a_tie_lies_on_one_side_of_the_threshold() -> None:
    assert sensitivity_at_specificity([0, 0, 1, 1], [1, 2, 2, 3], 1.0) == 0.5


def test_one_negative_in_twenty_is_5_percent() -> None:
    positive, scores = samples(np.arange(20), [18.5])  # 1 - 0.95 is a little more than 1 / 20, in binary
    assert sensitivity_at_specificity(positive, scores, 0.95) == 1.0


@pytest.mark.parametrize("n_negative", [10, 49, 1000])
def test_a_share_that_is_no_binary_fraction_is_reached(n_negative: int) -> None:
    for n_false in range(n_negative):
        positive, scores = samples(np.arange(n_negative), [n_negative - n_false - 0.5])
        specificity = (n_negative - n_false) / n_negative
        assert sensitivity_at_specificity(positive, scores, specificity) == 1.0


@pytest.mark.parametrize("is_positive", [[0, 0], [1, 1], []])
def test_one_class_alone_has_no_sensitivity_at_a_specificity(is_positive: list[int]) -> None:
    assert math.isnan(sensitivity_at_specificity(is_positive, [0.5] * len(is_positive), 0.9))


def test_an_impossible_specificity_is_refused() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 95"):
        sensitivity_at_specificity([0, 1], [0.1, 0.2], 95)


def test_the_interval_of_a_paired_difference_has_one_of_either_kind_added() -> None:
    """3 gained and 1 lost of 20: (4 - 2) / 22 ± z √((6/22 - (2/22)²) / 22) = 0.0909 ± 0.2149."""
    assert paired_difference(3, 1, 20) == pytest.approx((0.1, -0.1240, 0.3058), abs=1e-4)


def test_no_change_has_an_interval_round_0() -> None:
    """z √((2/10) / 10) = 0.2772 for 8."""
    assert paired_difference(0, 0, 8) == pytest.approx((0.0, -0.2772, 0.2772), abs=1e-4)


def test_a_paired_difference_lies_in_its_interval_at_the_end_too() -> None:
    value, low, high = paired_difference(0, 5, 5)
    assert (value, low) == (-1, -1)
    assert low < high < 0


def test_of_nothing_there_is_no_paired_difference() -> None:
    assert all(map(math.isnan, paired_difference(0, 0, 0)))
