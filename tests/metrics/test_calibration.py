import math

import numpy as np
import pytest

from p2ch_luna.metrics.calibration import (
    TEMPERATURES,
    brier,
    calibration,
    fit_temperature,
    with_temperature,
)


def test_a_bin_holds_its_mean_its_share_of_positives_and_its_size() -> None:
    found = calibration([0, 1, 1, 1], [0.1, 0.3, 0.8, 1.0], n_bins=2)
    np.testing.assert_allclose(found.mean_probability, [0.2, 0.9])
    np.testing.assert_allclose(found.frequency, [0.5, 1.0])
    assert found.count.tolist() == [2, 2]


def test_empty_bins_are_left_out() -> None:
    found = calibration([0, 1], [0.05, 0.95])
    assert found.count.tolist() == [1, 1]


def test_a_border_belongs_to_the_lower_bin() -> None:
    assert calibration([0, 1, 1], [0.0, 0.5, 1.0], n_bins=2).count.tolist() == [2, 1]


def test_the_error_weighs_gaps_by_samples() -> None:
    # three samples said 0.2 and seen 1/3, one said 0.9 and seen 0
    found = calibration([1, 0, 0, 0], [0.2, 0.2, 0.2, 0.9], n_bins=2)
    assert found.error == pytest.approx((3 * (1 / 3 - 0.2) + 1 * 0.9) / 4)


def test_shares_that_come_true_have_no_error() -> None:
    probability = np.repeat([0.25, 0.75], 4)
    assert calibration([1, 0, 0, 0, 1, 1, 1, 0], probability).error == pytest.approx(0)


def test_samples_count_as_often_as_their_weights_say() -> None:
    # half a positive and two negatives said 0.4: the share is 0.5 / 2.5
    found = calibration([1, 0], [0.4, 0.4], weight=[0.5, 2.0])
    assert found.frequency.tolist() == pytest.approx([0.2])
    assert (found.count.tolist(), found.weight.tolist()) == ([2], [2.5])
    assert found.error == pytest.approx(0.2)


def test_gaps_are_weighed_by_the_weights_of_their_samples() -> None:
    found = calibration([0, 1], [0.1, 0.9], weight=[3.0, 1.0])  # both gaps are 0.1
    assert calibration([0, 0], [0.1, 0.9], weight=[3.0, 1.0]).error == pytest.approx((3 * 0.1 + 0.9) / 4)
    assert found.error == pytest.approx(0.1)


def test_a_sample_that_does_not_count_has_no_bin() -> None:
    assert calibration([0, 1], [0.1, 0.9], weight=[1.0, 0.0]).mean_probability.tolist() == [0.1]


def test_a_sample_cannot_count_less_than_nothing() -> None:
    with pytest.raises(ValueError, match="0 times or more, got -1"):
        calibration([0, 1], [0.1, 0.9], weight=[1.0, -1.0])


def test_without_samples_there_is_no_error() -> None:
    assert math.isnan(calibration([], []).error)


def test_brier_is_the_mean_squared_distance() -> None:
    assert brier([1, 0, 1], [0.8, 0.4, 0.0]) == pytest.approx((0.04 + 0.16 + 1) / 3)


def test_brier_of_no_samples_is_undefined() -> None:
    assert math.isnan(brier([], []))


@pytest.mark.parametrize("probability", [-0.25, 1.5])
def test_what_is_no_probability_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match=rf"in \[0, 1\], got {probability}"):
        calibration([0, 1], [0.5, probability])


def test_the_temperature_makes_what_is_said_what_comes_true() -> None:
    # of four samples at logit 2 three are positive: probability 3/4, whose logit is log 3
    assert fit_temperature([1, 1, 1, 0], [2.0] * 4) == pytest.approx(2 / math.log(3), rel=1e-6)


def test_positives_and_negatives_are_fitted_alike() -> None:
    assert fit_temperature([0, 0, 0, 1], [-2.0] * 4) == pytest.approx(2 / math.log(3), rel=1e-6)


def test_the_temperature_of_a_model_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 2, 20000)
    is_positive = rng.random(20000) < 1 / (1 + np.exp(-logit))
    assert fit_temperature(is_positive, 3 * logit) == pytest.approx(3, rel=0.05)


def test_no_other_temperature_has_a_lower_loss() -> None:
    rng = np.random.default_rng(1)
    logit = rng.normal(0, 3, 200)
    is_positive = rng.random(200) < 1 / (1 + np.exp(-logit / 2))

    def loss(temperature: float) -> float:
        said = 1 / (1 + np.exp(-logit / temperature))
        return float(-np.log(np.where(is_positive, said, 1 - said)).mean())

    best = loss(fit_temperature(is_positive, logit))
    assert best <= min(loss(t) for t in np.geomspace(0.5, 50, 500))


def test_a_fitted_temperature_needs_no_second_one() -> None:
    rng = np.random.default_rng(2)
    logit = rng.normal(0, 3, 200)
    is_positive = rng.random(200) < 1 / (1 + np.exp(-logit / 2))
    temperature = fit_temperature(is_positive, logit)
    assert fit_temperature(is_positive, logit / temperature) == pytest.approx(1, rel=1e-6)


def test_signs_that_are_all_right_are_as_cold_as_can_be() -> None:
    assert fit_temperature([1, 0, 1], [0.5, -2.0, 3.0]) == TEMPERATURES[0]


def test_signs_that_are_all_wrong_are_as_hot_as_can_be() -> None:
    assert fit_temperature([1, 0, 1], [-0.5, 2.0, -3.0]) == TEMPERATURES[1]


def test_a_coin_that_is_called_both_ways_is_as_hot_as_can_be() -> None:
    assert fit_temperature([1, 0], [2.0, 2.0]) == TEMPERATURES[1]


@pytest.mark.parametrize(("is_positive", "logit"), [([], []), ([0, 1, 1], [0.0, 0.0, 0.0])])
def test_where_no_temperature_changes_anything_it_is_1(is_positive: list[int], logit: list[float]) -> None:
    assert fit_temperature(is_positive, logit) == 1.0


def test_huge_logits_give_a_finite_temperature() -> None:
    assert fit_temperature([1, 1, 1, 0], [20.0] * 4) == pytest.approx(20 / math.log(3), rel=1e-6)


def test_infinite_logits_are_refused() -> None:
    with pytest.raises(ValueError, match="logits must be finite, got inf"):
        fit_temperature([0, 1], [0.5, math.inf])


def test_a_temperature_divides_the_logit() -> None:
    # odds of 9 and of 1/9; at a temperature of 2 those of their roots
    np.testing.assert_allclose(with_temperature([0.9, 0.1], 2.0), [0.75, 0.25])


def test_no_temperature_changes_what_is_certain_or_even() -> None:
    np.testing.assert_array_equal(with_temperature([[0, 0.5, 1]], 7.0), [[0, 0.5, 1]])


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_an_impossible_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="above 0 and finite"):
        with_temperature([0.5], temperature)


@pytest.mark.parametrize("probability", [-0.25, 1.5, math.nan])
def test_a_temperature_of_what_is_no_probability_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match=rf"in \[0, 1\], got {probability}"):
        with_temperature([0.5, probability], 2.0)
