import numpy as np
import pytest

from p2ch_luna.metrics.overlap import dice


def test_equal_masks_score_1() -> None:
    mask = np.array([[1, 0], [1, 1]])
    assert dice(mask, mask) == 1.0


def test_disjoint_masks_score_0() -> None:
    assert dice(np.array([1, 0]), np.array([0, 1])) == 0.0


def test_partial_overlap() -> None:
    assert dice(np.array([1, 1, 1, 0]), np.array([0, 0, 1, 0])) == pytest.approx(2 * 1 / (3 + 1))


def test_two_empty_masks_are_equal() -> None:
    assert dice(np.zeros(3), np.zeros(3)) == 1.0


def test_an_empty_mask_misses_all() -> None:
    assert dice(np.zeros(3), np.ones(3)) == 0.0


def test_any_value_but_0_is_inside() -> None:
    assert dice(np.array([0, 255, 7]), np.array([False, True, True])) == 1.0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) and \(1, 3\)"):
        dice(np.zeros(3), np.zeros((1, 3)))
