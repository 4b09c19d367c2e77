from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p2ch_luna.errors import LunaError
from p2ch_luna.inference.tiles import MULTIPLE, Tile, plan_tiles, segment

CPU = torch.device("cpu")


class Reach(nn.Module):
    """A network that sees exactly `reach` voxels far; in float64, so that sums are exact."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, hu: Tensor) -> Tensor:
        size, x = 2 * self.reach + 1, hu.double()
        for axis in range(3):  # a box sum, one axis after the other
            kernel = [size if a == axis else 1 for a in range(3)]
            padding = [self.reach if a == axis else 0 for a in range(3)]
            x = nn.functional.avg_pool3d(x, kernel, 1, padding, divisor_override=1)
        return x / (1000 * size**3)


class Strided(nn.Module):
    """A network whose answer depends on where its grid of 16 voxels begins."""

    def forward(self, hu: Tensor) -> Tensor:
        coarse = nn.functional.avg_pool3d(hu.double(), MULTIPLE)
        return nn.functional.interpolate(coarse, scale_factor=MULTIPLE, mode="nearest") / 1000


def everywhere(*shape: int) -> NDArray[np.bool_]:
    return np.ones(shape, bool)


def noise(*shape: int) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-1000, 400, shape).astype(np.int16)


def run(model: nn.Module, hu: NDArray[np.int16], tiles: list[Tile]) -> NDArray[np.float32]:
    return segment(model, hu, tiles, device=CPU, advance=lambda _: None)


@pytest.mark.parametrize("model", [Reach(16), Strided()])
def test_tiles_answer_as_the_whole_volume_does(model: nn.Module) -> None:
    hu = noise(64, 112, 80)
    whole = run(model, hu, plan_tiles(everywhere(*hu.shape)))
    tiles = plan_tiles(everywhere(*hu.shape), max_voxels=64**3)
    assert len(tiles) > 3
    np.testing.assert_array_equal(run(model, hu, tiles), whole)


def test_what_lies_farther_than_the_margin_is_not_seen() -> None:
    hu = noise(64, 112, 80)
    whole = run(Reach(20), hu, plan_tiles(everywhere(*hu.shape)))
    tiled = run(Reach(20), hu, plan_tiles(everywhere(*hu.shape), max_voxels=64**3))
    assert not np.array_equal(tiled, whole)


def test_sides_that_do_not_divide_are_padded_with_air() -> None:
    hu = noise(40, 50, 60)
    padded = np.pad(hu, [(0, 8), (0, 14), (0, 4)], constant_values=-1000)
    expected = run(Reach(3), padded, plan_tiles(everywhere(*padded.shape)))[:40, :50, :60]
    np.testing.assert_array_equal(run(Reach(3), hu, plan_tiles(everywhere(*hu.shape))), expected)


def test_every_lung_voxel_and_its_rim_lie_in_one_core() -> None:
    lung = np.zeros((70, 90, 150), bool)
    lung[12:60, 20:71, 20:60] = lung[16:50, 22:80, 95:131] = True
    times = np.zeros(lung.shape, int)
    for tile in plan_tiles(lung, max_voxels=80**3, rim=8):
        times[tile.core] += 1
    assert times.max() == 1
    assert times[4:68, 12:79, 12:68].min() == 1  # lung and rim
    assert times[8:58, 14:88, 87:139].min() == 1


def test_between_the_lungs_nothing_is_computed() -> None:
    lung = np.zeros((64, 64, 224), bool)
    lung[:, :, :40] = lung[:, :, 184:] = True
    tiles = plan_tiles(lung, max_voxels=80**3)
    assert sorted((tile.core[2].start, tile.core[2].stop) for tile in tiles) == [(0, 48), (176, 224)]


def test_reads_start_at_multiples_of_the_stride_and_stay_small() -> None:
    lung = np.zeros((130, 170, 190), bool)
    lung[29:125, 27:160, 31:181] = True
    for tile in plan_tiles(lung, max_voxels=96**3):
        assert all(s.start % MULTIPLE == 0 and (s.stop - s.start) % MULTIPLE == 0 for s in tile.read)
        assert np.prod([s.stop - s.start for s in tile.read]) <= 96**3


def test_no_lung_no_tile() -> None:
    assert plan_tiles(np.zeros((20, 30, 40), bool)) == []


def test_outside_the_tiles_the_probability_is_zero() -> None:
    lung = np.zeros((64, 64, 64), bool)
    lung[:10, :10, :10] = True
    probability = run(Reach(0), noise(64, 64, 64), plan_tiles(lung))
    assert probability[:18, :18, :18].all()
    assert not probability[32:].any()


def test_each_tile_is_told() -> None:
    tiles = plan_tiles(everywhere(64, 64, 96), max_voxels=64**3)
    steps: list[int] = []
    segment(Reach(0), noise(64, 64, 96), tiles, device=CPU, advance=steps.append)
    assert steps == [1] * len(tiles)


def test_a_network_that_answers_nan_is_refused() -> None:
    class Broken(nn.Module):
        def forward(self, hu: Tensor) -> Tensor:
            return hu * torch.nan

    with pytest.raises(LunaError, match="segmentation network answers NaN"):
        run(Broken(), noise(16, 16, 16), plan_tiles(everywhere(16, 16, 16)))


def test_a_budget_that_cannot_hold_one_core_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot tile"):
        plan_tiles(everywhere(64, 64, 64), max_voxels=32**3)
