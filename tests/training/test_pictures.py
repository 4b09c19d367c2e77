import numpy as np

from p2ch_luna.training.pictures import BLUE, GREEN, before_after, picture


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
