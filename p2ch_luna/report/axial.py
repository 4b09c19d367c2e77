"""A place of a CT as radiologists look at it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.findings import Point
from p2ch_luna.geometry import AIR_HU, CtVolume, crop_around, crop_box, resample, to_canonical

SIDE_MM = 60  # of a picture


def axial_picture(
    ct: CtVolume, center_xyz: Point, side_mm: int = SIDE_MM, pixel_mm: float = 1.0
) -> NDArray[np.float32]:
    """`side_mm` squared, in HU, of the scan's most axial plane, the place in the middle.

    Rows run to the back and columns to the patient's left, as radiologists look at it; a tilt remains.
    Raises ValueError for a place so far outside the CT that nothing of it would be seen.
    """
    canonical = to_canonical(ct)
    center = canonical.geometry.to_irc(center_xyz)
    reach = (side_mm / 2 + 3) / canonical.geometry.spacing_irc
    box = crop_box(canonical, np.floor(center - reach), np.ceil(center + reach) + 1)
    fine = resample(box, pixel_mm)
    middle = fine.geometry.to_irc(center_xyz)
    pixels = round(side_mm / pixel_mm)
    picture: NDArray[np.float32] = crop_around(
        fine.hu.astype(np.float32), middle, (1, pixels, pixels), AIR_HU
    )[0]
    return picture
