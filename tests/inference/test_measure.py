"""Findings measured: ellipsoids of known size on the grids that scans may have."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation
from scipy.special import expit

from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.inference.anatomy import LungMap
from p2ch_luna.inference.measure import Measurement, measure
from p2ch_luna.inference.regions import Region
from p2ch_luna.lungs import RIGHT
from support.turned_ct import turned

CENTER_XYZ = np.array([30.2, -20.6, 100.3])
HALF_AXES_MM = np.array([8.0, 5.0, 6.0])  # along x, y, z
LEVEL = 0.65
ONE_MM = ImageGeometry.axial((1.0, 1.0, 1.0), CENTER_XYZ - 15 + 0.37)
LOW_XYZ = CENTER_XYZ - 24


def out(xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far out places (..., 3) are: 1 on the surface of the ellipsoid."""
    return np.asarray(np.linalg.norm((xyz - CENTER_XYZ) / HALF_AXES_MM, axis=-1))


def points(geometry: ImageGeometry, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return geometry.to_xyz(np.moveaxis(np.indices(shape), 0, -1))


@pytest.fixture
def region() -> Region:
    """As a network would draw the ellipsoid: soft, its surface at the level."""
    logit = 8 * (1 - out(points(ONE_MM, (31, 31, 31)))) + math.log(LEVEL / (1 - LEVEL))
    return Region(expit(logit).astype(np.float32), ONE_MM, LEVEL)


def scan(spacing_xyz: ArrayLike = (0.7, 0.7, 1.25), direction: NDArray[np.float64] | None = None) -> CtVolume:
    """The ellipsoid of 40 HU in lung, on 48 mm of any grid."""
    spacing = np.asarray(spacing_xyz, float)
    direction = np.eye(3) if direction is None else direction
    shape = tuple(np.rint(48 / spacing[::-1]).astype(int))
    middle = direction @ (spacing * (np.array(shape[::-1]) - 1) / 2)
    geometry = ImageGeometry(CENTER_XYZ - middle, spacing, direction)
    hu = np.where(out(points(geometry, shape)) <= 1, 40, -850).astype(np.int16)
    return CtVolume("1.2.3", hu, geometry)


def test_the_mask_is_the_ellipsoid_on_the_scans_own_grid(region: Region) -> None:
    ct = scan()
    found = measure(ct, region, None)
    whole = np.zeros(ct.hu.shape, bool)
    whole[tuple(slice(a, a + n) for a, n in zip(found.low_irc, found.mask.shape, strict=True))] = found.mask
    true = out(points(ct.geometry, ct.hu.shape)) <= 1
    assert 2 * (whole & true).sum() / (whole.sum() + true.sum()) > 0.97


@pytest.mark.parametrize(
    "spacing_xyz", [(0.7, 0.7, 1.25), (0.5, 0.5, 3.0), (1.0, 1.0, 1.0), (0.98, 0.98, 5.0)]
)
def test_lengths_are_those_of_the_ellipsoid(region: Region, spacing_xyz: tuple[float, ...]) -> None:
    ct = scan(spacing_xyz)
    found = measure(ct, region, None)
    off_mm = np.abs(points(ct.geometry, ct.hu.shape)[:, 0, 0, 2] - CENTER_XYZ[2]).min()  # the nearest slice
    narrower = math.sqrt(1 - (off_mm / 6) ** 2)
    assert found.longest_mm == pytest.approx(16 * narrower, abs=0.5)
    assert found.perpendicular_mm == pytest.approx(10 * narrower, abs=0.5)
    assert found.mean_diameter_mm == (found.longest_mm + found.perpendicular_mm) / 2


def test_the_volume_is_that_of_the_voxels_of_the_mask(region: Region) -> None:
    found = measure(scan(), region, None)
    assert found.volume_mm3 == pytest.approx(found.mask.sum() * 0.7 * 0.7 * 1.25)
    assert found.volume_mm3 == pytest.approx(4 / 3 * math.pi * 8 * 5 * 6, rel=0.05)
    assert math.pi / 6 * found.diameter_mm**3 == pytest.approx(found.volume_mm3)


def test_ends_of_the_lines_lie_where_the_ellipsoid_ends(region: Region) -> None:
    found = measure(scan(), region, None)
    (a, b), (c, d) = (np.array(ends) for ends in (found.longest_lps_mm, found.perpendicular_lps_mm))
    assert np.linalg.norm(a - b) == pytest.approx(found.longest_mm)
    assert np.linalg.norm(c - d) == pytest.approx(found.perpendicular_mm)
    np.testing.assert_allclose(np.abs(a - b), [16, 0, 0], atol=1)
    np.testing.assert_allclose(np.abs(c - d), [0, 10, 0], atol=1)
    np.testing.assert_allclose((a + b) / 2, CENTER_XYZ, atol=0.7)


def test_hu_are_those_of_the_scan(region: Region) -> None:
    ct = scan()
    found = measure(replace(ct, hu=np.where(ct.hu > 0, 100, 100).astype(np.int16)), region, None)
    assert found.mean_hu == 100


def numbers(found: Measurement) -> dict[str, object]:
    """What is not of the array."""
    own = {field.name: getattr(found, field.name) for field in fields(found)}
    return {
        name: pytest.approx(np.ravel(value)) if name.endswith("_mm") and value is not None else value
        for name, value in own.items()
        if name not in ("mask", "low_irc", "longest_lps_mm", "perpendicular_lps_mm")
    }


@pytest.mark.parametrize(("axes", "signs"), list(product(permutations(range(3)), [(1, 1, 1), (-1, 1, -1)])))
def test_the_same_scan_in_another_order_has_the_same_numbers(
    region: Region, axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    straight, other = measure(scan(), region, lungs()), measure(turned(scan(), axes, signs), region, lungs())
    for name, value in numbers(straight).items():
        assert (
            np.ravel(getattr(other, name)) == value if name.endswith("_mm") else getattr(other, name) == value
        )
    np.testing.assert_allclose(other.longest_lps_mm, straight.longest_lps_mm, atol=1e-6)
    np.testing.assert_allclose(other.perpendicular_lps_mm, straight.perpendicular_lps_mm, atol=1e-6)
    assert other.mask.sum() == straight.mask.sum()


def lungs() -> LungMap:
    """A right lung all round the ellipsoid: 22 mm from its centre to each side."""
    sides = np.zeros((30, 30, 30), np.uint8)
    sides[4:26, 4:26, 4:26] = RIGHT
    return LungMap(sides, ImageGeometry.axial((2.0, 2.0, 2.0), CENTER_XYZ - 29))


def test_its_place_is_that_in_the_lungs(region: Region) -> None:
    found = measure(scan(), region, lungs())
    assert (found.side, found.third) == ("right", "middle")
    assert found.pleura_mm == pytest.approx(22 - 8, abs=0.7)


def test_without_lungs_it_has_no_place(region: Region) -> None:
    found = measure(scan(), region, None)
    assert (found.side, found.third, found.pleura_mm) == (None, None, None)


@pytest.mark.parametrize("angle", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_oblique_scan_measures_the_same_within_half_a_millimetre(
    region: Region, axis: int, angle: float
) -> None:
    ball = replace(region, probability=ball_probability())
    c, s = math.cos(angle), math.sin(angle)
    turn = np.roll(np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), (axis, axis), (0, 1))
    straight, oblique = measure(scan(), ball, None), measure(scan(direction=turn), ball, None)
    for name in ("longest_mm", "perpendicular_mm", "mean_diameter_mm", "diameter_mm"):
        assert getattr(oblique, name) == pytest.approx(getattr(straight, name), abs=0.5)


def ball_probability(radius_mm: float = 6.0, peak: float = 1.0) -> NDArray[np.float32]:
    from_center = np.linalg.norm(points(ONE_MM, (31, 31, 31)) - CENTER_XYZ, axis=-1)
    said = peak * expit(2 * (radius_mm - from_center) + math.log(LEVEL / (1 - LEVEL)))
    return np.asarray(said, np.float32)


def test_a_finding_between_the_slices_has_the_voxel_nearest_to_its_peak() -> None:
    tiny = np.zeros((9, 9, 9), np.float32)
    tiny[4, 4, 4] = 0.9
    grid = ImageGeometry.axial((1.0, 1.0, 1.0), CENTER_XYZ - 4)
    ct = scan((0.7, 0.7, 10.0))
    ct = replace(ct, geometry=ct.geometry.moved_to((0.3, 0, 0)))  # its slices lie 2 mm away, and farther
    found = measure(ct, Region(tiny, grid, 0.585), None)
    assert found.mask.shape == (1, 1, 1)
    nearest = np.rint(ct.geometry.to_irc(CENTER_XYZ)).astype(int)
    assert found.low_irc == tuple(nearest)
    assert (found.longest_mm, found.perpendicular_mm) == pytest.approx((0.7, 0.7), rel=1e-6)


def taken_from(found: Measurement, shape: tuple[int, ...], wider: int = 0) -> NDArray[np.bool_]:
    """The voxels of a measurement, and so many round it."""
    taken = np.zeros(shape, bool)
    taken[found.box] = found.mask
    return np.asarray(binary_dilation(taken, iterations=wider)) if wider else taken


def test_what_another_finding_has_taken_is_not_measured(region: Region) -> None:
    ct = scan()
    alone = measure(ct, region, None)
    taken = taken_from(alone, ct.hu.shape)
    taken[:, :, : ct.hu.shape[2] // 2 + 5] = False  # all but its left tail
    rest = measure(ct, region, None, taken)
    assert not taken_from(rest, ct.hu.shape)[taken].any()
    assert rest.volume_mm3 == pytest.approx(rest.mask.sum() * 0.7 * 0.7 * 1.25)
    assert rest.mask.sum() == alone.mask.sum() - taken.sum()
    assert rest.longest_mm < alone.longest_mm - 2


@pytest.mark.parametrize("wider", [0, 3, 12])
def test_a_finding_of_which_all_is_taken_keeps_the_nearest_free_voxel(region: Region, wider: int) -> None:
    ct = scan()
    taken = taken_from(measure(ct, region, None), ct.hu.shape, wider)
    left = measure(ct, region, None, taken)
    free = np.argwhere(~taken)
    nearest_mm = np.linalg.norm(ct.geometry.to_xyz(free) - region.peak_xyz, axis=1).min()
    assert left.mask.sum() == 1
    assert not taken[left.low_irc]
    assert math.dist(ct.geometry.to_xyz(left.low_irc), region.peak_xyz) == pytest.approx(nearest_mm)


def test_of_parts_that_do_not_hang_together_the_largest_counts(region: Region) -> None:
    alone = measure(scan(), region, None)
    region.probability[20:22, 19:21, 22:24] = 1.0  # beside a corner of its box
    both = measure(scan(), region, None)
    assert (both.volume_mm3, both.longest_mm) == (alone.volume_mm3, alone.longest_mm)


@pytest.mark.parametrize("low", [(0, 0, 0), (19, 0, 0), (0, 34, 34)])
def test_at_an_end_of_the_scan_the_mask_is_clipped(region: Region, low: tuple[int, int, int]) -> None:
    whole = scan()
    ct = replace(
        whole, hu=whole.hu[tuple(slice(a, None) for a in low)], geometry=whole.geometry.moved_to(low)
    )
    found, all_of_it = measure(ct, region, None), measure(whole, region, None)
    box = tuple(slice(a, a + n) for a, n in zip(found.low_irc, found.mask.shape, strict=True))
    assert ct.hu[box].shape == found.mask.shape
    assert 0 < found.mask.sum() <= all_of_it.mask.sum()


def test_the_solid_part_is_measured_by_itself(region: Region) -> None:
    ct = scan((0.7, 0.7, 0.7))
    hu = np.where(ct.hu > 0, -600, ct.hu)
    from_center = np.linalg.norm(points(ct.geometry, ct.hu.shape) - CENTER_XYZ, axis=-1)
    hu[from_center <= 3.5] = 40
    found = measure(replace(ct, hu=hu.astype(np.int16)), region, None)
    assert found.texture == "part-solid"
    assert found.solid_mm == pytest.approx(7, abs=0.7)


@pytest.mark.parametrize(("hu", "texture"), [(40, "solid"), (-600, "ground-glass")])
def test_what_is_solid_is_solid_all_over_and_ground_glass_nowhere(
    region: Region, hu: int, texture: str
) -> None:
    ct = scan()
    found = measure(replace(ct, hu=np.where(ct.hu > 0, hu, ct.hu).astype(np.int16)), region, None)
    assert found.texture == texture
    assert found.solid_mm == (found.mean_diameter_mm if texture == "solid" else 0)


def test_a_diagnosis_can_be_measured(detector: NoduleDetector, scan: CtVolume) -> None:
    found = detector(scan)
    size = measure(scan, found.regions[0], found.lungs)
    assert size.mean_diameter_mm == pytest.approx(10, abs=1.5)
    assert (size.side, size.third, size.texture) == ("right", "middle", "solid")


def test_a_flipped_diagnosis_measures_the_same(
    detector: NoduleDetector, make_chest: Callable[..., CtVolume]
) -> None:
    chest = make_chest(ImageGeometry.axial((1.25, 1.25, 2.0), (-100.0, -75.0, -5.0)), (50, 120, 160))
    one, other = (
        measure(ct, found.regions[0], found.lungs)
        for ct in (chest, turned(chest, (0, 1, 2), (-1, 1, -1)))
        for found in [detector(ct)]
    )
    for name in ("longest_mm", "perpendicular_mm", "volume_mm3", "mean_hu", "pleura_mm"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-6)
