from typing import Any

import numpy as np
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import PADDING_HU, CtVolume
from p2ch_luna.inference.alignment import align, hu_misfit
from p2ch_luna.inference.alignment_views import LungView, Rigid
from support.lung_pictures import APART_MM, MIDDLE, STILL, lungs, turned

PLACES = MIDDLE + np.array(
    [[-APART_MM, 0, 40], [-APART_MM, 20, -30], [APART_MM, -20, 0], [APART_MM, 0, -40], [APART_MM, 10, 35]]
)


def view(move: Rigid = STILL, **shown: Any) -> LungView:
    """As `lungs` makes them."""
    return LungView(lungs(move, **shown))


def error_mm(found: Rigid, true: Rigid) -> float:
    """The largest at places all over the lungs."""
    return float(np.linalg.norm(found(PLACES) - true(PLACES), axis=1).max())


def test_a_move_is_undone_by_its_inverse() -> None:
    move = turned((10, -20, 30), (5, 6, 7))
    np.testing.assert_allclose(move.inverse()(move(PLACES)), PLACES)


@pytest.mark.parametrize(
    "move",
    [
        turned((0, 0, 0), (0, 0, 0)),
        turned((15, -15, 15), (3, -250, 400)),
        turned((-15, -12, -15), (-80, 20, -60)),
    ],
    ids=["still", "far", "turned"],
)
def test_the_move_of_the_lungs_is_found(move: Rigid) -> None:
    found = align(view(), view(move))
    assert error_mm(found.to_current, move) < 0.5
    assert found.correlation > 0.9
    assert found.overlap > 0.95


@pytest.mark.parametrize("shown", [(0.5, 1.0), (0.0, 0.5)], ids=["upper half", "lower half"])
@pytest.mark.parametrize("is_prior", [True, False])
def test_lungs_that_are_cut_off_are_laid_on_whole_ones(shown: tuple[float, float], is_prior: bool) -> None:
    move = turned((8, -6, 10), (30, -20, 70))
    if is_prior:
        found = align(view(shown=shown), view(move)).to_current
    else:
        found = align(view(), view(move, shown=shown)).to_current
    assert error_mm(found, move) < 0.5


def test_a_third_of_turned_lungs_is_found_where_the_nearest_start_misleads() -> None:
    move = turned((15, -15, 15), (30, -20, 170))
    assert error_mm(align(view(), view(move, shown=(0.6, 1.0))).to_current, move) < 0.5


@pytest.mark.parametrize(
    "axes",
    [np.diag([-1.0, 1.0, -1.0]), np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])],
    ids=["flipped", "sagittal slices"],
)
def test_the_grid_of_a_picture_does_not_matter(axes: np.ndarray) -> None:
    move = turned((8, -6, 10), (30, -20, 70))
    found = align(view(), view(move, axes=axes)).to_current
    assert error_mm(found, move) < 0.5


def test_the_same_pictures_give_the_same_numbers() -> None:
    pair = view(), view(turned((5, 5, 5), (9, 9, 9)))
    first, second = align(*pair), align(*pair)
    np.testing.assert_array_equal(first.to_current.rotation, second.to_current.rotation)
    np.testing.assert_array_equal(first.to_current.shift_xyz, second.to_current.shift_xyz)


def test_the_vessels_of_another_patient_do_not_agree() -> None:
    assert align(view(), view(seed=1)).correlation < 0.7


def test_without_lung_there_is_nothing_to_align() -> None:
    picture = lungs()
    empty = CtVolume("1.2.3", np.full_like(picture.hu, PADDING_HU), picture.geometry)
    with pytest.raises(LunaError, match=r"the later scan's lungs shows none; wanted lungs"):
        align(view(), LungView(empty))


def test_a_scan_does_not_tell_of_lung_beyond_its_last_slice() -> None:
    lung = view(shown=(0.0, 0.5))
    above, below = (MIDDLE + np.array([APART_MM, 0, z]) for z in (30, -90))
    np.testing.assert_array_equal(lung.is_known(np.array([above, below])), [False, True])


def test_where_lungs_are_cut_off_there_is_no_surface() -> None:
    """The last slice lies in the middle of a lung, 24 mm from either side."""
    lung = view(shown=(0.0, 0.5))
    last = MIDDLE - np.array([APART_MM, 0, 2])
    assert lung.distance_mm(last[None])[0] < -18
    assert np.abs(lung.surface_xyz - last).sum(axis=1).min() > 18


def test_a_misfit_does_not_fall_because_less_is_met() -> None:
    """Vessels that have nothing to do with each other, of whole lungs and of half of them."""
    ours = view()
    whole, half = (
        np.mean(hu_misfit(ours, ours.fine, view(seed=1, shown=shown).fine)(STILL) ** 2)
        for shown in ((0.0, 1.0), (0.5, 1.0))
    )
    assert half == pytest.approx(whole, rel=0.2)


def test_distances_are_those_from_the_surface() -> None:
    """A lung reaches 38 mm to the back of its centre."""
    lung = view()
    back = MIDDLE + np.array([[-APART_MM, 38 + mm, 0] for mm in (-8, 0, 10)])
    np.testing.assert_allclose(lung.distance_mm(back), (-8, 0, 10), atol=1.5)
