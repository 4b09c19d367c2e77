from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.datasets.lidc_masks import (
    NoduleMask,
    carry_over,
    consensus_mask,
    enclosed,
    reader_masks,
    slice_numbers,
)
from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io.lidc_tables import LidcTables, Outline, load_lidc_tables

SERIES = "1.2.3"
NATIVE = ImageGeometry.axial((0.5, 0.5, 2.0), (-100.0, -80.0, -300.0))
LIDC_IDRI_0001 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
LUNA16_CENTER = (56.208405, 86.343413, -115.867579)


def ring(x: int, y: int, width: int, height: int) -> NDArray[np.int16]:
    """The outline of a rectangle, pixel by pixel; (x, y) is its first corner."""
    right, low = x + width - 1, y + height - 1
    points = [(k, y) for k in range(x, right)] + [(right, k) for k in range(y, low)]
    points += [(k, low) for k in range(right, x, -1)] + [(x, k) for k in range(low, y, -1)]
    return np.array([*points, (x, y)], np.int16)


def full(found: NoduleMask | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    if found is not None:
        ends = np.add(found.start_irc, found.mask.shape)
        mask[tuple(map(slice, found.start_irc, ends.tolist()))] = found.mask
    return mask


def test_the_outlines_own_pixels_are_outside() -> None:
    start, inside = enclosed(ring(20, 30, 5, 4))
    assert start.tolist() == [20, 30]
    assert np.argwhere(inside).tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]  # row, column


def test_an_outline_of_two_points_encloses_nothing() -> None:
    assert not enclosed(np.array([[4, 4], [5, 5]], np.int16))[1].any()


def test_an_open_outline_is_closed() -> None:
    assert enclosed(ring(0, 0, 5, 5)[:-3])[1].sum() == 9


def test_a_line_between_far_points_is_outside() -> None:
    corners = np.array([[0, 0], [6, 0], [6, 6], [0, 6]], np.int16)
    assert enclosed(corners)[1].sum() == 25


def test_a_line_drawn_there_and_back_encloses_nothing() -> None:
    tail = np.array([[4, 1], [5, 1], [6, 1], [7, 1], [6, 1], [5, 1], [4, 1]], np.int16)
    points = ring(0, 0, 5, 5)
    with_tail = np.concatenate([points[:5], tail, points[5:]])
    assert enclosed(with_tail)[1].sum() == 9


def test_what_an_outline_goes_round_is_not_inside() -> None:
    u = np.array([[0, 0], [3, 0], [3, 5], [6, 5], [6, 0], [9, 0], [9, 9], [0, 9]], np.int16)
    _, inside = enclosed(u)
    assert not inside[:6, 3:7].any()
    assert inside[1:9, 1:3].all()
    assert inside[6:9, 1:9].all()


@pytest.mark.parametrize("hole_first", [False, True])
def test_a_hole_is_cut_out(drawn: Callable[..., LidcTables], hole_first: bool) -> None:
    outlines = [Outline(-296.0, True, ring(10, 10, 7, 7)), Outline(-296.0, False, ring(12, 12, 3, 3))]
    masks = reader_masks(drawn(outlines[::-1] if hole_first else outlines), [10], NATIVE).masks
    assert masks.sum() == 25 - 1
    assert not masks[0, 0, 3, 3]


def test_a_hole_is_cut_out_of_its_slice_alone(drawn: Callable[..., LidcTables]) -> None:
    outlines = [Outline(z, True, ring(10, 10, 7, 7)) for z in (-296.0, -294.0)]
    hole = Outline(-294.0, False, ring(12, 12, 3, 3))
    masks = reader_masks(drawn([*outlines, hole]), [10], NATIVE).masks
    assert masks.sum(axis=(2, 3)).tolist() == [[25, 24]]


def test_the_box_begins_at_slice_row_and_column(drawn: Callable[..., LidcTables]) -> None:
    readers = reader_masks(drawn([Outline(-296.0, True, ring(10, 20, 5, 4))]), [10], NATIVE)
    assert readers.start_irc.tolist() == [2, 20, 10]  # z -296 is 2 slices of 2 mm above -300
    assert readers.masks.shape == (1, 1, 4, 5)


def test_slices_may_run_down() -> None:
    down = ImageGeometry(np.array([0.0, 0.0, -100.0]), np.array([0.5, 0.5, 2.0]), np.diag([1.0, -1.0, -1.0]))
    assert slice_numbers([-100.0, -104.0], down).tolist() == [0, 2]


def test_a_slice_may_be_off_by_less_than_half_a_slice() -> None:
    assert slice_numbers([-296.9, -295.1], NATIVE).tolist() == [2, 2]


def test_slices_that_are_not_axial_are_refused() -> None:
    sagittal = ImageGeometry(np.zeros(3), np.ones(3), np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]))
    with pytest.raises(LunaError, match=r"slices run along \[1.0, 0.0, 0.0\]; expected axial ones"):
        slice_numbers([0.0], sagittal)


def test_a_resampled_scan_is_refused(drawn: Callable[..., LidcTables]) -> None:
    with pytest.raises(LunaError, match=r"1.2.3: pixels of 1 x 1 mm; expected 0.5 mm, on which LIDC's"):
        reader_masks(drawn([Outline(0.0, True, ring(0, 0, 5, 5))]), [10], ImageGeometry.axial())


def test_an_outline_before_the_first_slice_is_refused(drawn: Callable[..., LidcTables]) -> None:
    with pytest.raises(LunaError, match=r"1.2.3: readers outlined a nodule at z -302 mm, outside the scan"):
        reader_masks(drawn([Outline(-302.0, True, ring(0, 0, 5, 5))]), [10], NATIVE)


@pytest.mark.parametrize(("n_readers", "wanted"), [(1, 9), (2, 9), (3, 0), (4, 0)])
def test_half_of_the_readers_is_enough(drawn: Callable[..., LidcTables], n_readers: int, wanted: int) -> None:
    """One reader outlines the nodule, the others something a row of pixels wide."""
    line = ring(10, 10, 5, 2)
    first = [Outline(-296.0, True, ring(10, 10, 5, 5))]
    tables = drawn(first, *[[Outline(-296.0, True, line)]] * (n_readers - 1))
    found = consensus_mask(tables, range(10, 10 * n_readers + 1, 10), NATIVE, NATIVE, (10, 40, 40))
    assert full(found, (10, 40, 40)).sum() == wanted


def test_more_agreement_may_be_asked_for(drawn: Callable[..., LidcTables]) -> None:
    tables = drawn(*[[Outline(-296.0, True, ring(10, 10, size, 5))] for size in (5, 5, 9, 9)])
    for agreement, wanted in ((0.5, 3 * 7), (0.75, 3 * 3)):
        found = consensus_mask(tables, [10, 20, 30, 40], NATIVE, NATIVE, (10, 40, 40), agreement)
        assert full(found, (10, 40, 40)).sum() == wanted


def test_on_the_native_grid_the_mask_is_the_native_one(drawn: Callable[..., LidcTables]) -> None:
    tables = drawn([Outline(-296.0, True, ring(10, 20, 5, 4))])
    found = consensus_mask(tables, [10], NATIVE, NATIVE, (10, 40, 40))
    assert found is not None
    assert found.start_irc == (2, 21, 11)
    assert found.mask.shape == (1, 2, 3)
    assert found.mask.all()


@pytest.fixture
def tilted(drawn: Callable[..., LidcTables]) -> NDArray[np.float64]:
    """(N, 3) mm from its middle, on a straight grid: a box of 10 x 20 x 20 mm, drawn on a tilted one."""
    tilt = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    native = ImageGeometry(np.array([10.0, 20.0, -300.0]), np.array([0.5, 0.5, 2.0]), tilt)
    tables = drawn([Outline(-296.0 + 2 * k, True, ring(100, 60, 22, 42)) for k in range(10)])
    grid = ImageGeometry.axial(origin_xyz=native.to_xyz([6.5, 80.5, 110.5]) - 20.3)
    found = full(consensus_mask(tables, [10], native, grid, (41, 41, 41)), (41, 41, 41))
    return np.argwhere(found)[:, ::-1] - 20.3


def test_a_tilted_mask_keeps_its_volume(tilted: NDArray[np.float64]) -> None:
    assert len(tilted) == pytest.approx(10 * 20 * 20, rel=0.03)


def test_a_tilted_mask_stays_at_its_place(tilted: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(tilted.mean(axis=0), 0, atol=0.25)


def test_a_tilted_mask_keeps_its_direction(tilted: NDArray[np.float64]) -> None:
    along_columns, along_rows = tilted @ [0.8, 0.6, 0.0], tilted @ [-0.6, 0.8, 0.0]
    assert np.abs(along_columns).max() <= 5
    assert 9.5 < np.abs(along_rows).max() <= 10


def test_a_mask_outside_the_grid_is_none(drawn: Callable[..., LidcTables]) -> None:
    tables = drawn([Outline(-296.0, True, ring(10, 20, 5, 4))])
    far = ImageGeometry.axial(origin_xyz=(500, 500, 500))
    assert consensus_mask(tables, [10], NATIVE, far, (20, 20, 20)) is None


def test_a_mask_at_the_border_is_cut() -> None:
    mask = np.ones((3, 3, 3), bool)
    found = carry_over(mask, ImageGeometry.axial(origin_xyz=(-1, -2, 0)), ImageGeometry.axial(), (9, 9, 9))
    assert found is not None
    assert found.start_irc == (0, 0, 0)
    assert found.mask.shape == (3, 1, 2)


def test_a_voxel_between_voxels_becomes_the_nearest() -> None:
    speck = np.ones((1, 1, 1), bool)
    box = ImageGeometry.axial((0.5, 0.5, 0.5), (4.3, 3.4, 2.6))
    found = carry_over(speck, box, ImageGeometry.axial(), (9, 9, 9))
    assert found is not None
    assert found.start_irc == (3, 3, 4)


def test_a_speck_outside_the_grid_is_none() -> None:
    box = ImageGeometry.axial((0.5, 0.5, 0.5), (-0.8, 3.0, 3.0))
    assert carry_over(np.ones((1, 1, 1), bool), box, ImageGeometry.axial(), (9, 9, 9)) is None


def test_nothing_agreed_upon_is_none(drawn: Callable[..., LidcTables]) -> None:
    assert (
        consensus_mask(drawn([Outline(-296.0, True, ring(0, 0, 2, 2))]), [10], NATIVE, NATIVE, (9, 9, 9))
        is None
    )


def test_volume_is_kept_at_1_mm(lidc_ct: CtVolume) -> None:
    ids = [a.annotation_id for a in load_lidc_tables().annotations_of(LIDC_IDRI_0001)]
    native = reader_masks(load_lidc_tables(), ids, lidc_ct.geometry).masks.mean(axis=0) >= 0.5
    grid = ImageGeometry.axial(origin_xyz=np.array(LUNA16_CENTER) - 40.3)
    found = consensus_mask(load_lidc_tables(), ids, lidc_ct.geometry, grid, (81, 81, 81))
    assert found is not None
    voxel_mm3 = float(lidc_ct.geometry.spacing_xyz.prod())
    assert found.mask.sum() == pytest.approx(native.sum() * voxel_mm3, rel=0.02)


def test_inside_the_outlines_of_a_real_scan_is_tissue(lidc_ct: CtVolume) -> None:
    ids = [a.annotation_id for a in load_lidc_tables().annotations_of(LIDC_IDRI_0001)]
    shape = lidc_ct.hu.shape
    found = consensus_mask(load_lidc_tables(), ids, lidc_ct.geometry, lidc_ct.geometry, shape)
    hu = lidc_ct.hu[full(found, shape)]
    assert -100 < hu.mean() < 100
    assert np.mean(hu < -700) < 0.02  # lung
