import math

import numpy as np
import pytest

from p2ch_luna.metrics.calibration import brier, calibration


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
