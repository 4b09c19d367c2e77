"""What every reader demands of voxels before they count as a CT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import PADDING_HU, CtVolume, HuArray, ImageGeometry

MIN_VOXELS = 8  # along each axis
MIN_EXTENT_MM = 8.0  # along each axis: less shows no nodule with its surroundings
MAX_WIDTH_MM = 1200.0  # along the second longest axis: no scanner is wider, and the length is the patient's
AIR_BELOW_HU = -200  # every chest CT holds air; where no voxel is below this, the values are not HU
TISSUE_ABOVE_HU = -500  # and every chest CT holds tissue
_INT16 = np.iinfo(np.int16)


def check_shape(source: Path, shape: Sequence[int]) -> None:
    """Raise LunaError unless a volume of voxels (D, H, W) has `MIN_VOXELS` along each axis."""
    if min(shape) < MIN_VOXELS:
        slices, rows, columns = shape
        raise LunaError(
            f"{source}: {slices} slice{'s' if slices != 1 else ''} of {rows} x {columns} voxels; "
            f"expected at least {MIN_VOXELS} each way"
        )


def make_geometry(
    source: Path, origin_xyz: ArrayLike, spacing_xyz: ArrayLike, direction: ArrayLike
) -> ImageGeometry:
    """The geometry that a file states, its direction freed of the rounding in the file.

    Raises LunaError where a spacing is not positive or the axes are not at right angles.
    """
    stated = np.asarray(direction, float).reshape(3, 3)
    try:
        geometry = ImageGeometry(np.asarray(origin_xyz, float), np.asarray(spacing_xyz, float), stated)
    except ValueError as error:
        raise LunaError(f"{source}: {error}") from error
    left, _, right = np.linalg.svd(stated)
    return ImageGeometry(geometry.origin_xyz, geometry.spacing_xyz, left @ right)


def right_handed(voxels: NDArray[Any], geometry: ImageGeometry) -> tuple[NDArray[Any], ImageGeometry]:
    """Reverse the slices where needed so that index runs along col x row, as DICOM orders them.

    A DICOM series stores no order of its slices; with this, a scan is the same array in every format.
    """
    if np.linalg.det(geometry.direction) > 0:
        return voxels, geometry
    origin_xyz = geometry.to_xyz([len(voxels) - 1, 0, 0])
    return voxels[::-1], ImageGeometry(origin_xyz, geometry.spacing_xyz, geometry.direction * [1, 1, -1])


def make_ct(source: Path, series_uid: str, voxels: NDArray[Any], geometry: ImageGeometry) -> CtVolume:
    """A CT of (D, H, W) voxels in HU: int16 where they are integers that fit, else float32.

    Values below `PADDING_HU` lie outside the scanner's field of view and are raised to it.
    Raises LunaError where the volume is too small, or its values are not finite or not those of a chest CT.
    """
    check_shape(source, voxels.shape)
    _check_extent(source, voxels.shape, geometry)
    highest = _check_values(source, voxels)
    fits = np.issubdtype(voxels.dtype, np.integer) and highest <= _INT16.max
    voxels, geometry = right_handed(voxels, geometry)
    hu: HuArray = np.empty(voxels.shape, np.int16 if fits else np.float32)
    np.maximum(voxels, PADDING_HU, out=hu, casting="unsafe")  # clamps first, converts then, copies once
    return CtVolume(series_uid, hu, geometry)


def _check_extent(source: Path, shape: Sequence[int], geometry: ImageGeometry) -> None:
    extent = np.asarray(shape) * geometry.spacing_irc
    if extent.min() < MIN_EXTENT_MM:
        size = " x ".join(f"{side:.3g}" for side in extent)
        raise LunaError(f"{source}: the volume is {size} mm; expected at least {MIN_EXTENT_MM:g} mm each way")
    if np.sort(extent)[1] > MAX_WIDTH_MM:
        size = " x ".join(f"{side:.4g}" for side in extent)
        raise LunaError(f"{source}: the volume is {size} mm; expected at most {MAX_WIDTH_MM:g} mm of width")


def _check_values(source: Path, voxels: NDArray[Any]) -> float:
    """The highest value; raises LunaError where the values cannot be a chest CT's HU."""
    low, high = float(voxels.min()), float(voxels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        count = np.count_nonzero(~np.isfinite(voxels))
        raise LunaError(
            f"{source}: voxels that are NaN or infinite: {count}; expected a number of HU in each"
        )
    if low > AIR_BELOW_HU:
        raise LunaError(
            f"{source}: values from {low:g} to {high:g}; expected HU, with air below {AIR_BELOW_HU}"
        )
    if high < TISSUE_ABOVE_HU:
        raise LunaError(
            f"{source}: all air, values from {low:g} to {high:g}; expected tissue above {TISSUE_ABOVE_HU} HU"
        )
    return high
