import numpy as np
from scipy import ndimage

from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference.alignment_local import place_in_other
from p2ch_luna.inference.alignment_views import LungView, Rigid
from support.lung_pictures import APART_MM, MIDDLE, lungs, turned

PLACE = MIDDLE - (APART_MM, 0, 0)


def off_by(move: Rigid, shift_xyz: tuple[float, float, float]) -> Rigid:
    """The same move with an error."""
    return Rigid(move.rotation, move.shift_xyz + shift_xyz)


def test_a_place_is_found_where_the_rigid_move_misses_it() -> None:
    move = turned((8, -6, 10), (30, -20, 70))
    one, other = (LungView(picture) for picture in (lungs(), lungs(move)))
    found = place_in_other(one, other, off_by(move, (6, -8, 10)), PLACE)
    assert np.linalg.norm(found - move(PLACE)) < 2.0


def test_a_right_move_is_left_as_it_is() -> None:
    move = turned((8, -6, 10), (30, -20, 70))
    one, other = (LungView(picture) for picture in (lungs(), lungs(move)))
    np.testing.assert_allclose(place_in_other(one, other, move, PLACE), move(PLACE))


def test_among_unknown_vessels_the_rigid_move_holds() -> None:
    """Grains without any wall round them, and others."""
    one, other = (LungView(grains(seed)) for seed in (0, 1))
    still = Rigid(np.eye(3), np.array([3.0, 2.0, 1.0]))
    np.testing.assert_allclose(place_in_other(one, other, still, (0, 0, 0)), (3, 2, 1))


def test_among_known_ones_without_a_wall_the_place_is_found() -> None:
    one = LungView(grains(0))
    wrong = Rigid(np.eye(3), np.array([6.0, -8.0, 10.0]))
    np.testing.assert_allclose(place_in_other(one, one, wrong, (0, 0, 0)), (0, 0, 0), atol=1e-6)


def grains(seed: int) -> CtVolume:
    """12 cm of lung, all of it; its middle is (0, 0, 0)."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(61, 61, 61)), 1.3)
    hu = np.rint(-800 + 60 * noise / noise.std()).astype(np.int16)
    return CtVolume("1.2.3", hu, ImageGeometry.axial((2, 2, 2), (-60, -60, -60)))
