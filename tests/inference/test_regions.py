"""What a region holds of a probability map, and what not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.inference.propose import propose
from p2ch_luna.inference.regions import Region

TILT = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
GRID = ImageGeometry(np.array([-90.0, -80.0, -200.0]), np.ones(3), TILT)


@pytest.fixture
def probability() -> NDArray[np.float32]:
    return np.zeros((30, 36, 44), np.float32)


def regions(probability: NDArray[np.float32]) -> list[Region]:
    return [
        found.region for found in propose(probability, np.ones(probability.shape, bool), GRID, "1.2.3").kept
    ]


def placed(region: Region, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The region where it lies in the map."""
    low = np.rint(GRID.to_irc(region.geometry.to_xyz(np.zeros(3)))).astype(int)
    whole = np.zeros(shape, np.float32)
    whole[tuple(slice(a, a + n) for a, n in zip(low, region.probability.shape, strict=True))] = (
        region.probability
    )
    return whole


def test_a_region_is_the_map_round_its_candidate(probability: NDArray[np.float32]) -> None:
    probability[9:12, 19:22, 30:34] = 0.9
    probability[10, 20, 29] = 0.2  # its halo
    (region,) = regions(probability)
    np.testing.assert_array_equal(placed(region, probability.shape), probability)
    assert region.probability.shape == (9, 9, 10)


def test_a_region_at_an_end_of_the_map_ends_there(probability: NDArray[np.float32]) -> None:
    probability[0:3, 33:36, 0:3] = 0.9
    (region,) = regions(probability)
    assert region.probability.shape == (6, 6, 6)
    np.testing.assert_array_equal(placed(region, probability.shape), probability)


def test_voxels_of_another_candidate_are_0(probability: NDArray[np.float32]) -> None:
    probability[9:12, 19:22, 20:23] = 0.8
    probability[9:12, 19:22, 24:27] = 0.9
    one, other = (placed(region, probability.shape) for region in regions(probability))
    assert one[10, 20, 25] == np.float32(0.9)
    assert not one[:, :, :23].any()
    assert not other[:, :, 24:].any()


def test_a_faint_bridge_is_of_both(probability: NDArray[np.float32]) -> None:
    probability[9:12, 19:22, 20:27] = 0.3
    probability[9:12, 19:22, 20:23] = 0.8
    probability[9:12, 19:22, 24:27] = 0.9
    assert [placed(region, probability.shape)[10, 20, 23] for region in regions(probability)] == [
        np.float32(0.3)
    ] * 2


def test_a_speck_that_is_no_candidate_is_0(probability: NDArray[np.float32]) -> None:
    probability[9:12, 19:22, 20:27] = 0.2
    probability[9:12, 19:22, 20:23] = 0.8
    probability[10, 20, 25] = 0.95
    (region,) = regions(probability)
    assert placed(region, probability.shape)[10, 20, 25] == 0
    assert region.probability.max() == np.float32(0.8)


@pytest.mark.parametrize(
    ("peak", "level"),
    [(1.0, 0.65), (0.9, 0.585), (0.6, 0.5), (0.4, 0.26), (0.12, 0.1)],  # 0.65 of it; not below a threshold
)
def test_the_level_is_a_share_of_the_peak(
    probability: NDArray[np.float32], peak: float, level: float
) -> None:
    probability[9:12, 19:22, 20:23] = peak
    (region,) = regions(probability)
    assert region.level == pytest.approx(level, rel=1e-6)


def test_the_volume_of_a_candidate_is_that_from_the_level_on(probability: NDArray[np.float32]) -> None:
    probability[8:13, 18:23, 20:25] = 0.6
    probability[9:12, 19:22, 21:24] = 1.0
    (found,) = propose(probability, np.ones(probability.shape, bool), GRID, "1.2.3").kept
    assert found.candidate.volume_mm3 == pytest.approx(27)


def test_the_peak_is_where_the_highest_probability_lies(probability: NDArray[np.float32]) -> None:
    probability[9:12, 19:22, 20:23] = 0.8
    probability[11, 19, 22] = 0.9
    (region,) = regions(probability)
    assert GRID.to_irc(region.peak_xyz) == pytest.approx((11, 19, 22))
