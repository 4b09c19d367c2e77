"""Solid, part-solid or ground-glass, from the HU inside a nodule's mask.

The rule: of the voxels well inside the mask some share is solid, has at least `SOLID_HU`. From `SOLID_SHARE`
on the nodule is solid, from `PART_SHARE` on part-solid, below ground-glass. Voxels within `RIM_MM` of its
edge do not count, for air shines into them and makes small solid nodules dark; of a nodule that is nearly all
rim its deepest voxels count. The numbers were chosen on 505 nodules of LIDC-IDRI (folds 0 to 5) in their
readers' own outlines, by the mean of the three classes' sensitivities, which is 0.80.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from p2ch_luna.geometry import HuArray

Texture = Literal["solid", "part-solid", "ground-glass"]
SOLID_HU = -300
SOLID_SHARE, PART_SHARE = 0.6, 0.1
RIM_MM = 1.0
LEAST_INSIDE = 0.3  # of the voxels, the deepest, which count however near they are to the edge


def solid_part(hu: HuArray, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(D, H, W) the solid voxels of a mask; both are of that shape."""
    return np.asarray(mask & (hu >= SOLID_HU))


def texture_of(hu: HuArray, mask: NDArray[np.bool_], spacing_irc: ArrayLike) -> Texture:
    """The texture of a nodule of HU and mask (D, H, W), which is not empty.

    Against the mean of LIDC's readers (1 ground glass to 5 solid; up to 2, from 2.5 to 3.5, from 4 on), of
    nodules that had no part in the choice (folds 6 to 9): 22 of 27 ground-glass, 3 of 5 part-solid and 236 of
    252 solid ones are called so.
    """
    inside = _inner(mask, spacing_irc)
    share = np.count_nonzero(solid_part(hu, inside)) / np.count_nonzero(inside)
    if share >= SOLID_SHARE:
        return "solid"
    return "part-solid" if share >= PART_SHARE else "ground-glass"


def _inner(mask: NDArray[np.bool_], spacing_irc: ArrayLike) -> NDArray[np.bool_]:
    """The voxels of a mask that are farther than `RIM_MM` from what is outside, or the deepest of few."""
    depth_mm = ndimage.distance_transform_edt(np.pad(mask, 1), np.asarray(spacing_irc))[1:-1, 1:-1, 1:-1]
    inner = depth_mm > RIM_MM
    if np.count_nonzero(inner) >= LEAST_INSIDE * np.count_nonzero(mask):
        return np.asarray(inner)
    return np.asarray(mask & (depth_mm >= np.quantile(depth_mm[mask], 1 - LEAST_INSIDE)))
