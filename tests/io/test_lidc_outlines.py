import dataclasses

import numpy as np
import pytest

from p2ch_luna.io.lidc_outlines import ChainCodes, decode, encode

SQUARE = [[3, 4], [4, 4], [4, 5], [3, 5]]
FAR = [[500, 2], [-20, 300]]  # one step of 520 pixels


@pytest.fixture
def codes() -> ChainCodes:
    return encode(np.array(SQUARE + FAR + [[7, 8]], np.int16), np.array([4, 2, 1]))


def test_points_come_back(codes: ChainCodes) -> None:
    assert decode(codes).tolist() == SQUARE + FAR + [[7, 8]]


def test_a_step_is_one_byte(codes: ChainCodes) -> None:
    assert codes.step.dtype == np.uint8
    assert len(codes.step) == 3 + 1 + 0


def test_equal_steps_are_one_row(codes: ChainCodes) -> None:
    assert sorted(codes.steps_xy.tolist()) == [[-520, 298], [-1, 0], [0, 1], [1, 0]]


def test_an_outline_without_a_point_is_refused() -> None:
    with pytest.raises(ValueError, match="outlines of 0 to 1 points; expected 1 to 65535"):
        encode(np.zeros((1, 2), np.int16), np.array([1, 0]))


def test_too_many_kinds_of_steps_are_refused() -> None:
    growing = np.cumsum(np.arange(258), dtype=np.int64).astype(np.int16)  # steps of 1 to 257
    with pytest.raises(ValueError, match="257 kinds of steps; expected at most 256"):
        encode(np.stack([growing, growing * 0], axis=1), np.array([258]))


@pytest.mark.parametrize(
    "change",
    [
        {"n_points": np.array([4, 2, 2], np.uint16)},
        {"n_points": np.array([4, 3, 0], np.uint16)},
        {"step": np.array([0, 1, 2, 200], np.uint8)},
        {"first_xy": np.zeros((2, 2), np.int16)},
        {"steps_xy": np.zeros((4, 3), np.int16)},
    ],
)
def test_parts_that_do_not_fit_are_refused(codes: ChainCodes, change: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="do not fit together"):
        decode(dataclasses.replace(codes, **change))


def test_no_outline_is_no_point() -> None:
    assert decode(encode(np.empty((0, 2), np.int16), np.empty(0, np.int64))).shape == (0, 2)
