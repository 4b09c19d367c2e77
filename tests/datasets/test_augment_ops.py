import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from p2ch_luna.datasets import augment_ops as ops
from p2ch_luna.datasets.augment import Augmentation, draw

CPU = torch.device("cpu")


def places(n: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """Of strong draws, so that many lie outside."""
    how = Augmentation(resample=1, rotation_degrees=40, scale=0.3, shift_mm=3, elastic_mm=4)
    what = draw(n, how, torch.Generator().manual_seed(0))
    return ops.places_before(what.matrix, what.bend, shape)


@pytest.mark.parametrize("shape", [(12, 20, 20), (16, 9, 14), (2, 2, 2)])
def test_sampling_agrees_with_that_of_volumes(shape: tuple[int, int, int]) -> None:
    hu = torch.randn(3, 1, *shape, generator=torch.Generator().manual_seed(0))
    where = places(3, shape)
    grid = torch.stack([2 * p / (n - 1) - 1 for p, n in zip(where[::-1], shape[::-1], strict=True)], dim=-1)
    wanted = F.grid_sample(hu, grid, padding_mode="border", align_corners=True)
    torch.testing.assert_close(ops.sample_hu(hu, where), wanted, atol=1e-3, rtol=0)


def test_samples_one_by_one_are_those_of_the_batch() -> None:
    hu, where = torch.randn(3, 1, 12, 20, 20), places(3, (12, 20, 20))
    one_by_one = [ops.sample_hu(hu[i : i + 1], [p[i : i + 1] for p in where]) for i in range(3)]
    torch.testing.assert_close(torch.cat(one_by_one), ops.sample_hu(hu, where))


def test_labels_come_from_the_nearest_voxel() -> None:
    labels = torch.arange(8, dtype=torch.uint8).reshape(1, 1, 2, 2, 2)
    where = [torch.tensor(p).reshape(1, 2, 2, 2) for p in (
        [0.4, 0.6, 1.4, -0.4, 0.0, 1.6, -0.6, 0.0], [0.4] * 7 + [1.6], [0.6] * 8,
    )]  # fmt: skip
    assert ops.sample_labels(labels, where).flatten().tolist() == [1, 5, 5, 1, 1, 255, 255, 255]


@pytest.mark.parametrize("at", [-40.0, -3.3, 0.0, 7.9, 200.0])
def test_control_points_that_move_alike_move_everything_so(at: float) -> None:
    assert ops.bend_weights(torch.tensor(at)).sum().item() == pytest.approx(1)
    moved = ops.bend_at(
        torch.full((1, 1, 3), at), torch.tensor([1.0, 2, 3]).reshape(1, 3, 1, 1, 1).repeat(1, 1, 8, 8, 8)
    )
    assert moved.flatten().tolist() == pytest.approx([1, 2, 3], rel=1e-5)


def test_one_control_point_moves_what_is_near_it_along_its_own_axis() -> None:
    bend = torch.zeros(1, 3, 8, 8, 8)
    bend[0, 2, 1, 0, 0] = 2.7  # 16 voxels towards higher indices from the middle, along col
    still, moved = (ops.places_before(torch.eye(3, 4)[None], one, (41, 3, 3)) for one in (None, bend))
    moves = [there - here for there, here in zip(moved, still, strict=True)]
    assert not moves[0].any()
    assert not moves[1].any()
    assert moves[2].argmax() // 9 == 36  # 20 is the middle
    assert moves[2].max().item() == pytest.approx(2.7 * (2 / 3) ** 3, rel=1e-4)  # the spline's height in 3-D


def test_blur_is_that_of_scipy_at_the_border_too() -> None:
    image = np.random.default_rng(0).normal(size=(9, 9)).astype(np.float32)
    matrix = ops.blur_matrices(torch.tensor([0.9]), 9)[0].numpy()
    wanted = ndimage.gaussian_filter1d(image, 0.9, axis=0, mode="nearest", radius=3)
    np.testing.assert_allclose(matrix @ image, wanted, atol=1e-6)


def test_matrices_apply_to_the_axis_named() -> None:
    hu = torch.randn(2, 1, 3, 4, 5)
    index, rows, cols = (torch.randn(2, n, n) for n in (3, 4, 5))
    torch.testing.assert_close(ops.along_index(hu, index), torch.einsum("bij,bcjhw->bcihw", index, hu))
    torch.testing.assert_close(
        ops.along_rows_and_cols(hu, rows, cols), torch.einsum("bij,bkl,bcdjl->bcdik", rows, cols, hu)
    )


@pytest.mark.parametrize("thickness", range(1, 6))
def test_slices_keep_the_mean_of_what_is_constant(thickness: int) -> None:
    for phase in range(thickness):
        matrix = ops.slice_matrices(torch.tensor([thickness]), torch.tensor([phase]), 13)
        torch.testing.assert_close(matrix.sum(dim=2), torch.ones(1, 13))


def test_one_voxel_slices_change_nothing() -> None:
    assert torch.equal(ops.slice_matrices(torch.tensor([1]), torch.tensor([0]), 7)[0], torch.eye(7))


def test_parts_name_the_chosen_a_few_at_a_time() -> None:
    value = torch.arange(5) * 10
    found = list(ops.parts(torch.tensor([True, False, True, True, False]), CPU, 2))
    assert [(there.tolist(), take(value).tolist()) for there, take in found] == [
        ([0, 2], [0, 20]),
        ([3], [30]),
    ]
