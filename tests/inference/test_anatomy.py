"""Places in lungs that are boxes, with distances worked by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.geometry import CtVolume, ImageGeometry, crop_box
from p2ch_luna.inference.anatomy import NOWHERE, LungMap, Place, coverage_warnings, lung_map, place_of
from p2ch_luna.lungs import EITHER, LEFT, RIGHT, Lungs, find_lungs

COARSE = ImageGeometry.axial((2.0, 2.0, 2.0), (-60.0, -40.0, 0.0))
FINE = ImageGeometry.axial(
    (1.0, 1.0, 1.0), (-60.0, -40.0, 0.0)
)  # voxel (0, 0, 0) lies where the coarse one does
SHAPE = (90, 80, 120)


def boxes() -> NDArray[np.uint8]:
    """Lungs of 36 x 60 mm, 60 mm high: their edges at x -55 to -19 and 21 to 57, y -35 to 25, z 9 to 69."""
    sides = np.zeros((45, 40, 60), np.uint8)
    sides[5:35, 3:33, 3:21] = RIGHT
    sides[5:35, 3:33, 41:59] = LEFT
    return sides


@pytest.fixture
def lungs() -> LungMap:
    return LungMap(boxes(), COARSE)


def cube(x: float, y: float, z: float, side: int = 5) -> NDArray[np.bool_]:
    """A cube of so many voxels of 1 mm, its middle voxel at these mm."""
    middle = np.rint(FINE.to_irc((x, y, z))).astype(int)
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(m - side // 2, m - side // 2 + side) for m in middle)] = True
    return mask


def place(lungs: LungMap, x: float, y: float, z: float, side: int = 5) -> Place:
    return place_of(cube(x, y, z, side), FINE, lungs)


@pytest.mark.parametrize(("x", "side"), [(-37, "right"), (39, "left")])
def test_the_side_is_the_patients(lungs: LungMap, x: float, side: str) -> None:
    assert place(lungs, x, -5, 40).side == side


@pytest.mark.parametrize(("z", "third"), [(15, "lower"), (27, "lower"), (31, "middle"), (46, "middle"),
                                          (51, "upper"), (64, "upper")])  # fmt: skip
def test_thirds_are_of_the_lungs_height(lungs: LungMap, z: float, third: str) -> None:
    assert place(lungs, -37, -5, z).third == third


def test_thirds_are_of_that_lung(lungs: LungMap) -> None:
    lungs.sides[:20][lungs.sides[:20] == LEFT] = 0  # the left one from z 40 up
    assert place(lungs, -37, -5, 45).third == "middle"
    assert place(lungs, 39, -5, 45).third == "lower"


def cut(bottom: bool, top: bool) -> LungMap:
    """The lungs between z 9 and 69 where they go on to the ends of the image, or to one of them."""
    sides = boxes()[5:35]
    ends = ([], [sides[:1] * 0])
    return LungMap(
        np.concatenate([*ends[not bottom], sides, *ends[not top]]), COARSE.moved_to((4 + bottom, 0, 0))
    )


@pytest.mark.parametrize(
    ("bottom", "top", "thirds"),
    [
        (False, False, ["lower", "middle", "upper"]),
        (True, False, [None, None, "upper"]),  # more lung below moves a place up in it
        (False, True, ["lower", None, None]),
        (True, True, [None, None, None]),
    ],
)
def test_a_third_that_what_is_cut_off_may_change_is_not_told(
    bottom: bool, top: bool, thirds: list[str | None]
) -> None:
    assert [place(cut(bottom, top), -37, -5, z).third for z in (15, 40, 64)] == thirds


def test_the_side_of_lungs_that_are_cut_off_is_told() -> None:
    assert place(cut(True, True), -37, -5, 40).side == "right"


def test_a_lung_that_ends_in_the_image_has_its_thirds_beside_one_that_does_not() -> None:
    sides = cut(True, True).sides
    sides[[0, -1]] *= sides[[0, -1]] != RIGHT
    known = LungMap(sides, COARSE.moved_to((5, 0, 0)))
    assert [place(known, x, -5, 40).third for x in (-37, 39)] == ["middle", None]


def test_a_tip_of_lung_at_the_end_leaves_the_thirds() -> None:
    sides = boxes()
    sides[4::-1, 3:13, 3:13] = RIGHT  # down to the end, 4 cm² of it
    assert place(LungMap(sides, COARSE), -37, -5, 40).third == "middle"


@pytest.mark.parametrize(
    ("x", "y", "z", "pleura_mm"),
    [
        (-45, -5, 40, 7.5),  # 10 mm from the wall at -55, less half of 5 mm
        (-30, -5, 40, 8.5),  # 11 mm from the mediastinum at -19
        (-37, -25, 40, 7.5),  # in front
        (-37, -5, 20, 8.5),  # above the diaphragm at z 9
        (39, -5, 60, 6.5),  # below the apex at z 69
    ],
)
def test_the_pleura_is_as_far_as_the_nearest_edge(
    lungs: LungMap, x: float, y: float, z: float, pleura_mm: float
) -> None:
    assert place(lungs, x, y, z).pleura_mm == pytest.approx(pleura_mm, abs=0.3)  # edges are known by points


def test_what_reaches_out_of_the_lung_touches_the_pleura(lungs: LungMap) -> None:
    assert place(lungs, -54, -5, 40).pleura_mm == 0


def test_what_lies_just_outside_is_of_the_nearer_lung(lungs: LungMap) -> None:
    found = place(lungs, -14, -5, 64, side=3)  # the mediastinal edge is at -19
    assert found == Place("right", "upper", 0.0)


def test_an_end_of_the_image_is_no_pleura() -> None:
    sides = boxes()
    sides[:5] = sides[5]  # the lungs go on down to the end of the image, and beyond
    assert place(LungMap(sides, COARSE), -37, -5, 4).pleura_mm == pytest.approx(15.5, abs=0.3)  # to the side


def test_lungs_that_fill_the_image_tell_nothing() -> None:
    assert place(LungMap(np.full((45, 40, 60), EITHER, np.uint8), COARSE), -37, -5, 40) == NOWHERE


def test_lungs_that_no_gap_tells_apart_have_no_side(lungs: LungMap) -> None:
    lungs.sides[lungs.sides > 0] = EITHER
    found = place(lungs, -37, -5, 64)
    assert (found.side, found.third) == (None, "upper")


def test_where_both_lungs_meet_is_an_edge() -> None:
    sides = np.zeros((45, 40, 60), np.uint8)
    sides[5:35, 3:33, 3:31], sides[5:35, 3:33, 31:59] = RIGHT, LEFT  # they meet at x 1
    assert place(LungMap(sides, COARSE), -9, -5, 40).pleura_mm == pytest.approx(7.5, abs=0.3)


@pytest.fixture
def chest(make_chest: Callable[..., CtVolume]) -> CtVolume:
    """Lungs of half axes 28, 40 and 38 mm at x -38 and 38, between z 7 and 83."""
    return make_chest(ImageGeometry.axial((1.25, 1.25, 2.0), (-100.0, -75.0, -5.0)), (50, 120, 160))


def test_a_ball_in_a_chest_has_its_place(chest: CtVolume) -> None:
    known = lung_map(find_lungs(chest))
    assert known
    found = place_of(chest.hu == 950, chest.geometry, known)
    assert (found.side, found.third) == ("right", "middle")
    # the lung, 28 mm to each side, is 27.7 mm wide at y 6: 27.7 - 5
    assert found.pleura_mm == pytest.approx(22.7, abs=2)


def test_a_chest_without_lungs_has_no_map(chest: CtVolume) -> None:
    water = replace(chest, hu=np.zeros_like(chest.hu))
    assert lung_map(find_lungs(water)) is None
    assert coverage_warnings(find_lungs(water)) == []


def test_lungs_that_are_whole_give_no_warning(chest: CtVolume) -> None:
    assert coverage_warnings(find_lungs(chest)) == []


@pytest.mark.parametrize(
    ("low", "high", "end"),
    [
        ((25, 0, 0), (50, 120, 160), "bottom"),
        ((0, 0, 0), (25, 120, 160), "top"),
        ((0, 0, 45), (50, 120, 160), "right"),
        ((0, 0, 0), (50, 120, 115), "left"),
        ((0, 60, 0), (50, 120, 160), "front"),
        ((0, 0, 0), (50, 60, 160), "back"),
    ],
)
def test_lungs_that_are_cut_off_are_told(
    chest: CtVolume, low: tuple[int, ...], high: tuple[int, ...], end: str
) -> None:
    (told,) = coverage_warnings(find_lungs(crop_box(chest, low, high)))
    assert told.startswith(f"the lungs are cut off at the {end} of the scan, across ")


def test_it_is_told_how_much_is_cut_off() -> None:
    mask = boxes() > 0
    cut = Lungs(mask[:20], COARSE, None, boxes()[:20])  # both: 2 x 36 x 60 mm
    assert coverage_warnings(cut) == ["the lungs are cut off at the top of the scan, across 43 cm²"]


def test_a_tip_of_lung_at_the_end_is_not_told() -> None:
    sides = boxes()
    sides[4::-1, 3:13, 3:13] = RIGHT  # down to the end, 4 cm² of it
    assert coverage_warnings(Lungs(sides > 0, COARSE, None, sides)) == []
