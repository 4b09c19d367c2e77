"""Voxels inside the outlines of LIDC's readers, on the grid they were drawn on and on any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.io.lidc_tables import LidcTables, Outline

SPACING_TOLERANCE = 0.01  # of the pixel spacing; LUNA16's headers agree within 1e-6
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class NoduleMask:
    """A box of voxels on some grid; outside it nothing is nodule."""

    start_irc: tuple[int, int, int]  # its first voxel on the grid
    mask: Mask  # (D, H, W)


@dataclass(frozen=True, eq=False)
class ReaderMasks:
    """One box of the native grid with what each of several annotations encloses."""

    start_irc: NDArray[np.int64]  # (3,)
    masks: Mask  # (R, D, H, W)


def consensus_mask(
    tables: LidcTables,
    annotation_ids: Sequence[int],
    native: ImageGeometry,
    geometry: ImageGeometry,
    shape: Sequence[int],
    agreement: float = 0.5,
) -> NoduleMask | None:
    """Voxels that at least a share `agreement` of these annotations encloses.

    geometry, shape: the grid on which the voxels are wanted.
    native: the grid of the original series, as DICOM or LUNA16 store it, whose column x and row y are the
    readers' pixels. The native voxels are carried over by linear interpolation at one half, so volume is
    kept; a nodule between voxel centres keeps the nearest voxel. None where no voxel lies on the grid.
    Raises LunaError where `native` cannot be the grid that the readers drew on.
    """
    readers = reader_masks(tables, annotation_ids, native)
    agreed = readers.masks.mean(axis=0) >= agreement
    if not agreed.any():
        return None
    return carry_over(agreed, native.moved_to(readers.start_irc), geometry, shape)


def reader_masks(tables: LidcTables, annotation_ids: Sequence[int], native: ImageGeometry) -> ReaderMasks:
    """What each annotation encloses, on the native grid: the pixels inside its outlines, less the holes.

    Raises LunaError as `consensus_mask` does.
    """
    check_spacing(tables, tables.series_of(annotation_ids[0]), native)
    outlines = [tables.outlines_of(number) for number in annotation_ids]
    slices = [slice_numbers([o.z_mm for o in of_one], native) for of_one in outlines]
    points = np.concatenate([o.points_xy for of_one in outlines for o in of_one])
    numbers = np.concatenate(slices)
    check_begin(tables.series_of(annotation_ids[0]), [o.z_mm for of_one in outlines for o in of_one], numbers)
    low = np.array([numbers.min(), points[:, 1].min(), points[:, 0].min()])
    high = np.array([numbers.max(), points[:, 1].max(), points[:, 0].max()]) + 1
    masks = np.zeros((len(outlines), *(high - low)), bool)
    for mask, of_one, of_slices in zip(masks, outlines, slices, strict=True):
        _fill(mask, of_one, of_slices, low)
    return ReaderMasks(low, masks)


def check_spacing(tables: LidcTables, series_uid: str, native: ImageGeometry) -> None:
    """Raise LunaError where the pixels are not of the size that they had when the readers drew."""
    scan = tables.scan(series_uid)
    wanted = scan.pixel_spacing_mm if scan else None
    found = native.spacing_xyz[:2]
    if wanted is not None and (np.abs(found - wanted) > SPACING_TOLERANCE * wanted).any():
        raise LunaError(
            f"{series_uid}: pixels of {found[0]:g} x {found[1]:g} mm; expected {wanted:g} mm, on which "
            "LIDC's readers drew: is the scan resampled?"
        )


def check_begin(series_uid: str, z_mm: Sequence[float], numbers: NDArray[np.int64]) -> None:
    """Raise LunaError where outlines at these z, in slices of these numbers, lie before the first slice."""
    first = int(numbers.argmin())
    if numbers[first] < 0:
        raise LunaError(
            f"{series_uid}: readers outlined a nodule at z {z_mm[first]:g} mm, outside the scan; "
            "expected the whole original series"
        )


def slice_numbers(z_mm: Sequence[float], native: ImageGeometry) -> NDArray[np.int64]:
    """(N,) the slice nearest to each z: that of a slice's first pixel, in either order of the slices."""
    step = native.direction[2, 2] * native.spacing_xyz[2]
    if abs(native.direction[2, 2]) < 0.5:
        along = native.direction[:, 2].round(3).tolist()
        raise LunaError(f"slices run along {along}; expected axial ones, as LIDC-IDRI's")
    numbers: NDArray[np.int64] = np.rint((np.asarray(z_mm) - native.origin_xyz[2]) / step).astype(np.int64)
    return numbers


def _fill(mask: Mask, outlines: Sequence[Outline], slices: NDArray[np.int64], low: NDArray[np.int64]) -> None:
    """Set what the outlines enclose, then clear what the holes enclose, in place."""
    order = sorted(range(len(outlines)), key=lambda k: not outlines[k].is_included)
    for k in order:
        start, inside = enclosed(outlines[k].points_xy)
        row, column = start[1] - low[1], start[0] - low[2]
        part = mask[slices[k] - low[0], row : row + inside.shape[0], column : column + inside.shape[1]]
        part[inside] = outlines[k].is_included


def enclosed(points_xy: NDArray[np.integer]) -> tuple[NDArray[np.int64], Mask]:
    """The first pixel (x, y) and the (H, W) box of pixels strictly inside one outline, by the even-odd rule.

    The outline is closed if it is not. Its own pixels, and those between two of its points, are outside.
    """
    start = points_xy.min(axis=0).astype(np.int64)
    points = _without_gaps(points_xy.astype(np.int64) - start)
    width, height = points.max(axis=0) + 1
    after = np.roll(points, -1, axis=0)
    crosses = points[:, 1] != after[:, 1]
    upper = np.where((points[:, 1] < after[:, 1])[:, None], points, after)[
        crosses
    ]  # where a line meets a row
    crossings = np.bincount(upper[:, 1] * width + upper[:, 0], minlength=width * height)
    inside = np.cumsum(crossings.reshape(height, width), axis=1) % 2 == 1
    inside[points[:, 1], points[:, 0]] = False
    return start, inside


def _without_gaps(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, 2) the closed line through these points in steps of at most one pixel each way."""
    moves = np.roll(points, -1, axis=0) - points
    n_steps = np.maximum(1, np.abs(moves).max(axis=1))
    if (n_steps == 1).all():
        return points
    share = (np.arange(n_steps.sum()) - np.repeat(np.cumsum(n_steps) - n_steps, n_steps)) / np.repeat(
        n_steps, n_steps
    )
    between = np.repeat(points, n_steps, axis=0) + share[:, None] * np.repeat(moves, n_steps, axis=0)
    rounded: NDArray[np.int64] = np.rint(between).astype(np.int64)
    return rounded


def carry_over(
    mask: Mask, box: ImageGeometry, geometry: ImageGeometry, shape: Sequence[int]
) -> NoduleMask | None:
    """A mask on one grid, which has a voxel set, as the tight box of voxels on another of `shape`.

    Each voxel is decided by linear interpolation, from one half on. If none is, the voxel nearest to the
    middle of the mask is. None where nothing lies on the grid.
    """
    edge = np.array(mask.shape)
    corners = np.array(np.meshgrid(*((-1, n) for n in edge), indexing="ij")).reshape(3, -1).T
    places = geometry.to_irc(box.to_xyz(corners))
    low = np.clip(np.floor(places.min(axis=0)).astype(int), 0, shape)
    high = np.clip(np.ceil(places.max(axis=0)).astype(int) + 1, 0, shape)
    voxels = np.moveaxis(np.indices(high - low), 0, -1) + low
    inside = ndimage.map_coordinates(
        mask.astype(np.float32), np.moveaxis(box.to_irc(geometry.to_xyz(voxels)), -1, 0), order=1,
        mode="grid-constant",
    ) >= 0.5  # fmt: skip
    if inside.any():
        return _trimmed(low, inside)
    middle = geometry.to_irc(box.to_xyz(np.argwhere(mask).mean(axis=0)))
    nearest = np.floor(middle + 0.5).astype(int)
    if (nearest < 0).any() or (nearest >= shape).any():
        return None
    return _trimmed(nearest, np.ones((1, 1, 1), bool))


def _trimmed(start: NDArray[np.int64], mask: Mask) -> NoduleMask:
    """The smallest box that holds all of a mask."""
    found = np.argwhere(mask)
    low, high = found.min(axis=0), found.max(axis=0) + 1
    index, row, col = (start + low).tolist()
    return NoduleMask((index, row, col), mask[tuple(map(slice, low.tolist(), high.tolist()))])
