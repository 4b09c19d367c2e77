"""The synthetic chest: what it says of its nodules is true of its voxels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from p2ch_luna.datasets.phantom import Phantom, make_phantom
from p2ch_luna.datasets.phantom_anatomy import Chest
from p2ch_luna.datasets.phantom_canvas import Grid, draw_tubes
from p2ch_luna.datasets.phantom_nodules import Kind, Room, _suits, _try_place
from p2ch_luna.datasets.phantom_tubes import Tubes, fixed_tubes, join, path_tubes
from p2ch_luna.datasets.phantom_vessels import LungTubes, lung_tubes
from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import ImageGeometry

SHAPE, SPACING = (64, 96, 96), (4.0, 4.0, 5.0)
TURN = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
FINE_MM = [9.0, 12.0, 15.0, 19.0, 11.0, 14.0, 17.0, 16.0]
OBLIQUE = TURN @ np.array([[-1.0, 0.0, 0.0], [0.0, 0.8, 0.6], [0.0, 0.6, -0.8]])  # tilted, two axes flipped


def small(seed: int = 3, **options: object) -> Phantom:
    chosen = {"shape_irc": SHAPE, "spacing_xyz": SPACING, "noise_hu": 8.0, **options}
    return make_phantom(np.random.default_rng(seed), **chosen)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return small(n_nodules=8)


@pytest.fixture(scope="module")
def chest() -> Chest:
    return Chest.random(np.random.default_rng(1))


@pytest.fixture(scope="module")
def branches(chest: Chest) -> LungTubes:
    return lung_tubes(chest, np.random.default_rng(2))


@pytest.fixture(scope="module")
def room(chest: Chest, branches: LungTubes) -> Room:
    """A 1 mm grid over the whole chest."""
    geometry = ImageGeometry.axial((1.0, 1.0, 1.0), (-180.0, -180.0, -156.0))
    airways = join([branches.bronchi, fixed_tubes(chest).airways])
    return Room(chest, branches.vessels, airways, Grid.over(geometry, (313, 361, 361)))


def test_a_seed_decides_everything(phantom: Phantom) -> None:
    again = small(n_nodules=8)
    assert again.nodules == phantom.nodules
    np.testing.assert_array_equal(again.ct.hu, phantom.ct.hu)


def test_another_seed_is_another_patient(phantom: Phantom) -> None:
    assert (np.abs(small(seed=4, n_nodules=0).ct.hu.astype(int) - phantom.ct.hu) > 200).mean() > 0.05


def test_the_patient_is_the_same_on_another_grid(phantom: Phantom) -> None:
    other = small(n_nodules=8, shape_irc=(80, 96, 128), spacing_xyz=(3.0, 4.0, 4.0), direction=OBLIQUE)
    points = np.random.default_rng(0).uniform(-45, 45, (2000, 3)) + _middle(phantom)
    values = [
        ndimage.map_coordinates(ct.hu.astype(float), ct.geometry.to_irc(points).T, order=1)
        for ct in (phantom.ct, other.ct)
    ]
    assert np.corrcoef(*values)[0, 1] > 0.9


def _middle(phantom: Phantom) -> np.ndarray:
    return phantom.ct.geometry.to_xyz((np.array(phantom.ct.hu.shape) - 1) / 2)


@pytest.fixture(scope="module", params=[np.eye(3), OBLIQUE], ids=["axial", "oblique, flipped"])
def fine(request: pytest.FixtureRequest) -> Phantom:
    """Voxels of 2 mm, no noise."""
    return small(
        seed=24,
        shape_irc=(130, 140, 140),
        spacing_xyz=(2.0, 2.0, 2.0),
        direction=request.param,
        diameters_mm=FINE_MM,
        noise_hu=0.0,
    )


def test_a_truth_centre_lies_in_its_label(fine: Phantom) -> None:
    irc = np.rint(fine.ct.geometry.to_irc([n.center_xyz for n in fine.truth])).astype(int)
    assert fine.nodule_labels[tuple(irc.T)].tolist() == list(range(1, len(FINE_MM) + 1))


def test_a_truth_centre_is_the_middle_of_its_label(fine: Phantom) -> None:
    for k, nodule in enumerate(fine.truth, 1):
        middle = fine.ct.geometry.to_xyz(np.argwhere(fine.nodule_labels == k).mean(0))
        np.testing.assert_allclose(middle, nodule.center_xyz, atol=0.35)


def test_a_label_has_the_volume_of_its_diameter(fine: Phantom) -> None:
    volumes = np.bincount(fine.nodule_labels.ravel())[1:] * 8.0
    np.testing.assert_allclose(np.cbrt(6 * volumes / math.pi), FINE_MM, atol=0.5)


def test_drawn_densities_are_those_of_the_textures(fine: Phantom) -> None:
    large = [(k, n) for k, n in enumerate(fine.nodules, 1) if n.diameter_mm >= 14]
    for k, nodule in large:  # the kernel sharpens edges: look well inside
        inner = ndimage.binary_erosion(fine.nodule_labels == k, iterations=2)
        hu = np.median(fine.ct.hu[inner])
        low, high = (5, 75) if nodule.texture == "solid" else (-640, -410)
        assert nodule.texture == "part-solid" or low < hu < high, nodule


def test_both_dense_and_hazy_nodules_were_checked(fine: Phantom) -> None:
    assert {"solid", "ground-glass"} <= {n.texture for n in fine.nodules if n.diameter_mm >= 14}


def test_asked_diameters_are_kept_in_order(fine: Phantom) -> None:
    assert [n.diameter_mm for n in fine.nodules] == FINE_MM


def test_every_nodule_has_a_label(phantom: Phantom) -> None:
    assert set(np.unique(phantom.nodule_labels)) == set(range(9))


def test_truth_carries_the_series_uid(phantom: Phantom) -> None:
    assert {n.series_uid for n in phantom.truth} == {phantom.ct.series_uid}


def test_nodules_keep_apart(phantom: Phantom) -> None:
    for k, one in enumerate(phantom.nodules):
        for other in phantom.nodules[:k]:
            reach = (one.diameter_mm + other.diameter_mm) / 2
            assert math.dist(one.center_xyz, other.center_xyz) > reach


def place(room: Room, kind: Kind) -> tuple[np.ndarray, float]:
    """Samples of the shape: the depth of its points in the lung, and its drawn core value."""
    rng = np.random.default_rng(5)
    pool = rng.uniform(-150, 150, (20000, 3))
    pool = pool[room.chest.fields(pool).lung < -0.5]
    lesion = _try_place(rng, room, pool, kind, [])
    assert lesion is not None
    inside = np.argwhere(lesion.distance < -0.5)[:, ::-1]
    xyz = (inside - (len(lesion.distance) - 1) / 2) * lesion.step_mm + lesion.box_xyz
    return -room.chest.fields(xyz).lung, lesion.hu


@pytest.mark.parametrize("where", ["isolated", "vessel", "pleura"])
@pytest.mark.parametrize("outline", ["round", "lobulated", "spiculated"])
def test_a_nodule_lies_in_the_lung(room: Room, where: str, outline: str) -> None:
    depth, _ = place(room, (12.0, "solid", outline, where))  # type: ignore[arg-type]
    assert depth.min() > 0


def test_an_isolated_nodule_keeps_off_the_pleura(room: Room) -> None:
    depth, _ = place(room, (12.0, "solid", "round", "isolated"))
    assert depth.min() > 2


@pytest.mark.parametrize(
    ("texture", "low", "high"), [("solid", 20, 60), ("part-solid", -600, -450), ("ground-glass", -600, -450)]
)
def test_textures_have_their_density(room: Room, texture: str, low: float, high: float) -> None:
    _, hu = place(room, (12.0, texture, "round", "isolated"))  # type: ignore[arg-type]
    assert low <= hu <= high


def test_no_place_is_in_the_mediastinum(room: Room) -> None:
    points = np.random.default_rng(0).uniform(-150, 150, (20000, 3))
    chosen = points[_suits(room, points, 5.0, "isolated")]
    assert room.chest.fields(chosen).mediastinum.min() > 5.0


def test_lung_is_aerated_and_the_outside_is_air(phantom: Phantom) -> None:
    middle = np.array([62.0, 20.0, 30.0]) + _middle(phantom)
    i, r, c = np.rint(phantom.ct.geometry.to_irc(middle)).astype(int)
    lung = phantom.ct.hu[i - 3 : i + 4, r - 3 : r + 4, c - 3 : c + 4]
    assert -910 < np.percentile(lung, 25) < -780
    assert abs(np.median(phantom.ct.hu[:, :6, :]) + 1000) < 10


def test_noise_has_the_asked_deviation() -> None:
    quiet, noisy = (
        small(shape_irc=(16, 96, 96), n_nodules=0, noise_hu=hu).ct.hu.astype(float) for hu in (0.0, 30.0)
    )
    inside = quiet > -900  # elsewhere the stored values end at -1024
    assert (noisy - quiet)[inside].std() == pytest.approx(30.0, abs=1.0)


def test_vessels_taper_from_start_to_end(branches: LungTubes) -> None:
    assert (branches.vessels.radius_end <= branches.vessels.radius_start).all()


def test_vessels_are_wide_at_the_hila_and_thin_at_the_pleura(chest: Chest, branches: LungTubes) -> None:
    depth = -chest.fields(branches.vessels.end).lung
    radius = branches.vessels.radius_end
    assert radius.max() > 3.0
    assert np.percentile(radius[(depth > 0) & (depth < 8)], 90) < 1.0


def test_vessels_fill_both_lungs(branches: LungTubes) -> None:
    x = branches.vessels.end[:, 0]
    assert min((x < -40).sum(), (x > 40).sum()) > 1000


def tube(radius: float) -> Tubes:
    return path_tubes(np.array([[10.0, 10.0, 2.0], [10.3, 10.2, 18.0]]), radius)


@pytest.mark.parametrize("radius", [0.3, 0.6, 1.5, 4.0])
def test_a_tube_keeps_its_cross_section(radius: float) -> None:
    grid = Grid.over(ImageGeometry.axial((1.0, 0.8, 1.2)), (20, 26, 22))
    area = draw_tubes(grid, tube(radius))[8].sum(dtype=float) / 255 * 0.8
    assert area == pytest.approx(math.pi * radius**2, rel=0.1)


def test_a_point_of_a_chest_is_placed_back(chest: Chest) -> None:
    wanted = np.array([[60.0, 20.0, -40.0], [-30.0, -50.0, 90.0]])
    np.testing.assert_allclose(np.stack(chest.canonical(chest.place(wanted)), -1), wanted, atol=0.05)


def test_flatness_makes_a_tube_thin_along_its_normal() -> None:
    grid = Grid.over(ImageGeometry.axial(), (20, 21, 21))
    flat = replace(tube(4.0), normal=np.array([[1.0, 0.0, 0.0]]), flatness=2.0)
    share = draw_tubes(grid, flat)[10] > 127
    assert share.any(0).sum() < 0.7 * share.any(1).sum()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"shape_irc": (64, 96)}, "expected three sides"),
        ({"spacing_xyz": (1.0, 0.0, 1.0)}, "spacing must be three positive mm"),
        ({"spacing_xyz": (1.0, 1.0)}, "expected 3 and 9"),
        ({"direction": np.ones((3, 3))}, "direction must be orthonormal"),
        ({"n_nodules": -1}, "expected 0 to 255"),
        ({"diameters_mm": [6.0, 90.0]}, "a nodule of 90 mm"),
        ({"noise_hu": -1.0}, "noise of -1 HU"),
        ({"diameters_mm": [40.0] * 40}, "finds no room"),
        ({"shape_irc": (8, 8, 8), "spacing_xyz": (1.0, 1.0, 1.0)}, "finds no room"),
    ],
)
def test_impossible_arguments_are_told(options: dict[str, object], told: str) -> None:
    with pytest.raises(LunaError, match=told):
        small(**options)
