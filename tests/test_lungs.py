"""The lung region, on ellipsoids and on real scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike, NDArray

from p2ch_luna.geometry import CtVolume, ImageGeometry, crop_box, resample
from p2ch_luna.io import read_ct
from p2ch_luna.io.volumes import read_mask
from p2ch_luna.lungs import EITHER, Lungs, find_lungs, prepare
from p2ch_luna.lungs import LEFT as LEFT_LUNG
from p2ch_luna.lungs import RIGHT as RIGHT_LUNG
from support.turned_ct import turned

LOW_XYZ = np.array([-190.0, -130.0, -180.0])
SPACING_XYZ = np.array([4.0, 4.0, 4.0])
SHAPE = (90, 65, 95)
LUNG_MM = (55.0, 75.0, 120.0)  # half axes


def ball(center_xyz: ArrayLike, radii_mm: ArrayLike) -> NDArray[np.bool_]:
    """An ellipsoid on the grid of `chest`."""
    axes = [LOW_XYZ[k] + SPACING_XYZ[k] * np.arange(SHAPE[2 - k]) for k in range(3)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    center, radii = np.asarray(center_xyz), np.broadcast_to(radii_mm, 3)
    squared = sum(((a - c) / r) ** 2 for a, c, r in zip((x, y, z), center, radii, strict=True))
    return np.asarray(squared <= 1).transpose(2, 1, 0)


RIGHT, LEFT = ball((-75, 0, 0), LUNG_MM), ball((75, 0, 0), LUNG_MM)
BODY = ball((0, 0, 0), (170, 110, 1e6))


def chest(*changes: tuple[NDArray[np.bool_], float], seed: int = 0) -> CtVolume:
    """A body with two ellipsoid lungs and noise; each change sets a region to a HU."""
    hu = np.full(SHAPE, -1000.0)
    for region, value in ((BODY, 40), (RIGHT | LEFT, -850), *changes):
        hu[region] = value
    hu += np.random.default_rng(seed).normal(0, 20, SHAPE)
    return CtVolume("1.2.3", hu.astype(np.int16), ImageGeometry.axial(SPACING_XYZ, LOW_XYZ))


def mask_of(ct: CtVolume, shape: tuple[int, ...] = SHAPE) -> NDArray[np.bool_]:
    """The mask on the grid of `chest`."""
    return find_lungs(ct).mask_on(ImageGeometry.axial(SPACING_XYZ, LOW_XYZ), shape)


def test_both_lungs_are_in_the_mask() -> None:
    assert mask_of(chest())[RIGHT | LEFT].all()


def test_lungs_that_are_found_give_no_warning() -> None:
    assert find_lungs(chest()).warning is None


def test_the_mask_is_little_more_than_the_lungs() -> None:
    assert mask_of(chest()).sum() < 1.5 * (RIGHT | LEFT).sum()


def test_the_middle_of_the_chest_is_left_out() -> None:
    assert not mask_of(chest())[ball((0, 0, 0), 12)].any()


@pytest.mark.parametrize("direction", [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0.6, -0.8, 0), (0.6, 0, 0.8)])
def test_a_mass_of_30_mm_on_the_pleura_is_in_the_mask(direction: tuple[float, float, float]) -> None:
    on_pleura = np.array([75.0, 0, 0]) + np.array(direction) * LUNG_MM
    mass = ball(on_pleura, 15) & LEFT
    assert mask_of(chest((mass, 40)))[mass].all()


def test_a_mass_of_50_mm_within_the_lung_is_in_the_mask() -> None:
    mass = ball((75, 10, 20), 25)
    assert mask_of(chest((mass, 40)))[mass].all()


@pytest.mark.parametrize("hu", [-1000, -960])
def test_gas_below_the_lungs_is_left_out(hu: float) -> None:
    gas = ball((60, -30, -160), (30, 30, 20))
    assert not mask_of(chest((gas, hu)))[gas].any()


def test_gas_between_the_lungs_is_left_out() -> None:
    assert not mask_of(chest((ball((0, 0, 0), 16), -1000)))[ball((0, 0, 0), 8)].any()


def test_foam_in_a_table_under_the_body_is_left_out() -> None:
    ct = chest()
    hu = np.pad(ct.hu, ((0, 0), (0, 17), (0, 0)), constant_values=-1000)
    hu[:, 64:80, 20:75] = 100
    hu[:, 66:78, 22:73] = -900
    assert not mask_of(replace(ct, hu=hu), hu.shape)[:, 66:].any()


@pytest.mark.parametrize("around_hu", [-1000, -1024])
def test_air_in_a_fold_of_skin_is_left_out(around_hu: int) -> None:
    fold = ball((0, -100, 60), (10, 22, 40))
    ct = chest((fold, -900))
    ct.hu[~BODY & ~fold] = around_hu
    assert not mask_of(ct)[fold].any()


@pytest.mark.parametrize("seed", [1, 2])
def test_lungs_joined_in_front_are_both_found_and_the_middle_left_out(seed: int) -> None:
    bridge = ball((0, -40, 20), (40, 6, 40))
    mask = mask_of(chest((bridge, -850), seed=seed))
    assert mask[RIGHT | LEFT].all()
    assert not mask[ball((0, 20, 0), 8)].any()


def test_the_right_lung_lies_where_x_is_small() -> None:
    lungs = find_lungs(chest())
    sides, x = lungs.sides, lungs.geometry.to_xyz(np.argwhere(lungs.mask))[:, 0]
    assert sides is not None
    label = sides[lungs.mask]
    assert set(label[x < -25]) == {0, RIGHT_LUNG}
    assert set(label[x > 25]) == {0, LEFT_LUNG}


def test_sides_are_the_lungs_without_the_rim_of_the_mask() -> None:
    lungs = find_lungs(chest())
    assert lungs.sides is not None
    sides, both = lungs.sides > 0, RIGHT | LEFT
    grid = ImageGeometry.axial(SPACING_XYZ, LOW_XYZ)
    on_grid = replace(lungs, mask=sides).mask_on(grid, SHAPE)
    assert (on_grid & both).sum() / both.sum() > 0.99
    assert on_grid.sum() < 1.1 * both.sum() < lungs.mask_on(grid, SHAPE).sum()


def test_one_lung_alone_has_no_side() -> None:
    sides = find_lungs(chest((LEFT, 40))).sides
    assert sides is not None
    assert set(np.unique(sides)) == {0, EITHER}


def test_a_scan_without_lungs_has_no_sides() -> None:
    assert find_lungs(chest((RIGHT | LEFT, 40))).sides is None


def test_lungs_that_are_given_are_not_found_again() -> None:
    ct = chest()
    lungs = find_lungs(chest((LEFT, 40)))
    wanted = lungs.mask_on((found := prepare(ct, 4.0, lungs=lungs)).ct.geometry, found.ct.hu.shape)
    np.testing.assert_array_equal(found.lung, wanted)


def test_one_lung_alone_is_found() -> None:
    lungs = find_lungs(chest((LEFT, 40)))
    assert lungs.warning is None
    assert lungs.mask_on(ImageGeometry.axial(SPACING_XYZ, LOW_XYZ), SHAPE)[RIGHT].all()


def test_a_collapsed_lung_beside_a_whole_one_is_found() -> None:
    rest = ball((75, 0, 20), 18)
    assert mask_of(chest((LEFT, 40), (rest, -700)))[rest].all()


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ((20, 0, 0), (70, 65, 95)),  # apex and base cut
        ((0, 0, 20), (90, 65, 75)),  # both sides cut through the lungs
        ((0, 20, 0), (90, 45, 95)),  # front and back cut
        ((0, 22, 22), (90, 43, 73)),  # all round: no air outside
        ((44, 0, 0), (47, 65, 95)),  # three slices
    ],
)
def test_lungs_cut_off_by_the_image_are_found(low: tuple[int, ...], high: tuple[int, ...]) -> None:
    lungs = find_lungs(crop_box(chest(), low, high))
    box = tuple(map(slice, low, high))
    seen = lungs.mask_on(ImageGeometry.axial(SPACING_XYZ, LOW_XYZ), SHAPE)[box]
    assert lungs.warning is None
    assert seen[(RIGHT | LEFT)[box]].mean() > 0.99


@pytest.mark.parametrize("hu", [-1024, -3024])
def test_lungs_cut_off_by_a_round_field_of_view_are_found(hu: float) -> None:
    unseen = ~ball((0, 0, 0), (110, 110, 1e6))
    seen = (RIGHT | LEFT) & ~unseen
    ct = chest()
    ct.hu[unseen] = hu
    assert mask_of(ct)[seen].mean() > 0.99


@pytest.mark.parametrize(("axes", "signs"), list(product(permutations(range(3)), [(1, 1, 1), (-1, 1, -1)])))
def test_the_mask_lies_the_same_in_the_patient_for_any_order_of_axes(
    axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    ct = resample(
        chest((ball((40, 20, 60), 20), 40)), (1.03, 5, 6)
    )  # of the columns, two make one; one is over
    found = find_lungs(turned(ct, axes, signs)).mask_on(ct.geometry, ct.hu.shape)
    np.testing.assert_array_equal(found, find_lungs(ct).mask_on(ct.geometry, ct.hu.shape))


EMPTY: dict[str, Callable[[], NDArray[np.generic]]] = {
    "air": lambda: np.full((20, 50, 60), -1000, np.int16),
    "tissue": lambda: np.full((20, 50, 60), 40, np.int16),
    "head": lambda: np.where(ball((0, 0, 0), (70, 90, 110)), 40, -1000).astype(np.int16),
    "noise": lambda: np.random.default_rng(0).normal(0, 300, (20, 50, 60)).astype(np.float32),
    "one voxel": lambda: np.full((1, 1, 1), -850, np.int16),
    "a row": lambda: np.full((1, 1, 70), -850, np.int16),
    "a column of slices": lambda: np.full((70, 1, 1), 40, np.int16),
}


@pytest.mark.parametrize("content", EMPTY)
def test_a_scan_without_lungs_is_searched_with_a_warning(content: str) -> None:
    ct = CtVolume("1.2.3", EMPTY[content](), ImageGeometry.axial((1.5, 3.0, 2.5)))  # type: ignore[arg-type]
    assert (find_lungs(ct).warning or "").startswith("no lungs found: ")


@pytest.mark.parametrize("content", EMPTY)
def test_a_scan_without_lungs_has_a_region_to_search(content: str) -> None:
    ct = CtVolume("1.2.3", EMPTY[content](), ImageGeometry.axial((1.5, 3.0, 2.5)))  # type: ignore[arg-type]
    assert prepare(ct).lung.any()


def test_without_lungs_the_body_is_searched() -> None:
    head = ball((0, 0, 0), (70, 90, 110))
    ct = chest((np.ones(SHAPE, bool), -1000), (head, 40))
    mask = mask_of(ct)
    assert mask[head].all()
    assert mask.sum() < 1.2 * head.sum()


def test_the_warning_names_what_was_found_and_wanted() -> None:
    ct = chest((RIGHT | LEFT, 40), (ball((30, 0, 0), 20), -700))
    assert find_lungs(ct).warning == (
        "no lungs found: 32 ml of lung inside the body, at least 200 ml wanted; searching the whole body"
    )


@pytest.fixture
def lungs() -> Lungs:
    """Noise on a tilted grid, so that no two places look alike."""
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    geometry = ImageGeometry(np.array([-9.0, 7.0, 20.0]), np.array([1.9, 2.1, 2.5]), turn)
    return Lungs(np.random.default_rng(0).random((8, 9, 10)) < 0.5, geometry, None)


def test_a_mask_on_its_own_grid_is_itself(lungs: Lungs) -> None:
    np.testing.assert_array_equal(lungs.mask_on(lungs.geometry, lungs.mask.shape), lungs.mask)


@pytest.mark.parametrize("angle", [0.0, 0.001, 0.02, 0.7, 1.5707963])
def test_a_mask_on_any_grid_is_that_of_the_nearest_voxel(lungs: Lungs, angle: float) -> None:
    c, s = np.cos(angle), np.sin(angle)
    direction = lungs.geometry.direction @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    geometry = ImageGeometry(lungs.geometry.to_xyz([-1.2, -2.3, 0.6]), np.array([0.7, 0.8, 0.9]), direction)
    found = lungs.mask_on(geometry, (31, 33, 29))
    irc = np.stack(np.meshgrid(*map(np.arange, found.shape), indexing="ij"), -1)
    place = lungs.geometry.to_irc(geometry.to_xyz(irc))
    nearest = np.floor(place + 0.5).astype(int)
    inside = ((nearest >= 0) & (nearest < lungs.mask.shape)).all(-1)
    wanted = np.zeros(found.shape, bool)
    wanted[inside] = lungs.mask[tuple(nearest[inside].T)]
    sure = (np.abs(place - nearest) < 0.45).all(-1)  # a tilt of a thousandth may shift an edge
    np.testing.assert_array_equal(found[sure], wanted[sure])


def test_a_mask_far_away_is_empty(lungs: Lungs) -> None:
    assert not lungs.mask_on(ImageGeometry.axial((1, 1, 1), (500, 0, 0)), (5, 6, 7)).any()


def test_prepared_voxels_are_isotropic() -> None:
    np.testing.assert_array_equal(prepare(chest(), spacing_mm=1.5).ct.geometry.spacing_xyz, [1.5] * 3)


def test_prepared_voxels_are_int16_and_padding_is_air() -> None:
    ct = chest()
    ct.hu[~BODY] = -3024
    assert prepare(ct, 4.0, 80.0).ct.hu.min() == -1024


def test_prepared_voxels_of_a_float_scan_are_int16() -> None:
    ct = chest()
    assert prepare(replace(ct, hu=ct.hu + np.float32(0.25)), 4.0).ct.hu.dtype == np.int16


def test_a_prepared_scan_is_canonical() -> None:
    prepared = prepare(turned(chest(), (2, 0, 1), (-1, 1, -1)), 4.0)
    np.testing.assert_allclose(prepared.ct.geometry.direction, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("margin_mm", [0.0, 10.0, 30.0])
def test_a_prepared_scan_reaches_the_margin_beyond_the_mask(margin_mm: float) -> None:
    lung = prepare(chest(), 2.0, margin_mm).lung
    ends = [np.flatnonzero(lung.any(axis))[[0, -1]] for axis in ((1, 2), (0, 2), (0, 1))]
    room = [min(first, n - 1 - last) * 2.0 for (first, last), n in zip(ends, lung.shape, strict=True)]
    assert min(room) >= margin_mm - 2
    assert max(room) <= margin_mm + 8  # up to a voxel of the scan on top


def test_a_nodule_keeps_its_place_in_the_prepared_scan() -> None:
    nodule_xyz = np.array([62.0, 14.0, -28.0])
    prepared = prepare(chest((ball(nodule_xyz, 8), 100)))
    nearest = np.rint(prepared.ct.geometry.to_irc(nodule_xyz)).astype(int)
    assert prepared.ct.hu[tuple(nearest)] > 0


def test_the_mask_of_a_prepared_scan_is_that_of_its_lungs() -> None:
    ct = chest()
    prepared = prepare(ct, 2.0)
    wanted = find_lungs(ct).mask_on(prepared.ct.geometry, prepared.ct.hu.shape)
    np.testing.assert_array_equal(prepared.lung, wanted)


def test_a_prepared_scan_hands_on_the_warning() -> None:
    assert prepare(chest((RIGHT | LEFT, 40)), 4.0).warning is not None


@lru_cache(maxsize=1)
def real(path: Path) -> tuple[CtVolume, Lungs]:
    ct = read_ct(path)
    return ct, find_lungs(ct)


def lesions(shared_data: Path, scan: str) -> pd.DataFrame:
    table = pd.read_csv(shared_data / "ct" / "lesions.csv")
    return table[table.scan == scan]


def share_inside(lungs: Lungs, center_xyz: ArrayLike, diameter_mm: float) -> float:
    """The part of a ball that lies in the mask."""
    n = 41
    grid = ImageGeometry.axial((diameter_mm / n,) * 3, np.asarray(center_xyz) - diameter_mm / 2 * (1 - 1 / n))
    offset = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1) - (n - 1) / 2
    return float(lungs.mask_on(grid, (n, n, n))[np.linalg.norm(offset, axis=-1) <= n / 2].mean())


@pytest.mark.parametrize("scan", ["lung1", "cmb-crc-01068"])
def test_every_known_nodule_of_a_real_scan_is_inside(shared_data: Path, scan: str) -> None:
    _, found = real(shared_data / "ct" / f"{scan}.mha")
    inside = [
        share_inside(found, (row.x_lps, row.y_lps, row.z_lps), row.diameter_mm)
        for row in lesions(shared_data, scan).itertuples()
    ]
    assert inside
    assert min(inside) == 1


def test_the_nodule_of_lidc_idri_0001_is_inside(shared_data: Path, lidc_series: Path) -> None:
    _, found = real(lidc_series)
    (row,) = lesions(shared_data, "lidc-idri-0001").itertuples()
    assert share_inside(found, (row.x_lps, row.y_lps, row.z_lps), row.diameter_mm) == 1


def test_the_outlined_nodule_of_lung1_is_inside(shared_data: Path) -> None:
    _, found = real(shared_data / "ct" / "lung1.mha")
    nodule, geometry = read_mask(shared_data / "ct" / "lung1_nodule.nii.gz")
    assert found.mask_on(geometry, nodule.shape)[nodule].all()


def test_the_centre_of_a_large_hilar_mass_is_inside(shared_data: Path) -> None:
    _, found = real(shared_data / "ct" / "4dlung-113.mha")
    (row,) = lesions(shared_data, "4dlung-113").itertuples()
    assert share_inside(found, (row.x_lps, row.y_lps, row.z_lps), 4) == 1


@pytest.mark.parametrize(
    ("scan", "low_ml", "high_ml"),
    [
        ("lung1", 3000, 4500),
        ("c3n-00247", 5000, 7000),
        ("lungfcp-01-0001", 1400, 2100),
        ("cmb-crc-01068", 5000, 6500),
        ("4dlung-113", 2700, 3800),
    ],
)
def test_the_lungs_of_real_scans_have_a_plausible_volume(
    shared_data: Path, scan: str, low_ml: float, high_ml: float
) -> None:
    _, found = real(shared_data / "ct" / f"{scan}.mha")
    assert low_ml < found.mask.sum() * found.geometry.spacing_xyz.prod() / 1000 < high_ml


def test_float_hu_are_rounded_not_cut() -> None:
    ct = chest()
    as_float = replace(ct, hu=np.rint(ct.hu).astype(np.float32) - np.float32(0.4))
    as_int = replace(ct, hu=np.rint(ct.hu).astype(np.int16))
    np.testing.assert_array_equal(prepare(as_float).ct.hu, prepare(as_int).ct.hu)
