"""Solid, part-solid and ground-glass balls, with the rims that partial volume gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from p2ch_luna.datasets.implant import with_sound_masks
from p2ch_luna.datasets.luna16_ratings import with_ratings
from p2ch_luna.datasets.splits import in_folds
from p2ch_luna.findings import Nodule
from p2ch_luna.inference.texture import solid_part, texture_of
from p2ch_luna.io.lidc import load_crop, read_lidc_nodules

SPACING_IRC = (1.0, 0.7, 0.7)
GROUND_GLASS, SOLID = -600.0, 30.0
CALLED = ("ground-glass", "part-solid", "solid")


def ball(radius_mm: float) -> NDArray[np.bool_]:
    steps = np.meshgrid(*(np.arange(-15, 16) * step for step in SPACING_IRC), indexing="ij")
    return np.asarray(sum(step**2 for step in steps) <= radius_mm**2)


def scan(*balls: tuple[float, float], blur_mm: float = 0.0) -> NDArray[np.float32]:
    """Lung with concentric balls of a radius and HU, the largest first."""
    hu = np.full((31, 31, 31), -850.0)
    for radius_mm, value in balls:
        hu[ball(radius_mm)] = value
    return ndimage.gaussian_filter(hu, blur_mm / np.array(SPACING_IRC)).astype(np.float32)


@pytest.mark.parametrize("radius_mm", [2.5, 4.0, 8.0])
def test_a_solid_ball_is_solid_though_its_rim_is_dark(radius_mm: float) -> None:
    hu, mask = scan((radius_mm, SOLID), blur_mm=0.8), ball(radius_mm)
    assert hu[mask].min() < -400
    assert texture_of(hu, mask, SPACING_IRC) == "solid"


@pytest.mark.parametrize("radius_mm", [2.5, 4.0, 8.0])
def test_a_ball_of_ground_glass_is_ground_glass(radius_mm: float) -> None:
    assert texture_of(scan((radius_mm, GROUND_GLASS), blur_mm=0.8), ball(radius_mm), SPACING_IRC) == (
        "ground-glass"
    )


def test_ground_glass_with_a_solid_core_is_part_solid() -> None:
    assert texture_of(scan((8.0, GROUND_GLASS), (4.0, SOLID)), ball(8.0), SPACING_IRC) == "part-solid"


def test_a_vessel_in_ground_glass_is_not_its_solid_part() -> None:
    hu = scan((8.0, GROUND_GLASS))
    hu[:, 15:17, 15:17] = SOLID
    assert texture_of(hu, ball(8.0), SPACING_IRC) == "ground-glass"


@pytest.mark.parametrize(("hu", "texture"), [(30, "solid"), (-600, "ground-glass")])
def test_one_voxel_has_a_texture(hu: float, texture: str) -> None:
    mask = np.ones((1, 1, 1), bool)
    assert texture_of(np.full((1, 1, 1), hu, np.float32), mask, SPACING_IRC) == texture


def test_voxels_from_minus_300_hu_on_are_solid() -> None:
    hu, mask = np.array([[[-301, -300, 40, 40]]], np.int16), np.array([[[True, True, True, False]]])
    assert solid_part(hu, mask).tolist() == [[[False, True, True, False]]]


@pytest.mark.slow
def test_readers_of_lidc_mostly_agree(shared_data: Path) -> None:
    """Of patients that had no part in the choice of the rule; readers differ among themselves too."""
    table = np.zeros((3, 3), int)
    for nodule in with_sound_masks(in_folds(read_lidc_nodules(shared_data / "lidc"), [6, 7, 8, 9])):
        (rated,) = with_ratings([Nodule(nodule.series_uid, nodule.center_xyz, nodule.diameter_mm)])
        theirs = class_of(rated.texture)
        if theirs is not None:
            crop = load_crop(nodule)
            table[theirs, CALLED.index(texture_of(crop.ct.hu, crop.mask, crop.ct.geometry.spacing_irc))] += 1
    assert table.tolist() == [[22, 4, 1], [2, 3, 0], [1, 15, 236]]


def class_of(rating: float | None) -> int | None:
    """Of a mean rating, 1 (ground glass) to 5 (solid); None between the classes."""
    if rating is None:
        return None
    for number, (low, high) in enumerate(((1, 2), (2.5, 3.5), (4, 5))):
        if low <= rating <= high:
            return number
    return None
