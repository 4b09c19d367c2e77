"""The lungs of a scan as a small picture, kept beside its report to compare it with a later scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from p2ch_luna.geometry import PADDING_HU, CtVolume
from p2ch_luna.lungs import Mask, PreparedCt

PICTURE_STEP = 2  # voxels of the prepared CT to one of the picture: 2 mm


def lung_picture(prepared: PreparedCt) -> CtVolume | None:
    """HU inside the lungs, averaged over blocks of `PICTURE_STEP` voxels, and -1024 outside; int16.

    The box is that of `prepared`: 10 mm round the lungs, less only where the CT itself ends. A last odd
    voxel along an axis is left out. None where no lungs were found.
    """
    if prepared.warning is not None:
        return None
    hu, geometry = prepared.ct.hu, prepared.ct.geometry
    shape = np.array(hu.shape) // PICTURE_STEP
    total = np.zeros(shape, np.int32)
    inside = np.zeros(shape, np.int8)
    for corner in np.ndindex(PICTURE_STEP, PICTURE_STEP, PICTURE_STEP):
        part = tuple(
            slice(c, c + PICTURE_STEP * int(n), PICTURE_STEP) for c, n in zip(corner, shape, strict=True)
        )
        total += hu[part]
        inside += prepared.lung[part]
    block = PICTURE_STEP**3
    mean = np.rint(total / np.float32(block)).astype(np.int16)
    picture = np.where(2 * inside >= block, np.maximum(mean, PADDING_HU + 1), PADDING_HU).astype(np.int16)
    moved = geometry.moved_to(np.full(3, (PICTURE_STEP - 1) / 2))
    return CtVolume(
        prepared.ct.series_uid, picture, replace(moved, spacing_xyz=geometry.spacing_xyz * PICTURE_STEP)
    )


def lung_of(picture: CtVolume) -> Mask:
    """(D, H, W) where a `lung_picture` shows lung."""
    lung: Mask = picture.hu > PADDING_HU
    return lung
