"""A ball in lung keeps its place in the patient and its HU, whatever is done to the scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from p2ch_luna.datasets.variants import (
    AS_IT_IS,
    VARIANTS,
    cropped,
    is_in_view,
    noisy,
    sharper,
    sliced,
    softer,
    turned,
)
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.lungs import PreparedCt

CENTER_XYZ = np.array([18.0, 6.0, 22.0])
RADIUS_MM, BALL_HU, LUNG_HU = 8.0, 100.0, -800.0
TILT = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
UPSIDE_DOWN = np.diag([1.0, -1.0, -1.0])


def scan(direction: np.ndarray = TILT, slice_mm: float = 1.25, slices: int = 44) -> CtVolume:
    """A ball in lung, on three different spacings and sides, round (5, 5, 23)."""
    shape, spacing = (slices, 90, 100), np.array([0.7, 0.8, slice_mm])
    middle_irc = (np.array(shape) - 1) / 2
    origin = np.array([5.0, 5.0, 23.0]) - direction @ (middle_irc[::-1] * spacing)
    geometry = ImageGeometry(origin, spacing, direction)
    off = geometry.to_xyz(np.moveaxis(np.indices(shape), 0, -1)) - CENTER_XYZ
    hu = np.where((off**2).sum(axis=-1) <= RADIUS_MM**2, BALL_HU, LUNG_HU).astype(np.int16)
    return CtVolume("1.2.3", hu, geometry)


def lungs_of(ct: CtVolume, low_xyz: tuple[float, ...], high_xyz: tuple[float, ...]) -> PreparedCt:
    """What stands for the lungs' box with its margin: LPS mm, on 1 mm."""
    shape = (np.array(high_xyz) - low_xyz)[::-1].astype(int)
    geometry = ImageGeometry.axial((1, 1, 1), np.array(low_xyz) + 0.5)
    box = CtVolume(ct.series_uid, np.zeros(shape, np.int16), geometry)
    return PreparedCt(box, np.ones(shape, bool), None, ct.geometry)


def ball_of(ct: CtVolume) -> tuple[np.ndarray, float]:
    """LPS centre of mass of what is above lung, and its mass: HU above the lung times mm³."""
    above = np.clip(ct.hu.astype(float) - LUNG_HU - 100, 0, None)
    irc = np.argwhere(above)
    weight = above[tuple(irc.T)]
    center = np.average(ct.geometry.to_xyz(irc), axis=0, weights=weight)
    return center, float(weight.sum() * ct.geometry.spacing_xyz.prod())


def mean_inside(ct: CtVolume, radius_mm: float) -> float:
    """Mean HU within this distance of the ball's centre."""
    off = ct.geometry.to_xyz(np.moveaxis(np.indices(ct.hu.shape), 0, -1)) - CENTER_XYZ
    return float(ct.hu[(off**2).sum(axis=-1) <= radius_mm**2].mean())


@pytest.mark.parametrize("direction", [np.eye(3), TILT, UPSIDE_DOWN], ids=["axial", "tilted", "upside down"])
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "right half in view"])
def test_a_ball_keeps_its_place_and_its_hu(name: str, direction: np.ndarray) -> None:
    """Its centre lies in the patient's left half of the lungs: x from -32 to 42, so from 5 on."""
    ct = scan(direction)
    lungs = lungs_of(ct, (-32, -30, 0), (42, 40, 46))
    changed = VARIANTS[name](ct, lungs, np.random.default_rng(0))
    center, _ = ball_of(replace(changed, hu=np.minimum(changed.hu, BALL_HU).astype(np.float32)))
    assert np.linalg.norm(center - CENTER_XYZ) < 0.5
    tolerance_hu = 12 if "noise" in name else 1  # 270 mm3 have some 40 grains: noise of 40 HU leaves 6
    assert mean_inside(changed, 4.0) == pytest.approx(BALL_HU, abs=tolerance_hu)


def test_as_it_is_changes_nothing() -> None:
    ct = scan()
    assert VARIANTS[AS_IT_IS](ct, lungs_of(ct, (-9, -9, 9), (9, 9, 30)), np.random.default_rng(0)) is ct


def test_a_thick_slice_is_the_mean_of_what_it_covers() -> None:
    """Slices of 2 mm at HU 0, 100, 200, 300: 3 mm cover one and a half of them; the rest fills none."""
    hu = np.broadcast_to(np.array([0, 100, 200, 300], np.float32)[:, None, None], (4, 2, 2))
    ct = CtVolume("1", hu.astype(np.float32), ImageGeometry.axial((1, 1, 2), (0, 0, 10)))
    thick = sliced(ct, 3.0)
    np.testing.assert_allclose(thick.hu[:, 0, 0], [100 / 3, 500 / 3], rtol=1e-6)
    assert thick.geometry.to_xyz([0, 0, 0]).tolist() == [0, 0, 10.5]  # the first begins at 9
    assert thick.geometry.spacing_xyz.tolist() == [1, 1, 3]
    thicker = sliced(ct, 4.0)
    np.testing.assert_allclose(thicker.hu[:, 0, 0], [50, 250], rtol=1e-6)


def test_thin_slices_are_interpolated() -> None:
    """2 mm into 1 mm: new centres lie a quarter of a slice from the old ones."""
    hu = np.broadcast_to(np.array([0, 100, 200], np.float32)[:, None, None], (3, 2, 2))
    ct = CtVolume("1", hu.astype(np.float32), ImageGeometry.axial((1, 1, 2)))
    np.testing.assert_allclose(sliced(ct, 1.0).hu[:, 0, 0], [0, 25, 75, 125, 175, 200], rtol=1e-6)


def test_slices_thicker_than_the_scan_are_one() -> None:
    ct = CtVolume("1", np.full((2, 3, 3), 7, np.int16), ImageGeometry.axial((1, 1, 2)))
    assert sliced(ct, 9.0).hu.shape == (1, 3, 3)


def test_noise_has_the_width_that_was_asked_for_and_a_grain_in_the_slice_alone() -> None:
    ct = CtVolume("1", np.full((20, 128, 128), -800, np.float32), ImageGeometry.axial((0.7, 0.7, 1.0)))
    noise = noisy(ct, 40.0, np.random.default_rng(0)).hu - ct.hu
    assert noise.std() == pytest.approx(40, rel=0.02)
    beside = (noise[:, :, 1:] * noise[:, :, :-1]).mean() / 40**2
    above = (noise[1:] * noise[:-1]).mean() / 40**2
    assert beside == pytest.approx(np.exp(-1 / 4), abs=0.03)  # of a Gaussian of one pixel
    assert abs(above) < 0.02


@pytest.mark.parametrize("change", [lambda ct: noisy(ct, 40.0, np.random.default_rng(0)), softer, sharper])
def test_what_the_scanner_did_not_see_stays(change: Callable[[CtVolume], CtVolume]) -> None:
    ct = scan()
    ct.hu[:, :10] = -3024
    changed = change(ct)
    assert (changed.hu[:, :10] == -3024).all()
    assert changed.hu[:, 10:].min() >= -1024
    assert changed.hu.dtype == np.int16


def test_a_soft_kernel_lowers_the_noise_and_a_sharp_one_raises_it() -> None:
    ct = CtVolume("1", np.full((9, 60, 60), 0, np.float32), ImageGeometry.axial((0.7, 0.7, 1.0)))
    ct = noisy(ct, 20.0, np.random.default_rng(0))
    assert softer(ct).hu.std() < 0.8 * ct.hu.std() < ct.hu.std() < 0.8 * sharper(ct).hu.std()


def test_a_sharp_kernel_overshoots_at_an_edge() -> None:
    assert sharper(scan()).hu.max() > BALL_HU + 50


def test_turned_round_the_array_is_reversed() -> None:
    ct = scan()
    np.testing.assert_array_equal(turned(ct, (0,)).hu, ct.hu[::-1])
    np.testing.assert_array_equal(turned(ct, (1, 2)).hu, ct.hu[:, ::-1, ::-1])


@pytest.mark.parametrize("axes", [(0,), (1, 2)])
def test_turned_round_a_voxel_lies_where_it_lay(axes: tuple[int, ...]) -> None:
    ct = scan()
    there = np.array([3, 20, 50])
    at = np.where(np.isin(np.arange(3), axes), np.array(ct.hu.shape) - 1 - there, there)
    np.testing.assert_allclose(turned(ct, axes).geometry.to_xyz(at), ct.geometry.to_xyz(there), atol=1e-9)


@pytest.mark.parametrize("direction", [np.eye(3), UPSIDE_DOWN, np.diag([-1.0, -1.0, 1.0])])
@pytest.mark.parametrize(("half", "ends_mm"), [("", (-10, 24)), ("left", (7, 24)), ("right", (-10, 7))])
def test_the_view_is_that_of_the_lungs(direction: np.ndarray, half: str, ends_mm: tuple[int, int]) -> None:
    """Lungs from -10 to 24 mm to the left: halves meet at 7; a voxel of 0.7 mm may be more at either end."""
    ct = scan(direction)
    view = cropped(ct, lungs_of(ct, (-10, -20, 10), (24, 20, 40)), half)
    corners = view.geometry.to_xyz([[-0.5] * 3, np.array(view.hu.shape) - 0.5])
    low, high = corners.min(axis=0), corners.max(axis=0)
    np.testing.assert_allclose([low[0], high[0]], ends_mm, atol=0.71)
    np.testing.assert_allclose([low[1], high[1]], [-20, 20], atol=0.81)
    np.testing.assert_allclose([low[2], high[2]], [10, 40], atol=1.26)


def test_the_halves_are_the_whole_without_a_gap() -> None:
    ct = scan(np.eye(3))
    lungs = lungs_of(ct, (-10, -20, 10), (24, 20, 40))
    whole, left, right = (cropped(ct, lungs, half).hu for half in ("", "left", "right"))
    np.testing.assert_array_equal(np.concatenate([right, left], axis=2), whole)


def test_a_nodule_is_in_view_up_to_the_edge_of_the_last_voxel() -> None:
    ct = CtVolume("1", np.zeros((4, 4, 4), np.int16), ImageGeometry.axial((1, 1, 2)))
    seen = [is_in_view(ct, Nodule("1", (1.0, 1.0, z), 5.0)) for z in (-1.1, -0.9, 6.9, 7.1)]
    assert seen == [False, True, True, False]
