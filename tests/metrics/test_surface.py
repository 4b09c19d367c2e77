"""Distances of cubes worked out by hand, and of random masks against all pairs of surface voxels."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.metrics.surface import agreement

SHAPE = (12, 14, 16)
UNEVEN = (2.0, 0.5, 0.8)  # mm
Mask = NDArray[np.bool_]


def block(start: tuple[int, int, int], size: tuple[int, int, int]) -> Mask:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return mask


def blob(rng: np.random.Generator) -> Mask:
    """A ball with holes and loose voxels, somewhere in a small grid."""
    shape, center, radius = (7, 8, 9), rng.uniform(2, 5, 3), rng.uniform(0.5, 3.5)
    distance = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - center, axis=-1)
    mask = ((distance < radius) & (rng.random(shape) < 0.9)) | (rng.random(shape) < 0.02)
    mask[tuple(rng.integers(0, shape))] = True
    return np.asarray(mask)


def surface_mm(mask: Mask, spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """(K, 3) mm of the voxels inside that have a neighbour outside, voxel by voxel."""
    steps = [np.eye(3, dtype=int)[axis] * sign for axis in range(3) for sign in (-1, 1)]

    def is_inside(irc: NDArray[np.int64]) -> bool:
        return bool((irc >= 0).all() and (irc < mask.shape).all() and mask[tuple(irc)])

    voxels = (np.array(irc) for irc in product(*map(range, mask.shape)))
    return np.array(
        [v * spacing for v in voxels if is_inside(v) and not all(is_inside(v + s) for s in steps)]
    )


@pytest.mark.parametrize("seed", range(20))
def test_it_agrees_with_all_pairs_of_surface_voxels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask, truth, spacing = blob(rng), blob(rng), tuple(rng.uniform(0.5, 3, 3).tolist())
    between = np.linalg.norm(surface_mm(mask, spacing)[:, None] - surface_mm(truth, spacing)[None], axis=-1)
    there, back = between.min(axis=1), between.min(axis=0)
    found = agreement(mask, truth, spacing)
    assert found.mean_surface_mm == pytest.approx((there.sum() + back.sum()) / (len(there) + len(back)))
    assert found.hd95_mm == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))


def test_equal_masks_agree_fully() -> None:
    cube = block((2, 3, 4), (4, 4, 4))
    assert agreement(cube, cube, UNEVEN) == (1, 0, 0, 0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_voxel_shifted_lies_as_far_off_as_its_steps(axis: int) -> None:
    start = [3, 3, 3]
    start[axis] += 4
    found = agreement(block((start[0], start[1], start[2]), (1, 1, 1)), block((3, 3, 3), (1, 1, 1)), UNEVEN)
    assert found == pytest.approx((0, 0, 4 * UNEVEN[axis], 4 * UNEVEN[axis]))


def test_a_sheet_shifted_across_itself_is_that_far_off_everywhere() -> None:
    found = agreement(block((6, 2, 2), (1, 6, 6)), block((3, 2, 2), (1, 6, 6)), UNEVEN)
    assert (found.mean_surface_mm, found.hd95_mm) == (6.0, 6.0)


def test_a_cube_shifted_by_one_voxel_worked_out_by_hand() -> None:
    # a 3-cube has 26 surface voxels, all but its middle. Of the cube that is shifted by 1 along a row, the 9
    # of the far face lie 1 beyond the truth, and the middle of the near face lies in the truth's middle, 1
    # from its surface; the others are surface of both. So 10 of 26 are 1 mm off, from either side.
    found = agreement(block((4, 4, 5), (3, 3, 3)), block((4, 4, 4), (3, 3, 3)), (1.0, 1.0, 1.0))
    assert found == pytest.approx((2 * 18 / 54, 0, 10 / 26, 1.0))


def test_volume_errors_are_shares_of_the_truth() -> None:
    small, large = block((2, 2, 2), (2, 2, 2)), block((2, 2, 2), (2, 2, 3))  # 8 and 12 voxels
    assert agreement(large, small, UNEVEN).volume_error == pytest.approx(0.5)
    assert agreement(small, large, UNEVEN).volume_error == pytest.approx(-1 / 3)


def test_a_far_voxel_in_twenty_or_more_is_above_the_95th_percentile() -> None:
    # along a line of 30 voxels one far from it: of 31 distances one is 8, ranks 0 to 29 are 0
    truth = np.zeros((12, 1, 30), bool)
    truth[0] = True
    mask = truth.copy()
    mask[8, 0, 15] = True
    found = agreement(mask, truth, (1.0, 1.0, 1.0))
    assert found.hd95_mm == 0
    assert found.mean_surface_mm == pytest.approx(8 / 61)


def test_the_side_that_lies_farther_off_decides_the_hd95() -> None:
    # each voxel of the mask is one of the truth, whose other half is up to 10 off
    truth, mask = np.zeros((1, 1, 22), bool), np.zeros((1, 1, 22), bool)
    truth[..., :21], mask[..., :11] = True, True
    expected = pytest.approx(9.0)  # distances 0 x 11, 1 ... 10: rank 0.95 x 20 = 19
    assert agreement(mask, truth, (1.0, 1.0, 1.0)).hd95_mm == expected
    assert agreement(truth, mask, (1.0, 1.0, 1.0)).hd95_mm == expected


def test_the_border_of_the_array_is_a_surface() -> None:
    whole = np.ones((3, 3, 3), bool)
    middle = np.zeros((3, 3, 3), bool)
    middle[1, 1, 1] = True  # 1 from the six faces' middles, which is all that it sees
    assert agreement(middle, whole, (1.0, 1.0, 1.0)).mean_surface_mm == pytest.approx(
        (1 + 6 * 1 + 12 * math.sqrt(2) + 8 * math.sqrt(3)) / 27
    )


def test_where_the_nodule_lies_in_the_array_does_not_matter() -> None:
    here = agreement(block((0, 0, 0), (3, 4, 5)), block((1, 0, 0), (3, 3, 4)), UNEVEN)
    there = agreement(block((8, 10, 11), (3, 4, 5)), block((9, 10, 11), (3, 3, 4)), UNEVEN)
    assert here == pytest.approx(there)


def test_two_empty_masks_agree_fully() -> None:
    nothing = np.zeros(SHAPE)
    assert agreement(nothing, nothing, UNEVEN) == (1, 0, 0, 0)


def test_an_empty_mask_misses_the_whole_nodule() -> None:
    found = agreement(np.zeros(SHAPE, bool), block((2, 2, 2), (3, 3, 3)), UNEVEN)
    assert found[:2] == (0, -1)
    assert np.isnan(found[2:]).all()


def test_a_mask_of_no_nodule_is_infinitely_too_large() -> None:
    found = agreement(block((2, 2, 2), (3, 3, 3)), np.zeros(SHAPE, bool), UNEVEN)
    assert found[:2] == (0, math.inf)
    assert np.isnan(found[2:]).all()


def test_any_value_but_0_is_inside() -> None:
    cube = block((2, 3, 4), (4, 4, 4))
    assert agreement(cube * np.uint8(255), cube, UNEVEN) == (1, 0, 0, 0)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"of one shape, got \(2, 2, 2\) and \(2, 2, 3\)"):
        agreement(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), UNEVEN)


def test_masks_must_have_three_axes() -> None:
    with pytest.raises(ValueError, match=r"\(D, H, W\) of one shape, got \(2, 2\)"):
        agreement(np.zeros((2, 2)), np.zeros((2, 2)), UNEVEN)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, math.nan, 1.0)])
def test_an_impossible_spacing_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="three lengths above 0, got"):
        agreement(np.ones((2, 2, 2)), np.ones((2, 2, 2)), spacing)
