from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.geometry import (
    CtVolume,
    ImageGeometry,
    crop_around,
    crop_box,
    crop_start,
    resample,
    to_canonical,
)


def turned(degrees: float, axis: int) -> NDArray[np.float64]:
    """(3, 3) turn about one LPS axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.insert(np.insert([[c, -s], [s, c]], axis, 0, 0), axis, np.eye(3)[axis], 1)


OBLIQUE = turned(25, 2) @ turned(-20, 0) @ turned(10, 1)
DIRECTIONS = {
    "axial": np.eye(3),
    "oblique": OBLIQUE,
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "left-handed": np.diag([1.0, 1.0, -1.0]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "sagittal, flipped": np.array([[0, 0, -1.0], [-1, 0, 0], [0, 1, 0]]),
    "oblique coronal": OBLIQUE @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
}
all_directions = pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)


def numbered(direction: NDArray[np.float64]) -> CtVolume:
    """Every voxel has its own value; three different sides and spacings."""
    geometry = ImageGeometry(np.array([-90.0, -80.0, -200.0]), np.array([0.7, 0.8, 1.25]), direction)
    return CtVolume("1.2.3", np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6), geometry)


def blob(direction: NDArray[np.float64], center_xyz: NDArray[np.float64]) -> CtVolume:
    """A Gaussian of 4 mm in the middle of 60 mm, on a background of 0 HU."""
    spacing_xyz = np.array([1.2, 1.0, 1.5])
    shape = np.array([40, 60, 50])
    middle = ImageGeometry(np.zeros(3), spacing_xyz, direction)
    geometry = replace(middle, origin_xyz=center_xyz - middle.to_xyz((shape - 1) / 2 + [0.3, -0.2, 0.4]))
    xyz = geometry.to_xyz(np.moveaxis(np.indices(shape), 0, -1))
    return CtVolume(
        "1.2.3", 1000 * np.exp(-((xyz - center_xyz) ** 2).sum(-1) / 32).astype(np.float32), geometry
    )


def center_of_mass_xyz(ct: CtVolume) -> NDArray[np.float64]:
    xyz = ct.geometry.to_xyz(np.moveaxis(np.indices(ct.hu.shape), 0, -1))
    return (xyz * ct.hu[..., None]).sum((0, 1, 2)) / ct.hu.sum(dtype=np.float64)


@all_directions
def test_to_irc_undoes_to_xyz(direction: NDArray[np.float64]) -> None:
    geometry = numbered(direction).geometry
    irc = np.array([[0, 0, 0], [1.5, 2.25, 3.125], [-7, 400, 511]])
    np.testing.assert_allclose(geometry.to_irc(geometry.to_xyz(irc)), irc, atol=1e-9)


def test_to_xyz_steps_along_the_columns_of_direction(ct: CtVolume) -> None:
    step_xyz = ct.geometry.to_xyz([0, 0, 1]) - ct.geometry.to_xyz([0, 0, 0])
    np.testing.assert_allclose(step_xyz, 0.7 * ct.geometry.direction[:, 0])


def test_axial_geometry_runs_left_back_and_up() -> None:
    geometry = ImageGeometry.axial((0.5, 0.6, 2.0), (-10, -20, -30))
    np.testing.assert_allclose(geometry.to_xyz([1, 2, 3]), [-10 + 1.5, -20 + 1.2, -30 + 2.0])


def test_a_skewed_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="orthonormal"):
        ImageGeometry(np.zeros(3), np.ones(3), np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1.0]]))


@pytest.mark.parametrize("spacing", [0.0, -1.0, np.nan, np.inf])
def test_an_impossible_spacing_is_refused(spacing: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        ImageGeometry.axial((1, 1, spacing))


@pytest.mark.parametrize("center_irc", [(5, 7, 9), (0, 0, 0), (11, 15, 19)])
def test_crop_keeps_the_centre_in_the_middle(ct: CtVolume, center_irc: tuple[int, int, int]) -> None:
    assert crop_around(ct.hu, center_irc, (4, 6, 8))[2, 3, 4] == ct.hu[center_irc]


@pytest.mark.parametrize("shape_irc", [(4, 6, 8), (5, 7, 3)])
def test_crop_start_is_the_place_of_the_first_voxel(ct: CtVolume, shape_irc: tuple[int, int, int]) -> None:
    nodule_irc = np.array([5, 7, 9]) - crop_start((5, 7, 9), shape_irc)
    assert crop_around(ct.hu, (5, 7, 9), shape_irc)[tuple(nodule_irc)] == 40.0


def test_crop_outside_the_ct_is_fill(ct: CtVolume) -> None:
    np.testing.assert_array_equal(crop_around(ct.hu, (-50, 300, 4), (4, 6, 8), fill=-7.0), -7.0)


def test_crop_box_keeps_positions(ct: CtVolume) -> None:
    box = crop_box(ct, (4, 5, 6), (9, 99, 99))
    np.testing.assert_allclose(box.geometry.to_xyz([1, 2, 3]), ct.geometry.to_xyz([5, 7, 9]))


def test_crop_box_is_clipped_to_the_ct(ct: CtVolume) -> None:
    assert crop_box(ct, (-4, 5, 6), (9, 99, 99)).hu.shape == (9, 11, 14)


def test_an_empty_crop_box_is_refused(ct: CtVolume) -> None:
    with pytest.raises(ValueError, match="empty"):
        crop_box(ct, (4, 5, 6), (4, 9, 9))


@all_directions
def test_to_canonical_keeps_every_voxels_position(direction: NDArray[np.float64]) -> None:
    before, after = numbered(direction), to_canonical(numbered(direction))
    irc = np.argsort(after.hu, axis=None)  # voxel values count the voxels of `before`
    after_xyz = after.geometry.to_xyz(np.stack(np.unravel_index(irc, after.hu.shape), -1))
    before_xyz = before.geometry.to_xyz(np.moveaxis(np.indices(before.hu.shape), 0, -1)).reshape(-1, 3)
    np.testing.assert_allclose(after_xyz, before_xyz, atol=1e-9)


@all_directions
def test_to_canonical_runs_left_back_and_up(direction: NDArray[np.float64]) -> None:
    assert (np.diag(to_canonical(numbered(direction)).geometry.direction) > 0.7).all()


@all_directions
@pytest.mark.parametrize("spacing_mm", [1.0, 0.6, 2.5, (0.7, 1.3, 3.0)])
def test_resample_keeps_positions(direction: NDArray[np.float64], spacing_mm: float) -> None:
    center_xyz = np.array([12.3, -45.6, 78.9])
    after = resample(blob(direction, center_xyz), spacing_mm)
    np.testing.assert_allclose(center_of_mass_xyz(after), center_xyz, atol=0.02)


def test_resample_gives_the_spacing_asked_for(ct: CtVolume) -> None:
    np.testing.assert_array_equal(resample(ct, (1.0, 1.5, 2.0)).geometry.spacing_xyz, [1.0, 1.5, 2.0])


def test_resample_keeps_the_extent(ct: CtVolume) -> None:
    assert resample(ct, 1.0).hu.shape == (15, 13, 14)  # 12 * 1.25, 16 * 0.8, 20 * 0.7 mm


@pytest.mark.parametrize("spacing_mm", [0.5, 1.0, 3.3])
def test_resample_leaves_a_constant_image_constant(ct: CtVolume, spacing_mm: float) -> None:
    even = replace(ct, hu=np.full_like(ct.hu, -850))
    np.testing.assert_allclose(resample(even, spacing_mm).hu, -850, atol=1e-3)


def test_resample_to_the_same_spacing_changes_nothing(ct: CtVolume) -> None:
    np.testing.assert_array_equal(resample(ct, (0.7, 0.8, 1.25)).hu, ct.hu)


def test_resample_keeps_integers(ct: CtVolume) -> None:
    assert resample(replace(ct, hu=ct.hu.astype(np.int16)), 1.0).hu.dtype == np.int16


def test_resample_averages_noise_where_voxels_grow() -> None:
    noise = np.random.default_rng(0).normal(0, 50, (60, 60, 60)).astype(np.float32)
    assert resample(CtVolume("1.2.3", noise, ImageGeometry.axial()), 3.0).hu.std() < 10


def test_the_numbers_of_simpleitk_are_taken_as_they_are() -> None:
    found = ImageGeometry(
        (-90.0, -80.0, 5.0), (0.7, 0.8, 1.25), (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    )  # type: ignore[arg-type]
    assert found.direction.tolist() == [[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]
    assert found.to_xyz((1, 0, 0)).tolist() == [-90.0, -80.0, 6.25]


def test_a_geometry_of_too_few_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"spacing_xyz is \(2,\); wanted \(3,\)"):
        ImageGeometry(np.zeros(3), np.ones(2), np.eye(3))
