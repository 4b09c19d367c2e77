import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.training.pictures import (
    BLUE,
    CAPTION_HEIGHT,
    GREEN,
    before_after,
    captioned,
    montage,
    picture,
)


def test_before_is_above_after() -> None:
    dark, bright = np.full((2, 3, 4, 5), -1400, np.int16), np.full((2, 3, 4, 5), 400, np.float32)
    sheet = before_after(dark, None, bright, None, scale=2)
    assert sheet.shape == (2 * 8 + 4, 2 * 10 + 4, 3)
    assert (sheet[:8, :10] == 0).all()
    assert (sheet[12:, 14:] == 255).all()


def test_nodules_are_outlined_in_green_and_unsure_voxels_in_blue() -> None:
    hu = np.full((1, 3, 12, 12), -1400, np.float32)
    labels = np.zeros((1, 3, 12, 12), np.uint8)
    labels[0, 1, 2:5, 2:5], labels[0, :, 8:] = 7, 255
    sheet = before_after(hu, np.zeros_like(labels), hu, labels, scale=1)
    assert not sheet[:12].any()
    after = sheet[16:]
    assert tuple(after[2, 2]) == GREEN
    assert not after[3, 3].any()  # the inside stays as it is
    assert tuple(after[8, 5]) == BLUE


def test_unsure_voxels_do_not_decide_which_slice_is_shown() -> None:
    hu = np.full((1, 3, 4, 4), -1400, np.float32)
    hu[0, 0] = 400
    labels = np.zeros((1, 3, 4, 4), np.uint8)
    labels[0, 0, 1:3, 1:3], labels[0, 2] = 1, 255
    assert (before_after(hu, labels, hu, labels, scale=1)[0, 0] == 255).all()


def test_a_picture_without_masks_is_the_middle_slice_in_gray() -> None:
    hu = np.stack([np.full((4, 4), value, np.float32) for value in (-1400, 400, -1400)])
    assert (picture(hu, scale=1) == 255).all()


def test_a_montage_fills_rows_from_the_left() -> None:
    pictures = [np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = montage(pictures, columns=2, gap=1)
    assert sheet.shape == (5, 7, 3)
    assert [sheet[0, 0, 0], sheet[0, 4, 0], sheet[3, 0, 0], sheet[3, 4, 0]] == [10, 20, 30, 255]


def test_pictures_of_different_sizes_make_no_montage() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \[\(2, 3, 3\), \(4, 3, 3\)\]"):
        montage([np.zeros((4, 3, 3), np.uint8), np.zeros((2, 3, 3), np.uint8)])


def test_no_picture_makes_no_montage() -> None:
    with pytest.raises(ValueError, match="got none"):
        montage([])


@pytest.fixture
def gray() -> NDArray[np.uint8]:
    return np.full((64, 192, 3), 90, np.uint8)


def test_a_caption_stands_below_the_unchanged_picture(gray: NDArray[np.uint8]) -> None:
    found = captioned(gray, "0.93  6 mm")
    assert found.shape == (64 + CAPTION_HEIGHT, 192, 3)
    assert (found[:64] == 90).all()


def test_a_caption_is_white_on_black_in_the_middle(gray: NDArray[np.uint8]) -> None:
    strip = captioned(gray, "0.93  6 mm")[64:]
    _, columns, _ = np.nonzero(strip > 128)
    assert (strip.min(), strip.max()) == (0, 255)
    assert abs((columns.min() + columns.max()) / 2 - 96) <= 1


def test_a_usual_caption_has_letters_of_at_least_10_pixels(gray: NDArray[np.uint8]) -> None:
    rows, _, _ = np.nonzero(captioned(gray, "0.93  6 mm")[64:] > 128)
    assert np.ptp(rows) + 1 >= 10


def test_a_long_caption_shrinks_until_it_fits(gray: NDArray[np.uint8]) -> None:
    strip = captioned(gray, "malignant 0.93, read as benign, 6 mm")[64:]
    _, columns, _ = np.nonzero(strip > 64)
    assert 0 < columns.min() < columns.max() < 191
    assert np.ptp(columns) > 140  # and no more than that


def test_of_a_caption_that_never_fits_the_beginning_is_seen(gray: NDArray[np.uint8]) -> None:
    strip = captioned(gray, "I" * 10 + " " * 500)[64:]
    _, columns, _ = np.nonzero(strip > 64)
    assert columns.min() <= 4


def test_pictures_with_captions_of_any_length_have_one_size(gray: NDArray[np.uint8]) -> None:
    captions = ("", "0.93", "0.93  6 mm", "0.93 " * 50)
    assert {captioned(gray, text).shape for text in captions} == {(64 + CAPTION_HEIGHT, 192, 3)}
